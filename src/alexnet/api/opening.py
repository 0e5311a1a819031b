"""Open what a user calls DATA for a command or a public function, with its notes (`open_data`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import TYPE_CHECKING

from alexnet._runtime.arguments import data_name, optional_text
from alexnet._runtime.notes import say

if TYPE_CHECKING:  # these import torch
    from alexnet.data.dataset import Dataset
    from alexnet.data.open import Notes
    from alexnet.data.packed import PackedDataset


def open_data(
    data: str | PathLike[str], side: int, *, note: Callable[[str], None] = say, notes: Notes = "short",
    division: bool = True, progress: bool = True, labels: str | PathLike[str] | None = None,
    check: Callable[[Dataset], object] | None = None, splits: Sequence[str] = (),
    group: str | PathLike[str] | None = None,
) -> PackedDataset:
    """The packed form of DATA with images of `side` pixels; packs into the user's cache what is not packed yet.

    `notes`, `division`, `check`, `splits` and `group` are as for `open_or_pack`.
    Should one of its files be truncated later, while it is mapped into memory, the process ends with a sentence.
    """
    from alexnet._runtime.native import set_sigbus_message
    from alexnet.data.open import image_notes, open_or_stream

    packed = open_or_stream(data_name(data), side, say=note, notes=notes, division=division, progress=progress,
                            labels=optional_text("labels", labels), check=check, splits=splits,
                            group=optional_text("group", group))
    for line in image_notes(packed):
        note(f"note: {line}")
    set_sigbus_message(f"alexnet: a file of {packed.path} was truncated while it was read, or its disk fails; repair "
                       "it and run the same command again, training with --resume")
    return packed
