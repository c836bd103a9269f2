"""LightHuBERT's two stages as runs: what they leave, and that they go on exactly where they stopped."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import speechdistill
from speechdistill import Subnet, UserError
from speechdistill.upstream.expert import UpstreamExpert
from tests.cards import check_student_card, run_card
from tests.end_to_end.conftest import SMALL_RUN
from tests.end_to_end.runs import losses, start
from tests.supernets import TINY_SPACE

SPACE = [
    "search_space.hidden_size=[16,24,32]",
    "search_space.num_attention_heads=[2,3,4]",
    "search_space.ffn_ratio=[1.0,1.5,2.0]",
    "search_space.depth=[4,5,6]",
    "search_space.published={hidden_size:24,num_attention_heads:3,ffn_ratio:2.0,depth:6}",
]
SMALL = [*SMALL_RUN[1:], *SPACE, "architecture.hidden_dropout=0.1", "data.max_utterances=4"]
STEPS = ["trainer.max_steps=8", "trainer.validate_every_steps=2", "trainer.checkpoint_every_steps=3"]


def words(recipe: str, teacher: Path, *more: str) -> list[str]:
    both = ["phases.stage_1.share=0.5"] if recipe == "lighthubert" else []
    # As in the recipe; the demo has more subnets in a step, and one schedule.
    plain = ["once_for_all.sandwich=false", "once_for_all.published=false", "phases.stage_2.restarts=true"]
    return [f"recipe={recipe}", *SMALL, f"teacher.name={teacher}", *STEPS, *both, *plain, *more]


def end(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Path:
    """Both stages without a stop: four steps each."""
    from speechdistill import train

    out_dir = tmp_path_factory.mktemp("lighthubert") / "chained"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SPEECHDISTILL_OUT_DIR", raising=False)
        assert train.main(words("lighthubert", teacher_folder, f"out_dir={out_dir}")) == 0
    return out_dir


def test_the_run_leaves_supernet_published_student_and_stage_1(chained: Path) -> None:
    for name in ("student", "supernet", "stage_1"):
        files = {path.name for path in (chained / name).iterdir()}
        assert files == {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"}
    for name in ("student", "stage_1"):
        check_student_card(chained / name)
    (left,) = run_card(chained / "supernet")
    assert left["output"].last_hidden_state.shape == (1, 49, 24)
    summary = json.loads((chained / "summary.json").read_text())
    student = speechdistill.load_student(chained)
    assert summary["student"]["params"] == sum(p.numel() for p in student.parameters())
    assert summary["supernet"]["subnets"] == TINY_SPACE.count()
    assert set(summary["val"]) == {"loss", "cosine", "smallest", "published", "largest", "before", "explained"}
    mean = sum(summary["val"][name] for name in ("smallest", "published", "largest")) / 3
    assert summary["val"]["loss"] == pytest.approx(mean, abs=1e-5)
    full = speechdistill.load_student(chained / "stage_1")
    assert (student.config.hidden_size, full.config.hidden_size) == (24, 32)
    assert {path.name for path in (chained / "plots").iterdir()} == {"loss.png", "layer_similarity.png"}


@pytest.mark.parametrize("name", ["smallest", "published", "largest", "sizes"])
def test_any_subnet_is_an_upstream(chained: Path, name: str) -> None:
    sizes: Any = TINY_SPACE.smallest().to_dict() if name == "sizes" else name
    expert = UpstreamExpert(str(chained), subnet=sizes).eval()
    student = speechdistill.load_student(chained, subnet="smallest" if name == "sizes" else name)
    waveform = torch.randn(8000)
    states = expert([waveform])["hidden_states"]
    assert len(states) == student.config.num_hidden_layers + 1
    expected = student(waveform[None]).last_hidden_state[0]
    assert torch.allclose(states[-1][0, : len(expected)], expected, atol=1e-5)


def test_best_is_the_best_of_the_second_stage(chained: Path) -> None:
    best = torch.load(chained / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]
    rows = {
        int(step): float(loss)
        for step, loss in zip(losses(chained)["step"], losses(chained)["val/loss"], strict=True)
        if loss
    }
    assert set(rows) == {2, 4, 6, 8}
    assert best == min((6, 8), key=rows.__getitem__)


@torch.no_grad()
def test_students_are_what_the_supernet_holds(chained: Path) -> None:
    waveforms = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0)) * 0.1
    supernet = speechdistill.load_supernet(chained)
    assert supernet.space == TINY_SPACE
    assert {f"model.{name}" for name in supernet.state_dict()} == set(end(chained))
    published = speechdistill.load_student(chained)(waveforms).last_hidden_state
    taken = speechdistill.load_student(chained, subnet="published")(waveforms).last_hidden_state
    torch.testing.assert_close(taken, published, atol=1e-6, rtol=0)
    any_other = Subnet(16, (2, 3, 4, 2), (1.0, 2.0, 1.5, 1.0))
    student = speechdistill.load_student(chained / "supernet", subnet=any_other, heads=True)
    (expected,) = supernet(waveforms, subnet=any_other).predictions.values()
    (got,) = student(waveforms).predictions.values()
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


def test_what_is_not_to_be_had_is_one_message(chained: Path) -> None:
    for folder, subnet, message in [
        (chained / "supernet", None, "is a supernet: say which student of it"),
        (chained / "student", "smallest", "is no supernet but a plain student"),
        (chained, "middle", "subnet=middle: names are smallest, published, largest"),
        (chained, Subnet.uniform(640, 10, 4.0, 12), "the subnet has depth 12, .* choices are 4, 5, 6"),
        (chained / "checkpoints", "smallest", "is no supernet folder: config.json is missing"),
    ]:
        with pytest.raises(UserError, match=message):
            speechdistill.load_student(folder, subnet=subnet)


def test_stops_in_both_stages_and_between_change_nothing(
    tmp_path: Path, teacher_folder: Path, chained: Path, command: Callable[..., int]
) -> None:
    given = words("lighthubert", teacher_folder)
    parts = tmp_path / "parts"
    assert command(*given, f"out_dir={parts}", "trainer.stop_after_steps=3") == 0
    assert speechdistill.load_student(parts).config.hidden_size == 32  # of stage 1 the full-size student
    assert not (parts / "supernet").exists()
    for step in ("4", "6", "null"):
        assert command(f"resume={parts}", f"trainer.stop_after_steps={step}", "data.num_workers=1") == 0
    assert losses(parts) == losses(chained)
    ends = [end(chained), end(parts)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    for name in ("student", "supernet", "stage_1"):
        both = [(folder / name / "model.safetensors").read_bytes() for folder in (chained, parts)]
        assert both[0] == both[1], name


def test_a_stop_between_the_stages_changes_nothing_where_the_second_does_not_restart(
    tmp_path: Path, teacher_folder: Path, chained: Path, command: Callable[..., int]
) -> None:
    given = [word for word in words("lighthubert", teacher_folder) if not word.startswith("phases.stage_2")]
    assert command(*given, f"out_dir={tmp_path / 'whole'}") == 0
    assert command(*given, f"out_dir={tmp_path / 'parts'}", "trainer.stop_after_steps=4") == 0
    assert command(f"resume={tmp_path / 'parts'}") == 0
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole") != losses(chained)


def test_each_stage_alone(tmp_path: Path, teacher_folder: Path, chained: Path, command: Callable[..., int]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    alone = [word for word in words("lighthubert_stage_1", teacher_folder) if not word.startswith("trainer.max_steps")]
    assert command(*alone, f"out_dir={first}", "trainer.max_steps=4") == 0
    assert not (first / "supernet").exists()
    # The first half of both stages in one run is the first stage alone.
    one, both = ((folder / name / "model.safetensors") for folder, name in ((first, "student"), (chained, "stage_1")))
    assert one.read_bytes() == both.read_bytes()
    alone = ["recipe=lighthubert_stage_2", *(word for word in alone[1:] if not word.startswith("once_for_all."))]
    more = ["trainer.max_steps=4", f"student.init_from={first}", "once_for_all.sandwich=true"]
    more.append("once_for_all.in_place=true")
    assert command(*alone, *more, f"out_dir={second}") == 0
    assert command(*alone, *more, f"out_dir={tmp_path / 'parts'}", "trainer.stop_after_steps=3") == 0
    assert command(f"resume={tmp_path / 'parts'}", "trainer.stop_after_steps=null") == 0
    assert losses(tmp_path / "parts") == losses(second)
    assert speechdistill.load_student(second).config.hidden_size == 24
    # And once more from a supernet.
    third = tmp_path / "third"
    assert command(*alone, more[0], f"student.init_from={second}", f"out_dir={third}") == 0
    assert speechdistill.load_supernet(third).space == TINY_SPACE


def test_one_subnet_alone(tmp_path: Path, teacher_folder: Path, command: Callable[..., int]) -> None:
    out_dir = tmp_path / "alone"
    sizes = "{hidden_size:16,num_attention_heads:[2,3,4,2],ffn_ratio:1.5,depth:4}"
    given = words("lighthubert", teacher_folder, f"once_for_all.subnet={sizes}", f"out_dir={out_dir}")
    assert command(*given, "trainer.max_steps=2") == 0
    student = speechdistill.load_student(out_dir)
    assert [layer["num_attention_heads"] for layer in student.config.layers] == [2, 3, 4, 2]
    assert not (out_dir / "supernet").exists()


def test_two_ranks_train_the_same_subnets_as_one(
    tmp_path: Path, teacher_folder: Path, command: Callable[..., int]
) -> None:
    # Layers that a subnet has not are among the weights that both ranks wait for.
    given = words("lighthubert", teacher_folder, "trainer.precision=32-true", "data.batch_seconds=5")
    pair = start(*given, f"out_dir={tmp_path / 'pair'}", "trainer.devices=2")
    output, errors = pair.communicate(timeout=120)
    assert pair.returncode == 0, errors
    assert "done: 8 steps" in output
    assert command(*given, f"out_dir={tmp_path / 'alone'}", "trainer.accumulate=2") == 0
    alone, both = end(tmp_path / "alone"), end(tmp_path / "pair")
    assert max((alone[name] - both[name]).abs().max().item() for name in alone) < 1e-5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["search_space.hidden_size=[16,24,64]"],
            "search_space.hidden_size=[16, 24, 64]: the full-size student has 32",
        ),
        (["search_space.published.depth=3"], "the subnet has depth 3"),
        (["phases.stage_1.share=2"], "phases.stage_1.share=2: give a share"),
        (["once_for_all.in_place=true"], "add once_for_all.sandwich=true"),
        (["once_for_all.subnet=tiny"], "once_for_all.subnet=tiny: allowed are smallest, published, largest"),
        (["student.init_from=null", "phases.stage_1.share=0"], "subnets alone start from a trained full-size"),
        (["architecture.feature_norm=layer"], "its convolutions have layer norm, the teacher's group norm"),
        (["objective.terms.contextual.map.top=7"], "contextual.map.top=7: the teacher has 6 layers"),
    ],
)
def test_a_mistake_is_one_message(
    tmp_path: Path,
    teacher_folder: Path,
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
) -> None:
    assert command(*words("lighthubert", teacher_folder, f"out_dir={tmp_path / 'run'}", *more)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_another_supernets_weights_are_one_message(
    tmp_path: Path,
    teacher_folder: Path,
    chained: Path,
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "other"
    shutil.copytree(chained / "student", other)  # the published subnet is no full-size student
    given = words("lighthubert_stage_2", teacher_folder, f"student.init_from={other}", f"out_dir={tmp_path / 'run'}")
    assert command(*given) == 2
    said = capsys.readouterr().err
    assert f"student.init_from={other}" in said
    assert "size mismatch" in said
    assert "Traceback" not in said


@torch.no_grad()
def test_a_subnet_is_an_upstream_and_a_transformers_model_like_any_student(chained: Path) -> None:
    waveforms = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    student = speechdistill.load_student(chained)
    expected = student(waveforms[None], output_hidden_states=True).hidden_states
    got = UpstreamExpert(str(chained)).eval()([waveforms])["hidden_states"]
    assert len(got) == len(expected) == 7
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours[:, : theirs.shape[1]], theirs, atol=1e-6, rtol=0)
    (predicted,) = UpstreamExpert(str(chained), states="predicted").eval()([waveforms])["hidden_states"]
    assert predicted.shape[-1] == 32
    auto = transformers.AutoModel.from_pretrained(chained / "student").eval()
    torch.testing.assert_close(auto(waveforms[None]).last_hidden_state, expected[-1], atol=0, rtol=0)
