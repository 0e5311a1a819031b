"""Images labeled by a table beside them: metadata.csv, labels.csv, Kaggle's train.csv, Roboflow's _classes.csv."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alexnet.data.dataset import Dataset
from alexnet.data.image_tree import is_image
from alexnet.data.sources.label_columns import Columns, find_columns, is_measurement, one_hot_labels, split_cells
from alexnet.data.sources.labeled import (
    LabeledImage,
    image_files,
    is_test_folder,
    left_out,
    make_dataset,
    split_name,
    split_of_folder,
)
from alexnet.data.sources.tables import TABLE_EXTENSIONS, Table, parse_table
from alexnet.data.tree import FileTree, FolderTree, is_junk_file
from alexnet.errors import UserError, require, some

_FEW = 20
"""Images. A table of fewer may have as many classes."""
_MISSING = {"nan", "<na>", "#n/a", "#na", "n/a", "null"}
"""Labels, in lower case, that programs write where there is none. `none` may be a class."""
_ONE_ROW = 0.9
"""Images of a table of labels over its rows, at least."""
_MAX_DEPTH = 2
"""Folders below the root in which tables are looked for."""
_MAX_FOUND = 50
_MAX_FOUND_BYTES = 100_000_000
"""Tables that are read without being asked for: how many, and of which size."""


class ImageIndex:
    """Finds the image that a cell of a table names: by its path or name, with or without the extension.

    Upper and lower case, and the Unicode form, do not matter. A folder in front that the data do not have, such as
    `/kaggle/input/`, does not either.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self._files: dict[tuple[str, ...], list[str]] = defaultdict(list)
        """By the last parts of their paths without extension: one part, two parts, and all."""
        for file in files:
            parts = _parts(file)
            for length in {1, 2, len(parts)}:
                if length <= len(parts):
                    self._files[parts[-length:]].append(file)

    def find(self, cell: str, folder: str = "", split: str = "") -> list[str]:
        """The images that a cell may mean: one, none, or several that cannot be told apart.

        Args:
            folder: of the table. An image there, or below, is preferred.
            split: of the table or row. An image in a folder of that split is preferred.
        """
        parts = _parts(cell.replace("\\", "/"))
        in_folder = (*_parts(folder), *parts) if folder else parts
        tails = (in_folder, *(parts[start:] for start in range(len(parts))))
        candidates = next((self._files[tail] for tail in tails if tail in self._files), [])
        if is_image(cell):
            candidates = [file for file in candidates if _name(_key(file)) == _name(_key(cell).replace("\\", "/"))]
        if len(candidates) > 1:
            candidates = [file for file in candidates if file.startswith(f"{folder}/")] or candidates
            candidates = [file for file in candidates if split_of_folder(file) == (split or "train")] or candidates
        return candidates


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a path in a form that compares, the last one without the extension of an image."""
    parts = [part for part in _key(path).split("/") if part not in ("", ".")]
    if parts and is_image(parts[-1]):
        parts[-1] = parts[-1].rpartition(".")[0]
    return tuple(parts)


class UnclearLabels(UserError):
    """A table of labels that is understood but for some rows, of which it is not clear what they say.

    Attributes:
        table: its name.
        labels: all that it has.
    """

    def __init__(self, problem: str, remedy: str, table: str = "", labels: Iterable[str] = ()) -> None:
        super().__init__(problem, remedy)
        self.table, self.labels = table, sorted(set(labels) - {""})

    def are_folders(self, images: Sequence[str]) -> bool:
        """Whether half of the labels or more are names of the images' folders, so that these may mean the same."""
        paths = {image.rpartition("/")[0] for image in images}
        folders = {_key(folder) for path in paths for folder in path.split("/")}
        return 2 * sum(_key(label) in folders for label in self.labels) >= len(self.labels)


# --- One table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelTable:
    """A table, and the images of the data that it labels."""

    table: Table
    columns: Columns
    images: tuple[LabeledImage, ...]
    notes: tuple[str, ...]


def read_label_table(table: Table, index: ImageIndex, folder: str = "") -> LabelTable:
    """Find the image of each row.

    Args:
        folder: of the table within the data.

    Raises:
        UserError: the columns are unclear, or a row may mean several images, or two rows disagree on an image.
    """
    table = _with_header(table, index)
    table_split = split_name(table.name.rpartition("/")[2].rpartition(".")[0].split("_")[0]) or ""
    columns = find_columns(table, lambda cell: index.find(cell, folder, table_split) if cell else [])
    found: dict[str, LabeledImage] = {}
    absent, unlabeled, repeated = [], [], []
    cells, labels = table.column(columns.file), _labels(table, columns)
    for cell, label, split in zip(cells, labels, split_cells(table, columns), strict=True):
        split = split or table_split
        files = index.find(cell, folder, split) if cell else []
        if len(files) > 1:
            _require_classes(table.name, columns, labels)
            raise UnclearLabels(f"{table.name} names {cell}, which may be {files[0]} or {files[1]}",
                                "give paths relative to the data", table.name, labels)
        if not files:
            absent.append(cell or "a row without a name")
        elif not label:
            unlabeled.append(cell)
        else:
            image = LabeledImage(files[0], label, split or split_of_folder(files[0]))
            repeated += [cell] if files[0] in found else []
            if found.setdefault(files[0], image) != image:
                # Of annotated objects, an image has several rows, and these are no labels of the image.
                is_rare = len(set(cells)) >= _ONE_ROW * len(cells)
                raise UnclearLabels(f"{table.name} names {cell} twice: {found[files[0]].describe()}, and "
                                    f"{image.describe()}", "leave one of the rows out", table.name,
                                    labels if is_rare else ())
    _require_classes(table.name, columns, [image.label for image in found.values()])
    unused = f"columns of {table.name} that are not used: {some(columns.unused, 5)}"
    notes = [*left_out(absent, "row", f"of {table.name} without an image in the data"),
             *left_out(unlabeled, "row", f"of {table.name} without a {'single class' if columns.one_hot else 'label'}"),
             *left_out(repeated, "row", f"of {table.name} equal to an earlier one"), *[unused] * bool(columns.unused)]
    return LabelTable(table, columns, tuple(found.values()), tuple(notes))


def _require_classes(name: str, columns: Columns, labels: Sequence[str]) -> None:
    """Raise UserError for a column of numbers, dates, captions or several labels in a cell, which are no classes."""
    if columns.label:
        longest = max(labels, key=len, default="")
        require(not is_measurement(labels, columns.label), f"{name} has numbers such as {longest} in "
                f"{columns.label!r}, and these look like measurements, not classes",
                "copy the table, write the name of a class for each image, and give the copy with --labels")
        several = min(_several_labels(set(labels)), default="")
        require(not several, f"{name} gives an image several labels, {several!r} in {columns.label!r}, and it can "
                "have only one", "copy the table without such rows, and give the copy with --labels")
    different = len(set(labels))
    require(len(labels) < _FEW or 2 * different <= len(labels), f"{name} has {different:,} different labels for "
            f"{len(labels):,} images in {columns.label!r}, so these are not classes",
            "rename the column of classes to label")


def _several_labels(labels: set[str]) -> set[str]:
    """The labels, such as `cat|dog`, that consist of parts which all occur elsewhere: alone, or in another label."""
    found = set[str]()
    for separator in "|;,":
        parts = {label: {part.strip() for part in label.split(separator)} for label in labels}
        uses = Counter(part for each in parts.values() for part in each)
        found |= {label for label, each in parts.items() if len(each) > 1 and all(uses[part] > 1 for part in each)}
    return found


def _with_header(table: Table, index: ImageIndex) -> Table:
    """The table; if its first line names an image, it has no header, and its columns are called by their numbers."""
    if not any(is_image(cell) and index.find(cell) for cell in table.header):
        return table
    header = tuple(f"column {number}" for number in range(1, len(table.header) + 1))
    return Table(table.name, header, [table.header, *table.rows], table.encoding)


def _labels(table: Table, columns: Columns) -> list[str]:
    """The label of each row; "" if it is missing, and for a row of a one-hot table with no or several ones."""
    if columns.label:  # R writes NA, always in upper case
        return ["" if label.lower() in _MISSING or label == "NA" else label for label in table.column(columns.label)]
    rows = zip(*map(table.column, columns.one_hot), strict=True)
    return [columns.one_hot[ones[0]] if (ones := one_hot_labels(row)) and len(ones) == 1 else "" for row in rows]


# --- The tables of a data set -----------------------------------------------------------------------------------------


def open_table(tree: FileTree, labels: str, held_out: float, seed: int) -> Dataset:
    """The images labeled by a table that the user names: a file, or a file within the data."""
    path, inside = Path(labels), Path(labels).as_posix()
    if path.is_file():
        data = path.read_bytes()
    elif inside in tree.files:
        data = tree.read(inside)
    else:
        raise UserError(f"there is no table {labels}, on disk or in {tree.source}", "name a CSV, TSV or JSONL file, or "
                        "give a pattern of the file names such as '{label}.{n}.jpg'")
    files = image_files(tree)
    table = read_label_table(parse_table(data, str(labels)), ImageIndex(files))
    return _dataset(tree, [table], files, held_out, seed)


def find_tables(tree: FileTree) -> tuple[list[LabelTable], list[UserError]]:
    """The tables in the data that label its images, and why others do not."""
    names = [file for file in tree.files if file.lower().endswith(TABLE_EXTENSIONS)
             and file.count("/") <= _MAX_DEPTH and not is_junk_file(_name(file))]
    names.sort(key=lambda name: "submission" in name.lower())  # the first problem is the one that is shown
    if len(names) > _MAX_FOUND:
        return [], [UserError(f"{tree.source} holds {len(names):,} tables, such as {names[0]}, and only up to "
                              f"{_MAX_FOUND} are read", "name the right one with --labels")]
    found, problems = [], []
    index = ImageIndex(image_files(tree)) if names else None
    for name in names:
        assert index
        try:
            require("submission" not in _name(name).lower(), f"{name} is a form for predictions, without true labels")
            require(not isinstance(tree, FolderTree) or (tree.root / name).stat().st_size <= _MAX_FOUND_BYTES,
                    f"{name} is larger than {_MAX_FOUND_BYTES / 1e6:g} MB", f"add --labels {name} to read it")
            found.append(read_label_table(parse_table(tree.read(name), name), index, name.rpartition("/")[0]))
        except UserError as error:
            problems.append(error)
    return [table for table in found if table.images], problems


def open_found_tables(
    tree: FileTree, tables: Sequence[LabelTable], unused: Sequence[UserError], held_out: float, seed: int,
) -> Dataset:
    """The images labeled by the tables that `find_tables` found."""
    return _dataset(tree, tables, image_files(tree), held_out, seed,
                    [f"not used: {error.problem}" for error in unused])


def label_most(tables: Sequence[LabelTable], tree: FileTree) -> bool:
    """Whether the tables label at least half of the images that are not in a folder of test images."""
    labeled = {image.file for table in tables for image in table.images}
    others = [file for file in image_files(tree) if file not in labeled and not is_test_folder(file)]
    return len(others) <= len(labeled)


def contradicts_folders(table: LabelTable) -> bool:
    """Whether the labels are neither finer nor coarser than the folders, or name another folder than the image's."""
    pairs = {(image.file.rpartition("/")[0], image.label) for image in table.images}
    folders, labels = {folder for folder, _ in pairs}, {label for _, label in pairs}
    names = {_key(name) for folder in folders for name in folder.split("/")}
    swapped = any(_key(label) in names - {_key(name) for name in folder.split("/")} for folder, label in pairs)
    return swapped or len(pairs) > max(len(folders), len(labels))


def _dataset(
    tree: FileTree, tables: Sequence[LabelTable], files: Sequence[str], held_out: float, seed: int,
    notes: Sequence[str] = (),
) -> Dataset:
    images: dict[str, LabeledImage] = {}
    said: list[str] = []
    labeled_by: list[str] = []
    for table in tables:
        encoding = "" if table.table.encoding == "utf-8" else f", read as {table.table.encoding}"
        labeled_by.append(f"{table.table.name} ({table.columns}{encoding})")
        said += table.notes
        for image in table.images:
            other = images.setdefault(image.file, image)
            require(other.label == image.label, f"two tables label {image.file}: {other.label!r}, and {image.label!r} "
                    f"in {table.table.name}", "name the right one with --labels FILE.csv")
            require(other.split == image.split or not (other.split and image.split),
                    f"two tables have {image.file} in two splits: {other.split}, and {image.split} in "
                    f"{table.table.name}", "leave it out of one of them, or name the right one with --labels FILE.csv")
            if not other.split:
                images[image.file] = image
    unlabeled = [file for file in files if file not in images]
    return make_dataset(tree, images.values(), some(labeled_by, 5), held_out, seed, [*said, *notes], unlabeled,
                        used={table.table.name for table in tables})
