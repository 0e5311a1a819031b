"""Perceptual hashes: a typed value, invariance to saving again and mirroring, and images that have none."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from alexnet.data import images
from alexnet.data.packed import PackedDataset
from alexnet.data.packing import pack
from alexnet.data.perceptual_hash import (
    DISTANCE,
    distinct_perceptual_hashes,
    is_blank,
    mirrored,
    perceptual_hash,
)
from alexnet.data.sources.detect import open_dataset
from alexnet.data.square import square


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


def distance(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.bitwise_count(one ^ other).sum())


def test_the_hash_of_a_known_image():
    """Black but for a white quarter, top left. Packs and checkpoints hold such values, so none may change.

    The value was computed apart from the code, in floating point, by the definition in the module's docstring.
    """
    pixels_HWC = np.zeros((64, 64, 3), np.uint8)
    pixels_HWC[:32, :32] = 255
    assert [f"{word:016x}" for word in perceptual_hash(pixels_HWC).tolist()] == [
        "92fdec99f2abb172", "9c23c7b9e62369f5"]


@pytest.mark.parametrize("side", [32, 64, 224, 256])
def test_the_bits_are_signs_of_products_with_the_dct(side: int):
    """Computed again in floating point, with the whole image and SciPy's definition of the DCT."""
    import random

    pixels_HWC = square(np.asarray(scene(3)), side)
    gray_HW = pixels_HWC @ np.array([0.299, 0.587, 0.114])
    frequency, sample = np.mgrid[:13, :side]
    basis = np.cos(np.pi * frequency * (2 * sample + 1) / (2 * side))
    coefficients = basis @ gray_HW @ basis.T
    places = sorted(np.ndindex(13, 13), key=lambda place: (place[0] ** 2 + place[1] ** 2, place))[1:]
    generator, expected, unclear = random.Random(2012), [], []
    for parity in (0, 1):
        lowest = [place for place in places if place[1] % 2 == parity][:64]
        weighted = np.array([coefficients[place] * np.hypot(*place) for place in lowest])
        for _ in range(64):
            product = weighted @ np.array([generator.random() - 0.5 for _ in lowest])
            expected.append(product > 0)
            unclear.append(abs(product) < 0.02 * np.linalg.norm(weighted))
    found = np.unpackbits(perceptual_hash(pixels_HWC).view(np.uint8)).astype(bool)
    assert sum(unclear) < 16
    assert not ((found != np.array(expected)) & ~np.array(unclear)).any()


@pytest.mark.parametrize("seed", range(5))
def test_an_image_saved_again_has_nearly_the_same_hash(seed: int):
    image = scene(seed)
    original = perceptual_hash(saved(image, quality=95))
    for copy in (saved(image, quality=20), saved(image.resize((64, 48))), saved(image.resize((256, 192))),
                 saved(image.convert("L")), saved(ImageEnhance.Contrast(image).enhance(0.8)), saved(image, "PNG")):
        assert distance(perceptual_hash(copy), original) <= DISTANCE


def test_the_hash_of_a_mirrored_image_is_known_without_its_pixels():
    for seed, side in ((0, 64), (1, 128), (2, 256)):
        stored = square(np.asarray(scene(seed)), side)
        np.testing.assert_array_equal(perceptual_hash(stored[:, ::-1]), mirrored(perceptual_hash(stored)))
    image = scene(0)
    copy = perceptual_hash(square(saved(ImageOps.mirror(image), quality=50), 64))
    original = perceptual_hash(square(np.asarray(image), 64))
    assert distance(copy, original) > 40
    assert distance(copy, mirrored(original)) <= DISTANCE


def test_different_images_have_hashes_that_differ_in_many_bits():
    hashes = [perceptual_hash(np.asarray(scene(seed))) for seed in range(60)]
    assert min(distance(one, other) for number, one in enumerate(hashes) for other in hashes[:number]) > 20


def test_images_of_one_color_have_no_hash():
    for color in (0, 128, 255):
        assert is_blank(perceptual_hash(np.full((40, 50, 3), color, np.uint8))[None]).tolist() == [True]
    faint = np.full((64, 64, 3), 128, np.uint8)
    faint[:, 32:] += 2  # a standard deviation of 1 gray level
    assert perceptual_hash(faint).tolist() == [0, 0]
    faint[:, 32:] += 8
    assert not is_blank(perceptual_hash(faint)[None]).any()


def test_distinct_hashes_are_sorted_pairs_without_blank_ones():
    given = np.array([[2, 1], [0, 0], [1, 2**64 - 1], [2, 1]], np.uint64), np.array([[1, 5]], np.uint64)
    assert distinct_perceptual_hashes(*given).tolist() == [[1, 5], [1, 2**64 - 1], [2, 1]]
    assert distinct_perceptual_hashes().shape == (0, 2)


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_a_pack_holds_the_hash_of_every_stored_image(class_folders, tmp_path, codec):
    packed = pack(open_dataset(class_folders), tmp_path / "data", side=32, codec=codec, shard_images=50)
    for name in ("train", "val"):
        split = packed.split(name)
        expected = [perceptual_hash(pixels_HWC) for pixels_HWC in split.read(np.arange(len(split)))]
        np.testing.assert_array_equal(split.perceptual_hashes, expected)


def test_a_subset_has_the_hashes_of_its_images(packed: PackedDataset):
    split = packed.split("train")
    np.testing.assert_array_equal(split.subset(np.array([3, 50])).perceptual_hashes, split.perceptual_hashes[[3, 50]])
