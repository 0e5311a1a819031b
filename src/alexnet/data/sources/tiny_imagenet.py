"""Tiny ImageNet (tiny-imagenet-200) as it is downloaded: train/WNID/images, val/val_annotations.txt, words.txt."""

from __future__ import annotations

from alexnet.data.dataset import Dataset
from alexnet.data.imagenet_classes import NAMES
from alexnet.data.sources.folders import WNID
from alexnet.data.sources.labeled import LabeledImage, image_files, left_out, make_dataset
from alexnet.data.sources.tables import decode_text
from alexnet.data.tree import FileTree
from alexnet.errors import require

_ANNOTATIONS = "val/val_annotations.txt"


def find_tiny_imagenet(tree: FileTree) -> str | None:
    """The path of its validation annotations, by which it is recognized; None if there are none."""
    return next((file for file in tree.files if file.endswith(_ANNOTATIONS)), None)


def open_tiny_imagenet(tree: FileTree, annotations: str) -> Dataset:
    """100,000 training and 10,000 validation images of 64 x 64 pixels in 200 classes. The test images have no labels.

    Args:
        annotations: as `find_tiny_imagenet` found them.

    Raises:
        UserError: the training images or lines of the annotations are missing.
    """
    root = annotations.removesuffix(_ANNOTATIONS)
    lines = [line.split("\t") for line in tree.read(annotations).decode("utf-8", "replace").splitlines() if line]
    require(all(len(line) >= 2 and WNID.fullmatch(line[1]) for line in lines),
            f"{annotations} in {tree.source} is damaged: a line has no WordNet ID", "download it again")
    label_of = {f"{root}val/images/{line[0]}": line[1] for line in lines}
    images, unlabeled = [], []
    for file in image_files(tree):
        split, _, rest = file.removeprefix(root).partition("/")
        wnid = rest.partition("/")[0] if split == "train" else label_of.pop(file, "")
        if file.startswith(root) and WNID.fullmatch(wnid):
            images.append(LabeledImage(file, wnid, split))
        else:
            unlabeled.append(file)
    require(any(image.split == "train" for image in images), f"{tree.source} has no {root}train/WNID/images",
            "download it again")
    notes = left_out(list(label_of), "line", "of val_annotations.txt without an image")
    labeled_by = "the folders in train/ and by val_annotations.txt (Tiny ImageNet)"
    words = f"{root}words.txt"
    return make_dataset(tree, images, labeled_by, 0.0, 0, notes, unlabeled, {annotations, words},
                        _read_words(tree, words) | NAMES)


def _read_words(tree: FileTree, file: str) -> dict[str, str]:
    """The readable names of WordNet IDs; empty if there is no such file."""
    if file not in tree.files:
        return {}
    lines = [line.split("\t") for line in decode_text(tree.read(file))[0].splitlines()]
    return {line[0]: line[1].split(",")[0].strip() for line in lines if len(line) == 2}
