"""Caffe's files are read as Caffe means them. No Caffe, and no file of its zoo, is here to compare with.

So the files are made by a writer of protobuf's wire format of our own, in the layouts of 2014 (V1) and since, and what
comes out is compared with a forward pass in NumPy, float64, that follows Caffe's documentation of each layer.
Shapes: N photographs, C maps, H rows, W columns.
"""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet import checkpoint
from alexnet.caffe import read_caffe
from alexnet.caffeproto import read_binaryproto
from alexnet.cli import main
from alexnet.config import CAFFE, CAFFENET
from alexnet.imagenet import CLASSES

# --- Networks ---------------------------------------------------------------------------------------------------------


@dataclass
class Spec:
    """A layer, as the files describe it."""

    name: str
    type: str
    bottom: list[str]
    top: list[str]
    settings: dict = field(default_factory=dict)
    blobs: list[np.ndarray] = field(default_factory=list)


def alexnet(
    widths=(8, 16, 12, 12, 16), hidden=24, classes=10, pool_first=False, seed=0, sigma=None, split=False,
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
        deviation = sigma or (2 / np.prod(shape[1:])) ** 0.5
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
    """What Caffe computes in its TEST phase, by its documentation of each layer: float64, the last blob."""
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


#: Field numbers of caffe.proto, stated here once more, by hand: parameter in a layer of today and of V1, then fields.
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
    """The same as a .prototxt, without the blobs, and with the fields that training alone needs."""
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
    """As train_val has them: one for each phase."""
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


def logits(saved, data_NCHW: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return saved.network().double()(torch.from_numpy(data_NCHW.astype(np.float64))).numpy()


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 1e-5
    assert np.ptp(theirs, axis=1).min() > 0.1, "logits that hardly differ would prove nothing"


DATA = np.random.default_rng(5).normal(0, 60, (2, 3, 227, 227))

# --- What is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["v1", "current", "legacy", "double"])
@pytest.mark.parametrize("pool_first", [False, True], ids=["bvlc_alexnet", "caffenet"])
def test_a_caffemodel_computes_what_caffe_documents(tmp_path, form, pool_first):
    layers = alexnet(pool_first=pool_first)
    path = write(tmp_path, net_bytes([*MEAN_VALUES, *layers, *ends()], form))
    saved = read_caffe(path)
    assert_close(logits(saved, DATA), forward(layers, DATA))
    assert (saved.arch.input.side, saved.arch.input.crop, saved.arch.input.channels) == (256, 227, "BGR")


@pytest.mark.parametrize(("pool_first", "preset"), [(False, CAFFE), (True, CAFFENET)], ids=["caffe", "caffenet"])
def test_the_full_network_is_the_preset_of_its_name(tmp_path, pool_first, preset):
    """The size of BVLC's own files: 60,965,224 numbers, in the V1 messages in which they were published."""
    layers = alexnet((96, 256, 384, 384, 256), 4096, 1000, pool_first)
    path = write(tmp_path, net_bytes([*data_layers(crop_size=227, mean_file="imagenet_mean.binaryproto"),
                                      *layers, *ends()], "v1"))
    mean = np.random.default_rng(0).uniform(90, 130, (3, 256, 256)).astype(np.float32)
    saved = read_caffe(path, mean=write(tmp_path, blob(mean, "legacy"), "mean.binaryproto"))
    assert saved.arch == preset
    assert sum(tensor.numel() for tensor in saved.weights.values()) == 60_965_224
    assert saved.classes == CLASSES
    for name, layer in {layer.name: layer for layer in layers if layer.blobs}.items():
        part = "features" if name.startswith("conv") else "classifier"
        assert np.array_equal(saved.weights[f"{part}.{name}.weight"].numpy(), layer.blobs[0])
        assert np.array_equal(saved.weights[f"{part}.{name}.bias"].numpy(), layer.blobs[1])
    assert_close(logits(saved, DATA[:1]), forward(layers, DATA[:1]))


@pytest.mark.parametrize("form", ["legacy", "current"])
def test_from_a_photograph_on_it_does_what_caffe_does(tmp_path, form):
    """RGB photograph -> blue, green, red; less the mean image at the window's place; the central 227x227."""
    rng, layers = np.random.default_rng(1), alexnet()
    mean_BGR = rng.uniform(60, 180, (3, 256, 256)).astype(np.float32)
    path = write(tmp_path, net_bytes([*data_layers(crop_size=227, mean_file="x.binaryproto"), *layers]))
    saved = read_caffe(path, mean=write(tmp_path, blob(mean_BGR, form), "mean.binaryproto"))
    photographs_NHWC = rng.integers(0, 256, (2, 256, 256, 3), np.uint8)
    at = (256 - 227) // 2
    data = (photographs_NHWC[..., ::-1].transpose(0, 3, 1, 2) - mean_BGR.astype(np.float64))
    data = data[:, :, at:at + 227, at:at + 227]
    ours = saved.preprocess().centre(torch.from_numpy(photographs_NHWC)).numpy()
    np.testing.assert_allclose(ours, data, atol=1e-4)
    assert_close(logits(saved, ours), forward(layers, data))


def test_three_numbers_are_blue_green_and_red(tmp_path):
    path = write(tmp_path, net_bytes([*data_layers(crop_size=227), *alexnet()]))
    given, said = read_caffe(path, mean=(104.0, 117.0, 123.0)), write(tmp_path, net_bytes([*MEAN_VALUES, *alexnet()]))
    for saved in (given, read_caffe(said)):
        assert saved.arch.input.mean == (123.0, 117.0, 104.0)
        pixel = saved.preprocess().centre(torch.full((1, 256, 256, 3), 200, dtype=torch.uint8))[0, :, 0, 0]
        assert pixel.tolist() == [96, 83, 77]


def test_scale_divides(tmp_path):
    path = write(tmp_path, net_bytes([*data_layers(crop_size=227, mean_value=(10.0,), scale=0.0125), *alexnet()]))
    view = read_caffe(path).preprocess().centre(torch.full((1, 256, 256, 3), 90, dtype=torch.uint8))
    torch.testing.assert_close(view, torch.full_like(view, 1.0))


INPUT_DIMS = 'input: "data"\ninput_dim: 10 input_dim: 3 input_dim: 227 input_dim: 227'
INPUT_SHAPE = 'input: "data"\ninput_shape { dim: 10 dim: 3 dim: 227 dim: 227 }'
INPUT_LAYER = ('layer { name: "data" type: "Input" top: "data" '
               'input_param { shape: { dim: 1 dim: 3 dim: 227 dim: 227 } } }')


@pytest.mark.parametrize(("form", "head"), [
    ("v1", INPUT_DIMS), ("current", INPUT_DIMS), ("v1", INPUT_SHAPE), ("current", INPUT_SHAPE),
    ("current", INPUT_LAYER), ("v1", "train_val"), ("current", "train_val")])
def test_a_prototxt_describes_and_the_caffemodel_gives_the_numbers(tmp_path, form, head):
    layers = alexnet(pool_first=True)
    # The trained file alone would be another network: its layers are in bvlc_alexnet's order.
    trained = [replace(other, blobs=mine.blobs) for mine, other in zip(
        sorted(layers, key=lambda each: each.name), sorted(alexnet(), key=lambda each: each.name), strict=True)]
    trained.sort(key=lambda each: [other.name for other in alexnet()].index(each.name))
    path = write(tmp_path, net_bytes(trained, form))
    described = [*MEAN_VALUES, *layers, *ends()] if head == "train_val" else layers
    text = write(tmp_path, net_text(described, form, "" if head == "train_val" else head), "net.prototxt")
    mean = None if head == "train_val" else (104.0, 117.0, 123.0)
    saved = read_caffe(path, prototxt=text, mean=mean)
    assert_close(logits(saved, DATA), forward(layers, DATA))


def test_split_layers_that_caffe_adds_are_seen_through(tmp_path):
    layers = alexnet(split=True)
    saved = read_caffe(write(tmp_path, net_bytes([*MEAN_VALUES, *layers])))
    assert_close(logits(saved, DATA), forward(layers, DATA))


def test_a_convolution_without_biases_has_zeros(tmp_path):
    layers = alexnet()
    layers[0].settings["bias_term"] = False
    layers[0].blobs.pop()
    saved = read_caffe(write(tmp_path, net_bytes([*MEAN_VALUES, *layers])))
    assert_close(logits(saved, DATA), forward(layers, DATA))


@pytest.mark.parametrize("settings", [{"k": 2.0}, {"local_size": 3, "alpha": 0.01}, {"beta": 0.5, "alpha": 0.001}])
def test_other_settings_of_lrn_are_kept(tmp_path, settings):
    layers = alexnet()
    for layer in layers:
        layer.settings |= settings if layer.type == "LRN" else {}
    saved = read_caffe(write(tmp_path, net_bytes([*MEAN_VALUES, *layers])))
    assert_close(logits(saved, DATA), forward(layers, DATA))
    assert saved.arch.name == "caffe-alexnet", "it is not BVLC's, and must not bear that name"


def test_other_networks_of_the_kind_are_read(tmp_path):
    """Another input size, where the ceiling of pooling shows; ungrouped; without norms."""
    layers = alexnet()
    for layer in layers:
        layer.settings |= {"group": 1} if layer.type == "Convolution" else {}
    by_name = {layer.name: layer for layer in layers}
    rng = np.random.default_rng(2)
    for name, shape in (("conv2", (16, 8, 5, 5)), ("conv4", (12, 12, 3, 3)), ("conv5", (16, 12, 3, 3)),
                        ("fc6", (24, 16 * 3 * 3))):
        by_name[name].blobs[0] = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
    layers = [layer for layer in layers if layer.type != "LRN"]
    by_name["pool1"].bottom, by_name["pool2"].bottom = ["conv1"], ["conv2"]
    saved = read_caffe(write(tmp_path, net_bytes([*data_layers(crop_size=120, mean_value=(1.0,)), *layers])))
    assert saved.arch.norm == "none"
    assert saved.arch.towers == 1
    data = DATA[:, :, :120, :120]
    assert_close(logits(saved, data), forward(layers, data))


# --- The command ------------------------------------------------------------------------------------------------------


def command(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def test_the_command_makes_a_checkpoint_that_predicts(tmp_path, class_folders, capsys):
    path = write(tmp_path, net_bytes([*MEAN_VALUES, *alexnet(classes=4), *ends()], "v1"))
    names = write(tmp_path, "ash\nbirch\ncedar\ndate palm\n", "names.txt")
    assert command("import", path, tmp_path / "out", "--classes", names) == 0
    assert "4 classes (ash, ...); BGR views of 227x227 from 256x256" in capsys.readouterr().out
    saved = checkpoint.load(tmp_path / "out")
    assert saved.provenance["file"] == "net.caffemodel"
    assert saved.provenance["source"] == "Caffe"
    assert command("predict", tmp_path / "out", class_folders / "val" / "ash" / "000.png", "--json") == 0
    classes = json.loads(capsys.readouterr().out)[0]["classes"]
    assert {each["name"] for each in classes} == {"ash", "birch", "cedar", "date palm"}


def changed(change: str) -> bytes | str:
    """A file with one thing wrong."""
    layers = alexnet()
    named = {layer.name: layer for layer in layers}
    if change == "batch norm":
        layers.insert(1, Spec("bn1", "BatchNorm", ["conv1"], ["conv1"]))
    elif change == "branches":
        layers.insert(5, Spec("side", "ReLU", ["conv1"], ["side"]))
    elif change == "two norms":
        named["norm2"].settings["alpha"] = 0.01
    elif change == "within a map":
        named["norm1"].settings["norm_region"] = "WITHIN_CHANNEL"
    elif change == "leaky":
        named["relu3"].settings["negative_slope"] = 0.25
    elif change == "average":
        named["pool2"].settings["pool"] = "AVE"
    elif change == "padded pooling":
        named["pool2"].settings["pad"] = 1
    elif change == "dilated":
        named["conv3"].settings["dilation"] = 2
    elif change == "not square":
        named["conv3"].settings |= {"kernel_h": 3, "kernel_w": 5}
    elif change == "shape":
        named["conv3"].blobs[0] = named["conv3"].blobs[0][:, :5]
    elif change == "not finite":
        named["fc7"].blobs[0][3, 3] = np.nan
    elif change == "no weights":
        for layer in layers:
            layer.blobs.clear()
    elif change == "one without weights":
        named["fc7"].blobs.clear()
    elif change == "a blob too few":
        named["fc7"].blobs.pop()
    elif change == "no dense":
        layers = layers[:layers.index(named["fc6"])]
    elif change == "ends in relu":
        layers = layers[:layers.index(named["fc8"])]
    elif change == "even norm":
        named["norm1"].settings["local_size"] = named["norm2"].settings["local_size"] = 4
    elif change == "even groups":
        named["conv2"].settings["group"] = 4
    if change == "no size":
        return net_bytes([*data_layers(mean_value=(104.0,)), *layers])
    if change == "no mean":
        return net_bytes([*data_layers(crop_size=227), *layers])
    if change == "mean file":
        return net_bytes([*data_layers(crop_size=227, mean_file="ilsvrc.binaryproto"), *layers])
    if change == "two means":
        return net_bytes([*data_layers(crop_size=227, mean_value=(1.0, 2.0)), *layers])
    if change == "V0":
        return put(1, "old") + put(2, put(1, put(1, "conv1") + put(2, "conv")) + put(2, "data") + put(3, "conv1"))
    if change == "lies of its size":
        whole = net_bytes([*MEAN_VALUES, *layers])
        return whole.replace(put(1, b"".join(map(varint, (12,)))), put(1, b"".join(map(varint, (11,)))), 1)
    whole = net_bytes([*MEAN_VALUES, *layers])
    return {"empty": b"", "a photograph": b"\xff\xd8\xff\xe0" + bytes(range(200)), "text": net_text(layers),
            "half": whole[:len(whole) // 2]}.get(change, whole)


@pytest.mark.parametrize(("change", "words"), [
    ("batch norm", "layer 'bn1' is of the type BatchNorm, which no AlexNet here has"),
    ("branches", "networks that branch are not read"),
    ("two norms", "a network here has one setting for all"),
    ("within a map", "'norm1' normalises within a map"),
    ("leaky", "'relu3' is a leaky ReLU"),
    ("average", "'pool2' is not the plain maximum"),
    ("padded pooling", "'pool2' is not the plain maximum"),
    ("dilated", "'conv3' is dilated"),
    ("not square", "'conv3' has a kernel_size of 3x5; here it must be square"),
    ("shape", "features.conv3.weight is 12x5x3x3, and caffe-alexnet with 10 classes has 12x16x3x3 there"),
    ("not finite", "classifier.fc7.weight holds values that are not finite"),
    ("no weights", "holds no weights"),
    ("one without weights", "has no weights for layer 'fc7'"),
    ("a blob too few", "layer 'fc7' has 1 blobs, and is described as one with 2"),
    ("no dense", "an AlexNet has convolutions and then fully connected layers"),
    ("ends in relu", "behind layer 'fc7' stand ReLU, Dropout"),
    ("even norm", "n must be odd"),
    ("even groups", "convolutions of 1, 4, 1, 2, 2 groups"),
    ("no size", "tells no size of its input"),
    ("no mean", "does not tell its mean; give it with --mean"),
    ("mean file", "subtracts ilsvrc.binaryproto; give it with --mean"),
    ("two means", "2 mean values"),
    ("V0", "layers in the form of 2013 (V0)"),
    ("lies of its size", "the bias of layer 'conv3' has 12 numbers and is said to be 11; the file is damaged"),
    ("empty", "holds no layers"),
    ("a photograph", "is cut off, or no .caffemodel; download it again"),
    ("text", "is cut off, or no .caffemodel; download it again"),
    ("half", "is cut off, or no .caffemodel; download it again"),
])
def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path, capsys, change, words):
    path = write(tmp_path, changed(change))
    assert command("import", path, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("options", "words"), [
    (["--prototxt", "nowhere.prototxt"], "nowhere.prototxt is not a file"),
    (["--prototxt", "SOLVER"], "holds no layers"),
    (["--prototxt", "BROKEN"], "is no .prototxt of a network"),
    (["--prototxt", "NET"], "is no .prototxt of a network"),
    (["--mean", "nowhere.binaryproto"], "nowhere.binaryproto is not a file"),
    (["--mean", "NET"], "the mean has 0 numbers"),
    (["--mean", "FLAT"], "holds 3x227x256 numbers, and a mean image has 3 colours and as many rows as columns"),
    (["--mean", "SMALL"], "has 100 pixels a side and the network takes 227"),
    (["--mean", "HALF"], "is cut off, or no mean .binaryproto"),
    (["--mean", "NAN"], "not finite"),
    (["--classes", "NAMES"], "3 names of classes were given, and the network has 10 outputs"),
    (["--from", "torchvision"], "is cut off, or is not what torch.save writes"),
])
def test_wrong_files_beside_it_are_said_in_one_sentence(tmp_path, capsys, options, words):
    mean = np.ones((3, 256, 256), np.float32)
    files = {"NET": net_bytes([*MEAN_VALUES, *alexnet()]), "SOLVER": 'net: "train_val.prototxt"\nbase_lr: 0.01',
             "BROKEN": 'layer { name: "conv1" ', "SMALL": blob(np.ones((3, 100, 100), np.float32), "legacy"),
             "FLAT": blob(np.ones((3, 227, 256), np.float32), "current"),
             "HALF": blob(mean, "legacy")[:9999], "NAN": blob(mean * np.nan, "current"), "NAMES": "a\nb\nc\n"}
    paths = {word: write(tmp_path, data, f"{word}.caffemodel") for word, data in files.items()}
    assert command("import", paths["NET"], tmp_path / "out", *(paths.get(word, word) for word in options)) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_is_refused_or_read_and_never_anything_else(tmp_path):
    """Cut anywhere, or with bytes changed: ValueError, or a network, but no other error."""
    whole = net_bytes([*MEAN_VALUES, *alexnet(widths=(4, 4, 4, 4, 4), hidden=4)], "v1")
    rng, refused = np.random.default_rng(0), 0
    for trial in range(300):
        data = bytearray(whole)
        if trial % 2:
            del data[rng.integers(len(data)):]
        else:
            for place in rng.integers(0, 400, 3):  # among the first layers' settings
                data[place] = rng.integers(256)
        try:
            read_caffe(write(tmp_path, bytes(data)))
        except ValueError:
            refused += 1
    assert refused > 150


def test_a_mean_image_is_read_with_its_shape(tmp_path):
    mean = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    for form in ("legacy", "current", "double"):
        assert np.array_equal(read_binaryproto(write(tmp_path, blob(mean, form), form)), mean)
