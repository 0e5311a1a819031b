"""What a run says of its data: what changed since it began, copies of validation images, images it could not decode."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import recipe
from alexnet.architecture.spec import Arch
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.errors import UserError
from alexnet.models import checkpoint
from alexnet.training.build import build
from alexnet.training.data_changes import describe_changes
from alexnet.training.spec import RunSpec
from command_line import SMALL
from command_line import alexnet as command


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def added(root: Path) -> None:
    for number in range(3):
        source = root / "train" / "ash" / f"{number:03}.png"
        (root / "train" / "ash" / f"new{number}.png").write_bytes(source.read_bytes() + b"\0")


def removed(root: Path) -> None:
    (root / "train" / "birch" / "004.png").unlink()


def moved_to_another_class(root: Path) -> None:
    for number in (1, 2):
        (root / "train" / "ash" / f"00{number}.png").rename(root / "train" / "birch" / f"ash{number}.png")


def moved_to_another_split(root: Path) -> None:
    (root / "train" / "ash" / "001.png").rename(root / "val" / "ash" / "999.png")


def changed(root: Path) -> None:
    path = root / "train" / "ash" / "001.png"
    path.write_bytes(path.read_bytes() + b"\0")


def renamed(root: Path) -> None:
    (root / "train" / "ash" / "001.png").rename(root / "train" / "ash" / "one.png")


@pytest.mark.parametrize(("change", "said"), [
    (added, "3 images were added"), (removed, "1 image was removed"),
    (moved_to_another_class, "2 images were moved to another class"),
    (moved_to_another_split, "1 image was moved to another split"),
    (changed, "1 image was added, 1 image was removed"),
    (renamed, "the same images, but under other names or packed in another way")])
def test_resuming_with_other_data_says_what_changed(
    trained: Path, tiny: Arch, class_folders: Path, tmp_path: Path, change: Callable[[Path], None], said: str,
):
    data = shutil.copytree(class_folders, tmp_path / "data")
    change(data)
    packed = pack(open_dataset(data), tmp_path / "packed", side=32)
    spec = RunSpec(packed, tiny, override(recipe("modern"), ["epochs=3", "batch_size=20"]), trained, resume=True)
    with pytest.raises(UserError, match=f"was started with other data: {said}; give the original data, or choose"):
        build(spec)


def test_without_the_former_pack_the_checkpoint_tells_what_changed(
    trained: Path, class_folders: Path, tmp_path: Path,
):
    data = shutil.copytree(class_folders, tmp_path / "data")
    for change in (added, removed, moved_to_another_split, moved_to_another_class):
        change(data) if change is not moved_to_another_split else (
            data / "train" / "cedar" / "001.png").rename(data / "val" / "cedar" / "999.png")
    packed = pack(open_dataset(data), tmp_path / "packed", side=32)
    elsewhere = shutil.copytree(trained, tmp_path / "run")
    config = json.loads((elsewhere / "config.json").read_text())
    config["data"]["packed"] = str(tmp_path / "gone")
    (elsewhere / "config.json").write_text(json.dumps(config))
    assert describe_changes(elsewhere, checkpoint.load(elsewhere).seen, packed) == (
        "3 images were added, 1 image was removed, 1 image was moved to another split")


# --- Images that cannot be decoded ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broken(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`class_folders` with three truncated images in train and one in val, and copies of two training images in val."""
    data = shutil.copytree(class_folders, tmp_path_factory.mktemp("broken") / "data")
    for path in (*sorted((data / "train" / "ash").iterdir())[:3], data / "val" / "birch" / "001.png"):
        path.write_bytes(path.read_bytes()[:100])
    for number in (1, 2):
        shutil.copyfile(data / "train" / "cedar" / f"00{number}.png", data / "val" / "cedar" / f"copy{number}.png")
    return data


@pytest.mark.slow
def test_every_command_counts_the_images_that_could_not_be_decoded_and_the_copies_of_training_images(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
):
    named = "4 images could not be decoded and are left out, such as train/ash/00"
    assert command("pack", broken, tmp_path / "packed", "--side", "32") == 0
    assert named in capsys.readouterr().err
    run = tmp_path / "run"
    assert command("train", broken, "--out", run, "--epochs", "1", *SMALL) == 0
    shown = capsys.readouterr()
    assert named in shown.err
    assert "2 images of 45 are also training images, byte for byte, such as val/cedar/copy" in shown.out + shown.err
    assert json.loads((run / "config.json").read_text())["data"]["undecodable"] == {"train": 3, "val": 1}
    assert "images_left_out" in (run / "log.jsonl").read_text()
    assert "4 more images could not be decoded and are in none" in " ".join((run / "report.html").read_text().split())

    assert command("evaluate", run, broken) == 0
    shown = capsys.readouterr()
    assert named in shown.err
    measured = shown.out.splitlines()[-1]
    assert measured.startswith("measured: 43 of 45 images; the network was trained on the other 2; ")
    assert measured.endswith("; 1 of 46 files could not be decoded")
    assert "chose the best epoch" not in measured, "the run's only epoch was not chosen"
    assert command("evaluate", run, broken, "--json") == 0
    assert json.loads(capsys.readouterr().out)["measured"]["undecodable"] == 1
    assert command("reproduce", "table", run, broken, "--json") == 0
    assert json.loads(capsys.readouterr().out)["measured"]["undecodable"] == 1


def test_training_on_a_class_without_decodable_images_is_refused_before_it_starts(
    class_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
):
    data = shutil.copytree(class_folders, tmp_path / "data")
    for path in (data / "train" / "cedar").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert command("train", data, "--out", tmp_path / "run", "--epochs", "1", *SMALL) == 2
    assert "no train image of class 'cedar' could be decoded, such as train/cedar/" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
