"""Caffe's trained networks -> a `Checkpoint`. What Caffe does otherwise than torch, and what becomes of it here:

  pooling takes the ceiling of its output's side         Arch.pool_rounding = "ceil"; convolutions take the floor
  LRN divides alpha by n; k = 1 unless said              LRN.divide_by_n, and its neighbors reach across the towers
  pool before norm (caffenet) or after it (bvlc_alexnet) Conv.post_ops, in the order of the layers
  blue, green, red on 0..255, less a mean 3x256x256      InputSpec.channels = "BGR"; the mean is turned into RGB, HWC
  group: output maps in blocks, each of its own inputs   as torch's groups, so that weights need no reordering
  fully connected: maps, rows, columns in a row          as torch's flatten
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from alexnet.architecture.presets import CAFFE, CAFFENET
from alexnet.architecture.spec import LRN, Arch, Conv, Dense, InputSpec
from alexnet.errors import require
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.caffe_proto import (
    Layer,
    Net,
    array,
    read_binaryproto,
    read_caffemodel,
    read_prototxt,
    without_leading_ones,
)
from alexnet.models.formats.state_dict import fit, name_classes, provenance, structure

Mean = Path | tuple[float, float, float]
"""A mean .binaryproto; or blue, green and red."""

_Value = TypeVar("_Value")

_SOURCES = ("Data", "ImageData", "HDF5Data", "MemoryData", "WindowData", "DummyData", "Input")
_ENDS = ("Softmax", "SoftmaxWithLoss", "Accuracy", "Silence")
_ACTIVATIONS: dict[str, Any] = {"ReLU": "relu", "TanH": "tanh", "Sigmoid": "sigmoid"}
_STEPS = {**dict.fromkeys(_ACTIVATIONS, "act"), "LRN": "norm", "Pooling": "pool"}
_KNOWN = ("Convolution", "Pooling", "LRN", "InnerProduct", "Dropout", *_ACTIVATIONS)

#: A layer with weights, and what follows it up to the next.
Block = tuple[Layer, list[Layer]]


def read_caffe(
    path: Path, *, prototxt: Path | None = None, mean: Mean | None = None, classes: Sequence[str] | None = None,
) -> Checkpoint:
    """The network of a .caffemodel, as Caffe computes it in its TEST phase, with its weights and preprocessing.

    prototxt: the network's description (train_val or deploy); unless given, the one inside the .caffemodel.
    mean: unless given, the `mean_value` of the description.
    classes: names for its outputs; ImageNet's where there are 1,000 and none are given, else numbers.
    Raises ValueError, in one sentence with the remedy, for a file that is cut off or something else, a layer that
    this package does not have, a network that branches, a size or a mean that is nowhere told, and blobs of another
    shape, with both.
    """
    trained = read_caffemodel(path)
    require(any(layer.blobs for layer in trained.layers), f"{path} holds no weights; name the trained .caffemodel, and "
          "its description with --prototxt")
    described, source = (read_prototxt(prototxt), prototxt) if prototxt else (trained, path)
    blocks = _blocks(_chain(described, source), source)
    with _named(source, path, mean):
        spec, mean_HWC = _input(trained, described, source, mean)
        arch = replace(_arch(described.name, blocks, source), input=spec)
        for preset in (CAFFE, CAFFENET):
            if structure(arch) == structure(replace(preset, classes=arch.classes)):
                arch = replace(preset, classes=arch.classes, input=spec)
        weights = fit(_state(blocks, trained, arch, path), arch, path)
    return Checkpoint(arch=arch, classes=name_classes(arch.classes, classes), weights=weights, mean_HWC=mean_HWC,
                      provenance=provenance("Caffe", path))


@contextmanager
def _named(source: Path, *others: object) -> Iterator[None]:
    """What config.py and explain.py find wrong with the numbers of a file is said of the file."""
    try:
        yield
    except ValueError as error:
        if any(str(file) in str(error) for file in (source, *others)):
            raise
        raise ValueError(f"{source}: {error}; it describes no network of this package") from error


# --- The network ------------------------------------------------------------------------------------------------------


def _chain(net: Net, source: Path) -> list[Layer]:
    """The layers from the image to the last fully connected one, each fed by the one before.

    Raises ValueError for a layer that we do not have, and for a network that branches.
    """
    chain: list[Layer] = []
    copies: dict[str, str] = {}  # what Split layers, which Caffe adds by itself, call a blob -> the blob
    for layer in net.layers:
        fed_by = [copies.get(bottom, bottom) for bottom in layer.bottom]
        if not layer.at_test or layer.type in (*_SOURCES, *_ENDS):
            continue
        if layer.type == "Split":
            copies |= dict.fromkeys(layer.top, fed_by[0] if fed_by else "")
            continue
        require(layer.type in _KNOWN, f"{source}: layer {layer.name!r} is of the type {layer.type}, which no AlexNet "
              f"here has; known are {', '.join(_KNOWN)}")
        there = chain[-1].top[0] if chain else None
        require(len(fed_by) == len(layer.top) == 1 and fed_by[0] == (there or fed_by[0]),
              f"{source}: layer {layer.name!r} takes {' and '.join(fed_by) or 'nothing'} where {there or 'one blob'} "
              "was to be expected; networks that branch are not read")
        chain.append(layer)
    return chain


def _blocks(chain: Sequence[Layer], source: Path) -> list[Block]:
    """The chain cut before each layer with weights. Raises ValueError for an order that no AlexNet has."""
    blocks: list[Block] = []
    for layer in chain:
        if layer.type in ("Convolution", "InnerProduct"):
            blocks.append((layer, []))
        else:
            require(bool(blocks), f"{source}: layer {layer.name!r} ({layer.type}) stands before any convolution")
            blocks[-1][1].append(layer)
    kinds = [layer.type for layer, _ in blocks]
    require(kinds == sorted(kinds) and len(set(kinds)) == 2,  # C comes before I
          f"{source} has {', '.join(kinds) or 'no layer with weights'}; an AlexNet has convolutions and then fully "
          "connected layers")
    for layer, following in blocks:
        then = [_STEPS.get(each.type, "dropout") for each in following]
        if layer.type == "Convolution":
            allowed = "dropout" not in then and len(set(then)) == len(then)
        else:
            allowed = then == [] if layer is blocks[-1][0] else then in (["act"], ["act", "dropout"])
        require(allowed, f"{source}: behind layer {layer.name!r} stand {', '.join(e.type for e in following) or 'none'}, "
              "which no AlexNet here has in this place")
    return blocks


def _arch(name: str, blocks: Sequence[Block], source: Path) -> Arch:
    """The network that the blocks describe."""
    convolutions = [block for block in blocks if block[0].type == "Convolution"]
    *hidden, output = (_width(layer, "inner_product_param", source) for layer, _ in blocks[len(convolutions):])
    groups = [layer.option("convolution_param", "group", 1) for layer, _ in convolutions]
    towers = max(groups)
    require({*groups} <= {1, towers}, f"{source} has convolutions of {', '.join(map(str, groups))} groups; here all that "
          "have groups have the same number of them")
    layers = [each for _, following in blocks for each in following]
    kernel, stride = _one("Pooling", layers, _pooling, source, (3, 2))
    lrn = _one("LRN", layers, _lrn, source, None)
    for layer in layers:
        require(layer.option("relu_param", "negative_slope", 0.0) == 0,
              f"{source}: layer {layer.name!r} is a leaky ReLU, which no AlexNet here has")
    activations = {_ACTIVATIONS[layer.type] for layer in layers if layer.type in _ACTIVATIONS}
    require(len(activations) == 1, f"{source} has {' and '.join(sorted(activations)) or 'no activation'}; a network here "
          "has one activation throughout")
    word = "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
    return Arch(
        f"caffe-{word}" if word else "caffe-import",
        tuple(_convolution(layer, following, group, source) for (layer, following), group in zip(
            convolutions, groups, strict=True)),
        tuple(map(Dense, hidden)), classes=output, towers=towers, activation=activations.pop(),
        norm="lrn" if lrn else "none", lrn=lrn or LRN(),
        dropout=_one("Dropout", layers, lambda layer, _: _exact(layer.option("dropout_param", "dropout_ratio", 0.5)),
                     source, 0.0),
        pool_kernel=kernel, pool_stride=stride, pool_rounding="ceil")


def _one(
    kind: str, layers: Sequence[Layer], read: Callable[[Layer, Path], _Value], source: Path, absent: _Value,
) -> _Value:
    """What all layers of a kind are set to. Raises ValueError where they differ: a network here has one setting."""
    found = [(layer, read(layer, source)) for layer in layers if layer.type == kind]
    for (layer, value), (other, its_value) in pairwise(found):
        require(value == its_value, f"{source}: {kind} {layer.name!r} has {value}, and {other.name!r} {its_value}; a "
              "network here has one setting for all")
    return found[0][1] if found else absent


def _width(layer: Layer, parameter: str, source: Path) -> int:
    plain = parameter != "inner_product_param" or (
        layer.option(parameter, "axis", 1) == 1 and not layer.option(parameter, "transpose", False))
    require(plain, f"{source}: layer {layer.name!r} is transposed, or flattens along another axis, which no AlexNet does")
    return layer.option(parameter, "num_output", 0)


def _convolution(layer: Layer, following: Sequence[Layer], group: int, source: Path) -> Conv:
    def square(name: str, short: str, default: int) -> int:
        both = layer.option("convolution_param", name, default)
        high, wide = (layer.option("convolution_param", f"{short}_{way}", both) for way in "hw")
        require(high == wide, f"{source}: layer {layer.name!r} has a {name} of {high}x{wide}; here it must be square")
        return high

    require(layer.option("convolution_param", "dilation", 1) == 1,
          f"{source}: layer {layer.name!r} is dilated, which no AlexNet here is")
    return Conv(
        _width(layer, "convolution_param", source), square("kernel_size", "kernel", 0), square("stride", "stride", 1),
        square("pad", "pad", 0), grouped=group > 1, post_ops=" ".join(_STEPS[each.type] for each in following))


def _lrn(layer: Layer, source: Path) -> LRN:
    require(layer.option("lrn_param", "norm_region", 0) == 0,
          f"{source}: layer {layer.name!r} normalizes within a map, which no AlexNet of Caffe's does")
    return LRN(k=_exact(layer.option("lrn_param", "k", 1.0)), n=layer.option("lrn_param", "local_size", 5),
               alpha=_exact(layer.option("lrn_param", "alpha", 1.0)),
               beta=_exact(layer.option("lrn_param", "beta", 0.75)), divide_by_n=True)


def _pooling(layer: Layer, source: Path) -> tuple[int, int]:
    """Kernel and stride."""
    kernel, stride = layer.option("pooling_param", "kernel_size", 0), layer.option("pooling_param", "stride", 1)
    special = any(layer.option("pooling_param", name, 0) for name in (
        "pool", "pad", "pad_h", "pad_w", "kernel_h", "kernel_w", "stride_h", "stride_w", "global_pooling"))
    # With a stride beyond the kernel Caffe may begin a window outside the map, and torch never does.
    require(not special and 1 <= stride <= kernel, f"{source}: pooling {layer.name!r} is not the plain maximum over "
          "square windows, without padding, that an AlexNet has")
    return kernel, stride


def _exact(value: float) -> float:
    """0.0001 for the float32 nearest to it, which is all that the file holds."""
    return float(str(np.float32(value)))


# --- The input --------------------------------------------------------------------------------------------------------


def _input(trained: Net, described: Net, source: Path, mean: Mean | None) -> tuple[InputSpec, Tensor]:
    """How images are brought to it, and the mean, RGB: float [side, side, 3], or [1, 1, 3] for three numbers.

    What the description leaves out (a deploy.prototxt has no mean) the .caffemodel may say.
    """
    said = _said_of_input(trained) | _said_of_input(described)
    crop, scale = said.get("crop_size", 0), _exact(said.get("scale", 1.0))
    require(crop > 0, f"{source} tells no size of its input, as crop_size, input_dim or a layer of the type Input; give "
          "a description that does with --prototxt")
    require(scale > 0, f"{source} scales its input by {scale:g}, which must be positive")
    divisor = (1 / scale,) * 3
    if isinstance(mean, Path):
        mean_HWC = torch.from_numpy(np.ascontiguousarray(read_binaryproto(mean)[::-1].transpose(1, 2, 0)))
        require(len(mean_HWC) >= crop, f"{mean} has {len(mean_HWC)} pixels a side and the network takes {crop}; it "
              "belongs to another network")
        return InputSpec(len(mean_HWC), crop, "pixel", divisor, "BGR"), mean_HWC
    values = mean or said.get("mean_value")
    if values is None:
        wanted = f"subtracts {said['mean_file']}" if "mean_file" in said else "does not tell its mean"
        raise ValueError(f"{source} {wanted}; give it with --mean FILE.binaryproto, or as blue, green and red: "
                         "--mean 104,117,123")
    require(len(values) in (1, 3), f"{source} has {len(values)} mean values, and an image has 3 colors")
    blue, green, red = (_exact(value) for value in (values if len(values) == 3 else [*values] * 3))
    return (InputSpec(max(256, crop), crop, (red, green, blue), divisor, "BGR"),
            torch.tensor([red, green, blue]).reshape(1, 1, 3))


def _said_of_input(net: Net) -> dict[str, Any]:
    """`crop_size`, `scale`, `mean_file` and `mean_value`, as far as a network's inputs and data layers tell them."""
    said: dict[str, Any] = {"crop_size": net.input_dims[-1]} if net.input_dims else {}
    for layer in sorted(net.layers, key=lambda layer: layer.at_test):  # the TEST phase has the last word
        if layer.type not in _SOURCES:
            continue
        # data_param is where they stood until 2014; only the layer of the type Data has one that we know.
        for parameter in ("data_param", "transform_param")[layer.type != "Data":]:
            said |= {field: value for field in ("crop_size", "scale", "mean_file")
                     if (value := layer.option(parameter, field, None))}
        if values := list(layer.message.transform_param.mean_value):
            said["mean_value"] = values
        if layer.type == "Input" and layer.message.input_param.shape:
            said["crop_size"] = layer.message.input_param.shape[0].dim[-1]
    return said


# --- The weights ------------------------------------------------------------------------------------------------------


def _state(blocks: Sequence[Block], trained: Net, arch: Arch, path: Path) -> dict[str, Tensor]:
    """The trained blobs under our keys, found by the layers' names. Their shapes are for `fit` to judge."""
    with torch.device("meta"):
        wanted = AlexNet(arch).state_dict()
    blobs = {layer.name: layer.blobs for layer in trained.layers if layer.blobs}
    state = {}
    for number, (layer, _) in enumerate(blocks, 1):
        require(layer.name in blobs, f"{path} has no weights for layer {layer.name!r}; it belongs to another description "
              f"(it has {', '.join(blobs)})")
        part, parameter = (("features.conv", "convolution_param") if layer.type == "Convolution"
                           else ("classifier.fc", "inner_product_param"))
        biased = layer.option(parameter, "bias_term", True)
        require(len(blobs[layer.name]) == 1 + biased, f"{path}: layer {layer.name!r} has {len(blobs[layer.name])} blobs, "
              f"and is described as one with {1 + biased}")
        # A single zero, seen as many: how many there are is only a claim of the file's yet.
        state[f"{part}{number}.bias"] = torch.zeros(()).expand(wanted[f"{part}{number}.bias"].shape)
        for kind, blob in zip(("weight", "bias"), blobs[layer.name], strict=False):
            key = f"{part}{number}.{kind}"
            numbers = array(blob, path, f"the {kind} of layer {layer.name!r}")
            state[key] = torch.from_numpy(without_leading_ones(numbers, wanted[key].ndim))
    return state
