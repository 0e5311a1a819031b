"""Class names on the command line: compared before packing; unknown names are asked for and never guessed."""

import json

import numpy as np
import pytest
from PIL import Image

from alexnet.data.class_names import unknown_names
from alexnet.models import checkpoint
from command_line import alexnet as command
from sample_images import draw
from weight_files import narrow, saved_as

pytestmark = pytest.mark.usefixtures("one_thread")

NUMBERED = tuple(sorted(map(str, range(12))))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path):
    """Twelve numbered folders of four images."""
    rng = np.random.default_rng(0)
    for label in range(12):
        (tmp_path / "photos" / str(label)).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(draw(rng, label)).save(tmp_path / "photos" / str(label) / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def unnamed(tmp_path):
    """A checkpoint of twelve outputs without class names."""
    saved = saved_as("cifar", "conv.width=8", classes=unknown_names(12))
    saved.class_names_known = False
    checkpoint.save(saved, tmp_path / "unnamed")
    return tmp_path / "unnamed"


def test_other_classes_are_refused_before_anything_is_packed(photos, tmp_path, cache, capsys):
    checkpoint.save(narrow("cifar"), tmp_path / "run")
    assert command("evaluate", tmp_path / "run", photos) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "was not trained on 12 of the data's 12 classes, such as '0'" in message
    assert "(a, b, c, d, e and 2 more)" in message
    assert not list(cache.rglob("*.npy"))


def test_numbered_folders_and_unknown_names_are_not_matched_by_position(photos, unnamed, cache, tmp_path, capsys):
    assert command("evaluate", unnamed, photos) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "the weights have no class names, so it is unknown which of their 12 outputs stands for which" in message
    assert "--classes FILE" in message
    assert not list(cache.rglob("*.npy"))
    results = []
    for order in (NUMBERED, NUMBERED[::-1]):
        (tmp_path / "names.txt").write_text("\n".join(order))
        assert command("evaluate", unnamed, photos, "--classes", tmp_path / "names.txt", "--json") == 0
        results.append(json.loads(capsys.readouterr().out))
    assert [result["images"] for result in results] == [48, 48]
    assert results[0]["loss"] != results[1]["loss"]


def test_predict_calls_unknown_classes_outputs(photos, unnamed, tmp_path, capsys):
    assert command("predict", unnamed, photos / "0" / "0.png", "--top", "12", "--json") == 0
    printed = capsys.readouterr()
    names = {entry["name"] for entry in json.loads(printed.out)[0]["classes"]}
    assert names == {f"output {index}" for index in range(12)}
    assert "note: the weights have no class names" in printed.err
    (tmp_path / "names.txt").write_text("\n".join(NUMBERED[:3]))
    assert command("predict", unnamed, photos / "0" / "0.png", "--classes", tmp_path / "names.txt") == 2
    assert "3 names of classes were given, and the network has 12 outputs: the first name is '0', the last '10'" in (
        capsys.readouterr().err)


@pytest.mark.parametrize("words", [
    ("evaluate", "RUN", "PHOTOS", "--json"), ("compare", "RUN", "OTHER", "PHOTOS", "--json"),
    ("check", "PHOTOS", "--run", "RUN", "--json"),
    ("features", "RUN", "PHOTOS", "OUT.npz"), ("diagnose", "RUN", "PHOTOS", "--images", "8", "--json"),
    ("reproduce", "table", "RUN", "PHOTOS", "--json"),
    ("top-patches", "RUN", "PHOTOS", "--layer", "fc4", "--out", "OUT.png")])
def test_every_command_that_reads_weights_takes_their_class_names(photos, unnamed, tmp_path, capsys, words):
    saved = saved_as("cifar", "conv.width=4", classes=unknown_names(12))
    saved.class_names_known = False
    checkpoint.save(saved, tmp_path / "other")
    names = {"RUN": unnamed, "OTHER": tmp_path / "other", "PHOTOS": photos, "OUT.npz": tmp_path / "out.npz",
             "OUT.png": tmp_path / "out.png"}
    arguments = [names.get(word, word) for word in words]
    (tmp_path / "names.txt").write_text("\n".join(NUMBERED))
    assert command(*arguments, "--classes", tmp_path / "names.txt") == 0, capsys.readouterr().err
    (tmp_path / "names.txt").write_text("\n".join(NUMBERED[:3]))
    for written in tmp_path.glob("out.*"):
        written.unlink()
    assert command(*arguments, "--classes", tmp_path / "names.txt") == 2
    assert "3 names of classes were given, and the network has 12 outputs" in capsys.readouterr().err


def test_compare_measures_with_the_given_names_what_evaluate_does(photos, unnamed, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("\n".join(NUMBERED))
    saved = saved_as("cifar", "conv.width=4", classes=unknown_names(12))
    saved.class_names_known = False
    checkpoint.save(saved, tmp_path / "other")
    classes = ("--classes", tmp_path / "names.txt", "--json")
    assert command("compare", unnamed, tmp_path / "other", photos, *classes) == 0
    compared = [run["loss"] for run in json.loads(capsys.readouterr().out)["runs"]]
    for path, loss in zip((unnamed, tmp_path / "other"), compared, strict=True):
        assert command("evaluate", path, photos, *classes) == 0
        assert json.loads(capsys.readouterr().out)["loss"] == loss


def test_calibrate_takes_class_names_too(photos, unnamed, tmp_path, capsys):
    assert command("calibrate", unnamed, photos) == 2
    assert "the weights have no class names" in capsys.readouterr().err
    (tmp_path / "names.txt").write_text("\n".join(NUMBERED))
    status, said = command("calibrate", unnamed, photos, "--classes", tmp_path / "names.txt"), capsys.readouterr()
    assert ("on these images it is no better than chance" if status else "before: ECE") in said.err + said.out
