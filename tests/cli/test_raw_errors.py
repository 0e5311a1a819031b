"""Unusual paths, devices and batch sizes: one sentence with the remedy, exit code 2, and no traceback."""

import os
from pathlib import Path

import numpy as np
import pytest

import alexnet as package
from alexnet.errors import UserError
from command_line import SMALL, alexnet


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The sentence with which the command refuses the arguments."""
    assert alexnet(*arguments) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_a_loop_of_links_is_no_folder_to_write(run: Path, class_folders: Path, tmp_path: Path, capsys):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for arguments in (("pack", class_folders, loop, "--side", 16), ("train", class_folders, *SMALL, "--out", loop),
                      ("export", run, loop), ("figure", 1, loop)):
        assert refusal(capsys, *arguments).startswith("alexnet: ")
    assert {path.name for path in tmp_path.iterdir()} <= {"loop", "cache"}


def test_a_pipe_is_no_list_of_classes(tmp_path: Path, capsys):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "weights.pth").write_bytes(b"x")
    said = refusal(capsys, "import", tmp_path / "weights.pth", tmp_path / "out", "--classes", tmp_path / "pipe")
    assert said.startswith(f"alexnet: {tmp_path}/pipe is not a file; name a text file")


@pytest.mark.parametrize("sizes", [("--batch-size", 1), ("--batch-size", 3, "--micro-batch", 2)])
def test_batch_normalization_of_one_image_is_refused(class_folders: Path, tmp_path: Path, sizes: tuple, capsys):
    """`small` normalizes a fully connected layer, for which torch needs two images."""
    said = refusal(capsys, "train", class_folders, *SMALL[:-2], *sizes, "--out", tmp_path / "run")
    assert said == ("alexnet: batches of 1 image are too small for the batch normalization of small; take larger "
                    "batches (--batch-size 16), or a network without it (--arch paper)")
    assert not (tmp_path / "run").exists()


def test_a_diverging_learning_rate_is_answered_with_the_option(class_folders: Path, tmp_path: Path, capsys):
    said = refusal(capsys, "train", class_folders, *SMALL, "--lr", 1e6, "--epochs", 9, "--out", tmp_path / "run")
    assert "lower the learning rate (--lr; `alexnet lr-find` suggests one)" in said


def test_python_gets_the_same_errors(run: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"device mps:7 is not available|there is no device"):
        package.load(run, "mps:7")
    model = package.load(run, "auto")
    for path, words in (("nope.jpg", "nope.jpg cannot be read: no such file or directory; check the name"),
                        (str(tmp_path), "is a folder; name an image in it"), ("a\0b", "cannot be read: embedded null")):
        with pytest.raises(UserError, match=words):
            model.predict(path)
    with pytest.raises(UserError, match="is not uint8"):
        model.predict(np.zeros((8, 8, 3), np.float32))
