"""Loads the compiled C kernels (native/kernels.c) and calls them through ctypes; rescales images with them.

The kernels are optional: each has an equivalent in torch or Pillow, which its caller uses where no kernel was built.
Nothing is compiled at run time. kernels.py passes tensors to the kernels; this module needs no torch.
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

from alexnet.errors import UserError

Level = Literal["", "generic", "avx2", "avx512"]
LEVELS: tuple[Level, ...] = ("generic", "avx2", "avx512")


def level() -> Level:
    """The instruction set that the kernels use; "" where no kernels were built or ALEXNET_NATIVE is 0."""
    highest = allowed()
    library = _library("torch" in sys.modules) if highest else None
    if library is None:
        return ""
    number = min(LEVELS.index(highest), library.alexnet_highest_level())
    library.alexnet_use_level(number)
    return LEVELS[number]


def allowed() -> Level:
    """The highest instruction set that the environment variable ALEXNET_NATIVE allows; "" (0) also turns off Triton.

    Raises:
        UserError: ALEXNET_NATIVE has an unknown value.
    """
    value = os.environ.get("ALEXNET_NATIVE", "avx512")
    if value == "0":
        return ""
    if value not in LEVELS:
        raise UserError(f"ALEXNET_NATIVE={value} must be 0, {', '.join(LEVELS)}, or not set")
    return value


@cache
def _library(torch_is_imported: bool) -> ctypes.CDLL | None:
    """The shared library, or None where it was not built or cannot be loaded.

    It contains no OpenMP runtime. It uses torch's, or the system's before torch is imported, because the threads of a
    second runtime would spin on the cores that the first one needs.
    """
    spec = importlib.util.find_spec("alexnet._runtime._native")
    if spec is None or spec.origin is None:
        return None
    if not torch_is_imported:
        with contextlib.suppress(OSError):
            ctypes.CDLL("libgomp.so.1", mode=ctypes.RTLD_GLOBAL)
    try:
        library = ctypes.CDLL(spec.origin)
        library.alexnet_highest_level()
        library.alexnet_gather  # noqa: B018 - the newest of them
    except (OSError, AttributeError):
        return None  # built for another machine or version, or OpenMP was not found
    return library


def call(function: str, *arguments: object) -> int:
    """Call a kernel. Other Python threads run meanwhile. Call it only after `level()` has returned a level."""
    library = _library("torch" in sys.modules)
    assert library is not None
    return getattr(library, function)(*arguments)


def set_sigbus_message(message: str) -> None:
    """Print `message` and exit with code 2 on SIGBUS: a memory-mapped file was truncated or its disk fails."""
    if level():
        call("alexnet_last_words", os.fsencode(f"{message}\n"))


def resize_and_crop(
    pixels_HWC: NDArray[np.uint8], rows: int, columns: int, top: int, left: int, side: int,
) -> NDArray[np.uint8] | None:
    """Resize to rows x columns like Pillow's bilinear filter, bit for bit, and crop the square at (top, left).

    Only the pixels inside the square are computed.

    Returns:
        uint8 [side, side, 3]; None where there are no kernels.
    """
    if not level():
        return None
    height, width, _ = pixels_HWC.shape
    pixels = np.ascontiguousarray(pixels_HWC)
    out = np.empty(side * side * 3 + 1, np.uint8)  # the kernel writes each pixel as four bytes
    if call("alexnet_square", ctypes.c_void_p(pixels.ctypes.data), height, width, rows, columns, top, left, side,
            ctypes.c_void_p(out.ctypes.data)):
        raise MemoryError(f"no memory to rescale an image of {width} x {height} pixels")
    return out[:-1].reshape(side, side, 3)


def gather(addresses_B: NDArray[np.uintp], out: NDArray[np.uint8] | None, image_bytes: int) -> None:
    """Copy a batch of images out of memory maps, in one call, during which other Python threads run.

    Call it only after `level()` has returned a level.

    Args:
        addresses_B: of each image's first byte.
        out: uint8 [B, ...], without gaps. None: only ask the operating system to read the images.
        image_bytes: of each.
    """
    assert out is None or (out.flags.c_contiguous and out.nbytes == len(addresses_B) * image_bytes)
    call("alexnet_gather", ctypes.c_void_p(addresses_B.ctypes.data), ctypes.c_long(image_bytes),
         ctypes.c_void_p(None if out is None else out.ctypes.data), ctypes.c_long(len(addresses_B)))


def color_products(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The sums over all pixels of color times color: int64 [3, 3], from uint8 [..., 3]. Exact, in C or in NumPy.

    The kernel takes a tenth of NumPy's time, and other Python threads run meanwhile.
    """
    if not level():
        colors = pixels.reshape(-1, 3).astype(np.float64)  # all sums stay far below 2**53
        return (colors.T @ colors).astype(np.int64)
    pixels, sums = np.ascontiguousarray(pixels), np.empty(6, np.int64)
    call("alexnet_color_products", ctypes.c_void_p(pixels.ctypes.data), ctypes.c_long(pixels.size // 3),
         ctypes.c_void_p(sums.ctypes.data))
    return sums[np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])]
