"""The tests with the mark `gpu`, and which of them failed."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from recipes import ROOT, Words, table, write_part


def main() -> None:
    """Run them, report them; all are skipped where there is no GPU."""
    words = Words()
    files = sorted(str(path) for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text("utf-8"))
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        subprocess.run([*command, *files], cwd=ROOT, check=False)
        cases = list(ElementTree.parse(report).iter("testcase"))
    outcomes = {f"{case.get('classname')}.{case.get('name')}": outcome(case) for case in cases}
    counts = {kind: list(outcomes.values()).count(kind) for kind in ("passed", "failed", "error", "skipped")}
    wrong = [f"{kind}: {name}" for name, kind in outcomes.items() if kind in ("failed", "error")]
    write_part(words.out, [table("", list(counts), [list(counts.values())])], wrong, outcomes=outcomes)


def outcome(case: ElementTree.Element) -> str:
    """What became of a test."""
    tags = {child.tag for child in case}
    return next(
        (said for tag, said in (("failure", "failed"), ("error", "error"), ("skipped", "skipped")) if tag in tags),
        "passed",
    )


if __name__ == "__main__":
    main()
