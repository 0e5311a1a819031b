"""Read a pickled dict of NumPy arrays and plain values without executing anything: a restricted unpickler.

CIFAR's Python version consists of pickles. A pickle may name any function, which the reader would call. This reader
knows five names, and puts stand-ins of its own in their place, so that no code outside this file is called.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.errors import UserError


def read_pickled_dict(data: bytes, name: str) -> dict[str, Any]:  # a pickle holds anything
    """The dict in a pickle: its keys as text, its arrays of integers as NumPy arrays. Text of Python 2 becomes bytes.

    Raises UserError, naming the file by `name`, if it is damaged, holds anything else, or asks for other functions.
    """
    try:
        content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        return {key.decode() if isinstance(key, bytes) else str(key):
                value.values if isinstance(value, _Array) else value for key, value in content.items()}
    except _Forbidden as error:
        raise UserError(f"{name} is refused: it is a pickle that asks for {error}, which may run code",
                        "delete it") from None
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(f"{name} cannot be read as a pickle: {str(error) or type(error).__name__}",
                        "download it again") from error


class _Forbidden(Exception):
    """A name that is not among `_STAND_INS`."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        full_name = f"{module}.{name}".replace("numpy.core.", "numpy._core.")  # NumPy 2 renamed the module
        if full_name not in _STAND_INS:
            raise _Forbidden(f"{module}.{name}")
        return _STAND_INS[full_name]()


# The stand-ins. They have slots and no dict, so a pickle can set no attribute but those of an array and its type.


class _Array:
    """`numpy.core.multiarray._reconstruct(...)`: an array whose shape, type and bytes are set afterwards."""

    __slots__ = ("values",)
    values: NDArray[np.integer[Any]]

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Type, bool, bytes]) -> None:
        _, shape, kind, column_major, data = state
        self.values = np.frombuffer(data, kind.dtype).reshape(shape, order="F" if column_major else "C")


class _Type:
    """A `numpy.dtype` of integers."""

    __slots__ = ("dtype",)
    dtype: np.dtype[np.integer[Any]]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if _text(state[1]) == ">":
            self.dtype = self.dtype.newbyteorder(">")


class _Reconstruct:
    __slots__ = ()

    def __call__(self, *arguments: object) -> _Array:
        return _Array()


class _FromBuffer:
    """`numpy._core.numeric._frombuffer(buffer, dtype, shape, order)`, which newer pickles of arrays call."""

    __slots__ = ()

    def __call__(self, buffer: bytes, kind: _Type, shape: tuple[int, ...], order: str) -> _Array:
        array = _Array()
        array.__setstate__((1, shape, kind, order == "F", buffer))
        return array


class _MakeType:
    __slots__ = ()

    def __call__(self, name: str | bytes, *flags: object) -> _Type:
        dtype = np.dtype(_text(name))
        if dtype.kind not in "iu":
            raise ValueError(f"an array of type {dtype}, where integers belong")
        kind = _Type()
        kind.dtype = dtype
        return kind


class _Encode:
    """`_codecs.encode(text, "latin1")`: how Python 3 writes bytes for Python 2."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        return text.encode("latin1")


class _Nothing:
    """`numpy.ndarray`, an argument of `_reconstruct`. It cannot be called."""

    __slots__ = ()


_STAND_INS = {"numpy._core.multiarray._reconstruct": _Reconstruct, "numpy._core.numeric._frombuffer": _FromBuffer,
              "numpy.dtype": _MakeType, "numpy.ndarray": _Nothing, "_codecs.encode": _Encode}


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value
