"""Tiny ImageNet as it is downloaded, and ImageNet unpacked with a flat val/: labels from their annotation files."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from alexnet.data.dataset import Dataset
from alexnet.data.sources.detect import open_dataset
from image_files import jpeg, plant, said

TENCH, GOLDFISH, PEACH = "n01440764", "n01443537", "n07751148"  # PEACH is not among ILSVRC-2012's classes


def labels(dataset: Dataset, split: str) -> dict[str, str]:
    return {image.name.rpartition("/")[2]: dataset.classes[image.label] for image in dataset.splits[split]}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    root = tmp_path / "tiny-imagenet-200"
    for wnid in (GOLDFISH, PEACH):
        plant(root, *(f"train/{wnid}/images/{wnid}_{number}.JPEG" for number in range(3)))
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t10\t63\t58\n")
    plant(root, *(f"val/images/val_{number}.JPEG" for number in range(4)), "test/images/test_0.JPEG")
    (root / "val/val_annotations.txt").write_text(
        f"val_0.JPEG\t{GOLDFISH}\t0\t32\t44\t62\nval_1.JPEG\t{PEACH}\t52\t55\t57\t59\nval_2.JPEG\t{PEACH}\t4\t0\t60\t55\n"
        f"gone.JPEG\t{PEACH}\t0\t0\t1\t1\n")
    (root / "words.txt").write_text("n00001740\tentity\n" f"{PEACH}\tpeach, fuzzy fruit\n")
    (root / "wnids.txt").write_text(f"{GOLDFISH}\n{PEACH}\n")
    return root


@pytest.mark.parametrize("form", ["folder", "folder around it", "zip"])
def test_tiny_imagenet_has_the_labels_of_its_annotations(tiny: Path, tmp_path: Path, form: str):
    source = {"folder": tiny, "folder around it": tmp_path, "zip": tmp_path / "tiny.zip"}[form]
    if form == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            for path in sorted(tiny.rglob("*")):
                archive.write(path, path.relative_to(tmp_path))
    dataset = open_dataset(source)
    assert (dataset.classes, dataset.wnids, dataset.held_out) == (("goldfish", "peach"), (GOLDFISH, PEACH), 0)
    assert labels(dataset, "train") == {f"{wnid}_{number}.JPEG": name for wnid, name in (
        (GOLDFISH, "goldfish"), (PEACH, "peach")) for number in range(3)}
    assert labels(dataset, "val") == {"val_0.JPEG": "goldfish", "val_1.JPEG": "peach", "val_2.JPEG": "peach"}
    assert "left out: 2 images without a label, such as " in said(dataset)  # val_3 and the test image
    assert "left out: 1 line of val_annotations.txt without an image: " in said(dataset)


def test_a_damaged_annotation_of_tiny_imagenet_is_refused(tiny: Path):
    (tiny / "val/val_annotations.txt").write_text("val_0.JPEG\tgoldfish\t0\t32\t44\t62\n")
    with pytest.raises(ValueError, match=r"val_annotations\.txt in .* is damaged: a line has no WordNet ID"):
        open_dataset(tiny)


# --- ILSVRC-2012 ------------------------------------------------------------------------------------------------------


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """As Kaggle has it: ILSVRC/Data/CLS-LOC/{train,val,test}, the tables beside ILSVRC/."""
    root, data = tmp_path / "imagenet", "ILSVRC/Data/CLS-LOC"
    plant(root, *(f"{data}/train/{wnid}/{wnid}_{number}.JPEG" for wnid in (TENCH, GOLDFISH) for number in range(2)),
          *(f"{data}/val/ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2, 3)),
          f"{data}/test/ILSVRC2012_test_00000001.JPEG")
    return root


EXPECTED = {"ILSVRC2012_val_00000001.JPEG": "goldfish", "ILSVRC2012_val_00000002.JPEG": "tench",
            "ILSVRC2012_val_00000003.JPEG": "goldfish"}


def test_kaggles_solution_labels_the_flat_validation_images(flat: Path):
    (flat / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\n"
        f"ILSVRC2012_val_00000003,{GOLDFISH} 85 1 499 272 {GOLDFISH} 131 0 499 254 \n"
        f"ILSVRC2012_val_00000001,{GOLDFISH} 108 0 411 178 \nILSVRC2012_val_00000002,{TENCH} 0 14 416 299 \n")
    dataset = open_dataset(flat)
    assert (dataset.classes, dataset.wnids) == (("tench", "goldfish"), (TENCH, GOLDFISH))
    assert labels(dataset, "val") == EXPECTED
    assert len(dataset.splits["train"]) == 4
    assert "left out: 1 image without a label: ILSVRC/Data/CLS-LOC/test/" in said(dataset)


@pytest.mark.parametrize("packed", [False, True])
def test_the_devkit_labels_the_flat_validation_images(flat: Path, packed: bool):
    """By the devkit's meta.mat the tench is number 449 and the goldfish 450."""
    files = {"ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": b"450\n449\n450\n"}
    if packed:
        memory = io.BytesIO()
        with tarfile.open(fileobj=memory, mode="w") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        (flat / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(gzip.compress(memory.getvalue()))
    else:
        for name, content in files.items():
            (flat / name).parent.mkdir(parents=True, exist_ok=True)
            (flat / name).write_bytes(content)
    assert labels(open_dataset(flat), "val") == EXPECTED


def test_flat_validation_images_without_labels_are_refused_with_the_files_that_have_them(flat: Path):
    with pytest.raises(ValueError, match=r"no file with their labels; put Kaggle's LOC_val_solution\.csv, or Image"):
        open_dataset(flat)


def test_validation_images_in_folders_of_their_classes_need_no_table(tmp_path: Path):
    root = plant(tmp_path / "imagenet", *(f"{split}/{wnid}/ILSVRC2012_val_0000000{number}.JPEG" for split, numbers in (
        ("train", (1, 2)), ("val", (3,))) for wnid in (TENCH, GOLDFISH) for number in numbers))
    assert [len(open_dataset(root).splits[split]) for split in ("train", "val")] == [4, 2]


def test_one_archive_of_imagenet_alone_is_refused_with_what_belongs_to_it(tmp_path: Path):
    with tarfile.open(tmp_path / "ILSVRC2012_img_train.tar", "w") as outer:
        inner = io.BytesIO()
        with tarfile.open(fileobj=inner, mode="w") as tar:
            member = tarfile.TarInfo(f"{TENCH}_1.JPEG")
            member.size = len(jpeg())
            tar.addfile(member, io.BytesIO(jpeg()))
        member = tarfile.TarInfo(f"{TENCH}.tar")
        member.size = len(inner.getvalue())
        outer.addfile(member, io.BytesIO(inner.getvalue()))
    with pytest.raises(ValueError, match=r"holds no images but other archives.* with ImageNet's ILSVRC2012_devkit_t12"):
        open_dataset(tmp_path / "ILSVRC2012_img_train.tar")


def test_imagenets_validation_images_in_folders_of_other_classes_have_these_classes(tmp_path: Path):
    plant(tmp_path, *(f"{name}/ILSVRC2012_val_0000000{number}.JPEG" for name in ("cat", "dog") for number in (1, 2)))
    assert open_dataset(tmp_path).classes == ("cat", "dog")
