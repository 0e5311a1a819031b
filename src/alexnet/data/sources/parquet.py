"""Parquet files as Hugging Face's datasets stores images: columns `image` and `label`, class names in the metadata.

A row of a Parquet file can only be read with its whole row group, and training reads images in a mixed order. So the
encoded images are copied once into a tar in the user's cache, from which each is read alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.cache import cache_folder
from alexnet._runtime.extras import install_line
from alexnet._runtime.locks import file_lock
from alexnet._runtime.progress import Bar
from alexnet.data.archives import TarTree
from alexnet.data.dataset import Dataset
from alexnet.data.decompression import ALWAYS_ALLOWED_BYTES, MAX_RATIO
from alexnet.data.image_tree import is_image
from alexnet.data.images import BYTE_LIMIT
from alexnet.data.sources.labeled import LabeledImage, left_out, make_dataset, split_name
from alexnet.data.sources.parquet_pages import rows_at_a_time
from alexnet.data.tree import FileTree, FolderTree, is_junk_file
from alexnet.errors import UserError, require

LABELS = ("label", "labels", "fine_label", "class", "target")
"""Columns of labels, in this order of preference."""

_ROWS = 64
"""Rows that are read at a time, unless they may be large (`rows_at_a_time`)."""

_BUFFER_BYTES = 1 << 20
"""Read at a time of a compressed column. By default pyarrow holds all of a row group."""

_LABEL_CHARACTERS = 1000
"""Of a label. A dictionary may repeat a long one in every row."""


def is_parquet(file: str) -> bool:
    return file.lower().endswith(".parquet")


def parquet_files(tree: FileTree) -> list[str]:
    """All Parquet files of the tree."""
    return [file for file in tree.files if is_parquet(file) and not is_junk_file(file.rpartition("/")[2])]


def find_parquet(tree: FolderTree) -> tuple[list[str], list[str]]:
    """The Parquet files of the tree that hold images, and the others, such as features that alexnet has written.

    Raises UserError if pyarrow is not installed, or a file is damaged.
    """
    files = parquet_files(tree)
    if files:
        folders = any(map(is_image, tree.files))
        count = "a Parquet file" if len(files) == 1 else f"{len(files):,} Parquet files"
        _require_pyarrow(f"{tree.source} holds {count}, {'' if len(files) == 1 else 'such as '}{files[0]}, and whether "
                         "there are images and labels inside can only be read with pyarrow",
                         ", or add --labels folders to use the folders of images alone" if folders else "")
    with_images = [file for file in files if _image_columns(_open(tree.root / file).schema_arrow)]
    return with_images, [file for file in files if file not in with_images]


@dataclass(frozen=True)
class Columns:
    """What a file's columns mean."""

    image: str
    image_parts: tuple[str, ...] = field(compare=False)
    """What is read of it: the column, or the fields of the struct."""
    label: str
    names: tuple[str, ...]
    """The class names by label, where the metadata have them; else empty."""


def open_parquet(root: Path, files: Sequence[str], name: str, held_out: float, seed: int) -> Dataset:
    """The images of Parquet files; the file names say the splits, such as `train-00000-of-00002.parquet`.

    Args:
        files: paths relative to `root`.
        name: of the data set.

    Raises:
        UserError: pyarrow is not installed, a file is damaged, or its columns are unclear.
    """
    _require_pyarrow("Parquet files need pyarrow")
    columns = {file: _find_columns(root / file) for file in files}
    first = columns[files[0]]
    for file, found in columns.items():
        require(found == first, f"{root / file} has other columns or class names than {root / files[0]}",
                "name a folder with the files of one data set")
    tree = _ParquetImages(TarTree(_copied(root, files, first), root / files[0] if len(files) == 1 else root),
                          name)
    images, unlabeled, stored = [], [], set(tree.files)
    for index, file in enumerate(files):
        for row, label in enumerate(_label_cells(root / file, first)):
            member = _member(index, row)
            if label and member in stored:
                images.append(LabeledImage(member, label, split_of_parquet(file)))
            else:
                unlabeled.append(f"row {row} of {file}")
    labeled_by = f"column {first.label!r} of {len(files):,} Parquet file{'s' * (len(files) != 1)}"
    notes = left_out(unlabeled, "row", "without an image or a label")
    return make_dataset(tree, images, labeled_by, held_out, seed, notes, used=stored)


def split_of_parquet(file: str) -> str:
    """The split by the file's name, else by its folders, the innermost first; "" if none is the name of a split."""
    *folders, name = file.split("/")
    stem = re.split(r"[-_.]", name)[0]
    return next(filter(None, map(split_name, (stem, *reversed(folders)))), "")


def _require_pyarrow(problem: str, other_remedy: str = "") -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UserError(problem, f"{install_line('parquet')}{other_remedy}") from error


class _ParquetImages:
    """The copied images as a tree under the data set's own name."""

    def __init__(self, copied: TarTree, name: str) -> None:
        self.name, self.source, self.folders, self.skipped = name, copied.source, copied.folders, copied.skipped
        self.files = copied.files
        self.read, self.image = copied.read, copied.image


def _member(index: int, row: int) -> str:
    """Name of a row's image in the copy."""
    return f"{index:05}/{row:08}"


# --- Columns ----------------------------------------------------------------------------------------------------------


def _find_columns(path: Path) -> Columns:
    """Which columns hold images and labels. Raises UserError if that is unclear."""
    schema = _open(path).schema_arrow
    features = _features(schema.metadata or {})
    names = list(schema.names)
    images = _image_columns(schema)
    require(len(images) == 1, f"{path} has {len(images) or 'no'} columns of images (columns: {', '.join(names)})",
            "one column must be a struct of bytes and path, as Hugging Face's datasets writes it")
    parts = _image_parts(images[0], schema.field(images[0]).type)
    require(bool(parts), f"{path} describes the column {images[0]} as images, and it holds "
            f"{schema.field(images[0]).type}", "one column must be a struct of bytes and path, as Hugging Face's "
            "datasets writes it")
    class_labels = [name for name in names if features.get(name, {}).get("_type") == "ClassLabel"]
    candidates = class_labels or [name for name in names if name in LABELS]
    label = candidates[0] if len(candidates) == 1 else next((name for name in LABELS if name in candidates), "")
    require(bool(label), f"{path} has no clear column of labels (columns: {', '.join(names)})",
            "name the column of labels label")
    require(not _is_nested(schema.field(label).type), f"{path} has lists or structs as labels (column {label})",
            "a label must be a number or a text")
    return Columns(images[0], parts, label, tuple(map(str, features.get(label, {}).get("names") or ())))


def _image_columns(schema: Any) -> list[str]:  # an Arrow schema
    """The columns that the metadata describe as images, else those of bytes."""
    features = _features(schema.metadata or {})
    images = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
    return images or [name for name in schema.names if _image_parts(name, schema.field(name).type)]


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, dict[str, Any]]:  # JSON of another program
    """The features that Hugging Face's datasets describes in a schema; empty if it does not."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {str(name): feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _image_parts(name: str, kind: Any) -> tuple[str, ...]:  # an Arrow type
    """What to read of a column of images: itself, or the fields of a struct; () if it holds no bytes."""
    import pyarrow

    if not pyarrow.types.is_struct(kind):
        return (name,) if _is_binary(kind) else ()
    fields = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
    if not _is_binary(fields.get("bytes")):
        return ()
    has_path = "path" in fields and not _is_nested(fields["path"])
    return (f"{name}.bytes", f"{name}.path") if has_path else (f"{name}.bytes",)


def _is_binary(kind: Any) -> bool:  # an Arrow type, or None
    import pyarrow

    return kind is not None and (pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def _is_nested(kind: Any) -> bool:  # an Arrow type
    import pyarrow

    return bool(pyarrow.types.is_nested(kind))


# --- Rows -------------------------------------------------------------------------------------------------------------


def _open(path: Path) -> Any:  # a ParquetFile
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as Parquet: {error}", "download it again") from error


def _cells(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """The cells of a column, or of fields of a struct, one after another.

    Raises UserError if the file is damaged, or states pages that are too large.
    """
    import pyarrow

    file = _open(path)
    try:
        rows = rows_at_a_time(path, file.metadata, columns, _ROWS)
        for batch in file.iter_batches(rows, columns=list(columns), use_threads=False):
            yield from batch.column(0).to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is damaged: {error}", "download it again") from error


def _label_cells(path: Path, columns: Columns) -> Iterator[str]:
    """The label of each row as text; "" if there is none. Hugging Face marks unlabeled rows with -1."""
    known: dict[str, str] = {}  # one string for all rows with a label
    for cell in _cells(path, [columns.label]):
        if cell is None or cell == -1:
            yield ""
        elif not columns.names:
            label = str(cell)
            require(len(label) <= _LABEL_CHARACTERS, f"{path} has a label of {len(label):,} characters, more than "
                    f"{_LABEL_CHARACTERS:,}", "do not use this file")
            yield known.setdefault(label, label)
        elif isinstance(cell, int) and 0 <= cell < len(columns.names):
            yield columns.names[cell]
        else:
            raise UserError(f"{path} has the label {cell!r}, and {len(columns.names)} class names", "download it again")


def _image_bytes(cell: Any, path: Path) -> bytes:
    """The encoded image of a cell; b"" if it has none."""
    if isinstance(cell, dict):
        if cell.get("bytes") is None and cell.get("path"):
            raise UserError(f"{path} holds paths of images, such as {cell['path']}, and not the images",
                            "name the folder of the images, with a table of file_name and label")
        cell = cell.get("bytes")
    data = cell or b""
    require(len(data) <= BYTE_LIMIT, f"{path} has an image of {len(data):,} bytes, more than {BYTE_LIMIT:,}",
            "leave it out")
    return data


def _copied(root: Path, files: Sequence[str], columns: Columns) -> Path:
    """The tar with all images, made if it is not in the cache."""
    digest = hashlib.sha256(f"{root.resolve()}\0{columns.image}".encode("utf-8", "surrogateescape"))
    for file in files:
        status = (root / file).stat()
        digest.update(f"\0{file}\0{status.st_size}\0{status.st_mtime_ns}".encode("utf-8", "surrogateescape"))
    dest = cache_folder() / "decompressed" / f"parquet-{digest.hexdigest()[:12]}.tar"
    dest.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(dest.with_suffix(".lock")):
        if not dest.is_file():
            total = sum((root / file).stat().st_size for file in files)
            require(shutil.disk_usage(dest.parent).free > 1.2 * total,
                    f"the images of {root} ({total / 1e6:,.0f} MB) do not fit on the disk of {dest.parent}",
                    "free some space, or set XDG_CACHE_HOME to a folder on a larger disk")
            replace_file(dest, lambda temporary: _copy(root, files, columns, temporary, max(
                MAX_RATIO * total, ALWAYS_ALLOWED_BYTES)))
    return dest


def _copy(root: Path, files: Sequence[str], columns: Columns, dest: Path, limit: int) -> None:
    """Write the tar. Raises UserError if it would have more than `limit` bytes."""
    with tarfile.open(dest, "w") as tar, Bar(f"copying the images of {root.name} once", "images") as bar:
        total, done = sum(_open(root / file).metadata.num_rows for file in files), 0
        for index, file in enumerate(files):
            for row, cell in enumerate(_cells(root / file, columns.image_parts)):
                if data := _image_bytes(cell, root / file):
                    member = tarfile.TarInfo(_member(index, row))
                    member.size = len(data)
                    require(tar.offset + member.size <= limit, f"the images of {root / file} have more than "
                            f"{MAX_RATIO} times the size of their files, as no images do", "do not use this file")
                    tar.addfile(member, io.BytesIO(data))
                done += 1
                bar(done, total)
    newest = max((root / file).stat().st_mtime_ns for file in files)
    os.utime(dest, ns=(newest, newest))  # so that the fingerprint survives an emptied cache
