"""Every image is decoded correctly or refused by name, whatever its format, color mode and orientation."""

import io
import os
import random
import struct
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, TiffImagePlugin

from alexnet.data import images
from alexnet.data.images import BadImage, decode, read
from alexnet.data.jpeg import SCAN_LIMIT
from sample_images import largest_difference, smooth

HEIGHT, WIDTH = 48, 64


def encoded(picture: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def oriented(kind: str, orientation: int, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(smooth(), kind, exif=exif, **options)


# --- What is decoded --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP"])
def test_lossless_formats_give_their_pixels(kind: str):
    flat = np.zeros((8, 10, 3), np.uint8)
    flat[:, 5:] = (200, 100, 50)
    pixels = decode(encoded(flat, kind, **({"lossless": True} if kind == "WEBP" else {})), "flat")
    np.testing.assert_array_equal(pixels, flat)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}])
def test_jpeg_gives_what_pillow_gives(options: dict):
    data = encoded(smooth(), "JPEG", **options)
    np.testing.assert_array_equal(decode(data, "smooth"), np.asarray(Image.open(io.BytesIO(data))))


def test_real_images_give_what_pillow_gives(imagenet_samples: list[bytes]):
    for data in imagenet_samples[:40]:
        np.testing.assert_array_equal(decode(data, "x"), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_memoryview_decodes_like_bytes():
    data = encoded(smooth(), "JPEG")
    np.testing.assert_array_equal(decode(memoryview(data), "x"), decode(data, "x"))


def test_png_that_is_called_jpeg_decodes(tmp_path: Path):
    (tmp_path / "n02105855_2933.JPEG").write_bytes(encoded(smooth(), "PNG"))
    np.testing.assert_array_equal(read(tmp_path / "n02105855_2933.JPEG"), smooth())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_gray_becomes_rgb(kind: str):
    gray = smooth()[..., 0]
    pixels = decode(encoded(gray, kind), "gray")
    assert largest_difference(pixels, np.repeat(gray[..., None], 3, 2)) <= (4 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(kind: str):
    # Pillow writes CMYK JPEG as Adobe does, inverted.
    pixels = decode(encoded(Image.fromarray(smooth()).convert("CMYK"), kind), "cmyk")
    assert largest_difference(pixels, smooth()) <= 12


def test_first_picture_of_a_stereo_pair_is_taken():
    left, right = Image.fromarray(smooth()), Image.new("RGB", (WIDTH, HEIGHT), "red")
    data = encoded(left, "MPO", save_all=True, append_images=[right], quality=95)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert largest_difference(decode(data, "stereo"), smooth()) <= 12


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_is_taken(kind: str):
    frames = [Image.new("RGB", (20, 10), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    pixels = decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:]), "moving")
    assert largest_difference(pixels, np.full((10, 20, 3), (255, 0, 0), np.uint8)) <= 4


# --- Sixteen bits and more --------------------------------------------------------------------------------------------

RAMP_16 = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind: str):
    picture = Image.fromarray(RAMP_16.astype(np.uint16))
    pixels = decode(encoded(picture.convert("I") if kind == "PPM" else picture, kind), "deep")
    assert np.abs(pixels - RAMP_16[..., None] / 257).max() <= 0.51
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_big_endian_sixteen_bits_are_scaled():
    data = encoded(Image.fromarray(RAMP_16.astype(">u2")), "TIFF")
    assert np.abs(decode(data, "deep")[..., 0] - RAMP_16 / 257).max() <= 0.51


def test_dark_sixteen_bits_stay_dark():
    assert decode(encoded(np.full((9, 9), 257 * 3, np.uint16), "PNG"), "dark").max() == 3


@pytest.mark.parametrize(("values", "expected"), [
    (np.array([[0.0, 0.5, 1.0]]), [0, 128, 255]),
    (np.array([[0.0, 100.0, 255.0]]), [0, 100, 255]),
    (np.array([[0.0, 25700.0, 65535.0]]), [0, 100, 255]),
    (np.array([[0, 100, 255]]), [0, 100, 255]),
    (np.array([[0, 25700, 65535]]), [0, 100, 255]),
])
def test_grays_of_32_bits_get_the_smallest_scale_that_contains_them(values: np.ndarray, expected: list[int]):
    wide = values.astype(np.float32 if values.dtype == float else np.int32)
    assert decode(encoded(wide, "TIFF"), "wide")[0, :, 1].tolist() == expected


def test_pixels_that_are_not_numbers_are_refused():
    with pytest.raises(BadImage, match="wide cannot be decoded: it has pixels that are not numbers"):
        decode(encoded(np.full((4, 4), np.nan, np.float32), "TIFF"), "wide")


# --- Palettes, transparency, other color spaces ----------------------------------------------------------------------


def test_palette_becomes_its_colors():
    picture = Image.fromarray(smooth()).quantize(64)
    np.testing.assert_array_equal(decode(encoded(picture, "PNG"), "few"), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_transparent_palette_entry_becomes_white(kind: str):
    picture = Image.new("P", (4, 2), 0)
    picture.putpalette([10, 20, 30, 200, 0, 0])
    picture.putpixel((0, 0), 1)
    pixels = decode(encoded(picture, kind, transparency=0), "few")
    assert pixels[0, 0].tolist() == [200, 0, 0]
    assert (pixels[1] == 255).all()


def test_half_transparent_palette_entries_are_mixed_with_white():
    picture = Image.new("P", (2, 1), 0)
    picture.putpalette([0, 0, 0, 200, 0, 0])
    picture.putpixel((0, 0), 1)
    assert decode(encoded(picture, "PNG", transparency=b"\x80\xff"), "few").tolist() == [[[200, 0, 0], [127] * 3]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparency_is_composited_over_white(kind: str):
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[:, 0] = (0, 0, 0, 0)
    rgba[:, 1] = (200, 100, 0, 255)
    rgba[:, 2] = (0, 0, 0, 128)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert decode(encoded(rgba, kind, **options), "glass")[1].tolist() == [[255] * 3, [200, 100, 0], [127] * 3]


def test_every_value_of_every_transparency_is_mixed_with_white_to_the_nearest():
    value_HW, alpha_HW = np.meshgrid(np.arange(256), np.arange(256))
    pixels_HWC = np.stack([value_HW, value_HW, value_HW, alpha_HW], 2).astype(np.uint8)
    seen = decode(encoded(Image.fromarray(pixels_HWC), "PNG"), "all")
    np.testing.assert_array_equal(seen[..., 0], np.rint(255 - (255 - value_HW) * alpha_HW / 255))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_transparent_gray_is_composited_over_white(kind: str):
    gray = Image.merge("LA", [Image.new("L", (3, 3), 0), Image.new("L", (3, 3), 128)])
    assert (decode(encoded(gray, kind), "glass") == 127).all()


def test_transparent_palette_of_tiff_decodes():
    picture = Image.new("PA", (3, 3), (1, 128))
    picture.putpalette([255, 255, 255, 0, 0, 0])
    assert (images._rgb(picture, b"", set()) == 127).all()


def test_transparent_color_of_png_becomes_white():
    color = np.full((2, 2, 3), (9, 8, 7), np.uint8)
    color[0, 0] = (50, 60, 70)
    pixels = decode(encoded(color, "PNG", transparency=(9, 8, 7)), "keyed")
    assert pixels[0, 0].tolist() == [50, 60, 70]
    assert (pixels[1] == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "BMP"])
def test_one_bit_becomes_black_and_white(kind: str):
    bits = smooth()[..., 0] > 100
    np.testing.assert_array_equal(decode(encoded(bits, kind), "bits")[..., 1], np.where(bits, 255, 0))


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_other_color_spaces_become_rgb(mode: str):
    picture = Image.fromarray(smooth())
    if mode == "LAB":
        red = Image.new("LAB", (3, 3), (136, 208, 195))  # sRGB's pure red is L* 53, a* 80, b* 67
        assert largest_difference(decode(encoded(red, "TIFF"), "lab"), np.full((3, 3, 3), (255, 0, 0), np.uint8)) <= 30
    else:
        assert largest_difference(decode(encoded(picture.convert(mode), "TIFF"), "other"), smooth()) <= 4


@pytest.mark.parametrize("kind", ["RGBA", "P", "1", "LA", "CMYK", "I;16", "F"])
def test_conversion_in_strips_equals_conversion_of_the_whole_image(kind: str, monkeypatch: pytest.MonkeyPatch):
    """Large images are converted in strips: copies of them in each of Pillow's modes would take gigabytes."""
    picture = Image.fromarray(smooth())
    if kind in ("I;16", "F"):
        picture = Image.fromarray((smooth()[..., 0] * 200.0).astype(np.uint16 if kind == "I;16" else np.float32))
    elif kind in ("RGBA", "LA"):
        picture.putalpha(Image.fromarray(smooth()[..., 1]))
    if kind not in ("I;16", "F"):
        picture = picture.convert(kind)
    data = encoded(picture, "TIFF", **({"transparency": 3} if kind == "P" else {}))
    whole = decode(data, "x")
    for pixels in (1, WIDTH, 3 * WIDTH + 1, (HEIGHT - 1) * WIDTH):
        monkeypatch.setattr(images, "_STRIP", pixels)
        np.testing.assert_array_equal(decode(data, "x"), whole)


# --- Orientation ------------------------------------------------------------------------------------------------------

#: The pixels of `smooth()` for each EXIF orientation, computed by NumPy.
ORIENTED = {1: smooth(), 2: np.fliplr(smooth()), 3: np.rot90(smooth(), 2), 4: np.flipud(smooth()),
          5: smooth().transpose(1, 0, 2), 6: np.rot90(smooth(), -1),
          7: np.rot90(smooth().transpose(1, 0, 2), 2), 8: np.rot90(smooth(), 1)}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied_whatever_the_format(kind: str, orientation: int):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(kind, {})
    pixels = decode(oriented(kind, orientation, **options), "oriented")
    assert largest_difference(pixels, ORIENTED[orientation]) <= (8 if kind == "JPEG" else 0)
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientation_that_does_not_exist_changes_nothing(orientation: int):
    np.testing.assert_array_equal(decode(oriented("PNG", orientation), "x"), smooth())


def test_exif_orientation_is_applied_to_cmyk():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(smooth()).convert("CMYK"), "JPEG", exif=exif, quality=95)
    assert largest_difference(decode(data, "cmyk"), ORIENTED[6]) <= 12


def damaged_exif() -> bytes:
    """An intact JPEG with a truncated EXIF block, of which Pillow warns."""
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    ifd[0x010F], ifd[0x0112] = "a maker of cameras with a long name", 6
    block = io.BytesIO()
    ifd.save(block)
    return encoded(smooth(), "JPEG", exif=b"Exif\x00\x00" + block.getvalue()[:-20])


def test_damaged_exif_is_ignored_without_a_warning():
    data = damaged_exif()
    with pytest.warns(UserWarning, match="Truncated|Corrupt"):  # Pillow alone warns
        Image.open(io.BytesIO(data)).getexif()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data, "damaged").size == smooth().size


def test_many_threads_decode_the_same_without_a_warning():
    files = [damaged_exif(), encoded(smooth(), "JPEG"), encoded(smooth(), "PNG"), encoded(smooth(), "TIFF")]
    expected = [decode(data, "x") for data in files]
    with ThreadPoolExecutor(8) as pool:
        for number, pixels in enumerate(pool.map(decode, files * 50, ["x"] * 200)):
            np.testing.assert_array_equal(pixels, expected[number % 4])


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "reason"), [
    (b"", "it is empty"),
    (b"<!DOCTYPE html><html>", "it begins with '<!DOCTYPE html>"),
    (b"\x00" * 100, "it begins with the bytes 00 00"),
    (encoded(smooth(), "JPEG")[:700], "truncated"),
    (encoded(smooth(), "PNG")[:-200], "truncated"),
    (encoded(smooth(), "ICO"), "it begins with"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it begins with"),
])
def test_broken_file_is_refused_by_name(data: bytes, reason: str):
    with pytest.raises(BadImage, match=r"ash/007\.jpg cannot be decoded: ") as refusal:
        decode(data, "ash/007.jpg")
    assert reason in str(refusal.value)
    assert "0x" not in str(refusal.value).replace("b'\\x", "")
    assert refusal.value.__context__ is None


def test_image_of_too_many_pixels_is_refused_by_its_header():
    def claims(width: int, height: int) -> bytes:
        """A small PNG whose header states this size."""
        header = b"IHDR" + struct.pack(">2I", width, height) + b"\x08\x02\x00\x00\x00"
        whole = encoded(smooth(), "PNG")
        return whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]

    np.testing.assert_array_equal(decode(claims(WIDTH, HEIGHT), "small"), smooth())
    with pytest.raises(BadImage, match=r"it has 9,000 x 9,000 pixels, more than 80,000,000"):
        decode(claims(9_000, 9_000), "bomb")
    # Pillow warns of the first, and refuses the second.
    for side, size in (10_000, "10,000 x 10,000"), (50_000, "2,500,000,000"):
        with pytest.raises(BadImage, match=f"it has {size} pixels, more than 80,000,000"):
            decode(claims(side, side), "bomb")


def test_a_webp_of_which_pillow_would_hold_a_gigabyte_is_refused():
    data = encoded(Image.new("RGB", (8_001, 5_000)), "WEBP", lossless=True, method=0, quality=0)
    with pytest.raises(BadImage, match=r"it has 8,001 x 5,000 pixels, more than 40,000,000"):
        decode(data, "bomb")


def test_file_of_too_many_bytes_is_refused_before_it_is_read(tmp_path: Path):
    with (tmp_path / "vast.jpg").open("wb") as file:
        file.truncate(images.BYTE_LIMIT + 1)
    with pytest.raises(BadImage, match=r"vast\.jpg cannot be decoded: it has 256,000,001 bytes"):
        read(tmp_path / "vast.jpg")


def test_folder_and_pipe_are_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path, words in ((tmp_path, "is a folder; name an image in it"), (tmp_path / "pipe.jpg", "is not a file;")):
        with pytest.raises(BadImage, match=words):
            read(path)


def test_missing_file_raises_an_oserror(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="none"):
        read(tmp_path / "none.jpg")


def test_reading_changes_no_file(tmp_path: Path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(smooth(), "JPEG"))
    path.chmod(0o444)
    before = path.stat()
    read(path)
    assert (path.stat().st_mtime_ns, [*tmp_path.iterdir()]) == (before.st_mtime_ns, [path])


def test_truncated_files_are_not_tolerated_by_pillow():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "PPM", "BMP", "CMYK", "TIFF-LZW"])
def test_mutated_files_give_pixels_or_bad_image_and_nothing_else(kind: str, capfd: pytest.CaptureFixture):
    rng, picture = random.Random(kind), Image.fromarray(smooth())
    whole = (encoded(picture.convert("CMYK"), "JPEG") if kind == "CMYK"
             else encoded(picture, "TIFF", compression="tiff_lzw") if kind == "TIFF-LZW"
             else oriented(kind, 6) if kind in ("JPEG", "PNG", "WEBP") else encoded(picture, kind))
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.choice((0, 1, 3, 30))):
            data[rng.randrange(min(len(data), rng.choice((60, 400, len(data)))))] = rng.randrange(256)
        if rng.random() < 0.4:
            del data[rng.randrange(len(data)) :]
        try:
            pixels = decode(bytes(data), "mutant")
        except BadImage:
            continue
        assert pixels.dtype == np.uint8
        assert pixels.ndim == pixels.shape[2] == 3
    if kind != "TIFF-LZW":  # libtiff writes to standard error, and Pillow cannot prevent it
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "PPM", "BMP"])
def test_half_a_file_is_refused(kind: str):
    data = encoded(smooth(300, 400), kind)
    with pytest.raises(BadImage):
        decode(data[: len(data) // 2], "half")


def test_a_jpeg_of_many_segments_is_refused_after_some_of_them():
    """20 MB of empty segments took 5 million steps."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(stream, "JPEG")
    whole, comment = stream.getvalue(), b"\xff\xfe\x00\x02"
    assert decode(whole[:2] + comment * 4000 + whole[2:], "x").shape == (64, 64, 3)
    with pytest.raises(BadImage, match="it has more than 4,096 segments"):
        decode(whole[:2] + comment * 4100 + whole[2:], "x")
    began = time.process_time()
    with pytest.raises(BadImage):
        decode(whole[:2] + b"\xff\xc1\x00\x00" * 5_000_000, "x")
    assert time.process_time() - began < 1


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded():
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(stream, "JPEG", progressive=True)
    whole = stream.getvalue()
    scan = whole[whole.rfind(b"\xff\xc4") : -2]  # the last scan, with its table
    assert decode(whole[:-2] + scan * 3 + whole[-2:], "x").shape == (64, 64, 3)
    with pytest.raises(BadImage, match=f"it has more than {SCAN_LIMIT} scans"):
        decode(whole[:-2] + scan * SCAN_LIMIT + whole[-2:], "x")
    # What follows the image (a video) and the content of a segment (a comment) are not scans. A false end marker in a
    # comment does not hide the scans after it.
    assert decode(whole + b"\xff\xda" * 100, "x").shape == (64, 64, 3)
    comment = b"\xff\xfe\x00\x66" + b"\xff\xda" * 50
    assert decode(whole[:2] + comment + whole[2:], "x").shape == (64, 64, 3)
    with pytest.raises(BadImage, match="scans"):
        decode(whole[:-2] + b"\xff\xfe\x00\x04\xff\xd9" + scan * SCAN_LIMIT + whole[-2:], "x")
