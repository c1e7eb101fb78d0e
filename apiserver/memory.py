"""Memory that the C allocator holds although nobody uses it."""

import ctypes
from collections.abc import Callable


def _trimmer() -> Callable[[], object]:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return lambda: None  # not glibc; musl gives back by itself
    trim.argtypes = (ctypes.c_size_t,)
    trim.restype = ctypes.c_int
    return lambda: trim(0)


give_back = _trimmer()
"""Return unused pages to the system. glibc keeps them where blocks that live on lie between them: after a minute of
mixed load with bodies of up to 1 MB a proxy that needed 60 MB held 187 MB. Measured: 0.05 ms when there is nothing to
give back, 0.1 ms for each MB otherwise."""
