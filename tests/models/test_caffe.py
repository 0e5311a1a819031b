"""Caffe's files are imported as Caffe computes them.

Neither Caffe nor a file of its model zoo is available here. caffefiles.py writes files in the layouts of 2014 (V1) and
later, and its forward pass in NumPy is the reference.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet.architecture.network_presets import CAFFE, CAFFENET
from alexnet.data.imagenet_classes import CLASSES
from alexnet.models import checkpoint
from alexnet.models.formats.caffe import read_caffe
from alexnet.models.formats.caffe_proto import read_binaryproto
from caffefiles import (
    MEAN_VALUES,
    Spec,
    alexnet,
    blob,
    data_layers,
    ends,
    forward,
    net_bytes,
    net_text,
    put,
    varint,
    write,
)
from command_line import alexnet as command


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 1e-5
    assert np.ptp(theirs, axis=1).min() > 0.1, "logits that hardly differ would prove nothing"


def logits(saved, data_NCHW: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return saved.network().double()(torch.from_numpy(data_NCHW.astype(np.float64))).numpy()


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


@pytest.mark.parametrize(("pool_first", "preset"), [
    pytest.param(False, CAFFE, id="caffe"), pytest.param(True, CAFFENET, id="caffenet", marks=pytest.mark.slow)])
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
def test_preprocessing_and_logits_equal_caffes(tmp_path, form):
    """RGB image -> blue, green, red; minus the mean image at the window's place; the central 227x227."""
    rng, layers = np.random.default_rng(1), alexnet()
    mean_BGR = rng.uniform(60, 180, (3, 256, 256)).astype(np.float32)
    path = write(tmp_path, net_bytes([*data_layers(crop_size=227, mean_file="x.binaryproto"), *layers]))
    saved = read_caffe(path, mean=write(tmp_path, blob(mean_BGR, form), "mean.binaryproto"))
    images_NHWC = rng.integers(0, 256, (2, 256, 256, 3), np.uint8)
    at = (256 - 227) // 2
    data = (images_NHWC[..., ::-1].transpose(0, 3, 1, 2) - mean_BGR.astype(np.float64))
    data = data[:, :, at:at + 227, at:at + 227]
    ours = saved.preprocess()(torch.from_numpy(images_NHWC)).numpy()
    np.testing.assert_allclose(ours, data, atol=1e-4)
    assert_close(logits(saved, ours), forward(layers, data))


def test_three_numbers_are_blue_green_and_red(tmp_path):
    path = write(tmp_path, net_bytes([*data_layers(crop_size=227), *alexnet()]))
    given = read_caffe(path, mean=(104.0, 117.0, 123.0))
    described = read_caffe(write(tmp_path, net_bytes([*MEAN_VALUES, *alexnet()])))
    for saved in (given, described):
        assert saved.arch.input.mean == (123.0, 117.0, 104.0)
        pixel = saved.preprocess()(torch.full((1, 256, 256, 3), 200, dtype=torch.uint8))[0, :, 0, 0]
        assert pixel.tolist() == [96, 83, 77]


def test_caffes_scale_is_applied(tmp_path):
    path = write(tmp_path, net_bytes([*data_layers(crop_size=227, mean_value=(10.0,), scale=0.0125), *alexnet()]))
    view = read_caffe(path).preprocess()(torch.full((1, 256, 256, 3), 90, dtype=torch.uint8))
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


def test_split_layers_that_caffe_adds_are_skipped(tmp_path):
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


def test_networks_of_other_sizes_are_read(tmp_path):
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


def test_the_command_makes_a_checkpoint_that_predicts(tmp_path, class_folders, capsys):
    path = write(tmp_path, net_bytes([*MEAN_VALUES, *alexnet(classes=4), *ends()], "v1"))
    names = write(tmp_path, "ash\nbirch\ncedar\ndate palm\n", "names.txt")
    assert command("import", path, tmp_path / "out", "--classes", names) == 0
    assert "4 classes (ash, ...); BGR crops of 227x227 from 256x256" in capsys.readouterr().out
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
    elif change == "no width":
        named["conv3"].settings["num_output"] = 0
    elif change == "small input":
        return net_bytes([*data_layers(crop_size=22, mean_value=(104.0,)), *layers])
    elif change == "beyond a float":
        named["fc7"].blobs[0] = np.full_like(named["fc7"].blobs[0], 1e300, np.float64)
        return net_bytes([*MEAN_VALUES, *layers], "double")
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
    return {"empty": b"", "an image": b"\xff\xd8\xff\xe0" + bytes(range(200)), "text": net_text(layers),
            "half": whole[:len(whole) // 2]}.get(change, whole)


@pytest.mark.parametrize(("change", "words"), [
    ("batch norm", "layer 'bn1' is of the type BatchNorm, which no AlexNet here has"),
    ("branches", "networks that branch are not read"),
    ("two norms", "a network here has one setting for all"),
    ("within a map", "'norm1' normalizes within a map"),
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
    ("no width", "net.caffemodel describes no network of this package: a convolution's width 0 must be at least 1"),
    ("small input", "no network of this package: an input of 22 pixels is too small"),
    ("beyond a float", "classifier.fc7.weight holds values that are not finite"),
    ("no size", "gives no size of its input"),
    ("no mean", "does not give its mean; give it with --mean"),
    ("mean file", "subtracts ilsvrc.binaryproto; give it with --mean"),
    ("two means", "2 mean values"),
    ("V0", "layers in the form of 2013 (V0)"),
    ("lies of its size", "the bias of layer 'conv3' has 12 numbers, and its shape is 11; the file is damaged"),
    ("empty", "holds no layers"),
    ("an image", "is truncated, or no .caffemodel; download it again"),
    ("text", "is truncated, or no .caffemodel; download it again"),
    ("half", "is truncated, or no .caffemodel; download it again"),
])
def test_an_unreadable_caffemodel_is_a_one_line_error(tmp_path, capsys, change, words):
    path = write(tmp_path, changed(change))
    assert command("import", path, tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("options", "words"), [
    (["--prototxt", "nowhere.prototxt"], "nowhere.prototxt is not a file"),
    (["--prototxt", "SOLVER"], "holds no layers"),
    (["--prototxt", "BROKEN"], "is not a .prototxt of a network"),
    (["--prototxt", "NET"], "is not a .prototxt of a network"),
    (["--prototxt", "ESCAPE"], "is not a .prototxt of a network"),
    (["--mean", "nowhere.binaryproto"], "nowhere.binaryproto is not a file"),
    (["--mean", "NET"], "the mean has 0 numbers"),
    (["--mean", "FLAT"], "holds 3x227x256 numbers, and a mean image has 3 colors and as many rows as columns"),
    (["--mean", "SMALL"], "has 100 pixels a side and the network takes 227"),
    (["--mean", "HALF"], "is truncated, or no mean .binaryproto"),
    (["--mean", "NAN"], "not finite"),
    (["--classes", "NAMES"], "3 names of classes were given, and the network has 10 outputs"),
    (["--from", "torchvision"], "is truncated, or torch.save did not write it"),
])
def test_a_wrong_prototxt_mean_or_class_file_is_a_one_line_error(tmp_path, capsys, options, words):
    mean = np.ones((3, 256, 256), np.float32)
    files = {"NET": net_bytes([*MEAN_VALUES, *alexnet()]), "SOLVER": 'net: "train_val.prototxt"\nbase_lr: 0.01',
             "BROKEN": 'layer { name: "conv1" ', "ESCAPE": 'layer { blobs { data: "\\%" } name: 1 }',
             "SMALL": blob(np.ones((3, 100, 100), np.float32), "legacy"),
             "FLAT": blob(np.ones((3, 227, 256), np.float32), "current"),
             "HALF": blob(mean, "legacy")[:9999], "NAN": blob(mean * np.nan, "current"), "NAMES": "a\nb\nc\n"}
    paths = {word: write(tmp_path, data, f"{word}.caffemodel") for word, data in files.items()}
    assert command("import", paths["NET"], tmp_path / "out", *(paths.get(word, word) for word in options)) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "option"), [("deploy.prototxt", "--prototxt"), ("mean.binaryproto", "--mean")])
def test_a_prototxt_or_mean_in_place_of_the_weights_is_rejected(tmp_path, capsys, name, option):
    assert command("import", write(tmp_path, net_text(alexnet()), name), tmp_path / "out") == 2
    assert f"{name} holds no weights; name the .caffemodel, and this file with {option}" in capsys.readouterr().err


def test_a_damaged_caffemodel_raises_value_error_or_loads(tmp_path):
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
