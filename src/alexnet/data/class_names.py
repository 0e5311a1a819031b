"""Class names of a network's outputs: read a `--classes` file (text, JSON, Python dict), and check names.

The order of the names is the order of the outputs. Nothing in a file is executed.
"""

from __future__ import annotations

import ast
import codecs
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from alexnet.data.dataset import distinct
from alexnet.data.imagenet_classes import NAMES
from alexnet.errors import UserError, require

_ONE_A_LINE = "write one name a line, in the order of the network's outputs"

_WNID_LINE = re.compile(r"(n\d{8})(?:[\s,:]+(.*))?")
"""`n01440764 tench, Tinca tinca`, or the WordNet ID alone."""


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read the class names in a file, in the order of the outputs.

    The file holds one name a line, in UTF-8 or UTF-16; or a list of names, a mapping from index to name, or a mapping
    from name to index (torchvision's `class_to_idx`), as JSON or as Python prints it. Lines may begin with their index,
    counted from 0 (`0 ash`), or be WordNet IDs with or without names (`n01440764 tench`).

    Raises:
        UserError: the file is no such file, or has an empty line between names, or a name twice.
    """
    require(path.is_file(), f"{path} is not a file", f"name a text file; {_ONE_A_LINE}")
    text = _decode(path.read_bytes(), path).strip()
    require(bool(text), f"{path} holds no class names", _ONE_A_LINE)
    tree = _parse_tree(text) if text[0] in "[{(" else None
    if tree is None:
        names = _names_of_lines([line.strip() for line in text.splitlines()], path)
    else:
        listed = names_in_order(tree)
        require(listed is not None, f"{path} is neither a list of names nor a mapping between names and the indices "
                "0, 1, 2, ...", _ONE_A_LINE)
        names = readable_names(listed or ())
    require_distinct(names, f"{path}: ")
    return names


def require_distinct(names: Sequence[str], where: str = "") -> None:
    """Raise UserError, with both positions, for two classes of one name."""
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in first:
            raise UserError(f"{where}two classes are named {name!r}, those of outputs {first[name]} and {index}",
                            "each class needs a name of its own")
        first[name] = index


def require_count(names: Sequence[str], outputs: int, where: str = "") -> None:
    """Raise UserError, with the first and the last name, if there is not one name for each output."""
    first_last = f": the first name is {names[0]!r}, the last {names[-1]!r}" if names else ""
    require(len(names) == outputs, f"{where}{len(names)} names of classes were given, and the network has "
            f"{outputs} outputs{first_last}", _ONE_A_LINE)


def unknown_names(outputs: int) -> tuple[str, ...]:
    """What the outputs of a network without class names are called: output 0, output 1, ..."""
    return tuple(f"output {index}" for index in range(outputs))


def names_in_order(tree: object) -> tuple[str, ...] | None:
    """The names in a list, in a mapping from index to name, or in one from name to index; None for anything else.

    A name may also be a pair of WordNet ID and name, as in Keras' imagenet_class_index.json.
    """
    if isinstance(tree, Mapping):
        # Numbered class folders have digits on both sides, {"0": 0, "1": 1, "10": 2}; only the indices are integers.
        is_index_of_name = all(isinstance(value, int) for value in tree.values())
        items = [(value, key) if is_index_of_name else (key, value) for key, value in tree.items()]
        by_index = {_index(index): name for index, name in items}
        if by_index.keys() != set(range(len(tree))):
            return None
        return _strings(by_index[index] for index in range(len(tree)))
    return _strings(tree) if isinstance(tree, Sequence) and not isinstance(tree, str | bytes) else None


def misnumbered(tree: object) -> str:
    """What is wrong with the indices of a mapping as in `names_in_order` that do not count 0, 1, 2, ...; or empty."""
    if not isinstance(tree, Mapping) or not tree:
        return ""
    by_name = all(isinstance(key, str) and _index(value) is not None for key, value in tree.items())
    by_index = all(isinstance(value, str) and _index(key) is not None for key, value in tree.items())
    if not by_name and not by_index:
        return ""
    indices = [index for index in map(_index, tree.values() if by_name else tree) if index is not None]
    if sorted(indices) == list(range(len(indices))):
        return ""
    return (f"its {len(indices)} class names have indices from {min(indices)} to {max(indices)}, and must have 0 to "
            f"{len(indices) - 1}, each once")


def _index(value: object) -> int | None:
    """3 for 3 and "3"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else None


def _strings(values: Iterable[object]) -> tuple[str, ...] | None:
    names = []
    for value in values:
        if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(part, str) for part in value):
            names.append(f"{value[0]} {str(value[1]).replace('_', ' ')}")
        elif isinstance(value, str):
            names.append(value.strip())
        else:
            return None
    return tuple(names) if names and all(names) else None


def _decode(data: bytes, path: Path) -> str:
    """The text of a file in UTF-8 or UTF-16, with or without a byte order mark."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in data[:2]:  # the first letter has two bytes, of which one is 0
        encoding = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    else:
        encoding = "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path} is not a text in UTF-8 or UTF-16: line {line} has the byte "
                        f"0x{data[error.start]:02x}", "save it as UTF-8") from error


def _parse_tree(text: str) -> object:
    """JSON, or a list or dict as Python prints it; None for text that only begins like one."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)  # reads literals and executes nothing
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _names_of_lines(lines: Sequence[str], path: Path) -> tuple[str, ...]:
    require(all(lines), f"{path}: line {[*lines, ''].index('') + 1} is empty", _ONE_A_LINE)
    numbered = [re.fullmatch(rf"{index}(?:[\s,:]+)(.+)", line) for index, line in enumerate(lines)]
    return readable_names([match[1] if match else line for match, line in zip(numbered, lines, strict=True)]
                          if all(numbered) else lines)


def readable_names(lines: Sequence[str]) -> tuple[str, ...]:
    """The readable name of each line, if all of them begin with WordNet IDs; else the lines."""
    matches = [_WNID_LINE.fullmatch(line) for line in lines]
    wnids = [match[1] for match in matches if match]
    if len(wnids) < len(lines):
        return tuple(lines)
    names = [NAMES.get(match[1]) or (match[2] or match[1]).split(",")[0].strip() for match in matches if match]
    return distinct(names, wnids)


def printable(name: str) -> str:
    """A file's or class's name as one line of valid UTF-8: file names on a disk may be any bytes."""
    return " ".join(valid_utf8(name).split())


def valid_utf8(name: str) -> str:
    """The name with each byte that is not UTF-8 as `\\xe9`, so that different names stay different."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a surrogate pair, as names on Windows may have
        return name.encode("utf-8", "backslashreplace").decode()
