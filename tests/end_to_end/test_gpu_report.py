"""benchmarks/gpu.sh, tiny and on a CPU: it ends, and its report is complete."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GPU = ROOT / "benchmarks" / "gpu"
spec = importlib.util.spec_from_file_location("gpu_report", GPU / "run.py")
assert spec is not None
assert spec.loader is not None
report = importlib.util.module_from_spec(spec)
spec.loader.exec_module(report)

GROUPS = ["s3prl_step", "recipe_steps", "mfu,peak_memory,compiling", "loading", "gpu_tests,inference_rtf,profile_steps"]


def gpu_sh(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, "WHEELS": str(out / "none")}
    command = [str(ROOT / "benchmarks" / "gpu.sh"), str(out), "size=tiny", "device=cpu", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_every_part_is_tried_and_all_limits_are_under_nine_minutes() -> None:
    assert sorted(name for group in GROUPS for name in group.split(",")) == sorted(report.PARTS)
    script = (ROOT / "benchmarks" / "gpu.sh").read_text()
    install = int(script.partition("INSTALL_SECONDS=")[2].split()[0])
    assert install + sum(limit for _, limit in report.PARTS.values()) < 540


@pytest.mark.parametrize("parts", GROUPS)
def test_the_report_is_complete(parts: str, tmp_path: Path) -> None:
    done = gpu_sh(tmp_path, f"parts={parts}")
    found = json.loads((tmp_path / "report.json").read_text())
    text = (tmp_path / "report.md").read_text()
    assert done.returncode == 0, text
    assert list(found["parts"]) == parts.split(",")
    for name, part in found["parts"].items():
        assert part["status"] == "done", text
        assert part["figures"], name
        assert f"## {part['title']}" in text
        for table in part["tables"]:
            assert table["rows"], name
            assert all(len(row) == len(table["head"]) for row in table["rows"]), name
            assert all(str(row[0]) in text for row in table["rows"])
    names = {row[0] for part in found["parts"].values() for table in part["tables"] for row in table["rows"]}
    if parts == "s3prl_step":
        assert names == {"s3prl", "ours", "ours, targets at hand"}
    if parts == "recipe_steps":
        steps = (
            "distilhubert",
            "fithubert",
            "lighthubert, stage 1",
            "lighthubert, stage 2",
            "dphubert, stage 1",
            "dphubert, stage 2",
        )
        assert names == {f"{step}, {kind}" for step in steps for kind in ("live teacher", "stored targets")}
    if "profile_steps" in parts:
        assert (tmp_path / "trace.json.gz").stat().st_size > 0


def test_a_part_that_fails_is_reported_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "HERE", tmp_path)
    monkeypatch.setattr(report, "PARTS", {"breaks": ("Breaks", 5), "hangs": ("Hangs", 1), "works": ("Works", 5)})
    (tmp_path / "breaks.py").write_text("raise SystemExit('no such kernel')")
    (tmp_path / "hangs.py").write_text("import time; print('begun', flush=True); time.sleep(60)")
    figures = {"tables": [], "notes": ["well"], "figures": {"number": 1}}
    (tmp_path / "works.py").write_text(f"import sys; open(sys.argv[1], 'w').write({json.dumps(figures)!r})")
    assert report.main([str(tmp_path / "out"), "device=cuda"]) == 1
    found = json.loads((tmp_path / "out" / "report.json").read_text())["parts"]
    assert found["breaks"]["status"] == "failed"
    assert found["breaks"]["log"] == ["no such kernel"]
    assert found["hangs"]["status"] == "stopped at its limit of 1 s"
    assert found["hangs"]["log"] == ["begun"]
    assert found["works"]["status"] == "done"
    assert found["works"]["figures"] == {"number": 1}
    assert "no such kernel" in (tmp_path / "out" / "report.md").read_text()


def test_without_s3prl_the_part_says_so(tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys, s3prl_step\n"
        "importlib.util.find_spec = lambda name: None\n"
        "sys.argv = ['', 'part.json', 'size=tiny', 'device=cpu']\n"
        "s3prl_step.main()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(GPU), str(GPU.parent), str(ROOT)])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    found = json.loads((tmp_path / "part.json").read_text())
    assert found["notes"] == ["s3prl is not installed: no comparison with its step."]
