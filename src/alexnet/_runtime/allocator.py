"""One setting of the C library's memory allocator, made before torch allocates. Knows nothing of ours.

glibc gives large blocks back to the kernel as soon as they are freed and asks for them again at the next step: every
page of every activation is then zeroed and mapped anew, which takes a quarter of a training step on a CPU
(docs/performance.md). Told to keep them, it hands the same pages out again.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Literal

Allocator = Literal["keep", "system"]

# malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def set_allocator(choice: Allocator = "keep") -> str:
    """keep: let freed memory stay with the process, where glibc is the allocator. Returns what was done, for the log.

    Memory that a training step frees is what its next step needs, so the peak does not grow. Has no effect on memory of
    a GPU, on macOS and Windows, or where another allocator (jemalloc, tcmalloc) has been loaded in glibc's place.
    """
    if choice == "system":
        return "the system's own"
    if not sys.platform.startswith("linux"):
        return f"the system's own (no glibc on {sys.platform})"
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return "the system's own (no glibc)"
    kept = library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, -1)
    return "glibc, keeping freed pages" if kept else "glibc's own (it refused to keep freed pages)"


def give_back() -> None:
    """Let the system have what `keep` has kept: for a process that waits. Milliseconds; nothing without glibc."""
    if sys.platform.startswith("linux") and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
