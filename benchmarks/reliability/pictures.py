"""Image files of every format and of unusual kinds, generated as seeds; and ways to damage their bytes."""

from __future__ import annotations

import io
import random
import struct
import tarfile
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet.data.sources.embedded import open_embedded

FORMATS = ("JPEG", "PNG", "GIF", "TIFF", "WEBP")
IMAGES = Path(__file__).resolve().parents[3] / "shared" / "data" / "imagenet-samples.tar"
"""Real files of ImageNet, where they lie beside the repository."""


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    """The picture as a file of that kind."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def tiled_tiff(picture: Image.Image, tile_width: int, tile_height: int) -> bytes:
    """A deflated TIFF of an RGB picture in tiles, of which the last ones are filled up; Pillow writes none."""
    width, height = picture.size
    tiles = []
    for top in range(0, height, tile_height):
        for left in range(0, width, tile_width):
            part = picture.crop((left, top, min(left + tile_width, width), min(top + tile_height, height)))
            packer, padding = zlib.compressobj(), bytes(3 * (tile_width - part.width))  # a tile may have 600 MB
            rows = [packer.compress(row.tobytes() + padding) for row in np.asarray(part)]
            rows += [packer.compress(bytes(3 * tile_width)) for _ in range(tile_height - part.height)]
            tiles.append(b"".join(rows) + packer.flush())
    numbers = {256: [width], 257: [height], 258: [8] * 3, 259: [8], 262: [2], 277: [3], 284: [1], 322: [tile_width],
               323: [tile_height], 324: [0] * len(tiles), 325: [len(tile) for tile in tiles]}
    place = 8 + 2 + 12 * len(numbers) + 4
    data = place + sum(4 * len(values) for values in numbers.values() if len(values) > 1)
    numbers[324] = [data + sum(numbers[325][:number]) for number in range(len(tiles))]
    entries, values_after = b"", b""
    for tag, values in numbers.items():
        packed = struct.pack(f"<{len(values)}I", *values)
        entries += struct.pack("<HHI", tag, 4, len(values))
        entries += packed if len(values) == 1 else struct.pack("<I", place + len(values_after))
        values_after += packed if len(values) > 1 else b""
    return b"II*\0" + struct.pack("<IH", 8, len(numbers)) + entries + bytes(4) + values_after + b"".join(tiles)


def png_of_text(picture: Image.Image, chunks: int, megabytes: float = 1.0, kind: bytes = b"zTXt") -> bytes:
    """A PNG with chunks of compressed text, each of so many megabytes in memory."""
    data, text = encoded(picture, "PNG"), zlib.compress(bytes(round(1e6 * megabytes)), 9)
    before = {b"zTXt": b"\0\0", b"iCCP": b"\0\0", b"iTXt": b"\0\1\0\0\0"}[kind]
    parts = [kind + b"key %d" % number + before + text for number in range(chunks)]
    whole = b"".join(struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts)
    return data[:33] + whole + data[33:]  # after the header


def oriented(orientation: int) -> Image.Exif:
    """An EXIF block that says no more than how the camera was held."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@cache
def image(side: int = 64) -> Image.Image:
    """One of the embedded images' patches, in color."""
    patch = next(photo for photo in open_embedded().splits["train"] if np.ptp(photo.pixels(), axis=2).max() > 50)
    return Image.fromarray(patch.pixels()).resize((side, side))


@cache
def seeds(kind: str) -> tuple[bytes, ...]:
    """Whole files of one format: plain, gray, with a palette, transparent, deep, turned, moving, as far as it goes."""
    color, small = image(), image(24)
    gray, few = color.convert("L"), color.quantize(32)
    glass = color.convert("RGBA")
    glass.putalpha(gray)
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    frames = [small, small.rotate(90), small.rotate(180)]
    moving = {"save_all": True, "append_images": frames[1:]}
    made = {
        "JPEG": lambda: [
            encoded(color, kind), encoded(gray, kind), encoded(color.convert("CMYK"), kind),
            encoded(color, kind, progressive=True, exif=oriented(6)), encoded(small, kind, restart_marker_blocks=2),
            encoded(color, kind, subsampling=0, icc_profile=b"no profile"), *_real()],
        "PNG": lambda: [
            encoded(color, kind), encoded(gray, kind), encoded(few, kind, transparency=3), encoded(glass, kind),
            encoded(deep, kind), encoded(gray.convert("1"), kind), encoded(color, kind, exif=oriented(5)),
            encoded(small.convert("LA"), kind), encoded(small, kind, **moving)],
        "GIF": lambda: [encoded(few, kind), encoded(gray, kind), encoded(few, kind, transparency=1),
                        encoded(small, kind, **moving)],
        "TIFF": lambda: [
            *(encoded(color, kind, compression=way) for way in (
                "raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
            encoded(gray.convert("1"), kind, compression="group4"), encoded(glass, kind), encoded(deep, kind),
            encoded(Image.fromarray(np.asarray(gray).astype(np.float32)), kind), encoded(color.convert("CMYK"), kind),
            # Pillow's profile holds the time, and mutants must be the same in every process.
            encoded(color.convert("LAB"), kind, icc_profile=b""), encoded(small, kind, exif=oriented(8)),
            encoded(small, kind, **moving), tiled_tiff(color, 48, 32), tiled_tiff(small, 256, 256)],
        "WEBP": lambda: [encoded(color, kind), encoded(color, kind, lossless=True), encoded(glass, kind),
                         encoded(small, kind, exif=oriented(3)), encoded(small, kind, **moving)],
    }
    return tuple(made[kind]())


VAST = ("GIF", "PNG", "TIFF", "JPEG", "WEBP")


@cache
def vast(kind: str) -> bytes:
    """The dearest picture of that kind that is still read: of nearly as many pixels as may be, in its largest mode."""
    size = (7_900, 5_000) if kind == "WEBP" else (10_000, 7_900)
    if kind == "GIF":
        return encoded(Image.new("P", size, 0), kind, transparency=0)
    if kind == "PNG":
        return encoded(Image.new("RGBA", size, (9, 8, 7, 6)), kind, compress_level=1)
    if kind == "TIFF":
        return encoded(Image.new("F", size, 0.5), kind, compression="tiff_lzw")
    return encoded(Image.new("CMYK" if kind == "JPEG" else "RGB", size), kind, **(
        {"lossless": True, "method": 0, "quality": 0} if kind == "WEBP" else {}))


def _real() -> list[bytes]:
    if not IMAGES.is_file():
        return []
    with tarfile.open(IMAGES) as tar:
        files = sorted((entry for entry in tar if entry.isfile()), key=lambda entry: entry.size)[:4]
        return [tar.extractfile(entry).read() for entry in files]


def class_folders(root: Path, train: int = 10, val: int = 3) -> Path:
    """train/ and val/ of the embedded images' first four classes, as PNGs of 32 pixels."""
    dataset = open_embedded()
    for split, count in (("train", train), ("val", val)):
        for label, name in enumerate(dataset.classes[:4]):
            folder = root / split / name
            folder.mkdir(parents=True)
            patches = [photo for photo in dataset.splits[split] if photo.label == label][:count]
            for number, patch in enumerate(patches):
                Image.fromarray(patch.pixels()).resize((32, 32)).save(folder / f"{number}.png")
    return root


# --- Damage -----------------------------------------------------------------------------------------------------------

_LENGTHS = (0, 1, 2, 127, 128, 255, 256, 8_000, 32_767, 32_768, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def damaged(data: bytes, rng: random.Random, others: tuple[bytes, ...]) -> bytes:
    """The file with one to six things done to it: bits, bytes, lengths, its head, cuts, pieces of others.

    Half of the PNGs get checksums that are right again, without which nothing behind a checksum would be reached.
    """
    broken = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        where = rng.randrange(min(len(broken), rng.choice((40, 200, 1_000, 10**9)))) if broken else 0
        length = rng.choice((1, 2, 4, 16, 100, 1_000))
        what = rng.randrange(8)
        if what == 0 and broken:
            broken[where] ^= 1 << rng.randrange(8)
        elif what == 1:
            broken[where : where + length] = rng.randbytes(length)
        elif what == 2:
            order, (form, limit) = rng.choice("<>"), rng.choice((("H", 2**16), ("I", 2**32)))
            number = struct.pack(order + form, rng.choice(_LENGTHS) % limit)
            broken[where : where + len(number)] = number
        elif what == 3:
            broken[where : where + length] = bytes([rng.choice((0, 255))]) * length
        elif what == 4:
            del broken[where:]
        elif what == 5:
            del broken[where : where + length]
        elif what == 6:
            broken[where:where] = broken[where : where + length] * rng.choice((1, 1, 50))
        else:
            other = rng.choice(others)
            cut = rng.randrange(len(other))
            broken[where : where + length] = other[cut : cut + length] if rng.random() < 0.7 else other[cut:]
    return sealed(bytes(broken)) if rng.random() < 0.5 else bytes(broken)


def sealed(data: bytes) -> bytes:
    """A PNG with the right checksum behind each chunk; anything else as it is."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    out, place = bytearray(data), 8
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        if end + 4 > len(data):
            break
        out[end : end + 4] = zlib.crc32(data[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(out)
