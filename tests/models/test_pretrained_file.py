"""The pretrained network in the package: the figures of its head hold for the file, on images that all have."""

import re
import socket
from pathlib import Path

import pytest

import alexnet
from alexnet.data.imagenet_classes import NAMES
from alexnet.data.sources.embedded import PHOTOGRAPHS
from alexnet.models import packaged
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.formats.packaged_weights import MAX_BYTES
from alexnet.serving.samples import generated_patterns

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def head() -> packaged.Head:
    return packaged.read_head(packaged.default_weights())


@pytest.fixture(scope="module")
def model():
    return alexnet.load()


def test_the_package_has_one_network_in_two_small_files(head):
    assert sorted(path.name for path in packaged.FOLDER.iterdir()) == [f"{head['name']}.json", head["file"]]
    assert (packaged.FOLDER / head["file"]).stat().st_size == head["bytes"] <= MAX_BYTES == 8_000_000
    assert (packaged.FOLDER / f"{head['name']}.json").stat().st_size < 100_000


def test_its_classes_are_the_200_of_tiny_imagenet_by_readable_name(head, model):
    assert len(model.classes) == len(set(model.classes)) == 200
    assert [NAMES[wnid] for wnid in head["wnids"]] == list(model.classes)
    assert {"goldfish", "tabby", "Egyptian cat", "espresso", "school bus"} <= set(model.classes)
    assert model.class_names_known


def probabilities(model, image) -> dict[str, float]:
    return {guess.name: guess.probability for guess in model.predict(image, top=200)[0]}


def check(head, model, name: str, image) -> None:
    """The five classes that were recorded have the recorded probabilities, up to rounding on another processor."""
    [expected] = [probed["classes"] for probed in head["probe"] if probed["image"] == name]
    found = probabilities(model, image)
    assert len(expected) == 5
    for label, probability in expected:
        assert found[label] == pytest.approx(probability, abs=2e-3), label


def test_it_predicts_for_generated_patterns_what_it_did_when_it_was_made(head, model):
    for name, pixels_HWC in generated_patterns().items():
        check(head, model, name, pixels_HWC)


def test_it_predicts_for_photographs_what_it_did_when_it_was_made(head, model):
    for name in ("chelsea.png", "coffee.png", "rocket.jpg"):
        check(head, model, name, PHOTOGRAPHS / name)


def test_its_errors_are_the_measured_ones_of_the_stored_weights(head):
    errors = head["network"]["errors"]
    by_views = {each["views"]: each for each in head["measured"] if "ece" in each}
    one, ten = by_views[1], by_views[10]
    assert one["images"] == ten["images"] == errors["images"]
    assert 9_900 <= one["images"] <= 10_000  # copies of training images are left out
    assert one["top1_error"] == pytest.approx(errors["top1_error"])
    assert one["top5_error"] == pytest.approx(errors["top5_error"])
    assert one["top1_interval"][0] < one["top1_error"] < one["top1_interval"][1]
    assert ten["top1_error"] < one["top1_error"]
    samples = [each for each in head["measured"] if "ece" not in each]
    assert [each["views"] for each in samples] == [1, 10]
    assert samples[0]["images"] == 38
    stored, trained = (head["storage_errors"][kind]["top1_error"] for kind in (head["storage"], "fp32"))
    assert abs(stored - trained) < 0.01


def test_it_is_calibrated_on_images_that_did_not_fit_the_temperature(head, model):
    calibration = head["network"]["calibration"]
    assert model.network.temperature == calibration["temperature"] != 1.0
    assert calibration["ece_after"] <= 0.03
    [one] = [each for each in head["measured"] if "ece" in each and each["views"] == 1]
    assert one["ece"] == pytest.approx(calibration["ece_after"], abs=1e-3)
    assert one["ece_images"] == calibration["measured_images"]
    assert model.is_sure(0.51)
    assert model.is_sure(0.49) is False


def test_it_knows_its_training_images(model):
    assert len(model.seen.trained) > 99_000
    assert not model.seen.unknown


def test_the_head_says_how_to_make_it_anew_without_folders_of_one_machine(head):
    training = head["training"]
    assert training["command"].startswith("alexnet train ")
    assert training["package_command"].startswith("python benchmarks/pretrained.py make ")
    assert not re.search(r"(^|\s)/", training["command"] + " " + training["package_command"])
    assert "research" in head["license"]
    assert "not commercial" in head["license"]


def test_the_model_card_has_the_figures_of_the_head(head):
    card = (ROOT / "docs" / "pretrained.md").read_text()
    for each in head["measured"]:
        low, high = each["top1_interval"]
        assert f"{each['images']:,} | {each['views']} | {each['top1_error']:.1%} ({low:.1%} to {high:.1%})" in card
    for words in (f"{head['parameters']:,} parameters", f"{head['bytes']:,} bytes", head["license"],
                  head["training"]["command"], head["training"]["package_command"]):
        assert words in card


def test_loading_opens_no_socket(monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("a socket was opened"))
    assert len(open_weights("pretrained").classes) == 200
