"""The `diagnose`, `attribute`, `top-patches` and `neighbors` commands."""

import json

import numpy as np
import pytest
from PIL import Image

from alexnet.models.formats.huggingface import write_huggingface
from command_line import alexnet
from weight_files import saved_as

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def saved():
    """An untrained network of seven classes."""
    return saved_as("small", "input.side=32", "input.crop=28", "conv.width=16", "dense.width=32")


def test_diagnose_prints_layers_and_findings(class_folders, packed, tmp_path, capsys):
    run = tmp_path / "run"
    settings = ["--arch", "small", "--set", "arch.input.side=32", "--set", "arch.input.crop=28", "--epochs", 1]
    assert alexnet("train", packed.path, *settings, "--out", run) == 0
    capsys.readouterr()
    assert alexnet("diagnose", run, packed.path, "--images", 50) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for word in ("relu1", "conv5", "fc7", "saturated", "update/weight",
                 "80 of 120 training images, in whole batches; loss", "was trained on 120 of these 120 images."):
        assert word in printed
    assert alexnet("diagnose", run, packed.path, "--json") == 0
    tree = json.loads(capsys.readouterr().out)
    assert {one["layer"] for one in tree["weights"]} == {"conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"}
    assert all(finding["kind"] and finding["problem"] for finding in tree["findings"])
    assert alexnet("diagnose") == 2
    assert "alexnet diagnose runs/mine DATA" in capsys.readouterr().err
    for words, sentence in (
            ([run], f"{run} is a run or a checkpoint, not images; name the data"),
            ([run, packed.path, "--steps", 5], "diagnose of a checkpoint takes no --steps"),
            ([packed.path, "--images", 9], "diagnose without a checkpoint takes no --images"),
            ([run, packed.path, "--images", 0], "--images 0 must be at least 2\n"),
            ([packed.path, "--steps", 0], "--steps 0 must be at least 1\n"),
            ([packed.path, "--side", 0], "--side 0 must be 32 or 64")):
        assert alexnet("diagnose", *words) == 2
        assert sentence in capsys.readouterr().err


@pytest.fixture
def files(saved, class_folders, tmp_path, monkeypatch):
    """A folder with a model and images, as the current directory."""
    monkeypatch.chdir(tmp_path)
    write_huggingface(saved, tmp_path / "model")
    (tmp_path / "photos").symlink_to(class_folders)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    return tmp_path


def test_attribute_and_top_patches_draw_and_print(files, capsys):
    assert alexnet("attribute", "model", "photos/val/ash/000.png", "--json") == 0
    output, = json.loads(capsys.readouterr().out)
    assert output["class"] in "abcdefg"
    assert np.array(output["occlusion"]).shape == np.array(output["grad_cam"]).shape == (28, 28)
    with Image.open(output["figure"]) as picture:
        assert picture.width > 500
    assert alexnet("attribute", "model", "photos/val/ash/000.png", "--class", "b", "--out", "b.svg") == 0
    output = capsys.readouterr().out
    assert "photos/val/ash/000.png: b" in output
    assert " percentage points on average" in output
    assert (files / "b.svg").read_text().startswith("<svg")

    assert alexnet("top-patches", "model", "photos", "--layer", "conv3", "--unit", "2", "--unit", "0", "--count", "4",
                   "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert [one["unit"] for one in output] == [2, 0]
    assert [len(one["patches"]) for one in output] == [4, 4]
    assert alexnet("top-patches", "model", "photos", "--layer", "relu6", "--split", "val") == 0
    assert "figure: figures/top-patches-2.png" in capsys.readouterr().out  # the first one is kept
    assert alexnet("top-patches", "model", "photos", "--layer", "fc7", "--split", "val", "--unit", "2") == 0
    title, unit, _ = capsys.readouterr().out.splitlines()
    assert title == "unit   largest output   classes of its patches (count)"
    assert unit.startswith("2, c   ")


@pytest.mark.parametrize(("words", "sentence"), [
    (["attribute", "model", "photos/val/ash/000.png", "--class", "dog"], "has no class 'dog'"),
    (["attribute", "model", "photos/val/ash/000.png", "--layer", "fc6"], "no layer 'fc6' with feature maps"),
    (["top-patches", "model", "photos", "--layer", "relu9"], "no layer 'relu9'"),
    (["top-patches", "model", "photos", "--layer", "relu5", "--unit", "16"], "relu5 has no unit 16, only 0 to 15"),
    (["top-patches", "model", "photos", "--layer", "relu5", "--count", "0"], "--count 0 must be at least 1"),
    (["top-patches", "model", "photos", "--layer", "relu5", "--count", "613"], "--count 613 must be at most 50"),
    (["top-patches", "model", "photos", "--layer", "relu5", "--out", "x.gif"], "x.gif ends in .gif"),
    (["attribute", "model", "photos/val/ash/000.png", "--out", "photos"], "photos is a folder; name a file in it"),
    (["attribute", "model", "nosuch.jpg"], "nosuch.jpg does not exist; name an image"),
    (["attribute", "model", "broken.jpg"], "broken.jpg"),
    (["attribute", "model"], "attribute needs images after the checkpoint model")])
def test_a_mistake_of_attribute_and_top_patches_is_one_sentence(files, capsys, words, sentence):
    assert alexnet(*words) == 2
    assert sentence in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (files / "figures").exists()


def test_neighbors_prints_and_draws_the_nearest(saved, class_folders, tmp_path, capsys):
    write_huggingface(saved, tmp_path / "model")
    image = class_folders / "train" / "birch" / "004.png"
    arguments = ["neighbors", str(tmp_path / "model"), str(image), "--reference-set", str(class_folders),
                 "--out", str(tmp_path / "near.png"), "--count", "3"]
    alexnet(*arguments, "--json")
    found = json.loads(capsys.readouterr().out)[0]
    assert found["image"] == str(image)
    assert found["nearest"][0]["image"].endswith("train/birch/004.png")
    assert found["nearest"][0]["distance"] == pytest.approx(0, abs=1e-4)
    assert [len(found["nearest"]), found["nearest"][0]["class"]] == [3, "birch"]
    assert (tmp_path / "near.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "near.png").read_bytes()
    assert alexnet(*arguments) == 2
    assert "near.png already exists; choose another name, or replace it with --overwrite" in capsys.readouterr().err
    assert (tmp_path / "near.png").read_bytes() == before


def test_a_mistake_of_neighbors_is_one_sentence(saved, class_folders, tmp_path, capsys):
    write_huggingface(saved, tmp_path / "model")
    (tmp_path / "empty").mkdir()
    ash, reference_set = str(class_folders / "val" / "ash"), ["--reference-set", str(class_folders)]
    for words, sentence in (
            ([str(tmp_path / "empty"), *reference_set], "empty holds no images; name an image"),
            ([ash, *reference_set, "--count", "51"], "at most 50"),
            ([ash, *reference_set, "--out", "x.pdf"], "ends in .pdf;"),
            (reference_set, "neighbors needs images after the checkpoint"),
            ([ash, *reference_set, "--count", "0"], "--count 0 must be"),
            ([ash, *reference_set, "--layer", "fc9"], "did you mean")):
        assert alexnet("neighbors", str(tmp_path / "model"), *words) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert sentence in error


def test_each_of_many_images_has_a_figure_and_none_is_overwritten(files, capsys):
    images = ["photos/val/ash/000.png", "photos/val/birch/000.png", "broken.jpg", "photos/val/ash/000.png"]
    assert alexnet("attribute", "model", *images) == 2  # one of them is broken
    printed = capsys.readouterr()
    assert "alexnet: broken.jpg" in printed.err
    assert [line for line in printed.out.splitlines() if line.startswith("figure")] == [
        "figure: figures/attribute-000.png", "figure: figures/attribute-000-2.png"]
    before = {path.name: path.read_bytes() for path in (files / "figures").iterdir()}
    assert sorted(before) == ["attribute-000-2.png", "attribute-000.png"]
    assert before["attribute-000-2.png"] != before["attribute-000.png"]
    assert alexnet("attribute", "model", images[0]) == 0
    assert alexnet("attribute", "model", images[0], "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])[0]["figure"] == "figures/attribute-2.png"
    assert alexnet("attribute", "model", "photos/val/ash", "--out", "maps/x.png") == 0
    assert len(list((files / "maps").iterdir())) == len(list((files / "photos/val/ash").iterdir())) > 3
    capsys.readouterr()
    assert alexnet("attribute", "model", "photos/val/ash", "--out", "maps/x.png") == 2
    assert capsys.readouterr().err.strip().endswith(
        "maps/x-000.png already exists; choose another name, or replace it with --overwrite")
    assert all((files / "figures" / name).read_bytes() == data for name, data in before.items())


def test_the_same_image_is_named_so_and_no_other_one(files, class_folders, tmp_path, capsys):
    birch = class_folders / "train" / "birch"
    with Image.open(birch / "004.png") as picture:
        picture.save(tmp_path / "again.jpg", quality=95)
    renamed_file = tmp_path / "renamed.png"
    renamed_file.write_bytes((birch / "005.png").read_bytes())
    words = ["neighbors", "model", "renamed.png", "again.jpg", "photos/val/ash/000.png", "broken.jpg",
             "--reference-set", class_folders]
    assert alexnet(*words, "--json") == 2
    renamed, again, other = (each["nearest"] for each in json.loads(capsys.readouterr().out))
    assert [neighbor["likeness"] for neighbor in renamed].count("same") == 1
    assert renamed[0]["image"].endswith("train/birch/005.png")
    assert renamed[0]["likeness"] == "same"
    assert {neighbor["image"]: neighbor["likeness"] for neighbor in again}["train/birch/004.png"] in (
        "same", "near_duplicate")
    assert {neighbor["likeness"] for neighbor in other} == {""}
    assert alexnet(*words) == 2
    printed = capsys.readouterr()
    assert "train/birch/005.png  (the same image)" in printed.out
    assert "alexnet: broken.jpg" in printed.err
    assert "figure: figures/neighbors-2.png" in printed.out
