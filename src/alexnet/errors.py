"""Errors and warnings as values: `UserError` (a user's mistake), `Finding` (a diagnosis), `did_you_mean`.

The command line and the server print them as sentences. No code parses a sentence.
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


def plural(count: int, one: str, many: str = "") -> str:
    """`1 image`, `1,200 images`; `many` for a plural that does not only add an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def such_as(count: int, example: str) -> str:
    """The end of a sentence on `count` things: ", such as EXAMPLE", or ": EXAMPLE" for the only one."""
    return f": {example}" if count == 1 else f", such as {example}"


def closest_match(word: str, known: Iterable[str]) -> str | None:
    """The known word of which `word` is most likely a misspelling, or None."""
    # Above 0.65 one letter of three may differ (fc9, fc6); below, "tench" would match "nosuch".
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.65)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The remedy for an unknown word: the closest known word, or a list of the first thirty known words."""
    known = list(known)
    if close := closest_match(word, known):
        return f"did you mean {close}?"
    more = f" and {len(known) - 30:,} more" if len(known) > 30 else ""
    return f"known are {', '.join(known[:30])}{more}"
