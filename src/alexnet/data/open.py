"""The packed form of whatever a user calls DATA: a packed folder as it is, all else packed once, into the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alexnet.data.manifest import JOURNAL
from alexnet.data.packed import PackedDataset, is_packed, open_packed
from alexnet.data.packing import choose_side, pack_with_bar, packed_size_bytes
from alexnet.data.remote import open_stream
from alexnet.data.sources.detect import cache_folder, open_dataset
from alexnet.data.url_images import is_address


def open_or_pack(
    data: str, side: int, *, say: Callable[[str], None] = lambda line: None, trained_on: str | None = None,
) -> PackedDataset:
    """The packed form of DATA with images of `side` pixels.

    The cache goes by a fingerprint of names, sizes and dates, so a folder that has changed is packed anew.
    trained_on: the fingerprint of the data a network was trained on. A folder without a split of its own is then taken
    whole, for measuring, unless it is that very folder, of which a share was held out.
    Raises ValueError for data that is not there, has no classes, or is packed at another side.
    """
    if is_packed(Path(data)) or (Path(data) / JOURNAL).is_file():  # open_packed says what to do with an unfinished one
        return with_side(open_packed(Path(data)), side, data)
    dataset = open_dataset(data)
    if trained_on and dataset.held_out and dataset.fingerprint() != trained_on:
        dataset = open_dataset(data, held_out=0.0)
    for note in dataset.notes:
        say(f"note: {note}")
    dest = cache_folder() / "packed" / f"{dataset.name}-{side}-{dataset.fingerprint()[:12]}"
    if is_packed(dest):  # the name says of what, so it need not be locked and compared
        return open_packed(dest)
    if (own := choose_side(dataset)) < side:
        say(f"note: these images have about {own} pixels and are enlarged to {side}; "
            f"--arch {'cifar' if own <= 40 else 'small'} is made for such")
    images = sum(map(len, dataset.splits.values()))
    say(f"packing {images:,} images once, at {side} pixels, into {dest} "
        f"({packed_size_bytes(images, side) / 1e6:,.0f} MB)")
    return pack_with_bar(dataset, dest, side=side)


def with_side(packed: PackedDataset, side: int, data: str) -> PackedDataset:
    """The same. Raises ValueError where its images are of another side."""
    if packed.side != side:
        made = {64: "--arch small or ", 32: "--arch cifar or "}.get(packed.side, "")
        raise ValueError(
            f"{data} is packed at {packed.side} pixels and {side} are wanted; pack it again with --side {side}, or "
            f"train on it with {made}--set arch.input.side={packed.side} (and arch.input.crop to match)")
    return packed


# --- Opening ----------------------------------------------------------------------------------------------------------


def open_or_stream(
    data: str, side: int, *, say: Callable[[str], None] = lambda line: None, trained_on: str | None = None,
) -> PackedDataset:
    """`cache.open_or_pack`, where DATA may be an address too."""
    if is_address(data):
        return with_side(open_stream(data), side, data)
    return open_or_pack(data, side, say=say, trained_on=trained_on)
