"""Read results back from a GPU while it works on: copies to pinned memory, each with an event that marks its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


class Readback:
    """Numbers on their way from the device to the CPU.

    On CUDA they are copied to pinned memory at once, and an event marks the copy. So reading them waits for their own
    step. `Tensor.tolist` would copy behind the next step, which is in the queue by then, and wait for it too.
    """

    def __init__(self, values: Tensor) -> None:
        self._values, self._copied = values, None
        if values.is_cuda:
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            with torch.cuda.device_of(values):
                self._copied = torch.cuda.Event(enable_timing=True, blocking=True)
                self._copied.record()

    def tensor(self) -> Tensor:
        """The numbers on the CPU, once they are there."""
        if self._copied:
            self._copied.synchronize()
        return self._values

    def read(self) -> list[float]:
        """The numbers, once they are there."""
        return self.tensor().tolist()

    def seconds_after(self, earlier: Readback) -> float | None:
        """Seconds on the device from that copy to this one, if both were on CUDA. Both have been read."""
        if self._copied is None or earlier._copied is None:
            return None
        return earlier._copied.elapsed_time(self._copied) / 1000


def begin_copies(tensors: Mapping[str, Tensor]) -> Callable[[], dict[str, Tensor]]:
    """Begin to copy tensors to the CPU; what happens to them afterwards does not change the copies.

    From a GPU nothing waits here: the copies stand in its queue, before all that is queued later.

    Returns:
        A function that waits for the copies, in any thread, and returns them.
    """
    copies = {key: Readback(tensor.detach() if tensor.is_cuda else tensor.detach().to("cpu", copy=True))
              for key, tensor in tensors.items()}
    return lambda: {key: copy.tensor() for key, copy in copies.items()}
