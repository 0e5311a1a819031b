"""Validation images that are known from training: what is counted, and where it is said."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet.data.folds import folded
from alexnet.data.overlap import Overlap, find_overlap
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.models import checkpoint
from command_line import SMALL
from command_line import alexnet as command
from sample_images import write_smooth_image


@pytest.mark.parametrize(("overlap", "text"), [
    (Overlap(3925), ""),
    (Overlap(3925, 3, 7), "3 of the 3,925 validation images are copies of training images, 7 more look like one"),
    (Overlap(3925, 1, 1), "1 of the 3,925 validation images is a copy of a training image, 1 more looks like one"),
    (Overlap(40, 2), "2 of the 40 validation images are copies of training images"),
    (Overlap(40, 0, 1), "1 of the 40 validation images looks like a training image"),
    (Overlap(40, 0, 20, "", 0.5), "20 of the 40 validation images look like training images (50% of the training "
                                  "images also look like another training image)"),
    (Overlap(40, 0, 5), "5 of the 40 validation images look like training images"),
])
def test_the_counts_in_words(overlap: Overlap, text: str):
    assert overlap.describe() == text


CLASSES = ("ash", "birch", "cedar", "date palm")


def test_look_alikes_flatter_unless_the_training_images_are_as_much_alike():
    assert not Overlap(40).flatters
    assert Overlap(40, 1).flatters
    assert Overlap(40, 0, 1).flatters
    assert not Overlap(400, 0, 220, "", 0.5).flatters  # 55%; the limit is 50% + 3 * 2.5%
    assert Overlap(400, 0, 220, "", 0.5).verdict == (
        "so this may be normal for this data; if not, the true error is higher")
    assert Overlap(400, 0, 240, "", 0.5).verdict == "so the error is probably too low"
    assert Overlap(40).verdict == ""
    assert Overlap(400, 0, 240, "", 0.5).flatters
    assert Overlap(400, 1, 200, "", 0.5).flatters


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 training and 25 validation images, 2 of them copies of training images, and 3 that were saved again."""
    root, seeds = tmp_path_factory.mktemp("known") / "photos", itertools.count()
    for split, count in (("train", 12), ("val", 5)):
        for name, number in itertools.product(CLASSES, range(count)):
            write_smooth_image(root / split / name / f"{number:03}.png", next(seeds))
    for number in range(2):
        shutil.copy(root / "train" / "ash" / f"{number:03}.png", root / "val" / "ash" / f"copy{number}.png")
    for number in range(3):
        Image.open(root / "train" / "birch" / f"{number:03}.png").save(
            root / "val" / "birch" / f"again{number}.jpg", quality=90)
    return root


def test_copies_and_look_alikes_are_counted_apart(known: Path, tmp_path: Path):
    data = pack(open_dataset(known), tmp_path / "packed", side=32)
    found = find_overlap(data.split("val"), data.split("train"))
    assert (found.images, found.copies, found.look_alikes, found.usual_share) == (25, 2, 3, 0.0)
    assert found.example.startswith("val/birch/again")


def test_look_alikes_are_in_one_fold(known: Path, tmp_path: Path):
    data = pack(open_dataset(known), tmp_path / "packed", side=32)
    parts = [folded(data, number, 3) for number in (1, 2, 3)]
    assert sum(len(part.split("val")) for part in parts) == 48 + 25
    for part in parts:
        found = find_overlap(part.split("val"), part.split("train"))
        assert (found.copies, found.look_alikes) == (0, 0)
        assert 22 <= len(part.split("val")) <= 27


def test_training_says_how_many_validation_images_are_known(
    known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert command("train", known, *SMALL, "--epochs", 1, "--out", tmp_path / "run", "--device", "cpu") == 0
    printed = capsys.readouterr()
    said = "2 of the 25 validation images are copies of training images, 3 more look like one"
    assert said in printed.out
    assert "warning: val: 3 validation images of 25 look like a training image" in printed.err
    data = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
    assert (data["validation_copies"], data["validation_look_alikes"]) == (2, 3)
    errors = checkpoint.load(tmp_path / "run").errors
    assert (errors["validation_copies"], errors["validation_look_alikes"]) == (2, 3)
    page = " ".join((tmp_path / "run" / "report.html").read_text().split())
    assert f"{said}: the copies are not measured." in page
    assert "Look-alikes are measured, so this error is probably too low." in page
    assert "3 of these 23 look like training images (saved again?), so the result is probably not a test error." in page
    assert command("export", tmp_path / "run", tmp_path / "model") == 0
    assert f"{said}, so the error is probably too low." in (tmp_path / "model" / "README.md").read_text()


def test_groups_of_very_many_look_alikes_are_divided(tmp_path: Path):
    """As digits are alike: one fold would otherwise be larger than the others."""
    from alexnet.data.folds import join_look_alikes

    content = np.arange(1, 101, dtype=np.uint64)
    perceptual = np.random.default_rng(0).integers(0, 2**64, (100, 2), np.uint64)
    perceptual[10:60] = perceptual[10]
    perceptual[80] = perceptual[79]
    joined = join_look_alikes(content, perceptual, 5)
    assert joined[80] == joined[79] == 80
    assert joined[10:60].tolist() == list(range(11, 61))

@pytest.mark.slow
def test_images_that_initial_weights_have_seen_are_known_when_saved_again(
    known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    seeds = itertools.count(1000)
    for name, number in itertools.product(CLASSES, range(4)):
        write_smooth_image(tmp_path / "other" / "train" / name / f"{number}.png", next(seeds))
        (tmp_path / "other" / "val" / name).mkdir(parents=True, exist_ok=True)
        Image.open(known / "train" / name / f"{number:03}.png").save(
            tmp_path / "other" / "val" / name / f"again{number}.jpg", quality=90)
    train = ("--epochs", 1, "--device", "cpu")
    assert command("train", known, *SMALL, *train, "--out", tmp_path / "run") == 0
    assert command("train", tmp_path / "other", *train, "--init", tmp_path / "run", "--out", tmp_path / "tuned") == 0
    assert "16 validation images of 16 look like a training image" in capsys.readouterr().err
    assert json.loads((tmp_path / "tuned" / "config.json").read_text())["data"]["validation_look_alikes"] == 16

    (tmp_path / "other" / "train").rename(tmp_path / "unused")
    (tmp_path / "other" / "val").rename(tmp_path / "other" / "train")
    assert command("diagnose", tmp_path / "run", tmp_path / "other") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "The network was trained on 0 of these " in said
    assert "look like its training images (saved again?)." in said
