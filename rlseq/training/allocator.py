"""What is freed stays with the process, for the next update."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)
_KEPT = 1 << 30  # bytes at most that are free at the heap's end
_ON_HEAP = 1 << 25  # blocks up to this size come from the heap: as far as glibc's own rule can go


def keep_freed_memory() -> bool:
    """Have glibc's malloc keep the memory that an update frees; whether it does, which it cannot in other libraries.

    By itself it gives the large blocks back to the system again and again, and a page that comes anew costs a fault:
    on a CPU up to a tenth of an update. The price is up to 1 GiB that the process holds between updates.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, _ON_HEAP) and mallopt(_TRIM_THRESHOLD, _KEPT))
