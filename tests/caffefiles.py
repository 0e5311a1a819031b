"""Caffe files for tests: networks like BVLC's, a forward pass in NumPy, and a writer of protobuf's wire format.

The forward pass follows Caffe's documentation of each layer, in float64. The writer has its own copy of the field
numbers, typed by hand, so that it does not share the reader's mistakes.
Shapes: N images, C maps, H rows, W columns.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

# --- Networks ---------------------------------------------------------------------------------------------------------


@dataclass
class Spec:
    """A layer as a file describes it."""

    name: str
    type: str
    bottom: list[str]
    top: list[str]
    settings: dict = field(default_factory=dict)
    blobs: list[np.ndarray] = field(default_factory=list)


def alexnet(
    widths=(8, 16, 12, 12, 16), hidden=24, classes=10, pool_first=False, seed=0, init_std=None, split=False,
) -> list[Spec]:
    """bvlc_alexnet, or with `pool_first` bvlc_reference_caffenet, layer by layer, with random weights."""
    rng = np.random.default_rng(seed)
    layers, blob, maps = [], "data", 3

    def add(name: str, kind: str, settings: dict, blobs=(), in_place=False) -> None:
        nonlocal blob
        top = blob if in_place else name
        layers.append(Spec(name, kind, [blob], [top], settings, list(blobs)))
        blob = top

    def draw(*shape: int) -> np.ndarray:
        deviation = init_std or (2 / np.prod(shape[1:])) ** 0.5
        return (rng.standard_normal(shape, np.float32) * np.float32(deviation)).astype(np.float32)

    kernels = ((11, 4, 0, 1), (5, 1, 2, 2), (3, 1, 1, 1), (3, 1, 1, 2), (3, 1, 1, 2))
    for number, (width, (kernel, stride, pad, group)) in enumerate(zip(widths, kernels, strict=True), 1):
        settings = {"num_output": width, "kernel_size": kernel, "stride": stride, "pad": pad, "group": group}
        add(f"conv{number}", "Convolution", settings,
            [draw(width, maps // group, kernel, kernel), rng.standard_normal(width).astype(np.float32)])
        maps = width
        add(f"relu{number}", "ReLU", {}, in_place=True)
        norm = (f"norm{number}", "LRN", {"local_size": 5, "alpha": 0.0001, "beta": 0.75})
        pool = (f"pool{number}", "Pooling", {"pool": "MAX", "kernel_size": 3, "stride": 2})
        for step in {1: [norm, pool], 2: [norm, pool], 5: [pool]}.get(number, [])[::-1 if pool_first else 1]:
            add(*step)
    if split:
        layers.append(Spec("pool5_split", "Split", [blob], [f"{blob}_split_0", f"{blob}_split_1"]))
        blob = f"{blob}_split_0"
    inputs = maps * 6 * 6
    for number, units in ((6, hidden), (7, hidden), (8, classes)):
        add(f"fc{number}", "InnerProduct", {"num_output": units},
            [draw(units, inputs), rng.standard_normal(units).astype(np.float32)])
        inputs = units
        if number < 8:
            add(f"relu{number}", "ReLU", {}, in_place=True)
            add(f"drop{number}", "Dropout", {"dropout_ratio": 0.5}, in_place=True)
    return layers


def forward(layers: Iterable[Spec], data_NCHW: np.ndarray) -> np.ndarray:
    """The last blob that Caffe computes in its TEST phase, by its documentation of each layer: float64."""
    blobs = {"data": data_NCHW.astype(np.float64)}
    for layer in layers:
        x, get = blobs[layer.bottom[0]], layer.settings.get
        weights = [blob.astype(np.float64) for blob in layer.blobs]
        if layer.type == "Convolution":
            y = convolve(x, weights[0], get("stride", 1), get("pad", 0), get("group", 1))
            y += weights[1][None, :, None, None] if len(weights) > 1 else 0
        elif layer.type == "InnerProduct":
            y = x.reshape(len(x), -1) @ weights[0].reshape(weights[0].shape[-2:]).T + weights[1].ravel()
        elif layer.type == "ReLU":
            y = np.maximum(x, 0)
        elif layer.type == "LRN":
            n, squares, total = get("local_size", 5), x**2, np.zeros_like(x)
            for i in range(x.shape[1]):
                total[:, i] = squares[:, max(0, i - n // 2):i + n // 2 + 1].sum(1)
            y = x / (get("k", 1.0) + get("alpha", 1.0) / n * total) ** get("beta", 0.75)
        elif layer.type == "Pooling":
            k, s = get("kernel_size"), get("stride", 1)
            side = int(np.ceil((x.shape[2] - k) / s)) + 1
            y = np.stack([np.stack([x[:, :, r * s:r * s + k, c * s:c * s + k].max((2, 3)) for c in range(side)], -1)
                          for r in range(side)], -2)
        else:
            y = x  # Dropout at test, Split
        blobs |= dict.fromkeys(layer.top, y)
    return y


def convolve(x: np.ndarray, weights: np.ndarray, stride: int, pad: int, group: int) -> np.ndarray:
    """Each block of output maps from its own block of input maps; the floor of the output's side."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weights.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    blocks = zip(np.split(windows, group, 1), np.split(weights, group), strict=True)
    return np.concatenate([np.tensordot(w, k, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2) for w, k in blocks], 1)


# --- A writer of protobuf's wire format -------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def put(number: int, value: int | float | str | bytes) -> bytes:
    """One field: varint, 32-bit float, or a string of bytes (text, a message, packed numbers)."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def blob(array: np.ndarray, form: str) -> bytes:
    """A BlobProto: with a shape, or with num, channels, height and width, as before 2015; float or double."""
    if form == "legacy":
        shape = b"".join(put(number, side) for number, side in enumerate(
            (1,) * (4 - array.ndim) + array.shape, 1))
        return shape + put(5, array.astype("<f4").tobytes())
    shape = put(7, put(1, b"".join(map(varint, array.shape))))
    number, kind = (8, "<f8") if form == "double" else (5, "<f4")
    return shape + put(number, array.astype(kind).tobytes())


# Field numbers of caffe.proto, typed by hand: a parameter in a current layer and in a V1 layer, then its fields.
PARAMETERS = {
    "Convolution": (106, 10, {"num_output": 1, "bias_term": 2, "pad": 3, "kernel_size": 4, "group": 5, "stride": 6,
                              "kernel_h": 11, "kernel_w": 12, "dilation": 18}),
    "Pooling": (121, 19, {"pool": 1, "kernel_size": 2, "stride": 3, "pad": 4}),
    "LRN": (118, 18, {"local_size": 1, "alpha": 2, "beta": 3, "norm_region": 4, "k": 5}),
    "InnerProduct": (117, 17, {"num_output": 1, "bias_term": 2, "axis": 5, "transpose": 6}),
    "Dropout": (108, 12, {"dropout_ratio": 1}),
    "ReLU": (123, 30, {"negative_slope": 1}),
    "Data": (100, 36, {"scale": 1, "mirror": 2, "crop_size": 3, "mean_file": 4, "mean_value": 5}),
}
V1_TYPES = {"Convolution": 4, "Data": 5, "Dropout": 6, "InnerProduct": 14, "LRN": 15, "Pooling": 17, "ReLU": 18,
            "Softmax": 20, "SoftmaxWithLoss": 21, "Split": 22, "Concat": 3, "Accuracy": 1}
WORDS = {"MAX": 0, "AVE": 1, "TRAIN": 0, "TEST": 1, "WITHIN_CHANNEL": 1}


def number_of(value):
    return WORDS[value] if value in WORDS else int(value) if isinstance(value, bool) else value


def layer_bytes(layer: Spec, form: str) -> bytes:
    """A layer message of V1 (`v1`) or of today (`current`; also with legacy or double blobs)."""
    v1 = form == "v1"
    out = put(4, layer.name) + put(5, V1_TYPES[layer.type]) if v1 else put(1, layer.name) + put(2, layer.type)
    out += b"".join(put(2 if v1 else 3, name) for name in layer.bottom)
    out += b"".join(put(3 if v1 else 4, name) for name in layer.top)
    out += b"".join(put(6 if v1 else 7, blob(array, "legacy" if v1 else form)) for array in layer.blobs)
    settings = dict(layer.settings)
    if phase := settings.pop("phase", None):
        out += put(32 if v1 else 8, put(1, WORDS[phase]))
    if settings:
        today, then, fields = PARAMETERS[layer.type]
        inner = b"".join(put(fields[name], number_of(item)) for name, value in settings.items()
                         for item in (value if isinstance(value, tuple) else [value]))
        out += put(then if v1 else today, inner)
    return out


def net_bytes(layers: Iterable[Spec], form: str = "current", name: str = "AlexNet") -> bytes:
    return put(1, name) + b"".join(put(2 if form == "v1" else 100, layer_bytes(layer, form)) for layer in layers)


def net_text(layers: Iterable[Spec], form: str = "current", head: str = "") -> str:
    """The same as a .prototxt, without the blobs, and with fields that only training needs."""
    lines = ['name: "AlexNet"  # a remark', head]
    for layer in layers:
        kind = {value: key for key, value in OLD_WORDS.items()}[layer.type] if form == "v1" else f'"{layer.type}"'
        lines += [f"{'layers' if form == 'v1' else 'layer'} {{", f'  name: "{layer.name}"', f"  type: {kind}"]
        lines += [f'  bottom: "{name}"' for name in layer.bottom] + [f'  top: "{name}"' for name in layer.top]
        settings = dict(layer.settings)
        if phase := settings.pop("phase", None):
            lines.append(f"  include {{ phase: {phase} }}")
        if layer.type == "Convolution":
            lines.append("  blobs_lr: 1 blobs_lr: 2" if form == "v1" else "  param { lr_mult: 1 decay_mult: 1 }")
            settings["weight_filler"] = '{ type: "gaussian" std: 0.01 }'
        parameter = {"Convolution": "convolution_param", "Pooling": "pooling_param", "LRN": "lrn_param", "Data":
                     "transform_param", "InnerProduct": "inner_product_param", "Dropout": "dropout_param",
                     "ReLU": "relu_param"}.get(layer.type)
        if settings:
            lines += [f"  {parameter} {{"]
            for key, value in settings.items():
                for item in value if isinstance(value, tuple) else [value]:
                    quoted = f'"{item}"' if key.endswith("file") else str(item).lower() if item is True else item
                    lines.append(f"    {key}{' ' if str(quoted).startswith('{') else ': '}{quoted}")
            lines += ["  }"]
        lines += ["}"]
    return "\n".join(lines)


OLD_WORDS = {"CONVOLUTION": "Convolution", "DATA": "Data", "DROPOUT": "Dropout", "INNER_PRODUCT": "InnerProduct",
             "LRN": "LRN", "POOLING": "Pooling", "RELU": "ReLU", "SOFTMAX": "Softmax", "SOFTMAX_LOSS":
             "SoftmaxWithLoss", "SPLIT": "Split", "ACCURACY": "Accuracy"}


def data_layers(**transform) -> list[Spec]:
    """Data layers as in train_val: one for each phase."""
    return [Spec("data", "Data", [], ["data", "label"], {"phase": phase, "mirror": phase == "TRAIN", **transform})
            for phase in ("TRAIN", "TEST")]


def ends() -> list[Spec]:
    return [Spec("accuracy", "Accuracy", ["fc8", "label"], ["accuracy"], {"phase": "TEST"}),
            Spec("loss", "SoftmaxWithLoss", ["fc8", "label"], ["loss"])]


MEAN_VALUES = data_layers(crop_size=227, mean_value=(104.0, 117.0, 123.0))


def write(folder: Path, data: bytes | str, name: str = "net.caffemodel") -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path
