"""Summarize a data set without packing it: its classes, the images of each split, and what was left out."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

from alexnet.architecture.overrides import Json
from alexnet.data.catalog import Catalog, class_counts
from alexnet.data.dataset import Dataset, Ignored
from alexnet.data.manifest import JOURNAL
from alexnet.data.packed import PackedDataset, is_packed, open_packed
from alexnet.data.remote import open_stream
from alexnet.data.sources.detect import open_dataset, refuse_options
from alexnet.data.url_images import is_url
from alexnet.errors import some


@dataclass(frozen=True)
class DataSummary:
    """What a data set is understood to be."""

    name: str
    source: str
    classes: tuple[str, ...]
    images: Mapping[str, Mapping[str, int]]
    """For each split, the number of images of each class that has any."""
    notes: tuple[str, ...]
    """What was understood, left out or assumed."""
    held_out: float
    """Fraction of each class that was held out as `val`, where the source has no split; else 0."""
    ignored: tuple[Ignored, ...] = ()
    """What the source holds that is not used; () of a packed folder, whose notes name it."""

    def to_json(self) -> dict[str, Json]:
        """The fields as plain values."""
        values = {field.name: getattr(self, field.name) for field in fields(DataSummary)}
        return json.loads(json.dumps(values, default=asdict))


AnySource = TypeVar("AnySource", Dataset, PackedDataset)

IGNORED_SHOWN = 3


def brief_note(
    source: Dataset | PackedDataset, data: str, division: bool = True, broken: Mapping[str, int] | None = None,
) -> str:
    """One line for commands that do not train: `photos: 303 images of 5 classes; ignored: ...`.

    Args:
        source: the data.
        data: what the user called it.
        division: say how data without a validation split is divided: `... no split of its own: 273 train, 30 val`.
        broken: for each split, the images that cannot be decoded, if that is known of `source`; they are not counted.
    """
    broken = broken or {}
    counts = {split: count - broken.get(split, 0) for split, count in Catalog(source).splits.items()}
    held_out = source.manifest.held_out if isinstance(source, PackedDataset) else source.held_out
    ignored = () if isinstance(source, PackedDataset) else source.ignored
    parts = [f"{data}: {sum(counts.values()):,} images of {len(source.classes):,} classes"]
    if held_out and division:
        parts.append(f"no validation split of its own: {counts.get('train', 0):,} are train, "
                     f"{counts.get('val', 0):,} val")
    if left_out := sum(broken.values()):
        parts.append(f"{left_out:,} more cannot be decoded")
    if ignored:
        ordered = sorted(ignored, key=lambda item: (-item.count, item.path))
        parts.append(f"ignored: {some(map(str, ordered), IGNORED_SHOWN)}")
    if (more := len(source.notes) - 1) > 0:  # the first note says what these parts do
        grouping = None if isinstance(source, PackedDataset) else source.grouping
        command = ["alexnet", "check", data, *(["--group", grouping.by] if grouping else [])]
        parts.append(f"{more:,} more note{'s' * (more > 1)}: {shlex.join(command)}")
    return "; ".join(parts)


def open_source(
    data: str | Path, labels: str | Path | None = None, group: str | None = None,
) -> Dataset | PackedDataset:
    """Open what a user calls DATA, without packing it: a packed folder or its URL, or anything else.

    Args:
        labels, group: as for `open_dataset`.
    """
    if is_url(str(data)):
        refuse_options(data, labels, group)
        return open_stream(data)
    if is_packed(data) or (Path(data) / JOURNAL).is_file():  # open_packed has the remedy for an unfinished one
        refuse_options(data, labels, group)
        return open_packed(data)
    return open_dataset(data, labels=labels, group=group)


def summarize(source: Dataset | PackedDataset, data: str, broken: Collection[int] = ()) -> DataSummary:
    """Count the images of each class in each split.

    Args:
        source: the data.
        data: what the user called it.
        broken: rows of the catalog that cannot be decoded, and are not counted.
    """
    catalog = Catalog(source)
    images = {}
    for split in catalog.splits:
        counts = class_counts(catalog, split, broken)
        images[split] = {name: int(count) for name, count in zip(source.classes, counts, strict=True) if count}
    if isinstance(source, PackedDataset):
        return DataSummary(source.path.name, data, source.classes, images, source.all_notes, source.manifest.held_out)
    return DataSummary(source.name, source.source, source.classes, images, source.all_notes, source.held_out,
                       source.ignored)
