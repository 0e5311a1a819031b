"""`alexnet explain`: output sizes (why 55.25 is 55), parameters, multiply-adds and receptive fields, with the working.

Integers only and no torch, so the result is independent of the module that it describes. A test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from alexnet.architecture.layer_notes import (
    map_norm_constants,
    map_norm_note,
    response_norm_constants,
    response_norm_note,
    rounding_note,
    tower_notes,
)
from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.spec import Arch, Rounding
from alexnet.errors import UserError

Shape = tuple[int, ...]
"""(maps, rows, columns), or (units,)."""

POOLINGS = {"pool": "max pooling", "avgpool": "average pooling"}
"""Pooling operations of `Conv.post_ops` -> kind of the layer."""

_ACTIVATIONS = {"relu": "max(0, x) (§3.1)", "tanh": "tanh(x)", "sigmoid": "1 / (1 + exp(-x))"}


@dataclass(frozen=True)
class Layer:
    """One layer, and what it costs for one image."""

    name: str
    kind: str
    input_shape: Shape
    output_shape: Shape
    formula: str = ""
    """The formula of the output's side."""
    worked: str = ""
    """The formula with its numbers and result: "(224 - 11)/4 + 1 = 54.25, ceil 55"."""
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    groups: int = 1
    dilation: int = 1
    parameters: int = 0
    parameters_worked: str = ""
    multiply_adds: int = 0
    """Of convolutions and fully connected layers. The few of the other layers are not counted."""
    receptive_field: int = 1
    """Side of the largest part of the image that one unit sees, in pixels."""
    receptive_field_with_padding: int = 1
    """The same with the padding that it covers: the result of `receptive_field_worked`."""
    receptive_field_worked: str = ""
    jump: int = 1
    """Input pixels between two neighboring units."""
    begin: int = 0
    """First pixel of the first unit's receptive field with padding, so at most 0."""
    notes: tuple[str, ...] = ()
    constants: str = ""
    """Of a layer without a formula: "p=0.5" of dropout, and those of response normalization."""

    @property
    def neurons(self) -> int:
        """Units in the output (§3.5 lists them)."""
        return math.prod(self.output_shape)

    @property
    def activation_bytes(self) -> int:
        """Bytes of the output for one image, in fp32."""
        return 4 * self.neurons

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name, "kind": self.kind, "input": list(self.input_shape), "output": list(self.output_shape),
            "kernel": self.kernel, "stride": self.stride, "padding": self.padding, "groups": self.groups,
            "dilation": self.dilation, "formula": self.formula, "worked": self.worked, "parameters": self.parameters,
            "parameters_worked": self.parameters_worked, "multiply_adds": self.multiply_adds,
            "receptive_field": self.receptive_field,
            "receptive_field_with_padding": self.receptive_field_with_padding,
            "receptive_field_worked": self.receptive_field_worked, "jump": self.jump, "neurons": self.neurons,
            "activation_bytes": self.activation_bytes, "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Explanation:
    """The layers of a network at an input size, and their totals."""

    arch: Arch
    size: int
    """Side of the input in pixels."""
    layers: tuple[Layer, ...]

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        return sum(layer.activation_bytes for layer in self.layers)

    def to_json(self) -> dict[str, object]:
        return {
            "arch": self.arch.name, "input": [3, self.size, self.size], "smallest_input": smallest_input(self.arch),
            "parameters": self.parameters, "multiply_adds": self.multiply_adds,
            "activation_bytes": self.activation_bytes, "layers": [layer.to_json() for layer in self.layers],
        }


# --- Output sizes -----------------------------------------------------------------------------------------------------


def output_size(side: int, kernel: int, stride: int, padding: int, rounding: Rounding) -> int:
    """Side of a convolution's output: (side + 2 padding - kernel) / stride + 1, rounded; 0 if the kernel does not fit.

    With `ceil`, zeros are added at the right and bottom until the last step is complete. They never complete the first
    step: cuda-convnet's layer.py refuses a kernel larger than the padded input.

    Args:
        kernel: of a dilated convolution, `Conv.effective_kernel`.
    """
    room = side + 2 * padding - kernel
    return 1 + _steps(room, stride, rounding) if room >= 0 else 0


def pooled_size(side: int, kernel: int, stride: int, rounding: Rounding) -> int:
    """Side of a pooling's output; 0 if nothing fits.

    With `ceil`, a window may reach beyond the edge, but it starts inside the input, as in torch.
    """
    start_inside = -(-side // stride)
    return max(0, min(1 + _steps(side - kernel, stride, rounding), start_inside))


def _steps(room: int, stride: int, rounding: Rounding) -> int:
    return room // stride if rounding == "floor" else -(-room // stride)


def _worked_size(
    side: int, kernel: int, stride: int, padding: int, rounding: Rounding, result: int, dilation: int = 1,
) -> str:
    """The formula of `output_size` or `pooled_size` with its numbers."""
    room = side + 2 * padding - (dilation * (kernel - 1) + 1)
    padded = f" + 2*{padding}" if padding else ""
    covered = f"({dilation}*({kernel} - 1) + 1)" if dilation > 1 else str(kernel)
    size = 1 + _steps(room, stride, rounding)
    rounded = f", {rounding} {size}" if room % stride else ""
    inside = f", of which {result} start inside the input" if result != size else ""
    return f"({side}{padded} - {covered})/{stride} + 1 = {room / stride + 1:g}{rounded}{inside}"


@dataclass(frozen=True)
class Alternative:
    """A convolution's output size with another padding or rounding."""

    padding: int
    rounding: Rounding
    worked: str
    is_own: bool
    """Whether these are the layer's own padding and rounding."""


def alternatives(layer: Layer, rounding: Rounding) -> list[Alternative]:
    """Output sizes of a convolution with paddings 0 to 2 and both roundings: why 224 gives 54, 55 or 56.

    Args:
        rounding: the network's `conv_rounding`.
    """
    found = []
    side, covered = layer.input_shape[-1], _covered(layer)
    for padding in range(max(3, layer.padding + 1)):
        room = side + 2 * padding - covered
        roundings: tuple[Rounding, ...] = ("floor", "ceil") if room % layer.stride else (rounding,)
        for each in roundings if room >= 0 else ():
            size = output_size(side, covered, layer.stride, padding, each)
            worked = _worked_size(side, layer.kernel, layer.stride, padding, each, size, layer.dilation)
            found.append(Alternative(padding, each, worked, (padding, each) == (layer.padding, rounding)))
    return found


def exact_input(layer: Layer) -> int:
    """The input side that gives a convolution's output size without rounding: 227 for the paper's conv1."""
    return (layer.output_shape[-1] - 1) * layer.stride + _covered(layer) - 2 * layer.padding


def _covered(layer: Layer) -> int:
    """Side of the area that the layer's kernel covers."""
    return layer.dilation * (layer.kernel - 1) + 1


def smallest_input(arch: Arch) -> int:
    """The smallest input side for which every convolution and pooling has an output of at least one unit."""
    # Backwards from one unit. Output sizes never shrink when the input grows, so every larger input works too; the
    # tests confirm it with torch.
    side = 1
    for number in range(len(arch.conv), 0, -1):
        conv = arch.conv[number - 1]
        if not POOLINGS.keys().isdisjoint(arch.post_ops(number)):
            last_window = (side - 1) * arch.pool_stride + 1  # the pixel, counted from 1, where the last window starts
            side = max(last_window, _least_side(side, arch.pool_kernel, arch.pool_stride, arch.pool_rounding))
        least = max(conv.effective_kernel, _least_side(side, conv.effective_kernel, conv.stride, arch.conv_rounding))
        side = max(1, least - 2 * conv.padding)
    return side


def _least_side(size: int, kernel: int, stride: int, rounding: Rounding) -> int:
    """The smallest side whose (side - kernel) / stride + 1, rounded, is `size`."""
    return (size - 1) * stride + kernel if rounding == "floor" else (size - 2) * stride + kernel + 1


def check_size(arch: Arch, size: int) -> None:
    """Raise UserError if the input is too small, with the smallest input and a preset that accepts this size."""
    least = smallest_input(arch)
    if size < least:
        # A preset with the network's own name is what the network was made from by overrides.
        fitting = [preset for preset in ARCHS.values() if smallest_input(preset) <= size and preset.name != arch.name]
        close = min(fitting, key=lambda preset: abs(preset.input.crop - size), default=None)
        advice = f"--arch {close.name}, made for {close.input.crop}, or " if close else ""
        raise UserError(f"an input of {size} pixels is too small for {arch.name}, which needs {least} or more",
                        f"use {advice}larger images")


# --- Layers -----------------------------------------------------------------------------------------------------------


def explain(arch: Arch, size: int | None = None) -> Explanation:
    """Work out every layer of the network.

    Args:
        size: side of the square input in pixels; default: the network's own crop.

    Raises:
        UserError: the input is too small.
    """
    size = arch.input.crop if size is None else size
    check_size(arch, size)
    convolutional, columns_seen = _convolutional_part(arch, size)
    dense = _dense_part(arch, convolutional[-1].output_shape, columns_seen)
    return Explanation(arch, size, (*convolutional, *dense))


def _convolutional_part(arch: Arch, size: int) -> tuple[list[Layer], int]:
    """The convolutions, the operations after each, and the adaptive average pooling.

    Returns:
        The layers, and how many of the image's columns the last one's units see together.
    """
    layers: list[Layer] = []
    before = Layer("input", "input", (3, size, size), (3, size, size))
    columns_seen = size
    for number in range(1, len(arch.conv) + 1):
        for op in ("conv", *arch.post_ops(number)):
            shape = before.output_shape
            layer = _convolution(arch, number, shape) if op == "conv" else _post_op(arch, op, number, shape)
            # A normalization within a map is centered on its unit.
            margin = layer.padding if op == "conv" else layer.kernel // 2 if op == "mapnorm" else 0
            starts = [step * layer.stride - margin for step in range(layer.output_shape[1])]
            layer, columns_seen = _with_receptive_field(layer, before, starts, _covered(layer), columns_seen)
            layers.append(layer)
            before = layer
    if arch.average_pool:
        (maps, length, _), side = before.output_shape, arch.average_pool
        # Output i averages the inputs from floor(i n / m) to ceil((i + 1) n / m).
        starts = [i * length // side for i in range(side)]
        window = max(-(-(i + 1) * length // side) - start for i, start in enumerate(starts))
        layer = Layer("average_pool", "adaptive average pooling", before.output_shape, (maps, side, side),
                      "any input side to a fixed output side", f"{length} to {side}")
        layers.append(_with_receptive_field(layer, before, starts, window, columns_seen)[0])
    return layers, columns_seen


def _with_receptive_field(
    layer: Layer, before: Layer, starts: Sequence[int], window: int, columns_seen: int,
) -> tuple[Layer, int]:
    """Add the receptive field of a layer's units. Returns the layer, and how many columns its units see together.

    Args:
        layer, before: without receptive field; the layer that it reads.
        starts: first unit of `before` in each unit's window, in one direction; negative in the padding.
        window: units of `before` that a window covers.
        columns_seen: how many of the image's columns, from the first on, the units of `before` see together.
    """
    field = before.receptive_field_with_padding + (window - 1) * before.jump
    firsts = [before.begin + start * before.jump for start in starts]
    inside = max(min(first + field, columns_seen) - max(first, 0) for first in firsts)
    worked = f"{before.receptive_field_with_padding} + ({window} - 1) x {before.jump} = {field}" if window > 1 else ""
    return replace(
        layer, receptive_field=inside, receptive_field_with_padding=field, receptive_field_worked=worked,
        jump=before.jump * layer.stride, begin=firsts[0]), min(firsts[-1] + field, columns_seen)


def _convolution(arch: Arch, number: int, shape: Shape) -> Layer:
    conv, groups = arch.conv[number - 1], arch.groups(number)
    maps, side = shape[0], shape[1]
    out = output_size(side, conv.effective_kernel, conv.stride, conv.padding, arch.conv_rounding)
    taps = maps // groups * conv.kernel**2
    rest = (side + 2 * conv.padding - conv.effective_kernel) % conv.stride
    rounded = [rounding_note(conv, rest, out, side, arch.conv_rounding)] if rest else []
    return Layer(
        f"conv{number}", "convolution", shape, (conv.width, out, out),
        f"(side + 2*padding - {'(dilation*(kernel - 1) + 1)' if conv.dilation > 1 else 'kernel'}) / stride + 1",
        _worked_size(side, conv.kernel, conv.stride, conv.padding, arch.conv_rounding, out, conv.dilation),
        conv.kernel, conv.stride, conv.padding, groups, conv.dilation,
        parameters=conv.width * (taps + 1),
        parameters_worked=f"{conv.width} x ({maps // groups} x {conv.kernel} x {conv.kernel} + 1) = "
                          f"{conv.width * (taps + 1):,}",
        multiply_adds=conv.width * taps * out * out, notes=(*rounded, *tower_notes(arch, number, maps, out)))


def _post_op(arch: Arch, op: str, number: int, shape: Shape) -> Layer:
    """An operation after a convolution."""
    maps, side = shape[0], shape[1]
    if op in POOLINGS:
        kernel, stride = arch.pool_kernel, arch.pool_stride
        out = pooled_size(side, kernel, stride, arch.pool_rounding)
        return Layer(f"pool{number}", POOLINGS[op], shape, (maps, out, out), "(side - kernel) / stride + 1",
                     _worked_size(side, kernel, stride, 0, arch.pool_rounding, out), kernel, stride,
                     notes=("windows overlap (§3.4)",) if kernel > stride else ())
    if op == "act":
        return _activation(arch, number, shape)
    if op == "mapnorm":
        own, window = arch.map_lrn, f"{arch.map_lrn.side}x{arch.map_lrn.side}"
        return Layer(f"mapnorm{number}", f"normalization within a map, {window}", shape, shape, kernel=own.side,
                     constants=map_norm_constants(own), notes=(map_norm_note(own),))
    if arch.norm == "batch":
        return _batch_norm(number, shape)
    return Layer(f"norm{number}", "local response normalization", shape, shape,
                 constants=response_norm_constants(arch.lrn), notes=(response_norm_note(arch.lrn, arch.towers),))


def _activation(arch: Arch, number: int, shape: Shape) -> Layer:
    return Layer(f"{arch.activation}{number}", "activation", shape, shape,
                 notes=(f"each input x becomes {_ACTIVATIONS[arch.activation]}",))


def _batch_norm(number: int, shape: Shape) -> Layer:
    return Layer(f"norm{number}", "batch normalization", shape, shape, parameters=2 * shape[0],
                 parameters_worked=f"2 x {shape[0]} = {2 * shape[0]:,}")


def _dense_part(arch: Arch, shape: Shape, columns_seen: int) -> Iterator[Layer]:
    """The fully connected layers, with dropout. Their units see the columns that the last maps see together."""

    def seeing(layer: Layer) -> Layer:
        return replace(layer, receptive_field=columns_seen, receptive_field_with_padding=columns_seen)

    number = len(arch.conv)
    kept = 1 - arch.dropout
    note = (f"training zeroes each unit with probability {arch.dropout:g} and multiplies the others by {1 / kept:g}; "
            f"§4.2 multiplies all by {kept:g} at test time instead, which is equal on average")
    for dense in arch.dense:
        number += 1
        flat, p = (math.prod(shape),), f"p={arch.dropout:g}"
        dropout = seeing(Layer(f"dropout{number}", "dropout", flat, flat, notes=(note,), constants=p))
        if arch.dropout and arch.dropout_on_inputs:
            yield dropout
        layer = seeing(_fully_connected(f"fc{number}", shape, dense.width))
        shape = layer.output_shape
        yield layer
        if arch.dense_norm:
            yield seeing(_batch_norm(number, shape))
        yield seeing(_activation(arch, number, shape))
        if arch.dropout and not arch.dropout_on_inputs:
            yield replace(dropout, input_shape=shape, output_shape=shape)
    yield seeing(_fully_connected(f"fc{number + 1}", shape, arch.classes))


def _fully_connected(name: str, shape: Shape, width: int) -> Layer:
    inputs = math.prod(shape)
    worked = " x ".join(map(str, shape)) + f" = {inputs:,} inputs" if len(shape) > 1 else f"{inputs:,} inputs"
    return Layer(name, "fully connected", shape, (width,), "one weight for each input and unit", worked,
                 parameters=width * (inputs + 1), parameters_worked=f"{width:,} x ({inputs:,} + 1) = "
                 f"{width * (inputs + 1):,}", multiply_adds=width * inputs)
