"""The stored square of an image is Pillow's, whatever the image's shape."""

import numpy as np
import pytest
from PIL import Image

from alexnet.data.images import decode
from alexnet.data.square import square
from sample_images import largest_difference, smooth


def pillow_square(pixels: np.ndarray, side: int) -> np.ndarray:
    """The whole image rescaled by Pillow, then the central square."""
    height, width, _ = pixels.shape
    rows, columns = side * height // min(height, width), side * width // min(height, width)
    top, left = round((rows - side) / 2), round((columns - side) / 2)
    scaled = Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BILINEAR)
    return np.asarray(scaled.crop((left, top, left + side, top + side)))


@pytest.mark.parametrize("shape", [
    (375, 500), (500, 333), (7, 7), (256, 256), (256, 300), (255, 257), (2000, 1500), (64, 65), (1, 1), (5, 6),
    (100, 400), (100, 401), (1, 500), (500, 1), (33, 1200), (1200, 30)])
@pytest.mark.parametrize("side", [256, 64, 1])
def test_square_is_within_one_level_of_pillow(shape: tuple[int, int], side: int):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for pixels in (noise, smooth(*shape)):
        assert largest_difference(square(pixels, side), pillow_square(pixels, side)) <= 1


@pytest.mark.parametrize("shape", [(500, 375), (375, 500), (300, 300), (64, 64), (64, 500)])
def test_square_is_a_writable_copy(shape: tuple[int, int]):
    pixels = square(np.zeros((*shape, 3), np.uint8), 64)
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous


def test_square_of_real_images_equals_pillows(imagenet_samples: list[bytes]):
    errors = []
    for data in imagenet_samples[::6]:
        pixels = decode(data, "x")
        errors.append(np.abs(square(pixels, 256).astype(int) - pillow_square(pixels, 256)))
    assert np.mean(errors) < 0.01
    assert np.max(errors) <= 1


def test_square_of_a_long_strip_takes_little_memory():
    strip = np.repeat(np.linspace(0, 255, 60_000).astype(np.uint8)[None, :, None], 3, 2)
    assert 126 <= square(strip, 256).mean() <= 129
    assert 126 <= square(strip.transpose(1, 0, 2), 256).mean() <= 129


def test_square_of_the_right_size_is_the_image():
    pixels = smooth(64, 64)
    np.testing.assert_array_equal(square(pixels, 64), pixels)


def test_square_takes_views_and_constants():
    pixels = smooth()
    constant = pixels.copy()
    constant.flags.writeable = False
    np.testing.assert_array_equal(square(constant, 32), square(pixels, 32))
    np.testing.assert_array_equal(square(pixels[:, ::-1], 32), square(pixels[:, ::-1].copy(), 32))
    assert square(pixels, 32).flags.c_contiguous


def test_square_of_an_image_without_pixels_is_refused():
    with pytest.raises(ValueError, match="0 x 5 pixels"):
        square(np.empty((5, 0, 3), np.uint8), 32)

