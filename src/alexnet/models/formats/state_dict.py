"""Check a state dict and class names against a network (`Arch`), and say whether two networks compute the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from alexnet.architecture.spec import LRN, Arch, InputSpec
from alexnet.data.class_names import require_count, require_distinct, unknown_names
from alexnet.data.imagenet_classes import CLASSES
from alexnet.errors import UserError, require
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint


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
    other = "it holds another network: give a file of this one"
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
                f"{where} is {dtype_of(tensor)}, and {arch.name} has {dtype_of(target)} there", "convert it to float32")
        require(tensor.layout == torch.strided and not tensor.is_meta, f"{where} is sparse or has no values",
                "save it as a plain tensor")
        require(not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()),
                f"{where} holds values that are not finite",
                "use an earlier checkpoint: the training that wrote it had diverged")
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


def assumed_names(outputs: int, names: Sequence[str] | None) -> list[str]:
    """A sentence for the user if `name_outputs` assumes the names; else none."""
    assumed = names is None and outputs == len(CLASSES)
    return [f"the file has no class names: with {outputs:,} outputs, ImageNet's are assumed"] * assumed


def rename_classes(saved: Checkpoint, names: Sequence[str]) -> Checkpoint:
    """The checkpoint with these class names. Raises as `name_outputs` and `replacement_notes`."""
    given = name_outputs(saved.arch.classes, names)
    notes = replacement_notes(saved.classes, given["classes"]) if saved.class_names_known else []
    provenance = saved.provenance
    if notes:
        provenance = {**provenance, "assumed": [*provenance.get("assumed", ()), *notes]}
    return replace(saved, provenance=provenance, **given)


def replacement_notes(own: Sequence[str], given: Sequence[str]) -> list[str]:
    """A sentence for the user if given class names replace other ones that came with the weights.

    Raises:
        UserError: they are the same names in another order, which would count right answers as wrong.
    """
    if list(own) == list(given):
        return []
    require(sorted(own) != sorted(given), "the given class names are those that came with the weights, in another "
            f"order (output 0 is {own[0]!r})", "leave out --classes")
    return [f"the given class names replace those that came with the weights ({own[0]!r}, ...)"]


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
