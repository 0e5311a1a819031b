"""`Arch` + input size -> sizes, parameters, multiply-adds, receptive fields, with the worked arithmetic.

Integers only and no torch: an oracle that is independent of the module it describes. A test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from alexnet.architecture.presets import ARCHS
from alexnet.architecture.spec import Arch, Conv, Rounding

if TYPE_CHECKING:
    pass


Shape = tuple[int, ...]
"""(maps, rows, columns), or (units,)."""

_ACTIVATIONS = {"relu": "max(0, x) (§3.1)", "tanh": "tanh(x)", "sigmoid": "1 / (1 + exp(-x))"}


@dataclass(frozen=True)
class Layer:
    """One layer, and what one image costs in it."""

    name: str
    kind: str
    input_shape: Shape
    output_shape: Shape
    formula: str = ""
    worked: str = ""
    """The formula of the output's side with the numbers put in."""
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    groups: int = 1
    dilation: int = 1
    parameters: int = 0
    parameters_worked: str = ""
    multiply_adds: int = 0
    """Of convolutions and fully connected layers; the others' few are not counted."""
    receptive_field: int = 1
    """Side in input pixels of what one unit sees."""
    receptive_field_worked: str = ""
    jump: int = 1
    """Input pixels from one unit to the next."""
    notes: tuple[str, ...] = ()

    @property
    def neurons(self) -> int:
        """Units in the output (§3.5 lists them)."""
        return math.prod(self.output_shape)

    @property
    def activation_bytes(self) -> int:
        """The output of one image in fp32."""
        return 4 * self.neurons


@dataclass(frozen=True)
class Explanation:
    """A network at an input size, layer by layer."""

    arch: Arch
    size: int
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

    def to_json(self) -> dict[str, Any]:
        """`arch`, `input`, `layers`, `parameters`, `multiply_adds`, and the smallest input."""
        return {
            "arch": self.arch.name, "input": [3, self.size, self.size], "smallest_input": smallest_input(self.arch),
            "parameters": self.parameters, "multiply_adds": self.multiply_adds,
            "activation_bytes": self.activation_bytes,
            "layers": [{
                "name": layer.name, "kind": layer.kind, "input": list(layer.input_shape),
                "output": list(layer.output_shape), "kernel": layer.kernel, "stride": layer.stride,
                "padding": layer.padding, "groups": layer.groups, "dilation": layer.dilation,
                "formula": layer.formula, "worked": layer.worked,
                "parameters": layer.parameters, "parameters_worked": layer.parameters_worked,
                "multiply_adds": layer.multiply_adds, "receptive_field": layer.receptive_field,
                "receptive_field_worked": layer.receptive_field_worked, "jump": layer.jump, "neurons": layer.neurons,
                "activation_bytes": layer.activation_bytes, "notes": list(layer.notes),
            } for layer in self.layers],
        }


# --- Sizes ------------------------------------------------------------------------------------------------------------


def output_size(side: int, kernel: int, stride: int, padding: int, rounding: Rounding) -> int:
    """Side of a convolution's output: (side + 2 padding - kernel) / stride + 1, rounded; 0 where nothing fits.

    kernel: what it covers, `Conv.effective_kernel`, where it is dilated. The ceiling means zeros beyond the right and bottom edge,
    until the kernel's last step has all it needs. They complete a last step, never the first: cuda-convnet's layer.py
    refuses a kernel larger than the padded input.
    """
    room = side + 2 * padding - kernel
    return 1 + _steps(room, stride, rounding) if room >= 0 else 0


def pooled_size(side: int, kernel: int, stride: int, rounding: Rounding) -> int:
    """Side of a pooling's output. By the ceiling a window may be cut off, even an only one, but begins inside (torch).

    Returns 0 where nothing fits.
    """
    begin_inside = -(-side // stride)
    return max(0, min(1 + _steps(side - kernel, stride, rounding), begin_inside))


def _steps(room: int, stride: int, rounding: Rounding) -> int:
    return room // stride if rounding == "floor" else -(-room // stride)


def _worked_size(
    side: int, kernel: int, stride: int, padding: int, rounding: Rounding, result: int, dilation: int = 1,
) -> str:
    room = side + 2 * padding - (dilation * (kernel - 1) + 1)
    padded = f" + 2*{padding}" if padding else ""
    covered = f"({dilation}*({kernel} - 1) + 1)" if dilation > 1 else str(kernel)
    size = 1 + _steps(room, stride, rounding)
    rounded = f", {rounding} {size}" if room % stride else ""
    inside = f", {result} begin inside" if result != size else ""
    return f"({side}{padded} - {covered})/{stride} + 1 = {room / stride + 1:g}{rounded}{inside}"


def smallest_input(arch: Arch) -> int:
    """The least side from which on every convolution and pooling has an output of at least one unit."""
    # Backwards from one unit. Sizes never shrink when the input grows, so the least side that gives the layer above
    # what it needs starts all those that do; the tests let torch confirm it.
    side = 1
    for number in range(len(arch.conv), 0, -1):
        conv = arch.conv[number - 1]
        if "pool" in arch.steps(number):
            begins = (side - 1) * arch.pool_stride + 1  # the pixel, counted from 1, at which the last window begins
            side = max(begins, _least_side(side, arch.pool_kernel, arch.pool_stride, arch.pool_rounding))
        least = max(conv.effective_kernel, _least_side(side, conv.effective_kernel, conv.stride, arch.conv_rounding))
        side = max(1, least - 2 * conv.padding)
    return side


def _least_side(size: int, kernel: int, stride: int, rounding: Rounding) -> int:
    """The least side whose (side - kernel) / stride + 1, rounded, is `size`."""
    return (size - 1) * stride + kernel if rounding == "floor" else (size - 2) * stride + kernel + 1


def check_size(arch: Arch, size: int) -> None:
    """Raises ValueError, in one sentence with the least size and a preset that fits, for an input that is too small."""
    least = smallest_input(arch)
    if size < least:
        # A preset of the same name is what this network was made from by overrides: no other choice.
        fitting = [other for other in ARCHS.values() if smallest_input(other) <= size and other.name != arch.name]
        close = min(fitting, key=lambda other: abs(other.input.crop - size), default=None)
        preset = f"--arch {close.name}, made for {close.input.crop}, or " if close else ""
        raise ValueError(f"an input of {size} pixels is too small for {arch.name}, which needs {least} or more; "
                         f"use {preset}larger images")


# --- Layers -----------------------------------------------------------------------------------------------------------


def explain(arch: Arch, size: int | None = None) -> Explanation:
    """Every layer of the network for square images of `size` pixels, the preset's own crop unless said.

    Raises ValueError if that is too small, with the least size and a preset to use.
    """
    size = arch.input.crop if size is None else size
    check_size(arch, size)
    trunk = tuple(_trunk(arch, size))
    return Explanation(arch, size, (*trunk, *_head(arch, trunk[-1].output_shape, size)))


def _trunk(arch: Arch, size: int) -> Iterator[Layer]:
    """The convolutions and what follows each."""
    shape: Shape = (3, size, size)
    field, jump = 1, 1
    for number in range(1, len(arch.conv) + 1):
        for step in ("conv", *arch.steps(number)):
            layer = _convolution(arch, number, shape) if step == "conv" else _step(arch, step, number, shape)
            layer = _seeing(layer, field, jump, layer.dilation * (layer.kernel - 1) + 1)
            field, jump, shape = layer.receptive_field, jump * layer.stride, layer.output_shape
            yield replace(layer, jump=jump)
    if arch.average_pool:
        maps, side = shape[0], arch.average_pool
        # Each output averages at most this many inputs: from floor(i n / m) to ceil((i + 1) n / m).
        window = max(-(-(i + 1) * shape[1] // side) - i * shape[1] // side for i in range(side))
        yield _seeing(Layer("average_pool", "adaptive average pooling", shape, (maps, side, side),
                            "whatever comes in is brought to a fixed side", f"{shape[1]} to {side}", jump=jump),
                      field, jump, window)


def _seeing(layer: Layer, field: int, jump: int, window: int) -> Layer:
    """The layer with what its units see, when its inputs see `field` pixels and stand `jump` pixels apart."""
    seen = field + (window - 1) * jump
    worked = f"{field} + ({window} - 1) x {jump} = {seen}" if window > 1 else ""
    return replace(layer, receptive_field=seen, receptive_field_worked=worked)


def _convolution(arch: Arch, number: int, shape: Shape) -> Layer:
    conv, groups = arch.conv[number - 1], arch.groups(number)
    maps, side = shape[0], shape[1]
    out = output_size(side, conv.effective_kernel, conv.stride, conv.padding, arch.conv_rounding)
    taps = maps // groups * conv.kernel**2
    notes = []
    if rest := (side + 2 * conv.padding - conv.effective_kernel) % conv.stride:
        notes.append(_rest(conv, side, rest, out, arch.conv_rounding))
    if groups > 1:
        notes.append(f"each of {groups} towers sees its own {maps // groups} of the {maps} maps")
    elif arch.towers > 1 and number > 1:
        notes.append(f"both towers see all {maps} maps: the GPUs exchange them here" if arch.towers == 2 else
                     f"all {arch.towers} towers see all {maps} maps")
    elif arch.towers > 1 and conv.width % arch.towers == 0:
        notes.append(f"{conv.width} kernels on {arch.towers} GPUs: {conv.width // arch.towers}x{out}x{out} on each")
    return Layer(
        f"conv{number}", "convolution", shape, (conv.width, out, out),
        f"(side + 2*padding - {'(dilation*(kernel - 1) + 1)' if conv.dilation > 1 else 'kernel'}) / stride + 1",
        _worked_size(side, conv.kernel, conv.stride, conv.padding, arch.conv_rounding, out, conv.dilation),
        conv.kernel, conv.stride, conv.padding, groups, conv.dilation,
        parameters=conv.width * (taps + 1),
        parameters_worked=f"{conv.width} x ({maps // groups} x {conv.kernel} x {conv.kernel} + 1) = "
                          f"{conv.width * (taps + 1):,}",
        multiply_adds=conv.width * taps * out * out, notes=tuple(notes))


def _rest(conv: Conv, side: int, rest: int, out: int, rounding: Rounding) -> str:
    """What becomes of the columns and rows that are left over when the kernel has made its whole steps."""
    if rounding == "ceil":
        missing = conv.stride - rest
        lines = "column and row" if missing == 1 else "columns and rows"
        return (f"the floor would give {out - 1}; the ceiling takes {out}, which equals {missing} more {lines} of "
                f"zeros on the right and bottom, or feeding {side + missing}")
    lines = "column and row" if rest == 1 else f"{rest} columns and rows"
    padding = ", which are padding" if rest <= conv.padding else ""
    return f"the floor leaves out the last {lines}{padding}; the ceiling would give {out + 1}"


def _step(arch: Arch, step: str, number: int, shape: Shape) -> Layer:
    """What follows a convolution."""
    maps, side = shape[0], shape[1]
    if step == "pool":
        kernel, stride = arch.pool_kernel, arch.pool_stride
        out = pooled_size(side, kernel, stride, arch.pool_rounding)
        return Layer(f"pool{number}", "max pooling", shape, (maps, out, out), "(side - kernel) / stride + 1",
                     _worked_size(side, kernel, stride, 0, arch.pool_rounding, out), kernel, stride,
                     notes=("windows overlap (§3.4)",) if kernel > stride else ())
    if step == "act":
        return _activation(arch, number, shape)
    if step == "mapnorm":
        return Layer(f"mapnorm{number}", "normalization over 5x5 within a map", shape, shape, kernel=5,
                     notes=("in code2012, which made Table 2; the paper does not mention it",))
    if arch.norm == "batch":
        return Layer(f"norm{number}", "batch normalization", shape, shape, parameters=2 * maps,
                     parameters_worked=f"2 x {maps} = {2 * maps:,}")
    lrn = arch.lrn
    share = f" / {lrn.n}" if lrn.divide_by_n else ""
    reach = ", of the same tower" if lrn.within_tower and arch.towers > 1 else ""
    return Layer(f"norm{number}", "local response normalization", shape, shape, notes=(
        f"each unit's a becomes a / ({lrn.k:g} + {lrn.alpha:g}{share} x the sum of a^2) ^ {lrn.beta:g}, summed over "
        f"{lrn.n} neighboring maps{reach} (§3.3)",))


def _activation(arch: Arch, number: int, shape: Shape) -> Layer:
    return Layer(f"{arch.activation}{number}", "activation", shape, shape,
                 notes=(f"each unit's x becomes {_ACTIVATIONS[arch.activation]}",))


def _head(arch: Arch, shape: Shape, whole: int) -> Iterator[Layer]:
    """The fully connected layers, from the last maps' shape on. Every unit sees the whole image."""
    number = len(arch.conv)
    dropout = f"in training each unit is zeroed with probability {arch.dropout:g}, at test none (§4.2)"
    for dense in arch.dense:
        number += 1
        flat = (math.prod(shape),)
        drop = Layer(f"dropout{number}", "dropout", flat, flat, notes=(dropout,), receptive_field=whole)
        if arch.dropout and arch.dropout_before:
            yield drop
        layer = _fully_connected(f"fc{number}", shape, dense.width, whole)
        shape = layer.output_shape
        yield layer
        if arch.dense_norm:
            yield Layer(f"norm{number}", "batch normalization", shape, shape, parameters=2 * dense.width,
                        parameters_worked=f"2 x {dense.width} = {2 * dense.width:,}", receptive_field=whole)
        yield replace(_activation(arch, number, shape), receptive_field=whole)
        if arch.dropout and not arch.dropout_before:
            yield replace(drop, input_shape=shape, output_shape=shape)
    yield _fully_connected(f"fc{number + 1}", shape, arch.classes, whole)


def _fully_connected(name: str, shape: Shape, width: int, whole: int) -> Layer:
    inputs = math.prod(shape)
    worked = " x ".join(map(str, shape)) + f" = {inputs:,} inputs" if len(shape) > 1 else f"{inputs:,} inputs"
    return Layer(name, "fully connected", shape, (width,), "every input to every unit", worked,
                 parameters=width * (inputs + 1), parameters_worked=f"{width:,} x ({inputs:,} + 1) = "
                 f"{width * (inputs + 1):,}", multiply_adds=width * inputs, receptive_field=whole)
