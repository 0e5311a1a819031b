"""Find the state dict, class names and image size in what other training scripts save (torchvision, timm, Lightning).

`read_weights` is the entry, for files of torch.save and safetensors. It returns weights under the keys of the network's
own state dict, without the wrappers and prefixes that scripts, DataParallel and torch.compile add.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from torch import Tensor

from alexnet._runtime.local_files import require_no_url
from alexnet.data.class_names import misnumbered, names_in_order, read_class_names, readable_names
from alexnet.errors import UserError, require
from alexnet.models.checkpoint_files import did_you_mean_weights
from alexnet.models.formats.torch_files import StandIn, read_torch_file
from alexnet.models.stored_network import METADATA_KEY

_EMA_WRAPPERS = ("state_dict_ema", "model_ema", "ema")
"""timm's and torchvision's moving averages of the weights. timm loads them in preference to the weights."""

_WRAPPERS = (*_EMA_WRAPPERS, "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module")
"""Keys of a state dict within what a script saves, in the order in which they are tried."""

_PREFIXES = ("module", "_orig_mod", "model", "net", "network", "backbone")
"""First parts of keys: of DataParallel, torch.compile, Lightning, and classes that hold the network."""

_ANYWHERE = ("module", "_orig_mod")
"""Parts that wrap a layer as well: pytorch/examples trains `features.module.0.weight`."""

_COUNTERS = ("n_averaged",)
"""Entries of torch.optim.swa_utils.AveragedModel that are no weights."""

_NAME_KEYS = ("class_to_idx", "idx_to_class", "classes", "class_names", "label_names", "labels", "names", "id2label",
              "label2id")
_NAME_FOLDERS = ("pretrained_cfg", "default_cfg", "config", "hyper_parameters", "hparams", "meta", "args")
"""Keys under which scripts save class names, and keys of dicts that may hold one of them."""

_DEEPEST = 2
"""Levels below a file's outermost dict that are searched. A dict in a file may contain itself."""


@dataclass(frozen=True)
class FoundWeights:
    """What a file of weights holds."""

    state: dict[str, Tensor]
    """Under the network's own keys."""
    content: object = None
    """Everything in the file."""
    metadata: str | None = None
    """The text that `alexnet export` wrote, if it wrote the file."""
    notes: tuple[str, ...] = ()
    """What was chosen among several state dicts."""


def read_weights(path: Path) -> FoundWeights:
    """Read the state dict in a .safetensors file, or in a file that torch.save wrote.

    Raises:
        UserError: the file is missing, truncated, something else, or would need code to be executed.
    """
    require_no_url(path, "weights")
    example = "name a state dict, such as model.pth"
    require(path.exists(), f"{path} does not exist", did_you_mean_weights(path) or example)
    require(path.is_file(), f"{path} is not a file", example)
    if path.suffix == ".safetensors":
        data = path.read_bytes()
        tensors, header = parse_safetensors(data, path), _safetensors_metadata(data)
        return FoundWeights(_without_prefixes(tensors), header, header.get(METADATA_KEY))
    content = read_torch_file(path)
    wrapper, state = _find_state_dict(content)
    if state is None:
        raise UserError(f"{path} holds a {type(content).__name__} that is not a state dict",
                        "save one with torch.save(network.state_dict(), FILE)")
    notes: tuple[str, ...] = ()
    if wrapper in _EMA_WRAPPERS:
        notes = (f"the weights are the moving average {wrapper} in the file, not the weights of the last step",)
    return FoundWeights(_without_prefixes(state), content, _exported_metadata(content), notes)


def _exported_metadata(content: object) -> str | None:
    """What `torchvision.write_torchvision` stored in the attributes of its state dict."""
    versions = getattr(content, "_metadata", None)
    own = versions.get("") if isinstance(versions, Mapping) else None
    text = own.get(METADATA_KEY) if isinstance(own, Mapping) else None
    return text if isinstance(text, str) else None


def parse_safetensors(data: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file; `path` is for the error. Raises UserError if it is damaged."""
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # a damaged header leads to more kinds than SafetensorError
        raise UserError(f"{path} is truncated, or not a safetensors file", "download it again") from error


def _safetensors_metadata(data: bytes) -> dict[str, str]:
    """The texts in the header of a safetensors file that `parse_safetensors` has accepted."""
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8:8 + length]).get("__metadata__", {})
    return {str(key): str(value) for key, value in metadata.items()}


# --- The state dict ---------------------------------------------------------------------------------------------------


def _find_state_dict(content: object, depth: int = 0) -> tuple[str, dict[str, Tensor] | None]:
    """The state dict in what a script saved, and its key, empty if it is everything; None if there is none."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return "", None
    if all(isinstance(value, Tensor) for value in content.values()):
        return "", {str(key): tensor for key, tensor in content.items()}
    for wrapper in _WRAPPERS:
        inner, state = _find_state_dict(content.get(wrapper), depth + 1)
        if state:
            return (inner if inner in _EMA_WRAPPERS else wrapper), state
    return "", None


def _without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the network's own keys."""
    parts = {tuple(part for part in key.split(".") if part not in _ANYWHERE): tensor
             for key, tensor in state.items() if key not in _COUNTERS}
    while parts and len({key[0] for key in parts}) == 1 and next(iter(parts))[0] in _PREFIXES:
        parts = {key[1:]: tensor for key, tensor in parts.items()}
    return {".".join(key): tensor for key, tensor in parts.items()}


# --- Class names and image size ---------------------------------------------------------------------------------------


def find_class_names(found: FoundWeights, path: Path, outputs: int) -> tuple[tuple[str, ...] | None, list[str]]:
    """The names of a network's outputs in a file of weights, or in a text file beside it; and notes about them.

    Beside `net.pth` are looked for: net.classes.txt, classes.txt, and the config.json of a Hugging Face model.

    Returns:
        None where there are none, or where they do not fit; a note then says so.
    """
    notes, fitting = [], {}
    for where, names in _named_lists(found, path):
        if isinstance(names, str):
            notes.append(f"{where} is not used: {names}")
        elif len(names) != outputs:
            notes.append(f"{where} is not used: it has {len(names)} class names, and the network has {outputs} outputs")
        elif len(set(names)) < outputs:
            notes.append(f"{where} is not used: it has a class name twice")
        else:
            fitting[where] = readable_names(names)
    if not fitting:
        return None, notes
    (first, names), *others = fitting.items()
    for where, other_names in others:
        if other_names != names:
            return None, [*notes, f"the class names are not used, because {first} and {where} differ"]
    return names, [*notes, f"the class names are those of {first}"]


def _named_lists(found: FoundWeights, path: Path) -> Iterator[tuple[str, tuple[str, ...] | str]]:
    """Every list of class names within and beside a file, and where it stands; or what is wrong with its indices."""
    yield from ((f"{key} in {path.name}", names) for key, names in _names_within(found.content))
    for beside in (names_file(path), path.with_name("classes.txt")):
        if beside.is_file():
            yield beside.name, read_class_names(beside)
    config = path.with_name("config.json")
    if config.is_file():
        try:
            tree = json.loads(config.read_bytes())
        except (ValueError, RecursionError):
            return
        yield from ((f"{key} in {config.name}", names) for key, names in _names_within(tree))


def _names_within(tree: object, depth: int = 0) -> Iterator[tuple[str, tuple[str, ...] | str]]:
    """Every list of class names in what a script saved, and its key; or what is wrong with its indices."""
    values = vars(tree) if isinstance(tree, StandIn) else tree
    if not isinstance(values, Mapping) or depth > _DEEPEST:
        return
    for key in _NAME_KEYS:
        value = values.get(key)
        names = names_in_order(_parsed(value)) or misnumbered(_parsed(value))
        if names and names != tuple(f"LABEL_{index}" for index in range(len(names))):  # transformers' default
            yield key, names
    for folder in _NAME_FOLDERS:
        yield from ((f"{folder}.{key}", names) for key, names in _names_within(values.get(folder), depth + 1))


def _parsed(value: object) -> object:
    """A value of safetensors' metadata, which is always a text, as JSON."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value


def names_file(path: Path) -> Path:
    """The text file with the class names beside a file of weights: net.classes.txt for net.pth."""
    return path.with_suffix(".classes.txt")


def find_image_size(content: object) -> tuple[int, int] | None:
    """Stored side and crop that torchvision's training script evaluated with, if the file has its options."""
    options = content.get("args") if isinstance(content, Mapping) else None
    values = vars(options) if isinstance(options, StandIn) else {}
    side, crop = values.get("val_resize_size"), values.get("val_crop_size")
    return (side, crop) if isinstance(side, int) and isinstance(crop, int) and 0 < crop <= side else None
