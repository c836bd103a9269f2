"""The folder of a run: what a name means, who may be in it, and which tasks go on."""

from pathlib import Path

import pytest

from speechdistill import superb
from speechdistill.alone import alone_in
from speechdistill.errors import UserError
from speechdistill.evaluation.superb.run_folder import chosen_folder, open_folders


def begin(*words: str) -> list[str]:
    """Make the folders of a run; its upstreams."""
    configs, _ = superb.read_configs(list(words))
    open_folders(chosen_folder(configs[0]), configs)
    return [config["upstream"] for config in configs]


def test_reserved_upstreams_are_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mini").mkdir()
    assert begin("tasks=[ks,sid]", "upstream=mini", "out_dir=one") == ["mini"] * 2
    assert begin("tasks=[ks,sid]", "upstream=fbank", "out_dir=fbank") == ["fbank"] * 2
    Path("student").mkdir()
    assert begin("task=ks", "upstream=student", "out_dir=two") == [str(tmp_path / "student")]


def test_a_name_does_not_become_the_path_of_what_the_run_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert begin("tasks=[ks,sid]", "upstream=some-hub-id", "out_dir=some-hub-id") == ["some-hub-id"] * 2


def test_a_folder_has_one_run_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    begin("task=ks", "upstream=fbank", f"out_dir={folder}")
    kept = folder / "ks" / "data" / "half"
    kept.mkdir(parents=True)
    with alone_in(folder):
        for words in (["task=ks", "upstream=fbank", f"out_dir={folder}"], [f"resume={folder}"]):
            with pytest.raises(UserError, match="another process is at work"):
                superb.main(words)
    assert kept.is_dir()
    with alone_in(folder):
        pass


def test_a_folder_of_other_things_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not empty"):
        superb.main(["task=ks", "upstream=fbank", f"out_dir={tmp_path}"])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("words", "tasks"),
    [([], ["ks", "sid"]), (["task=sid"], ["sid"]), (["tasks=[ks]"], ["ks"]), (["tasks=all"], ["ks", "sid"])],
)
def test_the_tasks_that_go_on_can_be_chosen(words: list[str], tasks: list[str], tmp_path: Path) -> None:
    begin("tasks=[ks,sid]", "upstream=fbank", f"out_dir={tmp_path / 'run'}")
    configs, folder = superb.read_configs([*words, f"resume={tmp_path / 'run'}"])
    assert [config["superb_task"] for config in configs] == tasks
    assert folder == tmp_path / "run"


def test_a_task_that_is_not_there_cannot_go_on(tmp_path: Path) -> None:
    begin("tasks=[ks,sid]", "upstream=fbank", f"out_dir={tmp_path / 'run'}")
    with pytest.raises(UserError, match="no task asr there"):
        superb.read_configs(["tasks=[ks,asr]", f"resume={tmp_path / 'run'}"])


@pytest.mark.parametrize(("device", "message"), [("gpu", "devices are cpu and cuda"), ("cuda", "finds no GPU")])
def test_a_device_that_is_not_there_is_refused(
    device: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"device={device}: .*{message}"):
        superb.main(["task=ks", "upstream=fbank", f"device={device}", f"out_dir={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()
