"""Output in every encoding, and names of files and folders that are not UTF-8."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from alexnet.data.sources.folders import open_folders
from alexnet.data.tree import FolderTree

LATIN_1 = os.fsdecode(b"caf\xe9")


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "alexnet", *map(os.fspath, arguments)], capture_output=True,
                          timeout=300, env=os.environ | {"COLUMNS": "80"} | environment)


@pytest.fixture
def latin_1_folders(tmp_path: Path) -> Path:
    """Two classes of which one, and each of its images, has a name in Latin-1."""
    for number, name in enumerate((LATIN_1, "tea")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for image in range(4):
            Image.new("RGB", (20, 20), (50 * image, 90 * number, 0)).save(
                tmp_path / "data" / name / f"{name}{image + 40 * number}.png")
    return tmp_path / "data"


@pytest.mark.parametrize("environment", [
    {"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}])
def test_bars_and_tables_are_printed_in_any_encoding(run: Path, class_folders: Path, environment: dict[str, str]):
    image = next((class_folders / "val").rglob("*.png"))
    done = command("predict", run, image, **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    bar = "█".encode() if "LC_ALL" in environment else b"#"
    assert bar in done.stdout
    done = command("explain", "paper", "--diff", "caffe", **environment)
    assert (done.returncode, done.stderr) == (0, b"")


def test_file_names_that_are_not_utf_8_are_printed_as_their_bytes(run: Path, tmp_path: Path):
    path = tmp_path / f"{LATIN_1}.png"
    Image.new("RGB", (30, 30)).save(path)
    done = command("predict", run, path, "--csv")
    assert done.returncode == 0, done.stderr
    assert os.fsencode(path) in done.stdout
    shown = json.loads(command("predict", run, path, "--json").stdout)
    assert shown[0]["image"] == str(path)


def test_names_that_are_not_utf_8_stay_different_in_the_table_of_images(run: Path, tmp_path: Path):
    for name in (b"caf\xe9", b"caf\xea", b"two  blanks"):
        for label in ("ash", "birch"):
            path = tmp_path / "data" / label / f"{os.fsdecode(name)}{label}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), (len(label) * 9, name[-1], 0)).save(path)
    done = command("evaluate", run, tmp_path / "data", "--csv", tmp_path / "images.csv", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert rb"6 images; 4 names are not UTF-8, and have \x and two digits for each such byte, as in " in done.stderr
    lines = (tmp_path / "images.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert sorted(line.partition(",")[0] for line in lines) == [
        f"{label}/{name}{label}.png" for label in ("ash", "birch") for name in (r"caf\xe9", r"caf\xea", "two  blanks")]


def test_a_class_folder_that_is_not_utf_8_is_read_as_latin_1(latin_1_folders: Path):
    dataset = open_folders(FolderTree(latin_1_folders))
    assert dataset.classes == ("café", "tea")
    assert "a folder's name is not UTF-8, so its class is called café (Latin-1)" in dataset.notes
    assert all(image.pixels().shape == (20, 20, 3) for split in dataset.splits.values() for image in split)


@pytest.mark.slow
def test_everything_is_written_for_a_folder_that_is_not_utf_8(latin_1_folders: Path, tmp_path: Path):
    """Pack, train, report and export: names of classes and images reach JSON, HTML and the model card."""
    packed, run, hub = tmp_path / os.fsdecode(b"pack\xe9"), tmp_path / "run", tmp_path / "hub"
    for arguments in (
        ("pack", latin_1_folders, packed, "--side", "20", "--held-out", "0.25"), ("verify", packed),
        ("train", packed, "--arch", "small", "--set", "arch.input.side=20", "--set", "arch.input.crop=20",
         "--batch-size", "6", "--epochs", "1", "--out", run),
        ("evaluate", run, packed), ("export", run, hub, "--to", "safetensors"),
    ):
        done = command(*arguments)
        assert done.returncode == 0, done.stderr
    assert "café" in (run / "report.html").read_text(encoding="utf-8")
    assert "café" in (hub / "README.md").read_text(encoding="utf-8")


def test_output_whose_name_is_not_utf_8_is_refused_before_the_work(run: Path, class_folders: Path, tmp_path: Path):
    for arguments in (("train", class_folders, "--arch", "small", "--out"), ("export", run, "--to", "onnx")):
        done = command(*arguments, tmp_path / LATIN_1)
        assert done.returncode == 2
        assert done.stderr.startswith(b"alexnet: the name " + os.fsencode(tmp_path / LATIN_1) + b" is not UTF-8")
    assert not list(tmp_path.iterdir())
