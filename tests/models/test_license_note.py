"""The license note of the packaged network: in every export of it, and of networks whose training started from it."""

import json
import struct
import zipfile
from dataclasses import replace

import pytest
import torch
import yaml

from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.export import export
from alexnet.models.formats.huggingface import write_huggingface
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.provenance import license_note
from weight_files import narrow_torchvision, saved_as

pytestmark = pytest.mark.usefixtures("one_thread")

NOTE = "trained on images of ImageNet: for research and education, not commercial"


@pytest.fixture(scope="module")
def pretrained() -> Checkpoint:
    return open_weights("pretrained")


@pytest.fixture
def tuned(tiny, pretrained) -> Checkpoint:
    """A network whose training started from one that started from the packaged network."""
    between = Checkpoint(tiny, tuple("abcd"), AlexNet(tiny).state_dict(), torch.zeros(1, 1, 3), provenance={
        "init": {**pretrained.describe(), "taken": ["conv1"], "drawn": []}})
    return replace(between, provenance={"init": {**between.describe(), "taken": ["conv1"], "drawn": ["fc4"]}})


def test_weights_that_started_from_the_packaged_network_inherit_its_note(pretrained, tuned, tiny):
    assert pretrained.provenance["license"] == NOTE
    assert license_note(pretrained.provenance) == license_note(tuned.provenance) == NOTE
    assert license_note(Checkpoint(tiny, tuple("abcd"), {}, torch.zeros(1, 1, 3)).provenance) == ""


def test_a_run_that_starts_from_it_keeps_the_note(class_folders, tmp_path):
    import alexnet

    alexnet.train(class_folders, init="pretrained", epochs=1, out=tmp_path / "run", freeze="conv")
    saved = checkpoint.load(tmp_path / "run")
    assert license_note(saved.provenance) == NOTE
    write_huggingface(saved, tmp_path / "hub")
    assert NOTE in (tmp_path / "hub" / "README.md").read_text()
    assert license_note(open_weights(tmp_path / "hub").provenance) == NOTE


@pytest.mark.parametrize("which", ["pretrained", "tuned"])
def test_hugging_face_has_it_in_metadata_config_and_card(which, tmp_path, request):
    folder = tmp_path / "hub"
    result = export(request.getfixturevalue(which), folder, "safetensors")
    assert NOTE in result.describe()
    data = (folder / "model.safetensors").read_bytes()
    head = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    assert head["__metadata__"] == {"format": "pt", "license": NOTE}
    assert json.loads((folder / "config.json").read_text())["license"] == NOTE
    _, fields, body = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(fields)["license"] == "other"
    assert f"{NOTE}." in body.split("## License")[1].split("## Limits")[0]
    assert ("that training began from" in body) == (which == "tuned")
    assert "No license is stated" not in body


def test_torch_export_has_it_in_a_file_of_its_own(tuned, tmp_path):
    assert NOTE in export(tuned, tmp_path / "net.pt2", "torch-export").describe()
    with zipfile.ZipFile(tmp_path / "net.pt2") as archive:
        [name] = [name for name in archive.namelist() if name.endswith("extra/license.txt")]
        assert archive.read(name).decode() == NOTE
    assert license_note(open_weights(tmp_path / "net.pt2").provenance) == NOTE


@pytest.mark.needs("onnxscript", "pip install '.[export]'")
def test_onnx_has_it_in_its_metadata(tuned, tmp_path):
    import onnx

    assert NOTE in export(tuned, tmp_path / "net.onnx", "onnx").describe()
    assert {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}["license"] == NOTE
    assert license_note(open_weights(tmp_path / "net.onnx").provenance) == NOTE


def test_torchvisions_state_dict_has_it_in_its_metadata(tuned, tmp_path, monkeypatch):
    narrow_torchvision(monkeypatch)
    saved = replace(saved_as("torchvision", "conv.width=8", "dense.width=16"), provenance=tuned.provenance)
    assert NOTE in export(saved, tmp_path / "net.pth", "torchvision").describe()
    state = torch.load(tmp_path / "net.pth", weights_only=True)
    assert state._metadata[""]["license"] == NOTE
    assert license_note(open_weights(tmp_path / "net.pth").provenance) == NOTE


def test_an_export_without_a_note_has_none(tiny, tmp_path):
    saved = Checkpoint(tiny, tuple("abcd"), AlexNet(tiny).state_dict(), torch.zeros(1, 1, 3))
    assert "icense" not in export(saved, tmp_path / "hub", "safetensors").describe()
    assert "license" not in json.loads((tmp_path / "hub" / "config.json").read_text())
    assert "No license is stated here" in (tmp_path / "hub" / "README.md").read_text()
