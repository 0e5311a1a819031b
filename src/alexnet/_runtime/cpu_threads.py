"""How long OpenMP's threads wait awake for more work, and which threads go before others. Knows nothing of ours.

Between two layers they should stay awake, for to be woken takes longer than a small layer. Between two batches they
should not: GNU's OpenMP keeps a core busy for some milliseconds by default, which the loader's threads want for their
decoding (docs/performance.md). What it does is settled before torch is loaded.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

SPINS = 10_000
"""About a tenth of a millisecond, where the default is 300,000: steps are as fast as with it, decoding faster."""


def wait_briefly() -> None:
    """Unless the environment has a wish of its own. Only GNU's OpenMP listens, which torch for Linux brings."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def give_way() -> None:
    """This thread computes, and lets those of its process that only talk go before it. Linux alone has such threads."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(19, os.nice(0) + 5))
