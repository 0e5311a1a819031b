"""Scan a data set: decode every image once, and record its size, format, content hash and perceptual hash.

Threads decode, as for packing. The result is kept in the user's cache under the data set's fingerprint. A packed data
set has the hashes in it, so its images are not read.
Shapes: N images of all splits, in the rows of `catalog.Catalog`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.cache import cache_folder
from alexnet._runtime.locks import file_lock
from alexnet.data.catalog import Catalog
from alexnet.data.content import Content, content_hash, decode_content
from alexnet.data.dataset import SourceImage
from alexnet.data.images import BadImage
from alexnet.data.packed import PackedDataset
from alexnet.data.perceptual_hash import is_blank, perceptual_hash
from alexnet.data.remarks import ELONGATED, Kind, Remark, add_remarks

VERSION = 4
"""Of the cache files. A change of what is recorded raises it."""

CHUNK = 512
"""Images that threads are given at a time."""

ARRAY, UNKNOWN = "pixel arrays", "unknown"
"""Formats of images that exist as an array only, and of those whose original file is not at hand."""


class _Record(NamedTuple):
    """What is recorded of one image."""

    content: int
    perceptual: Sequence[np.uint64] | NDArray[np.uint64] = (np.uint64(0), np.uint64(0))
    width: int = 0
    height: int = 0
    format: str = UNKNOWN
    fault: str = ""
    remarks: frozenset[Kind] = frozenset()


@dataclass(frozen=True)
class Scan:
    """What was found in each image."""

    content_N: NDArray[np.uint64]
    """Content hashes (content.py); 0 of an image that could not be read."""
    perceptual_N2: NDArray[np.uint64]
    """Perceptual hashes (perceptual_hash.py); zeros of a blank or broken image."""
    sizes_N2: NDArray[np.int32]
    """Width and height in pixels; 0 where they are not known."""
    formats_N: NDArray[np.str_]
    """JPEG, PNG, ...; ARRAY or UNKNOWN."""
    broken: Mapping[int, str]
    """Rows of the images that cannot be decoded, and why."""
    remarks: Mapping[int, tuple[str, ...]]
    """Rows of the images of which something should be known, and the kinds of remarks."""

    @property
    def elongated(self) -> NDArray[np.int64]:
        """Rows of the images with one side more than ELONGATED times as long as the other, the most elongated first."""
        sides_N2 = np.sort(self.sizes_N2.astype(np.float64), 1)
        rows = np.flatnonzero(sides_N2[:, 1] > ELONGATED * sides_N2[:, 0])
        return rows[np.argsort(sides_N2[rows, 0] / sides_N2[rows, 1], kind="stable")]

    @property
    def blank(self) -> NDArray[np.int64]:
        """Rows of the images that have one color."""
        rows = np.flatnonzero(is_blank(self.perceptual_N2))
        return np.array([row for row in rows if row not in self.broken], np.int64)


def scan(
    catalog: Catalog, *, workers: int | None = None, on_progress: Callable[[int, int], object] | None = None,
) -> Scan:
    """Decode every image once, or read the result of an earlier scan of the same images from the cache.

    Args:
        catalog: the images.
        workers: threads; default: all cores.
        on_progress: called with the number of images done, and of all.
    """
    if isinstance(catalog.source, PackedDataset):
        return _scan_packed(catalog)
    file = cache_folder() / "scans" / f"{_fingerprint(catalog)[:32]}-{VERSION}.npz"
    if (found := _read_cache(file, len(catalog))) is not None and all(
            _scan_image(_image(catalog, row)).fault for row in found.broken):
        return found  # unless a decoder was installed since, with which a broken image can be decoded
    records: list[_Record] = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="scan") as pool:
        for begin in range(0, len(catalog), CHUNK):
            rows = np.arange(begin, min(begin + CHUNK, len(catalog)))
            records += pool.map(_scan_image, [_image(catalog, int(row)) for row in rows])
            if on_progress:
                on_progress(len(records), len(catalog))
    result = _stack(records)
    with file_lock(file.with_suffix(".lock")):
        replace_file(file, lambda path: _write_cache(path, result))
    return result


def image_remarks(catalog: Catalog, found: Scan | None) -> dict[str, tuple[Remark, ...]]:
    """By split, what should be known of images that were decoded: by the scan, or as a pack has recorded it."""
    if isinstance(catalog.source, PackedDataset):
        return catalog.source.remarks
    rows = found.remarks if found else {}
    return {"": add_remarks((), ((catalog.names_N[row], kinds) for row, kinds in sorted(rows.items())))}


# --- One image --------------------------------------------------------------------------------------------------------


def _image(catalog: Catalog, row: int) -> SourceImage:
    assert not isinstance(catalog.source, PackedDataset)
    split, index = catalog.locate(row)
    return catalog.source.splits[split][index]


def _scan_image(image: SourceImage) -> _Record:
    try:
        content = image.content()
    except BadImage as error:
        return _Record(0, fault=error.problem)
    except OSError as error:
        return _Record(0, fault=f"{image.name} cannot be read: {error.strerror or error}")
    key, kind, remarks = content_hash(content), _format(content), set[Kind]()
    try:
        pixels_HWC = decode_content(content, image.name, remarks)
        perceptual = perceptual_hash(pixels_HWC)
    except BadImage as error:
        return _Record(key, format=kind, fault=error.problem)
    height, width = pixels_HWC.shape[:2]
    return _Record(key, perceptual, width, height, kind, remarks=frozenset(remarks))


def _format(content: Content) -> str:
    """The format by the file's header, whatever its name says."""
    if isinstance(content, np.ndarray):
        return ARRAY
    with contextlib.suppress(Exception), Image.open(io.BytesIO(content)) as image:
        return {"MPO": "JPEG"}.get(image.format or UNKNOWN, image.format or UNKNOWN)
    return UNKNOWN


# --- All images -------------------------------------------------------------------------------------------------------


def _scan_packed(catalog: Catalog) -> Scan:
    """What a packed data set records: content hashes of the original images, whose sizes and formats are not known."""
    count = len(catalog)
    return Scan(catalog.packed_hashes_N, catalog.packed_perceptual_hashes_N2, np.zeros((count, 2), np.int32),
                np.full(count, UNKNOWN), {}, {})


def _stack(records: list[_Record]) -> Scan:
    return Scan(
        np.array([record.content for record in records], np.uint64),
        np.array([record.perceptual for record in records], np.uint64).reshape(-1, 2),
        np.array([(record.width, record.height) for record in records], np.int32).reshape(-1, 2),
        np.array([record.format for record in records], np.str_),
        {row: record.fault for row, record in enumerate(records) if record.fault},
        {row: tuple(sorted(record.remarks)) for row, record in enumerate(records) if record.remarks})


def _fingerprint(catalog: Catalog) -> str:
    assert not isinstance(catalog.source, PackedDataset)
    return catalog.source.fingerprint()


def _write_cache(path: Path, result: Scan) -> None:
    with path.open("wb") as file:
        np.savez(file, content=result.content_N, perceptual=result.perceptual_N2, sizes=result.sizes_N2,
                 formats=result.formats_N, broken=np.array(json.dumps(result.broken)),
                 remarks=np.array(json.dumps(result.remarks)))


def _read_cache(path: Path, count: int) -> Scan | None:
    """An earlier scan; None if there is none, or its file is damaged."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            broken = {int(row): reason for row, reason in json.loads(str(arrays["broken"])).items()}
            remarks = {int(row): tuple(kinds) for row, kinds in json.loads(str(arrays["remarks"])).items()}
            result = Scan(arrays["content"], arrays["perceptual"], arrays["sizes"], arrays["formats"], broken, remarks)
    except Exception:  # a damaged file may raise anything; it is written again
        return None
    return result if len(result.content_N) == count else None
