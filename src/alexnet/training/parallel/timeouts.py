"""How long a process waits for another within a step before it takes it for lost: by the devices and the data.

Only waits within a step have a timeout. Where another process may work for long (pack images, evaluate, write to a slow
disk), processes wait as long as it shows signs of life (liveness.py). Within a step, rank 0 writes its log in a thread
(slow_disk.py), for which the next save waits.
"""

from __future__ import annotations

from alexnet.errors import require

GLOO_SECONDS = 20.0
"""Between CPUs. gloo notices a process that has ended at once, and needs the timeout for hosts that vanish."""

NCCL_SECONDS = 120.0
"""Between GPUs, and the least there: the first operations load kernels and set up connections, and the end of NCCL's
timeout aborts the process."""

STREAM_SECONDS = 320.0
"""For streamed data: a shard and its index are each given up within 120 seconds: after 60 of failures, before which and
after which a request may take 30 (`data.shard_cache`)."""


def step_seconds(backend: str, *, is_streamed: bool, asked: float | None = None) -> float:
    """The timeout of a collective operation.

    Args:
        backend: gloo or nccl.
        is_streamed: whether a process may have to fetch its batch over a network.
        asked: what the user wants; None: the default.

    Raises:
        UserError: too short for the backend.
    """
    if asked is not None:
        require(backend != "nccl" or asked >= NCCL_SECONDS, f"--timeout {asked:g} is too short between GPUs, where the "
                f"first operations alone may take a minute", f"give {NCCL_SECONDS:g} or more, or leave it out")
        return asked
    return max({"gloo": GLOO_SECONDS, "nccl": NCCL_SECONDS}[backend], STREAM_SECONDS if is_streamed else 0.0)
