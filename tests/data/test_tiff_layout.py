"""TIFFs in tiles and strips: honest ones are decoded, and one that states a vast tile is refused before it is there."""

import io
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from pictures import encoded, image, tiled_tiff
from PIL import Image

from alexnet.data.decode_memory import decode_cost
from alexnet.data.images import BadImage, decode
from alexnet.data.tiff_layout import PIECES, tiff_layout

GROWTH = """
import pathlib, re, sys
from alexnet.data.images import BadImage, decode
def peak():  # of this process alone; ru_maxrss begins with the parent's
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
def grown(path):
    data = pathlib.Path(path).read_bytes()
    before = peak()
    try:
        decode(data, "an image")
    except BadImage:
        pass
    return peak() - before
grown(sys.argv[1])
print(grown(sys.argv[2]))
"""


def grown(folder, data):
    """Bytes by which a new process grows when it decodes the file, after a small one of the same kind."""
    for name, content in (("small", tiled_tiff(image(), 64, 64)), ("file", data)):
        (folder / name).write_bytes(content)
    output = subprocess.run([sys.executable, "-c", GROWTH, folder / "small", folder / "file"], capture_output=True,
                            text=True, check=True).stdout
    return int(output)


def noise(width, height):
    colors = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(colors)


def entry(tag, *values, kind=4):
    return tag, kind, values


def tiff(*entries, order="<", data=b""):
    """A TIFF of these tags, with `data` at its end."""
    rows, after = b"", b""
    place = 8 + 2 + 12 * len(entries) + 4
    for tag, kind, values in entries:
        packed = struct.pack(f"{order}{len(values)}{ {1: 'B', 3: 'H', 4: 'I', 6: 'b', 9: 'i'}[kind]}", *values)
        rows += struct.pack(order + "HHI", tag, kind, len(values))
        rows += packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(order + "I", place + len(after))
        after += packed if len(packed) > 4 else b""
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "IH", 8, len(entries)) + rows + bytes(4) + after + data


@pytest.mark.parametrize(("size", "tile"), [
    ((300, 200), (512, 512)), ((300, 200), (1024, 1024)), ((300, 200), (4096, 4096)), ((64, 64), (16, 16)),
    ((300, 200), (128, 64)), ((3000, 5), (256, 256)), ((5, 3000), (1024, 1024)), ((4500, 4000), (4512, 4000))])
def test_honest_tiles_are_decoded_also_where_they_are_larger_than_the_image(size, tile):
    picture = noise(*size)
    data = tiled_tiff(picture, *tile)
    np.testing.assert_array_equal(decode(data, "x"), np.asarray(picture))
    assert decode_cost(data).memory >= size[0] * size[1] * 12 + tile[0] * tile[1] * 3


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}])
@pytest.mark.parametrize("rows", [1, 7, 200, 2**32 - 1])
def test_strips_of_any_height_are_decoded(options, rows):
    """A single strip may state more rows than the image has."""
    picture = noise(300, 200)
    data = encoded(picture, "TIFF", tiffinfo={278: min(rows, 200)}, **options)
    layout = tiff_layout(data)
    if rows > 200:
        place = next(place for place in range(len(data)) if data[place : place + 4] == struct.pack("<HH", 278, 3)
                     or data[place : place + 4] == struct.pack("<HH", 278, 4))
        data = data[: place + 2] + struct.pack("<HII", 4, 1, rows) + data[place + 12 :]
        layout = tiff_layout(data)
    assert layout.piece_bytes == 900 * min(rows, 200)
    assert layout.pieces == -(-200 // min(rows, 200))
    np.testing.assert_array_equal(decode(data, "x"), np.asarray(picture))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_small_image_in_a_tile_of_600_megabytes_takes_no_memory(tmp_path):
    """Of 390 kB. libtiff and Pillow would allocate the tile, and the estimate of the server was 0.8 MB."""
    data = tiled_tiff(noise(64, 64), 16384, 12288)
    assert grown(tmp_path, data) < 20_000_000
    with pytest.raises(BadImage, match=r"x cannot be decoded: it has 64 x 64 pixels in tiles of 16,384 x 12,288, more "
                                       "than 16,777,216 pixels; save it as PNG or JPEG"):
        decode(data, "x")
    assert decode_cost(data) == (0, len(data), False, True)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("tile", [(4096, 4096), (1024, 1024)])
def test_the_estimate_covers_a_tile_that_is_larger_than_the_image(tile, tmp_path):
    data = tiled_tiff(noise(64, 64), *tile)
    growth = grown(tmp_path, data)
    assert decode_cost(data).pixels == tile[0] * tile[1]  # of a request's share
    assert growth <= decode_cost(data).memory + 2_000_000  # the allocator's own
    assert growth >= tile[0] * tile[1] * 2  # otherwise nothing was measured


@pytest.mark.parametrize(("width", "height"), [(64, 64), (20, 500_000)])
def test_a_file_of_very_many_strips_is_refused_before_they_are_read(width, height):
    """Of 2 million strips Pillow decoded for minutes."""
    count = max(height, PIECES + 1)
    data = tiff(entry(256, width), entry(257, height), entry(258, 8, 8, 8, kind=3), entry(259, 1, kind=3),
                entry(262, 2, kind=3), entry(273, *[8] * count), entry(277, 3, kind=3), entry(278, 1),
                entry(279, *[3 * width] * count), data=bytes(3 * width * 100))
    began = time.process_time()
    with pytest.raises(BadImage, match=f"it consists of {count:,} tiles or strips, more than 100,000"):
        decode(data, "x")
    assert decode_cost(data).pixels == 0
    assert time.process_time() - began < 0.5


def test_a_tag_of_the_layout_that_is_there_twice_is_refused():
    """Of two tile widths libtiff takes the first, and another reader the last."""
    tags = [entry(256, 64), entry(257, 64), entry(322, 64), entry(322, 30_000), entry(323, 64)]
    with pytest.raises(BadImage, match="its tag TileWidth is there twice"):
        decode(tiff(*tags), "x")


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_layout_is_read_in_both_byte_orders_and_of_planes(order):
    tags = [entry(256, 100), entry(257, 60, kind=3), entry(258, 16, 16, 16, 16, kind=3), entry(277, 4, kind=3),
            entry(284, 2, kind=3), entry(322, 32, kind=3), entry(323, 16, kind=3), entry(324, 1, 2, 3)]
    layout = tiff_layout(tiff(*tags, order=order))
    assert (layout.width, layout.height, layout.piece_width, layout.piece_height) == (100, 60, 32, 16)
    assert (layout.piece_bytes, layout.pieces) == (2 * 32 * 16, 4 * 4 * 4)


@pytest.mark.parametrize(("order", "is_big"), [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize("is_tiled", [False, True], ids=["strips", "tiles"])
@pytest.mark.parametrize("kind", ["H", "I", "Q"], ids=["SHORT", "LONG", "LONG8"])
def test_every_tag_may_have_each_type_that_the_format_allows(order, is_big, is_tiled, kind):
    """TIFF 6.0: SHORT or LONG; BigTIFF: LONG8, too. BYTE is not among them, and Pillow takes a BYTE for a text."""
    if kind == "Q" and not is_big:
        pytest.skip("a classic TIFF has no LONG8")
    colors, long = np.asarray(noise(40, 20)), "Q" if is_big else "I"
    pieces = [np.pad(colors, ((0, 12), (0, 8), (0, 0)))[y:y + 16, x:x + 16].tobytes()
              for y in (0, 16) for x in (0, 16, 32)] if is_tiled else [colors[y:y + 7].tobytes() for y in (0, 7, 14)]
    tags = {256: [40], 257: [20], 258: [8, 8, 8], 259: [1], 262: [2], 277: [3], 284: [1]}
    offsets, sizes = (324, 325) if is_tiled else (273, 279)
    tags |= {322: [16], 323: [16]} if is_tiled else {278: [7]}
    start, entry_bytes, own = (16, 20, 8) if is_big else (8, 12, 4)
    place = start + (8 if is_big else 2) + entry_bytes * (len(tags) + 2) + own
    tags |= {offsets: [place + sum(map(len, pieces[:number])) for number in range(len(pieces))],
             sizes: list(map(len, pieces))}
    data, after, rows = b"".join(pieces), b"", b""
    for tag, values in sorted(tags.items()):
        form = "H" if tag in (259, 262) else kind
        packed = struct.pack(f"{order}{len(values)}{form}", *values)
        rows += struct.pack(f"{order}HH{long}", tag, {"H": 3, "I": 4, "Q": 16}[form], len(values))
        rows += packed.ljust(own, b"\0") if len(packed) <= own else struct.pack(
            order + long, place + len(data) + len(after))
        after += packed if len(packed) > own else b""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + ("HHHQ" if is_big else "HI"), *(
        (43, 8, 0, 16) if is_big else (42, 8)))
    file = head + struct.pack(order + ("Q" if is_big else "H"), len(tags)) + rows + bytes(own) + data + after
    np.testing.assert_array_equal(decode(file, "x"), colors)
    assert decode_cost(file).pixels == 800


def test_a_bigtiff_has_a_layout_too():
    file = io.BytesIO()
    noise(64, 64).save(file, "TIFF", big_tiff=True)
    assert file.getvalue()[2] == 43
    layout = tiff_layout(file.getvalue())
    assert (layout.width, layout.height, layout.piece_bytes) == (64, 64, 3 * 64 * 64)


@pytest.mark.parametrize("data", [b"", b"II", encoded(image(), "PNG"), encoded(image(), "BMP")])
def test_what_is_no_tiff_has_no_layout(data):
    assert tiff_layout(data) is None


TILED = entry(256, 64), entry(257, 64), entry(322, 16), entry(323, 16)


@pytest.mark.parametrize(("data", "problem"), [
    (b"II*\0", "its TIFF tags are incomplete"), (b"II*\0\xff\xff\xff\xff", "its TIFF tags are incomplete"),
    (tiff(entry(256, 64)), "its TIFF tags state no size"),
    (tiff(entry(256, 64), entry(257, 0)), "its TIFF tags state no size"),
    (tiled_tiff(image(), 64, 64)[:100], "its TIFF tags are incomplete"),
    # Pillow keeps the tags before one that ends too early, and libtiff reads those after it.
    (tiff(*TILED, entry(273, *range(1000)), entry(324, 8))[:-3999], "its TIFF tags are incomplete"),
    # libtiff reads signed numbers, too.
    (tiff(entry(256, 64), entry(257, 64), entry(322, 16_384, kind=9), entry(323, 12_288, kind=9)),
     "its tag TileWidth has the type 9, which is not a whole number"),
    (tiff(entry(256, 64, kind=9), entry(257, 64)), "its tag ImageWidth has the type 9"),
    (b"MM\0+" + tiff(*TILED)[4:], "it is a big-endian BigTIFF"),
    (b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 100_000) + bytes(20 * 100_000),
     "it has 100,000 tags, more than 65,535")])
def test_tags_that_two_readers_may_take_for_different_ones_are_refused(data, problem):
    with pytest.raises(BadImage, match=problem):
        decode(data, "x")
    assert decode_cost(data).pixels == 0
