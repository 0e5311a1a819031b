"""`export --no-training-hashes`: no format has a hash of an image, and the file says that there are none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.seen import SeenImages
from command_line import alexnet as command
from hub_server import hub_server
from weight_files import narrow_torchvision, saved_as

pytestmark = pytest.mark.usefixtures("one_thread")

HASHES = tuple(np.random.default_rng(7).integers(1, 2**63, 30, np.uint64).tolist())
SEEN = SeenImages.of(np.array(HASHES[:10], np.uint64), np.array(HASHES[10:12], np.uint64),
                     np.array(HASHES[12:], np.uint64).reshape(-1, 2))
NAME = "(exported without hashes)"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def run(tiny, tmp_path):
    """A checkpoint that has seen images."""
    checkpoint.save(Checkpoint(tiny, ("ash", "birch", "cedar", "date palm"), AlexNet(tiny, 1).state_dict(),
                               torch.full((1, 1, 3), 120.0), seen=SEEN), tmp_path / "run")
    return tmp_path / "run"


def bytes_of(path):
    """The file, or all files of the folder."""
    return b"".join(file.read_bytes() for file in ([path] if path.is_file() else sorted(path.iterdir())))


def holds_hashes(path):
    """Whether a file has a hash of an image: as bytes, or in the text of `SeenImages.to_text`, which begins so."""
    data = bytes_of(path)
    parts = [part.encode() for part in SEEN.to_text().split(" ")[1:4]]
    return any(np.uint64(each).tobytes() in data for each in HASHES) or any(part in data for part in parts)


@pytest.mark.parametrize("out", ["net.onnx", "net.pt2", "folder"])
def test_no_hash_is_in_the_file_and_both_sides_are_told(run, tmp_path, capsys, out):
    assert command("export", run, tmp_path / "with" / out) == 0
    assert "hashes of 10 training images" in capsys.readouterr().out
    assert holds_hashes(tmp_path / "with" / out)
    assert command("export", run, tmp_path / "without" / out, "--no-training-hashes") == 0
    said = capsys.readouterr()
    assert f"note: {out} is written without hashes of its 10 training images" in said.err
    assert "cannot exclude them, or copies of them, from a test" in said.err
    assert f"no hashes of training images (those of the weights in {out} {NAME} are not recorded)" in said.out
    assert not holds_hashes(tmp_path / "without" / out)
    seen = open_weights(tmp_path / "without" / out).seen
    assert (len(seen.trained), len(seen.selected_on), len(seen.trained_perceptual)) == (0, 0, 0)
    assert seen.unknown == (f"the weights in {out} {NAME}",)


def test_torchvisions_state_dict_can_go_without_too(monkeypatch, tmp_path):
    narrow_torchvision(monkeypatch)
    checkpoint.save(replace(saved_as("torchvision", "conv.width=8", "dense.width=16"), seen=SEEN), tmp_path / "run")
    assert command("export", tmp_path / "run", tmp_path / "with.pth") == 0
    assert holds_hashes(tmp_path / "with.pth")
    assert command("export", tmp_path / "run", tmp_path / "net.pth", "--no-training-hashes") == 0
    assert not holds_hashes(tmp_path / "net.pth")
    assert open_weights(tmp_path / "net.pth").seen.unknown == (f"the weights in net.pth {NAME}",)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own call
@pytest.mark.needs("huggingface_hub", "pip install 'alexnet[hub]'")
def test_an_upload_and_its_card_have_no_hashes(run, tmp_path, monkeypatch, capsys):
    with hub_server(monkeypatch, tmp_path / "hub cache"):
        assert command("export", run, "hf://me/trees", "--no-training-hashes") == 0
        assert "note: hf://me/trees is written without hashes of its 10 training images" in capsys.readouterr().err
        seen = open_weights("hf://me/trees").seen
    assert not len(seen.trained)
    assert seen.unknown == (f"the weights in hf://me/trees {NAME}",)


def test_evaluate_says_that_the_training_images_are_not_known(run, class_folders, tmp_path, capsys):
    assert command("export", run, tmp_path / "net.onnx", "--no-training-hashes") == 0
    capsys.readouterr()
    assert command("evaluate", tmp_path / "net.onnx", class_folders, "--split", "val") == 0
    assert f"it is not known which images the weights in net.onnx {NAME} were trained on" in (
        " ".join(capsys.readouterr().out.split()))


@pytest.mark.parametrize("words", [("net.xml",), ("page.html",), ("net.onnx", "--int8", "--data", "PHOTOS")])
def test_formats_that_never_have_hashes_refuse_the_option(run, tmp_path, capsys, words):
    assert command("export", run, tmp_path / words[0], *words[1:], "--no-training-hashes") == 2
    assert "never has hashes of training images" in capsys.readouterr().err
