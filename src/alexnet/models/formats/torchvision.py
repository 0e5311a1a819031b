"""Weights of others, in and out: torchvision's state dicts, and the layout of the Hugging Face hub.

What comes in becomes a `Checkpoint`: the network that the weights are for, the preprocessing that they want, and the
names of their classes. Files are read with `weights_only=True` or as safetensors: nothing in them is executed.
"""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import safetensors.torch
import torch
from torch import Tensor

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.download import fetch
from alexnet._runtime.progress import Bar
from alexnet.architecture.presets import TORCHVISION
from alexnet.architecture.spec import Arch
from alexnet.data.imagenet_classes import CLASSES
from alexnet.data.sources.detect import cache_folder
from alexnet.errors import check
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.huggingface import MEAN, WEIGHTS, read_hub, structure

#: torchvision's two files and where it keeps them; each name ends in the first eight digits of the file's SHA-256.
ADDRESS = "https://download.pytorch.org/models/"
OFFICIAL = ("alexnet-owt-7be5be79.pth", "alexnet-owt-4df8aa71.pth")

_TORCH_ENDINGS = (".pth", ".pt", ".bin", ".tar")


def open_weights(path_or_name: str | Path) -> Checkpoint:
    """The checkpoint meant: a checkpoint or run, a folder in the hub's layout, torchvision's file, or its name.

    A name is `torchvision` or one of `OFFICIAL`; it is fetched once from its official address into the cache.
    Raises ValueError, in one sentence with the remedy, for what is none of these, or damaged.
    """
    path = Path(path_or_name)
    for whole in (MEAN, checkpoint.HEAD):  # one file of a folder leaves out what the others say
        if path.suffix in (".safetensors", ".json") and path.is_file() and (path.parent / whole).is_file():
            path = path.parent
    if (path / WEIGHTS).is_file() or (path / MEAN).is_file():
        return read_hub(path)
    if path.is_file() and path.suffix in (*_TORCH_ENDINGS, ".safetensors"):
        return read_torchvision(path)
    check(not (path.is_file() and path.suffix == ".caffemodel"),
          f"{path} wants its mean image too; make a checkpoint of them with alexnet import {path} OUT --mean FILE")
    if not path.exists():
        official = official_name(str(path_or_name))
        check(bool(official), f"{path} does not exist; give a run's folder, a checkpoint, a file or folder of weights, "
              "or the name torchvision")
        return read_torchvision(fetch_torchvision(str(official)))
    return checkpoint.load(path)


# --- torchvision, in --------------------------------------------------------------------------------------------------


def official_name(name: str) -> str | None:
    """The file of torchvision's that a name means; None for any other name."""
    if name == "torchvision":
        return OFFICIAL[0]
    return next((file for file in OFFICIAL if name in (file, file.removesuffix(".pth"))), None)


def fetch_torchvision(name: str) -> Path:
    """One of the `OFFICIAL` files (244 MB), from the cache, or from its official address, checked against its name."""
    digest = name.removesuffix(".pth").rsplit("-", 1)[1]
    with Bar(f"fetching {ADDRESS}{name}", "bytes") as bar:
        return fetch(f"{ADDRESS}{name}", cache_folder() / "weights" / name, f"sha256:{digest}", bar)


def read_torchvision(path: Path, classes: Sequence[str] | None = None) -> Checkpoint:
    """A state dict of torchvision's alexnet, as torch saved it (old pickle or zip) or as safetensors.

    Training scripts wrap it (`state_dict`, `model`) and DataParallel writes `module.` into its keys; both come off.
    classes: names for its outputs; ImageNet's where there are 1,000 and none are given, else numbers.
    Raises ValueError for a file that is cut off, is no state dict, would run code, or has other layers.
    """
    state = _state_dict(path)
    last = state.get("classifier.6.weight")
    check(last is not None and last.ndim > 0, f"{path} has no matrix classifier.6.weight; it is not a state dict of "
          "torchvision's alexnet" + (f", but begins with {next(iter(state))}" if state else ""))
    assert last is not None
    arch = replace(TORCHVISION, classes=max(2, len(last)))
    assert isinstance(arch.input.mean, tuple)
    return Checkpoint(
        arch=arch, classes=name_classes(arch.classes, classes), weights=fit(state, arch, path),
        mean_HWC=torch.tensor(arch.input.mean).reshape(1, 1, 3), provenance=provenance("torchvision", path))


def _state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name. Raises ValueError, in one sentence, whatever is wrong with the file."""
    check(path.is_file(), f"{path} is not a file; name a state dict, such as {OFFICIAL[0]}")
    if path.suffix == ".safetensors":
        return _safetensors(path.read_bytes(), path)
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecated containers, about which a reader can do nothing
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises a dozen kinds for files that are cut off or something else
            why = ("holds more than tensors, so that reading it could run code, and it is not read; save the state "
                   "dict alone: torch.save(network.state_dict(), FILE)" if _wants_code(file, str(error)) else
                   "is cut off, or is not what torch.save writes; download it again")
            raise ValueError(f"{path} {why}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    check(isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values()),
          f"{path} holds a {type(content).__name__} that is no state dict; save one with "
          "torch.save(network.state_dict(), FILE)")
    return {str(key).replace("module.", ""): tensor for key, tensor in content.items()}


def _wants_code(file: BinaryIO, refusal: str) -> bool:
    """Whether torch refused the file for what it wants to have called, and not because it is cut off or no pickle."""
    ended = not file.read(1)  # cut off within the name of a harmless class, it seems to want another
    is_zip = zipfile.is_zipfile(file)
    file.seek(0)
    is_pickle = is_zip or file.read(1) == b"\x80"  # in noise, any byte is an odd operand
    return (is_zip or not ended) and any(
        word in refusal for word in ("GLOBAL", "TorchScript", *["operand"] * is_pickle))


def _safetensors(data: bytes, path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # a header that is damaged leads to more kinds than SafetensorError
        raise ValueError(f"{path} is cut off, or no safetensors file; download it again") from error


def fit(state: Mapping[str, Tensor], arch: Arch, path: Path) -> dict[str, Tensor]:
    """The state dict of that network, from tensors under its own keys; half precision is widened, which loses nothing.

    Raises ValueError for a key that is missing or left over, and for a shape, a type or a value that cannot be, with
    both values.
    """
    with torch.device("meta"):
        wanted = AlexNet(arch).state_dict()
    if missing := [key for key in wanted if key not in state]:
        raise ValueError(f"{path} has no {missing[0]}, which {arch.name} needs ({len(missing)} of {len(wanted)} are "
                         "missing); it holds another network")
    if extra := [key for key in state if key not in wanted]:
        raise ValueError(f"{path} has {extra[0]}, for which {arch.name} has no place; it holds another network")
    fitted = {}
    for key, place in wanted.items():
        tensor = state[key]
        check(tensor.shape == place.shape, f"{path}: {key} is {_shape(tensor)}, and {arch.name} with {arch.classes} "
              f"classes has {_shape(place)} there; it holds another network")
        check(tensor.dtype in (place.dtype, torch.float16, torch.bfloat16),
              f"{path}: {key} is {_dtype(tensor)}, and {arch.name} has {_dtype(place)} there; convert it first")
        check(tensor.layout == torch.strided and not tensor.is_meta, f"{path}: {key} is sparse or has no values, and "
              f"{arch.name} has them all there; save it as a plain tensor")
        check(not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()),
              f"{path}: {key} holds values that are not finite; the training that wrote it had diverged")
        fitted[key] = tensor.to(place.dtype).contiguous()
    return fitted


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def name_classes(count: int, classes: Sequence[str] | None) -> tuple[str, ...]:
    """The names given, or ImageNet's where there are 1,000 outputs, or numbers. Raises ValueError for another count."""
    if classes is None:
        return CLASSES if count == len(CLASSES) else tuple(map(str, range(count)))
    check(len(classes) == count, f"{len(classes)} names of classes were given, and the network has {count} outputs")
    twice = next((name for place, name in enumerate(classes) if name in classes[:place]), None)
    check(twice is None, f"two classes are named {twice!r}; each needs a name of its own")
    return tuple(classes)


def provenance(source: str, path: Path) -> dict[str, str]:
    """What a checkpoint remembers of a file that it was made from."""
    with path.open("rb") as file:
        return {"source": source, "file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


# --- torchvision, out -------------------------------------------------------------------------------------------------


def write_torchvision(saved: Checkpoint, path: Path) -> None:
    """The weights as a state dict that torchvision's alexnet loads with `strict=True` (num_classes = ours).

    Raises ValueError for a network that is not torchvision's.
    """
    arch = replace(TORCHVISION, classes=saved.arch.classes)
    check(structure(saved.arch) == structure(arch),
          f"{saved.arch.name} is not torchvision's network, whose state dict has no place for it; export it to "
          "safetensors, onnx or torch-export")
    with torch.device("meta"):
        ours, theirs = AlexNet(saved.arch).state_dict(), AlexNet(arch).state_dict()
    state = {their: saved.weights[our] for our, their in zip(ours, theirs, strict=True)}
    replace_file(path, partial(torch.save, state))
