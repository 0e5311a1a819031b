"""The user's own augmentation, `alexnet.train(transform=...)`: its name, reproducible calls, checks of its result.

It is a function of a batch of views that returns such a batch. It is not stored with the run, only its name is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from alexnet.errors import UserError, require

Transform = Callable[[Tensor], Tensor]
"""Views -> views: float32 [N, 3, rows, columns], of the same shape and on the same device."""


def transform_name(transform: Transform | None) -> str:
    """The qualified name of a function, or of the class of a callable object; "" without a transform.

    Raises UserError for what cannot be called.
    """
    if transform is None:
        return ""
    require(callable(transform), f"the transform is of type {type(transform).__name__}, which cannot be called",
            "give a function that takes a batch of views and returns one")
    function: object = transform
    while isinstance(function, partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def check_transform(transform: Transform | None, side: int, device: torch.device) -> None:
    """Call a transform on two views of noise. Raises UserError if it returns anything but two such views.

    side: of the training views, in pixels.
    """
    if transform is not None:
        noise_NCHW = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype(np.float32)
        apply_transform(transform, torch.from_numpy(noise_NCHW).to(device), (0,))


@torch.no_grad()
def apply_transform(transform: Transform, views_NCHW: Tensor, key: tuple[int, ...]) -> Tensor:
    """Transform a batch of views. The random numbers that the transform draws are a function of the key.

    Raises:
        UserError: the result is no tensor, or has another shape, type or device.
    """
    expected = views_NCHW.shape, views_NCHW.dtype, views_NCHW.device
    with seeded_generators(key, views_NCHW.device):
        result = transform(views_NCHW)
    remedy = "return a tensor of the same shape, type and device"
    if not isinstance(result, Tensor):
        raise UserError(f"the transform {transform_name(transform)} returned an object of type {type(result).__name__}",
                        remedy)
    if (result.shape, result.dtype, result.device) != expected:
        raise UserError(f"the transform {transform_name(transform)} returned {_form(result)}, and it was given "
                        f"{_form(views_NCHW)}", remedy)
    return result


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} on {tensor.device}"


@contextmanager
def seeded_generators(key: tuple[int, ...], device: torch.device) -> Iterator[None]:
    """Inside, the global generators of torch, NumPy and Python are seeded by the key; after it, they are as before."""
    torch_seed, numpy_seed = np.random.SeedSequence(key).generate_state(2, np.uint64).tolist()
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(torch_seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(torch_seed)
        elif device.type == "mps":
            torch.mps.manual_seed(torch_seed)  # nothing else here draws from this generator
        random.seed(numpy_seed)
        np.random.seed(numpy_seed % 2**32)  # noqa: NPY002  as libraries of augmentations draw from this generator
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
