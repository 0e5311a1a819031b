"""Export -> import keeps the network, its input, class names and training images, in every format: the same error."""

import json
import random
import re
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet._runtime.extras import install_line
from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.inference.classes import map_labels
from alexnet.inference.evaluate import evaluate
from alexnet.models import checkpoint
from alexnet.models.formats import torchvision
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.seen import SeenImages
from command_line import alexnet as command
from sample_images import draw
from weight_files import assert_same, narrow, saved_as

pytestmark = pytest.mark.usefixtures("one_thread")

OUTPUTS = {"torchvision": "net.pth", "safetensors": "hub", "onnx": "net.onnx", "torch-export": "net.pt2"}
NUMBERED = tuple(sorted(map(str, range(12))))
"""Twelve numbered folders in the order of their names as texts: 0, 1, 10, 11, 2, ..."""
SEEN = SeenImages(np.array([3, 2**64 - 1], np.uint64), np.array([5], np.uint64))


@pytest.fixture(autouse=True)
def narrow_torchvision(monkeypatch):
    monkeypatch.setattr(torchvision, "TORCHVISION", override(arch("torchvision"), ["conv.width=16", "dense.width=32"]))


def export_and_import(saved, to, tmp_path, *options):
    checkpoint.save(saved, tmp_path / "run")
    out = tmp_path / "exported" / OUTPUTS[to]
    out.parent.mkdir()
    assert command("export", tmp_path / "run", out, *options) == 0
    return out, open_weights(out)


def torchvision_at_63(**changes):
    """torchvision's layout, trained on crops of 63 of images of 64 pixels with 12 numbered classes."""
    saved = saved_as("torchvision", "conv.width=16", "dense.width=32", "input.side=64", "input.crop=63",
                     "input.mean=100,110,120", "input.scale=50,60,70", classes=NUMBERED)
    return replace(saved, seen=SEEN, **changes)


@pytest.mark.parametrize("to", OUTPUTS)
def test_a_network_on_numbered_folders_has_the_same_error_after_export_and_import(to, tmp_path):
    """The folders 0 to 11 sort as 0, 1, 10, 11, 2, ..., and names by index would be wrong for ten of them."""
    saved = torchvision_at_63()
    if to != "torchvision":  # whose weights are divided by the temperature: test_temperature_export.py
        saved.calibration = {"temperature": 1.5, "fitted_images": 30, "measured_images": 30, "ece_before": 0.1,
                             "ece_after": 0.05}
    _, again = export_and_import(saved, to, tmp_path)
    assert again.calibration == saved.calibration
    assert_same(replace(saved, arch=replace(saved.arch, state_keys=again.arch.state_keys),
                        weights=again.weights), again)
    for before, after in zip(saved.weights.values(), again.weights.values(), strict=True):
        assert torch.equal(before, after)
    assert (again.arch.input.side, again.arch.input.crop, again.class_names_known) == (64, 63, True)
    assert (again.seen.trained.tolist(), again.seen.selected_on.tolist()) == ([3, 2**64 - 1], [5])
    assert again.notes == ()
    rng = np.random.default_rng(0)
    for label in range(12):
        (tmp_path / "photos" / str(label)).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(draw(rng, label, 64)).save(tmp_path / "photos" / str(label) / f"{number}.png")
    packed = pack(open_dataset(tmp_path / "photos", held_out=0.0), tmp_path / "packed", side=64)
    errors = [evaluate([(each.network(), each.preprocess())], packed.split("train"),
                       label_map=map_labels(each, packed.classes)) for each in (saved, again)]
    assert errors[0].images == 48
    assert errors[0] == errors[1]


@pytest.mark.parametrize("to", OUTPUTS)
def test_unknown_names_and_unrecorded_training_images_stay_so(to, tmp_path, capsys):
    saved = replace(torchvision_at_63(), classes=tuple(f"output {index}" for index in range(12)),
                    class_names_known=False, seen=SeenImages.not_recorded("somebody's weights"))
    out, again = export_and_import(saved, to, tmp_path)
    assert not again.class_names_known
    assert again.seen.unknown == ("somebody's weights",)
    printed = capsys.readouterr().out
    assert "no class names, because they are unknown" in printed
    assert "those of somebody's weights are not recorded" in printed
    assert not out.with_suffix(".classes.txt").exists()
    if to == "safetensors":
        assert "for 12 classes: their names are unknown." in (out / "README.md").read_text()
    named = open_weights(out, NUMBERED)
    assert (named.classes, named.class_names_known, named.notes) == (NUMBERED, True, ())


@pytest.mark.parametrize(("to", "options"), [
    ("onnx", []), ("onnx", ["--from-pixels"]), ("torch-export", []), ("torch-export", ["--from-pixels"]),
    ("safetensors", [])])
@pytest.mark.parametrize("name", ["paper", "small", *(
    pytest.param(name, marks=pytest.mark.slow) for name in ("caffe", "paper-bn", "code2012"))])
def test_every_kind_of_network_comes_back_bit_for_bit(to, options, name, tmp_path):
    """LRN, batch normalization, a mean image; equal biases, which an optimizing exporter would merge."""
    saved = replace(narrow(name), seen=SEEN)
    _, again = export_and_import(saved, to, tmp_path, *options)
    assert_same(saved, again)


def test_a_pth_carries_everything_wherever_it_is_copied(tmp_path):
    saved = torchvision_at_63()
    out, _ = export_and_import(saved, "torchvision", tmp_path)
    assert (out.parent / "net.classes.txt").read_text().split() == list(NUMBERED)
    out.rename(tmp_path / "alone.pth")
    (out.parent / "net.classes.txt").unlink()
    assert open_weights(tmp_path / "alone.pth").classes == NUMBERED
    state = torch.load(tmp_path / "alone.pth", weights_only=True)
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())
    assert command("import", tmp_path / "alone.pth", tmp_path / "out", "--side", "80") == 2


def test_a_file_of_other_names_beside_a_pth_is_not_overwritten(tmp_path, capsys):
    checkpoint.save(torchvision_at_63(), tmp_path / "run")
    (tmp_path / "net.classes.txt").write_text("mine\n")
    assert command("export", tmp_path / "run", tmp_path / "net.pth") == 2
    assert "net.classes.txt is there and holds other class names" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.classes.txt", "run"]
    assert (tmp_path / "net.classes.txt").read_text() == "mine\n"


def test_given_names_that_contradict_an_exported_file_are_said_or_refused(tmp_path):
    out, _ = export_and_import(torchvision_at_63(), "torchvision", tmp_path)
    assert open_weights(out, NUMBERED).notes == ()
    (note,) = open_weights(out, tuple("abcdefghijkl")).notes
    assert note == "the given class names replace those that came with the weights ('0', ...)"
    with pytest.raises(ValueError, match="in another order"):
        open_weights(out, sorted(NUMBERED, key=int))


def test_names_that_are_not_utf_8_are_exported_and_come_back(tmp_path):
    """A folder's name on a disk may be in Latin-1; Python holds its bytes as lone surrogates."""
    name = b"b\xe4r".decode("utf-8", "surrogateescape")
    for to in OUTPUTS:
        saved = replace(torchvision_at_63(), classes=(name, *NUMBERED[1:]))
        (tmp_path / to).mkdir()
        _, again = export_and_import(saved, to, tmp_path / to)
        assert again.classes == saved.classes
    assert "b\\xe4r" in (tmp_path / "safetensors" / "exported" / "hub" / "README.md").read_text(encoding="utf-8")
    names = tmp_path / "torchvision" / "exported" / "net.classes.txt"
    assert names.read_text(encoding="utf-8").splitlines()[0] == "b\\xe4r"


# --- Damaged and foreign files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["onnx", "torch-export"])
def test_a_damaged_file_is_refused_or_read_with_the_right_weights(to, tmp_path):
    saved = narrow("cifar")
    out, _ = export_and_import(saved, to, tmp_path)
    data, generator = out.read_bytes(), random.Random(0)
    for _ in range(60):
        out.write_bytes(data[: generator.randrange(len(data))])
        with pytest.raises(ValueError, match=f"{out}"):
            open_weights(out)


def test_without_the_package_onnx_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "net.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match=re.escape(f"reading ONNX needs onnx; {install_line('export')}")):
        open_weights(tmp_path / "net.onnx")


def test_onnx_files_of_others_are_refused_with_the_remedy(tmp_path):
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value],
                                   [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])])
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "other.onnx"))
    with pytest.raises(ValueError, match="alexnet export did not write, and others are not read; give a state dict"):
        open_weights(tmp_path / "other.onnx")


def test_programs_of_others_are_refused(tmp_path):
    torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.zeros(2),)), tmp_path / "other.pt2")
    with pytest.raises(ValueError, match=r"other\.pt2 is damaged, or not a program that alexnet export wrote"):
        open_weights(tmp_path / "other.pt2")


def test_a_pickle_within_a_program_is_not_read(tmp_path):
    """torch.export.load unpickles the sample inputs; an import needs only numbers and JSON."""
    out, _ = export_and_import(narrow("cifar"), "torch-export", tmp_path)
    changed = tmp_path / "changed.pt2"
    with zipfile.ZipFile(out) as source, zipfile.ZipFile(changed, "w") as target:
        for entry in source.infolist():
            data = b"no pickle at all" if entry.filename.endswith("model.pt") else source.read(entry)
            target.writestr(entry.filename, data)
    assert open_weights(changed).classes == tuple("abcdefg")


def test_a_description_of_another_version_is_refused(tmp_path):
    out, _ = export_and_import(narrow("cifar"), "torch-export", tmp_path)
    changed = tmp_path / "changed.pt2"
    with zipfile.ZipFile(out) as source, zipfile.ZipFile(changed, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith("alexnet.json"):
                data = json.dumps(json.loads(data) | {"format": 99}).encode()
            target.writestr(entry.filename, data)
    with pytest.raises(ValueError, match=r"does not describe a network of this package \(it has format 99"):
        open_weights(changed)
