"""Image formats: file extensions and headers of those that can be decoded here, and of known ones that cannot.

The decoder looks at a file's contents, so a PNG that is called .JPEG is decoded too. The extensions decide only which
files of a folder count as images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from types import MappingProxyType

from PIL import features

from alexnet._runtime.extras import install_line

SAVE_AS = "save it as PNG or JPEG"


@dataclass(frozen=True)
class ImageFormat:
    """An image format that people have."""

    name: str
    """As people call it: "HEIC"."""
    extensions: tuple[str, ...]
    """In lower case, with the dot."""
    pillow_name: str = ""
    """Pillow's name of its decoder; empty if Pillow has none, or none that is safe."""
    remedy: str = SAVE_AS
    """What the user can do where this format cannot be decoded."""


HEIC = ImageFormat("HEIC", (".heic", ".heif", ".hif"), "", f"{install_line('heic')}, or save it as JPEG")
AVIF = ImageFormat("AVIF", (".avif",), "AVIF", "install a Pillow that is built with AVIF, or save it as JPEG")

_ALWAYS = (
    ImageFormat("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "JPEG"),  # MPO, the stereo pair: its first image
    ImageFormat("PNG", (".png", ".apng"), "PNG"),
    ImageFormat("GIF", (".gif",), "GIF"),
    ImageFormat("BMP", (".bmp",), "BMP"),
    ImageFormat("WebP", (".webp",), "WEBP"),
    ImageFormat("TIFF", (".tif", ".tiff"), "TIFF"),
    ImageFormat("PNM", (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"), "PPM"),
)
"""Pillow's other decoders are never used; some of them start other programs."""

_NEVER = (
    ImageFormat("JPEG 2000", (".jp2", ".j2k", ".jpx", ".jpf", ".j2c")), ImageFormat("JPEG XL", (".jxl",)),
    ImageFormat("PAM", (".pam",)), ImageFormat("Photoshop", (".psd", ".psb")), ImageFormat("GIMP", (".xcf",)),
    ImageFormat("OpenEXR", (".exr",)), ImageFormat("Radiance HDR", (".hdr",)), ImageFormat("DICOM", (".dcm", ".dicom")),
    ImageFormat("NIfTI", (".nii",)), ImageFormat("FITS", (".fits", ".fit")), ImageFormat("SVG", (".svg", ".svgz")),
    ImageFormat("EPS", (".eps", ".ps")), ImageFormat("PDF", (".pdf",)), ImageFormat("ICO", (".ico", ".cur")),
    ImageFormat("Targa", (".tga",)), ImageFormat("PCX", (".pcx",)), ImageFormat("icon of macOS", (".icns",)),
    ImageFormat("camera raw", (".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".sr2", ".raf", ".orf", ".rw2",
                               ".pef", ".srw", ".3fr", ".erf", ".kdc", ".mrw", ".x3f")),
)

_HEADERS: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftypheic", "HEIC"), (4, b"ftypheix", "HEIC"), (4, b"ftyphevc", "HEIC"), (4, b"ftypheim", "HEIC"),
    (4, b"ftypmif1", "HEIC"), (4, b"ftypmsf1", "HEIC"), (4, b"ftypavif", "AVIF"), (4, b"ftypavis", "AVIF"),
    (4, b"jP  ", "JPEG 2000"), (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (4, b"JXL ", "JPEG XL"), (0, b"\xff\x0a", "JPEG XL"), (4, b"ftypcrx ", "camera raw"), (8, b"CR\x02", "camera raw"),
    (0, b"FUJIFILMCCD-RAW", "camera raw"), (0, b"P7\n", "PAM"), (0, b"8BPS", "Photoshop"), (0, b"gimp xcf", "GIMP"),
    (0, b"v/1\x01", "OpenEXR"), (0, b"#?RADIANCE", "Radiance HDR"), (128, b"DICM", "DICOM"), (0, b"SIMPLE  =", "FITS"),
    (0, b"<svg", "SVG"), (0, b"%!PS", "EPS"), (0, b"%PDF", "PDF"), (0, b"\x00\x00\x01\x00", "ICO"),
    (0, b"icns", "icon of macOS"),
)
"""(offset in the file, bytes there, name of the format)."""

_OTHER_FILES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"<!doctype html", "a web page"), (0, b"<html", "a web page"), (0, b"<?xml", "an XML file"),
    (0, b"PK\x03\x04", "a zip archive"), (0, b"\x1f\x8b", "a gzip archive"), (257, b"ustar", "a tar archive"),
    (0, b"\x93numpy", "a NumPy array"), (0, b"\x89hdf", "an HDF5 file"), (4, b"ftyp", "a video"),
    (0, b"matlab", "a MATLAB file"), (0, b"version https://git-lfs", "a pointer of Git LFS, whose file is not fetched"),
    (0, b"{", "JSON or other text"),
)
"""As `_HEADERS`, in lower case, for files that are no images but are often named as one."""


@cache
def heic_is_supported() -> bool:
    """Whether the extra `heic` (pi-heif) is installed."""
    return find_spec("pi_heif") is not None


@cache
def pillow_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that it may decode."""
    avif = (AVIF,) if "avif" in features.modules and features.check("avif") else ()  # Pillow 11.3 or later
    return tuple(known.pillow_name for known in (*_ALWAYS, *avif))


@cache
def supported_extensions() -> frozenset[str]:
    """Extensions of the files that count as images in this installation: lower case, with the dot."""
    optional = [AVIF] * ("AVIF" in pillow_formats()) + [HEIC] * heic_is_supported()
    return frozenset(extension for known in (*_ALWAYS, *optional) for extension in known.extensions)


@cache
def unsupported_extensions() -> Mapping[str, ImageFormat]:
    """Extensions of known image formats that cannot be decoded in this installation, with the format and a remedy."""
    every = {extension: known for known in (HEIC, AVIF, *_NEVER) for extension in known.extensions}
    return MappingProxyType({key: known for key, known in every.items() if key not in supported_extensions()})


def unsupported_format(data: bytes | memoryview) -> ImageFormat | None:
    """The known format of a file that cannot be decoded, recognized by its first bytes; None if it is unknown."""
    name = _recognize(bytes(data[:300]), _HEADERS)
    return next((known for known in (HEIC, AVIF, *_NEVER) if known.name == name), None)


def other_kind_of_file(data: bytes | memoryview) -> str:
    """What a file that is no image seems to be, such as "a web page"; empty if it is unknown."""
    return _recognize(bytes(data[:300]).lower(), _OTHER_FILES)


def _recognize(start: bytes, headers: tuple[tuple[int, bytes, str], ...]) -> str:
    return next((name for offset, mark, name in headers if start[offset : offset + len(mark)] == mark), "")
