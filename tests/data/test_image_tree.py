"""A folder on disk is listed completely, what cannot be listed is named, and prediction reads the files of training."""

import os
from pathlib import Path

import pytest

from alexnet.data.image_tree import list_image_files
from alexnet.data.sources.detect import open_dataset
from alexnet.data.tree import FolderTree
from alexnet.errors import UserError
from image_files import names, plant, said, trees


def relative(paths: tuple[Path, ...], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_a_folder_tree_lists_files_and_folders_sorted(tmp_path: Path):
    tree = FolderTree(plant(tmp_path, "b/2.jpg", "b/10.jpg", "a.txt", "b/c/1.jpg", "empty/"))
    assert tree.files == ("a.txt", "b/10.jpg", "b/2.jpg", "b/c/1.jpg")
    assert tree.folders == ("b", "b/c", "empty")
    assert (tree.name, tree.source, tree.skipped) == (tmp_path.name, str(tmp_path), {})
    assert tree.image("b/2.jpg", 1).pixels().shape == (10, 12, 3)


def test_dangling_links_and_pipes_do_not_end_the_listing(tmp_path: Path):
    trees(tmp_path, count=2)
    (tmp_path / "ash" / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "gone").symlink_to("nowhere", target_is_directory=True)
    (tmp_path / "birch" / "one.jpg").symlink_to("two.jpg")
    (tmp_path / "birch" / "two.jpg").symlink_to("one.jpg")
    os.mkfifo(tmp_path / "ash" / "pipe.jpg")
    dataset = open_dataset(tmp_path, held_out=0)
    assert len(dataset.splits["train"]) == 6
    for ignored in ("ash/gone.jpg (link to nothing)", "gone (link to nothing)",
                    "ash/pipe.jpg (neither a file nor a folder)", "birch/one.jpg (link that cannot be followed"):
        assert ignored in said(dataset)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read every folder")
def test_an_unreadable_folder_is_named(tmp_path: Path):
    trees(tmp_path, count=2)
    (tmp_path / "cedar").chmod(0)
    try:
        assert "cedar/ (cannot be listed: Permission denied)" in said(open_dataset(tmp_path, held_out=0))
    finally:
        (tmp_path / "cedar").chmod(0o755)


def test_a_link_to_a_folder_above_is_named_and_not_followed(tmp_path: Path):
    trees(tmp_path, count=2)
    (tmp_path / "birch" / "up").symlink_to(tmp_path, target_is_directory=True)
    dataset = open_dataset(tmp_path, held_out=0)
    assert names(dataset, "train") == [f"{tree}/{number:03}.jpg" for tree in ("ash", "birch", "cedar")
                                       for number in range(2)]
    assert "birch/up (link to a folder that contains it)" in said(dataset)


def test_a_missing_folder_is_refused():
    with pytest.raises(UserError, match="nowhere cannot be listed: No such file or directory"):
        FolderTree("nowhere")


def test_a_folder_stands_for_its_images_and_a_file_for_itself(tmp_path: Path):
    plant(tmp_path, "b.jpg", "a.jpg", "deep/c.jpg", ".hidden")
    listed = list_image_files([tmp_path / "b.jpg", tmp_path])
    assert relative(listed.paths, tmp_path) == ["b.jpg", "a.jpg", "b.jpg", "deep/c.jpg"]
    assert listed.notes == (f"ignored in {tmp_path}: .hidden",)
    with pytest.raises(UserError, match="nowhere does not exist"):
        list_image_files([tmp_path / "nowhere"])


def test_a_folder_without_images_is_refused_with_what_it_holds(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match=r"holds no images \(ignored in .*: notes\.txt\); name an image"):
        list_image_files([tmp_path])


def test_prediction_and_training_read_the_same_files(tmp_path: Path):
    pool = plant(tmp_path / "pool", "1.jpg", "2.jpg")
    data = plant(trees(tmp_path / "data", count=2), "ash/.ipynb_checkpoints/1.jpg", "ash/deep/3.JPG", "@eaDir/1.jpg",
                 "birch/._001.jpg", "runs/a/log.jsonl", "runs/a/figures/mistakes.png")
    for name in ("Thumbs.db", "desktop.ini", "readme.txt"):
        (data / "ash" / name).write_text("no image")
    (data / "linked").symlink_to(pool, target_is_directory=True)
    predicted = relative(list_image_files([data]).paths, data)
    assert predicted == sorted(names(open_dataset(data, held_out=0), "train")) == sorted(
        ["ash/000.jpg", "ash/001.jpg", "ash/deep/3.JPG", "birch/000.jpg", "birch/001.jpg", "cedar/000.jpg",
         "cedar/001.jpg", "linked/1.jpg", "linked/2.jpg"])
