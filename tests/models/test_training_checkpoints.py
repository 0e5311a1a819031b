"""Files of other training scripts: wrappers, prefixes, options beside the weights, class names; nothing is executed."""

import argparse
import datetime
import json
import os
import pathlib
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch

from alexnet.data.imagenet_classes import CLASSES
from alexnet.errors import UserError
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.formats.torch_files import read_torch_file
from alexnet.models.formats.torchvision import read_torchvision
from command_line import alexnet as command
from weight_files import NARROW, TorchvisionAlexNet, narrow_torchvision, write

pytestmark = pytest.mark.usefixtures("one_thread")

TREES = ("ash", "birch", "cedar", "date palm", "elm", "fir", "ginkgo")
NUMBERED = ("0", "1", "10", "2", "3", "4", "5")


@pytest.fixture
def net(monkeypatch):
    return narrow_torchvision(monkeypatch)


def prefixed(state, prefix):
    return OrderedDict((f"{prefix}{key}", tensor) for key, tensor in state.items())


def options():
    """What torchvision's and timm's scripts keep beside the weights."""
    return argparse.Namespace(data_path=pathlib.Path("/data"), lr=0.1, val_resize_size=72, val_crop_size=64,
                              device=torch.device("cpu"), started=datetime.datetime(2024, 5, 1))


def other(state):
    return {key: tensor + 1 for key, tensor in state.items()}


WRAPPED = {
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "best_acc1": np.float64(56.5)},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {}}, "loss": 0.3},
    "model": lambda state: {"model": state},
    "net": lambda state: {"net": state, "acc": 91.2, "epoch": 7},
    "network": lambda state: {"network": state},
    "nested": lambda state: {"model": {"state_dict": state}},
    "module.": lambda state: prefixed(state, "module."),
    "_orig_mod.": lambda state: prefixed(state, "_orig_mod."),
    "module._orig_mod.": lambda state: prefixed(state, "module._orig_mod."),
    "Lightning": lambda state: {"state_dict": prefixed(state, "model."), "pytorch-lightning_version": "2.4.0",
                                "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.3)}}},
    "net.": lambda state: prefixed(state, "net."),
    "compiled Lightning": lambda state: {"state_dict": prefixed(state, "net._orig_mod.")},
    "pytorch/examples": lambda state: {"state_dict": {
        key.replace("features.", "features.module."): tensor for key, tensor in state.items()}, "arch": "alexnet"},
    "torchvision references": lambda state: {
        "model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "lr_scheduler": {"last_epoch": 89},
        "epoch": 89, "args": options()},
}


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old pickle"])
def test_the_state_dict_is_found_in_what_scripts_save(net, kind, zipped, tmp_path):
    path = write(WRAPPED[kind](net.state_dict()), tmp_path / "net.pth", zipped)
    saved = open_weights(path)
    assert saved.weights.keys() == net.state_dict().keys()
    for key, tensor in net.state_dict().items():
        assert torch.equal(saved.weights[key], tensor)
    assert not saved.class_names_known


@pytest.mark.parametrize("wrapper", ["state_dict_ema", "model_ema", "ema"])
def test_a_moving_average_is_preferred_and_said(net, wrapper, tmp_path, capsys):
    """torch.optim.swa_utils.AveragedModel adds n_averaged and a prefix."""
    average = {"n_averaged": torch.tensor(9), **prefixed(net.state_dict(), "module.")}
    path = write({"state_dict": other(net.state_dict()), wrapper: average, "args": options()}, tmp_path / "net.pth.tar")
    assert torch.equal(open_weights(path).weights["features.0.bias"], net.state_dict()["features.0.bias"])
    assert command("import", path, tmp_path / "out") == 0
    assert f"the weights are the moving average {wrapper} in the file" in capsys.readouterr().err


def test_torchvisions_options_give_the_input_size(net, tmp_path, capsys):
    path = write({"model": net.state_dict(), "args": options()}, tmp_path / "model_89.pth")
    spec = open_weights(path).arch.input
    assert (spec.side, spec.crop) == (72, 64)
    assert command("import", path, tmp_path / "out", "--side", "90", "--crop", "80") == 0
    assert "RGB crops of 80x80 from 90x90" in capsys.readouterr().out


def test_what_a_state_dict_does_not_say_is_assumed_aloud(net, tmp_path, capsys):
    path = write(net.state_dict(), tmp_path / "net.pth")
    assert command("import", path, tmp_path / "out") == 0
    printed = capsys.readouterr()
    assert "7 classes (output 0, ...); RGB crops of 224x224 from 256x256" in printed.out
    assert ("note: the file does not say what its images were like: 224x224 crops of images of 256 pixels and "
            "torchvision's mean and scale of each color are assumed") in printed.err
    assert "note: the weights have no class names" in printed.err
    assert "--classes FILE" in printed.err


# --- Class names ------------------------------------------------------------------------------------------------------

NAMED = {
    "class_to_idx": {name: index for index, name in reversed(list(enumerate(TREES)))},
    "class_to_idx list": list(TREES), "idx_to_class": dict(enumerate(TREES)), "classes": TREES,
    "class_names": list(TREES), "names": dict(enumerate(TREES)), "label_names": list(TREES),
    "id2label": {str(index): name for index, name in enumerate(TREES)},
    "label2id": {name: index for index, name in enumerate(TREES)},
}


@pytest.mark.parametrize("kind", NAMED)
def test_class_names_in_a_file_are_read(net, kind, tmp_path):
    key = kind.split()[0]
    saved = open_weights(write({"state_dict": net.state_dict(), key: NAMED[kind]}, tmp_path / "net.pth"))
    assert (saved.classes, saved.class_names_known) == (TREES, True)
    assert f"the class names are those of {key} in net.pth" in saved.notes


@pytest.mark.parametrize("folder", ["pretrained_cfg", "config", "hyper_parameters", "args"])
def test_class_names_in_the_options_of_a_script_are_read(net, folder, tmp_path):
    held = argparse.Namespace(class_names=list(TREES)) if folder == "args" else {"label_names": list(TREES)}
    assert open_weights(write({"model": net.state_dict(), folder: held}, tmp_path / "net.pth")).classes == TREES


def test_wordnet_ids_of_imagenets_folders_get_their_names(net, tmp_path):
    wnids = ["n01440764", "n02102040", "n02979186", "n03000684", "n03028079", "n03394916", "n03417042"]
    content = {"model": net.state_dict(), "class_to_idx": {name: index for index, name in enumerate(wnids)}}
    assert open_weights(write(content, tmp_path / "net.pth")).classes == (
        "tench", "English springer", "cassette player", "chain saw", "church", "French horn", "garbage truck")


def test_numbered_folders_keep_the_order_of_their_names_as_texts(net, tmp_path):
    content = {"model": net.state_dict(), "class_to_idx": {name: index for index, name in enumerate(NUMBERED)}}
    assert open_weights(write(content, tmp_path / "net.pth")).classes == NUMBERED


@pytest.mark.parametrize(("indices", "problem"), [
    (range(1, 8), "its 7 class names have indices from 1 to 7, and must have 0 to 6, each once"),
    ((0, 1, 2, 3, 4, 5, 9), "its 7 class names have indices from 0 to 9, and must have 0 to 6, each once"),
    ((0, 0, 2, 3, 4, 5, 6), "its 7 class names have indices from 0 to 6, and must have 0 to 6, each once"),
])
def test_class_names_whose_indices_do_not_count_from_0_are_said_and_not_used(net, indices, problem, tmp_path):
    content = {"model": net.state_dict(), "class_to_idx": dict(zip(TREES, indices, strict=True))}
    saved = open_weights(write(content, tmp_path / "net.pth"))
    assert saved.class_names_known is False
    assert f"class_to_idx in net.pth is not used: {problem}" in saved.notes


@pytest.mark.parametrize("value", [{"ash": 0.5}, {"ash": True, "elm": False}, {"ash": "elm"}, {}, {3: None}, 7, "x"])
def test_what_is_no_mapping_between_names_and_indices_is_not_said(net, value, tmp_path):
    saved = open_weights(write({"model": net.state_dict(), "labels": value}, tmp_path / "net.pth"))
    assert not [note for note in saved.notes if "labels" in note]


@pytest.mark.parametrize(("beside", "text"), [
    ("net.classes.txt", "\n".join(TREES)), ("classes.txt", "\n".join(TREES)),
    ("config.json", json.dumps({"architectures": ["x"], "id2label": dict(enumerate(TREES))})),
    ("config.json", json.dumps({"pretrained_cfg": {"label_names": TREES}})),
])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_class_names_beside_a_file_are_read(net, beside, text, ending, tmp_path):
    path = tmp_path / f"net.{ending}"
    if ending == "pth":
        write(net.state_dict(), path)
    else:
        safetensors.torch.save_file(net.state_dict(), path)
    (tmp_path / beside).write_text(text)
    saved = open_weights(path)
    assert saved.classes == TREES
    assert any(beside in note for note in saved.notes)


def test_class_names_in_the_header_of_safetensors_are_read(net, tmp_path):
    safetensors.torch.save_file(net.state_dict(), tmp_path / "net.safetensors", {"classes": json.dumps(TREES)})
    assert open_weights(tmp_path / "net.safetensors").classes == TREES


@pytest.mark.parametrize(("content", "words"), [
    ({"classes": TREES[:5]}, "classes in net.pth is not used: it has 5 class names, and the network has 7 outputs"),
    ({"classes": ("ash",) * 7}, "classes in net.pth is not used: it has a class name twice"),
    ({"classes": TREES, "names": TREES[::-1]}, "classes in net.pth and names in net.pth differ"),
])
def test_class_names_that_do_not_fit_are_not_used_and_that_is_said(net, content, words, tmp_path):
    saved = open_weights(write({"model": net.state_dict(), **content}, tmp_path / "net.pth"))
    assert not saved.class_names_known
    assert any(words in note for note in saved.notes)


def test_names_that_transformers_invents_are_no_class_names(net, tmp_path):
    path = write(net.state_dict(), tmp_path / "pytorch_model.bin")
    config = {"id2label": {str(index): f"LABEL_{index}" for index in range(7)}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert not open_weights(path).class_names_known


def test_given_names_override_those_of_a_file(net, tmp_path):
    path = write({"model": net.state_dict(), "classes": TREES}, tmp_path / "net.pth")
    saved = open_weights(path, NUMBERED)
    assert saved.classes == NUMBERED
    assert "the given class names replace those that came with the weights ('ash', ...)" in saved.notes
    with pytest.raises(ValueError, match=r"came with the weights, in another order \(output 0 is 'ash'\)"):
        open_weights(path, TREES[::-1])
    with pytest.raises(ValueError, match="2 names of classes were given, and the network has 7 outputs"):
        open_weights(path, ["a", "b"])


def test_imagenets_names_for_1000_outputs_are_assumed_aloud(net, tmp_path):
    saved = open_weights(write(TorchvisionAlexNet(*NARROW, classes=1000).state_dict(), tmp_path / "net.pth"))
    assert (saved.classes, saved.class_names_known) == (CLASSES, True)
    assert "the file has no class names: with 1,000 outputs, ImageNet's are assumed" in saved.notes


# --- Hostile files ----------------------------------------------------------------------------------------------------


class Calls:
    """Unpickled by Python's own unpickler, it calls."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_call_hidden_in_a_scripts_options_is_refused_and_not_run(net, tmp_path):
    marker = tmp_path / "ran"
    hidden = argparse.Namespace(lr=0.1, hook=Calls(os.system, f"touch {marker}"))
    for zipped in (True, False):
        path = write({"model": net.state_dict(), "args": hidden}, tmp_path / "net.pth", zipped)
        with pytest.raises(ValueError, match="holds more than tensors, and reading it could run code"):
            open_weights(path)
    assert not marker.exists()


def test_a_compressed_file_is_refused_before_torch_decompresses_it(tmp_path, monkeypatch):
    """Half a megabyte would become 400 MB of zeros in torch."""
    stored = write({"weight": torch.zeros(1000)}, tmp_path / "net.pth")
    assert read_torch_file(stored)["weight"].shape == (1000,)
    with zipfile.ZipFile(stored) as whole, zipfile.ZipFile(tmp_path / "small.pth", "w", zipfile.ZIP_DEFLATED) as small:
        for name in whole.namelist():
            small.writestr(name, whole.read(name))
    monkeypatch.setattr(torch, "load", lambda *arguments, **options: pytest.fail("torch has read it"))
    with pytest.raises(UserError, match=r"small\.pth is compressed, as torch\.save writes no file"):
        read_torch_file(tmp_path / "small.pth")


def test_harmless_classes_are_replaced_by_stand_ins(tmp_path):
    """No class or function of the file is called, not even Path: on another system it would not exist."""
    content = {"args": options(), "scalar": np.float32(1.0), "array": np.array(["ash"]), "path": pathlib.Path("x")}
    allowed = torch.serialization.get_safe_globals()
    read = read_torch_file(write(content, tmp_path / "net.pth"))
    assert {type(value).__name__ for value in read.values()} == {"StandIn"}
    assert vars(read["args"])["lr"] == 0.1
    assert set(torch.serialization.get_safe_globals()) == set(allowed)


def test_a_file_that_holds_itself_is_refused(net, tmp_path):
    content = {"epoch": 3}
    content["model"] = content["config"] = content
    with pytest.raises(ValueError, match="holds a dict that is not a state dict"):
        open_weights(write(content, tmp_path / "net.pth"))
    content["state_dict"] = net.state_dict()
    assert read_torchvision(write(content, tmp_path / "net.pth")).weights


@pytest.mark.parametrize("metadata", [3, [], {"": 3}, {"": {"alexnet": 7}}, {"": {"version": 1}}])
def test_strange_metadata_of_a_state_dict_is_ignored(net, metadata, tmp_path):
    state = OrderedDict(net.state_dict())
    vars(state)["_metadata"] = metadata
    assert not open_weights(write(state, tmp_path / "net.pth")).class_names_known


def test_damaged_metadata_of_a_state_dict_is_refused_by_name(net, tmp_path):
    state = OrderedDict(net.state_dict())
    for text in ("", "{}", "[]", "{", '{"format": 1}', json.dumps({"format": 2, "seen": "x"})):
        vars(state)["_metadata"] = {"": {"alexnet": text}}
        with pytest.raises(ValueError, match=r"net\.pth does not describe a network of this package"):
            open_weights(write(state, tmp_path / "net.pth"))
