"""See in file names that several images are of one object, scene or burst, and suggest the --group that says so.

Names such as `patient12_03.png`, `IMG_001_a.jpg`, `10_left.jpeg` or `clip3/0001.png` have a part that several images
of a class share, and a counter, a letter or a view after it. Names with one such part for the whole class, as cameras
and data sets number their images (`IMG_0001.jpg`, `n01440764_1234.JPEG`, `00012.png`), say nothing.

Shapes: N images.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from alexnet.data.hold_out import hold_out_groups

Item = TypeVar("Item")

_SHARE = 1 / 3
"""Of all images that must have another one of their group, else the names of a few say nothing of the others."""

_MOST_NAMED = 12
"""Median images of a group whose name has no digit (`anna_1`). Above that, names are kinds of things: `persian_180`."""

_SAMPLE = 2_000
"""Images or groups, evenly spaced, that stand for all of them: with a million images, all would take half a minute."""

_VIEWS = "left|right|front|back|rear|side|top|bottom|before|after|above|below|inside|outside"
_COUNTED = "frame|burst|shot|view|angle|cam|camera|img|image|photo|pic|picture|slice|crop|patch|tile|part|page|f"
"""Words between the name of a group and a number: patient12_img03."""

_NUMBER = re.compile(rf"(?P<key>.*[^\W_].*?)(?P<separator>[ _.-]+(?:(?:{_COUNTED})[ _.-]?)?|[ _.-]*\()"
                     r"(?P<number>\d{1,9})\)?", re.IGNORECASE)
_LETTER = re.compile(r"(?P<key>.*\d)[ _.-]?[a-z]", re.IGNORECASE)
_VIEW = re.compile(rf"(?P<key>.*[^\W_])[ _.-](?:{_VIEWS})", re.IGNORECASE)
_WNID = re.compile(r"n\d{8}")
_FRAME = re.compile(r"(?:.*[^a-z])?(?:frames?|frm|(?:video|vid|clip|mvi|mov)[ _.-]?\d+)", re.IGNORECASE)
"""The key of numbered frames of one recording."""

_LETTER_OPTION = r"(?i)(?P<group>.+\d)[\s_.-]?[a-z]\.\w+$"
_VIEW_OPTION = rf"(?i)(?P<group>.+)[\s_.-](?:{_VIEWS})\.\w+$"
"""Options have no blanks, at which a terminal's lines are broken."""

_BLOCKS = ((1_000, r"(?P<group>.*?)\d{1,2}\.\w+$", 100), (100, r"(?P<group>.*?)\d\.\w+$", 10))
"""For frames of one recording a class: images of a class from which blocks of so many consecutive ones are groups."""


@dataclass(frozen=True)
class NameGroups:
    """Groups that the names of images suggest."""

    option: str
    """The value of --group that makes them."""
    what: str
    """What images of a group have in common: "show the same object, scene or burst as"."""
    groups: int
    """With two images or more."""
    smallest: int
    largest: int
    divided: int
    """Validation images of a group that has training images."""
    example: tuple[str, str]
    """The name of one of these, and of a training image of its group."""
    block: int = 0
    """If the option makes blocks of consecutive frames of one recording: their length. `option` is "" for too few."""
    is_recording: bool = False
    """Whether the groups are recordings, so that whole ones are better held out than blocks of them."""


def suggest_groups(
    names_N: Sequence[str], labels_N: NDArray[np.int64], held_N: NDArray[np.bool_], class_folders: Sequence[str] = (),
) -> NameGroups | None:
    """The groups that the names suggest, if some of them are on both sides of the split; else None.

    Args:
        names_N: names of the images, with their folders.
        labels_N: classes.
        held_N: whether an image is a validation image.
        class_folders: names of the class folders, by class; () if the classes are not folders.
    """
    if not held_N.any() or held_N.all():
        return None
    stems_N = [name.rpartition("/")[2].rpartition(".")[0] for name in names_N]
    folders = _folder_keys(names_N, labels_N, class_folders)
    candidates: list[tuple[_Option, _Keys]] = [(_folder_option, folders)] if folders else []
    sampled = _sampled(stems_N)
    forms: tuple[tuple[_Option, re.Pattern[str]], ...] = (
        (_number_option, _NUMBER), (_letter_option, _LETTER), (_view_option, _VIEW))
    for option, pattern in forms:
        if sum(pattern.fullmatch(stem) is not None for stem in sampled) >= _SHARE * len(sampled):
            candidates.append((option, _keys(stems_N, pattern)))
    for option, keys in candidates:
        if (groups := _plausible(keys, labels_N, len(names_N))) and (value := option(names_N, keys)):
            return _described(value, "lie in one folder with" if keys is folders else
                              "show the same object, scene or burst as", groups, keys, names_N, labels_N, held_N)
    return _recordings(names_N, stems_N, labels_N, held_N)


# --- Keys: row of an image -> the name of its group, and its number there ---------------------------------------------

_Keys = Mapping[int, tuple[str, int | None]]
_Option = Callable[[Sequence[str], _Keys], str]
"""Makes the value of --group from the images' names and keys."""
_Groups = Mapping[tuple[int, str], list[int]]
"""Class and name of a group -> rows of its images."""


def _keys(stems_N: Sequence[str], pattern: re.Pattern[str]) -> _Keys:
    matches = ((row, pattern.fullmatch(stem)) for row, stem in enumerate(stems_N))
    return {row: (match["key"].casefold(), int(match["number"]) if "number" in pattern.groupindex else None)
            for row, match in matches if match}


def _folder_keys(names_N: Sequence[str], labels_N: NDArray[np.int64], class_folders: Sequence[str]) -> _Keys:
    """The folders below the class folders, as `--group folder` takes them."""
    keys: dict[int, tuple[str, int | None]] = {}
    for row, (name, label) in enumerate(zip(names_N, labels_N.tolist(), strict=True)):
        parts = name.split("/")[:-1]
        if class_folders and class_folders[label] in parts:
            below = parts[parts.index(class_folders[label]) + 1 :]
            if below:
                keys[row] = "/".join(below).casefold(), None
    return keys


def _plausible(keys: _Keys, labels_N: NDArray[np.int64], images: int) -> _Groups | None:
    """The groups of two images or more, if the keys look like names of things that were photographed several times.

    There are three keys or more in a class, none has more than half of it, and the numbers within a key run without
    large gaps, which times of day and numbers of a collection do not.
    """
    by_class: defaultdict[int, Counter[str]] = defaultdict(Counter)
    found: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for row, (key, _) in keys.items():
        by_class[int(labels_N[row])][key] += 1
        found[int(labels_N[row]), key].append(row)
    varied = {label for label, sizes in by_class.items()
              if len(sizes) >= 3 and max(sizes.values()) <= sizes.total() / 2}
    groups = {(label, key): rows for (label, key), rows in found.items() if label in varied and len(rows) > 1
              and not _WNID.fullmatch(key)}
    if sum(map(len, groups.values())) < max(4, _SHARE * images):
        return None
    sampled = _sampled(list(groups.values()))
    dense = sum(_is_dense([keys[row][1] for row in rows]) for rows in sampled)
    named = sum(not any(map(str.isdigit, key)) for _, key in groups)
    if dense < len(sampled) / 2 or (
            named > len(groups) / 2 and median_low(map(len, groups.values())) > _MOST_NAMED):
        return None
    return groups


def _sampled(items: Sequence[Item]) -> Sequence[Item]:
    return items[:: max(1, len(items) // _SAMPLE)]


def _is_dense(numbers: Iterable[int | None]) -> bool:
    known = [number for number in numbers if number is not None]
    if not known:
        return True
    steps = np.diff(np.unique(known))
    return not len(steps) or float(np.median(steps)) <= 10 or int(steps.min()) == int(steps.max())


# --- Options ----------------------------------------------------------------------------------------------------------


def _folder_option(names_N: Sequence[str], keys: _Keys) -> str:
    return "folder"


def _number_option(names_N: Sequence[str], keys: _Keys) -> str:
    """A pattern such as {group}_{n}.jpg, of the separator and the extension that most names have."""
    forms, ends = Counter[tuple[str, str]](), Counter[str]()
    for row in _sampled(list(keys)):
        stem, _, end = names_N[row].rpartition("/")[2].rpartition(".")
        if match := _NUMBER.fullmatch(stem):
            forms[match["separator"], ")" if stem.endswith(")") else ""] += 1
            ends[end.lower()] += 1
    (separator, closing), _ = forms.most_common(1)[0]
    if " " in separator:
        between = "".join(r"\s" if letter == " " else re.escape(letter) for letter in separator)
        return rf"(?i)(?P<group>.+){between}\d+{re.escape(closing)}\.\w+$"
    return f"{{group}}{separator}{{n}}{closing}.{next(iter(ends)) if len(ends) == 1 else '{any}'}"


def _letter_option(names_N: Sequence[str], keys: _Keys) -> str:
    return _LETTER_OPTION


def _view_option(names_N: Sequence[str], keys: _Keys) -> str:
    return _VIEW_OPTION


def _described(
    option: str, what: str, groups: _Groups, keys: _Keys, names_N: Sequence[str], labels_N: NDArray[np.int64],
    held_N: NDArray[np.bool_],
) -> NameGroups | None:
    """The suggestion; None if no group is on both sides, or none could be held out as a whole."""
    divided, example = 0, ("", "")
    for rows in groups.values():
        held = [row for row in rows if held_N[row]]
        if held and len(held) < len(rows):
            divided += len(held)
            example = example if example[0] else (names_N[held[0]], names_N[next(r for r in rows if not held_N[r])])
    members = [keys[row][0] if row in keys else f"\0{row}" for row in range(len(names_N))]
    if not divided or not hold_out_groups(members, labels_N.tolist(), 0.1, 0):
        return None
    sizes = sorted(map(len, groups.values()))
    return NameGroups(option, what, len(groups), sizes[0], sizes[-1], divided, example)


def _recordings(
    names_N: Sequence[str], stems_N: Sequence[str], labels_N: NDArray[np.int64], held_N: NDArray[np.bool_],
) -> NameGroups | None:
    """Blocks of consecutive frames, where most images of a class are frames of one recording (frame_0001.png)."""
    numbered = re.compile(r"(?P<key>.*?)[ _.-]*(?P<number>\d{1,9})")
    keys = {row: (key, number) for row, (key, number) in _keys(stems_N, numbered).items() if _FRAME.fullmatch(key)}
    sizes = Counter((int(labels_N[row]), key) for row, (key, _) in keys.items())
    if len(keys) < max(20, _SHARE * len(names_N)) or not sizes:
        return None
    smallest = min(sizes.values())
    found = [(option, size) for least, option, size in _BLOCKS if smallest >= least]
    option, size = found[0] if found else ("", 0)
    rows_of: defaultdict[tuple[int, str], dict[int, int]] = defaultdict(dict)
    for row, (key, number) in keys.items():
        rows_of[int(labels_N[row]), key][number or 0] = row
    neighbors = [(row, numbers[near]) for numbers in rows_of.values() for number, row in numbers.items() if held_N[row]
                 for near in (number - 1, number + 1) if near in numbers and not held_N[numbers[near]]]
    if not neighbors:
        return None
    row, near = neighbors[0]
    return NameGroups(
        option, "are frames of one recording, next to", len(sizes), smallest, max(sizes.values()),
        len({row for row, _ in neighbors}), (names_N[row], names_N[near]), size, is_recording=True)
