"""The size of a WebP by its header."""

import io
import struct

import pytest
from PIL import Image

from alexnet.data import webp
from alexnet.data.decode_memory import decode_cost
from alexnet.data.images import BadImage, decode


def webp_file(size, **options):
    stream = io.BytesIO()
    Image.new("RGB", size, "teal").save(stream, "WEBP", **options)
    return stream.getvalue()


@pytest.mark.parametrize(("kind", "options"), [
    (b"VP8 ", {}), (b"VP8L", {"lossless": True}), (b"VP8X", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}),
    (b"VP8X", {"save_all": True, "append_images": [Image.new("RGB", (301, 77))]})])
def test_the_size_of_each_kind_of_webp_is_that_of_pillow(kind, options):
    data = webp_file((301, 77), **options)
    assert data[12:16] == kind
    assert webp.size(data) == webp.size(memoryview(data)) == (301, 77)
    assert decode_cost(data) == (301 * 77, 20 * 301 * 77 + len(data), True, True)


def test_other_and_damaged_files_have_no_size():
    data = webp_file((301, 77))
    changed = b"\0" + data[1:], data[:23] + b"\0" + data[24:], data[:12] + b"VP9 " + data[16:]
    for other in (b"", b"RIFF", data[:20], *changed):
        assert webp.size(other) is None


def test_a_small_file_that_claims_many_pixels_is_refused_before_pillow_allocates_them(monkeypatch):
    """A canvas of 16,384 x 16,384 pixels: libwebp would allocate two copies of 1 GB when the file is opened."""
    header = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\x3f\x00\xff\x3f\x00"
    data = b"RIFF" + struct.pack("<I", 4 + len(header)) + b"WEBP" + header
    monkeypatch.setattr(Image, "open", lambda *arguments, **options: pytest.fail("opened"))
    assert decode_cost(data).pixels == 16_384**2
    with pytest.raises(BadImage, match="it has 16,384 x 16,384 pixels, more than 40,000,000"):
        decode(data, "x")
