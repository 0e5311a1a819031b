"""Open weights in any format: checkpoint, run, Hugging Face folder or hub (hf://), .pth, ONNX, .npy, or by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alexnet._runtime.hub_address import is_hub_address
from alexnet._runtime.local_files import require_no_url
from alexnet.architecture.spec import Arch
from alexnet.errors import require
from alexnet.models import checkpoint
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.checkpoint_files import did_you_mean_weights
from alexnet.models.formats.huggingface import read_huggingface
from alexnet.models.formats.onnx import read_onnx
from alexnet.models.formats.own_state_dict import Size, has_own_names, read_own
from alexnet.models.formats.packaged_weights import read_packaged
from alexnet.models.formats.recognize import MEAN, TORCH_SUFFIXES, WEIGHTS
from alexnet.models.formats.state_dict import rename_classes
from alexnet.models.formats.tensorflow_npy import read_npy
from alexnet.models.formats.torch_export import read_torch_export
from alexnet.models.formats.torchvision import (
    fetch_torchvision,
    read_torchvision,
    torchvision_checkpoint,
)
from alexnet.models.formats.training_checkpoint import read_weights
from alexnet.models.known_weights import command_names, official_name
from alexnet.models.packaged import is_packaged_json, packaged_path

_READERS = {".onnx": read_onnx, ".pt2": read_torch_export}
"""Of `recognize.EXPORT_SUFFIXES`."""


def open_weights(
    path_or_name: str | Path, classes: Sequence[str] | None = None, arch: str | Arch | None = None, *,
    fall_back: bool = True,
) -> Checkpoint:
    """Load the checkpoint that a path or name means.

    Args:
        path_or_name: a checkpoint, a run's folder, a folder in the Hugging Face layout, a state dict of torchvision's
            or of this package's names, an ONNX or torch.export file that `export` wrote, bvlc_alexnet.npy;
            `pretrained`, the network in the package; `torchvision` or one of `known_weights.OFFICIAL`, which is
            downloaded once into the cache; or hf://USER/NAME[@REVISION], a network on the Hugging Face Hub.
        classes: names of the outputs, in their order; default: those that come with the weights.
        arch: the network of a plain state dict of this package's names (`own_state_dict.read_own`). Everything else
            says its network itself.
        fall_back: as for `checkpoint.load`.

    Raises:
        UserError: it is none of these, or is damaged, or has another number of outputs.
    """
    path = Path(path_or_name)
    if path.is_file() and is_state_dict(path):
        saved = read_state_dict(path, classes, arch=arch)
    else:
        require(arch is None, f"{path_or_name} states its own network, which arch cannot change", "leave out arch")
        saved = _open(path, str(path_or_name), classes, fall_back)
    return rename_classes(saved, classes) if classes is not None else saved


def is_state_dict(path: Path) -> bool:
    """Whether a file's ending is that of a state dict, and it is not one file of a folder that says more."""
    beside = any((path.parent / name).is_file() for name in (MEAN, checkpoint.JSON_FILE))
    return path.suffix in TORCH_SUFFIXES or (path.suffix == ".safetensors" and not beside)


def read_state_dict(
    path: Path, classes: Sequence[str] | None = None, size: Size | None = None, arch: str | Arch | None = None,
) -> Checkpoint:
    """Read a state dict of torchvision's names or of this package's; `arch` is for the latter.

    Args:
        size: side of the images and of the crops; default: what the file says, else 256 and 224 of torchvision's, and
            the network's own of this package's.

    Raises:
        UserError: it is neither, or is damaged, or `arch` is given for torchvision's.
    """
    found = read_weights(path)
    if found.metadata is None and has_own_names(found.state):
        return read_own(found, path, classes, arch, size)
    require(arch is None, f"the network of {path} is known from its layers, and arch cannot change it",
            "leave out arch")
    side, crop = size or (None, None)
    both = (side or max(256, crop or 0), crop or min(224, side or 224)) if size else None
    return torchvision_checkpoint(found, path, classes, both)


def _open(path: Path, name: str, classes: Sequence[str] | None, fall_back: bool) -> Checkpoint:
    if is_hub_address(name):
        from alexnet.models.formats.hub import read_hub  # imports what downloads need

        return read_hub(name)
    if is_packaged_json(path):
        return read_packaged(path)
    for required in (MEAN, checkpoint.JSON_FILE):  # one file of a folder stands for the folder, which holds the rest
        if path.suffix in (".safetensors", ".json") and path.is_file() and (path.parent / required).is_file():
            path = path.parent
    if (path / WEIGHTS).is_file() or (path / MEAN).is_file():
        return read_huggingface(path)
    if path.is_file() and path.suffix == ".npy":
        return read_npy(path, classes)
    if path.is_file() and path.suffix in _READERS:
        return _READERS[path.suffix](path)
    require(not (path.is_file() and path.suffix == ".caffemodel"), f"{path} needs its mean image too",
            f"make a checkpoint of them with alexnet import {path} OUT --mean FILE")
    if not path.exists():
        require_no_url(name, "checkpoints")
        if packaged := packaged_path(name):
            return read_packaged(packaged)
        official = official_name(name)
        require(official is not None, f"{path} does not exist",
                did_you_mean_weights(path, command_names()) or
                "give a run's folder, a checkpoint, a file or folder of weights, or a name of alexnet list weights")
        return read_torchvision(fetch_torchvision(str(official)), classes)
    return checkpoint.load(path, fall_back=fall_back)
