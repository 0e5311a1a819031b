"""The option --labels of pack, train and evaluate: one table or pattern, from the command line to the numbers."""

import csv
import json
from pathlib import Path

import pytest

from alexnet.data.packed import open_packed
from alexnet.reproduce.report.commands import follow_up_commands
from alexnet.training.run_folder import read_config
from command_line import alexnet
from image_files import jpeg


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Loose images, whose names say another class than the table."""
    folder = tmp_path / "photos"
    folder.mkdir()
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label", "split"])
        for number in range(40):
            name = f"{('cat', 'dog')[number % 2]}.{number}.jpg"
            (folder / name).write_bytes(jpeg(6 * number))
            writer.writerow([name, "light" if number >= 20 else "dark", "val" if number % 10 > 7 else "train"])
    return folder


def test_pack_takes_a_table_or_a_pattern(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert alexnet("pack", photos, tmp_path / "by table", "--labels", tmp_path / "mine.csv", "--side", 32) == 0
    packed = open_packed(tmp_path / "by table")
    assert (packed.classes, len(packed.split("train")), len(packed.split("val"))) == (("dark", "light"), 32, 8)
    assert alexnet("pack", photos, tmp_path / "by name", "--labels", "{label}.{n}.jpg", "--side", 32) == 0
    packed = open_packed(tmp_path / "by name")
    assert (packed.classes, len(packed.split("train")), len(packed.split("val"))) == (("cat", "dog"), 36, 4)
    noted = capsys.readouterr().err
    assert "mine.csv (images in column 'file_name', labels in 'label', splits in 'split')" in noted
    assert "photos holds 2 classes (cat 20, dog 20), labeled by the pattern '{label}.{n}.jpg'" in noted


def test_check_takes_a_table(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert alexnet("check", photos, "--labels", tmp_path / "mine.csv", "--quick", "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"] == {"train": {"dark": 16, "light": 16},
                                                             "val": {"dark": 4, "light": 4}}


def test_a_packed_folder_takes_no_labels(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert alexnet("pack", photos, tmp_path / "packed", "--labels", tmp_path / "mine.csv", "--side", 32) == 0
    assert alexnet("train", tmp_path / "packed", "--labels", "{label}.{n}.jpg", "--out", tmp_path / "run", "--arch",
                   "small", "--set", "arch.input.side=32", "--set", "arch.input.crop=28") == 2
    assert "holds its own labels, and --labels {label}.{n}.jpg would have no effect" in capsys.readouterr().err


def test_train_and_evaluate_take_the_same_labels(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    settings = [word for setting in ("input.side=32", "input.crop=28", "conv.width=8", "dense.width=8")
                for word in ("--set", f"arch.{setting}")]
    assert alexnet("train", "photos", "--labels", "mine.csv", "--arch", "small", "--epochs", 1, "--batch-size", 16,
                   "--out", "run", *settings) == 0
    capsys.readouterr()
    assert alexnet("evaluate", "run", "photos", "--labels", "mine.csv", "--json") == 0
    assert '"images": 8' in capsys.readouterr().out
    config = read_config(tmp_path / "run") | {"command": "alexnet train photos --labels mine.csv --out run"}
    assert follow_up_commands(config, "best")[0] == "alexnet evaluate run/best photos --labels mine.csv"
