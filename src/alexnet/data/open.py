"""Open what a user calls DATA: a packed folder, a URL to stream, or anything else, packed once into the user's cache.

This is the entry of every command that reads images: `open_or_stream`, which calls `open_or_pack` for all but URLs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from alexnet._runtime.cache import cache_folder
from alexnet.data.cache_entries import other_pack_note
from alexnet.data.dataset import Dataset, require_splits
from alexnet.data.manifest import JOURNAL, PACK_FORMAT
from alexnet.data.packed import PackedDataset, is_packed, open_packed
from alexnet.data.packing import choose_side, pack, pack_with_bar, packed_size_bytes
from alexnet.data.quarantine import left_out_note
from alexnet.data.remarks import remark_findings
from alexnet.data.remote import open_stream
from alexnet.data.sources.detect import open_dataset, refuse_options
from alexnet.data.summary import AnySource, brief_note
from alexnet.data.url_images import is_url
from alexnet.errors import UserError

Notes = Literal["long", "short", "none"]
"""What is printed about the data: all its notes, one line with the counts and what is ignored, or nothing."""


def open_or_stream(
    data: str, side: int, *, say: Callable[[str], None] = lambda line: None, notes: Notes = "short",
    division: bool = True, progress: bool = True,
    labels: str | Path | None = None, check: Callable[[Dataset], object] | None = None,
    splits: Sequence[str] = (), group: str | None = None,
) -> PackedDataset:
    """As `open_or_pack`; DATA may also be the URL of a packed folder, which is then streamed."""
    if is_url(data):
        refuse_options(data, labels, group)
        return _say_notes(_require_side(open_stream(data), side, data), say, notes, division, data)
    return open_or_pack(data, side, say=say, notes=notes, division=division, progress=progress, labels=labels,
                        check=check, splits=splits, group=group)


def open_or_pack(
    data: str, side: int, *, say: Callable[[str], None] = lambda line: None, notes: Notes = "short",
    division: bool = True, progress: bool = True,
    labels: str | Path | None = None, check: Callable[[Dataset], object] | None = None,
    splits: Sequence[str] = (), group: str | None = None,
) -> PackedDataset:
    """The packed form of DATA with images of `side` pixels.

    A packed folder is opened as it is. Anything else is packed into the cache, under a fingerprint of its names, sizes
    and dates, so a folder that has changed is packed again.

    Args:
        say: called with one line for each thing the user should know.
        notes: what is printed about the data.
        division: whether this includes how data without a validation split is divided.
        progress: show a progress bar while packing.
        labels, group: as for `open_dataset`.
        check: called with the listed data set before anything is packed; it raises UserError to stop.
        splits: names of splits that the data must have, before anything is packed.

    Raises:
        UserError: the data does not exist, has no classes, lacks a split, or is packed with another side.
    """
    if is_packed(Path(data)) or (Path(data) / JOURNAL).is_file():  # open_packed has the remedy for an unfinished one
        refuse_options(data, labels, group)
        return _say_notes(_require_side(open_packed(Path(data)), side, data), say, notes, division, data)
    dataset = open_dataset(data, labels=labels, group=group)
    require_splits(dataset.source, dataset.splits, splits)
    if check:
        check(dataset)
    dest = cache_folder() / "packed" / f"{dataset.name}-{side}-{dataset.fingerprint()[:12]}-{PACK_FORMAT}"
    if is_packed(dest):  # its name is its fingerprint, so there is no need to lock it and compare plans
        packed = open_packed(dest)  # files that are not used may have changed since
        _say_notes(dataset, say, notes, division, data,
                   {split: len(images) for split, images in packed.quarantined.items()})
        return replace(packed, manifest=replace(packed.manifest, notes=dataset.notes))
    _say_notes(dataset, say, notes, division, data)
    if (own_side := choose_side(dataset)) < side:
        say(f"note: these images have about {own_side} pixels and are enlarged to {side}; "
            f"--arch {'cifar' if own_side <= 40 else 'small'} is made for such images")
    say(f"packing {dataset.image_count:,} images once, at {side} pixels, into {dest} "
        f"({packed_size_bytes(dataset.image_count, side) / 1e6:,.0f} MB)")
    if note := other_pack_note(dataset, dest):
        say(f"note: {note}")
    return (pack_with_bar if progress else pack)(
        dataset, dest, side=side, on_wait=lambda: say("another process is packing these images; waiting for it"))


def _say_notes(
    source: AnySource, say: Callable[[str], None], notes: Notes, division: bool, data: str,
    broken: Mapping[str, int] | None = None,
) -> AnySource:
    lines = {"long": [f"note: {note}" for note in (source.all_notes if division else source.notes)],
             "short": [brief_note(source, data, division, broken)], "none": []}
    for line in lines[notes]:
        say(line)
    return source


def _require_side(packed: PackedDataset, side: int, data: str) -> PackedDataset:
    """The data set itself. Raises UserError if its images have another side."""
    if packed.side != side:
        preset = {64: "--arch small or ", 32: "--arch cifar or "}.get(packed.side, "")
        raise UserError(
            f"{data} is packed at {packed.side} pixels and {side} are needed", f"pack it again with --side {side}, or "
            f"train on it with {preset}--set arch.input.side={packed.side} (and arch.input.crop to match)")
    return packed


def image_notes(packed: PackedDataset) -> list[str]:
    """A line for the images that could not be decoded, and lines for those that may not be what they seem."""
    left_out = left_out_note(packed.path, packed.quarantined)
    return [*([left_out] if left_out else []), *map(str, remark_findings(packed.remarks))]
