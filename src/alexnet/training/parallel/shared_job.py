"""A job that torchrun's processes share: `torchrun -m alexnet evaluate`, `predict`, `features` and `pack`.

Each process does its parts of the job (`Ranks`), and rank 0 writes and prints. An error of one process ends all, with
one sentence.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from alexnet.inference.predictor import Model
from alexnet.models.checkpoint import weights_sha256
from alexnet.training.parallel.process_group import ProcessGroup, init_distributed, single_process


@contextmanager
def shared_job(device: str) -> Iterator[ProcessGroup]:
    """The processes that share a job, each on its device: those that torchrun started, or this one alone.

    SIGTERM, which torchrun sends to the others when one process has ended, raises SystemExit here, so that unfinished
    files are deleted.

    Args:
        device: as `choose_device` returns it.

    Raises:
        AlreadyReported: in rank 0, for a ValueError or OSError of any process.
        SilentExit: in the others.
    """
    if "RANK" not in os.environ:  # a cluster's script may set WORLD_SIZE for every command
        with _sigterm_raises():
            yield single_process(device)
        return
    # Not while the processes meet: torch waits without running Python's handlers.
    with init_distributed(device) as processes, _sigterm_raises(), processes.error_barrier():
        yield processes


def require_same_job(processes: ProcessGroup, models: Sequence[Model], trees: Mapping[str, object]) -> None:
    """Raise UserError, in rank 0, if a process has other weights than rank 0, or another one of the JSON trees.

    Each host has a disk of its own, which may hold other files under the same name.

    Args:
        models: that this process has loaded.
        trees: what the trees describe -> the tree.
    """
    if processes.size > 1:
        hashes = [weights_sha256(model.network.state_dict()) for model in models]
        processes.require_same_on_all_ranks({"network": hashes, **trees})


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()  # Python allows handlers in this thread only
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
