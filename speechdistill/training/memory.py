"""Keep freed memory in the process: on a CPU, pages that come and go cost part of a training step."""

import ctypes
import sys

# Of glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 256 << 20


def keep_freed_memory() -> bool:
    """Tell the C library to reuse large blocks instead of handing them back to the system after each use.

    By default glibc maps every block above 32 MB anew, and the kernel clears its pages again, which costs a GELU
    over the first convolution's output more than its arithmetic. The process keeps its peak until it ends.

    Returns:
        Whether the C library knows how; other systems than Linux with glibc stay as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    limits = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, _TOP_PAD_BYTES))
    return all(mallopt(name, value) == 1 for name, value in limits)
