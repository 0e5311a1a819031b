"""Small image files in folders and archives, and what a data set says of them."""

import io
import tarfile
from collections import Counter
from pathlib import Path

from PIL import Image

from alexnet.data.dataset import Dataset


def jpeg(color: int = 128, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (12, 10), (color,) * len(Image.new(mode, (1, 1)).getbands())).save(file, kind)
    return file.getvalue()


def plant(root: Path, *files: str) -> Path:
    """Write images with these names under `root`; a trailing slash makes an empty folder."""
    for number, name in enumerate(files):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(jpeg(number % 256))
    return root


def trees(root: Path, classes: tuple[str, ...] = ("ash", "birch", "cedar"), count: int = 20, under: str = "") -> Path:
    return plant(root, *(f"{under}{name}/{number:03}.jpg" for name in classes for number in range(count)))


def names(dataset: Dataset, split: str) -> list[str]:
    return [image.name for image in dataset.splits.get(split, ())]


def per_class(dataset: Dataset, split: str) -> list[int]:
    counts = Counter(image.label for image in dataset.splits.get(split, ()))
    return [counts[label] for label in range(len(dataset.classes))]


def said(dataset: Dataset) -> str:
    return "\n".join(dataset.notes)


def tar_of(files: dict[str, bytes], kind: str = "w") -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode=kind) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return memory.getvalue()
