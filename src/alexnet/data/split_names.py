"""Recognize the folders of a split by their names: Train, training_set, seg_train, val, validation, dev, test1, ..."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Literal

Kind = Literal["train", "val", "test", "unlabeled"]
"""Of a folder. `unlabeled` is a folder of images to predict, which have no labels."""

_PRECEDENCE: tuple[Kind, ...] = ("train", "val", "test", "unlabeled")
"""Of two kinds in one name, the first is that of the folder."""

_WORDS: dict[str, Kind] = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "eval", "evaluation", "dev", "holdout",
                     "holdouts", "valtest"), "val"),
    **dict.fromkeys(("test", "tests", "testing", "tst"), "test"),
    **dict.fromkeys(("pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled", "unsupervised",
                     "inference", "submission"), "unlabeled"),
}

_AFFIXES = {"set", "data", "dataset", "datasets", "image", "images", "img", "imgs", "split", "folder", "dir", "photo",
            "photos", "picture", "pictures", "pics", "file", "files", "sample", "samples", "seg", "labeled", "labelled",
            "small", "full", "final", "new", "resized", "cropped", "original", "classification",
            "cross", "jpegimages", "mini", "subset", "clean", "raw", "processed", "augmented", "aug", "balanced",
            "public", "private", "hidden", "only", "to", "me", "stage1", "stage2"}
"""Words that may stand beside a split's word and change nothing: train_images, seg_train, Training Set."""

_SET_ASIDE = {"old", "backup", "bak", "unused", "deprecated"}
"""Words in the name of a folder that somebody keeps and does not use: val_old."""

_GLUED = re.compile(rf"(?:public|private|hidden)?({'|'.join(sorted(_WORDS, key=len, reverse=True))})"
                    r"(?:set|sets|data|dataset|images?|imgs?|split|folder|photos|pics|files)?\d*")
"""One word, such as trainset, testdata, PublicTest or test1."""

_LETTERED = re.compile(r"(train|test|val)[ab]")
"""Pairs of image sets for image translation (CycleGAN): trainA, trainB, testA, testB."""

_SEPARATORS = re.compile(r"[\s_\-.,()\[\]]+")


def split_kinds(names: Iterable[str]) -> dict[str, Kind]:
    """Which of the names of sibling folders are those of a split, and of which kind.

    A name with other words in it (chest_xray_train) counts if the same words stand in a sibling of another kind
    (chest_xray_test): train_station is a class.
    """
    parsed = {name: found for name in names if (found := _parse(name))}
    kinds_of_rest = Counter(rest for kind, rest in set(parsed.values()))
    return {name: kind for name, (kind, rest) in parsed.items() if not rest or kinds_of_rest[rest] > 1}


def is_only_a_split(name: str) -> bool:
    """Whether a folder among class folders has a name of a split that no class has: trainval, train_old.

    `split_kinds` leaves out the splits that are set aside, as they are no splits of the data set. A class may be called
    train, or old train.
    """
    if not (found := _parse(name)) or not set(found[1]) <= _SET_ASIDE:
        return False
    words = _words(name)
    train_alone = set(_kinds(words).values()) == {"train"} and "trainval" not in words
    return not train_alone or words[-1] in _SET_ASIDE


def _words(name: str) -> list[str]:
    return [word for word in _SEPARATORS.split(unicodedata.normalize("NFKC", name).casefold()) if word]


def _kinds(words: Iterable[str]) -> dict[str, Kind]:
    """Of the words, those of a split."""
    return {word: _WORDS[match[1]] for word in words
            if (match := _GLUED.fullmatch(word) or _LETTERED.fullmatch(word))}


def _parse(name: str) -> tuple[Kind, tuple[str, ...]] | None:
    """The kind of a name and its other words; None if it has no word of a split, or words of several.

    Two stand together in train_val, images for training of which a part may be held out, and in val_test.
    """
    words = _words(name)
    kinds = _kinds(words)
    found = set(kinds.values())
    if len(found) != 1 and found not in ({"train", "val"}, {"val", "test"}):
        return None
    kind = next(kind for kind in _PRECEDENCE if kind in found)
    rest = tuple(other for other in words if other not in kinds and other not in _AFFIXES
                 and not re.fullmatch(r"v?\d+", other))
    return kind, rest


def is_neutral(name: str) -> bool:
    """Whether a folder's name says nothing about a class, such as images, unknown, or the name of a split."""
    words = _SEPARATORS.split(name.casefold())
    return all(word in {*_AFFIXES, "unknown", ""} for word in words) or _parse(name) is not None
