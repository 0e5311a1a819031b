"""CPU thread settings: how long idle OpenMP threads spin, and a lower priority for worker threads.

Between two layers OpenMP's threads should spin, since waking a thread takes longer than a small layer. Between two
batches they should sleep: by default GNU's OpenMP keeps a core busy for some milliseconds, which the loader's threads
need for decoding (docs/performance.md).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

SPIN_COUNT = 10_000
"""About a tenth of a millisecond. With the default, 300,000, steps are as fast and decoding is slower."""


def limit_openmp_spinning() -> None:
    """Shorten the spinning of GNU's OpenMP (torch on Linux). Call it before torch is imported.

    The environment variables OMP_WAIT_POLICY and GOMP_SPINCOUNT take precedence.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lower_thread_priority() -> None:
    """Lower this thread's priority, so that threads which handle requests run first. Has an effect on Linux only."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(19, os.nice(0) + 5))
