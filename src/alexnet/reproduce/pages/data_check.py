"""The page of `alexnet check --html`: copies side by side, suspicious labels, smallest images, some of each class."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet._runtime.html_page import render_page, write_page
from alexnet._runtime.image_encoding import thumbnail
from alexnet.data.catalog import Catalog
from alexnet.data.duplicates import DuplicateGroup, Duplicates, Kind
from alexnet.data.images import BadImage
from alexnet.data.order import evenly_spaced
from alexnet.errors import plural
from alexnet.inference.classifier import probability_text
from alexnet.inference.data_check import DataCheck
from alexnet.inference.label_check import LabelCheck
from alexnet.inference.validation import printable

_TEMPLATE = Path(__file__).parent / "data_check.html"

GROUPS_SHOWN = 60
"""Groups of copies of each kind that the page shows at most."""

GROUP_IMAGES = 6
"""Images of a group that are shown at most."""

SUSPECTS_SHOWN = 100

CLASSES_SHOWN, CLASS_IMAGES = 50, 8

SMALLEST_SHOWN = 12


@dataclass(frozen=True)
class PageImage:
    """An image with its caption."""

    image: str
    """A data: URI; empty if the image cannot be read any more."""
    file: str
    caption: str


@dataclass(frozen=True)
class PageGroup:
    """Images that stand together."""

    title: str
    images: Sequence[PageImage]


@dataclass(frozen=True)
class PageSection:
    """A part of the page."""

    title: str
    text: str
    """What the images are, and how many of them are not shown."""
    groups: Sequence[PageGroup]


def write_check_page(path: Path, check: DataCheck) -> None:
    """Write the page, one file that makes no request."""
    total = sum(sum(counts.values()) for counts in check.images.values())
    write_page(path, render_page(
        _TEMPLATE, check=check, total=total, sections=list(_sections(check)),
        baseline=printable(check.baseline.sentence), notes=list(map(printable, check.shown_notes)),
        broken=[(printable(image.name), printable(image.cause)) for image in check.broken]))


def _sections(check: DataCheck) -> Iterator[PageSection]:
    if check.duplicates:
        yield from _copies(check.catalog, check.duplicates, across=True)
    if check.labels and check.labels.suspects:
        yield _suspects(check.catalog, check.labels)
    if check.duplicates:
        yield from _copies(check.catalog, check.duplicates, across=False)
    if check.scan and len(check.scan.blank):
        yield PageSection("Images of one color", _shown(len(check.scan.blank), SMALLEST_SHOWN, "image"), [
            PageGroup("", _images(check.catalog, check.scan.blank[:SMALLEST_SHOWN]))])
    if check.scan and check.sizes and check.sizes.smallest != check.sizes.largest:
        yield _smallest(check.catalog, check.scan.sizes_N2)
    if check.scan and len(rows := check.scan.elongated):
        yield PageSection("Most elongated images", "Networks see the central square at most. "
                          + _shown(len(rows), SMALLEST_SHOWN, "image"),
                          [PageGroup("", _sized(check.catalog, check.scan.sizes_N2, rows[:SMALLEST_SHOWN]))])
    yield _classes(check.catalog, check.scan.broken if check.scan else ())


# --- Sections ---------------------------------------------------------------------------------------------------------


def _copies(catalog: Catalog, duplicates: Duplicates, across: bool) -> Iterator[PageSection]:
    """Groups of copies: those across splits or classes, or those within."""
    kinds: tuple[tuple[Kind, str], ...] = (("exact", "Exact copies"), ("near", "Near copies"))
    for kind, name in kinds:
        parts = (("across splits", duplicates.across_splits(kind)), ("across classes", duplicates.across_classes(kind))
                 ) if across else (("of one class and split", duplicates.within(kind)),)
        for where, groups in parts:
            if groups:
                what = "equal byte for byte" if kind == "exact" else "that look the same"
                yield PageSection(
                    f"{name} {where}", f"Images {what} stand in a row. {_shown(len(groups), GROUPS_SHOWN, 'group')}",
                    [_copy_group(catalog, group) for group in groups[:GROUPS_SHOWN]])


def _copy_group(catalog: Catalog, group: DuplicateGroup) -> PageGroup:
    # One of each split and class first, so that the difference is among the images that are shown.
    seen: set[tuple[int, int]] = set()
    first: list[int] = []
    rest: list[int] = []
    for row in group.rows:
        key = int(catalog.split_N[row]), int(catalog.labels_N[row])
        (rest if key in seen else first).append(row)
        seen.add(key)
    more = len(group.rows) - GROUP_IMAGES
    return PageGroup(f"and {more:,} more" if more > 0 else "", _images(catalog, [*first, *rest][:GROUP_IMAGES]))


def _suspects(catalog: Catalog, labels: LabelCheck) -> PageSection:
    shown = labels.suspects[:SUSPECTS_SHOWN]
    rows = {name: row for row, name in enumerate(catalog.names_N)}  # originals are larger than packed images
    images = [PageImage(_thumbnail(catalog, rows[each.name]), printable(each.name),
                        f"{rank}. labeled {printable(each.label)} ({probability_text(each.label_probability)}), "
                        f"predicted {printable(each.predicted)} ({probability_text(each.probability)})")
              for rank, each in enumerate(shown, 1)]
    return PageSection("Suspicious labels", f"{_shown(len(labels.suspects), SUSPECTS_SHOWN, 'image')} The most "
                       f"suspicious is first. {labels.method}", [PageGroup("", images)])


def _smallest(catalog: Catalog, sizes_N2: np.ndarray) -> PageSection:
    shorter_N = sizes_N2.min(1)
    known = np.flatnonzero(shorter_N)
    rows = known[np.argsort(shorter_N[known], kind="stable")][:SMALLEST_SHOWN]
    return PageSection("Smallest images", "The images with the shortest shorter side.",
                       [PageGroup("", _sized(catalog, sizes_N2, rows))])


def _classes(catalog: Catalog, broken: Collection[int]) -> PageSection:
    """Some images of each class, of the training split if there is one. The rows `broken` cannot be decoded."""
    groups = []
    kind = "training image" if "train" in catalog.splits else "image"
    rows_of_split = catalog.rows_of("train") if "train" in catalog.splits else np.arange(len(catalog))
    rows_of_split = np.setdiff1d(rows_of_split, np.fromiter(broken, np.int64))
    for label, name in list(enumerate(catalog.classes))[:CLASSES_SHOWN]:
        rows = rows_of_split[catalog.labels_N[rows_of_split] == label]
        sample = rows[evenly_spaced(len(rows), CLASS_IMAGES)] if len(rows) else rows
        title = f"{printable(name)}: {plural(len(rows), kind)}"
        groups.append(PageGroup(title, _images(catalog, sample, with_class=False)))
    return PageSection("Classes", f"Evenly spaced {kind}s of each class. "
                       f"{_shown(len(catalog.classes), CLASSES_SHOWN, 'class', 'classes')}", groups)


# --- Images -----------------------------------------------------------------------------------------------------------


def _images(catalog: Catalog, rows: Iterable[int], with_class: bool = True) -> list[PageImage]:
    return [PageImage(_thumbnail(catalog, row), printable(catalog.names_N[row]),
                      f"{catalog.locate(row)[0]}, {printable(catalog.classes[catalog.labels_N[row]])}"
                      if with_class else "") for row in map(int, rows)]


def _sized(catalog: Catalog, sizes_N2: np.ndarray, rows: np.ndarray) -> list[PageImage]:
    """The images with their sizes as captions."""
    return [PageImage(_thumbnail(catalog, row), printable(catalog.names_N[row]),
                      f"{sizes_N2[row, 0]:,} x {sizes_N2[row, 1]:,} pixels") for row in rows.tolist()]


def _thumbnail(catalog: Catalog, row: int) -> str:
    try:
        return thumbnail(catalog.pixels(row))
    except (BadImage, OSError):  # it cannot be decoded, or was deleted after the scan
        return ""


def _shown(count: int, most: int, one: str, many: str = "") -> str:
    """A sentence on how many there are, and how many of them the page leaves out."""
    things = f"{count:,} {one if count == 1 else many or one + 's'}."
    return things if count <= most else f"The first {most:,} of {things} --json lists all."
