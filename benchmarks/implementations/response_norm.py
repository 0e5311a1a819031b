"""Response normalization (§3.3) of conv1's maps, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from implementations import BATCH, Implementation, Work
from implementations.common import keep_pages


def norm_pass(operation: Callable[[Any], Any], layout: str = "contiguous_format") -> Work:
    """Forward and backward pass over random maps of the shape that conv1 gives, batch 128."""
    import torch

    maps = torch.randn(BATCH, 96, 55, 55).to(memory_format=getattr(torch, layout))
    maps.requires_grad_()
    gradient = torch.randn_like(maps)

    def work() -> None:
        operation(maps).backward(gradient)
        maps.grad = None

    return work, BATCH


def peer_norm(keep: bool) -> Work:
    import torch.nn.functional as F

    if keep:
        keep_pages()
    return norm_pass(lambda maps: F.local_response_norm(maps, 5, 1e-4, 0.75, 2.0))


def ours_norm() -> Work:
    keep_pages()
    from alexnet.architecture.spec import LRN
    from alexnet.models.response_norm import ResponseNorm

    return norm_pass(ResponseNorm(LRN(divide_by_n=True), 96, towers=1), "channels_last")


IMPLEMENTATIONS: dict[str, Implementation] = {
    "peer-norm": lambda folder: peer_norm(keep=False),
    "tuned-norm": lambda folder: peer_norm(keep=True),
    "ours-norm": lambda folder: ours_norm(),
}
