"""Compressed text in PNGs: usual files are decoded, and one whose text would take 64 MB is refused at once."""

import time

import numpy as np
import pytest
from pictures import encoded, image, png_of_text
from PIL import PngImagePlugin

from alexnet.data import png_text
from alexnet.data.decode_memory import decode_cost
from alexnet.data.images import BadImage, decode
from alexnet.data.png_text import TEXT_LIMIT, compressed_text


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_text_of_66_kb_that_becomes_64_mb_is_refused_in_milliseconds(kind):
    """Pillow decompressed all of it, in 0.2 seconds; color profiles without any limit."""
    data = png_of_text(image(), 64, kind=kind)
    assert len(data) < 80_000
    began = time.process_time()
    cost = decode_cost(data)
    with pytest.raises(BadImage, match="x cannot be decoded: its compressed text and color profiles have more than 4 "
                                       "MB; replace it, or leave it out"):
        decode(data, "x")
    assert time.process_time() - began < 0.12
    assert cost == (0, len(data), False, True)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_text_within_the_limit_changes_no_pixel(kind):
    data = png_of_text(image(), 3, kind=kind)
    np.testing.assert_array_equal(decode(data, "x"), np.asarray(image()))
    assert 3_000_000 <= decode_cost(data).memory - 12 * 64 * 64 - len(data) <= TEXT_LIMIT


def test_many_small_texts_are_no_attack():
    """Each could be a megabyte by its length."""
    info = PngImagePlugin.PngInfo()
    for number in range(40):
        info.add_text(f"key {number}", "".join(map(str, range(number, number + 2000))), zip=True)
        info.add_itxt(f"more {number}", "text", zip=True)
        info.add_itxt(f"plain {number}", "text" * 1000)
    data = encoded(image(), "PNG", pnginfo=info)
    assert 200_000 < compressed_text(data, 1000) < 400_000
    np.testing.assert_array_equal(decode(data, "x"), np.asarray(image()))


def test_the_estimate_inflates_each_text_once_beside_pillow(monkeypatch):
    """Of more than 4 kB of compressed text, each chunk is inflated to count its bytes."""
    counted = []
    inflated = png_text._inflated
    monkeypatch.setattr(png_text, "_inflated", lambda kind, content: counted.append(kind) or inflated(kind, content))
    info = PngImagePlugin.PngInfo()
    for number in range(40):
        info.add_text(f"key {number}", "".join(map(str, range(number, number + 2000))), zip=True)
    assert decode_cost(encoded(image(), "PNG", pnginfo=info)).pixels == 64 * 64
    assert counted == [b"zTXt"] * 40


@pytest.mark.parametrize("flag", [1, 2, 255])
def test_text_with_any_flag_but_0_counts_as_compressed(flag):
    """So Pillow reads it; the format has 0 and 1."""
    data = png_of_text(image(), 64, kind=b"iTXt").replace(b"\0\1\0\0\0", b"\0%c\0\0\0" % flag)
    with pytest.raises(BadImage, match="more than 4 MB"):
        decode(data, "x")


def test_text_after_the_pixels_counts_too():
    """Pillow reads it when it loads them."""
    data, plain = png_of_text(image(), 64), encoded(image(), "PNG")
    text = data[33 : 33 + len(data) - len(plain)]
    with pytest.raises(BadImage, match="more than 4 MB"):
        decode(plain[:-12] + text + plain[-12:], "x")


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", encoded(image(), "PNG"), encoded(image(), "PNG")[:60],
                                  encoded(image(), "JPEG")])
def test_files_without_text_have_none(data):
    assert compressed_text(data, 1000) == 0


def test_damaged_text_is_left_to_pillow():
    data = png_of_text(image(), 5)
    compressed = data.index(b"\x78\xda")
    assert compressed_text(data[:compressed] + b"\0\0" + data[compressed + 2 :], 1000) == TEXT_LIMIT
