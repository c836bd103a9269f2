"""All that is to be measured on a GPU, each part in a process of its own with a time limit; see benchmarks/gpu.sh.

    python benchmarks/gpu/run.py OUT [size=paper] [device=cuda] [parts=gpu_tests,mfu,...]

A part that fails or takes too long is reported as such and does not stop the rest. OUT/report.json and OUT/report.md
are written anew after each part, OUT/PART.log has what it printed. size=tiny and device=cpu try the script itself.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Name: (title, seconds). With the installation of wheels (INSTALL_SECONDS in gpu.sh) under nine minutes in all.
PARTS: dict[str, tuple[str, int]] = {
    "gpu_tests": ("Tests that need a GPU", 80),
    "s3prl_step": ("A training step against s3prl's", 80),
    "recipe_steps": ("A training step of each recipe", 70),
    "mfu": ("Operations by the measured bf16 peak", 35),
    "peak_memory": ("Peak memory", 40),
    "compiling": ("torch.compile", 85),
    "loading": ("Loader", 60),
    "inference_rtf": ("Inference", 25),
    "profile_steps": ("Profile of three steps", 35),
}


def main(words: Sequence[str]) -> int:
    """Run the parts, write the report; 0 if all of them have figures."""
    out, given = Path(words[0]), dict(word.split("=", 1) for word in words[1:])
    size, device = given.get("size", "paper"), given.get("device", "cuda")
    names = given["parts"].split(",") if "parts" in given else list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        sys.exit(f"parts={unknown[0]}: parts are {', '.join(PARTS)}")
    out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"machine": machine(device), "size": size, "device": device, "parts": {}}
    for name in names:
        print(f"{name} ...", flush=True)
        report["parts"][name] = run_part(name, out, size, device)
        write(out, report)
        found = report["parts"][name]
        print(f"{name}: {found['status']} after {found['seconds']:.0f} s", flush=True)
    return int(any(part["status"] != "done" for part in report["parts"].values()))


def run_part(name: str, out: Path, size: str, device: str) -> dict[str, Any]:
    """Run one part in its own process; what it left, whatever became of it."""
    title, limit = PARTS[name]
    left, log = out / f"{name}.json", out / f"{name}.log"
    left.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / f"{name}.py"), str(left), f"size={size}", f"device={device}"]
    paths = [str(ROOT), str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "HF_HUB_OFFLINE": "1"}
    begun = time.monotonic()
    with log.open("wb") as file:
        # A session of its own: what a part has started ends with it.
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(limit if device == "cuda" else None)
            status = "done" if code == 0 else "failed"
        except subprocess.TimeoutExpired:
            status = f"stopped at its limit of {limit} s"
        finally:
            end_session(process)
    found = {"title": title, "status": status, "seconds": round(time.monotonic() - begun, 1)}
    found |= json.loads(left.read_text(encoding="utf-8")) if left.is_file() else {}
    if status != "done":
        found["log"] = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-15:]
    elif "tables" not in found:
        found |= {"status": "failed", "log": ["it left no figures"]}
    return found


def end_session(process: "subprocess.Popen[bytes]") -> None:
    """End a part and all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()


def machine(device: str) -> dict[str, str]:
    """What the figures are of."""
    import torch

    card = "none"
    if device == "cuda" and torch.cuda.is_available():
        card = f"{torch.cuda.get_device_name()}, {torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB"
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "card": card,
        "cpu": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": os.environ.get("COMMIT") or commit.stdout.strip() or "not known",
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def write(out: Path, report: Mapping[str, Any]) -> None:
    """Both files."""
    (out / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "report.md").write_text(markdown(report), encoding="utf-8")


def markdown(report: Mapping[str, Any]) -> str:
    """The report for people."""
    lines = [f"# {report['machine']['card']}, size={report['size']}, device={report['device']}", ""]
    lines += [", ".join(f"{name} {value}" for name, value in report["machine"].items()), ""]
    for part in report["parts"].values():
        lines += [f"## {part['title']}", "", f"{part['status']}, {part['seconds']:.0f} s", ""]
        for table in part.get("tables", []):
            lines += [table["title"], "", row(table["head"]), row(["---"] * len(table["head"]))]
            lines += [*map(row, table["rows"]), ""]
        lines += [*part.get("notes", []), ""]
        if "log" in part:
            lines += ["```", *part["log"], "```", ""]
    return "\n".join(lines)


def row(cells: Sequence[Any]) -> str:
    """A line of a table."""
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
