"""Caffe: its differences from torch, and import of bvlc_alexnet, CaffeNet and similar .caffemodel files.

Where Caffe differs from torch, and what it becomes here:

  pooling rounds its output size up                      Arch.pool_rounding = "ceil"; convolutions round down
  LRN divides alpha by n; k is 1 by default              LRN.divide_by_n, and its neighbors reach across the towers
  pool before norm (caffenet) or after (bvlc_alexnet)    Conv.post_ops, in the order of the layers
  blue, green, red on 0..255, minus a mean of 3x256x256  InputSpec.channels = "BGR"; the mean is turned into RGB, HWC
  group: output maps in blocks, each of its own inputs   the same as torch's groups
  fully connected: maps, rows, columns in a row          the same as torch's flatten
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypedDict, TypeVar

import numpy as np
import torch
from torch import Tensor

from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import CAFFE, CAFFENET
from alexnet.architecture.spec import LRN, Arch, Conv, Dense, InputSpec
from alexnet.errors import UserError
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.caffe_proto import (
    CaffeFileError,
    Layer,
    Net,
    array,
    read_binaryproto,
    read_caffemodel,
    read_prototxt,
    require,
    without_leading_ones,
)
from alexnet.models.formats.state_dict import check_state_dict, name_outputs, structure
from alexnet.models.provenance import file_provenance
from alexnet.models.seen import SeenImages

Mean = Path | tuple[float, float, float]
"""A mean .binaryproto, or numbers for blue, green and red."""

Block = tuple[Layer, list[Layer]]
"""A layer with weights, and the layers between it and the next one with weights."""

_Value = TypeVar("_Value")

_SOURCES = ("Data", "ImageData", "HDF5Data", "MemoryData", "WindowData", "DummyData", "Input")
_ENDS = ("Softmax", "SoftmaxWithLoss", "Accuracy", "Silence")
_ACTIVATIONS: dict[str, Literal["relu", "tanh", "sigmoid"]] = {"ReLU": "relu", "TanH": "tanh", "Sigmoid": "sigmoid"}
_POST_OPS = {**dict.fromkeys(_ACTIVATIONS, "act"), "LRN": "norm", "Pooling": "pool"}
_KNOWN = ("Convolution", "Pooling", "LRN", "InnerProduct", "Dropout", *_ACTIVATIONS)


def read_caffe(
    path: Path, *, prototxt: Path | None = None, mean: Mean | None = None, classes: Sequence[str] | None = None,
) -> Checkpoint:
    """Import a network as Caffe computes it in its TEST phase, with weights and preprocessing.

    Args:
        path: a .caffemodel.
        prototxt: the network's description (train_val or deploy); default: the one inside the .caffemodel.
        mean: default: the description's `mean_value`.
        classes: names of the outputs; default: ImageNet's for 1,000 outputs, else unknown.

    Raises:
        UserError: a file is truncated or something else; the network branches or has layers that this package lacks;
            the input's size or mean is given nowhere; or blobs have unexpected shapes.
    """
    trained = read_caffemodel(path)
    require(any(layer.blobs for layer in trained.layers), f"{path} holds no weights",
            "name the trained .caffemodel, and its description with --prototxt")
    described, source = (read_prototxt(prototxt), prototxt) if prototxt else (trained, path)
    blocks = _blocks(_chain(described, source), source)
    with _naming(source):
        spec, mean_HWC = _input(trained, described, source, mean)
        arch = replace(_arch(described.name, blocks, source), input=spec)
        explain(arch)  # raises for an input that is too small
    for preset in (CAFFE, CAFFENET):
        if structure(arch) == structure(replace(preset, classes=arch.classes)):
            arch = replace(preset, classes=arch.classes, input=spec)
    weights = check_state_dict(_state(blocks, trained, arch, path), arch, path)
    return Checkpoint(arch=arch, weights=weights, mean_HWC=mean_HWC, provenance=file_provenance("Caffe", path),
                      seen=SeenImages.not_recorded(f"the weights in {path.name}"),
                      **name_outputs(arch.classes, classes))


@contextmanager
def _naming(source: Path) -> Iterator[None]:
    """Add the file's name to the errors that `Arch` and `explain` raise for its numbers."""
    try:
        yield
    except CaffeFileError:
        raise
    except UserError as error:
        raise CaffeFileError(f"{source} describes no network of this package: {error.problem}", error.remedy) from error


# --- The network ------------------------------------------------------------------------------------------------------


def _chain(net: Net, source: Path) -> list[Layer]:
    """The layers from the image to the last fully connected one, each fed by the one before."""
    chain: list[Layer] = []
    copies: dict[str, str] = {}  # Caffe inserts Split layers: name of the copy -> name of the blob
    for layer in net.layers:
        inputs = [copies.get(bottom, bottom) for bottom in layer.bottom]
        if not layer.at_test or layer.type in (*_SOURCES, *_ENDS):
            continue
        if layer.type == "Split":
            copies |= dict.fromkeys(layer.top, inputs[0] if inputs else "")
            continue
        require(layer.type in _KNOWN, f"{source}: layer {layer.name!r} is of the type {layer.type}, which no AlexNet "
                "here has", f"known are {', '.join(_KNOWN)}")
        previous = chain[-1].top[0] if chain else None
        takes, expected = " and ".join(inputs) or "nothing", previous or "one blob"
        require(len(inputs) == len(layer.top) == 1 and inputs[0] == (previous or inputs[0]),
                f"{source}: layer {layer.name!r} takes {takes}, and {expected} was expected",
                "networks that branch are not read")
        chain.append(layer)
    return chain


def _blocks(chain: Sequence[Layer], source: Path) -> list[Block]:
    """The chain, cut before each layer with weights; in an order of layers that an AlexNet has."""
    blocks: list[Block] = []
    for layer in chain:
        if layer.type in ("Convolution", "InnerProduct"):
            blocks.append((layer, []))
        else:
            require(bool(blocks), f"{source}: layer {layer.name!r} ({layer.type}) stands before any convolution")
            blocks[-1][1].append(layer)
    types = [layer.type for layer, _ in blocks]
    require(types == sorted(types) and len(set(types)) == 2,  # Convolution sorts before InnerProduct
            f"{source} has {', '.join(types) or 'no layer with weights'}",
            "an AlexNet has convolutions and then fully connected layers")
    for layer, following in blocks:
        ops = [_POST_OPS.get(each.type, "dropout") for each in following]
        if layer.type == "Convolution":
            allowed = "dropout" not in ops and len(set(ops)) == len(ops)
        else:
            allowed = ops == [] if layer is blocks[-1][0] else ops in (["act"], ["act", "dropout"])
        names = ", ".join(each.type for each in following) or "none"
        require(allowed, f"{source}: behind layer {layer.name!r} stand {names}, which no AlexNet here has there")
    return blocks


def _arch(name: str, blocks: Sequence[Block], source: Path) -> Arch:
    """The network that the blocks describe."""
    convolutions = [block for block in blocks if block[0].type == "Convolution"]
    *hidden, output = (_width(layer, "inner_product_param", source) for layer, _ in blocks[len(convolutions):])
    groups = [layer.option("convolution_param", "group", 1) for layer, _ in convolutions]
    towers = max(groups)
    require({*groups} <= {1, towers}, f"{source} has convolutions of {', '.join(map(str, groups))} groups",
            "here all convolutions that have groups have the same number of them")
    layers = [layer for _, following in blocks for layer in following]
    kernel, stride = _common("Pooling", layers, _pooling, source, (3, 2))
    lrn = _common("LRN", layers, _lrn, source, None)
    for layer in layers:
        require(layer.option("relu_param", "negative_slope", 0.0) == 0,
                f"{source}: layer {layer.name!r} is a leaky ReLU, which no AlexNet here has")
    activations = {_ACTIVATIONS[layer.type] for layer in layers if layer.type in _ACTIVATIONS}
    require(len(activations) == 1, f"{source} has {' and '.join(sorted(activations)) or 'no activation'}",
            "a network here has one activation throughout")
    word = "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
    return Arch(
        f"caffe-{word}" if word else "caffe-import",
        tuple(_convolution(layer, following, group, source) for (layer, following), group in zip(
            convolutions, groups, strict=True)),
        tuple(map(Dense, hidden)), classes=output, towers=towers, activation=activations.pop(),
        norm="lrn" if lrn else "none", lrn=lrn or LRN(), dropout=_common("Dropout", layers, _dropout, source, 0.0),
        pool_kernel=kernel, pool_stride=stride, pool_rounding="ceil")


def _common(
    kind: str, layers: Sequence[Layer], read: Callable[[Layer, Path], _Value], source: Path, default: _Value,
) -> _Value:
    """The setting that all layers of a kind share; `default` without such layers."""
    found = [(layer, read(layer, source)) for layer in layers if layer.type == kind]
    for (layer, value), (other, other_value) in pairwise(found):
        require(value == other_value, f"{source}: {kind} {layer.name!r} has {value}, and {other.name!r} {other_value}",
                "a network here has one setting for all")
    return found[0][1] if found else default


def _width(layer: Layer, parameter: str, source: Path) -> int:
    plain = parameter != "inner_product_param" or (
        layer.option(parameter, "axis", 1) == 1 and not layer.option(parameter, "transpose", False))
    require(plain, f"{source}: layer {layer.name!r} is transposed or flattens along another axis; no AlexNet does")
    return layer.option(parameter, "num_output", 0)


def _convolution(layer: Layer, following: Sequence[Layer], group: int, source: Path) -> Conv:
    def square(name: str, short: str, default: int) -> int:
        both = layer.option("convolution_param", name, default)
        high, wide = (layer.option("convolution_param", f"{short}_{axis}", both) for axis in "hw")
        require(high == wide, f"{source}: layer {layer.name!r} has a {name} of {high}x{wide}", "here it must be square")
        return high

    require(layer.option("convolution_param", "dilation", 1) == 1,
            f"{source}: layer {layer.name!r} is dilated, which no AlexNet here is")
    return Conv(
        _width(layer, "convolution_param", source), square("kernel_size", "kernel", 0), square("stride", "stride", 1),
        square("pad", "pad", 0), grouped=group > 1, post_ops=" ".join(_POST_OPS[each.type] for each in following))


def _lrn(layer: Layer, source: Path) -> LRN:
    require(layer.option("lrn_param", "norm_region", 0) == 0,
            f"{source}: layer {layer.name!r} normalizes within a map, which no AlexNet of Caffe's does")
    return LRN(k=_exact(layer.option("lrn_param", "k", 1.0)), n=layer.option("lrn_param", "local_size", 5),
               alpha=_exact(layer.option("lrn_param", "alpha", 1.0)),
               beta=_exact(layer.option("lrn_param", "beta", 0.75)), divide_by_n=True)


def _dropout(layer: Layer, _: Path) -> float:
    return _exact(layer.option("dropout_param", "dropout_ratio", 0.5))


def _pooling(layer: Layer, source: Path) -> tuple[int, int]:
    """Kernel and stride."""
    kernel, stride = layer.option("pooling_param", "kernel_size", 0), layer.option("pooling_param", "stride", 1)
    special = any(layer.option("pooling_param", name, 0) for name in (
        "pool", "pad", "pad_h", "pad_w", "kernel_h", "kernel_w", "stride_h", "stride_w", "global_pooling"))
    # With a stride beyond the kernel, Caffe may start a window outside the map; torch never does.
    require(not special and 1 <= stride <= kernel, f"{source}: pooling {layer.name!r} is not the plain maximum over "
            "square windows, without padding, that an AlexNet has")
    return kernel, stride


def _exact(value: float) -> float:
    """0.0001 instead of the float32 nearest to it, which is what the file holds."""
    return float(str(np.float32(value)))


# --- The input --------------------------------------------------------------------------------------------------------


class _InputSettings(TypedDict, total=False):
    crop_size: int
    scale: float
    mean_file: str
    mean_value: list[float]


def _input(trained: Net, described: Net, source: Path, mean: Mean | None) -> tuple[InputSpec, Tensor]:
    """The preprocessing, and the mean in RGB: float [side, side, 3], or [1, 1, 3] for three numbers.

    What the description lacks (a deploy.prototxt has no mean) is taken from the .caffemodel.
    """
    settings = _input_settings(trained) | _input_settings(described)
    crop, scale = settings.get("crop_size", 0), _exact(settings.get("scale", 1.0))
    require(crop > 0, f"{source} gives no size of its input, as crop_size, input_dim or a layer of the type Input",
            "give a description that does with --prototxt")
    require(scale > 0, f"{source} scales its input by {scale:g}, which must be positive")
    divisor = (1 / scale,) * 3
    if isinstance(mean, Path):
        mean_HWC = torch.from_numpy(np.ascontiguousarray(read_binaryproto(mean)[::-1].transpose(1, 2, 0)))
        require(len(mean_HWC) >= crop, f"{mean} has {len(mean_HWC)} pixels a side and the network takes {crop}",
                "name the mean image of this network")
        return InputSpec(len(mean_HWC), crop, "pixel", divisor, "BGR"), mean_HWC
    values = mean or settings.get("mean_value")
    if values is None:
        lacks = f"subtracts {settings['mean_file']}" if "mean_file" in settings else "does not give its mean"
        raise CaffeFileError(f"{source} {lacks}", "give it with --mean FILE.binaryproto, or as blue, green and red: "
                             "--mean 104,117,123")
    require(len(values) in (1, 3), f"{source} has {len(values)} mean values, and an image has 3 colors")
    blue, green, red = (_exact(value) for value in (values if len(values) == 3 else [*values] * 3))
    return (InputSpec(max(256, crop), crop, (red, green, blue), divisor, "BGR"),
            torch.tensor([red, green, blue]).reshape(1, 1, 3))


def _input_settings(net: Net) -> _InputSettings:
    """The settings in a network's inputs and data layers; those of the TEST phase come last, and count."""
    settings = _InputSettings(crop_size=net.input_dims[-1]) if net.input_dims else _InputSettings()
    for layer in sorted(net.layers, key=lambda layer: layer.at_test):
        if layer.type not in _SOURCES:
            continue
        # Until 2014 they stood in data_param, which only layers of the type Data have.
        for parameter in ("data_param", "transform_param")[layer.type != "Data":]:
            if (crop := layer.option(parameter, "crop_size", None)) is not None:
                settings["crop_size"] = crop
            if (scale := layer.option(parameter, "scale", None)) is not None:
                settings["scale"] = scale
            if (mean_file := layer.option(parameter, "mean_file", None)) is not None:
                settings["mean_file"] = mean_file
        if values := list(layer.message.transform_param.mean_value):
            settings["mean_value"] = values
        if layer.type == "Input" and layer.message.input_param.shape:
            settings["crop_size"] = layer.message.input_param.shape[0].dim[-1]
    return settings


# --- The weights ------------------------------------------------------------------------------------------------------


def _state(blocks: Sequence[Block], trained: Net, arch: Arch, path: Path) -> dict[str, Tensor]:
    """The trained blobs under the network's keys, matched by layer name. `check_state_dict` checks their shapes."""
    with torch.device("meta"):
        expected = AlexNet(arch).state_dict()
    blobs = {layer.name: layer.blobs for layer in trained.layers if layer.blobs}
    state = {}
    for number, (layer, _) in enumerate(blocks, 1):
        require(layer.name in blobs, f"{path} has no weights for layer {layer.name!r}",
                f"it belongs to another description (it has {', '.join(blobs)})")
        prefix, parameter = (("features.conv", "convolution_param") if layer.type == "Convolution"
                             else ("classifier.fc", "inner_product_param"))
        count, described = len(blobs[layer.name]), 1 + layer.option(parameter, "bias_term", True)
        require(count == described,
                f"{path}: layer {layer.name!r} has {count} blobs, and is described as one with {described}",
                "give the description of these weights with --prototxt")
        # Without a bias: one zero, expanded. The file alone says how many there are, so none are allocated.
        state[f"{prefix}{number}.bias"] = torch.zeros(()).expand(expected[f"{prefix}{number}.bias"].shape)
        for kind, blob in zip(("weight", "bias"), blobs[layer.name], strict=False):
            key = f"{prefix}{number}.{kind}"
            values = array(blob, path, f"the {kind} of layer {layer.name!r}")
            state[key] = torch.from_numpy(without_leading_ones(values, expected[key].ndim))
    return state
