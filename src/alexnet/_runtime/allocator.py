"""Tell glibc's memory allocator to keep freed pages, which saves a quarter of a CPU training step.

By default glibc returns large freed blocks to the operating system and requests them again in the next step. Every page
of every activation is then mapped and zeroed anew (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import sys
from typing import Literal

Allocator = Literal["keep", "system"]

# malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def set_allocator(choice: Allocator = "keep") -> str:
    """Choose what happens to freed memory. Call it before torch is imported.

    A training step frees what the next step allocates, so keeping the pages does not raise the peak. The setting has no
    effect on GPU memory, on macOS and Windows, or where another allocator (jemalloc, tcmalloc) replaces glibc's.

    Args:
        choice: "keep" leaves freed memory with the process; "system" changes nothing.

    Returns:
        The allocator in use, for the log.
    """
    if choice == "system":
        return "the system's own"
    if not sys.platform.startswith("linux"):
        return f"the system's own (no glibc on {sys.platform})"
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return "the system's own (no glibc)"
    accepted = library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, -1)
    return "glibc, keeping freed pages" if accepted else "glibc's own (it refused to keep freed pages)"


def release_free_memory() -> None:
    """Return kept pages to the operating system, when a process becomes idle. Takes milliseconds; needs glibc."""
    if sys.platform.startswith("linux") and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
