"""Configurations: every file composes, the recipes have the papers' figures, and mistakes are one message."""

from pathlib import Path

import pytest
import yaml

from speechdistill.audio.corpora import KINDS
from speechdistill.compose import configure
from speechdistill.errors import UserError
from speechdistill.resumable import RESUMABLE_KEYS
from speechdistill.training.phases import Phases, read_phases

CONFIGS = Path(__file__).parents[2] / "configs"


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def test_the_groups_hold_as_many_files_as_are_tested():
    assert len(choices("recipe")) == 12
    assert len(choices("data")) == 7
    assert len(choices("teacher")) == 10
    assert len(choices("task")) == 5
    assert len(choices("superb_task")) == 10
    assert len(choices("superb_data")) == 3


@pytest.mark.parametrize("recipe", choices("recipe"))
@pytest.mark.parametrize("data", choices("data"))
def test_every_recipe_composes_with_every_corpus(recipe, data):
    needed = {"manifest": "data.manifest=/x y=1.csv", "mix": "data.corpora=[{kind:folder,root:/x,weight:2}]"}
    config = configure("train", [f"recipe={recipe}", f"data={data}", needed.get(data, "data.root=/x")])
    assert config["recipe"] == recipe
    assert config["data"]["kind"] == data.removesuffix("_100")
    assert set(KINDS[config["data"]["kind"]]) <= set(config["data"])
    assert config["trainer"]["max_steps"] > 0
    assert config["data"]["batch_seconds"] >= config["data"]["max_seconds"]


@pytest.mark.parametrize("teacher", choices("teacher"))
def test_every_teacher_composes_and_leaves_the_revision_open(teacher):
    config = configure("train", [f"teacher={teacher}"])
    assert set(config["teacher"]) == {"name", "revision", "dtype", "cache", "cache_gb"}
    assert config["teacher"]["revision"] is None


@pytest.mark.parametrize("recipe", choices("recipe"))
def test_a_choice_on_the_command_line_beats_the_recipes(recipe):
    config = configure("train", [f"recipe={recipe}", "data=folder", "data.root=/x", "optim=hubert_mini"])
    assert config["data"]["kind"] == "folder"
    assert config["optim"]["lr"] == 1.5e-3


def test_distilhubert_has_the_papers_figures():
    words = ["recipe=distilhubert", "data=librispeech", "data.root=/x", "teacher=hubert_base"]
    config = configure("train", words)
    assert config["optim"] == {
        "lr": 2e-4,
        "betas": [0.9, 0.98],
        "eps": 1e-6,
        "weight_decay": 0.01,
        "warmup_share": 0.07,
    }
    assert config["trainer"]["max_steps"] == 200_000
    assert config["trainer"]["gradient_clip"] == 5.0
    assert config["trainer"]["accumulate"] == 1
    assert config["data"]["max_utterances"] == 24
    assert round(config["data"]["max_seconds"] * 16_000) == 250_000
    # Utterances limit the batch, not seconds.
    assert config["data"]["batch_seconds"] == 24 * config["data"]["max_seconds"]
    assert config["data"]["root"] == "/x"
    assert config["data"]["parts"] == ["train-clean-100", "train-clean-360", "train-other-500", "dev-clean"]
    assert config["teacher"]["name"] == "facebook/hubert-base-ls960"
    assert config["architecture"]["num_hidden_layers"] == 2
    assert config["architecture"]["feature_grad_mult"] == 0.1
    assert not config["architecture"]["projection_layer_norm"]
    assert config["objective"]["map"] == {"name": "last_to_many", "count": 3}
    assert {term["weight"] for term in config["objective"]["terms"].values()} == {1.0}
    assert config["student"]["init_from"] == "teacher"


@pytest.mark.parametrize(
    ("recipe", "share", "steps"), [("", 0.5, 800_000), ("_stage_1", 1, 400_000), ("_stage_2", 0, 400_000)]
)
def test_lighthubert_has_the_papers_sizes_and_says_what_is_ours(recipe, share, steps):
    words = [f"recipe=lighthubert{recipe}", "data=librispeech", "data.root=/x", "teacher=hubert_base"]
    config = configure("train", words)
    assert config["search_space"]["hidden_size"] == [512, 640, 768]
    assert configure("train", [*words, "search_space=small"])["search_space"]["depth"] == [10, 11, 12]
    assert config["phases"]["stage_1"]["share"] == share
    assert config["phases"]["stage_2"] == {"share": None, "shapes": "subnets", "lr_share": 1.0, "restarts": True}
    assert not config["once_for_all"]["sandwich"]
    assert config["trainer"]["max_steps"] == steps
    target = {"map": {"name": "last_to_mean", "top": None}, "tap": "feed_forward", "distance": "l1", "frames": "all"}
    assert target.items() <= config["objective"]["terms"]["contextual"].items()
    assert config["objective"]["masking"] == {"probability": 0.65, "length": 10, "even_rows": False}
    assert config["architecture"]["feature_norm"] == "layer"
    assert config["student"]["init_from"] is None


def test_the_demo_has_a_space_scaled_to_its_teacher():
    for recipe, share in (("lighthubert", 0.1), ("lighthubert_stage_1", 1), ("lighthubert_stage_2", 0)):
        config = configure("train", [f"recipe={recipe}"])
        assert config["phases"]["stage_1"]["share"] == share
        assert set(config["search_space"].values()) == {None}  # in proportion to the teacher: see test_scaled_space
        assert config["trainer"]["max_steps"] < 10_000


@pytest.mark.parametrize("recipe", ["fithubert", "fitwav2vec2"])
def test_fithubert_has_the_papers_figures(recipe):
    words = [f"recipe={recipe}", "data=librispeech", "data.root=/x", "teacher=wav2vec2_base"]
    config = configure("train", words)
    assert config["recipe"] == recipe
    assert config["teacher"]["name"] == "facebook/wav2vec2-base"
    assert config["optim"] == {
        "lr": 5e-4,
        "betas": [0.9, 0.98],
        "eps": 1e-6,
        "weight_decay": 0.01,
        "warmup_share": 0.05,
    }
    assert config["trainer"]["max_steps"] == 1_171_825
    assert config["trainer"]["gradient_clip"] == 0  # none
    assert config["trainer"]["accumulate"] == 1
    assert config["data"]["max_utterances"] == 24
    assert config["data"]["max_seconds"] > 35  # LibriSpeech's longest
    # Utterances limit the batch, not seconds.
    assert config["data"]["batch_seconds"] == 24 * config["data"]["max_seconds"]
    assert config["objective"] == {
        "map": {"name": "one_to_one"},
        "random_per_epoch": None,
        "count_padding": False,
        "terms": {
            "hidden_mse": {
                "distance": "mse",
                "weight": 1.0,
                "reduction": "sum",
                "layer_weights": {"inner": 0.1, "last": 1.0},
            }
        },
    }
    assert config["student"]["init_from"] is None
    assert config["architecture"]["heads"] == "layerwise"


@pytest.mark.parametrize(("recipe", "teacher"), [("dphubert", "hubert_base"), ("dpwavlm", "wavlm_base_plus")])
def test_dphubert_has_the_papers_figures(recipe, teacher):
    config = configure("train", [f"recipe={recipe}", "data=librispeech", "data.root=/x", f"teacher={teacher}"])
    assert config["optim"] == {
        "lr": 2e-4,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": 0,
        "warmup_share": 0.3,
    }
    compression = config["compression"]
    assert compression["name"] == "pruning"
    assert (compression["target_params"], compression["target_macs"], compression["ramp_steps"]) == (0.25, None, 5000)
    assert (compression["lr"], compression["multiplier_lr"]) == (2e-2, 2e-2)
    assert compression["axes"] == ["conv_channels", "heads", "units"]
    terms = list(config["objective"]["terms"])
    joint, final = read_phases(config["phases"], config["trainer"]["max_steps"], terms).all
    assert (joint.steps, final.steps) == (50_000, 25_000)
    assert (joint.compression, final.compression, final.restarts) == ("on", "frozen", True)
    factor = Phases([joint, final]).learning_rate_factor(config["optim"]["warmup_share"])
    peaks = [2e-4 * factor(step) for step in (14_999, 54_999)]  # warm-ups of 15,000 and 5,000 steps
    assert peaks == pytest.approx([2e-4, 1e-4])
    assert max(2e-4 * factor(step) for step in range(50_000, 75_000, 7)) <= 1e-4
    assert config["trainer"]["gradient_clip"] == 10
    assert config["data"]["batch_seconds"] * config["trainer"]["accumulate"] == 640  # 160 s on each of four
    assert (config["data"]["min_seconds"], config["data"]["max_seconds"]) == (32_000 / 16_000, 250_000 / 16_000)
    assert config["student"]["init_from"] == "teacher"
    architecture = config["architecture"]
    assert [architecture[f"{part}_dropout"] for part in ("hidden", "attention", "activation", "feat_proj")] == [
        0.1, 0.1, 0.0, 0.1
    ]  # fmt: skip
    assert config["objective"]["terms"]["l1"]["head"]["init"] == "identity"
    assert [config["objective"]["terms"][name]["weight"] for name in terms] == [1, 1]
    small = configure("train", [f"recipe={recipe}"])
    assert small["trainer"]["max_steps"] < 5000
    assert small["compression"] == {**compression, "ramp_steps": 200, "lr": 0.1, "multiplier_lr": 0.1}


@pytest.mark.parametrize(
    ("recipe", "lr", "steps", "batch"),
    [("starhubert", 1e-3, 1_171_825, 24), ("maskhubert", 5e-4, 390_600, 144), ("armhubert", 5e-3, 390_600, 144)],
)
@pytest.mark.parametrize("teacher", ["hubert_base", "wavlm_base_plus"])
def test_star_mask_and_armhubert_have_the_papers_figures(recipe, lr, steps, batch, teacher):
    config = configure("train", [f"recipe={recipe}", "data=librispeech", "data.root=/x", f"teacher={teacher}"])
    assert config["optim"] == {
        "lr": lr,
        "betas": [0.9, 0.98],
        "eps": 1e-6,
        "weight_decay": 0.01,
        "warmup_share": 0.05,
    }
    assert config["trainer"]["max_steps"] == steps
    assert config["trainer"]["gradient_clip"] == 0
    assert config["trainer"]["accumulate"] * config["data"]["max_utterances"] == batch
    assert config["data"]["batch_seconds"] == config["data"]["max_utterances"] * config["data"]["max_seconds"]
    assert config["data"]["max_seconds"] > 35
    assert config["student"]["init_from"] is None
    architecture = config["architecture"]
    assert {architecture[f"{part}_dropout"] for part in ("hidden", "attention", "activation")} == {0.1}
    assert architecture["feat_proj_dropout"] == 0.05
    assert architecture["layer_grad_scale"] == (recipe == "armhubert")
    terms, masking = config["objective"]["terms"], config["objective"].get("masking")
    assert config["objective"]["count_padding"] is False
    if recipe == "starhubert":
        assert {name: term["view"] for name, term in terms.items()} == {"gram": "gram_time", "intra": "gram_time_intra"}
        assert {term["distance"] for term in terms.values()} == {"mse"}
        assert masking is None
    else:
        assert (masking["probability"], masking["length"]) == (0.8, 10)
        read = {term["frames"]: term["reading"] for term in terms.values()}
        assert read == {"masked": "clean", "unmasked": "masked"}
        for term in terms.values():
            assert (term["distance"], term["weight"], term["reduction"], term["divide_by"]) == ("mse", 1, "sum", "all")
            assert term["layer_weights"] == {"inner": 0.1, "last": 1.0}


@pytest.mark.parametrize("recipe", ["starhubert", "maskhubert", "armhubert"])
def test_their_demo_has_fithuberts_figures(recipe):
    demo, thin = configure("train", [f"recipe={recipe}"]), configure("train", ["recipe=fithubert"])
    assert demo["optim"] == thin["optim"]
    assert demo["trainer"] == thin["trainer"]
    assert demo["data"] == thin["data"]
    given = configure("train", [f"recipe={recipe}", "architecture=maskhubert", "optim.lr=3e-5"])
    assert (given["architecture"]["intermediate_share"], given["optim"]["lr"]) == (0.208333, 3e-5)


def test_the_switches_to_fithuberts_released_behaviour_compose():
    released = ["data.batching=pad", "objective.count_padding=true", "objective.random_per_epoch=11"]
    config = configure("train", ["recipe=fithubert", *released, "optim.weight_decay=1e-6"])
    assert config["data"]["batching"] == "pad"
    assert config["objective"]["count_padding"] is True
    assert config["objective"]["random_per_epoch"] == 11
    assert config["optim"]["weight_decay"] == 1e-6


@pytest.mark.parametrize("recipe", ["fithubert", "fitwav2vec2"])
def test_fithuberts_demo_is_small(recipe):
    overlay = yaml.safe_load((CONFIGS / "size" / "fithubert" / "small.yaml").read_text())
    demo = configure("train", [f"recipe={recipe}"])
    assert demo["teacher"]["name"] == "mini"
    assert demo["trainer"]["max_steps"] == overlay["trainer"]["max_steps"] < 10_000
    assert demo["optim"]["lr"] == overlay["optim"]["lr"] != 5e-4
    given = configure("train", [f"recipe={recipe}", "optim.lr=3e-5"])
    assert given["optim"]["lr"] == 3e-5


def test_the_demo_is_small_and_the_command_line_beats_that():
    overlay = yaml.safe_load((CONFIGS / "size" / "distilhubert" / "small.yaml").read_text())
    demo = configure("train", ["recipe=distilhubert"])
    assert demo["data"]["kind"] == "demo"
    assert demo["trainer"]["max_steps"] == overlay["trainer"]["max_steps"] < 10_000
    assert demo["optim"]["lr"] == overlay["optim"]["lr"]
    assert demo["data"]["max_utterances"] == overlay["data"]["max_utterances"]
    for data in ("folder", "librispeech"):
        config = configure("train", ["recipe=distilhubert", f"data={data}", "data.root=/x"])
        assert config["trainer"]["max_steps"] == 200_000
        assert config["optim"]["lr"] == 2e-4
    given = configure("train", ["trainer.max_steps=7", "optim.lr=3e-5", "data.max_seconds=9"])
    assert (given["trainer"]["max_steps"], given["optim"]["lr"], given["data"]["max_seconds"]) == (7, 3e-5, 9)


def test_the_same_words_give_the_same_configuration_twice():
    assert configure("train", ["seed=3"]) == configure("train", ["seed=3"])


@pytest.mark.parametrize(
    "path",
    [
        "/corpora/my recordings/set 1",
        "/corpora/lr=0.1/audio",
        "/a,b",
        "/Users/Zoë/Aufnahmen/日本語",
        "/tilde/~/inside",
        "/odd (1)/[2]/{3}",
        "/it's/said",
        '/so "called"',
        "/ends in a backslash\\",
        "/a\\'b\\\\'c",
        "/x#y%z+@w:~!&;",
        "/trailing ",
        "2024",
        "on",
    ],
)
@pytest.mark.parametrize("key", ["data.root", "out_dir", "teacher.name", "student.init_from"])
def test_paths_are_taken_verbatim(key, path):
    group, _, name = key.rpartition(".")
    config = configure("train", ["data=folder", "data.root=/x", f"{key}={path}"])
    assert (config[group] if group else config)[name] == path


def test_quoted_paths_lose_their_quotes_and_null_stays_null():
    config = configure("train", ["data=folder", "data.root='/a b'", 'out_dir="/c=d"', "student.init_from=null"])
    assert config["data"]["root"] == "/a b"
    assert config["out_dir"] == "/c=d"
    assert config["student"]["init_from"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.max_stepps=3"], r"no key 'trainer\.max_stepps', did you mean 'trainer\.max_steps'\?"),
        (["data.rot=/x"], r"no key 'data\.rot', did you mean 'data\.root'\?"),
        (["data=folder", "data.rot=/x"], r"no key 'data\.rot', did you mean 'data\.root'\?"),
        (["optm=distilhubert"], r"no key 'optm', did you mean 'optim'\?"),
        (["sed=1"], r"no key 'sed', did you mean 'seed'\?"),
        (["objective.terms.hidden_l3.weight=1"], r"did you mean 'hidden_l1'"),
        (["objective.terms.hidden_l1.veiw=frames"], r"hidden_l1 has no key 'veiw', did you mean 'view'"),
        (
            ["recipe=nope"],
            r"recipe=nope does not exist.*recipe is one of armhubert, distilhubert, .*, hubert_mini",
        ),
        (["recipe=distilhubrt"], r"did you mean 'distilhubert'"),
        (["teacher=hubert_bass"], r"teacher=hubert_bass does not exist, did you mean 'hubert_base'\?"),
        (["data=librispeech"], r"data\.root has to be given: add data\.root=\.\.\."),
        (["data=folder"], r"data\.root has to be given"),
        (["--hlep"], r"--hlep: no such option\. Words are KEY=VALUE"),
        (["distilhubert"], r"'distilhubert' cannot be read; words are KEY=VALUE"),
        (["trainer=[a"], r"trainer=\[a does not exist"),
        (["recipe=distilhubert,hubert_mini"], r"distilhubert,hubert_mini"),
        (["seed=1,2"], r"seed=1,2"),
        (["data.root=${oc.env:SPEECHDISTILL_NO_SUCH_VARIABLE}"], r"SPEECHDISTILL_NO_SUCH_VARIABLE"),
        (["resume=/nowhere/at/all"], r"resume=/nowhere/at/all: no config\.yaml there"),
    ],
)
def test_a_mistake_is_one_message(words, message):
    with pytest.raises(UserError, match=message) as caught:
        configure("train", words)
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def run(tmp_path):
    """The folder of an earlier run, with a name that Hydra would not read."""
    folder = tmp_path / "runs" / "lr=1 (old)"
    folder.mkdir(parents=True)
    config = configure("train", ["recipe=distilhubert", "data=folder", "data.root=/a", "seed=5", "trainer.max_steps=9"])
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_a_resumed_run_takes_its_own_configuration(run):
    config = configure("train", [f"resume={run}"])
    assert config["resume"] == config["out_dir"] == str(run)
    assert (config["seed"], config["trainer"]["max_steps"], config["data"]["root"]) == (5, 9, "/a")


def test_a_resumed_run_may_change_what_the_weights_do_not_depend_on(run):
    words = ["trainer.checkpoint_every_steps=null", "data.num_workers=7", "data.root=/b=c/é", "trainer.wandb=true"]
    config = configure("train", [*words[:2], f"resume={run}", *words[2:]])
    assert config["trainer"]["checkpoint_every_steps"] is None
    assert config["data"]["num_workers"] == 7
    assert config["data"]["root"] == "/b=c/é"
    assert config["trainer"]["wandb"] is True


@pytest.mark.parametrize(
    "word", ["optim.lr=1", "seed=6", "recipe=fithubert", "data.batch_seconds=9", "trainer.precision=32-true"]
)
def test_a_resumed_run_refuses_what_the_weights_depend_on(run, word):
    key = word.partition("=")[0]
    with pytest.raises(UserError, match=rf"{key} cannot change when a run is resumed.*student\.init_from="):
        configure("train", [f"resume={run}", word])


def test_a_misspelt_key_of_a_resumed_run_names_the_nearest(run):
    with pytest.raises(UserError, match=r"did you mean 'data\.num_workers'"):
        configure("train", [f"resume={run}", "data.num_wrkers=2"])
    with pytest.raises(UserError, match=r"cannot be read"):
        configure("train", [f"resume={run}", "trainer.wandb"])


def test_a_resumed_run_takes_the_words_that_it_began_with(run):
    words = [
        "recipe=distilhubert",
        "data.root=/a",
        "seed=5",
        "trainer.max_steps=9",
        f"out_dir={run}",
        "optim.lr=0.0002",
    ]
    words += ["objective.map=[[1,4],[2,8]]", "student.init_from=teacher"]
    config = configure("train", [*words, "data=folder"])
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "resume": None}))
    again = configure("train", [f"resume={run}", *words, "dry_run=true"])
    assert again == {**config, "resume": str(run), "dry_run": True}
    with pytest.raises(UserError, match=r"objective\.map cannot change"):
        configure("train", [f"resume={run}", "objective.map=[[1,4],[2,9]]"])
    with pytest.raises(UserError, match=r"out_dir cannot change"):
        configure("train", [f"resume={run}", f"out_dir={run}/x"])


def test_a_resumed_run_takes_auto_for_what_it_was_resolved_to(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"] |= {"precision": "bf16-mixed", "devices": 1}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    again = configure("train", [f"resume={run}", "trainer.precision=auto", "trainer.devices=auto", "out_dir=null"])
    assert (again["trainer"]["precision"], again["trainer"]["devices"]) == ("bf16-mixed", 1)


def test_a_resumed_run_takes_a_path_as_it_was_given(run, tmp_path, monkeypatch):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["student"]["init_from"] = str(tmp_path / "earlier")
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    for word in ("earlier", f"{tmp_path}/earlier"):
        configure("train", [f"resume={run}", f"student.init_from={word}"])
    with pytest.raises(UserError, match=r"student\.init_from cannot change"):
        configure("train", [f"resume={run}", "student.init_from=other"])


def test_where_a_start_was_to_stop_does_not_stop_the_next_one(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"]["stop_after_steps"] = 3
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert configure("train", [f"resume={run}"])["trainer"]["stop_after_steps"] is None
    assert configure("train", [f"resume={run}", "trainer.stop_after_steps=3"])["trainer"]["stop_after_steps"] == 3


def test_a_resumed_fine_tuning_may_search_otherwise_and_its_student_may_have_moved(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configure("finetune", ["task=asr", "student=/a"])))
    words = ["task.beam=4", "task.lm=/b.arpa", "task.lm_weight=1", "task.word_bonus=0", "student=/c"]
    config = configure("finetune", [f"resume={tmp_path}", *words])
    assert config["student"] == "/c"
    assert [config["task"][key] for key in ("beam", "lm", "lm_weight", "word_bonus")] == [4, "/b.arpa", 1, 0]
    with pytest.raises(UserError, match=r"task\.case cannot change.*Only these can: .*task\.beam"):
        configure("finetune", [f"resume={tmp_path}", "task.case=lower"])


def test_distillation_has_no_beam_and_its_student_is_a_group(run):
    for word in ("task.beam=4", "student=/c"):
        with pytest.raises(UserError, match=r"cannot change when a run is resumed(?!.*task\.beam)"):
            configure("train", [f"resume={run}", word])


def test_every_resumable_key_exists():
    config = configure("finetune", ["task=asr", "student=/y", "data=folder", "data.root=/x"])
    distillation = configure("train", ["data=folder", "data.root=/x"])
    config |= {key: distillation[key] for key in ("teacher", "import_from")}
    for key in RESUMABLE_KEYS:
        group, _, name = key.rpartition(".")
        assert name in (config[group] if group else config)


def test_a_damaged_config_of_an_earlier_run_is_one_message(run):
    (run / "config.yaml").write_text("trainer: [1, {")
    with pytest.raises(UserError, match=r"config\.yaml"):
        configure("train", [f"resume={run}"])


def test_resume_null_is_a_new_run():
    assert configure("train", ["resume=null"])["resume"] is None


@pytest.fixture
def own_configs(tmp_path):
    """A person's own files, in a folder with a name that Hydra would not read."""
    folder = tmp_path / "it's mine, (1) = ü"
    for name, text in {
        "recipe/mine": "# @package _global_\ndefaults: [distilhubert, _self_]\nrecipe: mine\noptim: {lr: 0.5}\n",
        "teacher/mine": "name: /my/teacher\nrevision: null\ndtype: auto\n",
        "recipe/broken": "a: [1,\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("joined", [True, False])
def test_a_persons_own_files_are_choices_like_the_packages(own_configs, joined):
    where = [f"--config-dir={own_configs}"] if joined else ["--config-dir", str(own_configs)]
    config = configure("train", ["recipe=mine", *where, "teacher=mine", "trainer.max_steps=7"])
    assert (config["recipe"], config["optim"]["lr"], config["optim"]["eps"]) == ("mine", 0.5, 1e-6)
    assert (config["teacher"]["name"], config["trainer"]["max_steps"]) == ("/my/teacher", 7)
    assert configure("train", [*where])["recipe"] == "distilhubert"
    with pytest.raises(UserError, match="recipe=mine does not exist"):
        configure("train", ["recipe=mine"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["recipe=mnie"], r"recipe=mnie does not exist, did you mean 'mine'\?.*mine"),
        (["recipe=mine", "optim.lrr=1"], r"no key 'optim\.lrr', did you mean 'optim\.lr'\?"),
        (["recipe=broken"], r"broken\.yaml"),
    ],
)
def test_a_mistake_with_own_files_is_one_message(own_configs, words, message):
    with pytest.raises(UserError, match=message) as caught:
        configure("train", [*words, "--config-dir", str(own_configs)])
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("words", [["--config-dir", "/no/such/folder"], ["--config-dir"], ["--config-dir="]])
def test_a_folder_of_configs_that_is_not_there_is_named(words):
    with pytest.raises(UserError, match=r"--config-dir .*: no such folder"):
        configure("train", words)


@pytest.mark.parametrize("recipe", ["distilhubert", "fithubert"])
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("objective.map=[[2,4],[2,12]]", [[2, 4], [2, 12]]),
        ("objective.map={name: one_to_one}", {"name": "one_to_one"}),
        ("objective.map={name: last_to_many, count: 2}", {"name": "last_to_many", "count": 2}),
    ],
)
def test_a_layer_map_is_replaced_as_a_whole(recipe, word, expected):
    assert configure("train", [f"recipe={recipe}", word])["objective"]["map"] == expected


def test_time_reduction_can_be_switched_off():
    words = ["architecture.time_reduction_factor=1", "architecture.time_reduction_layer=null"]
    architecture = configure("train", ["recipe=fithubert", *words])["architecture"]
    assert (architecture["time_reduction_factor"], architecture["time_reduction_layer"]) == (1, None)


@pytest.mark.parametrize(
    ("words", "width"),
    [
        ([], None),
        (["search_space=small"], [256, 384, 512]),
        (["search_space=small", "search_space.hidden_size=[128,256]"], [128, 256]),
        (["search_space.hidden_size=[96]"], [96]),
    ],
)
def test_a_chosen_search_space_beats_the_demos(words, width):
    assert configure("train", ["recipe=lighthubert", *words])["search_space"]["hidden_size"] == width


@pytest.mark.parametrize(
    ("task", "lr", "steps", "alone", "time", "channel"),
    [
        ("asr_1h", 5e-5, 13_000, 10_000, 0.65, 0.25),
        ("asr_10h", 5e-5, 20_000, 10_000, 0.65, 0.5),
        ("asr", 3e-5, 80_000, 0, 0.65, 0.5),
        ("asr_960h", 1e-5, 320_000, 0, 0.5, 0.1),
    ],
)
def test_recognition_has_the_figures_of_wav2vec_2(task, lr, steps, alone, time, channel):
    config = configure("finetune", [f"task={task}", "student=/x", "data=librispeech", "data.root=/y"])
    assert config["optim"] == {
        "lr": lr,
        "betas": [0.9, 0.98],
        "eps": 1e-8,
        "weight_decay": 0.0,
        "phases": [0.1, 0.4, 0.5],
        "first_lr_share": 0.01,
        "last_lr_share": 0.05,
    }
    assert config["trainer"]["max_steps"] == steps
    assert config["trainer"]["accumulate"] * config["data"]["batch_seconds"] * 16_000 == 8 * 3_200_000
    assert config["task"]["freeze_encoder_steps"] == alone
    assert config["task"]["freeze_feature_encoder"]
    assert config["task"]["encoder"] == "full"
    assert config["task"]["head"] == "linear"
    assert config["task"]["masks"] == {
        "time_probability": time,
        "time_length": 10,
        "channel_probability": channel,
        "channel_length": 64,
    }
    assert config["task"]["activation_dropout"] == 0.1
    assert {config["task"][f"{name}_dropout"] for name in ("hidden", "attention", "final")} == {0.0}


def test_frozen_recognition_has_the_head_of_superb():
    config = configure("finetune", ["task=asr_frozen", "student=/x", "data=librispeech", "data.root=/y"])
    task = config["task"]
    assert (task["encoder"], task["head"], task["head_size"], task["head_layers"]) == ("frozen", "blstm", 1024, 2)
    assert task["final_dropout"] == 0.2
    assert config["optim"]["lr"] == 1e-4
    assert config["optim"]["phases"] == [0, 1, 0]
    assert config["trainer"]["max_steps"] == 200_000
    assert config["trainer"]["gradient_clip"] == 1.0
    assert config["data"]["max_utterances"] == 32


@pytest.mark.parametrize("task", choices("task"))
@pytest.mark.parametrize("data", choices("data"))
def test_every_task_composes_with_every_corpus(task, data):
    needed = {"manifest": "data.manifest=/x.csv", "mix": "data.corpora=[{kind:folder,root:/x,weight:2}]"}
    config = configure("finetune", [f"task={task}", "student=a/b=c", f"data={data}", needed.get(data, "data.root=/x")])
    assert config["recipe"] == config["method"] == "asr"
    assert config["student"] == "a/b=c"
    assert config["data"]["batching"] == "pad"


def test_fine_tuning_needs_a_student():
    with pytest.raises(UserError, match="student has to be given"):
        configure("finetune", [])


def test_a_search_composes_with_its_runs_recordings_or_others():
    config = configure("search", ["supernet=runs/x=1/supernet", "max_params=27e6"])
    assert (config["supernet"], config["max_params"], config["data"]) == ("runs/x=1/supernet", 27e6, None)
    assert config["teacher"]["name"] is None
    assert configure("search", ["teacher=hubert_base"])["teacher"]["name"] == "facebook/hubert-base-ls960"
    assert configure("search", ["data=folder", "data.root=/x"])["data"]["root"] == "/x"
    assert configure("search", ["students=[runs/a/student,runs/b]"])["students"] == ["runs/a/student", "runs/b"]
    with pytest.raises(UserError, match=r"data\.root has to be given"):
        configure("search", ["data=folder"])


def test_a_search_and_a_training_do_not_resume_each_other(run, tmp_path):
    with pytest.raises(UserError, match=r"is a run of train\. Resume it with: .* -m speechdistill\.train '?resume="):
        configure("search", [f"resume={run}"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configure("search", ["supernet=/x"])))
    assert configure("search", [f"resume={tmp_path}", "evaluations=300"])["evaluations"] == 300
    with pytest.raises(UserError, match=r"is a run of search.*-m speechdistill\.search resume="):
        configure("train", [f"resume={tmp_path}"])


@pytest.mark.parametrize("task", choices("superb_task"))
@pytest.mark.parametrize("data", ["demo", "manifest data.test=/x y=1.csv", "official data.root=/x"])
def test_every_task_of_superb_composes_with_all_data(task, data):
    kind, *words = data.split(" ", 1)
    config = configure("superb", [f"task={task}", "upstream=mini", f"data={kind}", *words])
    assert config["superb_task"] == config["task"]["name"] == task
    assert config["data"]["kind"] == kind
    assert config["lr"] == config["task"]["lr"]
    assert config["steps"] == config["task"]["steps"]


def test_learning_rates_may_be_a_list_of_numbers():
    assert configure("superb", ["task=ks", "upstream=mini", "lr=[1e-5,1e-4]"])["lr"] == [1e-5, 1e-4]
    for wrong in ("lr=[1e-5,x]", "lr=[]", "steps=[1,2]"):
        with pytest.raises(UserError, match="give a "):
            configure("superb", ["task=ks", "upstream=mini", wrong])


def test_a_run_of_superb_goes_on_with_its_own_verb(tmp_path):
    config = configure("superb", ["task=ks", "upstream=mini"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert configure("superb", [f"resume={tmp_path}", "device=cpu"])["device"] == "cpu"
    with pytest.raises(UserError, match="lr cannot change"):
        configure("superb", [f"resume={tmp_path}", "lr=1"])
    for verb in ("train", "search"):
        with pytest.raises(UserError, match=r"is a run of superb.*-m speechdistill\.superb resume="):
            configure(verb, [f"resume={tmp_path}"])
