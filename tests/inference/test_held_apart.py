"""Images that fit something and images that measure it have no copy, no group and no near duplicate in common."""

import numpy as np
import pytest
from PIL import Image

from alexnet.data.near_duplicates import has_near_duplicate
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.inference.calibration import calibrate, calibration_error, halve
from alexnet.inference.held_apart import held_apart
from alexnet.inference.temperature import softmax


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """40 images of noise; the first eight again, saved smaller, so that they are near duplicates."""
    root, rng = tmp_path_factory.mktemp("apart"), np.random.default_rng(0)
    for number in range(40):
        image = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)
        folder = root / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{number:02}.png")
        if number < 8:
            image.resize((56, 56)).save(folder / f"{number:02}-small.png")
    packed = pack(open_dataset(root / "photos", held_out=0), root / "packed", side=32)
    return packed.split(*packed.splits)


def rows(split, *numbers):
    return np.array([row for row, name in enumerate(split.names) if name.rpartition("/")[2].split(".")[0] in numbers])


def test_near_duplicates_copies_and_siblings_are_left_out_and_counted(split):
    fitted = split.subset(rows(split, "00", "01", "09"))
    measured = split.subset(rows(split, "00-small", "01-small", "02-small", "09", "10", "11", "12"))
    found = held_apart(fitted, measured)
    assert (found.siblings, found.look_alikes_left_out, found.look_alikes_kept) == (1, 2, 0)
    assert [measured.names[row].rpartition("/")[2] for row in np.flatnonzero(found.kept_M)] == [
        name for name in (each.rpartition("/")[2] for each in measured.names)
        if name in ("02-small.png", "10.png", "11.png", "12.png")]
    assert found.describe() == ("left out: 1 that is a copy of a calibration image or in its group, and 2 that look "
                                "like calibration images")
    fitted.__dict__["groups"] = np.array([5, 6, 7], np.uint64)
    numbers = [name.rpartition("/")[2].split(".")[0] for name in measured.names]
    measured.__dict__["groups"] = np.array([5 if number in ("11", "12") else 1 for number in numbers], np.uint64)
    assert held_apart(fitted, measured).siblings == 3  # and the copy of 09


def test_where_fitted_images_are_alike_by_nature_look_alikes_are_kept_and_said(split):
    numbers = [f"{number:02}" for number in range(8)]
    fitted, smaller = split.subset(rows(split, *numbers)), [f"{number}-small" for number in numbers]
    assert held_apart(fitted, split.subset(rows(split, *smaller, "20"))).look_alikes_left_out == 8
    # Half of these look like another one.
    fitted = split.subset(rows(split, *numbers[:3], *smaller[:1], *numbers[6:7], *smaller[6:7]))
    found = held_apart(fitted, split.subset(rows(split, *smaller[1:3], "20", "21")))
    assert found.kept_M.all()
    assert found.describe() == ("2 look like calibration images and are measured, as many of the calibration images "
                                "look alike, too")
    assert held_apart(fitted, split.subset(rows(split, "20", "21"))).describe() == ""


@pytest.mark.parametrize(("others", "kept", "left_out"), [(range(20, 32), 2, 0), (range(20, 40), 0, 2)])
def test_more_than_a_tenth_of_look_alikes_are_kept_where_they_are_usual(split, others, kept, left_out):
    """2 of 14 images, 14%, and 2 of 22, 9%. Four of the six fitted images look like another one."""
    fitted = split.subset(rows(split, "00", "01", "02", "00-small", "06", "06-small"))
    found = held_apart(fitted, split.subset(rows(split, "01-small", "02-small", *map(str, others))))
    assert (found.look_alikes_kept, found.look_alikes_left_out) == (kept, left_out)


def test_no_measuring_half_has_a_near_duplicate_in_the_fitting_half(split):
    halves = halve(split)
    assert not (halves.fit_N & halves.measured_N).any()
    hashes = split.perceptual_hashes
    assert not has_near_duplicate(hashes[halves.measured_N], hashes[halves.fit_N]).any()
    assert halves.fit_N.sum() + halves.measured_N.sum() >= 46


def test_the_calibration_of_groups_has_wider_ranges_and_counts_groups():
    rng = np.random.default_rng(0)
    group_N = np.repeat(np.arange(60, dtype=np.uint64), 10)
    logits = rng.normal(size=(60, 5)).repeat(10, axis=0) * 3
    labels = np.where((rng.random(60) < 0.6).repeat(10), logits.argmax(1), (logits.argmax(1) + 1) % 5)
    alone = calibrate(logits, labels, group_N)
    grouped = calibrate(logits, labels, group_N, groups_N=group_N)
    assert (alone.groups, grouped.groups) == (None, 30)
    assert "groups" not in alone.to_json()
    assert grouped.to_json()["groups"] == 30
    assert grouped.temperature == alone.temperature
    width, grouped_width = (high - low for low, high in (alone.loss_change_interval, grouped.loss_change_interval))
    assert 2.5 < grouped_width / width < 4.5  # 10 images of a group are one
    assert grouped.before.calibrated_ece > 1.5 * alone.before.calibrated_ece
    probabilities = softmax(logits)
    single = calibration_error(probabilities, labels, np.arange(600, dtype=np.uint64))
    assert single.ece == calibration_error(probabilities, labels).ece
