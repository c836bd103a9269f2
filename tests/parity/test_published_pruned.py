"""DPHuBERT and DPWavLM out of their files against torchaudio's models in which what is pruned counts for nothing.

A head whose columns of the output map are zero, and a feed-forward unit whose column is, might as well not be there:
so the pruned model is torchaudio's own with zeros. Its convolutions are pruned by its builder.
"""

import pytest
import torch
import torchaudio

import speechdistill
from speechdistill.checkpoints.official.convert import convert, write
from tests.parity.student_parity import TOLERANCE, largest_difference, ragged_batch
from tests.published import Pruned, tiny_pruned


def unpruned(pruned: Pruned) -> torch.nn.Module:
    options = {
        "extractor_mode": "group_norm",
        "extractor_conv_layer_config": pruned.convolutions,
        "extractor_conv_bias": False,
        "encoder_embed_dim": pruned.width,
        "encoder_projection_dropout": 0.0,
        "encoder_pos_conv_kernel": pruned.positional[0],
        "encoder_pos_conv_groups": pruned.positional[1],
        "encoder_num_layers": len(pruned.heads),
        "encoder_num_heads": pruned.total_heads,
        "encoder_attention_dropout": 0.0,
        "encoder_ff_interm_features": pruned.teacher_units,
        "encoder_ff_interm_dropout": 0.0,
        "encoder_dropout": 0.0,
        "encoder_layer_norm_first": False,
        "encoder_layer_drop": 0.0,
        "aux_num_out": None,
    }
    if pruned.wavlm:
        buckets = {"encoder_num_buckets": pruned.buckets[0], "encoder_max_distance": pruned.buckets[1]}
        model = torchaudio.models.wavlm_model(**options, **buckets)
    else:
        model = torchaudio.models.wav2vec2_model(**options)
    weights = pruned.teacher()
    state = {}
    for key in model.state_dict():
        name = key.replace("attention.attention.out_proj", "attention.out_proj")
        name = name.replace("parametrizations.weight.original0", "weight_g")
        name = name.replace("parametrizations.weight.original1", "weight_v")
        name = name.replace("attention.gru_rel", "gru_rel") if "attention.attention." in name else name
        if "in_proj_" in key:
            prefix, part = key.split("attention.attention.in_proj_")
            state[key] = torch.cat([weights[f"{prefix}attention.{letter}_proj.{part}"] for letter in "qkv"])
        else:
            state[key] = weights[name]
    model.load_state_dict(state, strict=True)
    # The factor of each channel: what pruning leaves of the last gates.
    scale = pruned.scale()
    model.feature_extractor.register_forward_hook(lambda _, __, out: (out[0] * scale, out[1]))
    return model.eval()


@pytest.fixture
def make_pair(tmp_path):
    def make(wavlm):
        pruned = tiny_pruned(wavlm)
        torch.save(pruned.checkpoint(), tmp_path / "x.pth")
        write(convert(str(tmp_path / "x.pth")), tmp_path / "out")
        return speechdistill.load_student(tmp_path / "out"), unpruned(pruned)

    return make


# torchaudio's WavLM takes no padded batch; transformers' does, in test_published_encoders.py.
@pytest.mark.parametrize(
    ("wavlm", "lengths"), [(False, [24000]), (False, [9000, 24000, 4321]), (True, [24000]), (True, [4321, 4321])]
)
@torch.no_grad()
def test_all_layers_are_those_of_torchaudio(wavlm, lengths, make_pair):
    student, theirs = make_pair(wavlm)
    is_padded = len(set(lengths)) > 1
    waveforms, num_samples = ragged_batch(lengths)
    expected, _ = theirs.extract_features(waveforms, num_samples if is_padded else None)
    got, _ = student.hidden_states(waveforms, num_samples, range(1, 6))
    for layer in range(1, 6):
        assert got[layer].std() > 0.3
        assert largest_difference(got[layer], expected[layer - 1], num_samples) <= TOLERANCE


@pytest.mark.parametrize("wavlm", [False, True])
def test_what_is_pruned_is_in_the_config(wavlm, make_pair):
    student, _ = make_pair(wavlm)
    layers = student.config.layers
    assert [layer["num_attention_heads"] for layer in layers] == [3, 1, 0, 4, 2]
    assert [layer["intermediate_size"] for layer in layers] == [20, 31, 8, 40, 0]
    assert student.config.channel_scale
    assert student.config.conv_layers[2] == [10, 3, 2]
    if wavlm:
        assert [layer.get("position_heads") for layer in layers] == [[0, 2, 3], [1], None, [0, 1, 2, 3], [3, 1]]


@torch.no_grad()
def test_the_linear_maps_are_heads_of_layers_4_8_and_12(tmp_path):
    pruned = Pruned([[0, 1]] * 12, [8] * 12, [4] * 7, total_heads=2, head_size=8, teacher_units=8, positional=(4, 2))
    content = pruned.checkpoint()
    torch.save(content, tmp_path / "x.pth")
    write(convert(str(tmp_path / "x.pth")), tmp_path / "out")
    student = speechdistill.load_student(tmp_path / "out", heads=True)
    waveforms = ragged_batch([4000])[0]
    output = student(waveforms, layers=(4, 8, 12))
    maps = content["distill_linear_projs"]
    assert list(output.predictions) == [4, 8, 12]
    for layer, prediction in output.predictions.items():
        expected = output.hidden_states[layer] @ maps["3.weight"].T + maps["3.bias"]
        torch.testing.assert_close(prediction, expected)
    left = student.config.converted_from["left_out"]
    assert left == ["distill_linear_projs.0.weight", "distill_linear_projs.0.bias"]
