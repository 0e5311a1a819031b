"""What changed in the data since a run began: images added, removed, moved to another split or class (for `--resume`).

Images are compared by content hash, so renamed and touched files are no change.
"""

from __future__ import annotations

from pathlib import Path

from alexnet.data.packed import PackedDataset, is_packed, open_packed
from alexnet.errors import UserError
from alexnet.models.seen import SeenImages
from alexnet.training.run_folder import read_config

_SPLITS = ("train", "val")

_Images = dict[int, tuple[str, str]]
"""Content hash -> split, and class name, "" if it is not known."""


def describe_changes(run: Path, seen: SeenImages, data: PackedDataset) -> str:
    """Say how `data` differs from the data of a run, such as "3 images were added, 1 was moved to another class".

    The classes are compared if the packed folder that the run was trained on still exists.

    Args:
        run: the folder of the run.
        seen: of its checkpoint.
        data: the data of now, whose fingerprint differs.
    """
    former, now = _packed_images(run) or _seen_images(seen), _images(data)
    if not any(split == "val" for split, _ in former.values()):  # not recorded
        now = {image: place for image, place in now.items() if place[0] == "train" or image in former}
    both = former.keys() & now.keys()
    counts = {
        "added": len(now.keys() - former.keys()), "removed": len(former.keys() - now.keys()),
        "moved to another split": sum(former[image][0] != now[image][0] for image in both),
        "moved to another class": sum(former[image][1] not in ("", now[image][1]) for image in both)}
    parts = [f"{count:,} {'image was' if count == 1 else 'images were'} {what}"
             for what, count in counts.items() if count]
    return ", ".join(parts) or "the same images, but under other names or packed in another way"


def _images(data: PackedDataset) -> _Images:
    images: _Images = {}
    for name in reversed(_SPLITS):  # an image in both splits counts as a training image
        split = data.split(name)
        images |= {image: (name, data.classes[label]) for image, label in zip(
            split.content_hashes.tolist(), split.labels.tolist(), strict=True)}
    return images


def _packed_images(run: Path) -> _Images | None:
    """The images of the packed folder that the run was trained on; None if it no longer exists."""
    try:
        config = read_config(run)["data"]
        folder = config.get("packed", "")
        data = open_packed(folder) if folder and is_packed(folder) else None
    except UserError:
        return None
    return _images(data) if data and data.fingerprint == config.get("fingerprint") else None


def _seen_images(seen: SeenImages) -> _Images:
    """The images that the checkpoint records, whose classes it does not know."""
    return dict.fromkeys(seen.selected_on.tolist(), ("val", "")) | dict.fromkeys(seen.trained.tolist(), ("train", ""))
