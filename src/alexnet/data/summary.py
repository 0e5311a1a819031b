"""Summarize a data set without packing it (`check`): its classes, the images of each split, and what was left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from alexnet.architecture.overrides import Json
from alexnet.data.manifest import JOURNAL
from alexnet.data.packed import PackedDataset, is_packed, open_packed
from alexnet.data.quarantine import QUARANTINE
from alexnet.data.remote import open_stream
from alexnet.data.sources.detect import open_dataset
from alexnet.data.url_images import is_url


@dataclass(frozen=True)
class DataSummary:
    """What a data set is understood to be. `print(summary)` shows it as a table."""

    name: str
    source: str
    classes: tuple[str, ...]
    images: Mapping[str, Mapping[str, int]]
    """For each split, the number of images of each class."""
    notes: tuple[str, ...]
    """What was left out or assumed."""
    held_out: float = 0.0
    """Fraction of each class that was held out as `val`, where the source has no split; else 0."""

    def to_json(self) -> dict[str, Json]:
        """All fields as plain values."""
        return json.loads(json.dumps(asdict(self)))

    def __str__(self) -> str:
        splits = ", ".join(f"{sum(counts.values()):,} {split}" for split, counts in self.images.items())
        wide = max(map(len, self.classes), default=0)
        header = f"  {'class':<{wide}}" + "".join(f"  {split:>9}" for split in self.images)
        rows = [f"  {name:<{wide}}" + "".join(f"  {counts.get(name, 0):>9,}" for counts in self.images.values())
                for name in self.classes]
        return "\n".join([f"{self.source}: {len(self.classes):,} classes; images: {splits}", header, *rows,
                          *(f"note: {note}" for note in self.notes)])


def check(data: str | Path) -> DataSummary:
    """Summarize what a data set is understood to be. Nothing is packed or written.

    Args:
        data: A folder of class folders, a packed folder, a folder of archives, `cifar10`, `embedded`, or a URL.
    """
    if is_url(str(data)):
        return _packed_summary(open_stream(data), str(data))
    if is_packed(data) or (Path(data) / JOURNAL).is_file():
        return _packed_summary(open_packed(data), str(data))
    dataset = open_dataset(data)
    images = {split: dict(Counter(dataset.classes[image.label] for image in source))
              for split, source in dataset.splits.items()}
    return DataSummary(dataset.name, dataset.source, dataset.classes, images, dataset.notes, dataset.held_out)


def _packed_summary(packed: PackedDataset, data: str) -> DataSummary:
    splits = packed.manifest.splits
    images = {split: {name: count for name, count in zip(packed.classes, splits[split].images_per_class, strict=True)
                      if count} for split in packed.splits}
    notes = [f"{split}: {len(quarantined):,} of its images cannot be decoded, such as {quarantined[0].name}; "
             f"see {QUARANTINE}" for split, quarantined in packed.quarantined.items() if quarantined]
    return DataSummary(packed.path.name, data, packed.classes, images, (*packed.notes, *notes),
                       packed.manifest.held_out)
