"""The estimated memory of decoding an image: never less than what it takes, for every format."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from alexnet.data.decode_memory import decode_cost

SIDE = 1500
MEASURE = """
import pathlib, re, sys
from alexnet.data.images import decode, square
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
    "cmyk": ("CMYK", "JPEG", {}), "png": ("RGBA", "PNG", {}), "palette": ("P", "PNG", {}),
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
        image.save(tmp_path / size, kind, **options)
    cost = decode_cost((tmp_path / "large").read_bytes())
    output = subprocess.run([sys.executable, "-c", MEASURE, tmp_path / "small", tmp_path / "large"],
                            capture_output=True, text=True, check=True).stdout
    assert cost.pixels == SIDE**2
    assert int(output) <= cost.memory + 2_000_000  # the allocator's own
    assert int(output) >= 2 * SIDE**2  # two of the three bytes of each pixel: otherwise nothing was measured


def test_what_is_no_image_costs_its_bytes_alone():
    assert decode_cost(b"no image") == (0, 8, False)


def test_an_upright_baseline_jpeg_costs_half_of_a_progressive_one():
    costs = []
    for progressive in (False, True):
        file = io.BytesIO()
        picture(100, "RGB").save(file, "JPEG", progressive=progressive)
        costs.append(decode_cost(file.getvalue()).memory - len(file.getvalue()))
    assert costs == [7 * 10_000, 13 * 10_000]
