"""The memory of a piece of work on a CPU, by the process's resident pages (Linux)."""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def growth_at_peak(run: Callable[[], Any]) -> int | None:
    """Run something and count the bytes by which the process grew at its largest.

    Freed memory that the C library keeps is handed back first, so that the work cannot hide in it.

    Returns:
        Bytes, None where the system does not tell (no Linux, or no right to reset the peak).
    """
    try:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        _CLEAR.write_text(_RESET_PEAK)
        before = _kilobytes("VmRSS")
    except (OSError, TypeError):
        run()
        return None
    run()
    return (_kilobytes("VmHWM") - before) * 1024


def _kilobytes(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.M)
    if found is None:
        raise OSError(f"{_STATUS} has no {name}")
    return int(found[1])
