"""Arguments of the public functions: numbers and names as Python's own, and a sentence for what is neither.

The command line gives strings and ints. A notebook gives NumPy's numbers, `pathlib` paths, lists, tables and arrays.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable
from typing import Any

from alexnet.errors import UserError, require

_SAVE_FIRST = ("give the folder that the images are in; images or labels in memory have to be saved first: a folder of "
               "images for each class, or a CSV file with the columns file_name and label")


def plain(value: Any) -> Any:
    """A number of NumPy or torch as Python's own, which JSON can hold; any other value as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def whole_number(name: str, value: Any, at_least: int | None = 1) -> int:
    """An argument that counts something.

    Args:
        name: of the argument: `batch_size`, which the error calls `--batch-size`, as the command line does.
        value: what was given.
        at_least: the smallest allowed; None: the caller has a rule of its own.

    Raises:
        UserError: it is a fraction or no number, or is smaller.
    """
    try:
        count = operator.index(value)
    except TypeError:
        raise UserError(f"{_option(name)} {_shown(value)} must be a whole number") from None
    require(at_least is None or count >= at_least, f"{_option(name)} {count} must be at least {at_least}")
    return count


def real_number(name: str, value: Any) -> float:
    """An argument that is a number, such as minutes. Raises UserError for anything else."""
    converted = plain(value)
    require(isinstance(converted, int | float), f"{_option(name)} {_shown(value)} must be a number")
    return float(converted)


def optional_text(name: str, value: Any) -> str | None:
    """An argument that is a path or a word, or None. Raises UserError for anything else, such as a table in memory."""
    if value is None:
        return None
    text = _text(value)
    if text is None:
        remedy = _SAVE_FIRST if name == "labels" else ""
        raise UserError(f"{name} must be a path or a word, and this is of type {type(value).__name__}", remedy)
    return text


def data_name(data: Any) -> str:
    """What the user calls DATA. Raises UserError for anything but a path, a URL or a name, and for an empty one."""
    text = _text(data)
    if text is None:
        raise UserError("data must be a path, a URL or a name such as cifar10, and this is of type "
                        f"{type(data).__name__}", _SAVE_FIRST)
    require(bool(text), "the data has an empty name", "give a folder, an archive, a URL or a name such as cifar10")
    return text


def weights_name(weights: Any) -> str:
    """The path or name of trained weights. Raises UserError for anything else, and for an empty one."""
    text = _text(weights)
    if text is None:
        raise UserError(
            f"trained weights must be a path or a name, and this is of type {type(weights).__name__}",
            "a network alone has no preprocessing and no classes: save a checkpoint of it and give that; "
            "of a loaded model give model.path")
    require(bool(text), "the weights have an empty name", "give a run's folder, a checkpoint or a name of weights")
    return text


def class_names(classes: Iterable[str] | None) -> tuple[str, ...] | None:
    """The names of a network's outputs in their order; None without any.

    Raises:
        UserError: it is one string, which may name a file, something without an order, or not all are strings.
    """
    if classes is None:
        return None
    remedy = "give a list of strings; of a file with one name a line: Path(file).read_text().splitlines()"
    if isinstance(classes, str | os.PathLike | set | frozenset | dict) or not isinstance(classes, Iterable):
        raise UserError("classes must be a list of names, in the order of the outputs, and this is of type "
                        f"{type(classes).__name__}", remedy)
    names = tuple(classes)
    for name in names:
        require(isinstance(name, str), f"classes has {_shown(name)}, which is not a string", remedy)
    return tuple(map(str, names))


def _text(value: Any) -> str | None:
    """A string, or that of a path; None for anything else."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    return str(text) if isinstance(text, str) else None


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, int | float) else repr(value)
    return text if len(text) <= 100 else f"of type {type(value).__name__}"
