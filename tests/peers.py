"""Other libraries' implementations to compare with: each function imports one, or skips the test with the reason."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType

import torch

from requirements import missing

_declared: list[torch.library.Library] = []
"""torch drops the operators of a library when the library is garbage-collected."""


@functools.cache
def torchvision() -> ModuleType:
    """torchvision's Python module, with or without its compiled operators.

    The wheel on PyPI is built for CUDA. With a CPU build of torch its library cannot be loaded, and the import fails
    with `operator torchvision::nms does not exist`. Declaring the operators without an implementation is enough: the
    import only registers their shapes, and AlexNet calls none of them.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        missing("torchvision is not installed; pip install '.[test]'")
    if "torchvision" not in sys.modules:  # a failed import leaves its submodules behind
        for name in [name for name in sys.modules if name.startswith("torchvision.")]:
            del sys.modules[name]
    folder = Path(next(iter(spec.submodule_search_locations)))
    for compiled in folder.glob("_C.*"):
        with contextlib.suppress(OSError):
            torch.ops.load_library(compiled)
    described = set(re.findall(r"torchvision::(\w+)", (folder / "_meta_registrations.py").read_text()))
    undeclared = sorted(name for name in described if not hasattr(torch.ops.torchvision, name))
    if undeclared:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in undeclared:
            library.define(f"{name}() -> ()")
        _declared.append(library)
    return _imported("torchvision")


@functools.cache
def kornia() -> ModuleType:
    """The module kornia."""
    return _imported("kornia")


@functools.cache
def torchinfo() -> ModuleType:
    """The module torchinfo."""
    return _imported("torchinfo")


def _imported(name: str) -> ModuleType:
    if importlib.util.find_spec(name) is None:
        missing(f"{name} is not installed; pip install '.[test]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning of another library's import is not our failure
        try:
            return importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as problem:
            missing(f"{name} is installed and cannot be imported: {problem}")
