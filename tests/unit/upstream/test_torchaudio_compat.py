"""What is put in place for s3prl."""

import argparse
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
import torchaudio

from speechdistill.errors import UserError
from speechdistill.upstream import hub_compat, torchaudio_compat


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_second_install_changes_nothing() -> None:
    torchaudio_compat.install()
    before = [torchaudio.load, torchaudio.save, torchaudio.info, torchaudio.sox_effects]
    torchaudio_compat.install.__wrapped__()
    after = [torchaudio.load, torchaudio.save, torchaudio.info, torchaudio.sox_effects]
    assert all(a is b for a, b in zip(before, after, strict=True))


def test_names_that_s3prl_imports() -> None:
    torchaudio_compat.install()
    code = "from torchaudio.sox_effects import apply_effects_file, apply_effects_tensor, effect_names"
    names: dict[str, object] = {}
    exec(code, names)
    assert "silence" in names["effect_names"]()
    assert torchaudio.set_audio_backend("sox_io") is None
    assert torchaudio.get_audio_backend() in torchaudio.list_audio_backends()


def test_a_checkpoint_with_a_command_line_loads(tmp_path: Path) -> None:
    torchaudio_compat.install()
    torch.save({"Args": argparse.Namespace(mode="train")}, tmp_path / "states-2.ckpt")
    assert torch.load(tmp_path / "states-2.ckpt", weights_only=True)["Args"].mode == "train"


def test_pandas_has_its_old_name() -> None:
    pandas = pytest.importorskip("pandas")
    torchaudio_compat.install()
    assert list(pandas.Series({"a": 1}).iteritems()) == [("a", 1)]


def test_a_half_imported_s3prl_is_refused() -> None:
    pytest.importorskip("s3prl.upstream")
    code = """
try:
    import s3prl.hub
except AttributeError:
    pass
else:
    raise SystemExit("s3prl imports by itself: the compatibility module can go")
from speechdistill.errors import UserError
try:
    import speechdistill.upstream
except UserError as error:
    print(error)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert "s3prl was imported before speechdistill.upstream" in done.stdout
    assert "import speechdistill.upstream" in done.stdout
    assert done.stdout.count("\n") == 1


def test_works_without_s3prl() -> None:
    code = """
import sys, torch
sys.modules["s3prl"] = None  # as if it were not installed
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "s3prl" else find(name, package)
from speechdistill.upstream import UpstreamExpert
print(len(UpstreamExpert("mini")([torch.zeros(800)])["hidden_states"]))
from speechdistill.upstream import register
try:
    register.register()
except Exception as error:
    print(type(error).__name__, error)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "7"
    assert second.startswith("UserError s3prl cannot be imported")
    assert "pip install 'speechdistill[superb]'" in second


def test_a_local_folder_is_no_download(tmp_path: Path) -> None:
    torchaudio_compat.install()
    assert huggingface_hub.snapshot_download(str(tmp_path), None, use_auth_token=True) == str(tmp_path)
    with pytest.raises(huggingface_hub.errors.HFValidationError):
        huggingface_hub.snapshot_download("not a repository id")


def test_tokens_without_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    torchaudio_compat.install()
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
    token = huggingface_hub.HfApi().login(username=None, password=None)
    assert token == huggingface_hub.HfFolder.get_token() == "hf_of_the_test"
    huggingface_hub.HfFolder.save_token(token)  # is there already: nobody is asked
    huggingface_hub.HfFolder.save_token(None)


def test_pushing_names_another_way() -> None:
    with pytest.raises(UserError, match="hf upload"):
        hub_compat.Repository(local_dir="x", clone_from="y")
