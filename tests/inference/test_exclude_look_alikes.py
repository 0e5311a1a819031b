"""`evaluate --exclude-look-alikes`: the error without images that look like a training image, and that of all."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_look_alikes import CLASSES, WAYS, jpeg, scene, write_images

import alexnet as package
from alexnet.architecture.spec import Arch
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint, save
from alexnet.models.seen import SeenImages
from command_line import SMALL
from command_line import alexnet as command


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def originals() -> list[bytes]:
    return [jpeg(scene(seed), 92) for seed in range(12)]


@pytest.fixture
def checkpoint(originals: list[bytes], tiny: Arch, tmp_path: Path) -> Path:
    """Untrained weights that say they were trained on the 12 images."""
    data = pack(open_dataset(write_images(tmp_path / "trained", originals), held_out=0.0), tmp_path / "packed", side=32)
    train = data.split("train")
    save(Checkpoint(arch=tiny, classes=CLASSES, weights=AlexNet(tiny).state_dict(), mean_HWC=torch.zeros(32, 32, 3),
                    seen=SeenImages.of(train.content_hashes, np.empty(0, np.uint64), train.perceptual_hashes)),
         tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.fixture
def data(originals: list[bytes], tmp_path: Path) -> Path:
    """Two training images, four that were saved again, and six others."""
    contents = originals[:2] + [WAYS["JPEG 50"](original) for original in originals[2:6]]
    return write_images(tmp_path / "photos", contents + [jpeg(scene(seed), 92) for seed in range(100, 106)])


def evaluated(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    assert command("evaluate", *arguments, "--device", "cpu") == 0
    return capsys.readouterr().out


def test_both_errors_and_counts_are_those_of_the_csv_file(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture,
):
    """The way of the docs: `--csv` marks each look-alike, so the error without them can be counted from its lines."""
    every = json.loads(evaluated(capsys, checkpoint, data, "--json", "--csv", tmp_path / "all.csv"))
    with (tmp_path / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    wrong = {mark: [row["correct"] == "0" for row in rows if row["looks_trained_on"] == mark] for mark in "01"}
    assert (len(wrong["0"]), len(wrong["1"])) == (6, 4)
    result = json.loads(evaluated(capsys, checkpoint, data, "--exclude-look-alikes", "--json", "--csv",
                                  tmp_path / "rest.csv"))
    assert (result["images"], result["top1_error"]) == (6, pytest.approx(np.mean(wrong["0"])))
    assert result["look_alikes"]["images"] == 4
    assert result["look_alikes"]["top1_error"] == pytest.approx(np.mean(wrong["1"]))
    assert result["with_look_alikes"]["top1_error"] == pytest.approx(every["top1_error"])
    assert result["with_look_alikes"]["loss"] == pytest.approx(every["loss"])
    measured = result["measured"]
    assert (measured["images"], measured["available"], measured["trained_on"]) == (6, 12, 2)
    assert (measured["looks_trained_on"], measured["look_alikes_left_out"]) == (0, 4)
    assert not measured["includes_trained"]
    with (tmp_path / "rest.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == [
            row["image"] for row in rows if row["looks_trained_on"] == "0"]
    assert package.evaluate(checkpoint, data, exclude_look_alikes=True, device="cpu", progress=False).images == 6


def test_the_text_says_how_many_are_left_and_what_all_images_give(
    checkpoint: Path, data: Path, capsys: pytest.CaptureFixture,
):
    printed = evaluated(capsys, checkpoint, data, "--exclude-look-alikes")
    assert "6 images, 1 view, 1 network" in printed
    assert "Left out, as they look like training images: 4 images, top-1 error" in printed
    assert "; with them, 10 images, " in printed
    assert printed.splitlines()[-1] == (
        "measured: 6 of 12 images; the network was trained on 2 of the others; 4 that look like training images were "
        "left out (40.0%)")


def test_nothing_is_left_out_where_nothing_looks_alike(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    others = write_images(tmp_path / "others", [jpeg(scene(seed), 92) for seed in range(200, 204)])
    printed = evaluated(capsys, checkpoint, others, "--exclude-look-alikes")
    assert "No image is known to look like a training image, so none was left out." in printed
    assert printed.splitlines()[-1] == "measured: all 4 images, none of these files seen in training"


def test_data_of_look_alikes_only_and_the_opposite_option_are_refused(
    checkpoint: Path, originals: list[bytes], tmp_path: Path, capsys: pytest.CaptureFixture,
):
    alike = write_images(tmp_path / "alike", [WAYS["half"](original) for original in originals])
    assert command("evaluate", checkpoint, alike, "--exclude-look-alikes") == 2
    assert "all 12 images" in capsys.readouterr().err
    assert command("evaluate", checkpoint, alike, "--exclude-look-alikes", "--include-trained") == 2
    assert "choose one of them" in capsys.readouterr().err


def test_check_names_the_option_for_near_copies_and_the_counts_agree(tmp_path: Path, capsys: pytest.CaptureFixture):
    """The images that `check` finds to look the same as training images are those that `evaluate` leaves out."""
    originals = [jpeg(scene(seed), 92) for seed in range(16)]
    write_images(tmp_path / "data/train", originals)
    write_images(tmp_path / "data/val", [WAYS["half"](original) for original in originals[:4]] + [
        jpeg(scene(seed), 92) for seed in range(100, 108)])
    assert command("check", tmp_path / "data", "--json") == 0
    (near,) = [finding for finding in json.loads(capsys.readouterr().out)["findings"]
               if finding["kind"] == "near_copies_across_splits"]
    assert near["problem"].startswith("4 images of 12 look the same as training images")
    assert near["remedy"].startswith("delete one copy, or evaluate with --exclude-look-alikes; otherwise")
    assert command("train", tmp_path / "data", *SMALL, "--epochs", 1, "--out", tmp_path / "run") == 0
    capsys.readouterr()
    result = json.loads(evaluated(capsys, tmp_path / "run", tmp_path / "data", "--exclude-look-alikes", "--json"))
    assert (result["images"], result["measured"]["look_alikes_left_out"]) == (8, 4)
