"""The command `alexnet import`, and mistakes with weight files."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.huggingface import write_huggingface
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.formats.torchvision import read_torchvision
from command_line import alexnet as command
from weight_files import assert_same, narrow_torchvision, saved_as, write

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def narrow_net(monkeypatch):
    return narrow_torchvision(monkeypatch)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_import_makes_a_checkpoint_with_the_names_of_a_file(narrow_net, tmp_path, capsys):
    path = write(narrow_net.state_dict(), tmp_path / "net.pth")
    names = ["ash", "birch", "cedar", "date palm", "elm", "fir", "ginkgo"]
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n")
    assert command("import", path, tmp_path / "out", "--classes", tmp_path / "names.txt") == 0
    printed = capsys.readouterr().out
    assert "7 classes (ash, ...)" in printed
    assert "RGB crops of 224x224 from 256x256" in printed
    assert_same(read_torchvision(path, names), open_weights(tmp_path / "out"))


@pytest.mark.parametrize(("arguments", "words"), [
    (["import", "nowhere.pth", "out"], "nowhere.pth does not exist"),
    (["import", "empty.pth", "out"], "empty.pth is truncated"),
    (["import", "folder", "out"], "folder has no config.json; it is not a model that alexnet exported"),
    (["import", "resnet.pth", "out"], "but begins with conv1.weight"),
    (["import", "net.pth", "out", "--classes", "two.txt"], "2 names of classes were given, and the network has 7"),
    (["import", "net.pth", "out", "--classes", "folder"], "folder"),
    (["import", "net.pth", "full"], "already holds a checkpoint"),
    (["import", "net.pth", "out", "--mean", "1,2,3"], "are for Caffe's files"),
    (["import", "net.pth", "net.pth"], "net.pth"),
    (["import", "net.pth", "run"], "run already holds a checkpoint"),
    (["predict", "resnet.pth", "two.txt"], "but begins with conv1.weight"),
    (["predict", "torchvison", "two.txt"], "torchvison does not exist; did you mean torchvision?"),
    (["predict", "folder", "two.txt"], "folder is not a checkpoint"),
    (["evaluate", "cut.pth", "embedded"], "cut.pth is truncated"),
    (["export", "nan.pth", "out"], "holds values that are not finite"),
    (["export", "empty.pth", "out.onnx"], "empty.pth is truncated"),
    (["train", "embedded", "--init", "nowhere", "--out", "out"], "nowhere does not exist"),
])
def test_mistakes_with_weight_files_are_one_line_and_write_nothing(
    narrow_net, arguments, words, tmp_path, monkeypatch, capsys,
):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("empty.pth").write_bytes(b"")
    Path("two.txt").write_text("ash\nbirch\n")
    Path("run").mkdir()
    Path("run/log.jsonl").write_text("")
    write({"conv1.weight": torch.zeros(64, 3, 7, 7)}, Path("resnet.pth"))
    write({**narrow_net.state_dict(), "classifier.4.bias": torch.full((16,), torch.nan)}, Path("nan.pth"))
    write(narrow_net.state_dict(), Path("net.pth"))
    Path("cut.pth").write_bytes(Path("net.pth").read_bytes()[:-100])
    checkpoint.save(read_torchvision(Path("net.pth")), Path("full"))
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert command(*arguments) == 2
    printed = capsys.readouterr()
    messages = [line for line in printed.err.splitlines() if line.startswith("alexnet: ")]
    assert len(messages) == 1
    assert words in messages[0]
    assert "Traceback" not in printed.err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_one_file_of_a_folder_opens_the_folder(narrow_net, tmp_path):
    """A user who names one file of a checkpoint or of a model means all of it, with its mean and its classes."""
    saved = replace(read_torchvision(write(narrow_net.state_dict(), tmp_path / "net.pth")), classes=tuple("abcdefg"))
    checkpoint.save(saved, tmp_path / "run" / "best")
    write_huggingface(saved, tmp_path / "hub")
    named = [*(tmp_path / "run" / "best").iterdir(), *(tmp_path / "hub").glob("*.[js]*")]
    assert len(named) == 7
    for path in (tmp_path / "run", tmp_path / "hub", *named):
        assert_same(saved, open_weights(path))


def test_the_command_imports_a_hub_folder_as_it_is(tmp_path, capsys):
    saved = saved_as("small")
    write_huggingface(saved, tmp_path / "hub")
    assert command("import", tmp_path / "hub", tmp_path / "out") == 0
    assert_same(checkpoint.load(tmp_path / "out"), saved)
    assert command("import", tmp_path / "hub", tmp_path / "again", "--mean", "1,2,3") == 2
    assert "states its preprocessing" in capsys.readouterr().err
    assert command("import", tmp_path, tmp_path / "again") == 2
    assert "has no config.json" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(("name", "classes", "parameters"), [
    # docs/presets.md; with 7 classes, small's output layer of 256 inputs has 3 x 257 parameters fewer than with 10.
    ("small", 10, "750,410"), ("small", 7, "749,639"), ("medium", 200, "2,190,536"), ("cifar", 10, "85,098")])
def test_import_counts_parameters_and_no_running_statistics(name, classes, parameters, tmp_path, capsys):
    network = override(arch(name), [f"classes={classes}"])
    side = network.input.side if network.input.mean == "pixel" else 1
    saved = Checkpoint(network, tuple(f"class {number}" for number in range(classes)),
                       AlexNet(network, seed=0).state_dict(), torch.full((side, side, 3), 100.0))
    write_huggingface(saved, tmp_path / "hub")
    assert command("import", tmp_path / "hub", tmp_path / "out") == 0
    assert f"{name}, {parameters} parameters, " in capsys.readouterr().out


@pytest.mark.parametrize(("name", "mean"), [("small", "mean color"), ("cifar", "mean image"),
                                            ("torchvision", "mean color")])
def test_the_export_to_a_folder_says_which_mean_it_has(name, mean, tmp_path, capsys):
    """network_presets.py: cifar subtracts the mean of each pixel, small of each channel, torchvision three numbers."""
    checkpoint.save(saved_as(name), tmp_path / "run")
    assert command("export", tmp_path / "run", tmp_path / "hub") == 0
    assert f"hub: config, weights, {mean} and model card" in capsys.readouterr().out


def test_a_file_of_class_names_may_come_from_any_editor(narrow_net, tmp_path):
    names = ["äsche", "birch", "cedar", "date palm", "elm", "fir", "gum"]
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*names, "", ""]).encode())
    path = write(narrow_net.state_dict(), tmp_path / "net.pth")
    assert command("import", path, tmp_path / "out", "--classes", tmp_path / "names.txt") == 0
    assert list(checkpoint.load(tmp_path / "out").classes) == names
