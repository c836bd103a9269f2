"""The tap "feed_forward": what the second linear map makes, in front of residual and norm."""

import pytest
import torch

from speechdistill.batch import Tap
from speechdistill.teachers.load import Teacher, TeacherSource
from tests.unit.teachers.tiny_teachers import KINDS, make, wave_batch


def feed_forward(*layers):
    return [Tap("feed_forward", layer) for layer in layers]


@pytest.mark.parametrize("kind", KINDS)
def test_with_it_the_layer_adds_up(kind):
    teacher = Teacher(make(kind), TeacherSource(kind, None, ""))
    seen = {}
    layers = teacher.model.encoder.layers
    hooks = [
        layer.feed_forward.register_forward_pre_hook(lambda _, inputs, index=index: seen.update({index: inputs[0]}))
        for index, layer in enumerate(layers, start=1)
    ]
    taps = teacher(wave_batch([6000, 4000]), taps=feed_forward(2, 4))
    for hook in hooks:
        hook.remove()
    assert list(taps.tensors["feed_forward"]) == [2, 4]
    for index, tap in taps.tensors["feed_forward"].items():
        network = layers[index - 1].feed_forward
        plain = network.output_dense(torch.nn.functional.gelu(network.intermediate_dense(seen[index])))
        torch.testing.assert_close(tap, plain, atol=1e-6, rtol=1e-5)
        if kind in ("hubert", "wav2vec2", "data2vec"):
            # Norms behind: the layer's output is the norm of the sum of what the network reads and makes.
            summed = layers[index - 1].final_layer_norm(seen[index] + tap)
            torch.testing.assert_close(taps.tensors["hidden"][index], summed, atol=1e-5, rtol=1e-5)


def test_it_costs_no_hidden_states_and_knows_its_layers():
    teacher = Teacher(make("hubert"), TeacherSource("tiny", None, ""))
    taps = teacher(wave_batch([4000]), (), feed_forward(3))
    assert taps.tensors["hidden"] == {}
    assert not taps.tensors["feed_forward"][3].requires_grad
    for layer in (0, 5):
        with pytest.raises(ValueError, match=rf"tiny has no feed_forward/{layer}, layers of feed_forward are 1 to 4"):
            teacher(wave_batch([4000]), (), feed_forward(layer))
    teacher.cut(3)
    again = teacher(wave_batch([4000]), (), feed_forward(3))
    assert torch.equal(again.tensors["feed_forward"][3], taps.tensors["feed_forward"][3])
