"""What several implementations share: random batches, settings of the process, torchvision."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from implementations import BATCH


def batch(crop: int, classes: int, count: int = BATCH) -> Any:
    """Random views [count, 3, crop, crop] and labels [count]."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return (torch.randn(count, 3, crop, crop, generator=generator),
            torch.randint(0, classes, (count,), generator=generator))


def keep_pages() -> None:
    """Let the C library keep freed memory, as every command of `alexnet` does."""
    from alexnet._runtime.allocator import set_allocator

    set_allocator()


def prepare_process() -> None:
    """Configure the process as `alexnet train` does before it imports torch."""
    from alexnet._runtime.cpu_threads import set_openmp_defaults

    keep_pages()
    set_openmp_defaults()


def fast_dtype() -> Any:
    """bf16 where this CPU has instructions for it, else fp32: without them bf16 is emulated, slower than fp32."""
    import torch

    from alexnet._runtime.devices import cpu_has_bf16

    return torch.bfloat16 if cpu_has_bf16() else torch.float32


def torchvision() -> Any:
    """torchvision's Python module, also where its compiled operators cannot be loaded (tests/peers.py)."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    import peers

    return peers.torchvision()


def crop_of(name: str) -> int:
    from alexnet.architecture.network_presets import arch

    return arch(name).input.crop



def classes_of(name: str) -> int:
    from alexnet.architecture.network_presets import arch

    return arch(name).classes
