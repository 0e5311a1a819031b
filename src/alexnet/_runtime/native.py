"""The compiled kernels of native/kernels.c: found, loaded and called, if they were built. Knows no torch, no network.

They do what neither torch nor Pillow does fast on a CPU. Each has a twin in Python that means the same, and whoever
calls one has that twin at hand: images.py for images, kernels.py's callers for tensors. Nothing is compiled at run
time.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import sys
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Level = Literal["", "generic", "avx2", "avx512"]
LEVELS: tuple[Level, ...] = ("generic", "avx2", "avx512")


def level() -> Level:
    """The instructions that the kernels use here; "" where there are none, or none are allowed."""
    most = allowed()
    library = _library("torch" in sys.modules) if most else None
    if library is None:
        return ""
    number = min(LEVELS.index(most), library.alexnet_highest_level())
    library.alexnet_use_level(number)
    return LEVELS[number]


def allowed() -> Level:
    """The most that the environment's ALEXNET_NATIVE lets kernels use, here and on a GPU; "" for none."""
    wanted = os.environ.get("ALEXNET_NATIVE", "avx512")
    if wanted == "0":
        return ""
    if wanted not in LEVELS:
        raise ValueError(f"ALEXNET_NATIVE={wanted} must be 0, {', '.join(LEVELS)}, or not set")
    return wanted


@cache
def _library(torch_is_here: bool) -> ctypes.CDLL | None:
    """The library. It brings no OpenMP of its own: torch's threads do its work, or, before torch, the system's.

    A second pool of threads would wait, spinning, on the cores that the first one needs.
    """
    spec = importlib.util.find_spec("alexnet._runtime._native")
    if spec is None or spec.origin is None:
        return None
    if not torch_is_here:
        with contextlib.suppress(OSError):
            ctypes.CDLL("libgomp.so.1", mode=ctypes.RTLD_GLOBAL)
    try:
        library = ctypes.CDLL(spec.origin)
        library.alexnet_highest_level()
        library.alexnet_last_words  # noqa: B018
    except (OSError, AttributeError):
        return None  # built for another machine or another version, or no OpenMP to be found
    return library


def call(function: str, *arguments: object) -> int:
    """Call a kernel, other threads running meanwhile. Only where `level()` has just said that there are any."""
    library = _library("torch" in sys.modules)
    assert library is not None
    return getattr(library, function)(*arguments)


def set_sigbus_message(sentence: str) -> None:
    """What this process is to say, before it exits with 2, should a file be cut short while its memory map is read."""
    if level():
        call("alexnet_last_words", f"{sentence}\n".encode())


def square(
    pixels_HWC: NDArray[np.uint8], rows: int, columns: int, top: int, left: int, side: int,
) -> NDArray[np.uint8] | None:
    """Rescaled to rows x columns, of which only the square at (top, left) is made: Pillow's bilinear, to the bit.

    uint8 [side, side, 3]; None where there are no kernels.
    """
    if not level():
        return None
    height, width, _ = pixels_HWC.shape
    pixels = np.ascontiguousarray(pixels_HWC)
    out = np.empty(side * side * 3 + 1, np.uint8)  # the kernel writes a pixel as four bytes
    if call("alexnet_square", ctypes.c_void_p(pixels.ctypes.data), height, width, rows, columns, top, left, side,
            ctypes.c_void_p(out.ctypes.data)):
        raise MemoryError(f"no memory to rescale an image of {width} x {height} pixels")
    return out[:-1].reshape(side, side, 3)
