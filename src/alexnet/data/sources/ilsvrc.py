"""ImageNet (ILSVRC-2012) as it is downloaded: the training tar of tars, the validation tar, the devkit; read in place.

Labels are indices into the sorted WordNet IDs, as in Caffe and torchvision, and not the devkit's own ILSVRC2012_ID.
"""

from __future__ import annotations

import contextlib
import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from alexnet.data.dataset import Dataset, TarImage, distinct
from alexnet.errors import UserError, require

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12"
META, TRUTH = "meta.mat", "ILSVRC2012_validation_ground_truth.txt"

_DOWNLOAD_AGAIN = "download it again"
_COMPARE_SIZE = "compare its size with the download's"


class Synset(NamedTuple):
    """A class in the devkit."""

    wnid: str
    words: str
    """Its names, separated by commas."""


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
    synsets, truth = read_devkit(folder)
    if unknown := set(truth) - set(synsets):
        raise UserError(f"{DEVKIT} in {folder} gives a validation image class {min(unknown)}, "
                        f"which its {META} does not have", _DOWNLOAD_AGAIN)
    wnids = sorted(synset.wnid for synset in synsets.values())
    label = {wnid: number for number, wnid in enumerate(wnids)}
    train = _training_images(folder / TRAIN, label)
    val = _validation_images(folder / VAL, [label[synsets[number].wnid] for number in truth])
    require(len(val) == len(truth),
            f"{folder / VAL} holds {len(val):,} images and the devkit labels {len(truth):,}", _DOWNLOAD_AGAIN)
    words = dict(synsets.values())
    classes = distinct([words[wnid].split(",")[0] for wnid in wnids], wnids)
    return Dataset("ilsvrc2012", classes, {"train": train, "val": val}, str(folder.resolve()), tuple(wnids),
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
                    f"{archive} holds {inner.name}, which is not a class in the devkit")
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


def read_devkit(folder: Path) -> tuple[dict[int, Synset], list[int]]:
    """The classes by their ILSVRC2012_ID, and the IDs of the validation images."""
    contents = _devkit_files(folder)
    for name in (META, TRUTH):
        require(name in contents, f"{DEVKIT} in {folder} has no {name}", _DOWNLOAD_AGAIN)
    return read_synsets(contents[META]), [int(line) for line in contents[TRUTH].split()]


def _devkit_files(folder: Path) -> dict[str, bytes]:
    """The devkit's files by name, from its archive or from the folder that it unpacks to."""
    packed, unpacked = folder / f"{DEVKIT}.tar.gz", folder / DEVKIT
    if packed.is_file():
        with _read_errors_explained(packed, _DOWNLOAD_AGAIN), tarfile.open(packed, "r:gz") as archive:
            files = {Path(member.name).name: archive.extractfile(member) for member in archive if member.isfile()}
            return {name: file.read() for name, file in files.items() if file and name in (META, TRUTH)}
    require(unpacked.is_dir(), f"{folder} has no {DEVKIT}.tar.gz, which names the classes of the archives",
            "put it there")
    return {path.name: path.read_bytes() for path in (unpacked / "data").iterdir() if path.is_file()}


def read_synsets(meta: bytes) -> dict[int, Synset]:
    """The leaves of the devkit's tree, a MATLAB file: 1,000 classes. The inner nodes have children."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError("the devkit is a MATLAB file, which needs SciPy", 'pip install "alexnet[imagenet]"') from error
    try:
        rows: Any = loadmat(io.BytesIO(meta), squeeze_me=True, struct_as_record=True)["synsets"]
    except Exception as error:  # SciPy's reader raises anything for a damaged file
        raise UserError(f"the {META} of {DEVKIT} cannot be read ({error})", _DOWNLOAD_AGAIN) from error
    return {int(row["ILSVRC2012_ID"]): Synset(str(row["WNID"]), str(row["words"])) for row in rows
            if int(row["num_children"]) == 0}
