"""A zip or tar of any layout is read in place as the folder it was made of: classes, splits, labels and pixels."""

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from alexnet.data.dataset import Dataset
from alexnet.data.sources.detect import open_dataset
from image_files import jpeg, names, plant

TENCH, GOLDFISH = "n01440764", "n01443537"


def pictures(*files: str) -> dict[str, bytes]:
    return {file: jpeg(number) for number, file in enumerate(files)}


SPLITS_IN_CLASSES = pictures(*(f"{name}/{split}/{name}{split}{number}.jpg" for name in ("ash", "birch")
                               for split in ("train", "test") for number in range(3)))
TABLE = pictures(*(f"images/{name}{number}.jpg" for name in ("ash", "birch") for number in range(4))) | {
    "labels.csv": b"file_name,label\n" + b"".join(f"{name}{number}.jpg,{name}\n".encode() for name in ("ash", "birch")
                                                  for number in range(4))}
ROBOFLOW = pictures(*(f"{split}/{name}.jpg" for split in ("train", "valid") for name in "ab")) | {
    f"{split}/_classes.csv": b"filename,ash,birch\na.jpg,1,0\nb.jpg,0,1\n" for split in ("train", "valid")}
PATTERN = pictures(*(f"train/{name}.{number}.jpg" for name in ("ash", "birch") for number in range(4)))
FLAT_VAL = pictures(*(f"train/{wnid}/{wnid}_{number}.JPEG" for wnid in (TENCH, GOLDFISH) for number in range(3)),
                    *(f"val/ILSVRC2012_val_{number:08}.JPEG" for number in (1, 2))) | {
    "LOC_val_solution.csv": f"ImageId,PredictionString\nILSVRC2012_val_00000001,{TENCH} 1 2 3 4\n"
                            f"ILSVRC2012_val_00000002,{GOLDFISH} 1 2 3 4\n".encode()}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize(("files", "labels", "splits"), [
    (SPLITS_IN_CLASSES, None, {"train": "aaabbb", "val": "aaabbb"}),
    (TABLE, None, {"train": "aaabbb", "val": "ab"}),
    (ROBOFLOW, None, {"train": "ab", "val": "ab"}),
    (PATTERN, "{label}.{n}.jpg", {"train": "aaabbb", "val": "ab"}),
    (FLAT_VAL, None, {"train": "tttggg", "val": "tg"}),
], ids=["splits in classes", "table", "Roboflow", "pattern", "flat val"])
def test_an_archive_is_read_as_the_folder(tmp_path: Path, kind: str, files: dict[str, bytes], labels, splits):
    folder, archive = tmp_path / "trees", tmp_path / f"trees.{kind}"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            for name, data in files.items():
                zipped.writestr(name, data)
    else:
        with tarfile.open(archive, "w:gz" if kind == "tar.gz" else "w") as tar:
            tar.add(folder, "trees")
    plain, packed = open_dataset(folder, labels=labels), open_dataset(archive, labels=labels)
    _require_same(packed, plain, splits)


def test_a_table_elsewhere_holds_the_same_images_out_of_folder_and_archive(tmp_path: Path):
    folder = plant(tmp_path / "trees", *(f"{name}{number}.jpg" for name in ("ash", "birch") for number in range(9)))
    table = tmp_path / "labels.csv"
    table.write_text("file_name,label\n" + "".join(f"{path.name},{path.name[:3]}\n" for path in folder.iterdir()))
    with tarfile.open(tmp_path / "trees.tar", "w") as tar:
        tar.add(folder, "trees")
    plain, packed = open_dataset(folder, labels=table), open_dataset(tmp_path / "trees.tar", labels=table)
    _require_same(packed, plain, {"train": "a" * 8 + "b" * 8, "val": "ab"})


def _require_same(packed: Dataset, plain: Dataset, splits: dict[str, str]) -> None:
    assert (packed.name, packed.classes) == ("trees", plain.classes)
    for split, first_letters in splits.items():
        ours, theirs = packed.splits[split], plain.splits[split]
        assert sorted(packed.classes[image.label][0] for image in ours) == sorted(first_letters)
        assert [name.removeprefix("trees/") for name in names(packed, split)] == names(plain, split)
        for one, other in zip(ours, theirs, strict=True):
            assert one.label == other.label
            assert np.array_equal(one.pixels(), other.pixels())
