"""ImageNet unpacked: train/WNID/, and a flat val/ that LOC_val_solution.csv (Kaggle) or the devkit labels."""

from __future__ import annotations

import posixpath
import re

from alexnet.data.dataset import Dataset
from alexnet.data.imagenet_classes import NAMES
from alexnet.data.sources.folders import WNID, require_not_one_class
from alexnet.data.sources.ilsvrc import DEVKIT, TRUTH, read_devkit, read_truth
from alexnet.data.sources.labeled import LabeledImage, image_files, make_dataset
from alexnet.data.sources.tables import parse_table
from alexnet.data.split_names import split_kinds
from alexnet.data.tree import FileTree, FolderTree
from alexnet.errors import UserError, require

SOLUTION = "LOC_val_solution.csv"

_VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG", re.IGNORECASE)


def find_flat_validation(tree: FileTree) -> list[str]:
    """ILSVRC-2012's validation images, if they are in one folder that says nothing about a class; else [].

    People sort some of these images into folders of their own classes, such as cat/ILSVRC2012_val_00000293.JPEG.
    """
    found = [file for file in tree.files if _VALIDATION.fullmatch(posixpath.basename(file))]
    folders = {posixpath.dirname(file) for file in found}
    if len(folders) != 1:
        return []
    folder = folders.pop()
    alone = sum(posixpath.dirname(file) == folder for file in image_files(tree)) == len(found)
    name = posixpath.basename(folder)
    return found if alone and (not name or bool(split_kinds([name])) or name == "ILSVRC2012_img_val") else []


def open_flat_validation(tree: FileTree, validation: list[str], held_out: float, seed: int) -> Dataset:
    """The validation images with the labels of a file in the data, and the training images in folders of WordNet IDs.

    Args:
        validation: as `find_flat_validation` found them.

    Raises:
        UserError: no file labels the validation images.
    """
    labels, source = _validation_labels(tree)
    images, unlabeled, flat = [], [], set(validation)
    for file in image_files(tree):
        parts = file.split("/")[:-1]
        if file in flat:
            match = _VALIDATION.fullmatch(posixpath.basename(file))
            wnid, split = labels.get(int(match[1]), "") if match else "", "val"
        else:
            wnid, split = next(filter(WNID.fullmatch, parts), ""), "val" if "val" in parts else "train"
        if wnid:
            images.append(LabeledImage(file, wnid, split))
        else:
            unlabeled.append(file)
    labeled_by = f"the folders in train/ and by {source} (ImageNet, ILSVRC-2012)"
    return make_dataset(tree, images, labeled_by, held_out, seed, unlabeled=unlabeled, used={source}, words=NAMES)


def _validation_labels(tree: FileTree) -> tuple[dict[int, str], str]:
    """The WordNet ID of each validation image by its number, and the file that says so."""
    named = {posixpath.basename(file): file for file in tree.files}
    if SOLUTION in named:
        return _read_solution(tree, named[SOLUTION]), named[SOLUTION]
    if TRUTH in named:
        wnids = read_truth(tree.read(named[TRUTH]), tree.source)
    elif isinstance(tree, FolderTree) and f"{DEVKIT}.tar.gz" in tree.files:
        wnids = read_devkit(tree.root)
    else:
        require_not_one_class(tree)
        raise UserError(f"{tree.source} has ImageNet's validation images in one folder, and no file with their labels",
                        f"put Kaggle's {SOLUTION}, or ImageNet's {DEVKIT}.tar.gz, into {tree.source}")
    return dict(enumerate(wnids, 1)), TRUTH


def _read_solution(tree: FileTree, file: str) -> dict[int, str]:
    """Kaggle's table of ImageId and PredictionString, which begins with the WordNet ID."""
    table = parse_table(tree.read(file), file)
    require({"ImageId", "PredictionString"} <= set(table.header), f"{file} in {tree.source} has not the columns of "
            "Kaggle's table, ImageId and PredictionString", "download it again")
    pairs = zip(table.column("ImageId"), table.column("PredictionString"), strict=True)
    labels = {name.rpartition("_")[2]: text.partition(" ")[0] for name, text in pairs}
    require(all(number.isdecimal() and WNID.fullmatch(wnid) for number, wnid in labels.items()),
            f"{file} in {tree.source} has a row without an image number or a WordNet ID", "download it again")
    return {int(number): wnid for number, wnid in labels.items()}
