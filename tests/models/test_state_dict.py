"""State dicts: wrong, damaged and hostile files are rejected by name, and no code runs; equal structures are equal."""

import io
import os
import pickle
import random
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

import alexnet
from alexnet._runtime.atomic_files import replace_file
from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.formats.state_dict import structure
from alexnet.models.formats.torchvision import read_torchvision
from command_line import alexnet as command
from weight_files import NARROW, TorchvisionAlexNet, narrow_torchvision, write

pytestmark = pytest.mark.usefixtures("one_thread")


zip_or_old = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old pickle"])


@pytest.fixture
def narrow_net(monkeypatch):
    return narrow_torchvision(monkeypatch)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def wrong(narrow_net, **changes):
    return {**narrow_net.state_dict(), **changes}


WRONG = {
    "nothing": (lambda net: {}, "is not a state dict of torchvision's alexnet"),
    "another network": (lambda net: {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "but begins with conv1.weight"),
    "a list": (lambda net: [1, 2], "holds a list that is not a state dict"),
    "a tensor": (lambda net: torch.zeros(3), "holds a Tensor that is not a state dict"),
    "settings": (lambda net: {"state_dict": 3}, "holds a dict that is not a state dict"),
    "a single number": (lambda net: wrong(net, **{"classifier.6.weight": torch.tensor(1.0)}), "no matrix classifier.6"),
    "one class": (lambda net: TorchvisionAlexNet(*NARROW, classes=1).state_dict(),
                  "is 1x16, and torchvision with 2 classes has 2x16 there"),
    "other widths": (lambda net: TorchvisionAlexNet(NARROW[0], 15, classes=7).state_dict(),
                     "classifier.1.weight is 15x288, and torchvision with 7 classes has 16x288 there"),
    "a shape": (lambda net: wrong(net, **{"features.3.bias": torch.zeros(9)}), "features.3.bias is 9, and torchvision "
                "with 7 classes has 8 there"),
    "a layer more": (lambda net: wrong(net, **{"features.13.weight": torch.zeros(3)}), "has features.13.weight, for "
                     "which torchvision has no place"),
    "a layer less": (lambda net: {k: v for k, v in net.state_dict().items() if k != "features.8.bias"},
                     r"has no features.8.bias, which torchvision needs \(1 of 16 are missing\)"),
    "float64": (lambda net: {k: v.double() for k, v in net.state_dict().items()}, "features.0.weight is float64, and "
                "torchvision has float32 there"),
    "whole numbers": (lambda net: wrong(net, **{"features.0.bias": torch.zeros(8, dtype=torch.int64)}),
                      "features.0.bias is int64, and torchvision has float32 there"),
    "NaN": (lambda net: wrong(net, **{"classifier.4.bias": torch.full((16,), torch.nan)}),
            "classifier.4.bias holds values that are not finite"),
    "infinity": (lambda net: wrong(net, **{"classifier.4.bias": torch.full((16,), -torch.inf)}), "not finite"),
    "sparse": (lambda net: wrong(net, **{"classifier.4.weight": torch.eye(16).to_sparse()}), "weight is sparse"),
    "no values": (lambda net: wrong(net, **{"features.0.bias": torch.zeros(8, device="meta")}), "has no values"),
}


@pytest.mark.parametrize("kind", WRONG)
@zip_or_old
def test_a_wrong_state_dict_is_rejected_with_both_values(narrow_net, kind, zipped, tmp_path):
    make, words = WRONG[kind]
    path = write(make(narrow_net), tmp_path / "net.pth", zipped)
    with pytest.raises(ValueError, match=words) as error:
        open_weights(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def damaged_files(folder: Path):
    """Files that torch did not write, by name."""
    with zipfile.ZipFile(folder / "photos.pth", "w") as archive:
        archive.writestr("a.txt", "x")
    with tarfile.open(folder / "old.tar", "w") as archive:
        archive.add(folder / "photos.pth", "a")
    (folder / "empty.pth").write_bytes(b"")
    (folder / "page.pth").write_text("<html>404 Not Found</html>\n")
    (folder / "noise.pt").write_bytes(random.Random(0).randbytes(5000))
    (folder / "noise.safetensors").write_bytes(random.Random(1).randbytes(5000))
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "header.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    return sorted(path for path in folder.iterdir() if path.is_file())


def test_files_that_torch_did_not_write_are_refused_by_name(tmp_path):
    files = damaged_files(tmp_path)
    assert len(files) == 8
    for path in files:
        with pytest.raises(ValueError, match=rf"{path} is truncated, or (torch.save did not|not a safetensors)"):
            open_weights(path)


def forms(network, folder):
    yield write(network.state_dict(), folder / "zip.pth")
    yield write(network.state_dict(), folder / "old.pth", zipped=False)
    safetensors.torch.save_file(network.state_dict(), folder / "new.safetensors")
    yield folder / "new.safetensors"


def test_a_file_truncated_anywhere_is_called_truncated(narrow_net, tmp_path):
    for path in forms(narrow_net, tmp_path):
        data = path.read_bytes()
        read_torchvision(path)
        # The names of classes stand at the old form's beginning: cut within one, it seems to ask for another.
        places = {*range(0, 900, 5), len(data) - 1, *random.Random(0).sample(range(len(data)), 60)}
        for place in sorted(places):
            path.write_bytes(data[:place])
            with pytest.raises(ValueError, match="is truncated, or"):
                read_torchvision(path)


class Calls:
    """Unpickled by Python's own unpickler, it calls."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


HOSTILE = {
    "os.system": lambda marker: Calls(os.system, f"touch {marker}"),
    "eval": lambda marker: {"state_dict": Calls(eval, f"open({marker!r}, 'w').close()")},
    "exec beside weights": lambda marker: {
        "classifier.6.weight": torch.zeros(7, 16), "x": Calls(exec, f"open({marker!r}, 'w').close()")},
    # A function reached through the attributes of a harmless module; and an opcode of old, which calls by itself.
    "nested global": lambda marker: b"\x80\x04\x8c\x05torch\x8c\x17serialization.os.system\x93(V" + (
        f"touch {marker}\ntR.").encode(),
    "INST": lambda marker: b"(S'" + f"touch {marker}".encode() + b"'\nios\nsystem\n.",
}


def plant(content, path: Path, zipped: bool) -> Path:
    """The object, or the pickle as it is, in a file such as torch.save writes."""
    write({} if isinstance(content, bytes) else content, path, zipped)
    if isinstance(content, bytes) and zipped:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as good, zipfile.ZipFile(path, "w") as bad:
            for entry in good.infolist():
                bad.writestr(entry.filename, content if entry.filename.endswith("data.pkl") else good.read(entry))
    elif isinstance(content, bytes):
        magic, version = 0x1950A86A20F9469CFC6C, 1001
        facts = {"protocol_version": version, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
        path.write_bytes(b"".join(pickle.dumps(item, 2) for item in (magic, version, facts)) + content
                         + pickle.dumps([], 2))
    return path


@pytest.mark.parametrize("kind", HOSTILE)
@zip_or_old
def test_a_hostile_pickle_is_refused_and_not_run(kind, zipped, tmp_path, capsys):
    marker = tmp_path / "ran"
    path = plant(HOSTILE[kind](str(marker)), tmp_path / "net.pth", zipped)
    torch.load(path, weights_only=False)  # a careless reader runs it
    assert marker.exists()
    marker.unlink()
    words = "holds more than tensors, and reading it could run code"
    for read in (read_torchvision, open_weights, alexnet.load):
        with pytest.raises(ValueError, match=words):
            read(path)
    assert command("import", path, tmp_path / "out") == 2
    assert command("predict", path, __file__) == 2
    assert command("train", "embedded", "--init", path, "--out", tmp_path / "out") == 2
    messages = capsys.readouterr().err.splitlines()
    assert [line.startswith(f"alexnet: {path} ") and words in line for line in messages] == [True] * 3
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


def test_a_bare_pickle_of_any_protocol_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "net.pth").write_bytes(pickle.dumps(Calls(os.system, f"touch {marker}"), protocol))
        with pytest.raises(ValueError, match="holds more than tensors"):
            read_torchvision(tmp_path / "net.pth")
    assert not marker.exists()


def test_a_whole_network_and_a_compiled_one_are_refused_with_the_remedy(narrow_net, tmp_path):
    remedy = r"save the state dict alone: torch.save\(network.state_dict\(\), FILE\)"
    for zipped in (True, False):
        with pytest.raises(ValueError, match=remedy):
            read_torchvision(write(nn.Sequential(nn.Linear(2, 2)), tmp_path / "net.pth", zipped))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; its archives are about
        torch.jit.script(narrow_net.classifier).save(tmp_path / "compiled.pth")
    with pytest.raises(ValueError, match=remedy):
        read_torchvision(tmp_path / "compiled.pth")


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path):
    def write(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    (tmp_path / "config.json").write_text("former")
    with pytest.raises(OSError, match="No space left") as refusal:
        replace_file(tmp_path / "config.json", write)
    assert refusal.value.filename == str(tmp_path / "config.json")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("config.json", "former")]


@pytest.mark.parametrize("settings", [
    ["activation=tanh"], ["conv1.padding=3"], ["average_pool=0"], ["pool_rounding=ceil"],
    ["norm=lrn", "conv1.post_ops=act norm"], ["conv3.width=256"], ["dense1.width=512"], ["conv_rounding=ceil"],
    ["dense_norm=true"], ["conv2.post_ops=pool act"], ["pool_stride=3"], ["towers=2", "conv2.grouped=true"]])
def test_fields_that_change_the_logits_change_the_structure(settings):
    assert structure(override(arch("torchvision"), settings)) != structure(arch("torchvision"))


@pytest.mark.parametrize("settings", [
    ["dropout=0.2"], ["dropout_on_inputs=false"], ["initialization=kaiming"], ["conv1.init_std=1", "conv2.init_bias=1"],
    ["output_init_bias=-7"], ["lrn.n=3"], ["towers=2"], ["input.mean=1,2,3"], ["state_keys=names"],
    ["conv1.post_ops=act norm pool"]])
def test_fields_of_training_or_preprocessing_leave_the_structure(settings):
    assert structure(override(arch("torchvision"), settings)) == structure(arch("torchvision"))


def test_towers_change_the_structure_only_with_groups_or_a_norm_within_them():
    def of(towers: int, within: str):
        return structure(override(arch("one-gpu"), [f"towers={towers}", f"lrn.within_tower={within}", *(
            f"conv{number}.grouped=false" for number in (2, 4, 5))]))

    assert of(2, "true") != of(4, "true")
    assert of(2, "true") != of(2, "false") == of(4, "false")
    assert of(1, "true") == of(1, "false") == of(2, "false")
