"""How the processes of a run find each other after torchrun has started or restarted them."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from uuid import uuid4

import torch
import torch.distributed as dist

from alexnet.errors import UserError

MEETING = timedelta(minutes=10)
"""How long a process waits for the others to be started."""


def launched() -> bool:
    """Whether torchrun, or another launcher that sets its variables, started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


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
        for arrival in arrivals:
            store.set(f"{start}/{store.get(arrival).decode()}", "")
        return start
    token, deadline = uuid4().hex, time.monotonic() + MEETING.total_seconds()
    announced = ""
    while time.monotonic() < deadline:
        start_text = store.get("start").decode()
        if start_text != announced:
            store.set(f"{start_text}/{rank}", token)
            announced = start_text
        elif store.check([f"{start_text}/{token}"]):
            return int(start_text)
        else:
            time.sleep(0.05)
    raise dist.DistStoreError(f"rank 0 has not replied to rank {rank}")


def own_device(device: torch.device, local_rank: int) -> torch.device:
    """The GPU with this process's number on its host, unless another one is named.

    Raises:
        UserError: if the host has no such GPU.
    """
    if device.type != "cuda" or device.index is not None:
        return device
    if local_rank >= (count := torch.cuda.device_count()):
        raise UserError(f"device cuda:{local_rank} is absent: this host has {count} GPUs",
                        f"start {count} processes on it, or take --device cpu")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
