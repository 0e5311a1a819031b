"""docs/export.md: its program for onnxruntime answers as `predict` does, and its table is of the file's metadata."""

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
from alexnet.inference.predictor import Model
from alexnet.models.formats.export import export
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
