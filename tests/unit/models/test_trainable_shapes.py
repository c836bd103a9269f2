"""Shapes that convert can be trained: published sizes, layer records, WavLM's attention, ARMHuBERT's gradients."""

import pytest
import torch
import transformers

from speechdistill.compose import configure
from speechdistill.errors import UserError
from speechdistill.models.config import StudentConfig
from speechdistill.models.derive import copy_from_teacher, derive_config
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.teachers.load import Teacher, TeacherSource
from speechdistill.training.beginnings import objective_and_student
from tests.published import Pruned, drawn
from tests.unit.exporters.tiny import tiny_student
from tests.unit.teachers.tiny_teachers import KINDS, make, wave_batch

DISTILHUBERT = configure("train", ["size=paper"])["architecture"]


def derived(teacher_config, *words: str) -> StudentConfig:
    """What a command makes of a teacher, its heads included."""
    return objective_and_student(configure("train", ["size=paper", *words]), teacher_config)[1]


def sizes(config: StudentConfig) -> tuple[int, int]:
    with torch.device("meta"):
        whole = StudentForDistillation(config)
    return tuple(sum(parameter.numel() for parameter in model.parameters()) for model in (whole.student, whole))


@pytest.mark.parametrize("teacher", [transformers.HubertConfig(), transformers.WavLMConfig()])
@pytest.mark.parametrize(
    ("words", "bare", "whole"),
    [
        (["recipe=starhubert"], 22_308_592, 22_308_592),
        (["recipe=starhubert", "architecture=starhubert_l"], 26_626_672, 26_626_672),
        (["recipe=maskhubert"], 22_202_944, 26_635_840),
        (["recipe=armhubert"], 22_015_552, 26_448_448),
        (["recipe=armhubert", "architecture=armhubert_s"], 18_403_552, 22_394_080),
    ],
)
def test_presets_have_the_published_parameters(teacher, words, bare, whole):
    config = derived(teacher, *words)
    assert sizes(config) == (bare, whole)
    assert config.conv_layers[0] == [128, 10, 5]
    assert [layer[0] for layer in config.conv_layers[-3:]] == [config.hidden_size] * 3
    assert not config.projection
    assert config.num_hidden_layers == 12


def test_armhuberts_layers_reuse_every_other_map():
    config = derived(transformers.HubertConfig(), "recipe=armhubert")
    assert [layer["attention"] for layer in config.layers] == ["full", "reuse"] * 6
    assert config.layer_grad_scale
    released = derived(transformers.HubertConfig(), "recipe=armhubert", "architecture.attention=[full,reuse_released]")
    assert [layer["attention"] for layer in released.layers] == ["full", "reuse_released"] * 6
    assert sizes(released) == sizes(config)


def test_records_make_a_pruned_wavlm_of_the_size_of_its_file():
    heads = [[0, 3, 7], [], *[list(range(12))] * 10]
    units, channels = [100, 0, *[1000] * 10], [400, 300, 512, 512, 512, 512, 256]
    pruned = Pruned(heads, units, channels, wavlm=True)
    held = sum(parameter.numel() for parameter in drawn(pruned.shapes(), "meta").values())
    table = zip(channels, (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), strict=True)
    records = [
        {"num_attention_heads": len(kept), "intermediate_size": size, "attention": "relative" if kept else "none"}
        for kept, size in zip(heads, units, strict=True)
    ]
    records[0]["position_heads"] = [0, 3, 7]
    records[1].pop("num_attention_heads")
    shape = {"layers": records, "num_hidden_layers": None, "channel_scale": True, "projection_layer_norm": True}
    shape["conv_layers"] = [[size / 512, kernel, stride] for size, kernel, stride in table]
    config = derive_config({**DISTILHUBERT, **shape}, transformers.WavLMConfig(), [])
    assert config.layers[0]["position_heads"] == [0, 3, 7]
    assert config.layers[1]["num_attention_heads"] == 0
    assert config.position_bias == {"num_buckets": 320, "max_distance": 800, "num_heads": 12}
    assert sizes(config)[0] == held


@pytest.mark.parametrize("kind", ["wavlm", "wavlm-large"])
def test_a_student_of_wavlms_shape_can_start_as_its_teacher(kind):
    teacher = Teacher(make(kind), TeacherSource("tiny", None, ""))
    shape = {"attention": "relative", "num_hidden_layers": None, "projection_layer_norm": True}
    student = StudentModel(derive_config({**DISTILHUBERT, **shape}, KINDS[kind][1], [])).eval()
    assert student.config.position_bias["num_buckets"] == KINDS[kind][1].num_buckets
    parts = [*DISTILHUBERT["copied_parts"], "projection_layer_norm", "encoder_layer_norm"]
    _, left = copy_from_teacher(student, teacher.model.state_dict(), parts)
    assert left == []
    batch = wave_batch([4320, 2000])
    found, frames = student.hidden_states(batch.waveforms, batch.num_samples, [0, 4])
    wanted = teacher(batch, [0, 4]).tensors["hidden"]
    for layer in (0, 4):
        for row, real in enumerate(frames.tolist()):
            torch.testing.assert_close(found[layer][row, :real], wanted[layer][row, :real], rtol=0, atol=1e-5)


def test_wavlms_published_bias_where_the_teacher_has_none():
    shape = {"attention": ["relative", "full"], "num_hidden_layers": 4}
    config = derive_config({**DISTILHUBERT, **shape}, KINDS["hubert"][1], [])
    assert [layer["attention"] for layer in config.layers] == ["relative", "full"] * 2
    assert config.position_bias == {"num_buckets": 320, "max_distance": 800, "num_heads": 4}
    shape["position_bias"] = {"num_buckets": 32, "max_distance": 80}
    config = derive_config({**DISTILHUBERT, **shape}, KINDS["hubert"][1], [])
    assert config.position_bias == {"num_buckets": 32, "max_distance": 80, "num_heads": 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": "local"}, r"architecture\.attention=local: allowed are full, relative"),
        ({"attention": []}, r"architecture\.attention=\[\]: allowed are full, relative"),
        ({"attention": 3}, r"architecture\.attention=3: allowed are full, relative"),
        ({"attention": ["reuse", "full"]}, r"architecture: .*attention of layer 1 is 'reuse'.*in a layer in front"),
        ({"layers": 2}, r"architecture\.layers=2: give a list of records"),
        ({"layers": []}, r"architecture\.layers=\[\]: give a list of records"),
        ({"layers": [{}]}, r"architecture\.layers has 1 records and architecture\.num_hidden_layers=2"),
        ({"layers": [{}, 5]}, r"architecture\.layers\[1\]=5: give a record of num_attention_heads"),
        (
            {"layers": [{}, {"heads": 2}]},
            r"architecture\.layers\[1\] has no key 'heads'.* It takes num_attention_heads",
        ),
        ({"layers": [{}, {"num_attention_heads": 0}]}, r"architecture: .*num_attention_heads of layer 2 is 0"),
        ({"projection": False}, r"architecture: .*projection is False.*hidden_size is 32"),
        ({"conv_layers": [["wide", 400, 320]]}, r"architecture\.conv_layers=.*null in place of the share"),
        (
            {"attention": "relative", "position_bias": {"num_buckets": 2, "max_distance": 9}},
            r"architecture\.position_bias\.num_buckets=2: give a whole number from 4 up",
        ),
        (
            {"attention": "relative", "position_bias": {"buckets": 32}},
            r"architecture\.position_bias has no key 'buckets', did you mean 'num_buckets'\?",
        ),
    ],
)
def test_what_cannot_be_built_is_one_message(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        derive_config({**DISTILHUBERT, **changes}, KINDS["hubert"][1], [4])
    assert len(str(caught.value).splitlines()) == 1


def test_gradients_weaken_from_layer_to_layer_as_armhuberts_do():
    # Twelve layers: of the gradient that a block's own head sends, block 0 gets 0.071, block 5 0.109, block 11 0.25.
    def gradients(scaled: bool, tap: int) -> list[float]:
        layers = [{"num_attention_heads": 4, "head_size": 8, "intermediate_size": 8, "attention": "full"}] * 12
        student = tiny_student("DistilHuBERT", layers=layers, layer_grad_scale=scaled, hidden_dropout=0.0,
                               attention_dropout=0.0, activation_dropout=0.0).train()  # fmt: skip
        state = student.hidden_states(wave_batch([3200]).waveforms, None, [tap])[0][tap]
        state.square().mean().backward()
        return [float(layer.final_layer_norm.bias.grad.norm()) for layer in student.encoder.layers[:tap]]

    for tap, share in ((1, 12 / 13 / 13), (6, 7 / 8 / 8), (12, 1 / 2 / 2)):
        plain, weakened = gradients(False, tap), gradients(True, tap)
        assert weakened[-1] == pytest.approx(share * plain[-1], rel=1e-4)
        # What flows on to the layers below is weakened by each layer that it passes: (12 - i) / (13 - i), i from 0.
        trunk = share
        for layer in range(tap - 2, -1, -1):
            trunk *= (12 - layer) / (13 - layer)
            assert weakened[layer] == pytest.approx(trunk * plain[layer], rel=1e-4)
