"""The journal of an unfinished pack, unfinished.json: which shards are finished, so that a killed pack can resume.

After each shard the journal is replaced in one step. Files that it does not list are written again. It lists the
shards of a split from the first on without a gap, however many processes pack, so any number of them may resume.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from alexnet.data.file_checks import check_sizes
from alexnet.data.manifest import (
    JOURNAL,
    FileRecord,
    Plan,
    ShardRecord,
    SplitRecord,
    check_names,
    parse_record,
    to_json,
    write_json,
)
from alexnet.data.quarantine import Quarantined
from alexnet.data.remarks import Kind, add_remarks
from alexnet.errors import UserError

_INTEGERS_3 = tuple[int, int, int]


@dataclass(frozen=True)
class _Record:
    """What unfinished.json holds. The sums of every pixel stand beside it, in unfinished-<shards>.npy."""

    plan: Plan
    splits: dict[str, SplitRecord]
    files: dict[str, FileRecord]
    products: tuple[_INTEGERS_3, _INTEGERS_3, _INTEGERS_3]

    def __post_init__(self) -> None:
        check_names(self.files)


@dataclass(frozen=True)
class WrittenShard:
    """A shard that has been written, and all that the journal keeps of it."""

    split: str
    shard: ShardRecord
    files: dict[str, FileRecord]
    quarantined: tuple[Quarantined, ...]
    remarks: tuple[tuple[str, frozenset[Kind]], ...]
    """Of each image by name, as for `add_remarks`."""
    sums_HWC: NDArray[np.int64] | None
    """Of its pixels, in the split whose mean and covariance are computed; None in the others."""
    products: NDArray[np.int64]
    """[3, 3], sums of color times color; 0 in the other splits."""


class Journal:
    """The finished shards, and sums over the pixels in them.

    The sums are exact integers, so neither the order of the images nor a restart changes the result.
    """

    def __init__(self, plan: Plan, splits: Iterable[str]) -> None:
        self.plan = plan
        self.splits = {split: SplitRecord() for split in splits}
        self.files: dict[str, FileRecord] = {}
        self.products = np.zeros((3, 3), np.int64)
        """Sums of color times color. ImageNet's are 5.5e15; int64 holds 9.2e18."""
        self.sums_HWC = np.zeros((plan.side, plan.side, 3), np.int64)

    def images_read(self, split: str) -> int:
        """Images of the split that need not be read again: those in finished shards and the quarantined ones."""
        return self.splits[split].images + len(self.splits[split].quarantined)

    def add_shard(self, written: WrittenShard) -> None:
        """Add the next shard of its split. `commit` makes it count."""
        record = self.splits[written.split]
        self.splits[written.split] = replace(
            record, shards=(*record.shards, written.shard), quarantined=(*record.quarantined, *written.quarantined),
            remarks=add_remarks(record.remarks, written.remarks))
        self.files |= written.files
        self.products += written.products
        if written.sums_HWC is not None:
            self.sums_HWC += written.sums_HWC

    def commit(self, dest: Path) -> None:
        """Replace the journal on the disk. Its number of shards names the file with the sums that belong to it."""
        np.save(self._sums_path(dest, self._shards()), self.sums_HWC)
        rows = tuple(tuple(row) for row in self.products.tolist())
        write_json(dest / JOURNAL, to_json(_Record(self.plan, self.splits, self.files, rows)))  # type: ignore[arg-type]
        self._sums_path(dest, self._shards() - 1).unlink(missing_ok=True)

    @classmethod
    def resume(cls, dest: Path, plan: Plan) -> Self | None:
        """The journal of the pack that was interrupted in this folder; None if there is none.

        Raises UserError if its plan was another one, or if a file that it lists is missing or truncated.
        """
        if not (dest / JOURNAL).is_file():
            return None
        record = parse_record(_Record, (dest / JOURNAL).read_bytes(), dest / JOURNAL)
        check_plan(dest, record.plan, plan)
        check_sizes(dest, record.files)
        journal = cls(plan, ())
        journal.splits, journal.files = record.splits, record.files
        journal.products = np.array(record.products, np.int64)
        journal.sums_HWC = np.load(cls._sums_path(dest, journal._shards()))
        return journal

    def _shards(self) -> int:
        return sum(len(record.shards) for record in self.splits.values())

    @staticmethod
    def _sums_path(dest: Path, shards: int) -> Path:
        return dest / f"unfinished-{shards:05}.npy"


def check_plan(dest: Path, found: Plan, wanted: Plan) -> None:
    """Raise UserError, naming the difference, if the folder holds a pack of another plan."""
    for key, value in vars(wanted).items():
        if (other := getattr(found, key)) != value:
            what = ("of other images, or of these from another source, such as a tar of the folder"
                    if key == "source_fingerprint" else f"with {key} {other}, not {value}")
            raise UserError(f"{dest} holds a pack {what}", "choose another DEST, or delete it first")
