"""Large blocks stay in the process once it has been told to keep them."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, resource, torch
from speechdistill.training.memory import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    print("unknown")
    raise SystemExit
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    torch.ones(50_000_000)
before = faults()
for _ in range(10):
    torch.ones(50_000_000)
print(faults() - before)
"""


def page_faults(word: str) -> str:
    done = subprocess.run([sys.executable, "-c", PROGRAM, word], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_large_block_comes_without_new_pages():
    kept = page_faults("keep")
    if kept == "unknown":
        pytest.skip("not glibc")
    assert int(page_faults("plain")) > 1000  # the test sees what it looks for
    assert int(kept) < 100
