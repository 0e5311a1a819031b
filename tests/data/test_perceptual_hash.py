"""Perceptual hashes: copies that were saved again are near duplicates, other images are not; the search is exact."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from alexnet.data import images
from alexnet.data.perceptual_hash import CORRELATION, DISTANCE, near_duplicate_groups, perceptual_hash


def scene(seed: int, side: int = 96) -> Image.Image:
    """Some colored rectangles: an image with structure, other than noise or stripes."""
    rng = np.random.default_rng(seed)
    pixels_HWC = np.full((side, side * 4 // 3, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(12):
        top, left = rng.integers(0, side - 8), rng.integers(0, side)
        pixels_HWC[top : top + rng.integers(8, 60), left : left + rng.integers(8, 60)] = rng.integers(0, 256, 3)
    return Image.fromarray(pixels_HWC)


def saved(image: Image.Image, kind: str = "JPEG", **options: int) -> np.ndarray:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return images.decode(file.getvalue(), "test")


def groups(*pixels: np.ndarray) -> list[int]:
    hashes, grays = zip(*map(perceptual_hash, pixels), strict=True)
    return near_duplicate_groups(np.array(hashes, np.uint64), np.array(grays))[0].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_an_image_saved_again_is_a_near_duplicate(seed):
    image = scene(seed)
    copies = [saved(image, quality=20), saved(image.resize((64, 48))), saved(image.resize((256, 192))),
              saved(image.convert("L")), saved(ImageEnhance.Contrast(image).enhance(0.8)), saved(image, "PNG")]
    assert groups(saved(image, quality=95), *copies) == [0] * 7


def test_different_images_are_no_near_duplicates():
    assert groups(*(saved(scene(seed)) for seed in range(40))) == list(range(40))


def test_equal_hashes_are_not_enough_if_the_thumbnails_differ():
    rng = np.random.default_rng(0)
    grays = rng.integers(0, 256, (2, 16, 16), np.uint8)
    equal = np.array([7, 7], np.uint64)
    assert near_duplicate_groups(equal, grays)[0].tolist() == [0, 1]
    assert near_duplicate_groups(equal, grays[[0, 0]])[0].tolist() == [0, 0]


def test_blank_images_have_no_hash_and_are_not_compared():
    white = np.full((40, 40, 3), 255, np.uint8)
    assert perceptual_hash(white)[0] == 0
    assert groups(white, white, saved(scene(0))) == [0, 1, 2]


def by_brute_force(hashes: np.ndarray, grays: np.ndarray) -> list[int]:
    """The lowest index that is connected with each image, by comparing all pairs with numpy.corrcoef."""
    lowest = list(range(len(hashes)))
    flat = grays.reshape(len(grays), -1).astype(float)
    pairs = [(one, other) for one in range(len(hashes)) for other in range(one)
             if hashes[one] and hashes[other] and bin(int(hashes[one]) ^ int(hashes[other])).count("1") <= DISTANCE
             and np.corrcoef(flat[one], flat[other])[0, 1] >= CORRELATION]
    while True:
        before = list(lowest)
        for one, other in pairs:
            lowest[one] = lowest[other] = min(lowest[one], lowest[other])
        if lowest == before:
            return lowest


def test_the_search_by_bands_finds_what_comparing_all_pairs_finds():
    rng = np.random.default_rng(1)
    originals = rng.integers(1, 2**63, 60, np.uint64)
    copies = originals[rng.integers(0, 60, 200)]
    for _ in range(8):  # 0 to 8 bits flipped, on both sides of the limit
        copies ^= np.where(rng.random(200) < 0.6, np.uint64(1) << rng.integers(0, 64, 200, np.uint64), np.uint64(0))
    hashes = np.concatenate([originals, copies, np.zeros(5, np.uint64)])
    grays = np.repeat(rng.integers(0, 256, (1, 16, 16), np.uint8), len(hashes), 0)
    grays[::4] = rng.integers(0, 256, grays[::4].shape, np.uint8)
    found, complete = near_duplicate_groups(hashes, grays)
    expected = by_brute_force(hashes, grays)
    assert complete
    assert found.tolist() == expected
    assert 60 < len(set(expected)) < 200  # some are joined and some are not


def test_the_search_is_bounded_where_all_images_look_alike(monkeypatch):
    monkeypatch.setattr("alexnet.data.perceptual_hash.WINDOW", 4)
    rng = np.random.default_rng(2)
    found, complete = near_duplicate_groups(np.full(100, 7, np.uint64), rng.integers(0, 256, (100, 16, 16), np.uint8))
    assert not complete
    assert found.tolist() == list(range(100))


def test_planted_copies_are_found_among_100_000_images():
    rng = np.random.default_rng(3)
    hashes = rng.integers(1, 2**63, 100_000, np.uint64)
    originals, copies = np.arange(50), np.arange(99_950, 100_000)
    hashes[copies] = hashes[originals] ^ np.uint64(0b111111)  # six bits in one band
    found, complete = near_duplicate_groups(hashes, np.ones((100_000, 1, 1), np.uint8) * np.eye(16, dtype=np.uint8))
    assert complete
    np.testing.assert_array_equal(np.flatnonzero(found != np.arange(100_000)), copies)
    np.testing.assert_array_equal(found[copies], originals)
