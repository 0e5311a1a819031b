"""torchvision's weights: logits, preprocessing, classes, download by name, and its state dict written back."""

import hashlib
import shutil
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

import alexnet
import peers
from alexnet.architecture.network_presets import ARCHS, arch
from alexnet.data.imagenet_classes import CLASSES, NAMES, WNIDS
from alexnet.models import checkpoint, known_weights
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats import torchvision
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.formats.torchvision import read_torchvision, write_torchvision
from command_line import alexnet as command
from weight_files import NARROW, TorchvisionAlexNet, assert_same, narrow_torchvision, saved_as, write

pytestmark = pytest.mark.usefixtures("one_thread")


zip_or_old = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old pickle"])


@pytest.fixture
def narrow_net(monkeypatch):
    return narrow_torchvision(monkeypatch)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


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


def test_it_is_printed_as_torchvisions_module():
    """Only the class of `features`, and two arguments that change no result, differ."""
    def lines(network, renamed):
        text = str(network)
        for theirs, ours in renamed:
            assert theirs in text
            text = text.replace(theirs, ours)
        return text.splitlines()

    theirs = lines(peers.torchvision().models.alexnet(weights=None), [
        ("(features): Sequential(", "(features): Convolutions("), ("ReLU(inplace=True)", "ReLU()"),
        ("output_size=(6, 6)", "output_size=6")])
    ours = lines(alexnet.AlexNet(arch("torchvision"), seed=None), [])
    assert ours == theirs
    kinds = [line.split(": ")[1].split("(")[0] for line in ours if ": " in line]
    assert [kinds.count(kind) for kind in ("Conv2d", "ReLU", "MaxPool2d", "Dropout", "Linear")] == [5, 7, 3, 2, 3]


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
def test_preprocessing_is_the_one_that_torchvision_documents(narrow_net, zipped, tmp_path):
    """Resize 256, crop 224, ToTensor, Normalize, in NumPy and Pillow; then softmax."""
    path = write(narrow_net.state_dict(), tmp_path / "net.pth", zipped)
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
            expected = narrow_net(torch.from_numpy(x).permute(2, 0, 1)[None].float()).softmax(1)[0]
        with pytest.warns(UserWarning, match="does not say what its images were like"):
            model = alexnet.load(path)
        guesses = model.predict(photo, top=7)[0]
        for guess in guesses:
            output = int(guess.name.removeprefix("output "))
            assert guess.probability == pytest.approx(expected[output].item(), abs=1e-5)
        assert expected.max() - expected.min() > 0.01


@pytest.mark.parametrize("wrap", [
    lambda state: {"epoch": 3, "arch": "alexnet", "state_dict": state, "best_acc1": torch.tensor(56.5),
                   "optimizer": {"state": {}, "param_groups": [{"lr": 0.01}]}},
    lambda state: {"model": state},
    lambda state: {f"module.{key}": tensor for key, tensor in state.items()},
    lambda state: {"state_dict": {key.replace("features.", "features.module."): t for key, t in state.items()}},
    lambda state: {key: nn.Parameter(tensor) for key, tensor in state.items()},
], ids=["examples/imagenet", "references", "DataParallel", "parallel features", "parameters"])
def test_wrappers_of_training_scripts_are_removed(narrow_net, wrap, tmp_path):
    plain = read_torchvision(write(narrow_net.state_dict(), tmp_path / "plain.pth"))
    assert_same(plain, read_torchvision(write(wrap(narrow_net.state_dict()), tmp_path / "wrapped.pth")))


def test_safetensors_with_torchvisions_keys_are_read(narrow_net, tmp_path):
    plain = read_torchvision(write(narrow_net.state_dict(), tmp_path / "plain.pth"))
    safetensors.torch.save_file(narrow_net.state_dict(), tmp_path / "model.safetensors")
    assert_same(plain, open_weights(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_without_loss(narrow_net, dtype, tmp_path):
    halves = {key: tensor.to(dtype) for key, tensor in narrow_net.state_dict().items()}
    for key, tensor in read_torchvision(write(halves, tmp_path / "half.pth")).weights.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor.to(dtype), halves[key])
        assert torch.equal(tensor, halves[key].float())


def test_classes_are_as_named_or_imagenets_or_unknown(narrow_net, tmp_path):
    path = write(narrow_net.state_dict(), tmp_path / "seven.pth")
    unnamed, named = read_torchvision(path), read_torchvision(path, list("abcdefg"))
    assert unnamed.classes == tuple(f"output {index}" for index in range(7))
    assert (unnamed.class_names_known, named.class_names_known) == (False, True)
    assert named.classes == tuple("abcdefg")
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
    monkeypatch.setattr(known_weights, "OFFICIAL", (path.name, "alexnet-owt-00000000.pth"))
    return path


def test_weights_are_downloaded_by_name_once_into_the_cache(narrow_net, address, monkeypatch, tmp_path, capsys):
    path = publish(narrow_net, address, monkeypatch)
    plain = read_torchvision(path)
    assert_same(plain, open_weights("torchvision"))
    kept = tmp_path / "cache" / "alexnet" / "weights" / path.name
    assert kept.read_bytes() == path.read_bytes()
    path.unlink()
    for name in ("torchvision", kept.name, kept.stem):
        assert_same(plain, open_weights(name))
    assert alexnet.load("torchvision").classes == plain.classes
    assert command("import", "torchvision", tmp_path / "out") == 0
    assert "7 classes" in capsys.readouterr().out
    assert_same(plain, checkpoint.load(tmp_path / "out"))


def test_a_download_with_a_wrong_checksum_is_deleted(narrow_net, address, monkeypatch, tmp_path):
    path = publish(narrow_net, address, monkeypatch)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"checksum \w+, not {path.stem[-8:]}, and was deleted"):
        open_weights("torchvision")
    assert list((tmp_path / "cache" / "alexnet" / "weights").iterdir()) == []


def test_offline_the_error_says_where_to_put_the_file(narrow_net, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("alexnet._runtime.download.time.sleep", lambda seconds: None)
    monkeypatch.setattr(torchvision, "ADDRESS", "http://127.0.0.1:1/")  # nobody listens there
    place = tmp_path / "cache" / "alexnet" / "weights" / torchvision.OFFICIAL[0]
    assert command("import", "torchvision", tmp_path / "out") == 2
    assert f"put the file at {place}" in capsys.readouterr().err
    (tmp_path / "served").mkdir()
    right = publish(narrow_net, tmp_path / "served", monkeypatch)
    shutil.copy(right, place.with_name(right.name))
    assert len(open_weights("torchvision").classes) == 7


def test_a_file_in_the_cache_with_another_checksum_is_not_read(narrow_net, address, monkeypatch, tmp_path, capsys):
    path = publish(narrow_net, address, monkeypatch)
    open_weights("torchvision")
    kept = tmp_path / "cache" / "alexnet" / "weights" / path.name
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    digest = hashlib.sha256(kept.read_bytes()).hexdigest()
    capsys.readouterr()
    assert command("import", "torchvision", tmp_path / "out") == 2
    assert capsys.readouterr().err == (
        f"alexnet: {kept} has checksum {digest}, not {path.stem[-8:]}; delete it, and run the command again\n")


@pytest.mark.parametrize("keys", ["names", "torchvision"])
def test_checkpoint_to_torchvision_and_back_is_bit_equal(narrow_net, keys, tmp_path):
    before = saved_as("torchvision", "conv.width=8", "dense.width=16", f"state_keys={keys}")
    checkpoint.save(before, tmp_path / "run")
    assert command("export", tmp_path / "run", tmp_path / "out.pth") == 0
    narrow_net.load_state_dict(torch.load(tmp_path / "out.pth", weights_only=True), strict=True)
    x = torch.randn(2, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert torch.equal(narrow_net(x), before.network()(x))
    after = read_torchvision(tmp_path / "out.pth", before.classes)
    assert all(map(torch.equal, after.weights.values(), before.weights.values()))
    assert torch.equal(after.mean_HWC, before.mean_HWC)
    if keys == "torchvision":
        assert_same(before, after)


@pytest.mark.parametrize("name", [name for name in ARCHS if name != "torchvision"])
def test_other_networks_have_no_place_in_torchvisions_state_dict(name, tmp_path):
    saved = Checkpoint(arch(name), (), {}, torch.zeros(1, 1, 3))
    with pytest.raises(ValueError, match=f"{name} is not torchvision's network"):
        write_torchvision(saved, tmp_path / "out.pth")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_of_a_state_dict_leaves_the_previous_file(narrow_net, tmp_path, monkeypatch):
    saved = read_torchvision(write(narrow_net.state_dict(), tmp_path / "net.pth"))
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
