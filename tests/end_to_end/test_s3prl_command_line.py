"""s3prl's own command lines through ours: a small task from CSV files, with a student as the upstream."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from speechdistill.checkpoints.student_dir import load_student, save_student
from speechdistill.models.student import StudentModel
from speechdistill.upstream.hub_files import write_hub_files
from tests.parity.student_parity import tiny_config

pytest.importorskip("s3prl.downstream")
# Of run_downstream; phonemes and slots are not in s3prl's wheel.
TASKS = (
    *("speech_commands", "fluent_commands", "voxceleb1", "sv_voxceleb1"),
    *("diarization", "emotion", "asr", "quesst14_dtw"),
)
SPLITS = ("train", "valid", "test")


def superb(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "speechdistill.superb", "s3prl", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student") / "student"
    torch.manual_seed(0)
    save_student(folder, StudentModel(tiny_config()), "")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """High and low tones, in the lists of the two tasks: Fluent Speech Commands' and s3prl's own."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "data").mkdir()
    generator = np.random.default_rng(0)
    for split in SPLITS:
        intents, speakers = ["path,action,object,location"], ["id,wav_path,label"]
        for number in range(8):
            seconds = np.arange(6400 + 400 * number) / 16000
            tone = 0.3 * np.sin(2 * np.pi * (200, 900)[number % 2] * seconds) + generator.normal(0, 0.01, len(seconds))
            name = f"{split}-{number}.wav"
            soundfile.write(folder / name, tone, 16000)
            kind = ("low", "high")[number % 2]
            intents.append(f"{name},{kind},none,none")
            speakers.append(f"{split}-{number},{folder / name},{kind}")
        (folder / "data" / f"{split}_data.csv").write_text("\n".join(intents) + "\n")
        (folder / f"{split}.csv").write_text("\n".join(speakers) + "\n")
    return folder


@pytest.fixture(scope="module")
def intent_config(corpus: Path) -> Path:
    steps = {"total_steps": 2, "log_step": 1, "eval_step": 2, "save_step": 2}
    config = {
        "runner": {
            **steps,
            "gradient_clipping": 1,
            "gradient_accumulate_steps": 1,
            "max_keep": 2,
            "eval_dataloaders": ["dev"],
        },
        "optimizer": {"name": "TorchOptim", "torch_optim_name": "Adam", "lr": 1e-3},
        "downstream_expert": {
            "datarc": {"file_path": str(corpus), "num_workers": 0, "train_batch_size": 4, "eval_batch_size": 4},
            "modelrc": {
                "projector_dim": 8,
                "select": "UtteranceLevel",
                "UtteranceLevel": {"pooling": "MeanPooling"},
            },
        },
    }
    path = corpus / "intent.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_run_downstream_trains_resumes_and_evaluates(student: Path, intent_config: Path, tmp_path: Path) -> None:
    what = ["-d", "fluent_commands", "-c", str(intent_config), "-u", "speechdistill", "-k", str(student)]
    words = [*what, "-f", "-s", "last_hidden_state", "--device", "cpu", "-p", str(tmp_path / "exp")]
    done = superb("run_downstream", "-m", "train", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "selected feature last_hidden_state's downsample rate is 320" in done.stderr
    first = torch.load(tmp_path / "exp" / "states-2.ckpt", weights_only=False)
    # -f: the student itself is trained, and kept.
    trained = {name.removeprefix("encoder.model."): value for name, value in first["Upstream"].items()}
    given = load_student(student).state_dict()
    assert set(trained) == set(given)
    assert any(not torch.equal(trained[name], given[name]) for name in given)

    again = ["-e", str(tmp_path / "exp"), "--device", "cpu"]
    more = ["-o", "config.runner.total_steps=4"]
    done = superb("run_downstream", "-m", "train", *again, *more, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Loading Upstream weights from the previous experiment" in done.stderr + done.stdout
    assert torch.load(tmp_path / "exp" / "states-4.ckpt", weights_only=False)["Step"] == 4

    done = superb("run_downstream", "-m", "evaluate", *again, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "test acc: " in done.stdout


def test_an_exported_folder_is_a_hub_repository_to_s3prl(student: Path, intent_config: Path, tmp_path: Path) -> None:
    write_hub_files(student, tmp_path / "exported")
    what = ["-d", "fluent_commands", "-c", str(intent_config), "--device", "cpu", "-p", str(tmp_path / "exp")]
    hub = ["--hub", "huggingface", "-u", str(tmp_path / "exported")]
    done = superb("run_downstream", "-m", "train", *what, *hub, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "exp" / "states-2.ckpt").is_file()


def test_everything_that_superbs_tasks_import_is_there(tmp_path: Path) -> None:
    code = f"""
import importlib
import speechdistill.upstream
import s3prl.problem
for task in {TASKS}:
    importlib.import_module(f"s3prl.downstream.{{task}}.expert")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_main_trains_and_tests_a_problem(student: Path, corpus: Path, tmp_path: Path) -> None:
    settings = {
        "target_dir": corpus,
        "start": 1,  # the lists are there already
        "device": "cpu",
        "num_workers": 0,
        "prepare_data.dataset_root": corpus,
        "build_upstream.name": "speechdistill",
        "build_upstream.path_or_url": student,
        "build_upstream.extra_conf": "{'layers': [1, 3]}",
        "train.total_steps": 2,
        "train.log_step": 1,
        "train.eval_step": 2,
        "train.save_step": 2,
        "train.gradient_accumulate": 1,
    }
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    done = superb("main", "SuperbSID", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    result = yaml.safe_load((corpus / "evaluate" / "valid_best" / "test" / "result.yaml").read_text())
    assert 0 <= result["accuracy"] <= 1
    assert result["loss"] > 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run_downstream", "-u", "speechdistill", "-k", "/no/such/student"], ["/no/such/student", "no such folder"]),
        (["run_downstreem"], ["run_downstreem", "'run_downstream'", "main"]),
    ],
)
def test_one_message(words: list[str], expected: list[str], intent_config: Path, tmp_path: Path) -> None:
    rest = ["-m", "train", "-d", "fluent_commands", "-c", str(intent_config), "--device", "cpu", "-p", "exp"]
    done = superb(*words, *(rest if len(words) > 1 else []), folder=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    message = done.stderr[done.stderr.index("speechdistill: ") :]
    assert message.count("\n") == 1
    for part in expected:
        assert part in message
