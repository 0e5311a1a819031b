"""File or bytes -> RGB uint8 HWC: the only decoder, and §2's square. Writes nothing.

Every image goes the same way, in training, evaluation and serving: the first frame, turned upright as its EXIF
orientation says, transparency laid over white, grays and palettes as RGB, color profiles not applied (Caffe and
torchvision ignore them too). What cannot be decoded whole is refused by name. Safe to call from many threads.
"""

from __future__ import annotations

import contextlib
import io
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

from alexnet._runtime import native
from alexnet.errors import UserError

PIXEL_LIMIT = 80_000_000
"""Refused above, by the header, before anything is decoded: below the 89 million at which Pillow warns of bombs."""

SCAN_LIMIT = 32
"""Of a JPEG; progressive ones have a dozen. A scan of thirty bytes goes through all pixels, as any does: 100 kB of them
would take minutes."""

WEBP_LIMIT = 40_000_000
"""The same for WebP, of which Pillow holds five copies at a time: so no image takes a gigabyte."""

BYTE_LIMIT = 256_000_000
"""Larger files are not read."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""No other is opened; some of Pillow's start other programs. JPEG includes MPO, the stereo pair: its first picture."""

NOT_READ = {b"ftypheic": "HEIC", b"ftypheix": "HEIC", b"ftypmif1": "HEIC", b"ftypavif": "AVIF", b"ftypavis": "AVIF"}
"""What telephones and browsers save, by the bytes from the fourth on."""


class BadImage(UserError):
    """An image that cannot be decoded; the message is one sentence that names it and says why."""


def read(path: str | Path) -> NDArray[np.uint8]:
    """The image in a file: RGB, uint8 [height, width, 3].

    Raises BadImage for what is wrong with the image, OSError for what is wrong with the disk or the path.
    """
    path = Path(path)
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise BadImage(f"{path} is a folder; name an image in it")
    if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
        raise BadImage(f"{path} cannot be decoded: it is not a file; replace it, or leave it out")
    if found.st_size > BYTE_LIMIT:
        raise BadImage(f"{path} cannot be decoded: {_too_large(found.st_size)}; replace it, or leave it out")
    return decode(path.read_bytes(), str(path))


def decode(data: bytes | memoryview, name: str, pixel_limit: int = PIXEL_LIMIT) -> NDArray[np.uint8]:
    """The image in a file's bytes: RGB, uint8 [height, width, 3]. Raises BadImage naming it by `name`."""
    try:
        return _decode(data, pixel_limit)
    except UnidentifiedImageError:
        reason = f"it begins with {bytes(data[:16])!r}, which is no sound header of {', '.join(FORMATS)}"
        if kind := NOT_READ.get(bytes(data[4:12])):
            reason = f"it is {kind}, which is not read but can be saved as JPEG"
    except Exception as problem:  # from SyntaxError to struct.error: a hostile file provokes anything
        reason = str(problem) or type(problem).__name__
    # Here, so that no traceback keeps the data alive.
    raise BadImage(f"{name} cannot be decoded: {reason}", "replace it, or leave it out")


def pixels_in(data: bytes | memoryview) -> int:
    """How many its header says that an image has; 0 where there is no header that `decode` would take."""
    _quiet_pillow()
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return image.width * image.height
    return 0


def decode_into(pixels_HWC: NDArray[np.uint8], data: bytes | memoryview, name: str) -> None:
    """As `decode`, into memory that is there: for JPEGs that `pack` made, which need no look at their header first."""
    try:
        decoded_HWC = simplejpeg.decode_jpeg(data, "RGB", buffer=pixels_HWC, strict=True)
    except Exception:  # whatever it is, the decoder for everything says it better, or can do it
        decoded_HWC = decode(data, name)
    if decoded_HWC.shape != pixels_HWC.shape:
        (rows, columns), (height, width) = decoded_HWC.shape[:2], pixels_HWC.shape[:2]
        raise BadImage(f"{name} cannot be decoded: it has {columns} x {rows} pixels and not {width} x {height}; "
                       "replace it, or leave it out")
    if not np.may_share_memory(decoded_HWC, pixels_HWC):
        pixels_HWC[:] = decoded_HWC


def _decode(data: bytes | memoryview, pixel_limit: int) -> NDArray[np.uint8]:
    if not data:
        raise ValueError("it is empty")
    if len(data) > BYTE_LIMIT:
        raise ValueError(_too_large(len(data)))
    _quiet_pillow()
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        (width, height), limit = image.size, min(pixel_limit, WEBP_LIMIT if image.format == "WEBP" else PIXEL_LIMIT)
        if width * height > limit:
            raise ValueError(f"it has {width:,} x {height:,} pixels, more than {limit:,}")
        if image.format in ("JPEG", "MPO") and (scans := _scans(bytes(data))) > SCAN_LIMIT:
            raise ValueError(f"it has {scans:,} scans, more than {SCAN_LIMIT}")
        if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
            # What the strict decoder refuses, Pillow may still accept: a stray byte between two blocks, say.
            with contextlib.suppress(Exception):
                return _upright(_strictly(data, width, height), _turn(image))
        image.load()  # refuses truncated files; a PNG's or TIFF's orientation may stand after the pixels
        return _upright(_rgb(image), _turn(image))


def _strictly(data: bytes | memoryview, width: int, height: int) -> NDArray[np.uint8]:
    """A JPEG, into memory of that size, so that nothing larger is allocated; gone again where it fails."""
    pixels_HWC = np.empty((height, width, 3), np.uint8)
    return simplejpeg.decode_jpeg(data, "RGB", buffer=pixels_HWC, strict=True)


def _too_large(size: int) -> str:
    return f"it has {size:,} bytes, more than {BYTE_LIMIT:,}"


_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_quieting = threading.Lock()


def _quiet_pillow() -> None:
    """Ignore what Pillow warns of (torn EXIF blocks, mostly), for the whole process.

    `warnings.catch_warnings` would exchange the filters of all threads and put the wrong ones back; a filter that only
    ever goes to the front needs no putting back.
    """
    if warnings.filters[:1] != [_QUIET]:
        with _quieting:
            if warnings.filters[:1] != [_QUIET]:
                warnings.filterwarnings("ignore", module=r"PIL\.")


#: All but restarts and what stands for a byte of 255, of which the coded pixels may be full.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")


def _scans(data: bytes) -> int:
    """Of a JPEG's first picture; what follows it, such as a film, is not looked at, nor what lies within a segment."""
    scans, place = 0, 2
    while (marker := _MARKER.search(data, place)) and marker[0] != b"\xff\xd9":
        scans += marker[0] == b"\xff\xda"
        place = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return scans


# --- To upright 8-bit RGB ---------------------------------------------------------------------------------------------


def _turn(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or the block is torn, which spoils no pixel."""
    with contextlib.suppress(Exception):
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        if orientation in range(1, 9):
            return int(orientation)
    return 1


def _upright(pixels_HWC: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The pixels as they were seen: orientations from 5 lie on their side, the others are mirrored or upside down."""
    if orientation >= 5:
        pixels_HWC = pixels_HWC.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels_HWC = pixels_HWC[::-1]
    if orientation in (2, 3, 6, 7):
        pixels_HWC = pixels_HWC[:, ::-1]
    return np.ascontiguousarray(pixels_HWC)


_STRIP = 250_000
"""Pixels that are converted at a time: copies of a whole image in each of Pillow's modes would be gigabytes, and
those of a strip stay in the processor's cache, which makes it twice as fast."""


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Any of Pillow's modes as RGB."""
    if image.mode.startswith(("I", "F")):
        return np.stack([_eight_bits(image)] * 3, axis=2)  # six times as fast as np.repeat
    pixels_HWC, transparent = np.empty((image.height, image.width, 3), np.uint8), image.has_transparency_data
    for rows, strip in _strips(image):
        if transparent:
            seen, strip = Image.new("RGBA", strip.size, "white"), strip.convert("RGBA")
            seen.paste(strip, mask=strip)  # on an opaque ground the same as alpha_composite, and a third faster
            strip = seen
        pixels_HWC[rows] = np.asarray(strip.convert("RGB"))
    return pixels_HWC


def _strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """An image from top to bottom, some rows at a time."""
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Grays of more than 8 bits, scaled and not cut off (Pillow's own conversion shows them white).

    Sixteen bits have the full scale 65535. TIFF's 32-bit whole numbers and fractions have none: theirs is the smallest
    of 1 (fractions only), 255 and 65535 that holds the image, else the range from its darkest to its brightest.
    """
    extremes = np.array([(values.min(), values.max()) for _, strip in _strips(image) for values in [np.asarray(strip)]])
    low, high = float(extremes[:, 0].min()), float(extremes[:, 1].max())  # no number, where one of them is none
    if not np.isfinite((low, high)).all():
        raise ValueError("it has pixels that are not numbers")
    deep = image.mode.startswith("I;16") or image.format != "TIFF"
    scales = [65535.0] if deep else [1.0, 255.0, 65535.0][image.mode == "I" :]
    if low >= 0 and high <= scales[-1]:
        low, high = 0.0, next(scale for scale in scales if high <= scale)
    gray_HW = np.empty((image.height, image.width), np.uint8)
    for rows, strip in _strips(image):
        values_HW = np.asarray(strip).astype(np.float32)
        values_HW -= np.float32(low)
        values_HW *= np.float32(255 / ((high - low) or 1))
        gray_HW[rows] = np.rint(values_HW, out=values_HW)
    return gray_HW


# --- To a square ------------------------------------------------------------------------------------------------------


def square(pixels_HWC: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The shorter side rescaled to `side`, then the central square (§2): uint8 [side, side, 3].

    Bilinear, antialiased, as Pillow does it to the bit; the longer side is rounded down and the square's corner to the
    nearest pixel, as torchvision does. Raises ValueError for an image without pixels.
    """
    height, width, _ = pixels_HWC.shape
    shorter = min(height, width)
    if not shorter:
        raise ValueError(f"an image of {width} x {height} pixels cannot be made a square")
    rows, columns = side * height // shorter, side * width // shorter
    top, left = round((rows - side) / 2), round((columns - side) / 2)
    if (rows, columns) != (height, width) and height <= 2 * width <= 8 * height:
        # Pillow goes across before it goes down, as the kernel does, unless an image is tall.
        made = native.resize_and_crop(pixels_HWC, rows, columns, top, left, side)
        if made is not None:
            return made
    image = Image.fromarray(np.ascontiguousarray(pixels_HWC))
    if max(height, width) > 4 * shorter:
        # No more than the square is rescaled: a strip of 1 x 5000 would otherwise become one of 256 x 1,280,000.
        across, down = width / columns, height / rows
        right, bottom = min((left + side) * across, width), min((top + side) * down, height)
        return np.array(image.resize(
            (side, side), Image.Resampling.BILINEAR, (left * across, top * down, right, bottom)))
    if (rows, columns) != (height, width):
        image = image.resize((columns, rows), Image.Resampling.BILINEAR)
    # A copy, since Pillow's own pixels may only be read, which torch warns of.
    return np.asarray(image)[top:top + side, left:left + side].copy()
