"""The summary of a data set is the same before and after packing, and says what was left out."""

from pathlib import Path

from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.data.summary import DataSummary, brief_note, open_source, summarize
from image_files import plant, trees


def check(data: Path) -> DataSummary:
    return summarize(open_source(data), str(data))


def test_a_folder_and_its_pack_have_the_same_summary(tmp_path: Path):
    folder = trees(tmp_path / "images", count=10)
    before = check(folder)
    after = check(pack(open_dataset(folder), tmp_path / "packed", side=8).path)
    assert before.images == after.images == {
        split: dict.fromkeys(("ash", "birch", "cedar"), count) for split, count in (("train", 9), ("val", 1))}
    assert (before.classes, before.notes, before.held_out) == (after.classes, after.notes, after.held_out)
    assert before.held_out == 0.1


def test_the_summary_of_a_pack_has_the_images_that_could_be_decoded(tmp_path: Path):
    folder = plant(trees(tmp_path / "images", count=10, under="train/"), "val/ash/a.jpg", "val/birch/b.jpg")
    (folder / "train" / "ash" / "003.jpg").write_bytes(b"<html>")
    summary = check(pack(open_dataset(folder), tmp_path / "packed", side=8).path)
    assert summary.images["train"] == {"ash": 9, "birch": 10, "cedar": 10}
    assert summary.images["val"] == {"ash": 1, "birch": 1}


def test_what_is_not_used_is_in_the_json(tmp_path: Path):
    folder = trees(tmp_path / "images", count=10)
    (folder / "notes.txt").write_text("taken in May")
    assert check(folder).to_json()["ignored"] == [{"path": "notes.txt", "reason": ".txt", "count": 1}]


def test_one_line_says_what_a_command_reads(tmp_path: Path):
    folder = trees(tmp_path / "images", count=10)
    assert brief_note(open_dataset(folder), "images") == (
        "images: 30 images of 3 classes; no validation split of its own: 27 are train, 3 val")
    assert brief_note(open_dataset(folder), "images", division=False) == "images: 30 images of 3 classes"
    assert brief_note(open_dataset(folder), "images", broken={"train": 2, "val": 1}) == (
        "images: 27 images of 3 classes; no validation split of its own: 25 are train, 2 val; 3 more cannot be decoded")
    (folder / "ash" / "Thumbs.db").touch()
    (folder / "README.txt").touch()
    dataset = open_dataset(folder)
    assert brief_note(dataset, "images") == (
        "images: 30 images of 3 classes; no validation split of its own: 27 are train, 3 val; ignored: README.txt, "
        "ash/Thumbs.db")
    packed = pack(dataset, tmp_path / "packed", side=8)
    assert brief_note(packed, "packed") == (
        "packed: 30 images of 3 classes; no validation split of its own: 27 are train, 3 val")


def test_the_line_counts_the_notes_that_it_leaves_out(tmp_path: Path):
    folder = trees(trees(tmp_path / "images", count=2, under="train/"), count=1, under="test/")
    assert brief_note(open_dataset(folder), "images") == (
        "images: 9 images of 3 classes; 1 more note: alexnet check images")


def test_the_command_that_shows_all_notes_keeps_the_groups(tmp_path: Path):
    folder = trees(tmp_path / "my images", count=10)
    assert brief_note(open_dataset(folder, group="{number}.jpg"), "my images").endswith(
        "more note: alexnet check 'my images' --group '{number}.jpg'")
