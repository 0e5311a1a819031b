"""A plain state dict under this package's own layer names (`features.conv1.weight`): find its network by the shapes.

`torch.save(network.state_dict(), FILE)` writes such a file. It has the weights and nothing else. Everything else is
taken from the preset network whose tensors have the same names and shapes, and a note tells the user.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import ARCHS, TORCHVISION
from alexnet.architecture.network_presets import arch as preset
from alexnet.architecture.overrides import override
from alexnet.architecture.spec import Arch
from alexnet.errors import UserError, require
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.checkpoint_metadata import check_mean
from alexnet.models.formats.state_dict import assumed_names, check_state_dict, name_outputs, replacement_notes, shape_of
from alexnet.models.formats.training_checkpoint import FoundWeights, find_class_names
from alexnet.models.provenance import file_provenance
from alexnet.models.seen import SeenImages

Size = tuple[int | None, int | None]
"""Side of the stored images and of the crops in pixels; None where it is not given."""

_LARGEST_CROP = 512
"""Crops, in pixels, up to which one is searched that fits the first fully connected layer."""

MEAN = "preprocess.mean"
"""The mean's name in the tensor file of a checkpoint folder."""


def has_own_names(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors have this package's names of layers."""
    return "features.conv1.weight" in state


def read_own(
    found: FoundWeights, path: Path, classes: Sequence[str] | None = None, arch: str | Arch | None = None,
    size: Size | None = None,
) -> Checkpoint:
    """The checkpoint of a plain state dict; `Provenance.assumed` says what the file does not say.

    Args:
        found: what the file holds.
        path: the file, for errors and for class names beside it.
        classes: names of the outputs; default: those within the file or beside it, else unknown.
        arch: the network, or the name of a preset, which then gets the widths and kernels of the file; default: the
            preset whose tensors have the same names and shapes.
        size: side of the images and of the crops; default of each: that of `arch`, or of the preset.

    Raises:
        UserError: no network fits, or several fit that compute different functions.
    """
    state = {key: tensor for key, tensor in found.state.items() if key != MEAN}
    network, notes = _network(state, path, arch, size)
    _check_size(state, network, path)
    weights = check_state_dict(state, network, path)
    names, name_notes = find_class_names(found, path, network.classes)
    if classes is not None:
        name_notes = replacement_notes(names, classes) if names else []
        names = tuple(classes)
    network, mean_HWC, mean_notes = _mean(network, found.state.get(MEAN), path)
    provenance = file_provenance("alexnet", path)
    provenance["assumed"] = [*notes, *found.notes, *name_notes, *assumed_names(network.classes, names), *mean_notes]
    return Checkpoint(arch=network, weights=weights, **name_outputs(network.classes, names), provenance=provenance,
                      mean_HWC=mean_HWC, seen=SeenImages.not_recorded(f"the weights in {path.name}"))


def _network(
    state: Mapping[str, Tensor], path: Path, given: str | Arch | None, size: Size | None,
) -> tuple[Arch, list[str]]:
    """The network of a state dict, and notes on what was assumed about it."""
    if isinstance(given, Arch):
        return _sized(replace(given, classes=_outputs(state)), size), []
    if given is not None:
        return _with_shapes(_sized(preset(given), size), state), []
    fitting = _fitting(state, size)
    names = [network.name for network in fitting]
    if not fitting and size and len(others := _fitting(state, None)) == 1:
        crop = others[0].input.crop
        raise UserError(f"the tensors in {path} are those of {others[0].name} with crops of {crop}x{crop}, and not of "
                        "the given size", "leave out --side and --crop")
    if len(fitting) != 1:
        first = f"features.conv1.weight is {shape_of(state['features.conv1.weight'])}"
        problem = f"the tensors in {path} fit {', '.join(names)}" if fitting else (
            f"the tensors in {path} have the names of this package's layers, and the shapes of none of its networks "
            f"({first})")
        raise UserError(problem, f'say which: alexnet.load("{path}", arch="{names[0] if names else "small"}"), or '
                        f"alexnet import {path} OUT --arch {names[0] if names else 'small'}"
                        + ("" if fitting or size else ", with --side and --crop if they are not that network's"))
    spec = fitting[0].input
    return fitting[0], [f"the file does not say its network: {names[0]} is assumed, whose tensors have these shapes, "
                        f"with {spec.crop}x{spec.crop} crops of images of {spec.side} pixels"]


def _fitting(state: Mapping[str, Tensor], size: Size | None) -> list[Arch]:
    """The preset networks whose tensors have these names and shapes."""
    shapes = {key: tensor.shape for key, tensor in state.items()}
    fitting = []
    for each in ARCHS.values():
        with suppress(UserError):  # images of this size are too small for this network
            network = _sized(replace(each, classes=_outputs(state)), size)
            fitting += [network] if _shapes(network) == shapes else []
    return fitting


def _sized(network: Arch, size: Size | None) -> Arch:
    """The network with another input: the sides that are given, and its own where they fit these."""
    side, crop = size or (None, None)
    spec = network.input
    side = side or max(spec.side, crop or 0)
    return replace(network, input=replace(spec, side=side, crop=crop or min(spec.crop, side)))


def _check_size(state: Mapping[str, Tensor], network: Arch, path: Path) -> None:
    """Raise UserError if only the inputs of the first fully connected layer have another number than the network's.

    It follows from the crop, while no convolution depends on it.
    """
    key = f"classifier.fc{len(network.conv) + 1}.weight"
    expected, found = _shapes(network).get(key), state.get(key)
    if expected is None or found is None or found.ndim != 2:
        return
    (rows, columns), maps = expected, network.conv[-1].width
    require(found.shape[0] != rows or found.shape[1] == columns or found.shape[1] % maps != 0,
            f"{path}: {key} is {shape_of(found)}, and {network.name} with {network.classes} classes and crops of "
            f"{network.input.crop}x{network.input.crop} has {rows}x{columns} there",
            f"its network had crops of another size; {_fitting_crops(network, found.shape[1], path)}; in Python with "
            "arch=alexnet.Arch(...)")


def _fitting_crops(network: Arch, inputs: int, path: Path) -> str:
    """The remedy for a first fully connected layer with so many inputs: what crops give it."""
    own = preset(network.name).input.crop if network.name in ARCHS else 0
    fits, first = list[int](), f"fc{len(network.conv) + 1}"
    for crop in range(1, _LARGEST_CROP + 1):
        with suppress(UserError):  # too small for this network
            (layer,) = (layer for layer in explain(network, crop).layers if layer.name == first)
            fits += [crop] if math.prod(layer.input_shape) == inputs else []
    if own in fits:
        return f"crops of {own}x{own} fit, which are its own: leave out --side and --crop"
    if not fits:
        return "say which with --side and --crop"
    return (f"crops of {fits[0]} to {fits[-1]} pixels fit: say which it had, as in alexnet import {path} OUT --arch "
            f"{network.name} --side {fits[-1]} --crop {fits[-1]}")


def _outputs(state: Mapping[str, Tensor]) -> int:
    """The rows of the last matrix: the number of classes."""
    matrices = [tensor for key, tensor in state.items() if key.startswith("classifier.fc") and tensor.ndim == 2]
    return max(2, len(matrices[-1])) if matrices else 2


def _shapes(network: Arch) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {key: tensor.shape for key, tensor in AlexNet(network, seed=None).state_dict().items()}


def _with_shapes(network: Arch, state: Mapping[str, Tensor]) -> Arch:
    """A preset with the numbers that the tensors say: widths, kernel sizes, classes."""
    settings = [f"classes={_outputs(state)}"]
    for number in range(1, len(network.conv) + 1):
        weight = state.get(f"features.conv{number}.weight")
        if weight is not None and weight.ndim == 4:
            settings += [f"conv{number}.width={len(weight)}", f"conv{number}.kernel={weight.shape[-1]}"]
    for place in range(1, len(network.dense) + 1):
        weight = state.get(f"classifier.fc{len(network.conv) + place}.weight")
        if weight is not None and weight.ndim == 2:
            settings.append(f"dense{place}.width={len(weight)}")
    return override(network, settings)


def _mean(network: Arch, stored: Tensor | None, path: Path) -> tuple[Arch, Tensor, list[str]]:
    """The network with the mean that the file has, or that its preset gives, or that is assumed; the mean; notes."""
    if stored is not None:
        check_mean(stored, network.input.side, path)
        return network, stored, []
    if isinstance(network.input.mean, tuple):
        return network, torch.tensor(network.input.mean).reshape(1, 1, 3), []
    color = TORCHVISION.input.mean
    assert isinstance(color, tuple)
    note = (f"the file has no mean: ImageNet's mean color ({', '.join(f'{number:.1f}' for number in color)}) is "
            "assumed; a checkpoint folder has the mean that the network was trained with")
    return replace(network, input=replace(network.input, mean=color)), torch.tensor(color).reshape(1, 1, 3), [note]
