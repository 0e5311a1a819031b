"""The text that `alexnet check` prints: what needs attention first, then what the data set is."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alexnet.inference.data_check import DataCheck

CLASSES_SHOWN = 24
"""Rows of the table of classes; of more classes the largest and the smallest are shown."""

SUSPECTS_SHOWN = 25
BROKEN_SHOWN = 5


def check_text(check: DataCheck) -> str:
    """All lines, with what needs attention first."""
    total = sum(sum(counts.values()) for counts in check.images.values())
    splits = ", ".join(f"{sum(counts.values()):,} {split}" for split, counts in check.images.items())
    lines = [f"{check.source}: {total:,} images of {len(check.classes):,} classes ({splits})"
             + (f"; {len(check.broken):,} more cannot be decoded" if check.broken else ""), ""]
    for part in (_findings(check), _suspects(check), _what_it_is(check), _not_checked(check)):
        lines += [*section, ""] if (section := list(part)) else []
    return "\n".join(lines).strip()


def _findings(check: DataCheck) -> Iterator[str]:
    count = len(check.findings)
    if not count:
        yield "Nothing needs attention" + (" in what was checked." if check.scan is None else ".")
        return
    yield "One thing needs attention:" if count == 1 else f"{count} things need attention, the most harmful first:"
    for number, finding in enumerate(check.findings, 1):
        problem = f"{finding.subject}: {finding.problem}" if finding.subject else finding.problem
        yield from _wrapped(problem, f"{number:3}. ", "     ")
        yield from _wrapped(finding.remedy, "     -> ", "        ")
    if len(check.broken) > 1:
        yield ""
        yield "Images that cannot be decoded:"
        for image in check.broken[:BROKEN_SHOWN]:
            yield f"  {image.name}: {image.cause}"
        if more := len(check.broken) - BROKEN_SHOWN:
            yield from [f"  and {more:,} more; --json lists all"] if more > 0 else []


def _suspects(check: DataCheck) -> Iterator[str]:
    if check.labels is None:
        return
    from alexnet.inference.classifier import probability_text  # imports NumPy

    shown = check.labels.suspects[:SUSPECTS_SHOWN]
    if shown:
        yield f"Suspicious labels, the first {len(shown)} of {len(check.labels.suspects):,}:"
        rows = [("", "own label", "", "predicted", "", "image"), *(
            (str(rank), each.label, probability_text(each.label_probability), each.predicted,
             probability_text(each.probability), each.name) for rank, each in enumerate(shown, 1))]
        yield from _table(rows, numbers=(0, 2, 4))
    yield from _wrapped(check.labels.method, "  ", "  ")


def _what_it_is(check: DataCheck) -> Iterator[str]:
    yield "What it is:"
    yield from _table([("class", *check.images), *_class_rows(check)], numbers=range(1, len(check.images) + 1))
    if check.sizes:
        median, smallest, largest = (
            f"{width:,} x {height:,}" for width, height in (check.sizes.median, check.sizes.smallest,
                                                            check.sizes.largest))
        yield f"  sizes: median {median}, smallest {smallest}, largest {largest} pixels"
    if check.formats:
        yield "  formats: " + ", ".join(f"{count:,} {kind}" for kind, count in check.formats.items())
    yield from _wrapped(f"baselines: {check.baseline.sentence}", "  ", "    ")
    for note in check.shown_notes:
        yield from _wrapped(f"note: {note}", "  ", "    ")


def _class_rows(check: DataCheck) -> Iterator[tuple[str, ...]]:
    def row(name: str) -> tuple[str, ...]:
        return name, *(f"{counts.get(name, 0):,}" for counts in check.images.values())

    if len(check.classes) <= CLASSES_SHOWN:
        yield from map(row, check.classes)
        return
    counts = next(iter(check.images.values()))
    ordered = sorted(check.classes, key=lambda name: -counts.get(name, 0))
    yield from map(row, ordered[: CLASSES_SHOWN // 2])
    yield f"... {len(ordered) - CLASSES_SHOWN:,} more, which --json lists ...", *("" for _ in check.images)
    yield from map(row, ordered[-CLASSES_SHOWN // 2 :])


def _not_checked(check: DataCheck) -> Iterator[str]:
    if check.not_checked:
        yield "Not checked:"
        for sentence in check.not_checked:
            yield from _wrapped(sentence, "  ", "    ")


def _table(rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> Iterator[str]:
    """Rows of text in columns; the columns `numbers` are aligned to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (f"{cell:>{width}}" if column in numbers else f"{cell:<{width}}"
                 for column, (cell, width) in enumerate(zip(row, widths, strict=True)))
        yield f"  {'  '.join(cells)}".rstrip()


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    width = min(shutil.get_terminal_size().columns, 120)
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False,
                         break_on_hyphens=False)
