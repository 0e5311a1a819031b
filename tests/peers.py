"""Other people's implementations to agree with: each function imports one, or skips the test that asked, saying why."""

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

import pytest
import torch

_declared: list[torch.library.Library] = []
"""Operators last as long as the library that declared them."""


@functools.cache
def torchvision() -> ModuleType:
    """torchvision's Python module, with or without its compiled half.

    The wheel on PyPI is built for CUDA; beside a torch for CPUs its library does not load, and the import then stops at
    `operator torchvision::nms does not exist`. Declaring such names without a body is enough: the import only
    describes them, and nothing of AlexNet calls them.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("torchvision is not installed")
    if "torchvision" not in sys.modules:  # an import that failed before leaves its submodules behind
        for name in [name for name in sys.modules if name.startswith("torchvision.")]:
            del sys.modules[name]
    folder = Path(next(iter(spec.submodule_search_locations)))
    for compiled in folder.glob("_C.*"):
        with contextlib.suppress(OSError):
            torch.ops.load_library(compiled)
    described = set(re.findall(r"torchvision::(\w+)", (folder / "_meta_registrations.py").read_text()))
    missing = sorted(name for name in described if not hasattr(torch.ops.torchvision, name))
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in missing:
            library.define(f"{name}() -> ()")
        _declared.append(library)
    return _imported("torchvision")


@functools.cache
def kornia() -> ModuleType:
    """kornia, whole."""
    return _imported("kornia")


@functools.cache
def torchinfo() -> ModuleType:
    """torchinfo, whole."""
    return _imported("torchinfo")


def _imported(name: str) -> ModuleType:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a peer's import warns of is no failure of ours
        try:
            return importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as problem:
            pytest.skip(f"{name} is installed and does not import: {problem}")
