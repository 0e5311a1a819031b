"""The end of a pack: mean and covariance, images per class, the list of broken images, and last the manifest."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime.software import own_version
from alexnet.data import shards
from alexnet.data.dataset import Dataset
from alexnet.data.journal import Journal
from alexnet.data.manifest import MEAN, RGB, Manifest, Plan, SplitRecord, write_manifest
from alexnet.data.packed import PackedSplit
from alexnet.data.quarantine import Quarantined, write_quarantine
from alexnet.errors import UserError


def measured_split(dataset: Dataset) -> str:
    """The split whose mean and covariance are computed: `train`, or the first other one if that is empty."""
    return max(dataset.splits, key=lambda split: (len(dataset.splits[split]) > 0, split == "train"))


def finish_pack(dataset: Dataset, dest: Path, journal: Journal) -> None:
    """Write the mean, the quarantine list, and last of all the manifest."""
    measured, notes, splits = measured_split(dataset), [*dataset.notes], {}
    if measured != "train":
        notes.append(f"there are no training images, so mean and covariance are those of {measured}")
    for split, record in journal.splits.items():
        counts = _count_classes(dataset, dest, journal.plan, record)
        splits[split] = replace(record, images_per_class=tuple(counts.tolist()))
        if record.quarantined:
            _require_all_classes(dataset, split, counts, record.quarantined)
    count = journal.splits[measured].images
    np.save(dest / MEAN, (journal.sums_HWC / count).astype(np.float32))
    journal.files[MEAN] = shards.describe_file(dest / MEAN)
    if path := write_quarantine(dest, {split: record.quarantined for split, record in splits.items()}):
        journal.files[path.name] = shards.describe_file(path)
    rgb_mean, rgb_covariance = _color_statistics(journal, count)
    write_manifest(dest, Manifest(
        journal.plan, dataset.source, dataset.credits, tuple(notes), dataset.classes, dataset.wnids,
        dataset.held_out, rgb_mean, rgb_covariance, splits, journal.files, _software_versions(),
        dataset.grouping.by if dataset.grouping else None))


def _count_classes(dataset: Dataset, dest: Path, plan: Plan, record: SplitRecord) -> NDArray[np.int64]:
    """The number of images of each class in a split, read back from its shards."""
    split = PackedSplit(dest, plan.codec, plan.side, record.shards, len(dataset.classes))
    return np.bincount(split.labels, minlength=len(dataset.classes))


def _color_statistics(journal: Journal, count: int) -> tuple[RGB, tuple[RGB, RGB, RGB]]:
    """Mean [3] and covariance [3, 3] of the colors, on 0..255, in Python's integers: rounded once, at the division."""
    n = count * journal.plan.side**2
    (r, g, b), products = journal.sums_HWC.sum((0, 1)).tolist(), journal.products.tolist()

    def covariances(sum_a: int, products_a: list[int]) -> RGB:
        r_, g_, b_ = ((n * product - sum_a * sum_b) / n**2
                      for product, sum_b in zip(products_a, (r, g, b), strict=True))
        return r_, g_, b_

    return (r / n, g / n, b / n), (
        covariances(r, products[0]), covariances(g, products[1]), covariances(b, products[2]))


def _require_all_classes(
    dataset: Dataset, split: str, counts: NDArray[np.int64], quarantined: Sequence[Quarantined],
) -> None:
    """Raise UserError naming a class of which no image could be decoded: its error would vanish from every average."""
    in_source = np.bincount([image.label for image in dataset.splits[split]], minlength=len(dataset.classes))
    lost = np.flatnonzero((counts == 0) & (in_source > 0))
    if not len(lost):
        return
    names = {image.name for image in dataset.splits[split] if image.label == lost[0]}
    example = next(image for image in quarantined if image.name in names)
    others = f" and of {len(lost) - 1} other classes" if len(lost) > 1 else ""
    remedy = "remove the class" if split == "train" else "delete them"
    raise UserError(f"no {split} image of class {dataset.classes[lost[0]]!r}{others} could be decoded, such as "
                    f"{example.name} ({example.cause})", f"repair the images, or {remedy}")


def _software_versions() -> Mapping[str, str]:
    packages = ("numpy", "torch", "simplejpeg", "pillow")
    return {"python": platform.python_version(), "alexnet": own_version()} | {
        name: importlib.metadata.version(name) for name in packages}
