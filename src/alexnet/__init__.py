"""AlexNet, the 2012 paper as working software.

`alexnet.load(path_or_name)` gives a trained network with its preprocessing and classes; `alexnet.arch(name)` a preset,
and `alexnet.AlexNet(arch)` the untrained network of one. Importing the package imports no torch until one is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet.architecture.presets import arch, recipe
    from alexnet.architecture.recipe import Recipe
    from alexnet.architecture.spec import Arch, InputSpec
    from alexnet.inference.predictor import Model, load
    from alexnet.models.alexnet import AlexNet

_HOMES = {"Arch": "architecture.spec", "InputSpec": "architecture.spec", "Recipe": "architecture.recipe",
          "arch": "architecture.presets", "recipe": "architecture.presets", "AlexNet": "models.alexnet",
          "Model": "inference.predictor", "load": "inference.predictor"}

__all__ = ["AlexNet", "Arch", "InputSpec", "Model", "Recipe", "arch", "load", "recipe"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'alexnet' has no attribute {name!r}")
    return getattr(import_module(f"alexnet.{_HOMES[name]}"), name)
