"""HEIC by the extra `heic`, AVIF by Pillow: right pixels, the limits of other formats, and the remedy without them."""

import io

import numpy as np
import pytest
from PIL import Image, features

from alexnet.data import heic as heic_module
from alexnet.data import image_formats, images
from alexnet.data.decode_memory import decode_cost
from alexnet.data.images import BadImage, decode
from heic_file import SIDE, heic

needs_heic = pytest.mark.needs("pi_heif", "pip install pi-heif")
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow is built without AVIF")

RAMP = np.arange(256, dtype=np.uint8).reshape(SIDE, SIDE)


@needs_heic
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_heic_has_its_pixels_upright(turns: int):
    pixels = decode(heic(RAMP.tobytes(), quarter_turns=turns), "x")
    np.testing.assert_array_equal(pixels, np.stack([np.rot90(RAMP, turns)] * 3, axis=2))
    assert pixels.flags.c_contiguous


@needs_heic
def test_heic_has_its_colors():
    red = heic(bytes([76]) * 256, bytes([85]) * 64, bytes([255]) * 64)  # BT.601's red: Y 76, Cb 85, Cr 255
    assert np.abs(decode(red, "x").astype(int) - (254, 0, 0)).max() <= 2


@needs_heic
def test_heic_of_too_many_pixels_is_refused_by_its_header():
    data = heic(RAMP.tobytes(), size=(9_000, 8_000))
    assert decode_cost(data).pixels == 72_000_000
    with pytest.raises(BadImage, match="it has 9,000 x 8,000 pixels, more than 64,000,000"):
        decode(data, "x")
    with pytest.raises(BadImage, match="it has 16 x 16 pixels, more than 100"):
        decode(heic(RAMP.tobytes()), "x", pixel_limit=100)


@needs_heic
@pytest.mark.parametrize("kept", [30, 200, -100])
def test_half_a_heic_is_refused(kept: int):
    with pytest.raises(BadImage, match="x cannot be decoded: the HEIC file is truncated or damaged"):
        decode(heic(RAMP.tobytes())[:kept], "x")


def test_heic_without_the_extra_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heic_module, "heic_is_supported", lambda: False)
    data = heic(RAMP.tobytes())
    with pytest.raises(BadImage, match=r"photo\.heic cannot be decoded: it is HEIC, .*; pip install 'alexnet\[heic\]'"):
        decode(data, "photo.heic")
    assert decode_cost(data)[:2] == (0, len(data))


@needs_avif
def test_avif_has_its_pixels_and_orientation():
    ramp = np.stack([np.repeat(np.repeat(RAMP, 4, 0), 4, 1)] * 3, axis=2)
    for orientation, upright in ((1, ramp), (6, np.rot90(ramp, -1))):
        exif, file = Image.Exif(), io.BytesIO()
        exif[0x0112] = orientation
        Image.fromarray(ramp).save(file, "AVIF", quality=100, subsampling="4:4:4", exif=exif)
        assert np.abs(decode(file.getvalue(), "x").astype(int) - upright).max() <= 3


@needs_avif
def test_transparent_avif_is_composited_over_white():
    file = io.BytesIO()
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(file, "AVIF", quality=100)
    assert decode(file.getvalue(), "x").min() == 255


@needs_avif
def test_avif_of_too_many_pixels_is_refused(monkeypatch: pytest.MonkeyPatch):
    file = io.BytesIO()
    Image.new("RGB", (101, 100)).save(file, "AVIF")
    monkeypatch.setitem(images.PIXEL_LIMITS, "AVIF", 10_000)
    with pytest.raises(BadImage, match="it has 101 x 100 pixels, more than 10,000"):
        decode(file.getvalue(), "x")


def test_extensions_say_what_is_supported_here(monkeypatch: pytest.MonkeyPatch):
    cached = (image_formats.supported_extensions, image_formats.unsupported_extensions, image_formats.pillow_formats)

    def clear() -> None:
        for function in cached:
            function.cache_clear()

    clear()
    monkeypatch.setattr(image_formats, "heic_is_supported", lambda: False)
    monkeypatch.setattr(image_formats.features, "check", lambda name: False)
    try:
        assert {".jpg", ".png", ".tif", ".webp", ".pbm"} <= image_formats.supported_extensions()
        assert not {".heic", ".avif"} & image_formats.supported_extensions()
        unsupported = image_formats.unsupported_extensions()
        assert (unsupported[".heic"].name, unsupported[".avif"].name, unsupported[".dng"].name) == (
            "HEIC", "AVIF", "camera raw")
        assert not image_formats.supported_extensions() & unsupported.keys()
        clear()
        monkeypatch.setattr(image_formats, "heic_is_supported", lambda: True)
        monkeypatch.setattr(image_formats.features, "check", lambda name: True)
        assert {".heic", ".heif", ".hif", ".avif"} <= image_formats.supported_extensions()
        assert ".heic" not in image_formats.unsupported_extensions()
    finally:
        clear()


@pytest.mark.parametrize(("data", "words"), [
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "it is JPEG 2000"), (b"\xff\x0a\x00", "it is JPEG XL"),
    (b"8BPS\0\1", "Photoshop"),
    (b"%PDF-1.7", "it is PDF"), (bytes(128) + b"DICM", "it is DICOM"), (b"P7\nWIDTH 1\n", "it is PAM"),
    (b"<html></html>", "it is a web page and not an image"), (b"\x93NUMPY\1\0", "it is a NumPy array"),
    (b"\x89HDF\r\n", "it is an HDF5 file"), (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
    (b"\x00\x00\x00\x18ftypisom", "it is a video")])
def test_a_known_format_that_is_not_supported_is_named(data: bytes, words: str):
    with pytest.raises(BadImage, match=f"x cannot be decoded: it begins with .*{words}"):
        decode(data, "x")
