"""docs/export.md: its programs for onnxruntime and OpenVINO answer as `predict` does; its table is of the metadata."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from alexnet.data import images
from alexnet.data.sources import embedded
from alexnet.inference.predictor import Model, load
from alexnet.models.formats.export import export
from alexnet.models.formats.open_weights import open_weights
from weight_files import saved_as

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()


@pytest.fixture(scope="module")
def saved():
    return saved_as("small", "conv.width=16", "dense.width=32", "output_init_std=0.3")


@pytest.fixture(scope="module")
def folder(saved, tmp_path_factory):
    """net.onnx, and photo.jpg, whose sides have no common divisor with the network's."""
    root = tmp_path_factory.mktemp("export")
    export(saved, root / "net.onnx", "onnx", from_pixels=True)
    colors = np.random.default_rng(4).integers(0, 256, (7, 9, 3), np.uint8)
    Image.fromarray(colors).resize((487, 331), Image.Resampling.BICUBIC).save(root / "photo.jpg", quality=92)
    return root


def test_its_program_for_onnxruntime_gives_the_answer_of_predict(saved, folder):
    (program,) = (text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "import onnxruntime" in text)
    assert "alexnet" not in program
    program += "\nprint(json.dumps((numpy.exp(logits) / numpy.exp(logits).sum()).tolist()))"
    run = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    name, probabilities = run.stdout.splitlines()
    guesses = Model(saved.network(), saved.preprocess(), saved.classes).predict(folder / "photo.jpg", top=7)[0]
    assert name == guesses[0].name
    for guess in guesses:
        assert guess.probability == pytest.approx(json.loads(probabilities)[saved.classes.index(guess.name)], abs=1e-3)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The folder with the network in the package as net.onnx."""
    root = tmp_path_factory.mktemp("pretrained")
    export(open_weights("pretrained"), root / "net.onnx", "onnx", from_pixels=True)
    return root


@pytest.mark.parametrize("photograph", embedded.IMAGES, ids=lambda image: image.file)
def test_its_program_gives_the_answer_of_predict_on_a_photograph(photograph, pretrained, monkeypatch, capsys):
    (program,) = (text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "import onnxruntime" in text)
    path, names = embedded.PHOTOGRAPHS / photograph.file, {}
    monkeypatch.chdir(pretrained)
    exec(program.replace("photo.jpg", str(path)), names)  # the page's own program
    probabilities = np.exp(names["logits"].astype(float))
    probabilities /= probabilities.sum()
    model = load()
    guesses = model.predict(path, top=len(model.classes))[0]
    assert capsys.readouterr().out.strip() == guesses[0].name
    for guess in guesses:
        assert guess.probability == pytest.approx(probabilities[model.classes.index(guess.name)], abs=1e-4)


@pytest.mark.needs("openvino", "pip install -e '.[openvino]'")
def test_its_program_for_openvino_gives_the_answer_of_predict(saved, folder, tmp_path, monkeypatch):
    """With `square` of the program for onnxruntime, as the page says."""
    programs = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (first,), (second,) = ([text for text in programs if f"import {engine}\n" in text]
                           for engine in ("onnxruntime", "openvino"))
    export(saved, tmp_path / "net.xml", "openvino", from_pixels=True)
    monkeypatch.chdir(tmp_path)
    names, own = {}, {}
    exec(first.replace("net.onnx", str(folder / "net.onnx")).replace("photo.jpg", str(folder / "photo.jpg")), names)
    own["square"] = names["square"]
    exec(second, own)  # the page's own program
    assert own["classes"] == list(saved.classes)
    probabilities = np.exp(own["logits"].astype(float)) / np.exp(own["logits"].astype(float)).sum()
    guesses = Model(saved.network(), saved.preprocess(), saved.classes).predict(folder / "photo.jpg", top=7)[0]
    assert len(guesses) == 7
    for guess in guesses:
        assert guess.probability == pytest.approx(probabilities[saved.classes.index(guess.name)], abs=1e-4)


def test_its_table_names_the_keys_of_a_file(folder):
    facts = onnxruntime.InferenceSession(folder / "net.onnx").get_modelmeta().custom_metadata_map
    rows = re.findall(r"^\| (`[^|]+`) \|", PAGE.split("| key | value |")[1].split("\n\n")[0], re.MULTILINE)
    named = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert named - {"license"} == set(facts)  # these weights have no license note


@pytest.mark.parametrize(("mode", "ending"), [("upside down", "jpg"), ("RGBA", "png"), ("I;16", "tif"),
                                              ("I;16", "png")])
def test_its_lines_open_photos_of_other_kinds_as_the_package_does(mode, ending, tmp_path):
    (lines,) = (text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "exif_transpose" in text)
    rng, path = np.random.default_rng(0), tmp_path / f"photo.{ending}"
    if mode == "RGBA":
        Image.fromarray(rng.integers(0, 256, (20, 30, 4), np.uint8)).save(path)
    elif mode == "I;16":
        Image.fromarray(rng.integers(0, 65536, (20, 30)).astype(np.uint16)).save(path)
    else:
        exif = Image.Exif()
        exif[0x0112] = 3
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(path, exif=exif, quality=95)
    names = {}
    exec(lines.replace("photo.jpg", str(path)), names)  # the page's own program
    expected, plain = images.read(path).astype(int), np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert np.abs(np.asarray(names["photo"]).astype(int) - expected).max() <= 1
    assert np.abs(plain - expected).max() > 100  # without these lines
