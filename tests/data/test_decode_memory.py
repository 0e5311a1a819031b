"""The estimated memory of decoding an image: never less than what it takes, for every format."""

import io
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from alexnet.data.decode_memory import UNKNOWN, decode_cost
from alexnet.data.images import BadImage, decode

SIDE = 1500
MEASURE = """
import pathlib, re, sys
from alexnet.data.images import decode
from alexnet.data.square import square
def peak():  # of this process alone; ru_maxrss begins with the parent's
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
def grown(path):
    data = pathlib.Path(path).read_bytes()
    before = peak()
    square(decode(data, "an image"), 64)
    return peak() - before
grown(sys.argv[1])
print(grown(sys.argv[2]))
"""


def picture(side: int, mode: str) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((side, side)).convert(mode)


def turned(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


FORMATS = {
    "jpeg": ("RGB", "JPEG", {}), "progressive": ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    "cmyk": ("CMYK", "JPEG", {}), "progressive cmyk": ("CMYK", "JPEG", {"progressive": True}),
    "leftover bytes": ("RGB", "JPEG", {}), "leftover bytes, cmyk": ("CMYK", "JPEG", {}),
    "png": ("RGBA", "PNG", {}), "palette": ("P", "PNG", {}),
    "tiff": ("F", "TIFF", {}), "webp": ("RGBA", "WEBP", {"quality": 20}), "gif": ("P", "GIF", {}),
    "lzw": ("RGB", "TIFF", {"compression": "tiff_lzw"}), "bmp": ("RGB", "BMP", {})}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", FORMATS)
def test_the_estimate_covers_the_growth_of_the_resident_memory(name, tmp_path):
    """Of a new process that has decoded a small image of the same kind before."""
    mode, kind, options = FORMATS[name]
    for size, side in (("small", 32), ("large", SIDE)):
        image = picture(side, mode)
        if kind in ("JPEG", "WEBP"):
            options = options | {"exif": turned(image)}
        file = io.BytesIO()
        image.save(file, kind, **options)
        data = file.getvalue()
        if name.startswith("leftover bytes"):  # after the last block: Pillow decodes it instead of simplejpeg
            data = data[:-2] + bytes(20) + data[-2:]
        (tmp_path / size).write_bytes(data)
    cost = decode_cost((tmp_path / "large").read_bytes())
    output = subprocess.run([sys.executable, "-c", MEASURE, tmp_path / "small", tmp_path / "large"],
                            capture_output=True, text=True, check=True).stdout
    assert cost.pixels == SIDE**2
    assert int(output) <= cost.memory + 2_000_000  # the allocator's own
    assert int(output) >= 2 * SIDE**2  # two of the three bytes of each pixel: otherwise nothing was measured


def test_what_is_no_image_costs_its_bytes_alone():
    assert decode_cost(b"no image") == (0, 8, False, True)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG_START = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0))
PIECES = {
    "jpeg_markers": (b"\xff\xd8", b"\xff\xe1\0\2"), "jpeg_fill": (b"\xff\xd8", b"\xff" * 4),
    "jpeg_comments": (b"\xff\xd8", b"\xff\xfe\0\2"), "png": (PNG_START, chunk(b"gAMA", b"\0\0\0\1")),
    "gif": (b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0, 0, 0), b"!\xfe\1a\0"), "ppm": (b"P6 ", b"#\n")}


@pytest.mark.parametrize("name", PIECES)
def test_a_header_of_millions_of_pieces_is_not_read_to_its_end(name):
    """20 MB, which Pillow reads in seconds: 7 of a JPEG with empty segments."""
    start, piece = PIECES[name]
    data = start + piece * ((20_000_000 - len(start)) // len(piece))
    began = time.process_time()
    assert decode_cost(data) == (0, UNKNOWN, True, True)
    assert time.process_time() - began < 0.25
    with pytest.raises(BadImage, match="x cannot be decoded: it consists of too many small pieces"):
        decode(data, "x")


def test_a_long_animation_is_no_file_of_too_many_pieces():
    """A GIF is read in more pieces for its size than other formats."""
    noise = np.random.default_rng(0).integers(0, 255, (400, 700), dtype=np.uint8)
    file = io.BytesIO()
    frames = [Image.fromarray(np.roll(noise, shift, 1)) for shift in range(5)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    data = file.getvalue()
    assert len(data) > 1_000_000
    assert decode_cost(data) == (280_000, 12 * 280_000 + len(data), False, True)
    np.testing.assert_array_equal(decode(data, "x")[..., 0], noise)


def test_a_baseline_jpeg_costs_less_than_a_progressive_one():
    costs = []
    for progressive in (False, True):
        file = io.BytesIO()
        picture(100, "RGB").save(file, "JPEG", progressive=progressive)
        costs.append(decode_cost(file.getvalue()).memory - len(file.getvalue()))
    assert costs == [8 * 10_000, 13 * 10_000]
