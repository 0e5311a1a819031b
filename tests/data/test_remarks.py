"""Images that are used and that a user should know of: further pages, unused bits, bytes left over in a JPEG."""

import io
import struct

import numpy as np
import pytest
from PIL import Image
from test_image_values import jpeg, png, row, tiff

from alexnet.data.images import decode
from alexnet.data.packed import open_packed
from alexnet.data.packing import pack
from alexnet.data.remarks import Remark, add_remarks, remark_findings, view_remarks
from alexnet.data.sources.detect import open_dataset
from alexnet.data.square import square
from image_files import plant


def remarks_of(data: bytes) -> set[str]:
    found = set()
    decode(data, "x", remarks=found)
    return found


def pages(kind: str, count: int) -> bytes:
    file = io.BytesIO()
    first, *others = [Image.new("RGB", (8, 8), (100 * number, 0, 0)) for number in range(count)]
    first.save(file, kind, **({"save_all": True, "append_images": others} if others else {}))
    return file.getvalue()


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG", "MPO"])
def test_a_file_of_several_images_is_named_and_its_first_one_is_used(kind: str):
    assert remarks_of(pages(kind, 3)) == {"further_images"}
    assert decode(pages(kind, 3), "x")[0, 0, 0] <= 1
    assert remarks_of(pages(kind if kind != "MPO" else "JPEG", 1)) == set()


def gray_png(*values: int, **chunks: bytes) -> bytes:
    return png([struct.pack(f">{len(values)}H", *values)], len(values), 16, 0, **chunks)


def color_png(value: int) -> bytes:
    return png([struct.pack(">3H", 0, value, value // 2)], 1, 16, 2)


@pytest.mark.parametrize(("data", "found"), [
    (gray_png(0, 8_000, 16_383), {"unused_bits"}),  # 2**14 - 1
    (gray_png(0, 8_000, 16_384), set()),
    (gray_png(0, 8_000, 5_000), {"unused_bits"}),
    (gray_png(0, 257 * 3, 257 * 60), set()),  # 8 bits that were expanded
    (gray_png(0, 8_000, 16_383, sBIT=b"\x0e"), set()),  # the file says that it has 14 bits
    (tiff(row(0, 8_000, 16_383)), {"unused_bits"}),
    (tiff(row(0, 8_000, 16_383), tags={281: ("H", [16_383])}), set()),
    (tiff(row(0, 8_000, 16_383, dtype="f4")), {"unused_bits"}),
    (color_png(16_383), {"unused_bits"}),
    (color_png(16_384), set()),
    (tiff(np.full((2, 2, 3), 16_383, np.uint16), 2), {"unused_bits"}),
])
def test_16_bits_of_which_the_upper_two_are_not_used_are_named(data: bytes, found: set[str]):
    assert remarks_of(data) == found


def test_14_bits_are_read_as_16_unless_the_file_states_them():
    assert decode(gray_png(0, 16_383), "x")[0, :, 0].tolist() == [0, 64]  # 16,383 / 257
    assert decode(gray_png(0, 16_383, sBIT=b"\x0e"), "x")[0, :, 0].tolist() == [0, 255]


def test_bytes_after_the_last_block_of_a_jpeg_are_named():
    whole = jpeg()
    assert remarks_of(whole) == remarks_of(whole[:-2]) == set()
    assert remarks_of(whole[:-2] + b"\x12" * 40 + whole[-2:]) == {"leftover_bytes"}
    assert remarks_of(whole + b"\x12" * 40) == set()  # after the end: a video of a phone, not pixels


def test_flipped_bits_that_shift_the_rest_of_a_jpeg_are_named():
    whole = jpeg(quality=95)
    correct, start = decode(whole, "x").astype(int), whole.index(b"\xff\xda") + 14
    named = 0
    for position in range(start, start + 200):
        data = bytearray(whole)
        data[position] ^= 16
        found = set()
        try:
            pixels = decode(bytes(data), "x", remarks=found)
        except ValueError:
            continue  # refused: libjpeg has found missing pixels
        if found:
            named += 1
            assert found == {"leftover_bytes"}
            assert (np.abs(pixels - correct) > 30).any()
    assert named > 5


def test_a_pack_counts_remarks_split_by_split_whatever_the_shards(tmp_path):
    root = plant(tmp_path / "data", *(f"{name}/{name}{number}.jpg" for name in ("cat", "dog") for number in range(8)))
    for name in ("cat/scan.tif", "dog/scan.tif", "dog/scan2.tif"):
        (root / name).write_bytes(pages("TIFF", 2))
    (root / "dog/dark.png").write_bytes(gray_png(0, 8_000, 16_383))
    for size in (2, 100):
        packed = pack(open_dataset(root, held_out=0), tmp_path / f"{size}", side=16, shard_images=size)
        counts = {remark.kind: remark.images for split in packed.remarks.values() for remark in split}
        assert counts == {"further_images": 3, "unused_bits": 1}
        assert open_packed(tmp_path / f"{size}").remarks == packed.remarks
    further, bits = remark_findings(packed.remarks)
    assert bits.problem == ("1 image has 16 bits and no value above 16,383, which may be 14-bit data that was not "
                            "scaled and is shown at least 4 times too dark: dog/dark.png")
    assert further.problem.startswith("3 files hold several images or pages, and the first one alone is used, such as ")


def test_remarks_of_two_parts_are_added():
    first = add_remarks((), [("a", {"further_images"}), ("b", {"further_images", "unused_bits"})])
    both = add_remarks(first, [("c", {"unused_bits"})])
    assert both == (Remark("further_images", 2, "a"), Remark("unused_bits", 2, "b"))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height // 2, width // 2, 3), np.uint8).repeat(2, 0).repeat(2, 1)


@pytest.mark.parametrize(("pixels", "found"), [
    (noise(64, 64), set()),
    (noise(64, 192), set()),  # 3 times as long
    (noise(64, 194), {"elongated"}),
    (noise(2000, 64), {"elongated"}),
    (noise(62, 80), {"small_images"}),
    (np.full((64, 64, 3), 128, np.uint8), {"blank"}),
    (np.full((3, 3, 3), 255, np.uint8), {"small_images", "blank"}),
    (np.hstack([noise(64, 200), np.zeros((64, 64, 3), np.uint8), noise(64, 200)]), {"elongated", "blank"}),
])
def test_what_a_network_can_hardly_classify(pixels, found):
    assert view_remarks(pixels.shape[:2], square(pixels, 64)) == found
