"""What a teacher shows inside its layers, against transformers' own modules."""

from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional as F
from transformers.models.wavlm import modeling_wavlm

from speechdistill.batch import Tap
from speechdistill.errors import UserError
from speechdistill.frames import num_frames
from speechdistill.models.feature_encoder import normalize_waveforms
from speechdistill.teachers.load import Teacher, TeacherSource, load_teacher
from tests.unit.teachers.tiny_teachers import KINDS, make, randomised, wave_batch

TOLERANCE = 1e-5
LAYERS = range(1, 5)
STREAMS = ("query", "key", "value", "attention_output", "feed_forward")
OTHERS = {
    "unispeech": (transformers.UniSpeechModel, transformers.UniSpeechConfig),
    "unispeech-sat": (transformers.UniSpeechSatModel, transformers.UniSpeechSatConfig),
}


def model_of(kind: str, implementation: str = "eager") -> Any:
    if kind in KINDS:
        model: Any = make(kind)
    else:
        model_class, config_class = OTHERS[kind]
        sizes = KINDS["hubert"][1].to_diff_dict()
        config = config_class(**{name: value for name, value in sizes.items() if name != "model_type"})
        model = randomised(model_class(config).eval())
    if not kind.startswith("wavlm"):  # it has an attention of its own
        model.set_attn_implementation(implementation)
    return model


def seen_in(model: Any, waveforms: torch.Tensor, mask: torch.Tensor | None) -> dict[Tap, torch.Tensor]:
    """The same taps, by hooks on transformers' modules."""
    found: dict[Tap, torch.Tensor] = {}

    def keep(tap: Tap) -> Any:
        return lambda _module, _inputs, output: found.update({tap: output})

    def project(layer: int) -> Any:
        def hook(module: Any, _args: Any, kwargs: Any) -> None:
            # WavLM's attention reads the weights of its projections, and never calls them.
            states = kwargs["hidden_states"] if "hidden_states" in kwargs else _args[0]
            for kind in ("query", "key", "value"):
                found[Tap(kind, layer)] = getattr(module, f"{kind[0]}_proj")(states)

        return hook

    hooks = []
    for number, layer in enumerate(model.encoder.layers, start=1):
        hooks.append(layer.attention.register_forward_pre_hook(project(number), with_kwargs=True))
        hooks.append(layer.feed_forward.output_dense.register_forward_hook(keep(Tap("feed_forward", number))))
        if not model.config.model_type.startswith("wavlm"):
            hooks.append(layer.attention.out_proj.register_forward_hook(keep(Tap("attention_output", number))))
        else:
            hooks.append(
                layer.attention.register_forward_hook(
                    lambda _m, _i, output, number=number: found.update({Tap("attention_output", number): output[0]})
                )
            )
    model(waveforms, attention_mask=mask)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
@pytest.mark.parametrize("lengths", [[8000], [5000, 8240, 2321]])
@torch.no_grad()
def test_streams_are_those_of_transformers(kind, lengths):
    if kind == "data2vec" and len(lengths) > 1:
        pytest.skip("transformers lets padding through data2vec's positional convolutions: test_teacher_layers")
    model = model_of(kind)
    batch = wave_batch(lengths)
    teacher = Teacher(model_of(kind), TeacherSource(kind, None, ""))
    mask = (torch.arange(max(lengths)) < batch.num_samples[:, None]).long() if batch.is_padded else None
    waveforms = batch.waveforms
    if teacher.normalizes_waveforms:
        waveforms = normalize_waveforms(waveforms, batch.num_samples if batch.is_padded else None)
    theirs = seen_in(model, waveforms, mask)
    asked = [Tap(stream, layer) for stream in STREAMS for layer in LAYERS]
    ours = teacher(batch, (), asked)
    assert ours.tensors["hidden"] == {}
    for tap in asked:
        for row, size in enumerate(map(num_frames, lengths)):
            got = ours.tensors[tap.kind][tap.layer][row, :size]
            assert (got - theirs[tap][row, :size]).abs().max() <= TOLERANCE, tap
    convolved = model.feature_extractor(waveforms).transpose(1, 2)
    torch.testing.assert_close(
        teacher(batch, (), [Tap("conv", 0)]).tensors["conv"][0], convolved, atol=TOLERANCE, rtol=TOLERANCE
    )


@pytest.mark.parametrize("kind", [kind for kind in [*KINDS, *OTHERS] if not kind.startswith("wavlm")])
@torch.no_grad()
def test_attention_maps_are_those_of_transformers(kind):
    batch = wave_batch([8000, 8000])
    teacher = Teacher(model_of(kind), TeacherSource(kind, None, ""))
    waveforms = batch.waveforms
    if teacher.normalizes_waveforms:
        waveforms = F.layer_norm(waveforms, waveforms.shape[-1:])
    theirs = model_of(kind)(waveforms, output_attentions=True).attentions
    ours = teacher(batch, (), [Tap("attention", layer) for layer in LAYERS]).tensors["attention"]
    for layer in LAYERS:
        torch.testing.assert_close(ours[layer], theirs[layer - 1], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", ["wavlm", "wavlm-large"])
@pytest.mark.parametrize("lengths", [[8000, 8000], [8240, 5000]])
@torch.no_grad()
def test_wavlms_maps_are_those_of_each_head(kind, lengths, monkeypatch):
    # transformers gives the mean over heads; its arithmetic, asked for all of them, gives each.
    kept: list[torch.Tensor] = []
    plain = F.multi_head_attention_forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        output, _ = plain(*args, **kwargs)
        _, weights = plain(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})
        kept.append(weights)
        return output, weights.mean(1)

    monkeypatch.setattr(modeling_wavlm.F, "multi_head_attention_forward", watched)
    batch = wave_batch(lengths)
    teacher = Teacher(make(kind), TeacherSource(kind, None, ""))
    waveforms, mask = batch.waveforms, None
    if batch.is_padded:
        mask = (torch.arange(max(lengths)) < batch.num_samples[:, None]).long()
    if teacher.normalizes_waveforms:
        waveforms = normalize_waveforms(waveforms, batch.num_samples if batch.is_padded else None)
    make(kind)(waveforms, attention_mask=mask)
    ours = teacher(batch, (), [Tap("attention", layer) for layer in LAYERS]).tensors["attention"]
    for layer in LAYERS:
        for row, size in enumerate(map(num_frames, lengths)):
            difference = ours[layer][row, :, :size, :size] - kept[layer - 1][row, :, :size, :size]
            assert difference.abs().max() <= TOLERANCE


@pytest.mark.parametrize("kind", ["hubert", "wavlm-large", "wav2vec2"])
@torch.no_grad()
def test_masked_input_is_that_of_transformers(kind):
    batch = wave_batch([8000, 8000])
    masked = torch.rand(2, num_frames(8000), generator=torch.Generator().manual_seed(0)) < 0.4
    teacher = Teacher(make(kind), TeacherSource(kind, None, ""))
    waveforms = batch.waveforms
    if teacher.normalizes_waveforms:
        waveforms = F.layer_norm(waveforms, waveforms.shape[-1:])
    model = make(kind)
    model.config.apply_spec_augment = True
    theirs = model(waveforms, mask_time_indices=masked, output_hidden_states=True).hidden_states
    ours = teacher(batch, masked=masked).tensors["hidden"]
    for layer, states in ours.items():
        torch.testing.assert_close(states, theirs[layer], atol=TOLERANCE, rtol=0)
    assert (ours[4] - teacher(batch).tensors["hidden"][4]).abs().max() > 0.01


def test_what_is_not_there_is_named():
    teacher = Teacher(make("data2vec"), TeacherSource("tiny", None, ""))
    with pytest.raises(ValueError, match=r"tiny has no query/5, layers of query are 1 to 4"):
        teacher(wave_batch([8000]), (), [Tap("query", 5)])
    with pytest.raises(ValueError, match=r"no logits/1, kinds are conv, hidden"):
        teacher(wave_batch([8000]), (), [Tap("logits", 1)])
    teacher.model.masked_spec_embed = None
    with pytest.raises(UserError, match="tiny has no mask embedding, so it cannot read masked input"):
        teacher(wave_batch([8000]), masked=torch.zeros(1, num_frames(8000), dtype=torch.bool))


@pytest.mark.parametrize("kind", OTHERS)
def test_relatives_load_from_a_folder(kind, tmp_path):
    model_of(kind).save_pretrained(tmp_path)
    assert load_teacher(str(tmp_path)).num_layers == 4


def test_another_activation_is_refused(tmp_path):
    model = make("hubert")
    model.config.hidden_act = "relu"
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="cannot be a teacher: its hidden_act is relu; encoders here have gelu"):
        load_teacher(str(tmp_path))
