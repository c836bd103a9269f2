"""Published objectives as a few words of configuration: each trains a student of a tiny teacher."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from speechdistill.errors import UserError
from speechdistill.models.derive import derive_config
from speechdistill.models.student import StudentForDistillation
from speechdistill.objectives.building import build_objective
from speechdistill.objectives.objective import in_order
from speechdistill.teachers.load import Teacher, TeacherSource
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.phases import read_phases
from tests.supernets import SPACES
from tests.unit.teachers.tiny_teachers import make, randomised, wave_batch

CONFIGS = SPACES.parent
OPTIM = {"lr": 1e-3, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.0, "warmup_share": 0.1}
SIZES = {
    "num_hidden_layers": 3,
    "hidden_size": None,
    "num_attention_heads": None,
    "intermediate_size": None,
    "projection_layer_norm": True,
    "feature_grad_mult": 1.0,
    "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "heads": "layerwise",
}


def module(
    terms: dict[str, Any], kind: str = "hubert", masking: Any = None, map: Any = None, **sizes: Any
) -> DistillationModule:
    torch.manual_seed(0)
    masking = masking if masking and masking["probability"] else None
    architecture = {**SIZES, "mask_embedding": bool(masking), **sizes}
    teacher = Teacher(make(kind), TeacherSource("tiny", None, "0"))
    config = {"count_padding": False, "map": map, "terms": terms, "masking": masking}
    objective = build_objective(config, 3, 4, architecture["heads"])
    heads = objective.head_records(teacher.hidden_size, architecture["heads"])
    config = derive_config(architecture, teacher.config, heads=heads)
    student = randomised(StudentForDistillation(config), seed=3).train()
    return DistillationModule(student, teacher, objective, OPTIM, 10, 0, lambda step: step, masking)


def term(**changes: Any) -> dict[str, Any]:
    return {"distance": "mse", "weight": 1.0, **changes}


OWN = {"hidden_size": None}
RELATION = {"map": {"name": "last"}, "view": {"name": "relations", "heads": 4}, "distance": "kl"}
PUBLISHED: dict[str, dict[str, Any]] = {
    "PKD": {"a": term(map={"name": "skip", "with_last": True}, view="normalized_frames", head=False)},
    "TinyBERT": {
        "hidden": term(map={"name": "uniform"}, head={"share": "all"}),
        "scores": term(map={"name": "one_to_one"}, view={"name": "attention_scores", "heads": 4}),
    },
    "MiniLM": {
        "attention": term(map="last", view={"name": "attention_probabilities", "heads": 4}, distance="kl"),
        "value": term(**{**RELATION, "tap": "value"}),
    },
    "MobileBERT": {
        "states": term(map="one_to_one", view={"name": "normalized_frames", "norm": "layer"}, opening={"stacked": 2}),
        "moments": term(map="one_to_one", view="moments"),
    },
    "attention transfer": {"a": term(map="one_to_one", tap="feed_forward", view="energy")},
    "means of buckets": {"a": term(map="bucket", head=OWN)},
    "CKD": {"a": term(map={"name": "bucket", "combine": "concat", "count": 2}, head=OWN)},
    "RAIL-KD": {
        "a": term(map="random_per_epoch", view="pooled", head=OWN),
        "frames": term(map="last", head={"name": "top"}, weight=0.5),
    },
    "ALP-KD": {"a": term(map="attend", head=False)},
    "CoFi": {"a": term(map={"name": "argmin", "count": 2}, head={"share": "all", "init": "identity"})},
    "SKILL": {"a": term(map={"name": "clusters", "layers": [[1, 2], [3]]}, head=OWN, distance="l1")},
    "CoLLD": {"a": term(map="one_to_one", tap="feed_forward", distance="info_nce", head={"hidden_size": 16})},
    "Barlow": {"a": term(map="last", distance="correlation", head=False)},
    "own maps": {"a": term(map="one_to_one", view="attention_map", distance="kl")},
    "LightHuBERT": {"a": term(map={"name": "last_to_mean", "top": 0.67}, tap="feed_forward", distance="l1", head=OWN)},
    "FSP": {"a": term(map="one_to_one", view="gram_channels", head=False)},
    "late": {"a": term(map="one_to_one"), "b": term(map="last", distance="l1", weight=[[4, 0], [6, 1]])},
}


@pytest.mark.parametrize("kind", ["hubert", "wavlm-large"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_objectives_train_every_weight(name, kind):
    trained = module(PUBLISHED[name], kind)
    lengths = [6000, 4000] if kind == "wavlm-large" else [6000, 6000]
    for step in (0, 5):
        trained.model.zero_grad(set_to_none=True)
        total, parts, frames = trained.loss(wave_batch(lengths), step, torch.Generator())
        total.backward()
        assert total.isfinite()
        assert set(parts) >= set(PUBLISHED[name])
        assert int(frames) > 0
    heads = [parameter for key, parameter in trained.model.named_parameters() if key.startswith("heads.")]
    assert all(parameter.grad is not None for parameter in heads)
    # Several devices wait for a gradient of every weight, whatever the taps leave out.
    assert [key for key, parameter in trained.model.named_parameters() if parameter.grad is None] == []
    assert trained.model.student.encoder.layers[0].feed_forward.output_dense.weight.grad.abs().sum() > 0
    trained.eval()
    with torch.no_grad():
        total, _, _ = trained.loss(wave_batch(lengths), 5, torch.Generator())
        assert total.isfinite()
    assert trained.objective.formula()


def test_every_objective_of_the_package_is_told_of():
    names = {path.stem for path in (CONFIGS / "objective").glob("*.yaml")} - {"masked_units"}
    page = (CONFIGS.parent / "recipes" / "objectives" / "README.md").read_text()
    assert {name for name in names if f"`{name}`" not in page} == set()


@pytest.mark.parametrize(
    "name", sorted({path.stem for path in (CONFIGS / "objective").glob("*.yaml")} - {"masked_units", "lighthubert"})
)
def test_objectives_of_the_package_train(name):
    config = yaml.safe_load((CONFIGS / "objective" / f"{name}.yaml").read_text())
    terms = {key: dict(one) for key, one in config["terms"].items()}
    for one in terms.values():
        if isinstance(one.get("view"), dict) and "heads" in one["view"]:
            one["view"]["heads"] = 4
        if isinstance(one.get("map"), list):
            one["map"] = [[0, 0], [1, 1], [2, 2], [3, 4]]
        if name == "skill":
            one["map"] = {"name": "clusters", "layers": [[1, 2], [3]]}
        if name == "ckd" and "map" in one and one["map"]["name"] == "bucket":
            one["map"] = {"name": "bucket", "combine": "concat", "count": 2}
        if one.get("opening"):
            one["opening"] = dict.fromkeys(one["opening"], 1)
    trained = module(terms, map=config.get("map"), masking=config.get("masking") or None)
    total, parts, _ = trained.loss(wave_batch([6000, 6000]), 2000, torch.Generator())
    total.backward()
    assert total > 0
    assert set(parts) >= set(terms)
    assert all(parameter.grad is not None for parameter in trained.model.parameters())
    if name == "dphubert":
        assert [key for key, _ in trained.model.heads.named_parameters()] == [
            f"pruned.maps.{place}.{part}" for place in (0, 1) for part in ("weight", "bias")
        ]
    assert (trained.model.heads is None) is (name in ("starhubert", "minilm", "minilm_v1"))


def test_masked_and_unmasked_frames_learn_from_different_readings():
    # MaskHuBERT's crossed targets (Jang et al., Interspeech 2023, arXiv:2305.11685).
    crossed = {
        "masked": term(map="one_to_one", frames="masked"),
        "unmasked": term(map="one_to_one", frames="unmasked", reading="masked"),
    }
    trained = module(crossed, masking={"probability": 0.6, "length": 3})
    batch = wave_batch([8000, 8000])
    generator = torch.Generator().manual_seed(1)
    mask = trained._mask(batch, torch.Generator().manual_seed(1))
    assert 0.2 < mask.float().mean() < 0.9
    torch.manual_seed(0)
    total, parts, _ = trained.loss(batch, 0, generator)
    torch.manual_seed(0)
    output = trained.model(batch.waveforms, masked=mask)
    clean, hidden = (trained.teacher(batch, masked=one).tensors["hidden"] for one in (None, mask))
    for name, states, chosen in (("masked", clean, mask), ("unmasked", hidden, ~mask)):
        for layer in (1, 3, 4):
            difference = output.predictions[layer] - states[layer]
            torch.testing.assert_close(parts[f"{name}/layer_{layer:02d}"], difference[chosen].square().mean().detach())
    assert [stream.key for stream in trained.streams if stream.can_be_stored] == ["hidden/1", "hidden/3", "hidden/4"]
    assert [stream.key for stream in trained.streams if not stream.can_be_stored] == [
        "masked:hidden/1", "masked:hidden/3", "masked:hidden/4"
    ]  # fmt: skip
    total.backward()
    assert trained.model.student.masked_spec_embed.grad.abs().sum() > 0
    trained.eval()
    assert trained._mask(batch, generator) is None


def test_a_time_reduced_student_is_compared_at_its_own_rate():
    terms = {"gram": term(map="one_to_one", view="gram_time"), "own": term(map="one_to_one", head=OWN)}
    trained = module(terms, time_reduction_factor=2, time_reduction_layer=1)
    batch = wave_batch([8000, 8000])  # 24 frames
    total, parts, frames = trained.loss(batch, 0, torch.Generator())
    total.backward()
    assert frames == 2 * 24
    trained.eval()
    with torch.no_grad():
        _, parts, _ = trained.loss(batch, 0, torch.Generator())
        own = trained.model(batch.waveforms, layers=[3]).hidden_states[3][:, ::2]
        other = trained.teacher(batch, [4]).tensors["hidden"][4].unflatten(1, (12, 2)).mean(2)
    difference = own @ own.transpose(1, 2) / own.shape[-1] - other @ other.transpose(1, 2) / other.shape[-1]
    torch.testing.assert_close(parts["gram/layer_04"], difference.square().mean())


def test_the_closest_layers_are_chosen_in_order_and_are_part_of_the_checkpoint():
    distances = torch.tensor([[5.0, 1.0, 2.0], [1.0, 9.0, 3.0]])
    assert in_order(distances) == [1, 2]
    assert in_order(torch.tensor([[1.0, 2.0]])) == [0]
    trained = module(PUBLISHED["CoFi"])
    whole, parts = ([wave_batch([6000, 6000], seed) for seed in seeds] for seeds in ((1, 2), (3, 4)))
    trained._trainer = SimpleNamespace(accumulate_grad_batches=1, world_size=1)
    for step, batches in enumerate((whole, parts)):
        before = trained.objective.closest.get("a")
        for batch in batches:  # micro-batches: none of them changes what the others choose by
            trained.loss(batch, step, torch.Generator())
            assert trained.objective.closest.get("a") is before
        trained.on_before_optimizer_step(None)
    kept = trained.objective.closest["a"]
    trained.eval().loss(batch, 2, torch.Generator())
    trained.on_before_optimizer_step(None)
    assert trained.objective.closest["a"] is kept
    assert kept.shape == (2, 3)
    assert kept.isfinite().all()
    checkpoint: dict[str, Any] = {}
    trained.on_save_checkpoint(checkpoint)
    assert torch.equal(checkpoint["closest"]["a"], kept)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"a": term(map="one_to_one", view="gram")}, r"terms\.a\.view=gram: known are frames, "),
        (
            {"a": term(map="one_to_one", view={"name": "frames", "heads": 2})},
            r"terms\.a\.view has no key 'heads'\. It takes name\.",
        ),
        ({"a": term(map="one_to_one", tap="logits")}, r"terms\.a\.tap=logits: allowed are conv, hidden, "),
        ({"a": term(map="one_to_one", tabs="key")}, r"terms\.a has no key 'tabs', did you mean 'tap'\?"),
        ({"a": term(map="attend", view="gram_time_intra")}, r"gram_time_intra takes layer by layer"),
        ({"a": term(map="one_to_one", view="gram_time", distance="info_nce")}, r"which gram_time has none of"),
        ({"a": term(map=[[0, 0], [3, 4]], view="gram_time_intra")}, r"gram_time_intra needs hidden/-1 of the student"),
        ({"a": term(map=[[0, 1]], tap="query", head=OWN)}, r"\[0, 1\].*layers 1 to 3, the teacher 1 to 4"),
        ({"a": term(map="one_to_one", head="b")}, r"no term brings the head 'b' along"),
        (
            {"a": term(map="one_to_one", head={"width": 3})},
            r"a\.head=.*a record of name, share, hidden_size, init",
        ),
        (
            {"a": term(map="one_to_one", head=OWN), "b": term(map="last")},
            r"b takes the architecture.s heads.*Give all of them heads",
        ),
        ({"a": term(map="one_to_one", view="attention_map", head=True)}, r"attention_map has no head"),
        ({"a": term(map="one_to_one", frames="some")}, r"terms\.a\.frames=some: allowed are all, masked, unmasked"),
        ({"a": term(map="one_to_one", reading="loud")}, r"terms\.a\.reading=loud: allowed are clean, masked"),
        ({"a": term(map="one_to_one", opening={"slow": 1})}, r"terms\.a\.opening=.*give \{stacked: STEPS\}"),
        ({"a": term(map={"name": "last", "count": 9})}, r"terms\.a\.map\.count=9: the shallower model has 3 layers"),
        ({"a": term(map={"name": "attend", "count": 9})}, r"terms\.a\.map has no key 'count'\. It takes name\."),
        (
            {"a": term(map="one_to_one", distance={"name": "kl", "tau": 2})},
            r"terms\.a\.distance has no key 'tau'\. It takes name, temperature\.",
        ),
    ],
)
def test_a_configuration_that_cannot_be_is_one_message(terms, message):
    with pytest.raises(UserError, match=message):
        build_objective({"count_padding": False, "terms": terms}, 3, 4, "layerwise")


def test_terms_of_another_phase_are_neither_computed_nor_reported_but_their_heads_stay_in_the_graph():
    terms = {"hint": term(map=[[1, 2]], head=OWN), "kd": term(map=[[3, 4]], head=OWN)}
    trained = module(terms)
    phases = {"hints": {"share": 0.5, "terms": ["hint"]}, "rest": {"share": None, "terms": ["kd"], "restarts": True}}
    both = read_phases(phases, 10, list(terms))
    trained = DistillationModule(trained.model, trained.teacher, trained.objective, OPTIM, 10, 0, phases=both)
    batch = wave_batch([6000, 6000])
    for step, counted, other in ((4, "hint", "kd"), (5, "kd", "hint")):
        trained.zero_grad(set_to_none=True)
        total, parts, _ = trained.loss(batch, step, torch.Generator())
        total.backward()
        assert {name.partition("/")[0] for name in parts} == {counted}
        torch.testing.assert_close(total.detach(), parts[counted])
        gradients = {name: p.grad for name, p in trained.model.named_parameters()}
        assert all(gradient is not None for gradient in gradients.values())
        assert not gradients[f"heads.{other}.maps.0.weight"].any()
        assert gradients[f"heads.{counted}.maps.0.weight"].any()
    assert [set(trained.targets(batch, phase=phase)) for phase in both.all] == [{"hidden/2"}, {"hidden/4"}]
    trained.eval()
    for steps, counted in ((5, "hint"), (6, "kd")):
        trained.validate_as_after(steps)
        _, parts, _ = trained.loss(batch, steps, torch.Generator())
        assert {name.partition("/")[0] for name in parts} - {"cosine"} == {counted}


def test_a_phase_computes_no_taps_of_others():
    terms = {
        "maps": term(map=[[3, 4]], view="attention_map", distance="kl"),
        "kd": term(map=[[3, 4]], view={"name": "relations", "heads": 4}, tap="value", distance="kl"),
    }
    trained = module(terms)
    phases = {"a": {"share": 0.5, "terms": ["maps"]}, "b": {"share": None, "terms": ["kd"]}}
    both = read_phases(phases, 10, list(terms))
    trained = DistillationModule(trained.model, trained.teacher, trained.objective, OPTIM, 10, 0, phases=both)
    batch = wave_batch([6000, 6000])
    for phase, kinds in zip(both.all, ({"attention"}, {"value"}), strict=True):
        compared = trained.compared(batch, trained.targets(batch, phase=phase), phase=phase)
        assert {tap.kind for tap in compared.student} == kinds
        assert {key.partition("/")[0] for key in compared.targets} == kinds
        trained.zero_grad(set_to_none=True)
        trained.loss(batch, phase.begin, torch.Generator())[0].backward()
        assert all(parameter.grad is not None for parameter in trained.model.parameters())
