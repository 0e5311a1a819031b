"""AlexNet, the 2012 paper as working software.

`alexnet.load()` gives the pretrained network of the package with its preprocessing and classes, and
`alexnet.load(path_or_name)` any other trained network. `alexnet.train(data)` trains one, `alexnet.evaluate(model,
data)` measures it, and `alexnet.check(data)` shows what a data set is understood to be. `alexnet.features(data)` gives
arrays for scikit-learn, and `alexnet.ImageDataset(data)` images for a PyTorch DataLoader.
`alexnet.arch(name)` is a preset, and `alexnet.AlexNet(arch)` its untrained network. Names are imported when they are
first used, so `import alexnet` imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alexnet.api.evaluation import evaluate
    from alexnet.api.features import features
    from alexnet.api.training import TrainedRun, train
    from alexnet.architecture.network_presets import arch
    from alexnet.architecture.recipe import Recipe
    from alexnet.architecture.recipe_presets import recipe
    from alexnet.architecture.spec import Arch, InputSpec
    from alexnet.data.image_dataset import ImageDataset
    from alexnet.errors import UserError
    from alexnet.inference.data_check import check
    from alexnet.inference.predictor import Model, load
    from alexnet.models.alexnet import AlexNet

    __version__: str

_MODULE_OF = {
    "AlexNet": "models.alexnet", "Arch": "architecture.spec", "ImageDataset": "data.image_dataset",
    "InputSpec": "architecture.spec", "Model": "inference.predictor", "Recipe": "architecture.recipe",
    "TrainedRun": "api.training", "UserError": "errors", "arch": "architecture.network_presets",
    "check": "inference.data_check", "evaluate": "api.evaluation", "features": "api.features",
    "load": "inference.predictor", "recipe": "architecture.recipe_presets", "train": "api.training",
}

__all__ = ["AlexNet", "Arch", "ImageDataset", "InputSpec", "Model", "Recipe", "TrainedRun", "UserError", "__version__",
           "arch", "check", "evaluate", "features", "load", "recipe", "train"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from alexnet._runtime.software import own_version

        return own_version()
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'alexnet' has no attribute {name!r}")
    return getattr(import_module(f"alexnet.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
