"""FitHuBERT, MaskHuBERT, ARMHuBERT and STaRHuBERT out of their files against the arithmetic of their released code."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import HubertConfig, HubertModel

import speechdistill
from speechdistill.checkpoints.official.convert import convert, write
from tests.parity.student_parity import TOLERANCE, largest_difference, ragged_batch
from tests.published import THIN_STACK, TINY_HEADS, TINY_LAYERS, TINY_THIN, TINY_WIDTH, tiny_thin


def attend(weights: dict[str, Tensor], name: str, hidden: Tensor, scores: Tensor | None) -> tuple[Tensor, Tensor]:
    """The released attention: a layer without queries gets the last map and puts it through a softmax again."""

    def projected(part: str) -> Tensor:
        out = hidden @ weights[f"{name}.{part}_proj.weight"].T + weights[f"{name}.{part}_proj.bias"]
        return torch.stack(out.chunk(TINY_HEADS, dim=-1))  # (heads, frames, head size)

    if f"{name}.q_proj.weight" in weights:
        size = (TINY_WIDTH // TINY_HEADS) ** 0.5
        scores = projected("q") @ projected("k").transpose(1, 2) / size
        found = scores.softmax(-1)
    else:
        assert scores is not None
        found = scores
        found = found.softmax(-1)
    context = torch.cat(list(found @ projected("v")), dim=-1)
    out = context @ weights[f"{name}.out_proj.weight"].T + weights[f"{name}.out_proj.bias"]
    return out, found if f"{name}.q_proj.weight" in weights else scores


def norm(weights: dict[str, Tensor], name: str, hidden: Tensor) -> Tensor:
    return F.layer_norm(hidden, hidden.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def released(weights: dict[str, Tensor], waveform: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Block outputs, the first being what block 1 reads, and predictions: of one recording, under the file's names."""
    features = waveform[None]
    for index, (_, stride) in enumerate(THIN_STACK):
        features = F.conv1d(features, weights[f"feature_extractor.conv_layers.{index}.0.weight"], stride=stride)
        if index == 0:
            name = "feature_extractor.conv_layers.0.2"
            norms = weights[f"{name}.weight"], weights[f"{name}.bias"]
            features = F.group_norm(features[None], features.shape[0], *norms)[0]
        features = F.gelu(features)
    hidden = norm(weights, "layer_norm", features.T)
    if "post_extract_proj.weight" in weights:
        hidden = F.linear(hidden, weights["post_extract_proj.weight"], weights["post_extract_proj.bias"])
    v = weights["encoder.pos_conv.0.weight_v"]
    kernel = weights["encoder.pos_conv.0.weight_g"] * v / v.square().sum((0, 1), keepdim=True).sqrt()
    groups, size = TINY_WIDTH // v.shape[1], v.shape[2]
    positions = F.conv1d(hidden.T, kernel, weights["encoder.pos_conv.0.bias"], padding=size // 2, groups=groups)
    hidden = norm(weights, "encoder.layer_norm", hidden + F.gelu(positions[:, :-1]).T)
    offset = int("encoder.layers.0.weight" in weights)
    if offset:
        reduction = weights["encoder.layers.0.weight"], weights["encoder.layers.0.bias"]
        hidden = F.conv1d(hidden.T, *reduction, stride=2).T
    states, scores = [hidden], None
    for index in range(TINY_LAYERS):
        name = f"encoder.layers.{index + offset}"
        attended, scores = attend(weights, f"{name}.self_attn", hidden, scores)
        hidden = norm(weights, f"{name}.self_attn_layer_norm", hidden + attended)
        inner = F.gelu(F.linear(hidden, weights[f"{name}.fc1.weight"], weights[f"{name}.fc1.bias"]))
        fed = F.linear(inner, weights[f"{name}.fc2.weight"], weights[f"{name}.fc2.bias"])
        hidden = norm(weights, f"{name}.final_layer_norm", hidden + fed)
        states.append(hidden)
    return states, [head(weights, f"proj_head.{index}", state) for index, state in enumerate(states[1:])]


def head(weights: dict[str, Tensor], name: str, state: Tensor) -> Tensor:
    if f"{name}.upsampler.weight" in weights:
        upsampler = weights[f"{name}.upsampler.weight"], weights[f"{name}.upsampler.bias"]
        state = F.conv_transpose1d(state.T, *upsampler, stride=2).T
    if f"{name}.lin_proj.weight" not in weights:
        return state
    return F.linear(state, weights[f"{name}.lin_proj.weight"], weights[f"{name}.lin_proj.bias"])


@pytest.fixture
def checkpoint(tmp_path):
    def save(name):
        content = tiny_thin(name)
        torch.save(content, tmp_path / "x.ckpt")
        write(convert(str(tmp_path / "x.ckpt")), tmp_path / "out")
        weights = content["state_dict"]
        own = {key.removeprefix("student_model."): value for key, value in weights.items() if "student" in key}
        return own, tmp_path / "out"

    return save


@pytest.mark.parametrize("lengths", [[16240, 9000, 4321]])  # 50, 27 and 13 frames
@pytest.mark.parametrize("name", TINY_THIN)
@torch.no_grad()
def test_states_and_predictions_are_the_released_models(name, lengths, checkpoint):
    weights, folder = checkpoint(name)
    has_heads = any("proj_head" in key for key in weights)
    student = speechdistill.load_student(folder, heads=has_heads)
    bare = student.student if has_heads else student
    for length in lengths:
        waveform = ragged_batch([length], seed=length)[0]
        states, predictions = released({key: value.double() for key, value in weights.items()}, waveform[0].double())
        got = bare.encode(waveform, layers=range(TINY_LAYERS + 1), upsample=False).hidden_states
        for layer, expected in enumerate(states):
            assert got[layer].std() > 0.3
            assert (got[layer][0] - expected).abs().max() <= TOLERANCE
        if has_heads:
            for layer, prediction in student(waveform).predictions.items():
                assert prediction.shape[2] == 40
                assert (prediction[0] - predictions[layer - 1]).abs().max() <= TOLERANCE


@torch.no_grad()
def test_the_second_softmax_is_what_tells_released_weights_from_the_papers_reuse(checkpoint):
    weights, folder = checkpoint("ARMHuBERT")
    student = speechdistill.load_student(folder)
    assert [layer["attention"] for layer in student.config.layers] == ["full", "reuse_released"] * 2
    config = type(student.config).from_dict(student.config.to_dict())
    for layer in config.layers:
        layer["attention"] = layer["attention"].removesuffix("_released")
    plain = type(student)(config).eval()
    plain.load_state_dict(student.state_dict())
    waveform = ragged_batch([16240])[0]
    theirs, _ = released(weights, waveform[0])
    states = {model: model.encode(waveform, layers=(1, 2)).hidden_states for model in (student, plain)}
    assert (states[plain][1][0] - theirs[1]).abs().max() <= TOLERANCE
    assert (states[plain][2][0] - theirs[2]).abs().max() > 0.1


@pytest.mark.parametrize("name", ["MaskHuBERT", "STaRHuBERT"])
@torch.no_grad()
def test_transformers_agrees_in_a_padded_batch(name, checkpoint):
    """HuBERT holds these models, once an identity stands where they have no projection."""
    _, folder = checkpoint(name)
    student = speechdistill.load_student(folder)
    config = student.config
    channels, kernels, strides = zip(*config.conv_layers, strict=True)
    theirs = HubertModel(
        HubertConfig(
            hidden_size=TINY_WIDTH,
            num_hidden_layers=TINY_LAYERS,
            num_attention_heads=TINY_HEADS,
            intermediate_size=80,
            conv_dim=channels,
            conv_kernel=kernels,
            conv_stride=strides,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
        )
    ).eval()
    weights = {
        key.replace("feature_encoder", "feature_extractor"): value for key, value in student.state_dict().items()
    }
    weights["feature_projection.projection.weight"] = torch.eye(TINY_WIDTH)
    weights["feature_projection.projection.bias"] = torch.zeros(TINY_WIDTH)
    weights.setdefault("masked_spec_embed", torch.zeros(TINY_WIDTH))
    theirs.load_state_dict(weights, strict=True)
    waveforms, num_samples = ragged_batch()
    mask = (torch.arange(waveforms.shape[1]) < num_samples[:, None]).long()
    expected = theirs(waveforms, attention_mask=mask, output_hidden_states=True).hidden_states
    got = student(waveforms, attention_mask=mask, output_hidden_states=True).hidden_states
    for ours, states in zip(got, expected, strict=True):
        assert largest_difference(ours, states, num_samples) <= TOLERANCE * max(1.0, states.abs().max().item())


@torch.no_grad()
def test_a_recording_gets_in_a_batch_what_it_gets_alone(checkpoint):
    # The released code mixes maps of a batch up; batches of one length carry no padding.
    _, folder = checkpoint("ARMHuBERT")
    student = speechdistill.load_student(folder)
    waveforms, _ = ragged_batch([8000, 8000, 8000])
    together = student(waveforms).last_hidden_state
    alone = torch.cat([student(waveform[None]).last_hidden_state for waveform in waveforms])
    assert (together - alone).abs().max() <= TOLERANCE
