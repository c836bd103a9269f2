"""Some cases of one kind in a process of their own: `python -m tests.fuzz.batch KIND FIRST COUNT`.

The number of a case is its seed. A case that fails is printed. One that hangs ends the process and says where. Memory
is bounded, so that a wrong size in a header cannot take all of the machine's.
"""

import faulthandler
import importlib
import json
import resource
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np

LONGEST_SECONDS = 60
MOST_BYTES = 4 << 30


def main(kind: str, first: int, count: int) -> None:
    """Run cases and print a line of JSON for each that failed."""
    check = importlib.import_module(f"tests.fuzz.{kind}").check
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MOST_BYTES, resource.RLIM_INFINITY))
    warnings.simplefilter("ignore")
    for number in range(first, first + count):
        print(json.dumps({"begun": number}), flush=True)
        faulthandler.dump_traceback_later(LONGEST_SECONDS, exit=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                check(np.random.default_rng(number), Path(folder))
            except Exception:
                print(json.dumps({"failed": number, "how": traceback.format_exc()}), flush=True)
        faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"ended": count}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
