"""ILSVRC-2012 as it is downloaded: the training tar of tars, the validation tar, the devkit; nothing is unpacked."""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from pathlib import Path
from typing import Any

from alexnet.data.dataset import Dataset, TarImage, distinct

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12"


def is_ilsvrc(folder: Path) -> bool:
    """Whether the folder holds either of the two large archives."""
    return (folder / TRAIN).is_file() or (folder / VAL).is_file()


def open_ilsvrc(folder: Path) -> Dataset:
    """The images inside the archives, 1,281,167 and 50,000 of them in 1,000 classes.

    Labels are places among the sorted WordNet numbers, as Caffe and torchvision have them, and not the devkit's own
    ILSVRC2012_ID. Raises ValueError naming an archive that is missing or does not hold what it should.
    """
    for name in (TRAIN, VAL):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}; both of ImageNet's archives and the devkit must be there")
    synsets, truth = _devkit(folder)
    by_id = dict(synsets)
    wnids = sorted(wnid for wnid, _ in by_id.values())
    names = dict(by_id.values())
    label = {wnid: place for place, wnid in enumerate(wnids)}
    train = _training(folder / TRAIN, label)
    if unknown := set(truth) - set(by_id):
        raise ValueError(f"{DEVKIT} in {folder} gives a validation image class {min(unknown)}, which its meta.mat "
                         "does not have; download it again")
    val = _validation(folder / VAL, [label[by_id[number][0]] for number in truth])
    if len(val) != len(truth):
        raise ValueError(f"{folder / VAL} holds {len(val):,} images and the devkit labels {len(truth):,}; "
                         "download it again")
    classes = distinct([names[wnid].split(",")[0] for wnid in wnids], wnids)
    return Dataset("ilsvrc2012", classes, {"train": train, "val": val}, str(folder.resolve()), tuple(wnids),
                   credits="ImageNet: for research and education, not commercial")


def _training(archive: Path, label: dict[str, int]) -> list[TarImage]:
    """Members of the inner tars, by their offsets in the outer one."""
    photos = []
    try:
        with tarfile.open(archive, "r:") as outer:
            for inner in outer:
                wnid = Path(inner.name).stem
                if not inner.name.endswith(".tar") or wnid not in label:
                    raise ValueError(f"{archive} holds {inner.name}, which the devkit does not know as a class")
                with tarfile.open(fileobj=outer.extractfile(inner), mode="r:") as members:
                    photos += [TarImage(f"train/{wnid}/{member.name}", label[wnid], archive,
                                        inner.offset_data + member.offset_data, member.size)
                               for member in members if member.isfile()]
    except tarfile.TarError as error:
        raise ValueError(f"{archive} is not whole: {error}; compare its size with the download's") from error
    return photos


def _validation(archive: Path, labels: list[int]) -> list[TarImage]:
    """Image i of the archive has the devkit's i-th label; the number is in its name."""
    photos = []
    try:
        with tarfile.open(archive, "r:") as members:
            for member in members:
                number = re.search(r"_(\d{8})\.JPEG$", member.name)
                if number and 1 <= int(number[1]) <= len(labels):
                    photos.append(TarImage(f"val/{Path(member.name).name}", labels[int(number[1]) - 1], archive,
                                           member.offset_data, member.size))
    except tarfile.TarError as error:
        raise ValueError(f"{archive} is not whole: {error}; compare its size with the download's") from error
    return sorted(photos, key=lambda photo: photo.name)


def _devkit(folder: Path) -> tuple[list[tuple[int, tuple[str, str]]], list[int]]:
    """(ILSVRC2012_ID, (WNID, words)) of the classes, and the IDs of the validation images."""
    packed, plain = folder / f"{DEVKIT}.tar.gz", folder / DEVKIT
    if packed.is_file():
        try:
            with tarfile.open(packed, "r:gz") as archive:
                files = {Path(member.name).name: archive.extractfile(member) for member in archive if member.isfile()}
                contents = {name: file.read() for name, file in files.items()
                            if file and name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt")}
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{packed} is not whole: {error}; download it again") from error
    elif plain.is_dir():
        contents = {path.name: path.read_bytes() for path in (plain / "data").iterdir() if path.is_file()}
    else:
        raise ValueError(f"{folder} has no {DEVKIT}.tar.gz, which says what the archives' classes are; put it there")
    try:
        meta, truth = contents["meta.mat"], contents["ILSVRC2012_validation_ground_truth.txt"]
    except KeyError as missing:
        raise ValueError(f"{DEVKIT} in {folder} has no {missing.args[0]}; download it again") from missing
    return _synsets(meta), [int(line) for line in truth.split()]


def _synsets(meta: bytes) -> list[tuple[int, tuple[str, str]]]:
    """The leaves of the devkit's tree, a MATLAB file: 1,000 classes; the inner nodes have children."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ValueError('the devkit is a MATLAB file, which SciPy reads: pip install "alexnet[imagenet]"') from error
    try:
        rows: Any = loadmat(io.BytesIO(meta), squeeze_me=True, struct_as_record=True)["synsets"]
    except Exception as error:  # SciPy's reader raises what a torn file makes it
        raise ValueError(f"the meta.mat of {DEVKIT} cannot be read ({error}); download it again") from error
    return [(int(row["ILSVRC2012_ID"]), (str(row["WNID"]), str(row["words"]))) for row in rows
            if int(row["num_children"]) == 0]
