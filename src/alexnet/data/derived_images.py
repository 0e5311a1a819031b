"""Recognize augmented, resized and other derived copies of images by their names.

A copy of a training image in the test set makes the error look better than it is. No content hash shows a copy that was
flipped or resized, but its name often does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_MADE = r"aug(?:ment(?:ed|ations?)?)?|flipped|mirrored|rotated|resized|cropped"
_WORDS = (rf"{_MADE}|flip|[hv]flip|mirror|rot(?:ation)?|resize|crop|thumb(?:nail)?|edited|blur(?:red)?|noisy?|"
          r"gr[ae]y(?:scale)?|bright(?:ness)?|copy")
"""What programs and people write into the name of an image that was made from another one."""

_END = re.compile(rf"(?:[\s_\-.]+(?:{_WORDS})[\s_\-.]?\d*|[\s_\-]\d{{2,4}}x\d{{2,4}}|\.rf\.[0-9a-f]+)$", re.IGNORECASE)
"""cat_flip, cat_rot90, cat-150x150 (WordPress), cat_jpg.rf.0a1b (Roboflow)."""
_START = re.compile(rf"^(?:{_WORDS})[\s_\-.]+", re.IGNORECASE)
"""aug_cat."""
_ANY = re.compile(r"aug|flip|mirror|rot|resiz|crop|thumb|edit|blur|noi|gr[ae]y|bright|copy|\dx\d|\.rf\.")
"""In lower case, what each name has from which something is removed. Most names have nothing: 5 s for a million."""
_FOLDER = re.compile(rf"_*(?:{_MADE}|thumb(?:nail)?s?|duplicates?|backups?)(?:[\s_\-]*(?:images?|photos?|data|"
                     r"\d+(?:x\d+)?))*", re.IGNORECASE)
_CLASS_START = re.compile(rf"^(?:{_MADE})[\s_\-]+", re.IGNORECASE)
_CLASS_END = re.compile(rf"[\s_\-]+(?:{_MADE}|test|testing|val|valid|validation)$", re.IGNORECASE)
"""Fewer words than for images: a grey wolf is another class than a wolf, and a toy train than a toy."""


def is_derived_folder(name: str) -> bool:
    """Whether a folder inside a class folder has the name of copies of the images beside it, such as thumbs/."""
    return bool(_FOLDER.fullmatch(name))


def original_stem(stem: str) -> str:
    """The name, without extension, of the image that one of this name was made from; the name itself of an original."""
    while _ANY.search(stem.lower()) and (shorter := _START.sub("", _END.sub("", stem))) and shorter != stem:
        stem = shorter
    return stem


def original_class(name: str, classes: Mapping[str, str]) -> str | None:
    """The class of which a class of this name is a form or a part: dog of dog_aug or of dog_test; None for most names.

    Args:
        classes: the names of all classes, by these names without case (`str.casefold`).
    """
    original = _CLASS_START.sub("", _CLASS_END.sub("", name)).casefold()
    return classes.get(original) if original != name.casefold() else None


def held_out_copies(train: Iterable[str], held_out: Iterable[str]) -> list[tuple[str, str]]:
    """The held-out images whose names say that they and a training image of the same folder come from one image.

    Returns:
        For each, its path and that of the training image.
    """
    originals = {_key(path): path for path in train}
    return [(path, originals[key]) for path in held_out if (key := _key(path)) in originals]


def _key(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/{original_stem(name.rpartition('.')[0])}".casefold()
