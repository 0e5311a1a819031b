"""Decode an image from a file or bytes to RGB uint8 HWC, the only decoder. square.py then makes it a square (§2).

Training, evaluation and serving decode alike: the first frame, rotated as its EXIF orientation says, transparency
composited over white, grays and palettes converted to RGB, color profiles not applied (Caffe and torchvision ignore
them too). An image that cannot be decoded completely, or whose values can be read in two ways (sample_depth.py,
color_checks.py), raises BadImage. All functions are safe to call from many threads.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

from alexnet.data import heic, jpeg, webp
from alexnet.data.color_checks import correct_header, correct_pixels, describe_tiff
from alexnet.data.image_formats import SAVE_AS, other_kind_of_file, pillow_formats, unsupported_format
from alexnet.data.png_text import compressed_text
from alexnet.data.remarks import Kind
from alexnet.data.sample_depth import eight_bits, is_deep
from alexnet.data.tiff_layout import tiff_layout
from alexnet.errors import UserError, quoted_bytes, require

PIXEL_LIMIT = 80_000_000
"""An image with more is refused by its header, before it is decoded. Pillow warns of bombs above 89 million."""

PIXEL_LIMITS = {"WEBP": 40_000_000, "AVIF": 40_000_000}
"""As PIXEL_LIMIT, for formats of which Pillow holds five copies at a time: no image may take a gigabyte."""

BYTE_LIMIT = 256_000_000
"""Larger files are refused before they are read."""

_REMEDY = "replace it, or leave it out"


class TooManyReads(UserError):
    """The file was read in more pieces than its size explains. The problem says so."""


class ImageFile(io.BytesIO):
    """An image's bytes that may be read in a limited number of pieces.

    Pillow reads a header piece by piece, in Python. A hostile file of 20 MB can have five million pieces, which takes
    seven seconds. A photo has some dozens; a GIF has two for 256 bytes, more than other formats.
    """

    def __init__(self, data: bytes | memoryview, most_reads: int) -> None:
        super().__init__(data)
        self._reads_left = most_reads

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise TooManyReads("it consists of too many small pieces")
        return super().read(size)


class BadImage(UserError):
    """An image that cannot be decoded. The problem names the image and the reason."""


def read(path: str | Path, remarks: set[Kind] | None = None) -> NDArray[np.uint8]:
    """Decode the image in a file: RGB, uint8 [height, width, 3]. `remarks` is as for `decode`.

    Raises BadImage if the image cannot be decoded, OSError if the file cannot be read.
    """
    return decode(read_bytes(path), str(path), remarks=remarks)


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


def decode(
    data: bytes | memoryview, name: str, pixel_limit: int = PIXEL_LIMIT, remarks: set[Kind] | None = None,
) -> NDArray[np.uint8]:
    """Decode the image in a file's bytes: RGB, uint8 [height, width, 3].

    Args:
        name: of the image, for errors.
        remarks: what a user should know of the image is added to this set (remarks.py).

    Raises:
        BadImage: it cannot be decoded.
    """
    remedy = _REMEDY
    try:
        return _decode(data, pixel_limit, set() if remarks is None else remarks)
    except UnidentifiedImageError:
        reason, remedy = _why_unidentified(data)
    except UserError as error:
        reason, remedy = error.problem, error.remedy or _REMEDY
    except MemoryError:
        reason = "there is not enough memory for its pixels"
    except Exception as error:  # from SyntaxError to struct.error: a hostile file may raise anything
        reason = str(error) or type(error).__name__
    # Raised outside the except clause, so that no traceback keeps the data alive.
    raise BadImage(f"{name} cannot be decoded: {reason}", remedy)


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


def decode_all(
    pixels_BHWC: NDArray[np.uint8], stored: Sequence[tuple[mmap.mmap, int, int]], name: Callable[[int], str],
) -> None:
    """`decode_into` of a batch, on all cores.

    Args:
        stored: of each image, the memory map, its first byte in it, its bytes.
        name: of an image by its row in the batch, for errors.
    """
    threads = min(len(stored), os.cpu_count() or 1) or 1

    def decode_some(first: int) -> None:
        for row in range(first, len(stored), threads):
            memory, begin, length = stored[row]
            decode_into(pixels_BHWC[row], memory[begin : begin + length], name(row))

    if threads == 1:
        decode_some(0)
        return
    # A pool for each call: no thread is left behind that would hang in a forked process.
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(decode_some, range(threads)))


def _decode(data: bytes | memoryview, pixel_limit: int, remarks: set[Kind]) -> NDArray[np.uint8]:
    if not data:
        raise UserError("it is empty")
    if len(data) > BYTE_LIMIT:
        raise UserError(_too_large(len(data)))
    if heic.is_heic(data):
        return _rgb(heic.load(data, pixel_limit, remarks), data, remarks)  # upright already
    if size := webp.size(data):  # before Pillow allocates them
        _require_pixels(size, "WEBP", pixel_limit)
    try:
        opened = open_image(data, 50_000 + len(data) // 16)
    except Image.DecompressionBombError as error:  # Pillow's own limit, in Pillow's words, with the number of pixels
        pixels = int(re.findall(r"\d+", str(error))[0])
        raise UserError(f"it has {pixels:,} pixels, more than {pixel_limit:,}") from None
    with opened as image:
        _require_pixels(image.size, image.format, pixel_limit)
        width, height = image.size
        if _has_further_images(image):
            remarks.add("further_images")
        if image.format in ("JPEG", "MPO"):
            jpeg.refuse_many_scans(bytes(data))
            colors = "CMYK" if image.mode == "CMYK" else "RGB"
            # Refuses missing pixels, which Pillow accepts.
            pixels_HWC = jpeg.decode_strictly(data, width, height, colors, remarks)
            if pixels_HWC is not None:
                if colors == "CMYK":
                    pixels_HWC = _rgb(jpeg.inverted_cmyk(pixels_HWC), data, remarks)
                return _apply_orientation(pixels_HWC, _orientation(image))
        correct_header(image, data)
        image.load()  # refuses truncated files; the orientation of a PNG or TIFF may come after the pixels
        pixels_HWC, orientation = _rgb(image, data, remarks), _orientation(image)
        image.close()  # frees Pillow's pixels before the upright copy is made
        return _apply_orientation(pixels_HWC, orientation)


def open_image(data: bytes | memoryview, most_reads: int) -> Image.Image:
    """Open an image with Pillow, which reads its header in at most so many pieces and loads no pixels.

    Raises:
        UserError: it states other sizes, besides those of the image, that a decoder would allocate; or TooManyReads.
        UnidentifiedImageError: it is none of the formats.
    """
    if layout := tiff_layout(data):
        layout.check()
    compressed_text(data, most_reads)
    return open_checked(data, most_reads)


def open_checked(data: bytes | memoryview, most_reads: int) -> Image.Image:
    """As `open_image`, after its checks of a TIFF's layout and a PNG's text."""
    quiet_pillow()
    return Image.open(ImageFile(data, most_reads), formats=pillow_formats())


def _require_pixels(size: tuple[int, int], kind: str | None, pixel_limit: int) -> None:
    """Raise UserError if an image of this width and height has too many pixels for its format."""
    (width, height), limit = size, min(pixel_limit, PIXEL_LIMITS.get(kind or "", PIXEL_LIMIT))
    require(width * height <= limit, f"it has {width:,} x {height:,} pixels, more than {limit:,}")


def _has_further_images(image: Image.Image) -> bool:
    """Whether the file holds another page or frame: TIFF, GIF, WebP, APNG, AVIF, MPO."""
    if image.format == "TIFF":
        return bool(image.tag_v2.next)  # type: ignore[attr-defined]  # a TiffImageFile; its n_frames reads all pages
    return bool(getattr(image, "is_animated", False))


def _why_unidentified(data: bytes | memoryview) -> tuple[str, str]:
    """Problem and remedy for a file that Pillow does not recognize as an image."""
    start = f"it begins with {quoted_bytes(bytes(data[:16]))}"
    if known := unsupported_format(data):
        problem = f"{start}: it is {known.name}, which is not supported"
        return problem, known.remedy
    if bytes(data[:4]) in (b"II*\0", b"MM\0*"):
        with contextlib.suppress(Exception):
            return describe_tiff(data), SAVE_AS
    if kind := other_kind_of_file(data):
        return f"{start}: it is {kind} and not an image", _REMEDY
    return f"{start}, which is not a valid header of {', '.join(pillow_formats())}", _REMEDY


def _too_large(size: int) -> str:
    return f"it has {size:,} bytes, more than {BYTE_LIMIT:,}"


_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_quieting = threading.Lock()


def quiet_pillow() -> None:
    """Ignore Pillow's warnings (mostly of damaged EXIF blocks) in the whole process.

    `warnings.catch_warnings` is not safe with threads: it replaces the filters of all of them and may restore the
    wrong ones. A filter that is only ever added to the front need not be restored.
    """
    if warnings.filters[:1] != [_QUIET]:
        with _quieting:
            if warnings.filters[:1] != [_QUIET]:
                warnings.filterwarnings("ignore", module=r"PIL\.")


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


def _rgb(image: Image.Image, data: bytes | memoryview, remarks: set[Kind]) -> NDArray[np.uint8]:
    """Convert any of Pillow's modes to RGB. `data` is the file, for what Pillow does not tell."""
    if is_deep(image):
        gray_HW = eight_bits(image, partial(_strips, image), data, remarks)
        return np.stack([gray_HW] * 3, axis=2)  # six times as fast as np.repeat
    correct_pixels(image, data, remarks)
    pixels_HWC, transparent = np.empty((image.height, image.width, 3), np.uint8), image.has_transparency_data
    for rows, strip in _strips(image):
        if transparent:
            if strip.mode == "La":  # premultiplied, which Pillow converts to LA alone
                strip = strip.convert("LA")
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
