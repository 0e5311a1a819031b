"""Labels and splits that stand beside the images in a form that is not read: what they are, and what to do.

MATLAB, Excel, JSON and XML files, annotations of objects (COCO, YOLO, Pascal VOC), and lists such as train.txt.
"""

from __future__ import annotations

import re

from alexnet.data.split_names import split_kinds
from alexnet.data.tree import FileTree, is_junk_file
from alexnet.errors import some

_OBJECTS = re.compile(r"(^|/)(instances_[^/]*\.json|[^/]*_annotations\.coco\.json|data\.ya?ml|"
                      r"(Annotations|annotations/xmls)/[^/]+\.xml|labels/([^/]+/)?[^/]+\.txt)$")
"""Of COCO, Roboflow, YOLO and Pascal VOC."""
_TABLES = re.compile(r"(^|/)([^/]*\.(xlsx?|ods)|[^/]*(label|anno|class|split|setid|list)[^/]*\.(mat|json|xml|pkl))$",
                     re.IGNORECASE)
_MAX_DEPTH = 3
_AS_TABLE = "write its labels into a CSV table of file_name and label, and name that with --labels"


def suggest_for_unread_labels(tree: FileTree) -> str:
    """The remedy for images without class folders, if files that are not read may label them; else "".

    The sentence follows `or`.
    """
    if objects := next(filter(_OBJECTS.search, tree.files), ""):
        return (f"if {objects} marks the objects in the images: a classifier needs one label for each image, so cut "
                "the objects out, or write a CSV table of file_name and label, and name that with --labels")
    if table := next(filter(_TABLES.search, tree.files), ""):
        ending = table.rpartition(".")[2]
        return f"if {table} holds the labels, {_AS_TABLE}; a .{ending} file is not read"
    if lists := [file for file in split_lists(tree) if file.lower().endswith(".txt")]:
        return f"if {lists[0]} lists images with their labels, add --labels {lists[0]}"
    return ""


def split_lists(tree: FileTree) -> list[str]:
    """Files whose names are those of splits, such as meta/train.txt, TestImages.txt and lists/test_list.mat."""
    return [file for file in tree.files if file.lower().endswith((".txt", ".lst", ".mat", ".json"))
            and file.count("/") <= _MAX_DEPTH and not is_junk_file(name := file.rpartition("/")[2])
            and _names_split(name.rpartition(".")[0])]


def _names_split(stem: str) -> bool:
    if re.fullmatch(r"train_?test_?split|trainval|setid|splits?", stem, re.IGNORECASE):
        return True
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", stem)  # TrainImages
    words = re.sub(r"[\s_\-]*(list|labels?|files?|names?)$", "", words, flags=re.IGNORECASE)
    return split_kinds([words]).get(words, "unlabeled") != "unlabeled"


def note_unused_splits(tree: FileTree) -> list[str]:
    """A note on lists that may state a split, for data of which a fraction is held out by chance."""
    files = split_lists(tree)
    return [f"{some(files, 3)} may state which images are for testing, and {'are' if len(files) > 1 else 'is'} not "
            "used, so the error is not that of this split; to use it, sort the images into train/ and test/, or name a "
            "table of file_name, label and split with --labels"] if files else []
