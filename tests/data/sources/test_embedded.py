"""The embedded data set: patches of equal numbers, without a pixel in both splits, the same every time."""

import hashlib
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


SHA256 = {
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "brick.png": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "clock_motion.png": "f029226b28b642e80113d86622e9b215ee067a0966feaf5e60604a1e05733955",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "coins.png": "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
    "grass.png": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
    "gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
    "hubble_deep_field.jpg": "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
    "ihc.png": "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
    "retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
    "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    "text.png": "bd84aa3a6e3c9887850d45d606c96b2e59433fbef50338570b63c319e668e6d1",
}
"""Of scikit-image 0.26's registry of its files, skimage/data/_registry.py."""


def test_the_photographs_are_those_of_scikit_image_byte_for_byte():
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in embedded.PHOTOGRAPHS.iterdir()
             if path.suffix != ".md"}
    assert found == SHA256


def test_the_file_beside_them_has_the_author_and_the_terms_of_each():
    lines = (embedded.PHOTOGRAPHS / "CREDITS.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")][2:]
    assert [(file, title, author, terms) for file, title, author, _, terms, _ in rows] == [
        (image.file, image.title, image.author, image.license) for image in embedded.IMAGES]
    assert all(row[3] for row in rows), "a source for each"
    assert {row[4] for row in rows} == {"public domain", "CC0", "no known copyright restrictions"}
