"""Tensors of other projects' weight files: read without executing anything, and checked against an `Arch`."""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import safetensors.torch
import torch
from torch import Tensor

from alexnet.architecture.spec import LRN, Arch, InputSpec
from alexnet.data.imagenet_classes import CLASSES
from alexnet.errors import require
from alexnet.models.alexnet import AlexNet

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".tar")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name. Raises ValueError, in one sentence, whatever is wrong with the file."""
    require(path.is_file(), f"{path} is not a file; name a state dict, such as model.pth")
    if path.suffix == ".safetensors":
        return parse_safetensors(path.read_bytes(), path)
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
    require(isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values()),
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


def parse_safetensors(data: bytes, path: Path) -> dict[str, Tensor]:
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
        require(tensor.shape == place.shape, f"{path}: {key} is {shape_of(tensor)}, and {arch.name} with {arch.classes} "
              f"classes has {shape_of(place)} there; it holds another network")
        require(tensor.dtype in (place.dtype, torch.float16, torch.bfloat16),
              f"{path}: {key} is {dtype_of(tensor)}, and {arch.name} has {dtype_of(place)} there; convert it first")
        require(tensor.layout == torch.strided and not tensor.is_meta, f"{path}: {key} is sparse or has no values, and "
              f"{arch.name} has them all there; save it as a plain tensor")
        require(not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()),
              f"{path}: {key} holds values that are not finite; the training that wrote it had diverged")
        fitted[key] = tensor.to(place.dtype).contiguous()
    return fitted


def shape_of(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def dtype_of(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def name_classes(count: int, classes: Sequence[str] | None) -> tuple[str, ...]:
    """The names given, or ImageNet's where there are 1,000 outputs, or numbers. Raises ValueError for another count."""
    if classes is None:
        return CLASSES if count == len(CLASSES) else tuple(map(str, range(count)))
    require(len(classes) == count, f"{len(classes)} names of classes were given, and the network has {count} outputs")
    twice = next((name for place, name in enumerate(classes) if name in classes[:place]), None)
    require(twice is None, f"two classes are named {twice!r}; each needs a name of its own")
    return tuple(classes)


def provenance(source: str, path: Path) -> dict[str, str]:
    """What a checkpoint remembers of a file that it was made from."""
    with path.open("rb") as file:
        return {"source": source, "file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def structure(arch: Arch) -> Arch:
    """The network with all that plays no part in what it computes, at test, set to one value."""
    lrn = arch.lrn if arch.norm == "lrn" else LRN()
    lrn = replace(lrn, within_tower=lrn.within_tower and arch.towers > 1)
    return replace(
        arch, name="", input=InputSpec(), dropout=0.0, dropout_before=False, initialization="gaussian",
        output_init_std=0.0, output_init_bias=0.0, state_keys="names", lrn=lrn,
        towers=arch.towers if lrn.within_tower or any(conv.grouped for conv in arch.conv) else 1,
        conv=tuple(replace(conv, init_std=0.0, init_bias=0.0, post_ops=" ".join(arch.post_ops(number)))
                   for number, conv in enumerate(arch.conv, 1)),
        dense=tuple(replace(dense, init_std=0.0, init_bias=0.0) for dense in arch.dense))
