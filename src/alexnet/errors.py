"""What can be wrong with what a user gives, and the nearest known word for an unknown one. Imports nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def check(holds: bool, message: str) -> None:
    """Raises ValueError with the message unless it holds."""
    if not holds:
        raise ValueError(message)


# --- Finding them -----------------------------------------------------------------------------------------------------


def slip_of(word: str, known: Iterable[str]) -> str | None:
    """The known word that an unknown one is a slip of the pen of, if there is one."""
    # Above 0.65 one letter of three may be wrong (fc9, fc6); below, tench answers to nosuch.
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.65)), None)


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean ...?` for an unknown word, or what is known, of a thousand classes the first thirty."""
    known = list(known)
    if close := slip_of(word, known):
        return f"did you mean {close}?"
    more = f" and {len(known) - 30:,} more" if len(known) > 30 else ""
    return f"known are {', '.join(known[:30])}{more}"
