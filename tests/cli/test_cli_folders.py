"""What a folder was understood to be is said by every command that reads it, and kept in the log and the report."""

import json
from pathlib import Path

import pytest

from command_line import SMALL, alexnet
from image_files import jpeg, plant, trees
from report_runs import words

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders in training_set/ and test_set/, beside images of no split and files that are no images."""
    root = tmp_path_factory.mktemp("data") / "pets"
    for split in ("training_set/training_set", "test_set/test_set"):
        trees(root, ("cat", "dog"), 3, under=f"{split}/")
    plant(root, "single_prediction/1.jpg", "__MACOSX/1.jpg")
    (root / "training_set" / "training_set" / "cat" / "Thumbs.db").touch()
    return root


@pytest.fixture(scope="module")
def understood(folder: Path) -> str:
    return (f"{folder} holds training_set/training_set/: 2 classes (cat 3, dog 3), test_set/test_set/: 2 classes "
            "(cat 3, dog 3); ignored: single_prediction/ (beside training_set/ and no split, 1 file), "
            "training_set/training_set/cat/Thumbs.db, __MACOSX/ (hidden or system folder)")


def test_check_and_pack_say_what_the_folder_is(folder: Path, understood: str, tmp_path: Path, capsys):
    assert alexnet("check", folder) == 0
    assert understood in " ".join(capsys.readouterr().out.split())
    assert alexnet("pack", folder, tmp_path / "packed", "--side", "32") == 0
    assert understood in capsys.readouterr().err
    assert alexnet("check", tmp_path / "packed") == 0
    assert understood in " ".join(capsys.readouterr().out.split())


def test_train_and_evaluate_say_what_the_folder_is_and_the_log_and_the_report_keep_it(
    folder: Path, understood: str, tmp_path: Path, monkeypatch, capsys,
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = tmp_path / "run"
    assert alexnet("train", folder, *SMALL, "--epochs", "1", "--out", run, "--device", "cpu") == 0
    assert f"note: {understood}" in capsys.readouterr().err
    start = json.loads((run / "log.jsonl").read_text().splitlines()[0])
    assert start["notes"] == [understood, "test_set/test_set/ is the validation set, as there is no other: training "
                                          "chooses the best epoch on it"]
    text = words((run / "report.html").read_text(encoding="utf-8"))
    assert understood in text
    assert "training chooses the best epoch on it." in text
    assert alexnet("evaluate", run, folder, "--device", "cpu") in (0, 2)
    printed = capsys.readouterr().err
    assert understood not in printed
    assert (f"{folder}: 12 images of 2 classes; ignored: single_prediction/ (beside training_set/ and no split, "
            f"1 file), training_set/training_set/cat/Thumbs.db, __MACOSX/ (hidden or system folder); 1 more note: "
            f"alexnet check {folder}") in printed


def test_files_that_are_not_used_may_change_without_packing_again(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = trees(tmp_path / "trees", ("cat", "dog"), 3)
    for run, ignored in (("one", "nothing"), ("two", "notes.txt")):
        assert alexnet("train", folder, *SMALL, "--epochs", "1", "--out", tmp_path / run, "--device", "cpu") == 0
        start = json.loads((tmp_path / run / "log.jsonl").read_text().splitlines()[0])
        assert start["notes"][0] == f"{folder} holds 2 classes (cat 3, dog 3); ignored: {ignored}"
        assert ("packing 6 images" in capsys.readouterr().err) == (run == "one")
        (folder / "notes.txt").touch()


def test_an_ambiguous_folder_is_refused_before_anything_is_written(tmp_path: Path, capsys):
    folder = trees(tmp_path / "data", ("cat", "dog", "test1"), 2)
    assert alexnet("train", folder, *SMALL, "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert f"{folder} holds test1/ beside cat/, dog/, so it is not clear whether test1/ is a class" in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_a_test_folder_beside_a_validation_folder_is_packed_and_evaluated(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "pets"
    for split, count in (("Train", 4), ("Validation", 2), ("Test", 3)):
        for number, name in enumerate(("cat", "dog")):
            for copy in range(count):
                path = folder / split / name / f"{copy}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(jpeg(10 * len(split) + 2 * copy + 100 * number))
    assert alexnet("pack", folder, tmp_path / "packed", "--side", "32") == 0
    assert "2 classes, 8 train, 4 val, 6 test, 32x32 pixels" in capsys.readouterr().out
    assert alexnet("train", tmp_path / "packed", *SMALL, "--epochs", "1", "--out", tmp_path / "run") == 0
    capsys.readouterr()
    for data in (folder, tmp_path / "packed"):
        assert alexnet("evaluate", tmp_path / "run", data, "--split", "test", "--json") == 0
        assert json.loads(capsys.readouterr().out)["images"] == 6
