"""The embedded data set: patches of equal numbers, without a pixel in both splits, the same every time."""

import random
from collections import Counter

import numpy as np
import pytest

from alexnet.data.dataset import Dataset
from alexnet.data.sources import embedded
from alexnet.data.sources.detect import open_dataset
from image_files import names, per_class


@pytest.fixture(scope="module")
def patches() -> Dataset:
    pytest.importorskip("skimage", reason="the embedded images come with scikit-image")
    return open_dataset("embedded")


def test_every_embedded_class_has_the_same_number_of_patches(patches: Dataset):
    assert len(patches.classes) >= 14
    for split in ("train", "val"):
        assert len(set(per_class(patches, split))) == 1
        assert {image.pixels().shape for image in patches.splits[split]} == {(64, 64, 3)}
    assert len(set(names(patches, "train") + names(patches, "val"))) == sum(map(len, patches.splits.values()))


@pytest.mark.parametrize("shape", [(172, 448), (303, 384), (300, 451), (512, 512), (700, 640), (180, 200)])
def test_training_and_test_patches_share_no_pixel(shape: tuple[int, int]):
    # Every pixel of the image is different, so the pixels of a patch tell where it was cut from.
    place = np.arange(shape[0] * shape[1], dtype=np.uint32)
    pixels = np.stack([place >> 16, place >> 8 & 255, place & 255], -1).astype(np.uint8).reshape(*shape, 3)
    seen = []
    for color in (0, 1):
        cut = embedded._patches(pixels, color, 100, random.Random(0))
        assert {patch.shape for patch in cut} == {(64, 64, 3)}
        red, green, blue = np.moveaxis(np.stack(cut).astype(np.uint32), -1, 0)
        seen.append(set(np.unique(red << 16 | green << 8 | blue).tolist()))
    assert seen[0]
    assert seen[1]
    assert not seen[0] & seen[1]


def test_embedded_patches_are_the_same_every_time(patches: Dataset):
    assert open_dataset("embedded").fingerprint() == patches.fingerprint()


def test_embedded_patches_are_all_different_but_for_black_ones(patches: Dataset):
    seen = Counter(image.pixels().tobytes() for images in patches.splits.values() for image in images)
    assert {max(patch) for patch, count in seen.items() if count > 1} <= {0, 1, 2}


def test_embedded_images_are_both_gray_and_colored(patches: Dataset):
    colored = {image.label for image in patches.splits["train"] if np.ptp(image.pixels(), axis=2).max() > 20}
    assert 5 <= len(colored) <= len(patches.classes) - 5


def test_every_embedded_image_is_credited_with_its_terms(patches: Dataset):
    assert all(title in patches.credits for title in patches.classes)
    assert patches.credits.count("CC0") + patches.credits.count("public domain") + patches.credits.count(
        "no known copyright restrictions") >= len(patches.classes)


def test_without_scikit_image_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "alexnet\[demo\]"'):
        open_dataset("embedded")
