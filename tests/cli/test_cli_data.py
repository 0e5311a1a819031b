"""The `check`, `pack` and `verify` commands, and `alexnet.check`."""

import json
import shutil

import pytest

from command_line import SMALL, alexnet
from sample_images import write_smooth_image


def test_pack_then_train_on_the_packed_folder(class_folders, tmp_path, capsys):
    assert alexnet("pack", class_folders, tmp_path / "packed") == 0
    assert "4 classes, 120 train, 44 val, 32x32 pixels, raw" in capsys.readouterr().out
    assert alexnet("train", tmp_path / "packed", *SMALL, "--epochs", 1, "--out", tmp_path / "run") == 0


def test_verify_names_the_shard_with_a_flipped_bit(class_folders, tmp_path, capsys):
    assert alexnet("pack", class_folders, tmp_path / "packed") == 0
    assert alexnet("verify", tmp_path / "packed") == 0
    assert "all 9 files have the right checksum" in capsys.readouterr().out
    shard = tmp_path / "packed" / "train-00000.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert alexnet("verify", tmp_path / "packed") == 2
    assert "train-00000.npy is damaged: its checksum does not match" in capsys.readouterr().err


def test_check_shows_classes_splits_and_counts(class_folders, tmp_path, capsys):
    import alexnet as package

    found = package.check(class_folders, quick=True)
    assert found.classes == ("ash", "birch", "cedar", "date palm")
    assert found.images == {"train": dict.fromkeys(found.classes, 30), "val": dict.fromkeys(found.classes, 11)}
    assert alexnet("check", class_folders, "--quick") == 0
    printed = capsys.readouterr().out
    assert "164 images of 4 classes (120 train, 44 val)" in printed
    assert any(line.split() == ["date", "palm", "30", "11"] for line in printed.splitlines())
    # Always answering one of four classes of 11 validation images each is wrong about 33 of 44.
    assert "chance: 75.0% top-1 error on val; largest class alone (ash): 75.0%" in printed
    assert not (tmp_path / "cache").exists()  # a quick check writes nothing
    assert alexnet("pack", class_folders, tmp_path / "packed") == 0
    assert package.check(tmp_path / "packed").images == found.images
    capsys.readouterr()
    assert alexnet("check", class_folders, "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"]["val"]["birch"] == 11


@pytest.fixture
def different(tmp_path):
    """train/ and val/ of two classes, 12 and 4 images each, of which no two look the same."""
    for number in range(32):
        split = "train" if number < 24 else "val"
        write_smooth_image(tmp_path / "images" / split / ("ash", "birch")[number % 2] / f"{number:02}.png", number)
    return tmp_path / "images"


def test_check_says_first_what_needs_attention(different, capsys):
    shutil.copy(different / "train/ash/00.png", different / "val/ash/copy.png")
    (different / "train/birch/07.png").write_bytes(b"<html>not found</html>")
    assert alexnet("check", different, "--side", 32) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "2 things need attention, the most harmful first:"
    text = " ".join(" ".join(lines).split())
    assert "1. 1 image of 33 cannot be decoded, such as train/birch/07.png (it begins with b'<html>" in text
    assert ("2. val: 1 image of 9 is also a training image, byte for byte, such as val/ash/copy.png and "
            "train/ash/00.png") in text
    assert "sizes: median 40 x 40, smallest 40 x 40, largest 40 x 40 pixels formats: 32 PNG" in text
    assert "labels were not checked: that takes a trained network, --run RUN" in text
    assert alexnet("check", different, "--side", 32, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["duplicates"] == [{"kind": "exact", "images": [
        {"name": "train/ash/00.png", "split": "train", "class": "ash"},
        {"name": "val/ash/copy.png", "split": "val", "class": "ash"}]}]
    assert [image["name"] for image in found["broken"]] == ["train/birch/07.png"]
    assert [finding["kind"] for finding in found["findings"]] == ["broken", "copies_across_splits"]


def test_check_shows_the_largest_and_the_smallest_of_many_classes(tmp_path, capsys):
    for label in range(30):
        for number in range(3 + label):
            write_smooth_image(tmp_path / "images" / f"class {label}" / f"{number}.png", 100 * label + number, side=8)
    assert alexnet("check", tmp_path / "images", "--quick") == 0
    printed = capsys.readouterr().out
    assert "  ... 6 more, which --json lists ..." in printed
    rows = [line.split("  ")[1] for line in printed.splitlines() if line.startswith("  class ")]
    assert [rows[0], rows[1], rows[-1], len(rows)] == ["class", "class 29", "class 0", 25]


def test_check_of_good_images_says_that_nothing_needs_attention(different, capsys):
    assert alexnet("check", different, "--side", 32) == 0
    assert capsys.readouterr().out.splitlines()[2] == "Nothing needs attention."


def test_check_of_a_pack_says_what_cannot_be_known(class_folders, tmp_path, capsys):
    assert alexnet("pack", class_folders, tmp_path / "packed") == 0
    capsys.readouterr()
    assert alexnet("check", tmp_path / "packed") == 0
    printed = capsys.readouterr().out
    assert "the original files are not in a packed folder" in printed
    assert "sizes:" not in printed
    assert "formats:" not in printed


def test_check_with_a_run_finds_mislabeled_images_and_shows_them_on_its_page(class_folders, run, tmp_path, capsys):
    folder = tmp_path / "images"
    shutil.copytree(class_folders, folder)
    moved = {"train/birch/ash 1.png": "train/ash/003.png", "train/cedar/ash 2.png": "train/ash/017.png",
             "val/ash/birch.png": "val/birch/005.png"}
    for wrong, right in moved.items():
        (folder / right).rename(folder / wrong)
    page = tmp_path / "check.html"
    assert alexnet("check", folder, "--run", run, "--html", page, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert moved.keys() <= {suspect["name"] for suspect in found["suspects"][:6]}
    first = found["suspects"][0]
    assert first["class"] != first["predicted"]
    assert first["probability"] > first["class_probability"]
    assert "suspicious_labels" in [finding["kind"] for finding in found["findings"]]
    text = page.read_text()
    assert "Suspicious labels" in text
    assert "train/birch/ash 1.png" in text
    assert "data:image/jpeg" in text
    assert "http:" not in text
    assert "https:" not in text


def test_check_refuses_a_run_in_a_quick_check(class_folders, run, capsys):
    assert alexnet("check", class_folders, "--quick", "--run", run) == 2
    assert "leave out --quick or --run" in capsys.readouterr().err
