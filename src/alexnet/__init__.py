"""AlexNet, the 2012 paper as working software.

`alexnet.load(path_or_name)` gives a trained network with its preprocessing and classes; `alexnet.arch(name)` a preset,
and `alexnet.AlexNet(arch)` the untrained network of one. Importing the package imports no torch until one is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet.config import Arch, InputSpec, Recipe, arch, recipe
    from alexnet.model import AlexNet
    from alexnet.predict import Model, load

_HOMES = {"Arch": "config", "InputSpec": "config", "Recipe": "config", "arch": "config", "recipe": "config",
          "AlexNet": "model", "Model": "predict", "load": "predict"}

__all__ = ["AlexNet", "Arch", "InputSpec", "Model", "Recipe", "arch", "load", "recipe"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'alexnet' has no attribute {name!r}")
    return getattr(import_module(f"alexnet.{_HOMES[name]}"), name)
