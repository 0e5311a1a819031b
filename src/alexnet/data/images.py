"""Decode an image from a file or bytes to RGB uint8 HWC, the only decoder; rescale and crop it to a square (§2).

Training, evaluation and serving decode alike: the first frame, rotated as its EXIF orientation says, transparency
composited over white, grays and palettes converted to RGB, color profiles not applied (Caffe and torchvision ignore
them too). An image that cannot be decoded completely raises BadImage. All functions are safe to call from many threads.
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
from alexnet.errors import UserError, require

PIXEL_LIMIT = 80_000_000
"""An image with more is refused by its header, before it is decoded. Pillow warns of bombs above 89 million."""

SCAN_LIMIT = 32
"""Scans of a JPEG; progressive ones have a dozen. Every scan passes over all pixels, even one of thirty bytes: a file
of 100 kB could take minutes."""

WEBP_LIMIT = 40_000_000
"""As PIXEL_LIMIT, for WebP: Pillow holds five copies of it at a time, and no image may take a gigabyte."""

BYTE_LIMIT = 256_000_000
"""Larger files are refused before they are read."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""Pillow's other formats are never opened; some of them start other programs. JPEG includes MPO, the stereo pair: its
first image is decoded."""

UNSUPPORTED = {b"ftypheic": "HEIC", b"ftypheix": "HEIC", b"ftypmif1": "HEIC", b"ftypavif": "AVIF", b"ftypavis": "AVIF"}
"""Formats that phones and browsers save, by the bytes 4 to 11 of the file."""

_REMEDY = "replace it, or leave it out"


class BadImage(UserError):
    """An image that cannot be decoded. The problem names the image and the reason."""


def read(path: str | Path) -> NDArray[np.uint8]:
    """Decode the image in a file: RGB, uint8 [height, width, 3].

    Raises BadImage if the image cannot be decoded, OSError if the file cannot be read.
    """
    return decode(read_bytes(path), str(path))


def read_bytes(path: str | Path) -> bytes:
    """The encoded image in a file. Raises BadImage for a folder, a pipe and a file that is too large to be an image."""
    path = Path(path)
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise BadImage(f"{path} is a folder", "name an image in it")
    if not stat.S_ISREG(status.st_mode):  # to read a pipe could block forever
        raise BadImage(f"{path} cannot be decoded: it is not a file", _REMEDY)
    if status.st_size > BYTE_LIMIT:
        raise BadImage(f"{path} cannot be decoded: {_too_large(status.st_size)}", _REMEDY)
    return path.read_bytes()


def decode(data: bytes | memoryview, name: str, pixel_limit: int = PIXEL_LIMIT) -> NDArray[np.uint8]:
    """Decode the image in a file's bytes: RGB, uint8 [height, width, 3]. Raises BadImage naming it by `name`."""
    try:
        return _decode(data, pixel_limit)
    except UnidentifiedImageError:
        reason = f"it begins with {bytes(data[:16])!r}, which is not a valid header of {', '.join(FORMATS)}"
        if kind := UNSUPPORTED.get(bytes(data[4:12])):
            reason = f"it is {kind}, which is not supported; it can be saved as JPEG"
    except Exception as error:  # from SyntaxError to struct.error: a hostile file may raise anything
        reason = str(error) or type(error).__name__
    # Raised outside the except clause, so that no traceback keeps the data alive.
    raise BadImage(f"{name} cannot be decoded: {reason}", _REMEDY)


def pixels_in(data: bytes | memoryview) -> int:
    """The number of pixels that the image's header states; 0 if `decode` would not accept the header."""
    _quiet_pillow()
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return image.width * image.height
    return 0


def decode_into(pixels_HWC: NDArray[np.uint8], data: bytes | memoryview, name: str) -> None:
    """As `decode`, into an existing array: for JPEGs that `pack` made, whose headers need no check first."""
    try:
        decoded_HWC = simplejpeg.decode_jpeg(data, "RGB", buffer=pixels_HWC, strict=True)
    except Exception:  # `decode` has a better message, or succeeds
        decoded_HWC = decode(data, name)
    if decoded_HWC.shape != pixels_HWC.shape:
        (rows, columns), (height, width) = decoded_HWC.shape[:2], pixels_HWC.shape[:2]
        raise BadImage(f"{name} cannot be decoded: it has {columns} x {rows} pixels and not {width} x {height}",
                       _REMEDY)
    if not np.may_share_memory(decoded_HWC, pixels_HWC):
        pixels_HWC[:] = decoded_HWC


def _decode(data: bytes | memoryview, pixel_limit: int) -> NDArray[np.uint8]:
    if not data:
        raise UserError("it is empty")
    if len(data) > BYTE_LIMIT:
        raise UserError(_too_large(len(data)))
    _quiet_pillow()
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        (width, height), limit = image.size, min(pixel_limit, WEBP_LIMIT if image.format == "WEBP" else PIXEL_LIMIT)
        if width * height > limit:
            raise UserError(f"it has {width:,} x {height:,} pixels, more than {limit:,}")
        if image.format in ("JPEG", "MPO") and (scans := _scans(bytes(data))) > SCAN_LIMIT:
            raise UserError(f"it has {scans:,} scans, more than {SCAN_LIMIT}")
        if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
            # Pillow may accept what the strict decoder refuses, such as a stray byte between two blocks.
            with contextlib.suppress(Exception):
                return _apply_orientation(_decode_strictly(data, width, height), _orientation(image))
        image.load()  # refuses truncated files; the orientation of a PNG or TIFF may come after the pixels
        return _apply_orientation(_rgb(image), _orientation(image))


def _decode_strictly(data: bytes | memoryview, width: int, height: int) -> NDArray[np.uint8]:
    """Decode a JPEG into an array of this size, so that nothing larger is allocated. A failure frees the array."""
    pixels_HWC = np.empty((height, width, 3), np.uint8)
    return simplejpeg.decode_jpeg(data, "RGB", buffer=pixels_HWC, strict=True)


def _too_large(size: int) -> str:
    return f"it has {size:,} bytes, more than {BYTE_LIMIT:,}"


_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_quieting = threading.Lock()


def _quiet_pillow() -> None:
    """Ignore Pillow's warnings (mostly of damaged EXIF blocks) in the whole process.

    `warnings.catch_warnings` is not safe with threads: it replaces the filters of all of them and may restore the
    wrong ones. A filter that is only ever added to the front need not be restored.
    """
    if warnings.filters[:1] != [_QUIET]:
        with _quieting:
            if warnings.filters[:1] != [_QUIET]:
                warnings.filterwarnings("ignore", module=r"PIL\.")


#: All markers except restarts and the escape of a byte 255, which may occur anywhere in the coded pixels.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")


def _scans(data: bytes) -> int:
    """Count the scans of a JPEG's first image, not those in its segments (a thumbnail) or after its end (a video)."""
    scans, position = 0, 2
    while (marker := _MARKER.search(data, position)) and marker[0] != b"\xff\xd9":
        scans += marker[0] == b"\xff\xda"
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return scans


# --- Orientation and color --------------------------------------------------------------------------------------------


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none or its block is damaged, which leaves the pixels intact."""
    with contextlib.suppress(Exception):
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        if orientation in range(1, 9):
            return int(orientation)
    return 1


def _apply_orientation(pixels_HWC: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Make the image upright: 5 to 8 are transposed, the others mirrored or upside down."""
    if orientation >= 5:
        pixels_HWC = pixels_HWC.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels_HWC = pixels_HWC[::-1]
    if orientation in (2, 3, 6, 7):
        pixels_HWC = pixels_HWC[:, ::-1]
    return np.ascontiguousarray(pixels_HWC)


_STRIP = 250_000
"""Pixels that are converted at a time. Copies of a large image in each of Pillow's modes would take gigabytes; those of
a strip stay in the processor's cache, which is twice as fast."""


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Convert any of Pillow's modes to RGB."""
    if image.mode.startswith(("I", "F")):
        return np.stack([_eight_bits(image)] * 3, axis=2)  # six times as fast as np.repeat
    pixels_HWC, transparent = np.empty((image.height, image.width, 3), np.uint8), image.has_transparency_data
    for rows, strip in _strips(image):
        if transparent:
            background, strip = Image.new("RGBA", strip.size, "white"), strip.convert("RGBA")
            background.paste(strip, mask=strip)  # on an opaque background equal to alpha_composite, and a third faster
            strip = background
        pixels_HWC[rows] = np.asarray(strip.convert("RGB"))
    return pixels_HWC


def _strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Yield the image from top to bottom, some rows at a time."""
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Scale grays of more than 8 bits to 8 bits. Pillow's own conversion clips them to white.

    The full scale of 16 bits is 65535. TIFF's 32-bit integers and floats have no full scale: it is taken as the
    smallest of 1 (floats only), 255 and 65535 that contains all values, else as the range from the lowest to the
    highest value.
    """
    extremes = np.array([(values.min(), values.max()) for _, strip in _strips(image) for values in [np.asarray(strip)]])
    low, high = float(extremes[:, 0].min()), float(extremes[:, 1].max())  # NaN if any value is NaN
    if not np.isfinite((low, high)).all():
        raise UserError("it has pixels that are not numbers")
    is_16_bit = image.mode.startswith("I;16") or image.format != "TIFF"
    scales = [65535.0] if is_16_bit else [1.0, 255.0, 65535.0][image.mode == "I" :]
    if low >= 0 and high <= scales[-1]:
        low, high = 0.0, next(scale for scale in scales if high <= scale)
    gray_HW = np.empty((image.height, image.width), np.uint8)
    for rows, strip in _strips(image):
        values_HW = np.asarray(strip).astype(np.float32)
        values_HW -= np.float32(low)
        values_HW *= np.float32(255 / ((high - low) or 1))
        gray_HW[rows] = np.rint(values_HW, out=values_HW)
    return gray_HW


# --- Geometry ---------------------------------------------------------------------------------------------------------


def square(pixels_HWC: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Rescale the shorter side to `side`, and crop the central square (§2): uint8 [side, side, 3].

    Bilinear and antialiased, bit-identical to Pillow. The longer side is rounded down and the square's corner to the
    nearest pixel, as in torchvision. Raises UserError for an image without pixels.
    """
    height, width, _ = pixels_HWC.shape
    shorter = min(height, width)
    require(shorter > 0, f"an image of {width} x {height} pixels cannot be made a square")
    rows, columns = side * height // shorter, side * width // shorter
    top, left = round((rows - side) / 2), round((columns - side) / 2)
    if (rows, columns) != (height, width) and height <= 2 * width <= 8 * height:
        # The kernel rescales the rows before the columns. Pillow does the same, except with tall images.
        rescaled = native.resize_and_crop(pixels_HWC, rows, columns, top, left, side)
        if rescaled is not None:
            return rescaled
    image = Image.fromarray(np.ascontiguousarray(pixels_HWC))
    if max(height, width) > 4 * shorter:
        # Only the square is rescaled: a strip of 1 x 5,000 would otherwise become one of 256 x 1,280,000.
        per_column, per_row = width / columns, height / rows
        right, bottom = min((left + side) * per_column, width), min((top + side) * per_row, height)
        return np.array(image.resize(
            (side, side), Image.Resampling.BILINEAR, (left * per_column, top * per_row, right, bottom)))
    if (rows, columns) != (height, width):
        image = image.resize((columns, rows), Image.Resampling.BILINEAR)
    # A copy: Pillow's own pixels are read-only, and torch warns of such arrays.
    return np.asarray(image)[top:top + side, left:left + side].copy()
