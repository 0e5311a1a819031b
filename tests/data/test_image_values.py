"""Pixel values of unusual files, built by hand from tags and chunks: each is right, or the file is refused by name."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from alexnet.data.images import BadImage, decode

# --- Files, built by hand ---------------------------------------------------------------------------------------------


def tiff(samples: np.ndarray, photometric: int | None = 1, *, order: str = "<", sample_format: int | None = None,
         bits: int | None = None, deflate: bool = False, planar: bool = False, tags: dict[int, tuple[str, list]] | None
         = None) -> bytes:
    """A TIFF of one strip (TIFF 6.0): [height, width] or [height, width, samples]."""
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    ordered = np.moveaxis(samples, 2, 0) if planar else samples
    raw = np.ascontiguousarray(ordered).astype(samples.dtype.newbyteorder(order)).tobytes()
    size = len(raw) // (channels if planar else 1)
    strips = [raw[start : start + size] for start in range(0, len(raw), size)]
    strips = [zlib.compress(strip) if deflate else strip for strip in strips]
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind] if sample_format is None else sample_format
    entries = {256: ("L", [width]), 257: ("L", [height]), 258: ("H", [bits or samples.dtype.itemsize * 8] * channels),
               259: ("H", [8 if deflate else 1]), 277: ("H", [channels]), 278: ("L", [height]),
               284: ("H", [2 if planar else 1]), 339: ("H", [kind] * channels)}
    if photometric is not None:
        entries[262] = ("H", [photometric])
    entries |= tags or {}
    entries[273] = ("L", [8 + sum(map(len, strips[:n])) for n in range(len(strips))])
    entries[279] = ("L", [len(strip) for strip in strips])
    pixels = b"".join(strips)
    pixels += b"\0" * (len(pixels) % 2)
    directory, extra = struct.pack(f"{order}H", len(entries)), b""
    extra_at = 8 + len(pixels) + 2 + 12 * len(entries) + 4
    for tag, (code, values) in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(packed) > 4:
            packed, extra = struct.pack(f"{order}L", extra_at + len(extra)), extra + packed
        directory += struct.pack(f"{order}HHL", tag, {"H": 3, "L": 4, "f": 11, "d": 12, "h": 8, "b": 6}[code],
                                 len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}L", 8 + len(pixels))
    return head + pixels + directory + b"\0" * 4 + extra


def png(rows: list[bytes], width: int, depth: int, color: int, **chunks: bytes) -> bytes:
    """A PNG without filters: color 0 is gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGBA."""
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))

    header = struct.pack(">2L5B", width, len(rows), depth, color, 0, 0, 0)
    before = b"".join(chunk(kind.encode(), content) for kind, content in chunks.items())
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before
            + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))) + chunk(b"IEND", b""))


def gray(data: bytes) -> list[int]:
    """The first row of a gray image."""
    pixels = decode(data, "x")
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 0] == pixels[..., 2]).all()
    return pixels[0, :, 0].tolist()


def row(*values: float, dtype: str = "u2") -> np.ndarray:
    return np.array([values, values], dtype)


# --- TIFF: gray -------------------------------------------------------------------------------------------------------


def test_min_is_white_of_16_bits_is_inverted():
    # 10,000 of 65,535 is 38.9 of 255; inverted 216.1.
    assert gray(tiff(np.full((8, 8), 10_000, np.uint16), photometric=0)) == [216] * 8
    assert gray(tiff(row(0, 65535), photometric=0)) == [255, 0]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize(("dtype", "photometric", "values", "expected"), [
    ("u1", 1, (0, 100, 255), [0, 100, 255]),
    ("u1", 0, (0, 100, 255), [255, 155, 0]),
    ("u2", 1, (0, 25_700, 65_535), [0, 100, 255]),
    ("u2", 0, (0, 25_700, 65_535), [255, 155, 0]),
    ("f4", 1, (0, 0.2, 1), [0, 51, 255]),
    ("f4", 0, (0, 0.2, 1), [255, 204, 0]),
    ("i4", 1, (0, 100, 255), [0, 100, 255]),
    ("u4", 1, (0, 100, 255), [0, 100, 255]),
])
def test_gray_tiff_is_right_or_its_kind_is_refused(order, deflate, dtype, photometric, values, expected):
    data = tiff(row(*values, dtype=dtype), photometric, order=order, deflate=deflate)
    bits = 8 * int(dtype[1])
    if order == ">" and (dtype, photometric) in (("u2", 0), ("u4", 1)):
        with pytest.raises(BadImage, match=rf"is not supported \(BitsPerSample {bits}, .*, big-endian\)"):
            decode(data, "x")
    elif order == ">" and deflate and bits == 32:
        with pytest.raises(BadImage, match="compressed TIFF of 32 bits in the other byte order"):
            decode(data, "x")
    else:
        assert gray(data) == expected


@pytest.mark.parametrize("dtype", ["i1", "i2"])
@pytest.mark.parametrize("values", [(-100, 0, 100), (0, 50, 100)])
def test_signed_samples_are_refused_for_nothing_says_which_value_is_white(dtype, values):
    with pytest.raises(BadImage, match=r"signed integers from .* to 100, and it does not state which value is white"):
        decode(tiff(row(*values, dtype=dtype)), "x")


@pytest.mark.parametrize("order", "<>")
def test_signed_samples_have_the_range_that_their_tags_state(order):
    tags = {340: ("h", [-1000]), 341: ("h", [1000])}
    assert gray(tiff(row(-1000, 0, 1000, dtype="i2"), order=order, tags=tags)) == [0, 128, 255]
    tags = {340: ("b", [-128]), 341: ("b", [127])}
    assert gray(tiff(row(-128, 0, 127, dtype="i1"), order=order, tags=tags)) == [0, 128, 255]


def test_values_outside_the_stated_range_are_refused():
    with pytest.raises(BadImage, match="values from 0 to 5000, outside its SMinSampleValue 0 to SMaxSampleValue 4095"):
        decode(tiff(row(0, 5000), tags={341: ("H", [4095])}), "x")


@pytest.mark.parametrize("tag", [281, 341])  # MaxSampleValue, SMaxSampleValue
def test_12_bits_in_16_are_scaled_if_a_tag_says_so(tag):
    assert gray(tiff(row(0, 1606, 4095), tags={tag: ("H", [4095])})) == [0, 100, 255]


def test_a_statistic_is_not_taken_for_the_depth():
    assert gray(tiff(row(0, 25_700, 50_000), tags={281: ("H", [50_000])})) == [0, 100, 195]


def test_12_bits_in_16_are_refused_if_nothing_says_so():
    with pytest.raises(BadImage, match=r"integers of 16 bits from 0 to 4095, and it does not state which value is "
                                       r"white; save it with 8 bits"):
        decode(tiff(row(0, 1606, 4095)), "x")
    assert gray(tiff(row(0, 257 * 3, 257 * 9))) == [0, 3, 9]  # expanded from 8 bits
    assert gray(tiff(row(0, 0))) == [0, 0]


def test_packed_12_bits_have_their_own_white():
    # Two samples in three bytes: 0xFFF and 0x800, 4095 and 2048.
    packed = np.frombuffer(bytes([0xFF, 0xF8, 0x00]) * 2, "u1").reshape(2, 3)
    data = tiff(packed, bits=12, tags={256: ("L", [2])})
    assert gray(data) == [255, 128]


def test_unsigned_32_bits_above_the_signed_range_do_not_wrap_around():
    data = tiff(row(0, 2**31, 2**32 - 1, dtype="u4"), tags={340: ("L", [0]), 341: ("L", [2**32 - 1])})
    assert gray(data) == [0, 128, 255]
    with pytest.raises(BadImage, match=r"integers of 32 bits from 0 to 4\.29497e"):
        decode(tiff(row(0, 2**31, 2**32 - 1, dtype="u4")), "x")


@pytest.mark.parametrize(("values", "words"), [
    (row(-2, 0, 2, dtype="f4"), "floats from -2 to 2"),
    (row(0, 0.5, 300, dtype="f4"), "floats from 0 to 300"),
    (row(7e7, 8e7, dtype="f4"), "floats from 7e.07 to 8e.07"),
    (row(-100, 0, 100, dtype="i4"), "integers of 32 bits from -100 to 100"),
    (row(0, 4000, dtype="i4"), "integers of 32 bits from 0 to 4000"),
    (row(0, 70_000, dtype="i4"), "integers of 32 bits from 0 to 70000"),
])
def test_values_of_unknown_scale_are_refused(values, words):
    with pytest.raises(BadImage, match=f"its pixels are {words}, and it does not state which value is white"):
        decode(tiff(values), "x")


def test_tiff_without_a_photometric_tag_is_refused():
    with pytest.raises(BadImage, match="its tag PhotometricInterpretation is missing"):
        decode(tiff(row(0, 100, dtype="u1"), photometric=None), "x")


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize(("photometric", "ends"), [(0, [255, 0]), (1, [0, 255])])
@pytest.mark.parametrize("deflate", [False, True])
def test_few_bits_are_black_and_white(bits, photometric, ends, deflate):
    packed = np.array([[(2**bits - 1) << (8 - 2 * bits)]] * 2, "u1")  # a sample of 0 and one of the highest value
    assert gray(tiff(packed, photometric, bits=bits, deflate=deflate, tags={256: ("L", [2])})) == ends


@pytest.mark.parametrize(("kind", "expected"), [(1, [127]), (2, [127])])  # associated (premultiplied), unassociated
def test_gray_with_alpha_is_composited_over_white(kind, expected):
    samples = np.full((2, 1, 2), (0, 128), np.uint8)
    assert gray(tiff(samples, tags={338: ("H", [kind])})) == expected


# --- TIFF: colors -----------------------------------------------------------------------------------------------------

COLORS = np.array([[(200, 100, 50), (0, 255, 7)]] * 2, np.uint8)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_color_tiff_is_right_or_refused(order, deflate, planar, dtype):
    samples = COLORS if dtype == "u1" else COLORS.astype("u2") * 257
    data = tiff(samples, 2, order=order, deflate=deflate, planar=planar)
    if (dtype, planar, deflate) == ("u2", True, False):
        with pytest.raises(BadImage, match="uncompressed TIFF with separate planes of 16 bits, which is not supported"):
            decode(data, "x")
    else:
        np.testing.assert_array_equal(decode(data, "x"), COLORS)


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("extra", [0, 1, 2])  # unspecified, premultiplied alpha, alpha
def test_a_fourth_sample_is_what_its_tag_says(deflate, planar, extra):
    samples = np.dstack([COLORS, np.full((2, 2), 128, np.uint8)])
    if extra == 1:
        samples[..., :3] = COLORS // 2
    expected = COLORS if extra == 0 else 255 - (255 - COLORS.astype(int)) * 128 / 255
    data = tiff(samples, 2, deflate=deflate, planar=planar, tags={338: ("H", [extra])})
    if planar and not deflate and extra < 2:
        with pytest.raises(BadImage, match=r"not supported|unknown raw mode"):
            decode(data, "x")
        return
    pixels = decode(data, "x")
    assert np.abs(pixels - expected).max() <= (2 if extra == 1 else 0.51)


def test_12_bits_a_color_in_16_are_refused():
    samples = COLORS.astype("u2") * 16
    with pytest.raises(BadImage, match="it has 16 bits a color and no value above 4,095, so it may hold 12 bits"):
        decode(tiff(samples, 2), "x")
    rows = [samples.astype(">u2")[0].tobytes()] * 2
    with pytest.raises(BadImage, match="it has 16 bits a color and no value above 4,095, so it may hold 12 bits"):
        decode(png(rows, 2, 16, 2), "x")


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("scale", [1, 256, 257])
def test_a_color_map_of_8_bits_is_not_black(deflate, scale):
    colors = np.zeros((3, 256), np.uint16)
    colors[:, 1], colors[:, 2] = (200, 100, 50), (0, 255, 7)
    data = tiff(np.array([[1, 2]] * 2, "u1"), 3, deflate=deflate,
                tags={320: ("H", (colors * scale).ravel().tolist())})
    np.testing.assert_array_equal(decode(data, "x"), COLORS)


@pytest.mark.parametrize("deflate", [False, True])
def test_cmyk_tiff_is_not_inverted(deflate):
    inks = np.array([[(0, 0, 0, 0), (0, 0, 0, 255), (0, 255, 255, 0)]] * 2, np.uint8)
    assert decode(tiff(inks, 5, deflate=deflate), "x")[0].tolist() == [[255] * 3, [0] * 3, [255, 0, 0]]


@pytest.mark.parametrize("deflate", [False, True])
def test_lab_tiff_has_signed_colors(deflate):
    # CIE L*a*b* (D50) of sRGB's white, black and red (54.3, 80.8, 69.9); L* in 0..255, a* and b* signed.
    lab = np.array([[(255, 0, 0), (0, 0, 0), (138, 81, 70)]] * 2, np.uint8)
    pixels = decode(tiff(lab, 8, deflate=deflate), "x").astype(int)
    assert np.abs(pixels[0] - [[255] * 3, [0] * 3, [255, 0, 0]]).max() <= 6


def test_the_first_page_is_taken_unless_it_is_a_thumbnail():
    assert gray(tiff(row(9, dtype="u1"), tags={254: ("L", [0])})) == [9]
    with pytest.raises(BadImage, match="its first page is a thumbnail of another page"):
        decode(tiff(row(9, dtype="u1"), tags={254: ("L", [1])}), "x")
    with pytest.raises(BadImage, match=r"camera raw file \(DNG\)"):
        decode(tiff(row(9, dtype="u1"), tags={50706: ("L", [0x01040000])}), "x")


@pytest.mark.parametrize(("samples", "photometric", "words"), [
    (row(0, 1, dtype="f8"), 1, "BitsPerSample 64, SampleFormat 3"), (row(0, 1, dtype="f2"), 1, "BitsPerSample 16"),
    (np.zeros((2, 2, 3), np.float32), 2, r"BitsPerSample \(32, 32, 32\), SampleFormat \(3, 3, 3\)"),
    (np.zeros((2, 2, 7), np.uint8), 1, "BitsPerSample"), (row(0, 1, dtype="i8"), 1, "BitsPerSample 64"),
])
def test_a_kind_of_tiff_that_is_not_read_is_named(samples, photometric, words):
    with pytest.raises(BadImage, match=f"x cannot be decoded: its kind of TIFF is not supported .*{words}"):
        decode(tiff(samples, photometric), "x")


# --- PNG --------------------------------------------------------------------------------------------------------------


def test_transparent_gray_of_16_bits_is_white():
    rows = [struct.pack(">3H", 0, 25_700, 514)]
    assert gray(png(rows, 3, 16, 0, tRNS=struct.pack(">H", 0))) == [255, 100, 2]
    assert gray(png(rows, 3, 16, 0, tRNS=struct.pack(">H", 514))) == [0, 100, 255]


@pytest.mark.parametrize(("depth", "packed", "expected"), [
    (1, 0b01000000, [0, 255]), (2, 0b00100000, [0, 170]), (4, 0b00001001, [0, 153])])
def test_transparent_gray_of_few_bits_is_white(depth, packed, expected):
    def image(**chunks: bytes) -> bytes:
        return png([bytes([packed])], 2, depth, 0, **chunks)

    assert gray(image()) == expected
    assert gray(image(tRNS=struct.pack(">H", 0))) == [255, expected[1]]
    highest = {1: 1, 2: 2, 4: 9}[depth]
    assert gray(image(tRNS=struct.pack(">H", highest))) == [0, 255]


def test_transparent_color_of_16_bits_is_refused():
    rows = [struct.pack(">6H", 1, 2, 3, 60_000, 0, 0)]
    with pytest.raises(BadImage, match="16 bits a color with a transparent color"):
        decode(png(rows, 2, 16, 2, tRNS=struct.pack(">3H", 1, 2, 3)), "x")


def test_significant_bits_of_png():
    rows = [struct.pack(">3H", 0, 1606, 4095)]
    assert gray(png(rows, 3, 16, 0, sBIT=b"\x0c")) == [0, 100, 255]  # 12 bits that fill the lower bits
    rows = [struct.pack(">3H", 0, 0x6440, 0xFFF0)]
    assert gray(png(rows, 3, 16, 0, sBIT=b"\x0c")) == [0, 100, 255]  # 12 bits that fill the upper bits, as PNG demands
    with pytest.raises(BadImage, match="integers of 16 bits from 0 to 4095"):
        decode(png([struct.pack(">3H", 0, 1606, 4095)], 3, 16, 0), "x")


@pytest.mark.parametrize("depth", [8, 16])
def test_alpha_of_png_is_composited_over_white(depth):
    code = ">2B" if depth == 8 else ">2H"
    scale = 1 if depth == 8 else 257
    assert gray(png([struct.pack(code, 0, 128 * scale)], 1, depth, 4)) == [127]
    rgba = struct.pack(">4B" if depth == 8 else ">4H", 200 * scale, 100 * scale, 0, 128 * scale)
    assert decode(png([rgba], 1, depth, 6), "x")[0, 0].tolist() == [227, 177, 127]


# --- BMP --------------------------------------------------------------------------------------------------------------


def bmp(pixels: bytes, masks: tuple[int, ...]) -> bytes:
    """A BMP of one row of 32-bit pixels, with color masks (BITMAPV5HEADER)."""
    info = struct.pack("<LllHHLLllLL", 124, len(pixels) // 4, 1, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    info = (info + struct.pack("<4L", *masks)).ljust(124, b"\0")
    return b"BM" + struct.pack("<LHHL", 138 + len(pixels), 0, 0, 138) + info + pixels


@pytest.mark.parametrize(("alphas", "expected"), [
    ((255, 255), [[200, 100, 50], [0, 255, 7]]), ((0, 255), [[255] * 3, [0, 255, 7]]),
    ((0, 0), [[200, 100, 50], [0, 255, 7]])])  # a writer that leaves the channel empty does not mean an invisible image
def test_alpha_of_bmp_counts_unless_it_is_empty(alphas, expected):
    pixels = bytes([50, 100, 200, alphas[0], 7, 255, 0, alphas[1]])
    assert decode(bmp(pixels, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)), "x")[0].tolist() == expected


# --- PNM --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "expected"), [
    (b"P5\n3 1\n15\n" + bytes([0, 6, 15]), [0, 102, 255]),
    (b"P5\n3 1\n4095\n" + struct.pack(">3H", 0, 1606, 4095), [0, 100, 255]),
    (b"P5\n3 1\n4095\n" + struct.pack(">3H", 0, 1, 64), [0, 0, 4]),  # dark, and the header says so
    (b"P2\n3 1\n100\n0 40 100\n", [0, 102, 255]),
    (b"P4\n2 1\n" + bytes([0b01000000]), [255, 0]),
    (b"P1\n2 1\n0 1\n", [255, 0]),
    (b"Pf\n3 1\n-1.0\n" + struct.pack("<3f", 0, 0.2, 1), [0, 51, 255]),
    (b"Pf\n3 1\n1.0\n" + struct.pack(">3f", 0, 100, 255), [0, 100, 255]),
])
def test_pnm_has_the_scale_of_its_header(data, expected):
    assert gray(data) == expected


def test_floats_of_pfm_run_from_bottom_to_top():
    data = b"Pf\n1 2\n-1.0\n" + struct.pack("<2f", 0, 1)
    assert decode(data, "x")[:, 0, 0].tolist() == [255, 0]


# --- JPEG -------------------------------------------------------------------------------------------------------------


def smooth() -> Image.Image:
    y, x = np.mgrid[:120, :200]
    return Image.fromarray(np.stack([x, 2 * y, 128 + 60 * np.sin(x / 9 + y / 23)], -1).astype(np.uint8))


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    smooth().convert(mode).save(file, "JPEG", **options)
    assert file.getvalue().endswith(b"\xff\xd9")
    return file.getvalue()


KINDS = [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"subsampling": 0}, {"mode": "L"}]


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_lacks_only_its_end_marker_has_all_its_pixels(options, missing):
    whole = jpeg(**options)
    np.testing.assert_array_equal(decode(whole[:-missing], "x"), decode(whole, "x"))


@pytest.mark.parametrize("options", [*KINDS, {"mode": "CMYK"}])
@pytest.mark.parametrize("kept", [0.5, 0.9, -5, -3])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_a_jpeg_that_lacks_pixels_is_refused(options, kept, end):
    """Also with an end marker, of which decoders warn only: they fill the missing pixels with gray."""
    whole = jpeg(**options)
    with pytest.raises(BadImage, match="x cannot be decoded"):
        decode(whole[: int(kept * len(whole)) if kept > 0 else kept] + end, "x")


def test_a_progressive_jpeg_that_lacks_a_scan_is_refused():
    whole = jpeg(progressive=True)
    last = whole.rindex(b"\xff\xda")
    before = whole.rindex(b"\xff\xc4", 0, last) if b"\xff\xc4" in whole[last - 60 : last] else last
    with pytest.raises(BadImage, match="truncated"):
        decode(whole[:before], "x")


def test_a_damaged_block_is_refused_and_a_stray_byte_is_not():
    whole = jpeg()
    middle = len(whole) // 2
    with pytest.raises(BadImage, match="truncated or damaged"):
        decode(whole[:middle] + bytes(40) + whole[middle + 40 :], "x")
    stray = whole[:-2] + b"\x12\x13" + whole[-2:]
    np.testing.assert_array_equal(decode(stray, "x"), decode(whole, "x"))


@pytest.mark.parametrize("transform", [0, 2])  # CMYK, YCCK
def test_cmyk_jpeg_is_read_as_adobe_writes_it(transform):
    """Adobe stores the inks inverted: 255 is no ink."""
    file = io.BytesIO()
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(file, "JPEG", quality=95)  # cyan 0, magenta and yellow full: red
    data = file.getvalue()
    at = data.index(b"Adobe")
    assert data[at - 4 : at - 2] == b"\xff\xee"
    pixels = decode(data, "x")
    assert np.abs(pixels.astype(int) - (255, 0, 0)).max() <= 3
    if transform == 2:  # the same four components, read as YCCK: Y 255, Cb and Cr 0, K 255, inverted
        ycck = decode(data[: at + 11] + b"\x02" + data[at + 12 :], "x")
        assert not np.array_equal(ycck, pixels)


@pytest.mark.parametrize("transform", [0, 2])  # CMYK, YCCK
def test_a_cmyk_jpeg_has_the_colors_that_pillow_reads(transform):
    inks_HWC = np.random.default_rng(0).integers(0, 256, (61, 83, 4), np.uint8)
    file = io.BytesIO()
    Image.fromarray(inks_HWC, "CMYK").save(file, "JPEG", quality=90)
    data = file.getvalue()
    at = data.index(b"Adobe")
    data = data[: at + 11] + bytes([transform]) + data[at + 12 :]
    np.testing.assert_array_equal(decode(data, "x"), Image.open(io.BytesIO(data)).convert("RGB"))


def test_nothing_here_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(tiff(row(0, 65535), photometric=0), "x")
