"""A run can be gone on with from another working directory, and be told of files with any name."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from speechdistill import cli
from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.table import Skipped, Table
from speechdistill.errors import UserError
from speechdistill.provenance import write_json
from speechdistill.training.estimate import disk_line
from speechdistill.training.masked_units_job import masked_units
from speechdistill.training.module import TrainingModule
from speechdistill.training.ranks import LEADER_VARIABLE, OUT_DIR_VARIABLE, Launch
from speechdistill.training.run_folder import open_run_folder, recordings


def test_paths_of_the_corpus_do_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {**os.environ, OUT_DIR_VARIABLE: "", LEADER_VARIABLE: ""})
    monkeypatch.chdir(tmp_path)
    data = {"kind": "mix", "corpora": [{"kind": "folder", "root": "a"}, {"kind": "manifest", "manifest": "b.csv"}]}
    config = {"recipe": "x", "out_dir": "run", "resume": None, "trainer": {"num_nodes": 1}, "data": data}
    open_run_folder(config, Launch(0))
    assert [*config["data"]["corpora"][0].values()] == ["folder", str(tmp_path / "a")]
    assert [*config["data"]["corpora"][1].values()] == ["manifest", str(tmp_path / "b.csv")]
    config["data"] = {"kind": "manifest", "manifest": "~/m.csv", "val_manifest": "v.csv", "root": None}
    open_run_folder(config, Launch(0))
    found = {"manifest": str(Path.home() / "m.csv"), "val_manifest": str(tmp_path / "v.csv"), "root": None}
    assert config["data"] == {"kind": "manifest", **found}


def test_other_paths_neither_and_names_stay_names(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {**os.environ, OUT_DIR_VARIABLE: "", LEADER_VARIABLE: ""})
    monkeypatch.chdir(tmp_path)
    for name in ("mini", "teacher", "mine", "org/earlier", "words.arpa"):
        (tmp_path / name).mkdir(parents=True)
    base = {"recipe": "x", "out_dir": "run", "resume": None, "trainer": {"num_nodes": 1}, "data": {}}
    teacher = {"name": "mini", "cache": "targets"}
    config = {**base, "teacher": teacher, "student": {"init_from": "org/earlier"}}
    open_run_folder(config, Launch(0))
    assert config["student"]["init_from"] == str(tmp_path / "org" / "earlier")
    assert config["teacher"] == {"name": "mini", "cache": str(tmp_path / "targets")}
    config = {**base, "teacher": {"name": "facebook/hubert-base-ls960"}, "student": {"init_from": "teacher"}}
    open_run_folder(config, Launch(0))
    assert config["student"]["init_from"] == "teacher"
    assert config["teacher"]["name"] == "facebook/hubert-base-ls960"
    config = {**base, "student": "mine", "task": {"lm": "words.arpa", "vocabulary": None}}
    open_run_folder(config, Launch(0))
    assert config["student"] == str(tmp_path / "mine")
    assert config["task"] == {"lm": str(tmp_path / "words.arpa"), "vocabulary": None}


def test_an_empty_root_is_not_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {**os.environ, OUT_DIR_VARIABLE: "", LEADER_VARIABLE: ""})
    data = {"kind": "folder", "root": ""}
    config = {"recipe": "x", "out_dir": str(tmp_path), "resume": None, "trainer": {"num_nodes": 1}, "data": data}
    folder = open_run_folder(config, Launch(0))
    with pytest.raises(UserError, match=r"data\.root=: give"):
        recordings(config, folder, Launch(0))


def test_no_root_is_one_message(tmp_path):
    with pytest.raises(UserError, match=r"data\.root=null: give the folder"):
        recordings({"data": {"kind": "folder", "root": None}, "resume": None}, tmp_path, Launch(0))


def test_a_skipped_file_with_a_name_that_is_no_utf8_is_reported(tmp_path):
    name = os.fsdecode(b"caf\xe9 \xc3\xa9.wav")
    write_json(tmp_path / "summary.json", {"skipped": [{"path": name}]})
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["skipped"][0]["path"] == name


def test_a_name_that_the_terminal_cannot_say_is_printed_all_the_same(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda words: print(os.fsdecode(b"caf\xe9.wav")), [])
    assert ended.value.code == 0
    assert capsys.readouterr().out == "caf\\udce9.wav\n"


def test_rows_without_phones_are_refused_where_phones_are_the_units():
    phones = [[["a", 0, 16_000]], None, [["a", 0, 16_000]]]
    table = Table(
        Path("/x"),
        ["a", "b", "c"],
        np.full(3, 16_000),
        np.array(["train"] * 3),
        {"phones": phones},
        (Skipped("d", ""),),
    )
    data = SpeechData(table, seed=0, batch_seconds=4, max_utterances=1, max_seconds=2)
    with pytest.raises(UserError, match="recipe=hubert_mini needs frame-aligned phones, which only data=demo has"):
        masked_units({"recipe": "hubert_mini", "architecture": {}}, data)


def test_the_disk_of_the_root_folder_is_one_too() -> None:
    module = TrainingModule(torch.nn.Linear(2, 2), {"lr": 1e-3}, max_steps=10, seed=0)
    assert "GiB free" in disk_line(module, Path("/"))
