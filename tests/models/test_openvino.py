"""OpenVINO files give the network's logits and carry what a program needs; a failed export leaves the files there."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet._runtime.extras import install_line
from alexnet.errors import UserError
from alexnet.inference.predictor import Model
from alexnet.models.formats import onnx as onnx_files
from alexnet.models.formats.export import export
from weight_files import saved_as

NARROW = ("conv.width=16", "dense.width=32", "initialization=kaiming", "output_init_std=0.03")

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.needs("openvino", "pip install -e '.[openvino]'")]


def compiled(path: Path):
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    return model, core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


@pytest.mark.parametrize("name", ["paper", "caffe", "small"])
def test_an_openvino_file_gives_the_probabilities_of_predict(name, tmp_path):
    saved = saved_as(name, *NARROW)
    text = export(saved, tmp_path / "net.xml", "openvino", from_pixels=True).describe()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.bin", "net.xml"]
    assert "takes uint8 images" in text
    assert "with the same top-1 class" in text
    side = saved.arch.input.side
    pixels = np.random.default_rng(1).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    logits = compiled(tmp_path / "net.xml")[1](pixels)[0]
    model = Model(saved.network(), saved.preprocess(), saved.classes)
    for guesses, row in zip(model.predict(list(pixels), top=7), torch.from_numpy(logits).softmax(1), strict=True):
        for guess in guesses:
            assert guess.probability == pytest.approx(row[saved.classes.index(guess.name)].item(), abs=1e-5)


def test_it_takes_views_of_any_batch_size_and_carries_the_texts_of_an_onnx_file(tmp_path):
    saved = saved_as("small", *NARROW)
    export(saved, tmp_path / "net.xml", "openvino")
    model, network = compiled(tmp_path / "net.xml")
    crop = saved.arch.input.crop
    views = torch.rand(5, 3, crop, crop) * 100
    with torch.inference_mode():
        expected = saved.network()(views).numpy()
    assert np.abs(network(views.numpy())[0] - expected).max() <= 1e-4 * np.abs(expected).max()
    texts = {key: model.get_rt_info(["alexnet", key]).astype(str)
             for key in ("classes", "side", "crop", "channels", "mean", "std", "steps_inside")}
    assert json.loads(texts["classes"]) == list(saved.classes)
    assert (texts["side"], texts["crop"], texts["channels"]) == ("64", "56", "RGB")
    assert np.allclose(json.loads(texts["mean"]), saved.mean_HWC.flatten().tolist())
    assert json.loads(texts["std"]) == list(saved.arch.input.scale)
    assert texts["steps_inside"] == ""


def test_a_file_that_answers_otherwise_leaves_both_files_as_they_were(tmp_path, monkeypatch):
    (tmp_path / "net.xml").write_text("mine")
    (tmp_path / "net.bin").write_text("mine too")
    saved, other = saved_as("small", *NARROW), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(7))
    other(torch.zeros(2, 3, saved.arch.input.crop, saved.arch.input.crop))
    write = onnx_files.write_program
    monkeypatch.setattr(onnx_files, "write_program", lambda network, *rest, **named: write(other, *rest, **named))
    with pytest.raises(UserError, match="differs from the network"):
        export(saved, tmp_path / "net.xml", "openvino")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"net.xml": "mine", "net.bin": "mine too"}


def test_a_name_without_xml_and_a_missing_package_are_refused_with_the_remedy(tmp_path, monkeypatch):
    saved = saved_as("small", *NARROW)
    with pytest.raises(UserError, match=r"write to FILE\.xml"):
        export(saved, tmp_path / "net.bin", "openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=re.escape(install_line("openvino"))):
        export(saved, tmp_path / "net.xml", "openvino")
    assert not list(tmp_path.iterdir())
