"""Teachers: frozen and deterministic whatever is done around them; loaded whole, or refused with one message."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from speechdistill.errors import UserError
from speechdistill.frames import num_frames
from speechdistill.teachers.load import load_teacher
from tests.unit.teachers.tiny_teachers import KINDS, make, wave_batch


@pytest.fixture
def folder(tmp_path):
    make("hubert").save_pretrained(tmp_path / "hubert")
    return tmp_path / "hubert"


def sorted_weights(model):
    """Some have other names in transformers: the tensors, by the names that they have here."""
    ours = {
        name.replace("feature_extractor.", "feature_encoder.").replace(
            "layers.0.attention.rel_attn_embed", "position_bias.rel_attn_embed"
        ): tensor
        for name, tensor in model.state_dict().items()
    }
    return [tensor for _, tensor in sorted(ours.items())]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_loaded_with_its_own_weights(kind, tmp_path):
    model = make(kind)
    model.save_pretrained(tmp_path)
    teacher = load_teacher(str(tmp_path))
    found, expected = sorted_weights(teacher.model), sorted_weights(model)
    assert len(found) == len(expected)
    assert all(torch.equal(tensor, other) for tensor, other in zip(found, expected, strict=True))
    assert teacher.num_layers == 4
    assert teacher.hidden_size == 32
    assert teacher.num_params == sum(parameter.numel() for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize(
    ("kind", "normalizes"),
    [("hubert", False), ("hubert-large", True), ("wavlm", False), ("wavlm-large", True), ("data2vec", True)],
)
def test_layer_norm_front_ends_get_normalised_waveforms(kind, normalizes, tmp_path):
    make(kind).save_pretrained(tmp_path)
    # A preprocessor file says the opposite: the training decides, not the file.
    transformers.Wav2Vec2FeatureExtractor(do_normalize=not normalizes).save_pretrained(tmp_path)
    teacher = load_teacher(str(tmp_path))
    assert teacher.normalizes_waveforms == normalizes
    batch = wave_batch([8000])
    loud = batch._replace(waveforms=3 * batch.waveforms + 0.5)
    quiet, noisy = (teacher(b, [2]).tensors["hidden"][2] for b in (batch, loud))
    if normalizes:
        torch.testing.assert_close(quiet, noisy, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_two_passes_are_identical_also_inside_a_module_that_trains(kind, tmp_path):
    make(kind).save_pretrained(tmp_path)
    teacher = load_teacher(str(tmp_path))
    outer = torch.nn.Sequential(torch.nn.Linear(2, 2), teacher)
    outer.train()
    teacher.train()
    assert outer.training
    assert not any(module.training for module in teacher.modules())
    batch = wave_batch([8000, 6000])
    first, second = (teacher(batch).tensors["hidden"] for _ in range(2))
    assert len(first) == 5
    assert all(torch.equal(first[layer], second[layer]) for layer in first)


def test_targets_can_be_saved_for_backward(folder):
    target = load_teacher(str(folder))(wave_batch([8000]), [4]).tensors["hidden"][4]
    assert not target.requires_grad
    assert not target.is_inference()
    prediction = torch.zeros_like(target, requires_grad=True)
    (prediction * target).sum().backward()
    assert torch.equal(prediction.grad, target)


def test_autocast_around_the_teacher_ends_at_the_teacher(folder):
    teacher = load_teacher(str(folder))
    batch = wave_batch([8000])
    plain = teacher(batch, [4]).tensors["hidden"][4]
    with torch.autocast("cpu", torch.bfloat16):
        inside = teacher(batch, [4]).tensors["hidden"][4]
    assert inside.dtype == torch.float32
    assert torch.equal(plain, inside)


def test_only_the_layers_asked_for_are_kept(folder):
    taps = load_teacher(str(folder))(wave_batch([8000, 5000]), {3, 0})
    assert list(taps.tensors["hidden"]) == [0, 3]
    assert taps.num_frames.tolist() == [num_frames(8000), num_frames(5000)]


def test_a_layer_that_does_not_exist_is_named(folder):
    teacher = load_teacher(str(folder))
    with pytest.raises(ValueError, match=r"\[-1, 5\].* 0 to 4"):
        teacher(wave_batch([8000]), [-1, 2, 5])
    teacher.cut(2)
    with pytest.raises(ValueError, match=r"\[3\].* 0 to 2"):
        teacher(wave_batch([8000]), [3])


@pytest.mark.parametrize("highest", [0, 1, 3])
def test_cutting_leaves_lower_layers_as_they_were(folder, highest):
    teacher = load_teacher(str(folder))
    batch = wave_batch([8000])
    before = teacher(batch, [highest]).tensors["hidden"][highest]
    teacher.cut(highest)
    assert len(teacher.model.encoder.layers) == max(1, highest)
    assert torch.equal(teacher(batch, [highest]).tensors["hidden"][highest], before)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_a_half_precision_file_is_computed_in_float32(tmp_path, stored):
    model = make("hubert").to(stored)
    model.save_pretrained(tmp_path)
    teacher = load_teacher(str(tmp_path))
    assert {parameter.dtype for parameter in teacher.parameters()} == {torch.float32}
    got = teacher(wave_batch([8000]), [4]).tensors["hidden"][4]
    assert got.dtype == torch.float32
    expected = model.float()(wave_batch([8000]).waveforms, output_hidden_states=True).hidden_states[4]
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_another_dtype_is_computed_when_asked_for(folder):
    taps = load_teacher(str(folder), dtype=torch.bfloat16)(wave_batch([8000]), [2])
    assert taps.tensors["hidden"][2].dtype == torch.bfloat16


def test_a_file_of_a_model_with_a_head_gives_the_bare_encoder(tmp_path):
    model = transformers.HubertForCTC(KINDS["hubert"][1])
    model.save_pretrained(tmp_path)
    teacher = load_teacher(str(tmp_path))
    found, expected = sorted_weights(teacher.model), sorted_weights(model.hubert)
    assert all(torch.equal(tensor, other) for tensor, other in zip(found, expected, strict=True))


def test_the_description_says_what_was_loaded(folder):
    teacher = load_teacher(str(folder))
    text = teacher.describe()
    for part in (str(folder), "hubert", "4 layers of 32", "50 frames/s", "not normalised", "float32"):
        assert part in text
    assert teacher.source.sha256[:12] in text
    assert teacher.source.revision is None


def test_the_hash_is_that_of_the_weights(folder, tmp_path):
    before = load_teacher(str(folder)).source.sha256
    assert load_teacher(str(folder)).source.sha256 == before
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer_norm.bias"] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert load_teacher(str(folder)).source.sha256 != before


def edited(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def lose_a_weight(folder):
    edited(folder, lambda weights: weights.pop("encoder.layers.2.attention.q_proj.weight"))


def reshape_a_weight(folder):
    edited(folder, lambda weights: weights.update({"encoder.layer_norm.bias": torch.zeros(7)}))


def lose_all_weights(folder):
    (folder / "model.safetensors").unlink()


def lose_the_config(folder):
    (folder / "config.json").unlink()


def break_the_config(folder):
    (folder / "config.json").write_text("{not json")


def cut_the_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def be_a_text_model(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))


def be_of_an_unknown_type(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "speechosaurus"}))


def hold_a_pickle_bomb(folder):
    (folder / "model.safetensors").unlink()
    # What a checkpoint that runs a command looks like.
    command = f"touch {folder.parent / 'executed'}"
    (folder / "pytorch_model.bin").write_bytes(f"cposix\nsystem\n(S'{command}'\ntR.".encode())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lose_a_weight, r"1 weights are missing.*encoder\.layers\.2\.attention\.q_proj\.weight"),
        (reshape_a_weight, r"encoder\.layer_norm\.bias"),
        (lose_all_weights, r"without weights.*model\.safetensors"),
        (lose_the_config, r"config\.json|cannot be loaded"),
        (break_the_config, r"cannot be loaded"),
        (cut_the_weights, r"weights cannot be loaded"),
        (
            be_a_text_model,
            r"is a bert model; teachers are hubert, wavlm, wav2vec2, data2vec-audio, unispeech, unispeech-sat\. Others",
        ),
        (be_of_an_unknown_type, r"speechosaurus"),
        (hold_a_pickle_bomb, r"weights cannot be loaded"),
    ],
)
def test_a_folder_that_does_not_hold_a_whole_teacher_is_one_message(folder, spoil, message, tmp_path):
    spoil(folder)
    with pytest.raises(UserError, match=message) as caught:
        load_teacher(str(folder))
    assert str(folder) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2
    assert not (tmp_path / "executed").exists()


def test_the_embedding_of_masks_may_be_missing(folder):
    edited(folder, lambda weights: weights.pop("masked_spec_embed"))
    assert load_teacher(str(folder)).num_layers == 4


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/no such folder here", "some/where/deep"])
def test_a_missing_folder_is_called_a_folder(name):
    with pytest.raises(UserError, match="no such folder"):
        load_teacher(name)


def test_a_hub_id_that_cannot_be_fetched_says_what_else_to_give():
    with pytest.raises(UserError, match=r"nobody/no-such-teacher cannot be loaded.*\n.*teacher=mini"):
        load_teacher("nobody/no-such-teacher")


@pytest.mark.parametrize("name", ["", "not a hub id"])
def test_a_name_that_cannot_be_a_hub_id_is_one_message(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"teacher\.name"):
        load_teacher(name)


@pytest.mark.parametrize(
    ("name", "revision", "asked"),
    [
        ("org/model", None, ("org/model", None)),
        ("org/model@v1.2", None, ("org/model", "v1.2")),
        ("org/model", "abc123", ("org/model", "abc123")),
        ("org/model@refs/pr/4", None, ("org/model", "refs/pr/4")),
    ],
)
def test_revisions_are_read_from_the_name_or_the_key(name, revision, asked, monkeypatch):
    calls = []

    def from_pretrained(location, **options):
        calls.append((location, options.get("revision")))
        raise OSError("offline")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", from_pretrained)
    with pytest.raises(UserError, match="offline"):
        load_teacher(name, revision)
    assert calls == [asked]


def test_two_revisions_are_one_too_many(folder):
    with pytest.raises(UserError, match=r"org/model@a and teacher\.revision=b both name a revision"):
        load_teacher("org/model@a", "b")
    with pytest.raises(UserError, match=r"is a folder, which has no revisions"):
        load_teacher(str(folder), "main")


def test_a_folder_with_an_at_sign_is_a_folder(folder, tmp_path):
    folder.rename(tmp_path / "model@home")
    assert load_teacher(str(tmp_path / "model@home")).num_layers == 4
