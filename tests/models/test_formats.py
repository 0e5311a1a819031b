"""Weights of other projects are read and written bit for bit, and no file can run code or is partly believed."""

import hashlib
import io
import json
import os
import pickle
import random
import shutil
import tarfile
import threading
import warnings
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from PIL import Image
from torch import nn

import alexnet
import peers
from alexnet._runtime.atomic_files import replace_file
from alexnet.architecture.overrides import override
from alexnet.architecture.presets import ARCHS, arch, recipe
from alexnet.data.imagenet_classes import CLASSES, NAMES, WNIDS
from alexnet.inference.metrics import Errors
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats import torchvision
from alexnet.models.formats.huggingface import read_huggingface, write_huggingface
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.formats.state_dict import structure
from alexnet.models.formats.torchvision import read_torchvision, write_torchvision
from command_line import alexnet as command
from weight_files import NARROW, TorchvisionAlexNet, saved_as, write

pytestmark = pytest.mark.usefixtures("one_thread")

zip_or_old = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old pickle"])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def narrow(monkeypatch):
    """torchvision's network with few maps and units, which `weights` is made to hold for the real one."""
    monkeypatch.setattr(torchvision, "TORCHVISION", override(arch("torchvision"), ["conv.width=8", "dense.width=16"]))
    torch.manual_seed(0)
    network = TorchvisionAlexNet(*NARROW, classes=7).eval()
    for parameter in network.parameters():
        parameter.data *= 3  # outputs as far apart as a trained network's
    return network


def same(one: Checkpoint, other: Checkpoint) -> None:
    """Bit for bit, in all that a network is."""
    assert one.arch == other.arch
    assert one.classes == other.classes
    assert one.weights.keys() == other.weights.keys()
    for key, tensor in one.weights.items():
        assert tensor.dtype == other.weights[key].dtype
        assert torch.equal(tensor, other.weights[key]), key
    assert torch.equal(one.mean_HWC, other.mean_HWC)


# --- torchvision, in --------------------------------------------------------------------------------------------------


@zip_or_old
def test_full_size_weights_give_torchvisions_logits_to_a_millionth(zipped, tmp_path):
    torch.manual_seed(1)
    theirs = TorchvisionAlexNet().eval()
    path = write(theirs.state_dict(), tmp_path / "alexnet.pth", zipped)
    ours = open_weights(path)
    path.unlink()  # 244 MB
    x = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected, got = theirs(x), ours.network()(x)
    assert sum(tensor.numel() for tensor in ours.weights.values()) == 61_100_840
    assert (got - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert ours.classes == CLASSES
    assert (ours.arch.input.side, ours.arch.input.crop) == (256, 224)
    assert ours.provenance["file"] == "alexnet.pth"


def test_weights_go_to_torchvisions_module_and_back(tmp_path):
    module = peers.torchvision().models.alexnet
    torch.manual_seed(2)
    theirs = module(num_classes=10).eval()
    path = write(theirs.state_dict(), tmp_path / "theirs.pth")
    ours = read_torchvision(path)
    path.unlink()
    x = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected, got = theirs(x), ours.network()(x)
    assert (got - expected).abs().max() <= 1e-6 * expected.abs().max()
    write_torchvision(ours, tmp_path / "ours.pth")
    again = module(num_classes=10)
    again.load_state_dict(torch.load(tmp_path / "ours.pth", weights_only=True), strict=True)
    (tmp_path / "ours.pth").unlink()
    for key, tensor in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor)


def test_address_preprocessing_and_classes_are_those_that_torchvision_documents():
    peers.torchvision()
    from torchvision.models import AlexNet_Weights

    theirs = AlexNet_Weights.IMAGENET1K_V1
    assert theirs.url == torchvision.ADDRESS + torchvision.OFFICIAL[0]
    transforms, spec = theirs.transforms(), arch("torchvision").input
    assert (spec.side, spec.crop, spec.channels) == (transforms.resize_size[0], transforms.crop_size[0], "RGB")
    assert spec.mean == pytest.approx([255 * mean for mean in transforms.mean])
    assert spec.scale == pytest.approx([255 * deviation for deviation in transforms.std])
    # Four names stand for two classes each, or nearly; torchvision and we tell them apart in other words.
    names = theirs.meta["categories"]
    assert [place for place in range(1000) if names[place].lower() != CLASSES[place].lower()] == [134, 517, 638, 639]


@zip_or_old
def test_preprocessing_is_the_one_that_torchvision_documents(narrow, zipped, tmp_path):
    """Resize 256, crop 224, ToTensor, Normalize, in NumPy and Pillow; then softmax."""
    path = write(narrow.state_dict(), tmp_path / "net.pth", zipped)
    for number, size in enumerate(((301, 257), (256, 400), (640, 480), (97, 120))):
        photo = tmp_path / f"{number}.png"
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)).save(photo)
        image = Image.open(photo)
        wide, high = (256 * side // min(image.size) for side in image.size)
        image = image.resize((wide, high), Image.Resampling.BILINEAR)
        left, top = round((wide - 224) / 2), round((high - 224) / 2)
        x = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float64) / 255
        x = (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        with torch.inference_mode():
            expected = narrow(torch.from_numpy(x).permute(2, 0, 1)[None].float()).softmax(1)[0]
        guesses = alexnet.load(path).predict(photo, top=7)[0]
        for guess in guesses:
            assert guess.probability == pytest.approx(expected[int(guess.name)].item(), abs=1e-5)
        assert expected.max() - expected.min() > 0.01


@pytest.mark.parametrize("wrap", [
    lambda state: {"epoch": 3, "arch": "alexnet", "state_dict": state, "best_acc1": torch.tensor(56.5),
                   "optimizer": {"state": {}, "param_groups": [{"lr": 0.01}]}},
    lambda state: {"model": state},
    lambda state: {f"module.{key}": tensor for key, tensor in state.items()},
    lambda state: {"state_dict": {key.replace("features.", "features.module."): t for key, t in state.items()}},
    lambda state: {key: nn.Parameter(tensor) for key, tensor in state.items()},
], ids=["examples/imagenet", "references", "DataParallel", "parallel features", "parameters"])
def test_wrappers_of_training_scripts_are_removed(narrow, wrap, tmp_path):
    plain = read_torchvision(write(narrow.state_dict(), tmp_path / "plain.pth"))
    same(plain, read_torchvision(write(wrap(narrow.state_dict()), tmp_path / "wrapped.pth")))


def test_safetensors_with_torchvisions_keys_are_read(narrow, tmp_path):
    plain = read_torchvision(write(narrow.state_dict(), tmp_path / "plain.pth"))
    safetensors.torch.save_file(narrow.state_dict(), tmp_path / "model.safetensors")
    same(plain, open_weights(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_without_loss(narrow, dtype, tmp_path):
    halves = {key: tensor.to(dtype) for key, tensor in narrow.state_dict().items()}
    for key, tensor in read_torchvision(write(halves, tmp_path / "half.pth")).weights.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor.to(dtype), halves[key])
        assert torch.equal(tensor, halves[key].float())


def test_classes_are_as_named_or_imagenets_or_numbers(narrow, tmp_path):
    path = write(narrow.state_dict(), tmp_path / "seven.pth")
    assert read_torchvision(path).classes == tuple("0123456")
    assert read_torchvision(path, list("abcdefg")).classes == tuple("abcdefg")
    thousand = write(TorchvisionAlexNet(*NARROW, classes=1000).state_dict(), tmp_path / "thousand.pth")
    assert read_torchvision(thousand).classes == CLASSES
    with pytest.raises(ValueError, match="1000 names of classes were given, and the network has 999 outputs"):
        read_torchvision(write(TorchvisionAlexNet(*NARROW, classes=999).state_dict(), tmp_path / "999.pth"), CLASSES)
    with pytest.raises(ValueError, match="two classes are named 'b'"):
        read_torchvision(path, list("abcdebg"))


def test_imagenets_classes_are_in_the_challenges_order():
    # Places that are cited everywhere: tench, goldfish, tabby, Egyptian cat, golden retriever, goose, toilet tissue.
    places = {0: "tench", 1: "goldfish", 281: "tabby", 285: "Egyptian cat", 207: "golden retriever", 99: "goose",
              999: "toilet tissue"}
    assert {place: CLASSES[place] for place in places} == places
    assert (WNIDS[0], WNIDS[999]) == ("n01440764", "n15075141")
    assert list(WNIDS) == sorted(WNIDS)
    assert len(set(WNIDS)) == len(set(CLASSES)) == 1000


def test_imagenets_names_agree_with_the_file_names_of_250_images(images):
    with tarfile.open(images / "imagenet-samples.tar") as archive:
        files = [Path(name).stem.split("_", 1) for name in archive.getnames() if name.endswith(".JPEG")]
    assert len(files) == 250
    for wnid, label in files:
        assert NAMES[wnid].lower() == label.replace("_", " ").lower()


# --- torchvision, by name ---------------------------------------------------------------------------------------------


@pytest.fixture
def address(tmp_path, monkeypatch):
    """A folder that a server of this machine hands out, where `weights` looks for torchvision's files."""
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr("alexnet._runtime.download.time.sleep", lambda seconds: None)
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *message):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(torchvision, "ADDRESS", f"http://127.0.0.1:{server.server_port}/")
        yield folder
        server.shutdown()
        thread.join()


def publish(network, folder, monkeypatch) -> Path:
    """The weights under a name that ends in the first eight digits of their SHA-256, as torchvision has it."""
    path = write(network.state_dict(), folder / "unnamed")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path = path.rename(folder / f"alexnet-owt-{digest[:8]}.pth")
    monkeypatch.setattr(torchvision, "OFFICIAL", (path.name, "alexnet-owt-00000000.pth"))
    return path


def test_weights_are_downloaded_by_name_once_into_the_cache(narrow, address, monkeypatch, tmp_path, capsys):
    path = publish(narrow, address, monkeypatch)
    plain = read_torchvision(path)
    same(plain, open_weights("torchvision"))
    kept = tmp_path / "cache" / "alexnet" / "weights" / path.name
    assert kept.read_bytes() == path.read_bytes()
    path.unlink()
    for name in ("torchvision", kept.name, kept.stem):
        same(plain, open_weights(name))
    assert alexnet.load("torchvision").classes == plain.classes
    assert command("import", "torchvision", tmp_path / "out") == 0
    assert "7 classes" in capsys.readouterr().out
    same(plain, checkpoint.load(tmp_path / "out"))


def test_a_download_with_a_wrong_checksum_is_deleted(narrow, address, monkeypatch, tmp_path):
    path = publish(narrow, address, monkeypatch)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"checksum \w+, not {path.stem[-8:]}, and was deleted"):
        open_weights("torchvision")
    assert list((tmp_path / "cache" / "alexnet" / "weights").iterdir()) == []


def test_offline_the_error_says_where_to_put_the_file(narrow, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("alexnet._runtime.download.time.sleep", lambda seconds: None)
    monkeypatch.setattr(torchvision, "ADDRESS", "http://127.0.0.1:1/")  # nobody listens there
    place = tmp_path / "cache" / "alexnet" / "weights" / torchvision.OFFICIAL[0]
    assert command("import", "torchvision", tmp_path / "out") == 2
    assert f"put the file at {place}" in capsys.readouterr().err
    shutil.copy(write(narrow.state_dict(), tmp_path / "net.pth"), place)
    assert len(open_weights("torchvision").classes) == 7


# --- Files that are not what they should be ---------------------------------------------------------------------------


def wrong(narrow, **changes):
    return {**narrow.state_dict(), **changes}


WRONG = {
    "nothing": (lambda net: {}, "is not a state dict of torchvision's alexnet"),
    "another network": (lambda net: {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "but begins with conv1.weight"),
    "a list": (lambda net: [1, 2], "holds a list that is no state dict"),
    "a tensor": (lambda net: torch.zeros(3), "holds a Tensor that is no state dict"),
    "settings": (lambda net: {"state_dict": 3}, "holds a dict that is no state dict"),
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
def test_a_wrong_state_dict_is_rejected_with_both_values(narrow, kind, zipped, tmp_path):
    make, words = WRONG[kind]
    path = write(make(narrow), tmp_path / "net.pth", zipped)
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
        with pytest.raises(ValueError, match=rf"{path} is truncated, or (torch.save did not write it|no safetensors)"):
            open_weights(path)


def forms(network, folder):
    yield write(network.state_dict(), folder / "zip.pth")
    yield write(network.state_dict(), folder / "old.pth", zipped=False)
    safetensors.torch.save_file(network.state_dict(), folder / "new.safetensors")
    yield folder / "new.safetensors"


def test_a_file_truncated_anywhere_is_called_truncated(narrow, tmp_path):
    for path in forms(narrow, tmp_path):
        data = path.read_bytes()
        read_torchvision(path)
        # The names of classes stand at the old form's beginning: cut within one, it seems to ask for another.
        places = {*range(0, 900, 5), len(data) - 1, *random.Random(0).sample(range(len(data)), 60)}
        for place in sorted(places):
            path.write_bytes(data[:place])
            with pytest.raises(ValueError, match="is truncated, or"):
                read_torchvision(path)


# --- Files that would run code ----------------------------------------------------------------------------------------


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


def test_a_whole_network_and_a_compiled_one_are_refused_with_the_remedy(narrow, tmp_path):
    remedy = r"save the state dict alone: torch.save\(network.state_dict\(\), FILE\)"
    for zipped in (True, False):
        with pytest.raises(ValueError, match=remedy):
            read_torchvision(write(nn.Sequential(nn.Linear(2, 2)), tmp_path / "net.pth", zipped))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; its archives are about
        torch.jit.script(narrow.classifier).save(tmp_path / "compiled.pth")
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


# --- The command line -------------------------------------------------------------------------------------------------


def test_import_makes_a_checkpoint_with_the_names_of_a_file(narrow, tmp_path, capsys):
    path = write(narrow.state_dict(), tmp_path / "net.pth")
    names = ["ash", "birch", "cedar", "date palm", "elm", "fir", "ginkgo"]
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n")
    assert command("import", path, tmp_path / "out", "--classes", tmp_path / "names.txt") == 0
    printed = capsys.readouterr().out
    assert "7 classes (ash, ...)" in printed
    assert "RGB crops of 224x224 from 256x256" in printed
    same(read_torchvision(path, names), open_weights(tmp_path / "out"))


@pytest.mark.parametrize(("arguments", "words"), [
    (["import", "nowhere.pth", "out"], "nowhere.pth is not a file"),
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
    (["predict", "torchvison", "two.txt"], "torchvison does not exist; give a run's folder"),
    (["predict", "folder", "two.txt"], "folder is not a checkpoint"),
    (["evaluate", "cut.pth", "embedded"], "cut.pth is truncated"),
    (["export", "nan.pth", "out"], "holds values that are not finite"),
    (["export", "empty.pth", "out.onnx"], "empty.pth is truncated"),
    (["train", "embedded", "--init", "nowhere", "--out", "out"], "nowhere does not exist"),
])
def test_mistakes_with_weight_files_are_one_line_and_write_nothing(
    narrow, arguments, words, tmp_path, monkeypatch, capsys,
):
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path.parent / "matplotlib"))  # where it keeps its list of fonts
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("empty.pth").write_bytes(b"")
    Path("two.txt").write_text("ash\nbirch\n")
    Path("run").mkdir()
    Path("run/log.jsonl").write_text("")
    write(WRONG["another network"][0](narrow), Path("resnet.pth"))
    write(WRONG["NaN"][0](narrow), Path("nan.pth"))
    write(narrow.state_dict(), Path("net.pth"))
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


def test_one_file_of_a_folder_opens_the_folder(narrow, tmp_path):
    """A user who names one file of a checkpoint or of a model means all of it, with its mean and its classes."""
    saved = replace(read_torchvision(write(narrow.state_dict(), tmp_path / "net.pth")), classes=tuple("abcdefg"))
    checkpoint.save(saved, tmp_path / "run" / "best")
    write_huggingface(saved, tmp_path / "hub")
    named = [*(tmp_path / "run" / "best").iterdir(), *(tmp_path / "hub").glob("*.[js]*")]
    assert len(named) == 6
    for path in (tmp_path / "run", tmp_path / "hub", *named):
        same(saved, open_weights(path))


# --- torchvision, out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", ["names", "torchvision"])
def test_checkpoint_to_torchvision_and_back_is_bit_equal(narrow, keys, tmp_path):
    before = saved_as("torchvision", "conv.width=8", "dense.width=16", f"state_keys={keys}")
    checkpoint.save(before, tmp_path / "run")
    assert command("export", tmp_path / "run", tmp_path / "out.pth") == 0
    narrow.load_state_dict(torch.load(tmp_path / "out.pth", weights_only=True), strict=True)
    x = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(narrow(x), before.network()(x))
    after = read_torchvision(tmp_path / "out.pth", before.classes)
    assert all(map(torch.equal, after.weights.values(), before.weights.values()))
    assert torch.equal(after.mean_HWC, before.mean_HWC)
    if keys == "torchvision":
        same(before, after)


@pytest.mark.parametrize("name", [name for name in ARCHS if name != "torchvision"])
def test_other_networks_have_no_place_in_torchvisions_state_dict(name, tmp_path):
    saved = Checkpoint(arch(name), (), {}, torch.zeros(1, 1, 3))
    with pytest.raises(ValueError, match=f"{name} is not torchvision's network"):
        write_torchvision(saved, tmp_path / "out.pth")
    assert not list(tmp_path.iterdir())


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


# --- The hub's layout -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHS)
def test_checkpoint_to_hub_and_back_is_bit_equal(name, tmp_path):
    before = replace(
        saved_as(name, "conv.width=16"), recipe=recipe("modern"), errors=Errors(44, 20.0, 11, 1).to_json(),
        provenance={"source": "torchvision", "file": "x.pth", "sha256": "ab"}, training={"step": 9, "source": "f00d"})
    checkpoint.save(before, tmp_path / "run")
    assert command("export", tmp_path / "run", tmp_path / "hub" / "model") == 0
    after = read_huggingface(tmp_path / "hub" / "model")
    same(checkpoint.load(tmp_path / "run"), after)
    assert (after.recipe, after.provenance) == (before.recipe, before.provenance)
    assert after.errors == json.loads(json.dumps(before.errors))
    assert alexnet.load(tmp_path / "hub" / "model").trained_on == "f00d"
    checkpoint.save(open_weights(tmp_path / "hub" / "model"), tmp_path / "again")
    same(before, checkpoint.load(tmp_path / "again"))


def test_the_command_imports_a_hub_folder_as_it_is(tmp_path, capsys):
    saved = saved_as("small")
    write_huggingface(saved, tmp_path / "hub")
    assert command("import", tmp_path / "hub", tmp_path / "out") == 0
    same(checkpoint.load(tmp_path / "out"), saved)
    assert command("import", tmp_path / "hub", tmp_path / "again", "--mean", "1,2,3") == 2
    assert "brings preprocessing and classes along" in capsys.readouterr().err
    assert command("import", tmp_path, tmp_path / "again") == 2
    assert "has no config.json" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_a_file_of_class_names_may_come_from_any_editor(narrow, tmp_path):
    names = ["äsche", "birch", "cedar", "date palm", "elm", "fir", "gum"]
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*names, "", ""]).encode())
    path = write(narrow.state_dict(), tmp_path / "net.pth")
    assert command("import", path, tmp_path / "out", "--classes", tmp_path / "names.txt") == 0
    assert list(checkpoint.load(tmp_path / "out").classes) == names


@pytest.fixture
def model(tiny, tmp_path):
    """A small model in the hub's layout, of a run that began from torchvision's weights."""
    saved = Checkpoint(
        tiny, ("ash", "birch", "cedar", "date palm"), AlexNet(tiny, 1).state_dict(), torch.full((1, 1, 3), 120.0),
        recipe=recipe("finetune"), errors=Errors(400, 100.0, 50, 4).to_json(),
        provenance={"init": {"arch": "torchvision", "classes": 1000, "sha256": "c0ffee", "provenance": {
            "source": "torchvision", "file": "alexnet-owt-7be5be79.pth", "sha256": "7be5be79"}}})
    write_huggingface(saved, tmp_path / "trees")
    return saved, tmp_path / "trees"


def test_the_weights_load_by_safetensors_alone_into_the_network(model):
    saved, folder = model
    network = AlexNet(saved.arch)
    network.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"), strict=True)
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": "ash", "1": "birch", "2": "cedar", "3": "date palm"}
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "preprocess.safetensors"]


def test_the_model_card_has_errors_provenance_and_limits(model):
    _, folder = model
    card = (folder / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    fields = yaml.safe_load(head)
    assert (fields["library_name"], fields["pipeline_tag"]) == ("alexnet", "image-classification")
    (entry,) = fields["model-index"]
    (result,) = entry["results"]
    assert entry["name"] == "trees"
    assert [(metric["name"], metric["value"]) for metric in result["metrics"]] == [
        ("top-1 accuracy", 0.875), ("top-5 accuracy", 0.99)]
    # Wilson's interval of 50 in 400 and of 4 in 400, by hand.
    assert "On 400 validation images" in body
    assert "| top-1 | 12.50% | 9.61% to 16.10% |" in body
    assert "| top-5 | 1.00% | 0.39% to 2.54% |" in body
    for words in ("ash, birch, cedar, date palm", "28x28", 'alexnet.load("trees")', "recipe `finetune`", "## Limits",
                  "from `alexnet-owt-7be5be79.pth` (SHA-256 `7be5be79`); their owner's terms hold",
                  "Training began from a `torchvision` of 1,000 classes"):
        assert words in body
    assert all(len(line) < 400 for line in body.splitlines())


def test_the_model_cards_metadata_is_yaml_for_any_names(tiny, tmp_path):
    saved = Checkpoint(tiny, ("é: \"x\"", "- 🌲", "#c", "'d"), AlexNet(tiny).state_dict(), torch.zeros(1, 1, 3),
                       errors=Errors(10, 1.0, 1, 0).to_json())
    write_huggingface(saved, tmp_path / "a: 🌲 \"b\"")
    head = (tmp_path / "a: 🌲 \"b\"" / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    assert yaml.safe_load(head)["model-index"][0]["name"] == "a: 🌲 \"b\""
    assert open_weights(tmp_path / "a: 🌲 \"b\"").classes == saved.classes


def test_a_card_without_measurement_or_origin_claims_none(tiny, tmp_path):
    saved = Checkpoint(tiny, tuple("abcd"), AlexNet(tiny).state_dict(), torch.zeros(1, 1, 3))
    write_huggingface(saved, tmp_path / "new")
    card = (tmp_path / "new" / "README.md").read_text()
    assert "It was not measured" in card
    assert "origin was not recorded" in card
    assert "model-index" not in card


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocess.safetensors"])
def test_a_missing_or_damaged_file_of_a_model_is_named(model, name):
    _, folder = model
    path, generator = folder / name, random.Random(0)
    data = path.read_bytes()
    path.unlink()
    if name == "config.json":
        with pytest.raises(ValueError, match=r"has no config\.json"):
            read_huggingface(folder)
    else:
        with pytest.raises(ValueError, match=f"{folder} has no {name}"):
            open_weights(folder)
    for place in (0, 1, len(data) // 2, len(data) - 1, *generator.sample(range(len(data)), 30)):
        path.write_bytes(data[:place])
        with pytest.raises(ValueError, match=str(path)):
            open_weights(folder)
    if name != "config.json":  # which a user may edit
        for place in generator.sample(range(len(data)), min(40, len(data))):
            broken = bytearray(data)
            broken[place] ^= 1 << generator.randrange(8)
            path.write_bytes(broken)
            with pytest.raises(ValueError, match=f"{path} is damaged"):
                open_weights(folder)
    path.write_bytes(data)
    open_weights(folder)


@pytest.mark.parametrize(("key", "value", "words"), [
    ("arch", None, "arch"), ("arch", {"name": "x"}, "conv"), ("id2label", {"0": "a", "1": "b"}, "2 names of classes"),
    ("id2label", [], "0 names"), ("sha256", None, "NoneType"), ("errors", None, "config.json"), ("recipe", 3, "recipe"),
    ("trained_on", ..., "trained_on"), ("provenance", ..., "provenance")])
def test_a_config_that_describes_something_else_is_refused(model, key, value, words):
    _, folder = model
    config = json.loads((folder / "config.json").read_text())
    config[key] = value
    if value is ...:
        del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=words) as error:
        open_weights(folder)
    assert "config.json does not describe a network of this package" in str(error.value)


@pytest.mark.parametrize("text", ["[]", "3", '"alexnet"', "[" * 100_000, '{"model_type": "resnet"}', "\xff"])
def test_a_config_of_another_kind_is_refused(model, text):
    _, folder = model
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.json does not describe a network of this package"):
        open_weights(folder)


def forge(folder: Path, name: str, tensors: dict[str, torch.Tensor]) -> None:
    """Put tensors in a file's place, with the checksum that makes them seem right."""
    data = safetensors.torch.save(tensors)
    (folder / name).write_bytes(data)
    config = json.loads((folder / "config.json").read_text())
    config["sha256"][name] = hashlib.sha256(data).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(("tensors", "words"), [
    ({}, "is 0 float32"), ({"mean_HWC": torch.zeros(224, 224, 3)}, "224x224x3 float32, and images of 32 pixels"),
    ({"mean_HWC": torch.zeros(1, 1, 3, dtype=torch.float16)}, "1x1x3 float16"),
    ({"mean_HWC": torch.full((1, 1, 3), torch.nan)}, "finite")])
def test_a_mean_that_does_not_fit_is_refused_with_both_values(model, tensors, words):
    _, folder = model
    forge(folder, "preprocess.safetensors", tensors)
    with pytest.raises(ValueError, match=words):
        open_weights(folder)


def test_weights_that_do_not_fit_the_config_are_refused_with_both_values(model):
    saved, folder = model
    forge(folder, "model.safetensors", {**saved.weights, "classifier.fc7.bias": torch.zeros(5)})
    with pytest.raises(ValueError, match=r"fc7\.bias is 5, and small with 4 classes has 4 there"):
        open_weights(folder)


def test_exporting_again_replaces_only_the_model(model):
    saved, folder = model
    (folder / ".gitattributes").write_text("*.safetensors lfs")
    write_huggingface(replace(saved, classes=tuple("wxyz")), folder)
    assert open_weights(folder).classes == tuple("wxyz")
    assert (folder / ".gitattributes").exists()
    assert not list(folder.glob("*.new"))


def test_a_folder_or_file_with_other_content_is_left_unchanged(model, tmp_path, capsys):
    saved, _ = model
    checkpoint.save(saved, tmp_path / "run")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for place in ("run", "notes", "file"):
        before = sorted((tmp_path / place).rglob("*"))
        assert command("export", tmp_path / "run", tmp_path / place) == 2
        assert f"{tmp_path / place} holds something else; name a new folder" in capsys.readouterr().err
        assert sorted((tmp_path / place).rglob("*")) == before
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("fails_at", range(4))
def test_a_full_disk_leaves_the_previous_model_or_none(model, fails_at, tmp_path, monkeypatch):
    saved, folder = model
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    real, calls = Path.write_bytes, []

    def full(path, data):
        calls.append(path)
        if len(calls) > fails_at:
            real(path, data[:10])
            raise OSError(28, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    for place in (folder, tmp_path / "new"):
        calls.clear()
        with pytest.raises(OSError, match="No space left"):
            write_huggingface(replace(saved, classes=tuple("wxyz")), place)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not list((tmp_path / "new").iterdir())


def test_a_failed_write_of_a_state_dict_leaves_the_previous_file(narrow, tmp_path, monkeypatch):
    saved = read_torchvision(write(narrow.state_dict(), tmp_path / "net.pth"))
    write_torchvision(saved, tmp_path / "out.pth")
    before = (tmp_path / "out.pth").read_bytes()

    def full(state, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    for place in ("out.pth", "new.pth"):
        with pytest.raises(OSError, match="No space left"):
            write_torchvision(saved, tmp_path / place)
    assert (tmp_path / "out.pth").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pth", "out.pth"]
