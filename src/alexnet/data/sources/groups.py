"""The --group option: photos that belong together, such as those of one animal, stay in one split or fold.

A group is stated by a pattern of the file names (`{animal}_{n}.jpg`), by the folders below the class folders
(`folder`), or by a table of files and groups.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from statistics import median_low

from alexnet.data.dataset import Dataset, Grouping, SourceImage
from alexnet.data.hold_out import hold_out_groups, note_held_out_copies
from alexnet.data.sources.label_columns import file_columns, plain
from alexnet.data.sources.label_tables import ImageIndex
from alexnet.data.sources.labeled import left_out
from alexnet.data.sources.patterns import WILDCARDS, compile_simple, require_apart
from alexnet.data.sources.tables import TABLE_EXTENSIONS, Table, parse_table
from alexnet.errors import UserError, require, such_as

FOLDER = "folder"
"""As `group`: the images of one folder below a class folder are a group."""

_GROUP_NAMES = {"group", "groups", "groupid", "groupname"}
"""Names of columns, in lower case and without blanks, dashes and underscores."""

_EXAMPLES = 3
"""Groups that a note names."""

_FORMS = ("give a pattern of the file names such as '{animal}_{n}.jpg', the word folder, or a table (CSV, TSV, JSONL) "
          "with columns file_name and group")


def hold_out_by_group(dataset: Dataset, group: str, held_out: float, seed: int, source: Path) -> Dataset:
    """The data set with its groups; if it has no validation split, whole groups are held out for one.

    Args:
        dataset: opened with nothing held out.
        group: what the user gave: a pattern, `folder`, or a table.
        held_out: about this fraction of each class becomes `val`.
        seed: of the choice of the groups.
        source: the folder of the data, in which a table may lie.

    Raises:
        UserError: no image has a group, there is one group only, or none can be held out.
    """
    images = [image for split in dataset.splits.values() for image in split]
    grouping, notes = find_groups(dataset, images, group, source)
    sizes = Counter(grouping.name_of(image.name) for image in images)
    require(len(sizes) > 1, f"--group {group} makes one group of all {len(images):,} images",
            "leave it out, or put into braces what differs between groups; {any} stands for the rest of a name")
    ungrouped = [image.name for image in images if image.name not in grouping.groups]
    counts = sorted(sizes[name] for name in set(grouping.groups.values()))
    spread = "" if counts[0] == counts[-1] else f" to {counts[-1]:,}"
    median = f" (median {median_low(counts):,})" if spread else ""
    notes = [f"--group {group}: {len(counts):,} group{'s' * (len(counts) != 1)} of {counts[0]:,}{spread} "
             f"image{'s' * (counts[-1] != 1)}{median}{_examples(sizes, grouping)}", *notes]
    if ungrouped:
        rest = "has no group, and is" if len(ungrouped) == 1 else "have no group, and each of these is"
        notes.append(f"{len(ungrouped):,} of {len(images):,} images {rest} a group of its own"
                     f"{such_as(len(ungrouped), ungrouped[0])}")
    dataset = replace(dataset, grouping=grouping, notes=(*dataset.notes, *notes))
    return _hold_out(dataset, grouping, held_out, seed) if held_out and len(dataset.splits) == 1 else dataset


def _examples(sizes: Counter[str], grouping: Grouping) -> str:
    """The largest groups, in which a wrong pattern shows: `, such as anna: 6 images, ben: 5 images`."""
    named = Counter({name: sizes[name] for name in sorted(set(grouping.groups.values()))})
    shown = [f"{name.replace(chr(0), ' ')}: {size:,} image{'s' * (size != 1)}"
             for name, size in named.most_common(_EXAMPLES)]
    return f"{', such as' if len(named) > len(shown) else ':'} {', '.join(shown)}"


def _hold_out(dataset: Dataset, grouping: Grouping, held_out: float, seed: int) -> Dataset:
    (train,) = dataset.splits.values()
    groups = [grouping.name_of(image.name) for image in train]
    held = hold_out_groups(groups, [image.label for image in train], held_out, seed)
    require(bool(held), f"--group {grouping.by} leaves nothing to hold out for validation: each of its "
            f"{len(set(groups)):,} groups has all images of a class",
            f"give smaller groups, so that a class has two or more, or put images of other groups into a folder val/; "
            f"{_FORMS}")
    is_held = [group in held for group in groups]
    splits = {"train": [image for image, is_val in zip(train, is_held, strict=True) if not is_val],
              "val": [image for image, is_val in zip(train, is_held, strict=True) if is_val]}
    notes = note_held_out_copies({split: {"": [image.name for image in images]} for split, images in splits.items()})
    return replace(dataset, splits=splits, held_out=held_out, notes=(*dataset.notes, *notes))


def find_groups(
    dataset: Dataset, images: Sequence[SourceImage], group: str, source: Path,
) -> tuple[Grouping, list[str]]:
    """The groups of the images, and notes on rows of a table that name none."""
    notes: list[str] = []
    if group == FOLDER:
        folders = dataset.wnids or dataset.classes
        found = {image.name: _folder_below(image.name, folders[image.label]) for image in images}
        remedy = f"put the images of each group into a folder of their own in the class folder, or {_FORMS}"
        problem = f"--group folder: no image of {dataset.source} lies in a folder below its class folder"
    elif "{" in group or "(?P<" in group:
        expression = _compile(unicodedata.normalize("NFC", group))
        found = {image.name: _match(expression, image.name, "/" in group) for image in images}
        remedy = _other_ending(group, images) or f"compare it with their names; {_FORMS}"
        problem = (f"the pattern of --group {group!r} matches none of the {len(images):,} images of {dataset.source}, "
                   f"such as {images[0].name}")
    else:
        found, notes = _read_table(_open_table(group, source), [image.name for image in images])
        remedy, problem = _FORMS, f"the table of --group {group} gives no image of {dataset.source} a group"
    groups = {name: _key(given) for name, given in found.items() if given}
    require(bool(groups), problem, remedy)
    return Grouping(group, groups), [*notes, *_note_spellings(found.values())]


def _other_ending(group: str, images: Sequence[SourceImage]) -> str:
    """The remedy for a pattern of which only the ending is not that of the images, such as .jpg for .JPEG; else ""."""
    stem, dot, ending = group.rpartition(".")
    for other in sorted({PurePosixPath(image.name).suffix for image in images}) if dot and ending.isalnum() else ():
        expression = _compile(unicodedata.normalize("NFC", stem + other))
        if any(_match(expression, image.name, "/" in group) for image in images):
            return f"the names of these images end with {other}: write --group {shlex.quote(stem + other)}"
    return ""


def _key(name: str) -> str:
    """Equal for names of a group that differ in upper and lower case, or in how a file system composes accents."""
    return unicodedata.normalize("NFC", name.strip().casefold())


def _note_spellings(names: Iterable[str]) -> list[str]:
    first = dict[str, str]()
    others = {name: first[_key(name)] for name in names if name and first.setdefault(_key(name), name) != name}
    if not others:
        return []
    name, same = (each.replace("\0", " ") for each in next(iter(others.items())))
    return [f"{len(others):,} group{'s' * (len(others) != 1)} differ{'s' * (len(others) == 1)} from another only in "
            f"spelling (upper and lower case, or Unicode) and {'is' if len(others) == 1 else 'are'} one group with it"
            f"{such_as(len(others), f'{name!r} and {same!r}')}"]


def _folder_below(name: str, class_folder: str) -> str:
    """The folders between the class folder and the image; "" if there are none, or all if there is no class folder.

    Folders of the same name in two classes are one group: one site, or one patient.
    """
    parts = name.split("/")[:-1]
    keys = [_key(part) for part in parts]
    if _key(class_folder) in keys:
        parts = parts[keys.index(_key(class_folder)) + 1 :]
    return "/".join(parts)


# --- Patterns ---------------------------------------------------------------------------------------------------------


def _compile(pattern: str) -> re.Pattern[str]:
    """The expression of a pattern, whose fields other than {n} and {any} name the group, or of a regular expression.

    A pattern with a slash matches the end of a path, and a field lies within one folder: the same patient in train/mel
    and val/nevus is one group by {patient}/{n}.jpg.
    """
    if "(?P<" in pattern:
        return compile_simple(pattern, "group", {})
    fields = [field for field in re.findall(r"\{(\w+)\}", pattern) if field not in WILDCARDS]
    require(bool(fields), f"the group pattern {pattern!r} names no group", "write one in braces, as in "
            "'{animal}_{n}.jpg'; {n} stands for digits and {any} for anything")
    twice = [field for field, count in Counter(fields).items() if count > 1]
    require(not twice, f"the group pattern {pattern!r} has {{{''.join(twice[:1])}}} twice",
            "use it once")
    bad = [field for field in fields if not field.isidentifier()]
    require(not bad, f"the group pattern {pattern!r} has {{{''.join(bad[:1])}}}, which is not a name",
            "use letters, such as {animal}")
    require_apart(pattern, "group", fields)
    expression = compile_simple(pattern, "group", {field: f"(?P<{field}>[^/]+?)" for field in fields})
    return re.compile(f"(?:.*/)?{expression.pattern}", expression.flags)


def _match(expression: re.Pattern[str], name: str, is_path: bool) -> str:
    """The values of the pattern's fields; "" if the name does not match."""
    name = unicodedata.normalize("NFC", name)
    match = expression.match(name if is_path else name.rpartition("/")[2])
    return "\0".join(value or "" for value in match.groupdict().values()).strip("\0") if match else ""


# --- Tables -----------------------------------------------------------------------------------------------------------


def _open_table(group: str, source: Path) -> Table:
    path = Path(group)
    if not path.is_file():
        path = source / group
    if not path.is_file():
        what = "" if group.lower().endswith(TABLE_EXTENSIONS) else ", and it is not a pattern"
        raise UserError(f"--group {group}: there is no such table on disk or in {source}{what}", _FORMS)
    return parse_table(path.read_bytes(), group)


def _read_table(table: Table, images: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Image -> its group, and notes on rows that name no image."""
    index = ImageIndex(images)
    files = file_columns(table, lambda cell: index.find(cell) if cell else [])
    rest = [name for name in table.header if name and name not in files]
    named = [name for name in rest if plain(name) in _GROUP_NAMES] or rest
    require(len(named) == 1, f"{table.name} has {'several columns' if named else 'no column'} that may be the groups"
            + (f": {', '.join(named)}" if named else ""),
            "copy the table, rename its column of groups to group, and give the copy with --group")
    groups, absent = dict[str, str](), []
    for cell, group in zip(table.column(files[0]), table.column(named[0]), strict=True):
        found = index.find(cell) if cell else []
        require(len(found) < 2, f"{table.name} names {cell}, which may be {' or '.join(found[:2])}",
                "give paths relative to the data")
        absent += [] if found else [cell or "a row without a name"]
        for image in found:
            require(_key(groups.setdefault(image, group)) == _key(group),
                    f"{table.name} has {cell} in two groups, {groups[image]!r} and {group!r}", "leave one row out")
    return groups, left_out(absent, "row", f"of {table.name} without an image in the data")
