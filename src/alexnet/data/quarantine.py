"""Images that cannot be decoded: their record in the manifest, the file quarantine.txt, and the checks on them.

`pack` leaves such an image out of the shards and records its name and the reason. `PackedDataset.quarantined` lists
the records of a finished pack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alexnet.errors import UserError, such_as

QUARANTINE = "quarantine.txt"


@dataclass(frozen=True)
class Quarantined:
    """An image that was left out of a pack."""

    name: str
    """Its name in the data set, such as `train/tench/n01440764_1.JPEG`."""
    reason: str
    """Why it cannot be decoded: a sentence that names the image."""

    @property
    def cause(self) -> str:
        """The reason without the image's name."""
        return self.reason.removeprefix(f"{self.name} cannot be decoded: ").removeprefix(f"{self.name} ")


def left_out_note(folder: Path, by_split: Mapping[str, Sequence[Quarantined]]) -> str:
    """One line for the user on the images that were left out of a pack; "" if there are none."""
    images = [image for split in by_split.values() for image in split]
    if not images:
        return ""
    count = f"{len(images):,} image{'s' * (len(images) > 1)}"
    return (f"{count} could not be decoded and {'are' if len(images) > 1 else 'is'} left out"
            f"{such_as(len(images), f'{images[0].name} ({images[0].cause})')}; "
            f"{folder / QUARANTINE} lists {'all of them' if len(images) > 1 else 'it'}")


def write_quarantine(folder: Path, by_split: Mapping[str, Sequence[Quarantined]]) -> Path | None:
    """Write one line for each quarantined image: split, name and reason, separated by tabs.

    Returns:
        The path of the file; None if there is nothing to list.
    """
    lines = [f"{split}\t{image.name}\t{image.reason}\n" for split, images in by_split.items() for image in images]
    if not lines:
        return None
    path = folder / QUARANTINE
    path.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    return path


def check_quarantine(
    quarantined: Sequence[Quarantined], split: str, images_read: int, images: int, source: str,
) -> None:
    """Raise UserError if more than half of the images that were read cannot be decoded.

    The check is made after each shard, not at the end: the first shard of a mixed order is representative.

    Args:
        images_read: images of the split that were read so far, quarantined ones included.
        images: all images of the split. Up to 1,000 of them are read before the share is judged.
    """
    if 2 * len(quarantined) > max(images_read, min(1_000, images)):
        raise UserError(f"{len(quarantined):,} of the first {images_read:,} {split} images of {source} cannot be "
                        f"decoded, such as {quarantined[0].name} ({quarantined[0].cause})",
                        "repair the source and pack again")
