"""Open what DATA names, before packing: a folder or an archive in any supported form, or the name of a data set."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from alexnet._runtime.cache import cache_folder
from alexnet.data.archives import open_archive
from alexnet.data.dataset import Dataset
from alexnet.data.hold_out import require_fraction
from alexnet.data.image_formats import supported_extensions
from alexnet.data.sources import cifar, idx, ilsvrc, ilsvrc_folders, parquet, tiny_imagenet
from alexnet.data.sources.embedded import open_embedded
from alexnet.data.sources.folders import open_folders
from alexnet.data.sources.groups import FOLDER, hold_out_by_group
from alexnet.data.sources.label_tables import (
    LabelTable,
    UnclearLabels,
    contradicts_folders,
    find_tables,
    label_most,
    open_found_tables,
    open_table,
)
from alexnet.data.sources.labeled import image_files, is_test_folder, left_out
from alexnet.data.sources.other_files import KINDS, explain_file
from alexnet.data.sources.patterns import is_pattern, open_pattern, suggest_pattern
from alexnet.data.sources.unread_labels import note_unused_splits, suggest_for_unread_labels
from alexnet.data.tree import FileTree, FolderTree
from alexnet.data.url_images import is_url
from alexnet.errors import UserError, closest_match, require, some

NAMES = (*cifar.ARCHIVES, "embedded")
"""Data sets that are opened by their names."""

FROM_FOLDERS = "folders"
"""As `labels`: the class folders are the labels, whatever tables lie beside them."""

_MOST_UNUSED = 3
"""Tables for which a note says why they are not used; the data's first note names them all among what is ignored."""

_DATA = ("a folder with a folder of images for each class, a packed folder, or the name "
         f"{', '.join(NAMES[:-1])} or {NAMES[-1]}")


def require_source(source: str | Path) -> None:
    """Raise UserError, as `open_dataset` does, if there is no such data: without reading it, and without torch."""
    if not (Path(source).exists() or str(source) in NAMES or is_url(str(source))):
        raise _not_found(source)


def open_dataset(
    source: str | Path, *, held_out: float = 0.1, seed: int = 0, labels: str | Path | None = None,
    group: str | None = None,
) -> Dataset:
    """Open the data set that `source` names.

    Args:
        source: the path of a folder, a zip or tar archive, or a Parquet file; or a name: `cifar10` or `cifar100`,
            downloaded once into the cache, or `embedded`, the photographs of the package.
        held_out: the fraction of each class that becomes `val` if there is no validation split.
        seed: of the choice of these images.
        labels: where the labels are: a table of files and labels (label_tables.py), a pattern of the file names
            (patterns.py), or `folders` for class folders. Default: what the data suggest, if that is unambiguous.
        group: which images belong together and stay on one side (groups.py).

    Raises:
        UserError: the source does not exist, is damaged, or has no images to learn from.
    """
    require_fraction(held_out)
    if group is None:
        return _open_source(source, held_out, seed, labels)
    labels = labels or (FROM_FOLDERS if group == FOLDER else None)  # `folder` says that class folders hold folders
    return hold_out_by_group(_open_source(source, 0.0, seed, labels), group, held_out, seed, Path(source))


def _open_source(source: str | Path, held_out: float, seed: int, labels: str | Path | None) -> Dataset:
    path = Path(source)
    if (path / "checkpoint.json").is_file() or (path / "log.jsonl").is_file():
        raise UserError(f"{source} is a run or a checkpoint, not images", f"name the data, {_DATA}")
    if path.is_dir():
        if ilsvrc.is_ilsvrc(path) and not labels:
            return ilsvrc.open_ilsvrc(path)
        tree: FileTree = FolderTree(path)
    elif path.is_file():
        if parquet.is_parquet(path.name):
            refuse_labels(source, labels)
            return parquet.open_parquet(path.parent, [path.name], path.stem, held_out, seed)
        tree = _open_file(path)
    elif str(source) in NAMES:
        refuse_labels(source, labels)
        if str(source) == "embedded":
            return open_embedded()
        tree = _open_file(cifar.fetch_cifar(str(source), cache_folder()))
    else:
        raise _not_found(source)
    if not labels or str(labels) == FROM_FOLDERS:
        return _open_tree(tree, held_out, seed, look_for_tables=not labels)
    return (open_pattern if is_pattern(str(labels)) else open_table)(tree, str(labels), held_out, seed)


def refuse_options(source: str | Path, labels: str | Path | None, group: str | None) -> None:
    """Raise UserError for data that are packed: labels and groups are stated when they are packed."""
    refuse_labels(source, labels)
    require(group is None, f"{source} is packed already, and --group {group} would have no effect",
            "name the images, or pack them with alexnet pack SOURCE DEST --group ...")


def refuse_labels(source: str | Path, labels: str | Path | None) -> None:
    """Raise UserError for data that have their labels inside."""
    require(not labels, f"{source} holds its own labels, and --labels {labels} would have no effect", "leave it out")


def _open_tree(tree: FileTree, held_out: float, seed: int, look_for_tables: bool) -> Dataset:
    """Recognize the form of the files, the most specific first."""
    if look_for_tables and (dataset := _open_containers(tree, held_out, seed)):
        return dataset
    if root := tiny_imagenet.find_tiny_imagenet(tree):
        return tiny_imagenet.open_tiny_imagenet(tree, root)
    if validation := ilsvrc_folders.find_flat_validation(tree):
        return ilsvrc_folders.open_flat_validation(tree, validation, held_out, seed)
    _require_images(tree)
    if not look_for_tables and not image_files(tree) and _holds_labels(tree):
        refuse_labels(tree.source, FROM_FOLDERS)
    return _open_images(tree, held_out, seed, look_for_tables)


def _open_containers(tree: FileTree, held_out: float, seed: int) -> Dataset | None:
    """CIFAR's, MNIST's or Parquet files, which hold images with their labels; None if there are none."""
    if version := cifar.find_cifar(tree):
        _require_no_folders(tree, [version[1] + version[0].classes_file])
        return _name_images(tree, cifar.open_cifar(tree, *version))
    if idx_files := idx.find_idx(tree):
        _require_no_folders(tree, idx_files["train"][:1])
        return _name_images(tree, idx.open_idx(tree, idx_files))
    if isinstance(tree, FolderTree):
        shards, others = parquet.find_parquet(tree)
        if shards:
            _require_no_folders(tree, shards)
            dataset = parquet.open_parquet(tree.root, shards, tree.name, held_out, seed)
            return _name_images(tree, dataset, left_out(others, "Parquet file", "without images"))
        if others and not image_files(tree):
            raise UserError(f"{tree.root / others[0]} has no column of images", "name a folder of images")
    elif (packed := parquet.parquet_files(tree)) and not image_files(tree):
        raise UserError(f"{tree.source} holds Parquet files, such as {packed[0]}, which cannot be read in an archive",
                        "unpack it, and name the folder")
    return None


def _holds_labels(tree: FileTree) -> bool:
    """Whether the tree holds files that `_open_containers` opens."""
    return bool(cifar.find_cifar(tree) or idx.find_idx(tree)
                or (isinstance(tree, FolderTree) and parquet.find_parquet(tree)[0]))


def _require_no_folders(tree: FileTree, files: Sequence[str]) -> None:
    """Raise UserError if images lie in several folders, as classes do, beside files that hold images and labels."""
    images = image_files(tree)
    if len({image.rpartition("/")[0] for image in images} - {""}) < 2:
        return
    folder = files[0].rpartition("/")[0]
    alone = "move the others into a folder of their own, and name that"
    if isinstance(tree, FolderTree) and len(files) == 1 and parquet.is_parquet(files[0]):
        alone = f"name {tree.root / files[0]} for the others"
    elif isinstance(tree, FolderTree) and folder and all(file.startswith(f"{folder}/") for file in files) and not any(
            image.startswith(f"{folder}/") for image in images):
        alone = f"name {tree.root / folder} for the others"
    raise UserError(f"{tree.source} holds folders of images, and also {files[0]}, which holds other images and labels",
                    f"add --labels {FROM_FOLDERS} for the folders, or {alone}")


def _name_images(tree: FileTree, dataset: Dataset, notes: Sequence[str] = ()) -> Dataset:
    """The data set, with notes on what else the tree holds."""
    beside = left_out(image_files(tree), "image", "beside the files that hold images and labels")
    return replace(dataset, notes=(*dataset.notes, *notes, *beside))


def _open_images(tree: FileTree, held_out: float, seed: int, look_for_tables: bool) -> Dataset:
    """Images in class folders, else labeled by a table in the data. Raises UserError if both exist and disagree."""
    tables, unused = find_tables(tree) if look_for_tables else ([], [])
    try:
        dataset = open_folders(tree, held_out, seed, trust_folders=not look_for_tables)
    except UserError as problem:
        if not look_for_tables:
            raise
        if tables and label_most(tables, tree):
            return open_found_tables(tree, tables, unused, held_out, seed)
        raise _with_other_labels(problem, tables, unused, tree) from None
    if contrary := [table for table in tables if contradicts_folders(table)]:
        name = contrary[0].table.name
        raise UserError(f"{tree.source} has folders of images, and {name} gives these images other labels",
                        f"add --labels {name} to use the table, or --labels {FROM_FOLDERS} for the folders")
    for error in unused:
        if isinstance(error, UnclearLabels) and not error.are_folders(image_files(tree)):
            raise UserError(f"{tree.source} has folders of images, and {error.table} has other labels "
                            f"({some(error.labels, 3)}), but {error.problem}",
                            f"{error.remedy} in the table, and add --labels {error.table}, or add --labels "
                            f"{FROM_FOLDERS} for the folders")
    unused_tables = [f"the folders are the classes, so {table.table.name} is not used; --labels {table.table.name} "
                     f"would use its labels{' and splits' * bool(table.columns.split)}" for table in tables]
    unused_tables += [f"the folders are the classes, and a table beside them is not used: {error.problem}"
                      for error in unused[:_MOST_UNUSED]]
    unused_splits = note_unused_splits(tree) if dataset.held_out or "val" not in dataset.splits else []
    return replace(dataset, notes=(*dataset.notes, *unused_tables, *unused_splits))


def _with_other_labels(
    problem: UserError, tables: Sequence[LabelTable], unused: Sequence[UserError], tree: FileTree,
) -> UserError:
    """The error of the folders, with what else may label the images as the remedy."""
    training = [table for table in tables if not all(is_test_folder(image.file) for image in table.images)]
    if usable := training or (tables if not unused else []):
        return UserError(problem.problem, _either(problem, f"add --labels {usable[0].table.name}"))
    what, others = problem.problem, list[str]()
    if unused:
        what += f", and no table labels them: {unused[0].problem}"
        others += [f"for the table: {unused[0].remedy}"] * bool(unused[0].remedy)
    if pattern := suggest_pattern(image_files(tree)):
        others.append(f"if the labels are in the file names, add --labels '{pattern}'")
    elif not unused and (other := suggest_for_unread_labels(tree)):
        others.append(other)
    return UserError(what, _either(problem, *others))


def _either(problem: UserError, *others: str) -> str:
    """The problem's remedy, and others that may apply instead."""
    joint = " or " if problem.remedy.endswith("?") else ", or "
    return joint.join(filter(None, (problem.remedy, ", or ".join(others))))


def _open_file(path: Path) -> FileTree:
    if path.suffix.lower() in supported_extensions():
        raise UserError(f"{path} is one image", f"name the data, {_DATA}")
    if path.suffix.lower() not in KINDS and (tree := open_archive(path)):  # .npz, .pth and .xlsx are zip archives too
        return tree
    raise explain_file(path)


def _require_images(tree: FileTree) -> None:
    """Raise UserError for files that hold archives, and no images."""
    inner = [file for file in tree.files if file.lower().endswith((".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar"))]
    if inner and not image_files(tree):
        raise UserError(f"{tree.source} holds no images but other archives, such as {inner[0]}",
                        f"name the folder that they are in, with ImageNet's {ilsvrc.DEVKIT}.tar.gz"
                        if ilsvrc.VAL in tree.source or ilsvrc.TRAIN in tree.source else
                        "name that archive, or unpack it and name the folder" if len(inner) == 1 else
                        "name the right one; if each is a class, unpack each into a folder of its own, and name the "
                        "folder around these")


def _not_found(source: str | Path) -> UserError:
    path = Path(source)
    if path.is_symlink():
        return UserError(f"{source} is a link to {path.readlink()}, which does not exist", "name the folder itself")
    if path.exists():
        return UserError(f"{source} is neither a file nor a folder", f"name {_DATA}")
    siblings: list[str] = []
    with contextlib.suppress(OSError):  # there may be no such folder, or it may not be readable
        siblings = sorted(entry.name for entry in path.parent.iterdir())
    if [name for name in siblings if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", path.name)]:
        return UserError(f"there is no {source}, but a folder whose name is the same text in another Unicode form",
                         "complete its name with the tab key, or name it with a wildcard")
    close = closest_match(path.name, [*NAMES, *siblings])
    remedy = f"did you mean {close if close in NAMES else path.with_name(close)}?" if close else f"name {_DATA}"
    return UserError(f"there is no {source}", remedy)
