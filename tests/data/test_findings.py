"""Scan, duplicates and findings of folders and packs: each kind with the images that it must name."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet.data import findings as findings_module
from alexnet.data import images
from alexnet.data.catalog import Catalog
from alexnet.data.duplicates import find_duplicates
from alexnet.data.findings import baseline, count_findings, pack_findings, scan_findings
from alexnet.data.packing import pack
from alexnet.data.scan import scan
from alexnet.data.sources.detect import open_dataset
from alexnet.data.sources.embedded import open_embedded
from sample_images import write_smooth_image


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(findings_module, "FEW_FOR_SCRATCH", 1)  # the folders of these tests are small


@pytest.fixture
def folder(tmp_path):
    """train/ and val/ of two classes, 12 and 4 images each, all different."""
    for number in range(32):
        split, label = ("train", number % 2) if number < 24 else ("val", number % 2)
        write_smooth_image(tmp_path / "images" / split / ("ash", "birch")[label] / f"{number:02}.png", number)
    return tmp_path / "images"


def found(folder: Path, side: int = 32) -> dict[str, str]:
    """The findings by their kind, as sentences."""
    catalog = Catalog(open_dataset(folder))
    scanned = scan(catalog)
    return {finding.kind: str(finding) for finding in scan_findings(
        catalog, scanned, find_duplicates(catalog, scanned), (), side)}


def test_a_good_folder_has_no_finding(folder):
    assert found(folder) == {}


def test_a_training_image_copied_into_val_is_named_with_its_copy(folder):
    shutil.copy(folder / "train/ash/00.png", folder / "val/ash/other name.png")
    findings = found(folder)
    assert findings.keys() == {"copies_across_splits"}
    assert findings["copies_across_splits"].startswith(
        "val: 1 image of 9 is also a training image, byte for byte: val/ash/other name.png and "
        "train/ash/00.png; ")


def test_a_copy_in_another_split_and_another_class_is_one_finding(folder):
    shutil.copy(folder / "train/ash/00.png", folder / "val/birch/other name.png")
    assert found(folder) == {"copies_across_splits": (
        "val: 1 image of 9 is also a training image, byte for byte: val/birch/other name.png and "
        "train/ash/00.png; 1 of 1 has a copy in another class; delete one copy, the one in the wrong class; otherwise "
        "the error on val looks better than it is")}


def test_few_training_images_in_all_call_for_trained_weights(folder, monkeypatch):
    monkeypatch.setattr(findings_module, "FEW_FOR_SCRATCH", 500)
    (folder / "train/ash/00.png").write_bytes(b"<html>")  # not counted
    assert found(folder) == {"few_images_in_all": (
        "23 training images (12 a class on average) are few for training from scratch; start from trained weights: "
        "train --init pretrained (in this package, 64 pixels), --init torchvision (224 pixels, 244 MB to download), or "
        "--init RUN with a run of yours")}


def test_patches_of_the_package_get_no_advice_of_trained_weights():
    """Those weights are of objects, and the class of a patch is the photograph that it was cut from."""
    assert "few_images_in_all" not in {each.kind for each in count_findings(Catalog(open_embedded(12, 3)))}


def test_an_image_in_two_classes_is_named_with_both(folder):
    shutil.copy(folder / "train/ash/00.png", folder / "train/birch/00.png")
    findings = found(folder)
    assert findings.keys() == {"copies_across_classes"}
    assert "train/ash/00.png (ash) and train/birch/00.png (birch)" in findings["copies_across_classes"]


def test_a_class_that_no_image_is_left_of_is_named(folder):
    for file in (folder / "val/birch").iterdir():
        file.write_bytes(b"<html>")
    assert found(folder)["emptied_class"] == (
        "val: no image of 1 class can be decoded: birch; training refuses that; "
        "repair or replace the images")


def test_a_copy_in_the_same_class_and_split_is_the_least_of_the_findings(folder):
    for name in ("a", "b"):
        shutil.copy(folder / "train/ash/00.png", folder / f"train/ash/{name}.png")
    findings = found(folder)
    assert findings.keys() == {"copies"}
    assert "2 images are exact copies of another one of the same class and split" in findings["copies"]
    (folder / "train/ash/b.png").unlink()
    assert "1 image is an exact copy of another one of the same class and split" in found(folder)["copies"]


def test_an_image_saved_again_is_a_near_copy_and_not_an_exact_one(folder):
    Image.open(folder / "train/ash/00.png").save(folder / "val/birch/again.jpg", quality=60)
    findings = found(folder)
    assert findings.keys() == {"near_copies_across_splits"}
    assert ("val/birch/again.jpg and train/ash/00.png; 1 of 1 has a copy in another class"
            in findings["near_copies_across_splits"])


def test_exact_copies_alone_are_no_near_copies(folder):
    shutil.copy(folder / "train/ash/00.png", folder / "train/ash/copy.png")
    catalog = Catalog(open_dataset(folder))
    duplicates = find_duplicates(catalog, scan(catalog))
    assert [group.kind for group in duplicates.groups] == ["exact"]
    assert [catalog.names_N[row] for row in duplicates.groups[0].rows] == ["train/ash/00.png", "train/ash/copy.png"]


def test_few_images_and_imbalance(tmp_path):
    for number in range(36):
        write_smooth_image(tmp_path / "train" / ("rare" if number < 3 else "common") / f"{number}.png", number)
    for number in range(50, 60):
        write_smooth_image(tmp_path / "val" / ("rare" if number < 51 else "common") / f"{number}.png", number)
    findings = found(tmp_path)
    assert findings.keys() == {"few_images", "imbalance"}
    assert "1 class of 2 has fewer than 10 train images: rare with 3" in findings["few_images"]
    # 33 / 3 = 11 times; common is 9 of 10 validation images.
    assert ("common has 33 train images and rare 3, 11 times fewer; always answering common would be wrong for 10.0%"
            in findings["imbalance"])


def test_a_validation_split_of_one_class_is_named(folder):
    shutil.rmtree(folder / "val" / "birch")
    assert found(folder) == {"one_class_measured": (
        "val: all images are of one class, ash: always answering this class has no error on them; "
        "add images of the other classes to val")}


def test_a_class_that_only_one_split_lacks_is_named_once_for_it(tmp_path):
    for split, classes in (("train", ("church", "fox", "owl")), ("val", ("fox", "owl")), ("test", ("church", "fox"))):
        for number in range(30):
            write_smooth_image(tmp_path / split / classes[number % len(classes)] / f"{number:02}.png",
                               number + 100 * len(classes) + 50 * (split == "test"))
    catalog = Catalog(open_dataset(tmp_path))
    assert [(each.kind, str(each)) for each in count_findings(catalog)] == [
        ("unmeasured_classes", "val: there is no image of church (1 of 3 classes), so the error says nothing of it; "
                               "add images of it to val"),
        ("unmeasured_classes", "test: there is no image of owl (1 of 3 classes), so the error says nothing of it; "
                               "add images of it to test")]


def test_classes_of_one_image_of_which_none_is_held_out_are_named(tmp_path):
    for number in range(40):
        write_smooth_image(tmp_path / "x" / ("ash", "birch")[number % 2] / f"{number}.png", number)
    for number, name in enumerate(("elm", "oak")):
        write_smooth_image(tmp_path / "x" / name / "1.png", 90 + number)
    packed = pack(open_dataset(tmp_path / "x"), tmp_path / "packed", side=8)
    for finding in (count_findings(Catalog(open_dataset(tmp_path / "x"))), pack_findings(packed)):
        assert {each.kind: each.problem for each in finding}["unmeasured_classes"] == (
            "there is no image of elm, oak (2 of 4 classes), so the error says nothing of them")
        assert {each.kind: each.remedy for each in finding}["unmeasured_classes"] == (  # there is no folder val
            "add images of them to the data: 10% of each class are then held out as val")


def test_chance_and_largest_class_are_measured_on_val(tmp_path):
    counts = {"train": {"a": 3, "b": 1, "c": 1}, "val": {"a": 1, "b": 4, "c": 3}}
    for split, classes in counts.items():
        for name, count in classes.items():
            for number in range(count):
                write_smooth_image(tmp_path / split / name / f"{number}.png", number)
    base = baseline(Catalog(open_dataset(tmp_path)))
    assert (base.split, base.largest_class) == ("val", "a")
    assert base.chance_error == pytest.approx(2 / 3)
    assert base.largest_class_error == pytest.approx(7 / 8)  # a, the largest of train, is 1 of 8 in val


def test_small_and_blank_images(folder):
    write_smooth_image(folder / "train/ash/tiny.png", 99, side=9)
    Image.new("RGB", (50, 50), "white").save(folder / "train/birch/white.png")
    findings = found(folder)
    assert findings.keys() == {"small_images", "blank"}
    assert ("1 image of 34 is smaller than 32 pixels and enlarged for the network: train/ash/tiny.png with 9 x 9"
            in findings["small_images"])
    assert "nothing else: train/birch/white.png" in findings["blank"]


def test_small_images_throughout_call_for_a_network_of_their_size(folder):
    assert "32 images of 32 are smaller" in found(folder, side=224)["small_images"]
    assert "--arch cifar is made for images of this size" in found(folder, side=224)["small_images"]


def test_very_long_images_are_named_the_worst_first_with_the_share_that_is_seen(folder):
    for name, size in (("strip", (40, 3000)), ("banner", (500, 100)), ("wide", (96, 32)), ("pole", (40, 200)),
                       ("panorama", (128, 32))):  # wide is exactly 3 times as long
        write_smooth_image(folder / "train/ash/x.png", len(name))
        with Image.open(folder / "train/ash/x.png") as image:
            image.resize(size).save(folder / f"train/ash/{name}.png")
    (folder / "train/ash/x.png").unlink()
    assert found(folder)["elongated"] == (
        "4 images of 37 have one side more than 3 times as long as the other, and the network sees the central square "
        "at most: 1.3% of train/ash/strip.png with 40 x 3,000, 20% of train/ash/banner.png with 500 x 100, 20% of "
        "train/ash/pole.png with 40 x 200 and 1 more; cut out the parts that matter")


# --- The scan ---------------------------------------------------------------------------------------------------------


def test_the_scan_records_sizes_formats_and_broken_files(folder):
    Image.new("RGB", (30, 20), "white").save(folder / "train/ash/jpeg called.png", "JPEG")
    (folder / "train/ash/broken.jpg").write_bytes(b"<html>not found</html>")
    (folder / "val/ash/broken.jpg").write_bytes(b"<html>not found</html>")
    catalog = Catalog(open_dataset(folder))
    scanned = scan(catalog)
    rows = {name: row for row, name in enumerate(catalog.names_N)}
    jpeg = rows["train/ash/jpeg called.png"]
    assert (scanned.formats_N[jpeg], scanned.sizes_N2[jpeg].tolist()) == ("JPEG", [30, 20])
    assert (scanned.formats_N[0], scanned.sizes_N2[0].tolist()) == ("PNG", [40, 40])
    assert scanned.broken.keys() == {rows["train/ash/broken.jpg"], rows["val/ash/broken.jpg"]}
    assert scanned.blank.tolist() == [jpeg]
    # Two broken files with the same bytes are not images that leak from one split into the other.
    assert find_duplicates(catalog, scanned).groups == ()


def test_a_second_scan_reads_the_cache_and_a_changed_folder_is_scanned_again(folder, tmp_path):
    catalog = Catalog(open_dataset(folder))
    (folder / "train/ash/broken.jpg").write_bytes(b"")
    catalog = Catalog(open_dataset(folder))
    first, calls = scan(catalog), []
    again = scan(catalog, on_progress=lambda done, total: calls.append(done))
    assert not calls
    assert again.broken == first.broken
    for field in ("content_N", "perceptual_N2", "sizes_N2", "formats_N"):
        np.testing.assert_array_equal(getattr(again, field), getattr(first, field))
    write_smooth_image(folder / "train/ash/new.png", 77)
    assert len(scan(Catalog(open_dataset(folder))).content_N) == len(first.content_N) + 1


def test_images_that_can_be_decoded_since_the_scan_are_scanned_again(folder, monkeypatch):
    """As after the installation of a decoder, such as that of HEIC."""
    decode = images.decode
    with monkeypatch.context() as without_decoder:
        without_decoder.setattr(images, "decode", lambda data, name, **_: decode(b"", name))
        assert len(scan(Catalog(open_dataset(folder))).broken) == 32
    assert scan(Catalog(open_dataset(folder))).broken == {}


def test_a_damaged_cache_file_is_written_again(folder, tmp_path):
    catalog = Catalog(open_dataset(folder))
    first = scan(catalog)
    [file] = (tmp_path / "cache").rglob("*.npz")
    file.write_bytes(file.read_bytes()[:1000])
    np.testing.assert_array_equal(scan(catalog).content_N, first.content_N)


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_a_pack_has_the_duplicates_of_its_originals(folder, tmp_path, codec):
    shutil.copy(folder / "train/ash/00.png", folder / "val/ash/copy.png")
    Image.open(folder / "train/birch/01.png").save(folder / "val/birch/again.jpg", quality=60)
    packed = pack(open_dataset(folder), tmp_path / "packed", side=32, codec=codec)
    names = []
    for source in (open_dataset(folder), packed):
        catalog = Catalog(source)
        names.append({(group.kind, frozenset(catalog.names_N[row] for row in group.rows))
                      for group in find_duplicates(catalog, scan(catalog)).groups})
    assert names[0] == names[1] == {("exact", frozenset({"train/ash/00.png", "val/ash/copy.png"})),
                                    ("near", frozenset({"train/birch/01.png", "val/birch/again.jpg"}))}


def test_pack_findings_need_no_pixels(folder, tmp_path, monkeypatch):
    shutil.copy(folder / "train/ash/00.png", folder / "val/ash/copy.png")
    shutil.copy(folder / "train/ash/02.png", folder / "train/ash/copy.png")
    packed = pack(open_dataset(folder), tmp_path / "packed", side=8)
    monkeypatch.setattr("alexnet.data.packed.PackedSplit.read", lambda *_: pytest.fail("an image was read"))
    assert [finding.kind for finding in pack_findings(packed)] == ["copies_across_splits"]


def test_catalog_numbers_all_images(folder):
    catalog = Catalog(open_dataset(folder))
    assert catalog.splits == {"train": 24, "val": 8}
    assert catalog.locate(25) == ("val", 1)
    assert catalog.describe([0, 25]) == [
        {"name": "train/ash/00.png", "split": "train", "class": "ash"},
        {"name": "val/ash/26.png", "split": "val", "class": "ash"}]
    file = io.BytesIO((folder / "val/ash/26.png").read_bytes())
    np.testing.assert_array_equal(catalog.pixels(25), np.asarray(Image.open(file)))
