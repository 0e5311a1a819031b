"""ImageNet (ILSVRC-2012) as it is downloaded: the training tar of tars, the validation tar, the devkit; read in place.

Labels are indices into the sorted WordNet IDs, as in Caffe and torchvision, and not the devkit's own ILSVRC2012_ID.
"""

from __future__ import annotations

import contextlib
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from alexnet.data.dataset import Dataset, TarImage
from alexnet.data.imagenet_classes import CLASSES, WNID_OF_ILSVRC_ID, WNIDS
from alexnet.errors import UserError, require

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"

_DOWNLOAD_AGAIN = "download it again"
_COMPARE_SIZE = "compare its size with the download's"


def is_ilsvrc(folder: Path) -> bool:
    """Whether the folder holds one of the two large archives."""
    return (folder / TRAIN).is_file() or (folder / VAL).is_file()


def open_ilsvrc(folder: Path) -> Dataset:
    """The images inside the archives: 1,281,167 and 50,000 of them in 1,000 classes.

    Raises UserError naming an archive that is missing, truncated or has other contents.
    """
    for name in (TRAIN, VAL):
        require((folder / name).is_file(), f"{folder} has no {name}",
                "both of ImageNet's archives and the devkit must be in it")
    label = {wnid: number for number, wnid in enumerate(WNIDS)}
    train = _training_images(folder / TRAIN, label)
    truth = read_devkit(folder)
    val = _validation_images(folder / VAL, [label[wnid] for wnid in truth])
    require(len(val) == len(truth),
            f"{folder / VAL} holds {len(val):,} images and the devkit labels {len(truth):,}", _DOWNLOAD_AGAIN)
    return Dataset("ilsvrc2012", CLASSES, {"train": train, "val": val}, str(folder.resolve()), WNIDS,
                   credits="ImageNet: for research and education, not commercial")


@contextlib.contextmanager
def _read_errors_explained(archive: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{archive} cannot be read: {error}", remedy) from error


def _training_images(archive: Path, label: dict[str, int]) -> list[TarImage]:
    """Members of the inner tars, one tar for each class, by their offsets in the outer tar."""
    found = []
    with _read_errors_explained(archive, _COMPARE_SIZE), tarfile.open(archive, "r:") as outer:
        for inner in outer:
            wnid = Path(inner.name).stem
            require(inner.name.endswith(".tar") and wnid in label,
                    f"{archive} holds {inner.name}, which is none of ILSVRC-2012's 1,000 classes",
                    _DOWNLOAD_AGAIN)
            with tarfile.open(fileobj=outer.extractfile(inner), mode="r:") as members:
                found += [TarImage(f"train/{wnid}/{member.name}", label[wnid], archive,
                                   inner.offset_data + member.offset_data, member.size)
                          for member in members if member.isfile()]
    return found


def _validation_images(archive: Path, labels: list[int]) -> list[TarImage]:
    """Image i of the archive has the devkit's i-th label. The number is in its name."""
    found = []
    with _read_errors_explained(archive, _COMPARE_SIZE), tarfile.open(archive, "r:") as members:
        for member in members:
            number = re.search(r"_(\d{8})\.JPEG$", member.name)
            if number and 1 <= int(number[1]) <= len(labels):
                found.append(TarImage(f"val/{Path(member.name).name}", labels[int(number[1]) - 1], archive,
                                      member.offset_data, member.size))
    return sorted(found, key=lambda image: image.name)


# --- The devkit -------------------------------------------------------------------------------------------------------


def read_devkit(folder: Path) -> list[str]:
    """The WordNet IDs of the validation images, in their order."""
    return read_truth(_truth_file(folder), str(folder))


def read_truth(content: bytes, source: str) -> list[str]:
    """The devkit's labels of the validation images, numbers from 1 to 1,000, as WordNet IDs.

    Args:
        content: of `TRUTH`.
        source: where the file is, for the error.
    """
    words = content.decode("ascii", "replace").split()
    wrong = next((word for word in words if not word.isdecimal() or int(word) not in WNID_OF_ILSVRC_ID), None)
    require(wrong is None, f"{TRUTH} in {source} gives a validation image class {wrong}, which is not a number from 1 "
            "to 1,000", _DOWNLOAD_AGAIN)
    return [WNID_OF_ILSVRC_ID[int(word)] for word in words]


def _truth_file(folder: Path) -> bytes:
    """`TRUTH`, from the devkit's archive or from the folder that it unpacks to."""
    packed, unpacked = folder / f"{DEVKIT}.tar.gz", folder / DEVKIT
    if packed.is_file():
        with _read_errors_explained(packed, _DOWNLOAD_AGAIN), tarfile.open(packed, "r:gz") as archive:
            files = [archive.extractfile(member) for member in archive if Path(member.name).name == TRUTH]
            found = files[0].read() if files and files[0] else None
    else:
        require(unpacked.is_dir(), f"{folder} has no {DEVKIT}.tar.gz, which labels the validation images",
                "put it there")
        path = unpacked / "data" / TRUTH
        found = path.read_bytes() if path.is_file() else None
    if found is None:
        raise UserError(f"{DEVKIT} in {folder} has no {TRUTH}", _DOWNLOAD_AGAIN)
    return found
