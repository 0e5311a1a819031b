"""Recognize augmented, resized and other derived copies of images by their names.

A copy of a training image in the test set makes the error look better than it is. No content hash shows a copy that was
flipped or resized, but its name often does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

_MADE = r"aug(?:ment(?:ed|ations?)?)?|flipped|mirrored|rotated|resized|cropped"
COPY = (r"copy|copie|copia|c(?:o\u0301|\u00f3)pia|kopi[ea]|kopya|\u043a\u043e\u043f\u0438\u044f|\u526f\u672c|"
        r"\u30b3\u30d4\u30fc")
"""What Windows and macOS write into the name of a copy, in English, French, Italian, Portuguese, German, Polish,
Turkish, Russian, Chinese and Japanese."""
_WORDS = (rf"{_MADE}|flip|[hv]flip|mirror|rot(?:ation)?|resize|crop|thumb(?:nail)?|edited|blur(?:red)?|noisy?|"
          r"gr[ae]y(?:scale)?|bright(?:ness)?|(?:new)?flip(?:lr|tb|ud)|"
          r"(?:new)?\d{2,3}deg(?:flip(?:lr|tb|ud))?|newpixel|" + COPY)
"""What programs and people write into the name of an image that was made from another one."""

_END = re.compile(rf"(?:[\s_\-.\u2014]+(?:{_WORDS})(?:[\s_\-.]?\d*|\s?\(\d+\))|"
                  r"[\s_\-]\d{2,4}x\d{2,4}|\.rf\.[0-9a-f]+)$", re.IGNORECASE)
"""cat_flip, cat_rot90, cat - Copy (2), cat_newPixel25 (PlantVillage), cat-150x150 (WordPress), cat_jpg.rf.0a1b
(Roboflow)."""
_START = re.compile(rf"^(?:(?:{COPY})[\s_]+(?:\(\d+\)[\s_]+)?(?:of|di|de|von)|{_WORDS})[\s_\-.]+", re.IGNORECASE)
"""aug_cat, Copy of cat."""
_NUMBERED = re.compile(r"(.*[^\s_])[\s_]?\(\d+\)")
"""cat (1)."""
_MOST_NUMBERED = 3
"""Images of a name and a number in brackets that are copies of the image with the bare name. More of them are other
images that were downloaded under one name: images.jpg, images (1).jpg to images (80).jpg."""
_ANY = re.compile(rf"{COPY}|aug|flip|mirror|rot|resiz|crop|thumb|edit|blur|noi|gr[ae]y|bright|deg|pixel|\dx\d|\.rf\.")
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
    train, held_out = list(train), list(held_out)
    bare = _numbered_copies((*train, *held_out))
    originals = {_key(path, bare): path for path in train}
    return [(path, originals[key]) for path in held_out if (key := _key(path, bare)) in originals]


def _numbered_copies(paths: Iterable[str]) -> dict[str, str]:
    """For each `cat (1)`, the name of `cat`, if there is one and few are numbered; both with folder, without case."""
    names = {path.rpartition(".")[0].casefold() for path in paths}
    bare = {name: match[1] for name in names
            if name.endswith(")") and (match := _NUMBERED.fullmatch(name)) and match[1] in names}
    count = Counter(bare.values())
    return {name: original for name, original in bare.items() if count[original] <= _MOST_NUMBERED}


def _key(path: str, bare: Mapping[str, str]) -> str:
    """Equal for images that come from one image: the folder, and the name of the original, without case."""
    name = path.rpartition(".")[0].casefold()
    folder, _, stem = bare.get(name, name).rpartition("/")
    return f"{folder}/{original_stem(stem)}"
