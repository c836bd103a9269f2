"""SUPERB's tasks from the command, on a few tones: what they leave, resuming, cached states, bad input."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from speechdistill import superb
from speechdistill.checkpoints.student_dir import save_student
from speechdistill.errors import UserError
from speechdistill.models.student import StudentModel
from tests.parity.student_parity import tiny_config
from tests.superb_tables import SMALL, speech_commands, words, write, write_lists

pytest.importorskip("s3prl.downstream")
TASKS = tuple(SMALL)


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lists")
    write_lists(folder)
    return folder


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student") / "student"
    torch.manual_seed(0)
    save_student(folder, StudentModel(tiny_config()), "")
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same architecture with other weights."""
    folder = tmp_path_factory.mktemp("other") / "student"
    torch.manual_seed(1)
    save_student(folder, StudentModel(tiny_config()), "")
    return folder


def run(lists: Path, task: str, upstream: object, out_dir: Path, *more: str, steps: int = 2) -> dict[str, Any]:
    assert superb.main(words(lists, task, upstream, out_dir, *more, steps=steps)) == 0
    return json.loads((out_dir / task / "superb.json").read_text())


def s3prls(folder: Path, task: str = "ks") -> dict[str, float]:
    (path,) = (folder / task).glob("lr_*/evaluate/valid_best/test/result.yaml")
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("task", TASKS)
def test_a_task_trains_tests_and_writes_its_metrics(task, lists, student, tmp_path, capfd):
    result = run(lists, task, student, tmp_path / "run")
    names = {metric.name for metric in superb.TASKS[task].metrics}
    assert set(result["metrics"]) == names
    assert all(value >= 0 for value in result["metrics"].values())
    assert result["hyper_parameters"]["lr"] == result["learning_rates"][0]["lr"] > 0
    assert result["upstream"]["params"] > 0
    assert result["steps"] == 2
    said = capfd.readouterr()
    assert f"{task} lr" in said.err
    assert "step 2/2  loss" in said.err
    assert "Traceback" not in said.err + said.out
    assert len(said.err.splitlines()) < 12, "s3prl's own lines are in the folder"
    assert (tmp_path / "run" / task).joinpath("s3prl.log").is_file()


def test_another_models_checkpoint_is_never_gone_on_with(lists, student, other, tmp_path):
    first = run(lists, "ks", student, tmp_path / "first")
    with pytest.raises(UserError, match="not empty"):
        run(lists, "ks", other, tmp_path / "first")
    second, alone = run(lists, "ks", other, tmp_path / "second"), run(lists, "ks", other, tmp_path / "alone")
    assert first["upstream"]["sha256"] != second["upstream"]["sha256"]
    assert s3prls(tmp_path / "second") == s3prls(tmp_path / "alone") != s3prls(tmp_path / "first")
    assert second["metrics"] == alone["metrics"]
    # Weights that change under a run that was stopped are noticed as well.
    (tmp_path / "first" / "ks" / "superb.json").unlink()
    shutil.copytree(student, tmp_path / "kept")
    try:
        shutil.copy(other / "model.safetensors", student / "model.safetensors")
        with pytest.raises(UserError, match="the upstream is another"):
            superb.main([f"resume={tmp_path / 'first'}"])
    finally:
        shutil.copy(tmp_path / "kept" / "model.safetensors", student / "model.safetensors")


class _Killed(BaseException):
    """As sudden as a signal."""


@pytest.mark.parametrize(("task", "save_steps"), [("ks", 2), ("asr", 2), ("sid", 2), ("ks", 3)])
def test_a_run_that_was_killed_goes_on_as_if_nothing_had_been(task, save_steps, lists, student, tmp_path, monkeypatch):
    from speechdistill.evaluation.superb.progress import Progress

    # asr draws dropout and masks; sid crops. An epoch has three batches: of the checkpoints, step_3 alone is at an end.
    crop = ["task.audio.train.max_secs=0.5"] if task == "sid" else []
    often = [f"task.save_every_steps={save_steps}", *crop]
    run(lists, task, student, tmp_path / "whole", *often, steps=6)
    batch = Progress.batch

    def killed_at_step_5(self: Progress, loss: float, num_samples: int) -> None:
        batch(self, loss, num_samples)
        if self.num_batches == 5 * self.accumulate:
            raise _Killed

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "batch", killed_at_step_5)
        with pytest.raises(_Killed):
            run(lists, task, student, tmp_path / "killed", *often, steps=6)
    train_dir = next((tmp_path / "killed" / task).glob("lr_*/train"))
    saved = [f"step_{step}" for step in range(save_steps, 6, save_steps)]
    assert sorted(path.name for path in train_dir.glob("step_*")) == saved
    # Killed while it wrote: what is not whole does not count.
    (train_dir / "step_5").mkdir()
    assert superb.main([f"resume={tmp_path / 'killed'}"]) == 0
    assert s3prls(tmp_path / "killed", task) == s3prls(tmp_path / "whole", task)


@pytest.mark.parametrize("task", ["pr", "sd"])
def test_cached_states_give_the_same_metric(task, lists, student, tmp_path):
    cache = f"features.cache={tmp_path / 'cache'}"
    live = run(lists, task, student, tmp_path / "live", "features.alone=true", steps=3)
    made = run(lists, task, student, tmp_path / "made", cache, steps=3)
    assert live["metrics"] == made["metrics"]
    if task == "pr":
        found = run(lists, task, student, tmp_path / "found", cache, steps=3)
        assert found["metrics"] == live["metrics"]
        assert s3prls(tmp_path / "found", task) == s3prls(tmp_path / "live", task)


def test_states_of_another_upstream_are_not_found_in_the_cache(lists, student, other, tmp_path):
    cache = f"features.cache={tmp_path / 'cache'}"
    run(lists, "ks", student, tmp_path / "one", cache)
    run(lists, "ks", other, tmp_path / "two", cache)
    run(lists, "ks", other, tmp_path / "live", "features.alone=true")
    assert s3prls(tmp_path / "two") == s3prls(tmp_path / "live") != s3prls(tmp_path / "one")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_random_crops_are_not_cached(lists, student, tmp_path, capsys):
    run(lists, "sid", student, tmp_path / "run", "features.cache=true", "task.audio.train.max_secs=0.5")
    assert "not cached: sid draws pieces of 0.5 s" in capsys.readouterr().out
    assert not (tmp_path / "run" / "features").exists()


def test_the_learning_rate_is_chosen_on_validation_and_all_are_reported(lists, student, tmp_path):
    result = run(lists, "ks", student, tmp_path / "run", "lr=[1e-9,3e-2]", steps=12)
    small, large = result["learning_rates"]
    assert (small["lr"], large["lr"]) == (1e-9, 3e-2)
    assert large["valid"] > small["valid"]
    assert result["hyper_parameters"]["lr"] == 3e-2
    assert large["metrics"] == result["metrics"]
    assert small["metrics"] == {}, "only the best is tested"


def test_fbank_and_an_untrained_student_are_upstreams(lists, student, tmp_path):
    fbank = run(lists, "ks", "fbank", tmp_path / "fbank")
    assert fbank["upstream"]["params"] == 0
    untrained = run(lists, "ks", student, tmp_path / "untrained", "untrained=true")
    trained = run(lists, "ks", student, tmp_path / "trained")
    assert untrained["upstream"]["params"] == trained["upstream"]["params"]
    assert untrained["upstream"]["sha256"] != trained["upstream"]["sha256"]
    with pytest.raises(UserError, match="untrained=true goes with a student"):
        run(lists, "ks", "fbank", tmp_path / "no", "untrained=true")


def test_several_tasks_and_what_is_done_is_not_done_again(lists, student, tmp_path, capsys):
    given = words(lists, "ks", student, tmp_path / "run", "tasks=[ks,er]")
    assert superb.main([word for word in given if not word.startswith("task=")]) == 0
    assert {path.parent.name for path in (tmp_path / "run").glob("*/superb.json")} == {"ks", "er"}
    capsys.readouterr()
    assert superb.main([f"resume={tmp_path / 'run'}"]) == 0
    assert capsys.readouterr().out.count("done before") == 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: [{**row, "label": "new"} for row in rows], "1 labels have no example in training, 'new'"),
        (lambda rows: [{"id": row["id"], "wav_path": row["wav_path"]} for row in rows], "has no column 'label'"),
        (lambda rows: [{**row, "wav_path": "gone.wav"} for row in rows], "recordings are not there, .*gone.wav"),
        (lambda rows: [{**row, "id": "one"} for row in rows], "the id 'one' stands on 6 lines"),
        (lambda rows: [{**row, "label": " "} for row in rows], "line 2: label is empty"),
    ],
)
def test_bad_lists_are_refused_before_training(spoil, message, lists, student, tmp_path):
    import csv

    with (lists / "ks_test.csv").open() as file:
        write(tmp_path / "test.csv", spoil(list(csv.DictReader(file))))
    given = words(lists, "ks", student, tmp_path / "run", f"data.root={lists}")
    given = [f"data.test={tmp_path}/test.csv" if word.startswith("data.test=") else word for word in given]
    with pytest.raises(UserError, match=message):
        superb.main(given)
    assert not list((tmp_path / "run").glob("**/step_*"))
    # Nothing was trained there: the folder may be used again.
    assert run(lists, "ks", student, tmp_path / "run")["metrics"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["task=kws"], "task=kws: no such task, did you mean 'ks'?"),
        (["tasks=[ks,asrr]"], "task=asrr: no such task, did you mean 'asr'?"),
        ([], "which task?"),
        (["task=ks", "data=folder"], "data=folder does not exist.*demo, manifest, official"),
        (["task=ks", "lr=fast"], "lr=fast: give a number"),
        (["task=ks", "lr=0"], "lr=0: give a number above 0"),
        (["task=ks", "data=manifest", "data.test=x.csv"], "data.train has to be given"),
        (["task=ks", "data=official", "data.root=nowhere"], "speech_commands_v0.01 is missing.*Speech Commands"),
    ],
)
def test_mistakes_are_one_message(given, message, student, tmp_path):
    with pytest.raises(UserError, match=f"(?s){message}"):
        superb.main([f"upstream={student}", f"out_dir={tmp_path / 'run'}", *given])


@pytest.mark.slow
def test_s3prls_own_command_line_gives_the_same_metric(student, tmp_path):
    speech_commands(tmp_path / "root")
    ours = superb.main(
        [
            *("task=ks", f"upstream={student}", "data=official", f"data.root={tmp_path / 'root'}", "device=cpu"),
            *("data.num_workers=0", "steps=6", "lr=1e-2", "task.validate_every_steps=3", "task.save_every_steps=3"),
            f"out_dir={tmp_path / 'ours'}",
        ]
    )
    assert ours == 0
    options = {
        "target_dir": tmp_path / "theirs",
        "cache_dir": tmp_path / "cache",
        "prepare_data.gsc1": tmp_path / "root" / "speech_commands_v0.01",
        "prepare_data.gsc1_test": tmp_path / "root" / "speech_commands_test_set_v0.01",
        "build_upstream.name": "speechdistill",
        "build_upstream.path_or_url": student,
        "build_optimizer.conf.lr": 1e-2,
        "train.total_steps": 6,
        "train.eval_step": 3,
        "train.save_step": 3,
        "device": "cpu",
        "num_workers": 0,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    subprocess.run([sys.executable, "-m", "speechdistill.superb", "s3prl", "main", "SuperbKS", *words], check=True)
    (theirs,) = (tmp_path / "theirs").glob("evaluate/valid_best/test/result.yaml")
    assert s3prls(tmp_path / "ours") == yaml.safe_load(theirs.read_text())


def test_folds_are_trained_apart_and_their_mean_is_reported(lists, student, tmp_path, monkeypatch):
    from speechdistill.evaluation.superb import running
    from speechdistill.evaluation.superb.sources import task_data

    def twice(*arguments: Any) -> Any:
        return task_data(*arguments) * 2

    monkeypatch.setattr(running, "task_data", twice)
    result = run(lists, "er", student, tmp_path / "run", "lr=[1e-3,1e-2]")
    (chosen,) = [trial for trial in result["learning_rates"] if trial["metrics"]]
    assert chosen["by_fold"] == [result["metrics"]] * 2
    assert len(list((tmp_path / "run").glob("er/lr_*/fold_*/train"))) == 4
