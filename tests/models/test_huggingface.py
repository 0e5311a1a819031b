"""Hugging Face folders: bit for bit there and back, a model card, and damaged files named."""

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

import alexnet
from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.recipe_presets import recipe
from alexnet.inference.metrics import Errors
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.huggingface import read_huggingface, write_huggingface
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.seen import SeenImages
from command_line import alexnet as command
from weight_files import assert_same, saved_as

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ARCHS)
def test_checkpoint_to_hub_and_back_is_bit_equal(name, tmp_path):
    before = replace(
        saved_as(name, "conv.width=16"), recipe=recipe("modern"), errors=Errors(44, 20.0, 11, 1).to_json(),
        provenance={"source": "torchvision", "file": "x.pth", "sha256": "ab"}, training={"step": 9},
        seen=SeenImages.of(
            np.array([2**63, 3], np.uint64), np.array([5], np.uint64), np.array([[7, 2**63]], np.uint64)))
    checkpoint.save(before, tmp_path / "run")
    assert command("export", tmp_path / "run", tmp_path / "hub" / "model") == 0
    after = read_huggingface(tmp_path / "hub" / "model")
    assert_same(checkpoint.load(tmp_path / "run"), after)
    assert (after.recipe, after.provenance) == (before.recipe, before.provenance)
    assert after.errors == json.loads(json.dumps(before.errors))
    assert after.training == {}, "weights from elsewhere are not in the middle of a training run"
    assert alexnet.load(tmp_path / "hub" / "model").seen.trained.tolist() == [3, 2**63]
    checkpoint.save(open_weights(tmp_path / "hub" / "model"), tmp_path / "again")
    assert_same(before, checkpoint.load(tmp_path / "again"))


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
    # Wilson's interval of 50 errors in 400 is 9.61% to 16.10%, by hand. Of four classes there is no top-5 error.
    assert {metric["name"]: metric["value"] for metric in result["metrics"]} == pytest.approx({
        "top-1 accuracy": 0.875, "top-1 accuracy, lower end of the 95% interval": 0.8390,
        "top-1 accuracy, upper end of the 95% interval": 0.9039}, abs=5e-5)
    assert "On 400 validation images" in body
    assert "| top-1 | 12.50% | 9.61% to 16.10% |" in body
    assert "top-5" not in body
    for words in ("ash, birch, cedar, date palm", "28x28", 'alexnet.load("trees")', "recipe `finetune`", "## Limits",
                  "from `alexnet-owt-7be5be79.pth` (SHA-256 `7be5be79`); their owner's terms hold",
                  "Training began from a `torchvision` of 1,000 classes"):
        assert words in body
    assert all(len(line) < 400 for line in body.splitlines())


def test_the_model_card_says_why_its_errors_may_be_too_good(model, tmp_path):
    saved, _ = model
    seen = SeenImages(selected_on=np.array([5, 7], np.uint64), unknown=("old weights",))
    write_huggingface(replace(saved, errors={**saved.errors, "validation_copies": 12}, seen=seen), tmp_path / "trees")
    card = (tmp_path / "trees" / "README.md").read_text()
    for words in ("12 of the 400 validation images are copies of training images, so the error is probably too low.",
                  "2 images chose the best epoch;",
                  "It is not known which images old weights were trained on."):
        assert words in card


def test_the_model_card_has_the_top_5_error_of_six_classes(model, tmp_path):
    saved, _ = model
    six = saved_as("small", "input.side=32", "input.crop=28", "conv.width=16", "dense.width=32",
                   classes=tuple("abcdef"))
    write_huggingface(replace(six, errors=saved.errors), tmp_path / "six")
    card = (tmp_path / "six" / "README.md").read_text()
    # Wilson's interval of 4 in 400, by hand.
    assert "| top-5 | 1.00% | 0.39% to 2.54% |" in card
    assert '{"type": "accuracy", "name": "top-5 accuracy", "value": 0.99}' in card


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
    ("trained_on_unknown", ..., "trained_on_unknown"), ("provenance", ..., "provenance")])
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
