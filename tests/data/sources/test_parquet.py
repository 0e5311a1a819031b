"""Parquet files as Hugging Face's datasets writes them, made here with pyarrow alone."""

import json
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from alexnet._runtime.extras import install_line
from alexnet.data.dataset import Dataset
from alexnet.data.sources.detect import open_dataset
from image_files import jpeg, per_class, said, trees

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

CLASS_LABEL = {"_type": "ClassLabel", "names": ["ash", "birch"]}


def write(path: Path, rows: list[tuple[bytes | None, Any]], names: tuple[str, str] = ("image", "label"),
          features: dict[str, Any] | None = None, extra: dict[str, list[Any]] | None = None) -> None:
    """A file of the columns image {bytes, path} and label, with row groups of two rows."""
    features = {names[0]: {"_type": "Image"}, names[1]: CLASS_LABEL} if features is None else features
    table = pa.table({
        names[0]: pa.array([content and {"bytes": content, "path": "x.png"} for content, _ in rows],
                           pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        names[1]: [label for _, label in rows]} | (extra or {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=2)


def contents(dataset: Dataset, split: str) -> list[tuple[str, Any]]:
    return [(dataset.classes[image.label], image.content()) for image in dataset.splits[split]]


ROWS = [(jpeg(10), 1), (jpeg(20), 0), (jpeg(30), 1)]


def test_shards_of_three_splits_with_class_names_from_the_metadata(tmp_path: Path):
    write(tmp_path / "trees/data/train-00000-of-00002.parquet", ROWS)
    write(tmp_path / "trees/data/train-00001-of-00002.parquet", [(jpeg(40), 0)])
    write(tmp_path / "trees/data/validation-00000-of-00001.parquet", [(jpeg(50), 1)])
    write(tmp_path / "trees/data/test-00000-of-00001.parquet", [(jpeg(60), 0)])
    (tmp_path / "trees/README.md").write_text("---\n")
    dataset = open_dataset(tmp_path / "trees")
    assert (dataset.name, dataset.classes) == ("trees", ("ash", "birch"))
    assert contents(dataset, "train") == [("ash", jpeg(20)), ("ash", jpeg(40)), ("birch", jpeg(10)),
                                          ("birch", jpeg(30))]
    assert contents(dataset, "val") == [("birch", jpeg(50))]
    assert contents(dataset, "test") == [("ash", jpeg(60))]
    assert dataset.notes[0].endswith("labeled by column 'label' of 4 Parquet files; ignored: nothing")
    assert dataset.splits["train"][0].pixels().shape == (10, 12, 3)


def test_folders_of_splits_as_in_the_converted_branch(tmp_path: Path):
    write(tmp_path / "trees/default/train/0000.parquet", ROWS)
    write(tmp_path / "trees/default/test/0000.parquet", ROWS[:1])
    dataset = open_dataset(tmp_path / "trees")
    assert {split: len(images) for split, images in dataset.splits.items()} == {"train": 3, "val": 1}
    assert "the test images are the validation set" in said(dataset)


def test_one_file_alone_and_labels_as_text(tmp_path: Path):
    write(tmp_path / "trees.parquet", [(content, ["ash", "birch"][label]) for content, label in ROWS], features={})
    dataset = open_dataset(tmp_path / "trees.parquet", held_out=0)
    assert (dataset.name, len(dataset.splits["train"]), dataset.classes) == ("trees", 3, ("ash", "birch"))


def test_rows_without_an_image_or_a_label_are_counted(tmp_path: Path):
    write(tmp_path / "trees.parquet", [*ROWS, (None, 1), (jpeg(70), -1), (jpeg(80), None)])
    dataset = open_dataset(tmp_path / "trees.parquet", held_out=0)
    assert len(dataset.splits["train"]) == 3
    assert "left out: 3 rows without an image or a label, such as row 3 of trees.parquet" in said(dataset)


def test_cifar100_of_hugging_face_has_its_fine_labels(tmp_path: Path):
    features = {"img": {"_type": "Image"}, "fine_label": CLASS_LABEL, "coarse_label": CLASS_LABEL}
    write(tmp_path / "cifar.parquet", ROWS, ("img", "fine_label"), features, {"coarse_label": [0, 0, 0]})
    assert contents(open_dataset(tmp_path / "cifar.parquet", held_out=0), "train")[0] == ("ash", jpeg(20))


def test_the_images_are_copied_once_and_read_from_the_cache(tmp_path: Path, cache: Path):
    write(tmp_path / "trees.parquet", ROWS)
    first = open_dataset(tmp_path / "trees.parquet").fingerprint()
    copies = {path: path.stat().st_mtime_ns for path in cache.rglob("*.tar")}
    assert len(copies) == 1
    assert open_dataset(tmp_path / "trees.parquet").fingerprint() == first
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.tar")} == copies
    shutil.rmtree(cache)
    assert open_dataset(tmp_path / "trees.parquet").fingerprint() == first


@pytest.mark.parametrize(("change", "problem"), [
    ({"names": ("image", "y"), "features": {}}, r"has no clear column of labels \(columns: image, y\)"),
    ({"extra": {"second": [b"x", b"y", b"z"]}, "features": {}}, r"has 2 columns of images"),
    ({"rows": [(jpeg(1), 0), (jpeg(2), 7)]}, r"has the label 7, and 2 class names")])
def test_unclear_files_are_refused(tmp_path: Path, change: dict[str, Any], problem: str):
    write(tmp_path / "trees.parquet", change.pop("rows", ROWS), **change)
    with pytest.raises(ValueError, match=problem):
        open_dataset(tmp_path / "trees.parquet")


def test_a_damaged_file_is_named(tmp_path: Path):
    write(tmp_path / "trees.parquet", ROWS)
    (tmp_path / "trees.parquet").write_bytes((tmp_path / "trees.parquet").read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"trees\.parquet cannot be read as Parquet"):
        open_dataset(tmp_path / "trees.parquet")


def test_without_pyarrow_the_remedy_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "trees.parquet", ROWS)
    for name in [name for name in sys.modules if name.startswith("pyarrow.parquet")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=re.escape(f"Parquet files need pyarrow; {install_line('parquet')}")):
        open_dataset(tmp_path / "trees.parquet")


def test_without_pyarrow_a_folder_with_parquet_files_is_said_to_have_them(tmp_path: Path, monkeypatch):
    (tmp_path / "hub/data").mkdir(parents=True)
    for name in ("train", "test"):
        (tmp_path / f"hub/data/{name}.parquet").touch()
    root = trees(tmp_path / "pets", ("cat", "dog"), 4)
    (root / "x.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=r"hub holds 2 Parquet files, such as data/test\.parquet, and whether there "
                                         r"are images and labels inside can only be read with pyarrow; "
                                         + re.escape(install_line("parquet")) + "$"):
        open_dataset(tmp_path / "hub")
    with pytest.raises(ValueError, match=r"pets holds a Parquet file, x\.parquet, and .*; pip install .*, or add "
                                         "--labels folders to use the folders of images alone"):
        open_dataset(root)
    assert open_dataset(root, labels="folders").classes == ("cat", "dog")


def test_parquet_files_in_an_archive_are_named(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "hub.zip", "w") as archive:
        archive.writestr("data/train.parquet", b"PAR1")
    with pytest.raises(ValueError, match=r"hub\.zip holds Parquet files, such as data/train\.parquet, which cannot "
                                         r"be read in an archive; unpack it, and name the folder"):
        open_dataset(tmp_path / "hub.zip")


# --- Beside other files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["x.parquet", "data/train-00000-of-00001.parquet", "cat/sub/x.parquet"])
def test_class_folders_beside_a_file_with_images_are_refused_and_chosen_by_the_option(tmp_path: Path, file: str):
    root = trees(tmp_path / "pets", ("cat", "dog"), 4)
    write(root / file, ROWS)
    with pytest.raises(ValueError, match=rf"pets holds folders of images, and also {file}, which holds other images "
                       rf"and labels; add --labels folders for the folders, or name {root}/{file} for the others"):
        open_dataset(root)
    dataset = open_dataset(root, labels="folders")
    assert (dataset.classes, per_class(dataset, "train")) == (("cat", "dog"), [3, 3])
    assert "ignored: " in dataset.notes[0]
    assert file in dataset.notes[0]


def test_a_file_without_images_such_as_features_is_named_and_not_used(tmp_path: Path):
    root = trees(tmp_path / "pets", ("cat", "dog"), 4)
    pq.write_table(pa.table({"name": ["cat/000.jpg"], "label": ["cat"], "fc7": [[0.5]]}), root / "features.parquet")
    dataset = open_dataset(root)
    assert dataset.classes == ("cat", "dog")
    assert dataset.notes[0].endswith("holds 2 classes (cat 4, dog 4); ignored: features.parquet")
    write(tmp_path / "hub/train.parquet", ROWS)
    shutil.copy(root / "features.parquet", tmp_path / "hub/features.parquet")
    (tmp_path / "hub/logo.jpg").write_bytes(jpeg(1))
    dataset = open_dataset(tmp_path / "hub")
    assert dataset.classes == ("ash", "birch")
    assert "left out: 1 Parquet file without images: features.parquet" in said(dataset)
    assert "left out: 1 image beside the files that hold images and labels: logo.jpg" in said(dataset)


def test_only_files_without_images_are_refused(tmp_path: Path):
    (tmp_path / "x").mkdir()
    pq.write_table(pa.table({"fc7": [0.5]}), tmp_path / "x/features.parquet")
    with pytest.raises(ValueError, match=r"x/features\.parquet has no column of images; name a folder of images"):
        open_dataset(tmp_path / "x")


def test_the_option_for_folders_is_refused_without_folders_of_images(tmp_path: Path):
    write(tmp_path / "trees/x.parquet", ROWS)
    with pytest.raises(ValueError, match=r"trees holds its own labels, and --labels folders would have no effect"):
        open_dataset(tmp_path / "trees", labels="folders")
