"""Pushing, to a stand-in of the Hub's HTTP interface."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from huggingface_hub import constants

from speechdistill import export
from speechdistill.checkpoints.student_dir import save_student
from speechdistill.errors import UserError
from tests.unit.exporters.tiny import tiny_student


class StandIn(ThreadingHTTPServer):
    """Knows one token, makes repositories, takes commits of files that are sent inside the request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.commits: dict[str, dict[str, bytes]] = {}
        self.address = f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != "Bearer good":
            return self._send(401, {"error": "Invalid user token"})
        _, _, *path = self.path.partition("?")[0].split("/")
        if path == ["repos", "create"]:
            given = json.loads(body)
            name = f"{given['organization']}/{given['name']}"
            self.server.commits.setdefault(name, {})
            return self._send(200, {"url": f"{self.server.address}/{name}", "name": name, "id": name})
        if path == ["validate-yaml"]:
            return self._send(200, {"errors": [], "warnings": []})
        _, user, name, verb, *_ = path
        if verb == "preupload":
            asked = json.loads(body)["files"]
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in asked]
            return self._send(200, {"files": files})
        assert verb == "commit", self.path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.commits[f"{user}/{name}"][line["value"]["path"]] = content
        url = f"{self.server.address}/{user}/{name}/commit/123"
        return self._send(200, {"success": True, "commitOid": "123", "commitUrl": url, "hookOutput": ""})

    def _send(self, code: int, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    server = StandIn()
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)  # as HF_ENDPOINT sets it where it is imported
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "good")
    yield server
    server.shutdown()
    server.server_close()


def push(student: Path, form: str) -> int:
    return export.main([f"student={student}", f"format={form}", "push=me/small"])


def test_a_folder_and_its_card_arrive(hub: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_student(tmp_path / "student", tiny_student("DistilHuBERT"), "# mine\n")
    folder = tmp_path / "student" / "hf_hubert"
    folder.mkdir()
    (folder / "secret.txt").write_text("not ours to push")
    assert push(tmp_path / "student", "hf_hubert") == 0
    assert f"pushed: {hub.address}/me/small/commit/123" in capsys.readouterr().out
    arrived = hub.commits["me/small"]
    assert set(arrived) == {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"}
    assert all((folder / name).read_bytes() == content for name, content in arrived.items())
    assert b"# mine" in arrived["README.md"]


def test_a_students_own_folder_arrives_with_what_s3prl_loads(hub: StandIn, tmp_path: Path) -> None:
    save_student(tmp_path / "student", tiny_student("FitHuBERT"), "# mine\n")
    assert push(tmp_path / "student", "s3prl") == 0
    expected = {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"}
    assert set(hub.commits["me/small"]) == expected | {"model.pt", "hubconf.py", "expert.py", "requirements.txt"}


@pytest.mark.parametrize(("token", "expected"), [("bad", "401"), ("", "no token")])
def test_who_may_not_push_is_told(
    token: str, expected: str, hub: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
    save_student(tmp_path / "student", tiny_student("DistilHuBERT"), "")
    with pytest.raises(UserError) as refused:
        push(tmp_path / "student", "s3prl")
    assert "push=me/small" in str(refused.value)
    assert expected in str(refused.value)
    assert hub.commits == {}
