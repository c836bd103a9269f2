"""The very command of the first start resumes a run; a real change is refused."""

from pathlib import Path

import pytest
import yaml

from speechdistill.compose import configure
from speechdistill.errors import UserError
from speechdistill.training.ranks import Launch
from speechdistill.training.run_folder import open_run_folder, write_config


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Compose the first start of a run, in a folder that relative paths start from, and leave its config.yaml."""
    monkeypatch.chdir(tmp_path)
    for name in ("recordings", "a student", "lists"):
        (tmp_path / name).mkdir()

    def begun(verb: str, *words: str, **resolved) -> list[str]:
        monkeypatch.delenv("SPEECHDISTILL_OUT_DIR", raising=False)
        config = configure(verb, words)
        config["out_dir"] = "run"
        if "trainer" in config:
            config["trainer"] |= {"devices": 1, "num_nodes": 1, "precision": "32-true"}
            open_run_folder(config, Launch(0))
        (tmp_path / "run").mkdir(exist_ok=True)
        for key, value in resolved.items():
            config[key] = {**config[key], **value} if isinstance(value, dict) else value
        write_config(tmp_path / "run", config)
        return ["resume=run", *words]

    return begun


FOLDER = ["data=folder", "data.root=recordings"]
CORPORA = "data.corpora=[{kind:folder,root:recordings},{kind:folder,root:lists,weight:0.5}]"


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("train", []),
        ("train", ["data=demo"]),
        ("train", ["recipe=distilhubert", "data=demo", "teacher=mini", "data.hours=0.02"]),
        ("train", ["recipe=fithubert", "data=demo", "teacher=mini"]),
        ("train", ["recipe=lighthubert", "search_space=mini"]),
        ("train", ["recipe=lighthubert", "search_space=small", *FOLDER]),
        ("train", ["recipe=fithubert", *FOLDER, "teacher=hubert_base", "data.hours=10"]),
        ("train", ["recipe=lighthubert", *FOLDER, "size=small", "search_space=scaled"]),
        ("train", [*FOLDER, "size=paper", "trainer.max_epochs=2", "data.batch_seconds=9"]),
        ("train", ["data=mix", CORPORA, "objective=fithubert", "trainer.max_steps=7"]),
        ("train", [*FOLDER, "optim=lighthubert", "architecture=hubert_mini", "optim.lr=1e-3", "trainer=default"]),
        ("train", [*FOLDER, "teacher=wavlm_base", "student.init_from=a student", "teacher.cache=lists"]),
        ("finetune", ["task=asr", "student=mini"]),
        ("finetune", ["task=asr_frozen", "student=a student", "data=demo", "data.hours=0.1"]),
        ("finetune", ["task=asr_10h", "student=a student", *FOLDER, "data.hours=10", "trainer.max_steps=9"]),
        ("search", ["supernet=a student", "data=folder", "data.root=recordings", "teacher=mini", "max_params=27e6"]),
        ("search", ["students=[lists,recordings]", "data=demo"]),
        ("superb", ["task=ks", "upstream=a student", "data=demo"]),
        ("superb", ["task=sid", "upstream=mini", "data=official", "data.root=recordings", "lr=[1e-3,1e-4]"]),
        ("superb", ["task=asr", "upstream=fbank", "data=manifest", "data.test=lists/a.csv", "steps=5"]),
    ],
)
def test_the_words_of_the_first_start_resume_a_run(begin, verb, words):
    config = configure(verb, begin(verb, *words))
    stored = yaml.safe_load(Path("run/config.yaml").read_text())
    assert {**config, "resume": None, "out_dir": None} == {**stored, "out_dir": None}


@pytest.mark.parametrize(
    ("verb", "words", "changed", "message"),
    [
        (
            "train",
            ["data=demo"],
            ["data=folder", "data.root=recordings"],
            r"data=folder cannot change.*data\.kind is fol",
        ),
        ("train", FOLDER, ["data=demo"], r"data=demo cannot change.*data\.kind is demo, and in the run folder"),
        ("train", ["teacher=mini"], ["teacher=hubert_base"], r"teacher=hubert_base .*teacher\.name is facebook/hubert"),
        ("train", ["objective=distilhubert"], ["objective=fithubert"], "objective=fithubert cannot change"),
        ("train", ["recipe=distilhubert"], ["recipe=fithubert"], "recipe cannot change"),
        ("train", [*FOLDER, "size=small"], [*FOLDER, "size=paper"], "size cannot change"),
        (
            "train",
            ["recipe=lighthubert", *FOLDER],
            ["recipe=lighthubert", *FOLDER, "search_space=small"],
            "search_space=sm",
        ),
        (
            "train",
            ["data=mix", CORPORA],
            ["data=mix", CORPORA.replace("0.5", "0.6")],
            r"data=mix cannot change.*data\.corpora is",
        ),
        (
            "train",
            [*FOLDER, "data.hours=10"],
            FOLDER,
            r"data=folder .*data\.hours is null, and in the run 10\. Give all",
        ),
        ("finetune", ["task=asr", "student=mini"], ["task=asr_frozen"], "task=asr_frozen cannot change"),
        ("finetune", ["task=asr", "student=mini"], ["task=asr_100h"], r"asr_100h does not exist"),
        ("search", ["supernet=lists", "data=demo"], ["data=folder", "data.root=recordings"], "data=folder cannot"),
        ("superb", ["task=ks", "upstream=mini"], ["data=official", "data.root=recordings"], "data=official cannot"),
    ],
)
def test_another_choice_is_refused(begin, verb, words, changed, message):
    begin(verb, *words)
    with pytest.raises(UserError, match=message) as caught:
        configure(verb, ["resume=run", *changed])
    assert len(str(caught.value).splitlines()) == 1


def test_what_may_change_may_change_beside_a_choice(begin):
    again = begin("train", *FOLDER, "data.num_workers=1", "trainer.max_steps=9")
    config = configure("train", [*again, "data.root=lists", "data.num_workers=3", "dry_run=true"])
    assert (config["data"]["root"], config["data"]["num_workers"], config["dry_run"]) == ("lists", 3, True)
    assert configure("train", ["resume=run", "trainer.max_steps=9", "data.root=lists", "data=folder"])


def test_a_branch_of_the_hub_stands_for_the_commit_that_it_was(begin):
    commit = "0123456789abcdef0123456789abcdef01234567"
    pinned = {"teacher": {"name": "me/hubert", "revision": commit}}
    again = begin("train", "teacher.name=me/hubert@main", **pinned)
    for word in ("teacher.name=me/hubert@main", "teacher.name=me/hubert", f"teacher.name=me/hubert@{commit[:8]}"):
        assert configure("train", [again[0], word])["teacher"]["revision"] == commit
    assert (
        configure("train", [again[0], "teacher.name=me/hubert", "teacher.revision=v1.0"])["teacher"]["revision"]
        == commit
    )
    for word in ("teacher.name=me/hubert@fedcba98", "teacher.name=you/hubert@main", "teacher.revision=fedcba9876"):
        with pytest.raises(UserError, match="cannot change"):
            configure("train", [again[0], word])
