"""CPU thread settings: usable cores, loader threads, how long idle OpenMP threads spin, priority of worker threads.

Between two layers OpenMP's threads should spin, since waking a thread takes longer than a small layer. Between two
batches they should sleep: by default GNU's OpenMP keeps a core busy for some milliseconds, which the loader's threads
need for decoding (docs/performance.md).
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import struct
import sys
import threading
from pathlib import Path

SPIN_COUNT = 10_000
"""About a tenth of a millisecond. With the default, 300,000, steps are as fast and decoding is slower."""


def set_openmp_defaults(processes: int = 1) -> None:
    """Shorten the spinning of GNU's OpenMP (torch on Linux), and keep to the quota of a container.

    Call it before torch is imported. torch starts a thread for each core of the machine, whatever the quota is: with
    the time of 2 cores on 64, its threads would be stopped most of the time. The environment variables OMP_WAIT_POLICY,
    GOMP_SPINCOUNT and OMP_NUM_THREADS take precedence.

    Args:
        processes: that divide the quota among them.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))
    if (cores := usable_cores()) < _affinity_cores():
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))


def lower_thread_priority(nice: int) -> None:
    """Lower this thread's priority by `nice` steps, each 20% less processor time. Has an effect on Linux only."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(19, os.nice(0) + nice))


SLICE_NANOSECONDS = 100_000
"""The shortest time slice that Linux gives."""

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""Machine -> number of the system call, which the C library has no function for."""


def shorten_time_slices() -> bool:
    """Give this thread, and those that it starts, the shortest time slices. Returns whether the system has taken it.

    A thread that wakes up waits less for others that are busy; the processor time of each is the same. Linux 6.12 or
    newer does so, by default with slices of 1 to 3 ms; older ones ignore it. sched_setattr(2) has the structure.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if not sys.platform.startswith("linux") or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    # size, policy, flags, nice, priority, slice, and two times that are for another policy
    attributes = struct.pack("=IIQiIQQQ", 48, os.SCHED_OTHER, 0, os.nice(0), 0, SLICE_NANOSECONDS, 0, 0)
    with contextlib.suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0)
    return False


MOST_LOADERS = 16
"""Threads that read images, at most: more keep too many batches in memory."""


def usable_cores() -> int:
    """The cores that this process may use: of its affinity, and of the quota of its container (cgroup), at least 1."""
    return max(1, int(min(_affinity_cores(), _cgroup_cores(Path("/sys/fs/cgroup")))))


def _affinity_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_cores() -> int:
    """This process's part of the usable cores, which it shares with torchrun's other processes on the host."""
    return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def loader_threads() -> int:
    """Default number of threads that read images: this process's part of the cores of its host, at least two."""
    return min(MOST_LOADERS, max(2, own_cores()))


def _cgroup_cores(folder: Path) -> float:
    """The quota of processor time in cores, of cgroup version 2 or 1; infinity without one."""
    with contextlib.suppress(OSError, ValueError):  # cpu.max holds "max 100000" without a quota
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota, period = ((folder / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    return math.inf
