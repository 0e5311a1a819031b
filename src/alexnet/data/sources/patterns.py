"""Labels in file names, such as `cat.0.jpg`: the pattern that --labels gives, and the suggestion of one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from alexnet.data.dataset import Dataset
from alexnet.data.sources.labeled import (
    LabeledImage,
    image_files,
    is_test_folder,
    make_dataset,
    split_name,
    split_of_folder,
)
from alexnet.data.tree import FileTree
from alexnet.errors import UserError, require

WILDCARDS = {"n": r"\d+", "any": ".*"}
"""What may stand in braces in a simple pattern, beside the field that is looked for."""

_EXAMPLES = "such as '{label}.{n}.jpg', or a regular expression such as '(?P<label>[a-z]+)\\.\\d+'"


def is_pattern(labels: str) -> bool:
    """Whether the value of --labels is a pattern, and not the path of a table."""
    return "{label}" in labels or "(?P<label>" in labels


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The regular expression of a simple pattern, whose other characters stand for themselves, or of one as it is.

    A simple pattern has {label} and may have {n}, digits, and {any}. Raises UserError for one that cannot be used.
    """
    if "{label}" not in pattern:
        return compile_simple(pattern, "label", {})
    parts = re.split(r"\{(\w+)\}", pattern)
    unknown = [part for part in parts[1::2] if part not in WILDCARDS and part != "label"]
    require(not unknown, f"the label pattern {pattern!r} has {{{''.join(unknown[:1])}}}",
            "only {label}, {n} (digits) and {any} have a meaning")
    require(parts.count("label") == 1, f"the label pattern {pattern!r} has {{label}} twice", "use it once")
    require_apart(pattern, "label", ["label"])
    return compile_simple(pattern, "label", {"label": r"(?P<label>.+?)"})


def require_apart(pattern: str, kind: str, fields: Collection[str]) -> None:
    """Raise UserError for a field of a simple pattern beside {any} or another field: where it ends is not stated.

    Such a field would match one letter. Beside {n} it ends at the digits.

    Args:
        pattern: a simple pattern.
        kind: what the pattern is for, for the error.
        fields: the names of its fields, without `WILDCARDS`.
    """
    open_ended = {*fields, "any"}
    for first, second in re.findall(r"\{(\w+)\}(?=\{(\w+)\})", pattern):
        require(not {first, second} <= open_ended, f"the {kind} pattern {pattern!r} has {{{first}}}{{{second}}} side "
                "by side, and does not say where the one ends and the other begins",
                f"write what stands between them in the file names, as in '{{{first}}}_{{{second}}}', or leave one out")


def compile_simple(pattern: str, kind: str, fields: Mapping[str, str]) -> re.Pattern[str]:
    """The regular expression of a pattern with fields in braces, or of one that is a regular expression already.

    Args:
        pattern: a simple pattern, whose other characters stand for themselves, if there are `fields`.
        kind: what the pattern is for, for the error.
        fields: name -> expression of each field, beside `WILDCARDS`.
    """
    if fields:
        parts = re.split(r"\{(\w+)\}", pattern)
        meaning = {**WILDCARDS, **fields}
        return re.compile("".join(meaning[part] if index % 2 else re.escape(part) for index, part in enumerate(parts))
                          + r"\Z", re.IGNORECASE)
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"the {kind} pattern {pattern!r} is not a regular expression: {error}",
                        f"give one {_EXAMPLES.replace('label', kind)}") from error


def open_pattern(tree: FileTree, pattern: str, held_out: float, seed: int) -> Dataset:
    """The images whose names match a pattern from their beginning; its group `label` is the class.

    A pattern with a slash is matched against the path within the data, any other against the file's name.
    """
    expression, found, unmatched = compile_pattern(pattern), [], []
    for file in image_files(tree):
        match = expression.match(file if "/" in pattern else file.rpartition("/")[2])
        if match and match["label"]:
            found.append(LabeledImage(file, match["label"], split_of_folder(file)))
        else:
            unmatched.append(file)
    require(bool(found), f"the label pattern {pattern!r} matches none of the {len(unmatched):,} images of {tree.source}"
            + (f", such as {unmatched[0]}" if unmatched else ""), f"give one {_EXAMPLES}")
    return make_dataset(tree, found, f"the pattern {pattern!r} of the file names", held_out, seed, unlabeled=unmatched)


_NUMBERED = re.compile(r"(?P<label>.*[^\W\d_](?:\d+(?=[ ._-]))?)(?P<separator>[ ._-]*)(?P<open>\(?)\d+(?P<close>\)?)"
                       r"\.(?P<end>\w+)")
"""A label ends in a letter, or in digits before a separator, as WordNet IDs do."""
_MAX_CLASSES = 1_000
_ANNOTATIONS = re.compile(r"annot|trimap|mask|segment|label|ground.?truth|\bgt\b|depth", re.IGNORECASE)
"""In the path of a folder: its images are not photographs, but annotations with the same names."""


def suggest_pattern(files: Sequence[str]) -> str | None:
    """A pattern for names such as `cat.0.jpg` and `dog_12.jpg`; None if these are not names and numbers of classes.

    Images in folders of test images and of annotations are not considered. The others must be in one folder, or
    directly in the folders of the splits: images in several other folders may be labeled by these.
    """
    files = [file for file in files if not is_test_folder(file)]
    images = [file for file in files if not _ANNOTATIONS.search(file.rpartition("/")[0])]
    folders = {file.rpartition("/")[0] for file in images}
    if len(folders) != 1 and not all(split_name(folder.rpartition("/")[2]) for folder in folders):
        return None
    folder = f"{min(folders)}/".lstrip("/") if len(folders) == 1 and len(images) < len(files) else ""
    files = images
    forms: Counter[tuple[str, ...]] = Counter()
    labels: Counter[str] = Counter()
    for file in files:
        if match := _NUMBERED.fullmatch(file.rpartition("/")[2]):
            forms[match["separator"], match["open"], match["close"], match["end"]] += 1
            labels[match["label"]] += 1
    matched = sum(forms.values())
    if not forms or matched < 0.9 * len(files) or not 2 <= len(labels) <= min(_MAX_CLASSES, matched / 2):
        return None
    ends = {form[3] for form in forms}
    separators = {form[:3] for form in forms}
    if len(separators) > 1:
        return None
    separator, opening, closing = separators.pop()
    return f"{folder}{{label}}{separator}{opening}{{n}}{closing}.{ends.pop() if len(ends) == 1 else '{any}'}"
