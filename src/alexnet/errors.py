"""Problems as values: a user's mistake (`UserError`), a diagnosis (`Finding`), and `did you mean` for an unknown word.

The command line and the server make the sentences. No code reads a problem back out of a sentence.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class UserError(ValueError):
    """A mistake of the user's. The command line prints one sentence and exits with code 2; nothing was written.

    Attributes:
        problem: what is wrong, with the value and the rule: "crop 224 exceeds the image side 200".
        remedy: what to do about it: "pack with --side 224 or more". Empty where there is nothing to do.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem, self.remedy = problem, remedy

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str]]:
        return type(self), (self.problem, self.remedy)


@dataclass(frozen=True)
class Finding:
    """A diagnosis that is no error: something that a user should know, and can do something about."""

    kind: str
    """What sort of finding it is, one word that code may compare: "saturated", "dead", "loss_not_falling"."""
    subject: str
    """What it is about: a layer, a file, a class."""
    problem: str
    """What was seen, with the numbers."""
    remedy: str = ""
    """What to do about it."""

    def __str__(self) -> str:
        said = f"{self.subject}: {self.problem}" if self.subject else self.problem
        return f"{said}; {self.remedy}" if self.remedy else said


def require(holds: bool, problem: str, remedy: str = "") -> None:
    """Raise `UserError(problem, remedy)` unless it holds."""
    if not holds:
        raise UserError(problem, remedy)


def closest_match(word: str, known: Iterable[str]) -> str | None:
    """The known word that an unknown one is most likely a misspelling of, or None."""
    # Above 0.65 one letter of three may differ (fc9, fc6); below, "tench" would match "nosuch".
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.65)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy for an unknown word: the closest known one, else a list of them (the first thirty)."""
    known = list(known)
    if close := closest_match(word, known):
        return f"did you mean {close}?"
    more = f" and {len(known) - 30:,} more" if len(known) > 30 else ""
    return f"known are {', '.join(known[:30])}{more}"
