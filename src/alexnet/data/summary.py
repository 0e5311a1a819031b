"""Summarize a data set without packing it: its classes, the images of each split, and what was left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from alexnet.architecture.overrides import Json
from alexnet.data.catalog import Catalog
from alexnet.data.dataset import Dataset, Ignored
from alexnet.data.manifest import JOURNAL
from alexnet.data.packed import PackedDataset, is_packed, open_packed
from alexnet.data.remote import open_stream
from alexnet.data.sources.detect import open_dataset, refuse_labels
from alexnet.data.url_images import is_url


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


def open_source(data: str | Path, labels: str | Path | None = None) -> Dataset | PackedDataset:
    """Open what a user calls DATA, without packing it: a packed folder or its URL, or anything else.

    Args:
        labels: as for `open_dataset`.
    """
    if is_url(str(data)):
        refuse_labels(data, labels)
        return open_stream(data)
    if is_packed(data) or (Path(data) / JOURNAL).is_file():  # open_packed has the remedy for an unfinished one
        refuse_labels(data, labels)
        return open_packed(data)
    return open_dataset(data, labels=labels)


def summarize(source: Dataset | PackedDataset, data: str) -> DataSummary:
    """Count the images of each class in each split.

    Args:
        source: the data.
        data: what the user called it.
    """
    catalog = Catalog(source)
    images = {}
    for split in catalog.splits:
        counts = np.bincount(catalog.labels_N[catalog.rows_of(split)], minlength=len(source.classes))
        images[split] = {name: int(count) for name, count in zip(source.classes, counts, strict=True) if count}
    if isinstance(source, PackedDataset):
        return DataSummary(source.path.name, data, source.classes, images, source.notes, source.manifest.held_out)
    return DataSummary(source.name, source.source, source.classes, images, source.notes, source.held_out,
                       source.ignored)
