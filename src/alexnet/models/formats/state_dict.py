"""State dicts of other projects: read .pth and .safetensors files safely, and check them against an `Arch`."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TypedDict

import safetensors.torch
import torch
from torch import Tensor

from alexnet.architecture.spec import LRN, Arch, InputSpec
from alexnet.data.class_names import require_count, require_distinct, unknown_names
from alexnet.data.imagenet_classes import CLASSES
from alexnet.errors import UserError, require
from alexnet.models.alexnet import AlexNet

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".tar")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file, or of a file that torch.save wrote.

    Training scripts wrap the state dict (`state_dict`, `model`), and DataParallel prefixes its keys with `module.`;
    both are removed.

    Raises:
        UserError: the file is missing, truncated, something else, or would need code to be executed.
    """
    require(path.is_file(), f"{path} is not a file", "name a state dict, such as model.pth")
    if path.suffix == ".safetensors":
        return parse_safetensors(path.read_bytes(), path)
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about deprecated containers; a reader cannot change the file
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises a dozen kinds for files that are truncated or something else
            if _needs_code(file, str(error)):
                raise UserError(f"{path} holds more than tensors, and reading it could run code",
                                "save the state dict alone: torch.save(network.state_dict(), FILE)") from error
            raise UserError(f"{path} is truncated, or torch.save did not write it", "download it again") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    require(isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values()),
            f"{path} holds a {type(content).__name__} that is no state dict",
            "save one with torch.save(network.state_dict(), FILE)")
    return {str(key).replace("module.", ""): tensor for key, tensor in content.items()}


def _needs_code(file: BinaryIO, message: str) -> bool:
    """Whether torch refused a file because it would call functions, and not because it is truncated or no pickle.

    torch has one exception for all of these, so its message is searched, and the file is looked at as well.
    """
    at_end = not file.read(1)  # a file that ends within a class's name seems to ask for another class
    is_zip = zipfile.is_zipfile(file)
    file.seek(0)
    is_pickle = is_zip or file.read(1) == b"\x80"  # in other files any byte is an unknown operand
    return (is_zip or not at_end) and any(
        word in message for word in ("GLOBAL", "TorchScript", *["operand"] * is_pickle))


def parse_safetensors(data: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file; `path` is for the error. Raises UserError if it is damaged."""
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # a damaged header leads to more kinds than SafetensorError
        raise UserError(f"{path} is truncated, or no safetensors file", "download it again") from error


def check_state_dict(state: Mapping[str, Tensor], arch: Arch, path: Path) -> dict[str, Tensor]:
    """Check that tensors are the state dict of a network, and return it; half precision is converted to float32.

    Args:
        state: tensors under the network's own keys.
        arch: the network.
        path: the file they are from, for the errors.

    Raises:
        UserError: a key is missing or unknown, or a tensor has a wrong shape, type, layout or value.
    """
    with torch.device("meta"):
        expected = AlexNet(arch).state_dict()
    other = "it holds another network"
    if missing := [key for key in expected if key not in state]:
        raise UserError(f"{path} has no {missing[0]}, which {arch.name} needs ({len(missing)} of {len(expected)} are "
                        "missing)", other)
    if unknown := [key for key in state if key not in expected]:
        raise UserError(f"{path} has {unknown[0]}, for which {arch.name} has no place", other)
    fitted = {}
    for key, target in expected.items():
        tensor, where = state[key], f"{path}: {key}"
        require(tensor.shape == target.shape, f"{where} is {shape_of(tensor)}, and {arch.name} with {arch.classes} "
                f"classes has {shape_of(target)} there", other)
        require(tensor.dtype in (target.dtype, torch.float16, torch.bfloat16),
                f"{where} is {dtype_of(tensor)}, and {arch.name} has {dtype_of(target)} there", "convert it first")
        require(tensor.layout == torch.strided and not tensor.is_meta, f"{where} is sparse or has no values",
                "save it as a plain tensor")
        require(not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()),
                f"{where} holds values that are not finite", "the training that wrote it had diverged")
        fitted[key] = tensor.to(target.dtype).contiguous()
    return fitted


def shape_of(tensor: Tensor) -> str:
    """A shape as 96x3x11x11."""
    return "x".join(map(str, tensor.shape)) or "a single number"


def dtype_of(tensor: Tensor) -> str:
    """float32, and not torch.float32."""
    return str(tensor.dtype).removeprefix("torch.")


class OutputNames(TypedDict):
    """Two fields of a `Checkpoint`."""

    classes: tuple[str, ...]
    class_names_known: bool


def name_outputs(outputs: int, names: Sequence[str] | None) -> OutputNames:
    """Check the class names of a network; default: ImageNet's for 1,000 outputs, else they are unknown.

    Raises:
        UserError: another number of names is given, or a name twice.
    """
    if names is None:
        known = outputs == len(CLASSES)
        return {"classes": CLASSES if known else unknown_names(outputs), "class_names_known": known}
    require_count(names, outputs)
    require_distinct(names)
    return {"classes": tuple(names), "class_names_known": True}


def structure(arch: Arch) -> Arch:
    """The network with every field that does not change its output in evaluation mode set to a fixed value.

    Two networks with equal structures compute the same function of the same weights.
    """
    lrn = arch.lrn if arch.norm == "lrn" else LRN()
    lrn = replace(lrn, within_tower=lrn.within_tower and arch.towers > 1)
    return replace(
        arch, name="", input=InputSpec(), dropout=0.0, dropout_on_inputs=False, initialization="gaussian",
        output_init_std=0.0, output_init_bias=0.0, state_keys="names", lrn=lrn,
        towers=arch.towers if lrn.within_tower or any(conv.grouped for conv in arch.conv) else 1,
        conv=tuple(replace(conv, init_std=0.0, init_bias=0.0, post_ops=" ".join(arch.post_ops(number)))
                   for number, conv in enumerate(arch.conv, 1)),
        dense=tuple(replace(dense, init_std=0.0, init_bias=0.0) for dense in arch.dense))
