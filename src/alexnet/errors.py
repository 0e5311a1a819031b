"""Errors and warnings as values: `UserError` (a user's mistake), `Finding` (a diagnosis), `did_you_mean`.

The command line and the server print them as sentences, for which `plural`, `some`, `and_list` and others make the
parts. No code parses a sentence.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Never


class UserError(ValueError):
    """A user's mistake. The command line prints it as one sentence, "problem; remedy", and exits with code 2.

    Attributes:
        problem: what is wrong, with the value and the rule: "crop 224 exceeds image side 200".
        remedy: what the user can do: "pack with --side 224 or more". May be empty.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem, self.remedy = problem, remedy

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str]]:
        return type(self), (self.problem, self.remedy)


class FieldError(UserError):
    """An impossible value of one field of a recipe or a run. The caller that knows which option set it names that.

    Attributes:
        field: the field's name: "batch_size".
        value: what it was set to.
        rule: what it must be: "must be at least 1".
    """

    def __init__(self, field: str, value: object, rule: str, remedy: str = "") -> None:
        super().__init__(f"{field} {value} {rule}", remedy)
        self.field, self.value, self.rule = field, value, rule

    def __reduce__(self) -> tuple[type[FieldError], tuple[str, object, str, str]]:  # type: ignore[override]
        return type(self), (self.field, self.value, self.rule, self.remedy)

    def raise_as(self, name: str) -> Never:
        """Raise the same error with the field under another name, such as the option that set it: "--batch-size"."""
        raise UserError(f"{name} {self.value} {self.rule}", self.remedy) from self


@dataclass(frozen=True)
class Finding:
    """A diagnosis that is not an error: something the user should know and can change."""

    kind: str
    """The category, one word that code may compare: "saturated", "dead", "loss_not_falling"."""
    subject: str
    """The layer, file or class concerned."""
    problem: str
    """What was measured, with the numbers."""
    remedy: str = ""
    """What the user can do."""

    def __str__(self) -> str:
        problem = f"{self.subject}: {self.problem}" if self.subject else self.problem
        return f"{problem}; {self.remedy}" if self.remedy else problem


def require(holds: bool, problem: str, remedy: str = "") -> None:
    """Raise `UserError(problem, remedy)` if the condition does not hold."""
    if not holds:
        raise UserError(problem, remedy)


def reason_of(error: Exception) -> str:
    """What is wrong with a file's content, where reading it raised `error`: a missing key by name, or its message."""
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def quoted_bytes(data: bytes) -> str:
    """The first bytes of a file for a sentence: `'<html> <body>'` if they are text, else `the bytes 89 50 4e 47`."""
    text = data.decode("ascii", "replace")
    words = " ".join(text.split())
    return f"'{words}'" if text.isascii() and words.isprintable() else f"the bytes {data.hex(' ')}"


def plural(count: int, one: str, many: str = "") -> str:
    """`1 image`, `1,200 images`; `many` for a plural that does not only add an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def such_as(count: int, example: str) -> str:
    """The end of a sentence on `count` things: ", such as EXAMPLE", or ": EXAMPLE" for the only one."""
    return f": {example}" if count == 1 else f", such as {example}"


def some(items: Iterable[str], limit: int = 5) -> str:
    """The first items as a list in a sentence, and the number of the others: `cat, dog and 3 more`."""
    every = list(items)
    return ", ".join(every[:limit]) + (f" and {len(every) - limit:,} more" if len(every) > limit else "")


def and_list(words: tuple[str, ...]) -> str:
    """Words as a sentence has them: "a", "a and b", "a, b and c"; "" without any."""
    *first, last = words or ("",)
    return f"{', '.join(first)} and {last}" if first else last


def first_difference(first: object, second: object, names: tuple[str, str] = ("then", "now")) -> str:
    """The first value that differs between two JSON trees, as text: `learning_rate: 0.01 then, 0.1 now`."""
    if isinstance(first, dict) and isinstance(second, dict):
        key = next(key for key in first if first[key] != second.get(key))
        return f"{key}: {first_difference(first[key], second.get(key), names)}"
    return f"{first!r} {names[0]}, {second!r} {names[1]}"


def closest_match(word: str, known: Iterable[str]) -> str | None:
    """The known word of which `word` is most likely a misspelling, or None."""
    # Above 0.65 one letter of three may differ (fc9, fc6); below, "tench" would match "nosuch".
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.65)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The remedy for an unknown word: the closest known word, or a list of them; of more than 30, the first five."""
    known = list(known)
    if close := closest_match(word, known):
        return f"did you mean {close}?"
    return f"known are {some(known, 30 if len(known) <= 30 else 5)}"
