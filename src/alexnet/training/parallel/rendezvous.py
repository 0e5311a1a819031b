"""How the processes of a run find each other after torchrun has started or restarted them."""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta
from uuid import uuid4

import torch
import torch.distributed as dist

from alexnet.errors import UserError, require
from alexnet.training.parallel.liveness import pauses

MEETING = timedelta(minutes=10)
"""How long a process waits for the others to be started."""


def require_rendezvous() -> None:
    """Check that the launcher has said which process this is, and where the processes meet.

    Raises:
        UserError: it has set WORLD_SIZE alone, as cluster scripts do for every command.
    """
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    require(not missing, f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set",
            "let torchrun start the processes, or set WORLD_SIZE=1 for a run of one process")


def meet(store: dist.Store, rank: int, size: int) -> int:
    """Wait for all processes. Returns how often they have been started, this time included.

    torchrun's store outlives its processes, and keys that a former start left there must not be read again. Its
    TORCHELASTIC_RESTART_COUNT does not distinguish the starts: each host has its own count, and a host that only
    follows the restart of another one does not count it. So rank 0 counts in the store. The count that another process
    reads may be of a former rank 0, which is noticed because that one does not reply.

    Raises:
        torch.distributed.DistError: if they have not met within `MEETING`.
    """
    if rank == 0:
        start = store.add("starts", 1)
        store.set("start", str(start))
        arrivals = [f"{start}/{other}" for other in range(1, size)]
        store.wait(arrivals, MEETING)
        for answered in store.multi_get(arrivals):
            store.set(f"{start}/{answered.decode()}", "")
        return start
    token, deadline = uuid4().hex, time.monotonic() + MEETING.total_seconds()
    announced = ""
    for pause in pauses(size):
        if time.monotonic() > deadline:
            break
        start_text = store.get("start").decode()
        if start_text != announced:
            store.set(f"{start_text}/{rank}", token)
            announced = start_text
        elif store.check([f"{start_text}/{token}"]):
            return int(start_text)
        else:
            time.sleep(pause)
    raise dist.DistStoreError(f"rank 0 has not replied to rank {rank}")


def own_device(device: torch.device, local_rank: int) -> torch.device:
    """The GPU with this process's number on its host, unless another one is named.

    A scheduler that gives each process a GPU of its own makes it the only one that the process sees, number 0. It
    becomes the current device, on which the events of `StepClock` are recorded.

    Raises:
        UserError: if the host has no such GPU.
    """
    if device.type != "cuda":
        return device
    if device.index is not None:
        torch.cuda.set_device(device)
        return device
    count = torch.cuda.device_count()
    index = 0 if count == 1 else local_rank
    if index >= count:
        raise UserError(f"device cuda:{index} is not available: this host has {count} GPUs",
                        f"start {count} processes on it, or give --device cpu")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def gpu_identity(device: torch.device) -> str:
    """The GPU's host and unique number, whatever number it has in this process."""
    return f"{torch.cuda.get_device_properties(device).uuid} of {socket.gethostname()}"
