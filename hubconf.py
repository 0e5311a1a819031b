"""Entry points for torch.hub: every preset network by name, and `model`, a trained one with preprocessing and classes.

torch.hub.load(".", "paper", source="local")                       from a folder of this repository
torch.hub.load(".", "model", "runs/mine", source="local")          a run, a checkpoint, an exported folder, a .pth

A hyphen in a preset's name becomes an underscore: paper-bn is `paper_bn`.
"""

import sys as _sys
from pathlib import Path as _Path

dependencies = ["torch", "numpy", "PIL", "simplejpeg", "safetensors"]

# torch.hub runs this file from a folder, so the package may not be installed.
_sys.path.insert(0, str(_Path(__file__).parent / "src"))

from alexnet.architecture.network_presets import ARCHS as _ARCHS  # noqa: E402


def model(path_or_name, device="cpu"):
    """A trained model: `.network`, `.preprocess`, `.classes`, `.predict(images)`.

    Args:
        path_or_name: a run, a checkpoint, an exported folder, a file of torchvision's weights, or the name
            `torchvision`, which is downloaded.
        device: as for torch.
    """
    from alexnet.inference.predictor import load

    return load(path_or_name, device)


def _entry(arch):
    def entry(classes=1000, seed=0):
        from dataclasses import replace

        from alexnet.models.alexnet import AlexNet

        return AlexNet(replace(arch, classes=classes), seed)

    entry.__name__ = arch.name.replace("-", "_")
    entry.__doc__ = (f"The untrained network `{arch.name}`, for inputs of {arch.input.crop}x{arch.input.crop} pixels, "
                     "with `classes` outputs. `seed` decides its weights.")
    return entry


for _arch in _ARCHS.values():
    globals()[_arch.name.replace("-", "_")] = _entry(_arch)
