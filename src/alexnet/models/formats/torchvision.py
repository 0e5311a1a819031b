"""torchvision's AlexNet weights (.pth): download them by name, read and write its state dict with class names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from alexnet._runtime.atomic_files import replace_durably, replace_file
from alexnet._runtime.cache import cache_folder
from alexnet.architecture.network_presets import TORCHVISION
from alexnet.architecture.spec import InputSpec
from alexnet.data.class_names import printable
from alexnet.errors import UserError, require
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.checkpoint_metadata import license_metadata, restore, to_text
from alexnet.models.formats.state_dict import (
    assumed_names,
    check_state_dict,
    name_outputs,
    rename_classes,
    replacement_notes,
    structure,
)
from alexnet.models.formats.training_checkpoint import (
    FoundWeights,
    find_class_names,
    find_image_size,
    names_file,
    read_weights,
)
from alexnet.models.known_weights import OFFICIAL, TORCHVISION_ADDRESS
from alexnet.models.known_weights import TORCHVISION as TORCHVISION_WEIGHTS
from alexnet.models.provenance import file_provenance
from alexnet.models.seen import SeenImages
from alexnet.models.stored_network import METADATA_KEY

ADDRESS = TORCHVISION_ADDRESS
OFFICIAL_DIGESTS = tuple(name.removesuffix(".pth").rsplit("-", 1)[1] for name in OFFICIAL)
_MOST_BYTES = 250_000_000
"""Of a download: the official files have 244.4 million."""


def fetch_torchvision(name: str) -> Path:
    """Download one of the `OFFICIAL` files (244 MB) into the cache, unless it is there, and verify its checksum.

    Raises:
        UserError: the download fails, or the file has another checksum.
    """
    from alexnet._runtime.download import Download, fetch, require_checksum
    from alexnet._runtime.progress import Bar  # imports rich, which loading other weights does without

    digest = name.removesuffix(".pth").rsplit("-", 1)[1]
    path = cache_folder() / "weights" / name
    if path.is_file():
        require_checksum(path, f"sha256:{digest}")
        return path
    with Bar(f"fetching {ADDRESS}{name}", "bytes") as bar:
        return fetch(Download(f"{ADDRESS}{name}", f"sha256:{digest}", _MOST_BYTES), path, bar)


def read_torchvision(
    path: Path, classes: Sequence[str] | None = None, size: tuple[int, int] | None = None,
) -> Checkpoint:
    """Read a state dict of torchvision's alexnet, from torch.save (old pickle or zip) or safetensors.

    A file that `write_torchvision` wrote has all of its checkpoint. For any other file, `Provenance.assumed` says what
    the file does not say.

    Args:
        path: the file.
        classes: names of the outputs; default: those within the file or beside it, else ImageNet's for 1,000 outputs,
            else unknown.
        size: stored side and crop of the input; default: those that the file says, else torchvision's 256 and 224.

    Raises:
        UserError: the file is truncated, is no state dict, would run code, or has other layers.
    """
    return torchvision_checkpoint(read_weights(path), path, classes, size)


def torchvision_checkpoint(
    found: FoundWeights, path: Path, classes: Sequence[str] | None = None, size: tuple[int, int] | None = None,
) -> Checkpoint:
    """As `read_torchvision`, of a file that has been read."""
    if found.metadata is not None:
        require(size is None, f"{path} says the size of its input", "leave out --side and --crop")
        saved = restore(found.metadata, found.state, path)
        return rename_classes(saved, classes) if classes else saved
    state = found.state
    last = state.get("classifier.6.weight")
    if last is None or last.ndim == 0:
        begins = f", but begins with {next(iter(state))}" if state else ""
        raise UserError(f"{path} has no matrix classifier.6.weight",
                        f"it is not a state dict of torchvision's alexnet{begins}")
    arch = replace(TORCHVISION, classes=max(2, len(last)))
    weights, provenance = check_state_dict(state, arch, path), file_provenance("torchvision", path)
    names, notes = find_class_names(found, path, arch.classes)
    if classes is not None:
        notes = replacement_notes(names, classes) if names else []
        names = tuple(classes)
    official = provenance["sha256"].startswith(OFFICIAL_DIGESTS)
    require(not (official and size), f"{path} is torchvision's, whose input is known", "leave out --side and --crop")
    if official:
        provenance["license"] = TORCHVISION_WEIGHTS.license
    else:
        spec, assumed = _assumed_input(arch.input, size or find_image_size(found.content))
        arch = replace(arch, input=spec)
        provenance["assumed"] = [*found.notes, *notes, *assumed_names(arch.classes, names), *assumed]
    assert isinstance(arch.input.mean, tuple)
    return Checkpoint(
        arch=arch, weights=weights, **name_outputs(arch.classes, names), provenance=provenance,
        mean_HWC=torch.tensor(arch.input.mean).reshape(1, 1, 3), seen=SeenImages.not_recorded(
            "torchvision's weights" if official else f"the weights in {path.name}"))


def _assumed_input(spec: InputSpec, size: tuple[int, int] | None) -> tuple[InputSpec, list[str]]:
    """torchvision's input with the size that is known, and a sentence on what is not."""
    normalization = "torchvision's mean and scale of each color"
    if size:
        return replace(spec, side=size[0], crop=size[1]), [f"the file does not say how pixels are normalized: "
                                                           f"{normalization} are assumed"]
    return spec, [f"the file does not say what its images were like: {spec.crop}x{spec.crop} crops of images of "
                  f"{spec.side} pixels and {normalization} are assumed; if they were others, use alexnet import with "
                  "--side and --crop"]


def write_torchvision(saved: Checkpoint, path: Path) -> None:
    """Write a state dict that torchvision's alexnet, with as many classes, loads with `strict=True`.

    Everything else of the checkpoint is stored in the state dict's `_metadata`, an attribute in which torch.nn keeps
    the versions of modules. Known class names are also written beside it, as text: net.classes.txt for net.pth. A
    temperature is folded into the last layer, whose weights and biases are divided by it.

    Raises:
        UserError: the network is not torchvision's, or the text file is there with other names.
    """
    arch = replace(TORCHVISION, classes=saved.arch.classes)
    require(structure(saved.arch) == structure(arch),
            f"{saved.arch.name} is not torchvision's network, whose state dict has no place for it",
            "export it to a FOLDER, FILE.onnx or FILE.pt2")
    lines = "".join(f"{printable(name)}\n" for name in saved.classes if saved.class_names_known).encode()
    beside = names_file(path)
    require(not beside.exists() or beside.read_bytes() == lines, f"{beside} is there and holds other class names",
            "move it away, or choose another name for the exported file")
    with torch.device("meta"):
        saved_keys, torchvision_keys = list(AlexNet(saved.arch).state_dict()), list(AlexNet(arch).state_dict())
    state = OrderedDict(
        (key, saved.weights[saved_key]) for key, saved_key in zip(torchvision_keys, saved_keys, strict=True))
    if temperature := saved.calibration.get("temperature"):
        state |= {key: state[key] / temperature for key in torchvision_keys[-2:]}
    text = to_text(replace(saved, arch=replace(saved.arch, state_keys="torchvision"), calibration={}))
    vars(state)["_metadata"] = OrderedDict({"": {"version": 1, METADATA_KEY: text, **license_metadata(saved)}})
    replace_file(path, partial(torch.save, state))
    if lines:
        replace_durably(beside, lines)
