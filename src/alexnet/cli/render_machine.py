"""Text of `alexnet doctor` and `alexnet cache`: a line for each check with its remedy; a table of the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from alexnet._runtime.cache import size_text

if TYPE_CHECKING:
    from alexnet._runtime.installation import Check
    from alexnet.data.cache_entries import CacheEntry

_MARKS = {"ok": "ok", "missing": "-", "wrong": "!"}


def check_lines(checks: Sequence[Check]) -> Iterator[str]:
    """A line for each check, and below it what to do; a remedy stays on one line, so that it can be copied."""
    width = max(len(check.name) for check in checks)
    for check in checks:
        yield f"{_MARKS[check.state]:2} {check.name:{width}}  {check.found}"
        if check.remedy:
            yield f"{'':{width + 5}}{check.remedy}"
    wrong, missing = (sum(check.state == state for check in checks) for state in ("wrong", "missing"))
    yield (f"{wrong} thing{'s' * (wrong != 1)} to repair (!)" if wrong else "nothing to repair") + (
        f"; {missing} extra{'s' * (missing != 1)} not installed (-)" if missing else "")


def cache_text(folder: str, entries: Sequence[CacheEntry], *, will_be_removed: bool = False) -> str:
    """A line for each entry: size, age, name, source; and their sum, and what the loss of each kind costs."""
    from alexnet.data.cache_entries import KINDS

    total = size_text(sum(entry.bytes for entry in entries))
    count = count_text(len(entries))
    if not entries:
        return f"{folder}: nothing"
    lines = [f"to be removed from {folder}: {count}, {total}" if will_be_removed else f"{folder}: {count}, {total}"]
    lines += [f"{size_text(entry.bytes):>9}  {age_text(entry.age_days):>8}  {entry.name}{_remark(entry)}"
              for entry in entries]
    if lost := sum(entry.source_is_gone for entry in entries):
        lines.append(f"{lost:,} of them cannot be made again, as the source is gone")
    lines += [f"{kind}: {cost}" for kind, cost in KINDS.items() if any(entry.kind == kind for entry in entries)]
    if not will_be_removed:
        lines.append("remove: alexnet cache --clear NAME, a kind or all; --older-than DAYS")
    return "\n".join(lines)


def _remark(entry: CacheEntry) -> str:
    gone = " (is gone)" if entry.source_is_gone else ""
    return (f"  of {entry.source}{gone}" if entry.source else "") + ("  unfinished" if entry.is_unfinished else "")


def count_text(entries: int) -> str:
    """A number of entries in words: "1 entry" or "2 entries"."""
    return f"{entries:,} entr{'y' if entries == 1 else 'ies'}"


def age_text(days: float) -> str:
    """An age as "3 days", "5 h" or "2 min"."""
    if days >= 1:
        return f"{days:.0f} day{'s' * (round(days) != 1)}"
    return f"{days * 24:.0f} h" if days * 24 >= 1 else f"{days * 24 * 60:.0f} min"
