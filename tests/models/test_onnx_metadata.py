"""The metadata of ONNX files say how to make their input: with them alone, NumPy makes what `Preprocess` makes."""

import base64
import json

import numpy as np
import onnxruntime
import pytest
import torch

from alexnet.models.formats.export import export
from alexnet.models.formats.input_metadata import input_metadata
from weight_files import narrow


def read(path):
    session = onnxruntime.InferenceSession(path)
    return session, session.get_modelmeta().custom_metadata_map


def numbers(text):
    """A mean: three numbers, or an image."""
    tree = json.loads(text)
    if isinstance(tree, list):
        return np.array(tree, np.float32)
    return np.frombuffer(base64.b64decode(tree["float32"]), "<f4").reshape(tree["shape"])


@pytest.mark.parametrize(("preset", "channels", "side", "crop"), [
    ("small", "RGB", 64, 56), ("cifar", "RGB", 32, 28), ("caffe", "BGR", 256, 227), ("torchvision", "RGB", 256, 224)])
def test_the_metadata_of_a_file_of_views_make_its_input(preset, channels, side, crop, tmp_path):
    saved = narrow(preset)
    export(saved, tmp_path / "net.onnx", "onnx")
    session, facts = read(tmp_path / "net.onnx")
    assert (int(facts["side"]), int(facts["crop"]), facts["channels"], facts["steps_inside"]) == (
        side, crop, channels, "")
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    first = (side - crop) // 2
    view = pixels[:, first:first + crop, first:first + crop, ::1 if channels == "RGB" else -1].astype(np.float32)
    view = (view - numbers(facts["mean"])) / np.array(json.loads(facts["std"]), np.float32)
    expected = saved.preprocess()(torch.from_numpy(pixels)).numpy()
    assert np.abs(view.transpose(0, 3, 1, 2) - expected).max() < 1e-3
    (entry,) = session.get_inputs()
    assert (entry.name, entry.type, entry.shape[1:]) == ("views", "tensor(float)", [3, crop, crop])


def test_the_metadata_of_a_file_of_pixels_describe_its_own_input(tmp_path):
    """56x56 is what the network sees; the file takes 64x64 uint8, and subtracts the mean itself."""
    saved = narrow("small")
    export(saved, tmp_path / "net.onnx", "onnx", from_pixels=True)
    session, facts = read(tmp_path / "net.onnx")
    (entry,) = session.get_inputs()
    assert (entry.name, entry.type, entry.shape[1:]) == ("pixels", "tensor(uint8)", [64, 64, 3])
    assert facts["input"] == "RGB, 64x64, uint8 [N, side, side, 3]; the network crops and normalizes it itself"
    assert facts["steps_inside"] == "crop, mean, std, channel order"
    assert facts["resize"].startswith("rotate as EXIF says; resize the shorter side to 64 pixels")
    assert json.loads(facts["mean"]) == pytest.approx(saved.mean_HWC.flatten().tolist())
    assert json.loads(facts["std"]) == [58, 58, 58]
    assert json.loads(facts["classes"]) == list("abcdefg")
    assert facts["version"].count(".") == 2


def test_numbers_of_a_network_that_takes_bgr_stand_in_the_order_of_its_channels():
    """Caffe's mean color of ImageNet is 104, 117, 123 in BGR; `InputSpec` has it in RGB."""
    saved = narrow("caffe", "input.mean=[123,117,104]", "input.scale=[3,2,1]")
    facts = input_metadata(saved, from_pixels=False)
    assert facts["input"] == "BGR, 227x227, 0..255, minus (104.0, 117.0, 123.0), divided by (1.0, 2.0, 3.0)"
    assert json.loads(facts["mean"]) == [104, 117, 123]
    assert json.loads(facts["std"]) == [1, 2, 3]
    assert input_metadata(narrow("torchvision"), from_pixels=False)["input"] == (
        "RGB, 224x224, 0..255, minus (123.675, 116.28, 103.53), divided by (58.395, 57.12, 57.375)")
