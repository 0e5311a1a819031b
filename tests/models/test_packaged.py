"""The packaged network: small files, verified, with the same predictions, and what commands call it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import alexnet
from alexnet.architecture.recipe_presets import recipe
from alexnet.errors import UserError
from alexnet.models import checkpoint, packaged
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.formats.packaged_weights import add_measured, dequantize, quantize, read_packaged, write_packaged
from alexnet.models.formats.recognize import is_weights
from alexnet.models.known_weights import OTHERS, class_names, known_weights, named
from alexnet.models.seen import SeenImages
from alexnet.models.stored_network import find_json, read_stored_network
from alexnet.models.training_facts import training_facts

TRAINING = {"data": "two cats", "images": 3, "command": "alexnet train cats", "package_command": "python make.py",
            "seed": 4, "epochs": 5, "batch_size": 6, "software": {"torch": "2.13"}, "device": "CPU",
            "changed_since": []}
CLASSES = ("tabby", "Egyptian cat", "goldfish", "no such thing")


@pytest.fixture
def saved(tiny) -> Checkpoint:
    generator = np.random.default_rng(0)
    seen = SeenImages(np.array([3, 5, 8], np.uint64), np.array([9], np.uint64),
                      generator.integers(1, 2**63, (3, 2), np.uint64)[[0, 1, 2]], ("somebody's weights",))
    seen = SeenImages.from_tensors(seen.to_tensors(), seen.unknown)
    return Checkpoint(
        arch=tiny, classes=CLASSES, weights=AlexNet(tiny, seed=1).state_dict(), mean_HWC=torch.rand(1, 1, 3),
        recipe=recipe("modern"), training={"seed": 4, "step": 7, "epoch": 5},
        errors={"images": 10, "loss": 1.0, "top1_error": 0.5, "top5_error": 0.0,
                "interval": {"top1_error": (0.2, 0.8), "top5_error": (0.0, 0.3)}},
        calibration={"temperature": 2.0, "fitted_images": 20, "measured_images": 20, "ece_before": 0.1,
                     "ece_after": 0.01}, seen=seen)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(packaged, "FOLDER", tmp_path / "weights")
    return tmp_path / "weights"


def write(saved: Checkpoint, folder: Path, **options: object) -> Path:
    return write_packaged(saved, folder, "cats-4", TRAINING, packaged.LICENSE, **options)


# --- What is stored ---------------------------------------------------------------------------------------------------


def test_int8_by_hand():
    """Output 0: largest 0.254, so the scale is 0.002 and 0.1 is 50 of it; output 1 has a scale of its own."""
    weights = {"conv.weight": torch.tensor([[[[0.254, 0.1, -0.254]]], [[[12.7, 0.04, 0.06]]]]),
               "conv.bias": torch.tensor([0.123, 0.456]), "norm.num_batches_tracked": torch.tensor(7)}
    stored = quantize(weights, "int8")
    assert stored["conv.weight"].dtype == torch.int8
    assert stored["conv.weight"].flatten().tolist() == [127, 50, -127, 127, 0, 1]
    np.testing.assert_allclose(stored["conv.weight.scale"], [0.002, 0.1], rtol=1e-6)
    back = dequantize(stored)
    assert back.keys() == weights.keys()
    np.testing.assert_allclose(back["conv.weight"].flatten(), [0.254, 0.1, -0.254, 12.7, 0.0, 0.1], rtol=1e-6)
    assert torch.equal(back["conv.bias"], weights["conv.bias"])
    assert back["norm.num_batches_tracked"] == 7


def test_a_weight_changes_by_half_a_step_of_its_output_at_most_and_an_output_of_zeros_stays():
    weight = torch.randn(6, 3, 5, 5) * torch.logspace(-3, 3, 6)[:, None, None, None]
    weight[2] = 0
    back = dequantize(quantize({"w": weight}, "int8"))["w"]
    steps = weight.flatten(1).abs().amax(1) / 127
    assert ((back - weight).flatten(1).abs().amax(1) <= 0.5001 * steps).all()
    assert not back[2].any()


@pytest.mark.parametrize(("storage", "tolerance"), [("fp16", 2e-3), ("int8", 6e-2)])
def test_everything_of_a_checkpoint_comes_back(saved, folder, storage, tolerance):
    path = write(saved, folder, storage=storage)
    back = open_weights(path)
    assert (back.arch, back.classes, back.recipe, back.training, back.errors, back.calibration) == (
        saved.arch, saved.classes, saved.recipe, saved.training, json.loads(json.dumps(saved.errors)),
        saved.calibration)
    assert torch.equal(back.mean_HWC, saved.mean_HWC)
    assert back.seen.unknown == ("somebody's weights",)
    for name in ("trained", "selected_on", "trained_perceptual"):
        assert np.array_equal(getattr(back.seen, name), getattr(saved.seen, name))
        assert len(getattr(back.seen, name))
    for key, weight in saved.weights.items():
        assert back.weights[key].dtype == weight.dtype
        assert (back.weights[key] - weight).abs().max() <= 0.5 / 127 * weight.abs().max(), key
    views = torch.randn(4, 3, 28, 28)
    with torch.inference_mode():
        expected = saved.network()(views)
        assert (back.network()(views) - expected).abs().max() < tolerance * expected.abs().max()
    assert back.provenance["source"] == "alexnet"
    assert back.provenance["sha256"] == packaged.read_packaged_json(path)["file_sha256"]


def test_the_head_has_what_the_list_shows(saved, folder):
    path = write(saved, folder, storage="int8")
    add_measured(path, [{"data": "cats", "images": 10, "views": 1, "top1_error": 0.5, "top5_error": 0.0}],
                 [{"image": "a", "classes": [("tabby", 0.5)]}], {"fp32": saved.errors})
    tree = packaged.read_packaged_json(path)
    assert tree["wnids"] == ["n02123045", "n02124075", "n01443537", ""]
    assert tree["parameters"] == sum(parameter.numel() for parameter in AlexNet(saved.arch).parameters())
    assert tree["bytes"] == (folder / "cats-4.safetensors").stat().st_size
    assert tree["measured"][0]["images"] == 10
    assert tree["storage_errors"]["fp32"]["top1_error"] == 0.5
    [ours, *others] = known_weights()
    assert others == list(OTHERS)
    assert (ours.name, ours.classes, ours.top1_error, ours.checksum) == (
        "cats-4", 4, 0.5, f"sha256:{tree['file_sha256']}")
    assert "not commercial" in ours.license
    assert "alexnet train cats" in ours.provenance
    assert class_names(ours) == (list(CLASSES), tree["measured"])


def test_the_smaller_form_is_taken_where_the_larger_does_not_fit(saved, folder):
    def stored(limit: int) -> packaged.PackagedJson:
        return packaged.read_packaged_json(write(saved, folder, max_bytes=limit))

    half = stored(10**9)
    assert half["storage"] == "fp16"
    byte = stored(half["bytes"] - 1)
    assert (byte["storage"], byte["look_alikes_recognized"]) == ("int8", True)
    seen = replace(saved.seen, trained_perceptual=np.arange(1, 200_001, dtype=np.uint64).reshape(-1, 2))
    large = packaged.read_packaged_json(write(replace(saved, seen=seen), folder, max_bytes=byte["bytes"] + 1000))
    assert (large["storage"], large["look_alikes_recognized"]) == ("int8", False)
    back = read_packaged(folder / "cats-4.json").seen
    assert len(back.trained) == 3
    assert len(back.trained_perceptual) == 0


def test_a_network_that_does_not_fit_is_refused_and_nothing_is_written(saved, folder):
    with pytest.raises(UserError, match="need more than 1,000 bytes"):
        write(saved, folder, max_bytes=1000)
    assert not folder.exists()


# --- Damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["cats-4.json", "cats-4.safetensors"])
def test_a_damaged_file_is_named(saved, folder, file):
    path = write(saved, folder)
    data = bytearray((folder / file).read_bytes())
    position = data.index(b"tabby") + 1 if file.endswith("json") else len(data) // 2
    data[position] ^= 1
    (folder / file).write_bytes(data)
    with pytest.raises(UserError, match=rf"{file} is damaged"):
        read_packaged(path)


def test_a_missing_tensor_file_is_named(saved, folder):
    path = write(saved, folder)
    (folder / "cats-4.safetensors").unlink()
    with pytest.raises(UserError, match=r"cats-4\.safetensors is missing"):
        read_packaged(path)


def test_a_head_of_another_format_is_refused(saved, folder):
    path = write(saved, folder)
    tree = packaged.read_packaged_json(path)
    path.write_bytes(packaged.packaged_json_bytes({**tree, "format": packaged.PACKAGED_FORMAT + 1}))
    with pytest.raises(UserError, match="has format 4, and this version of alexnet reads format 3"):
        read_packaged(path)


# --- Names ------------------------------------------------------------------------------------------------------------


def test_load_without_arguments_is_the_packaged_network(saved, folder):
    write(saved, folder)
    pixels_HWC = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    expected = [guess.name for guess in alexnet.load(folder / "cats-4.json").predict(pixels_HWC, top=4)[0]]
    for model in (alexnet.load(), alexnet.load("pretrained"), alexnet.load("cats-4")):
        assert model.classes == CLASSES
        assert [guess.name for guess in model.predict(pixels_HWC, top=4)[0]] == expected


def test_a_folder_of_the_same_name_does_not_hide_the_default(saved, folder, tmp_path, monkeypatch):
    write(saved, folder)
    monkeypatch.chdir(tmp_path)
    for name in ("pretrained", "cats-4"):
        (tmp_path / name).mkdir()
        with pytest.raises(UserError, match="is not a checkpoint"):
            alexnet.load(name)
        assert not is_weights(name)
    assert alexnet.load().classes == CLASSES


def test_an_installation_without_it_says_so(folder):
    with pytest.raises(UserError, match="this installation has no pretrained network"):
        alexnet.load()
    with pytest.raises(UserError, match="pretrained does not exist"):
        alexnet.load("pretrained")
    assert not is_weights("pretrained")
    assert known_weights() == list(OTHERS)


def test_names_of_weights(saved, folder):
    path = write(saved, folder)
    assert is_weights("pretrained")
    assert is_weights("cats-4")
    assert is_weights(str(path))
    assert packaged.shown_name(path) == "cats-4"
    assert packaged.shown_name("runs/mine") == "runs/mine"
    assert named("pretrained") == named("cats-4") == known_weights()[0]
    assert named("runs/mine") is None


def test_weights_of_others_have_the_checksums_that_their_owners_publish():
    """BVLC/caffe: models/*/readme.md (sha1, accuracy); torchvision: AlexNet_Weights (accuracy), and the file's name."""
    by_name = {known.name: known for known in OTHERS}
    assert named("alexnet-owt-7be5be79.pth") == by_name["torchvision"]
    assert named("bvlc_alexnet") == by_name["bvlc_alexnet"]
    assert by_name["torchvision"].checksum.startswith("sha256:7be5be79")
    assert by_name["alexnet-owt-4df8aa71"].checksum == "sha256:4df8aa71"
    assert by_name["bvlc_alexnet"].checksum == "sha1:9116a64c0fbe4459d18f4bb6b56d647b63920377"
    assert by_name["bvlc_reference_caffenet"].checksum == "sha1:4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46"
    accuracies = {"torchvision": (56.522, 79.066), "bvlc_alexnet": (57.1, 80.2),
                  "bvlc_reference_caffenet": (57.4, 80.4)}
    for name, (first, among_five) in accuracies.items():
        assert by_name[name].top1_error == pytest.approx(1 - first / 100)
        assert by_name[name].top5_error == pytest.approx(1 - among_five / 100)
    assert {known.parameters for known in OTHERS} == {61_100_840, 60_965_224}


def test_training_can_start_from_it(saved, folder, tmp_path):
    """The checkpoint of a run that began so says which weights they were."""
    write(saved, folder, storage="int8")
    description = open_weights("pretrained").describe()
    assert description["provenance"]["file"] == "cats-4.safetensors"
    checkpoint.save(open_weights("pretrained"), tmp_path / "copy")
    assert checkpoint.load(tmp_path / "copy").describe() == description


def test_how_the_packaged_network_was_trained_is_known_without_its_weights():
    """`explain pretrained --diff RUN` compares it: 24 epochs from random weights, seed 0 (docs/pretrained.md)."""
    stored = read_stored_network(find_json("pretrained"))
    assert (stored.training["epoch"], stored.training["seed"]) == (24, 0)
    assert training_facts(stored)["training", "start"].value == "random weights"
