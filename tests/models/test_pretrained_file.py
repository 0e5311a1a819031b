"""The pretrained network in the package: the figures of its JSON file hold for the file, on images that all have."""

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
def tree() -> packaged.PackagedJson:
    return packaged.read_packaged_json(packaged.default_weights())


@pytest.fixture(scope="module")
def model():
    return alexnet.load()


def test_the_package_has_one_network_in_two_small_files(tree):
    assert sorted(path.name for path in packaged.FOLDER.iterdir()) == [f"{tree['name']}.json", tree["file"]]
    assert (packaged.FOLDER / tree["file"]).stat().st_size == tree["bytes"] <= MAX_BYTES == 8_000_000
    assert (packaged.FOLDER / f"{tree['name']}.json").stat().st_size < 100_000


def test_its_classes_are_the_200_of_tiny_imagenet_by_readable_name(tree, model):
    assert len(model.classes) == len(set(model.classes)) == 200
    assert [NAMES[wnid] for wnid in tree["wnids"]] == list(model.classes)
    assert {"goldfish", "tabby", "Egyptian cat", "espresso", "school bus"} <= set(model.classes)
    assert model.class_names_known


def probabilities(model, image) -> dict[str, float]:
    return {guess.name: guess.probability for guess in model.predict(image, top=200)[0]}


def check(tree, model, name: str, image) -> None:
    """The five classes that were recorded have the recorded probabilities, up to rounding on another processor."""
    [expected] = [probed["classes"] for probed in tree["probe"] if probed["image"] == name]
    found = probabilities(model, image)
    assert len(expected) == 5
    for label, probability in expected:
        assert found[label] == pytest.approx(probability, abs=2e-3), label


def test_it_predicts_for_generated_patterns_what_it_did_when_it_was_made(tree, model):
    for name, pixels_HWC in generated_patterns().items():
        check(tree, model, name, pixels_HWC)


def test_it_predicts_for_photographs_what_it_did_when_it_was_made(tree, model):
    for name in ("chelsea.png", "coffee.png", "rocket.jpg"):
        check(tree, model, name, PHOTOGRAPHS / name)


def test_its_errors_are_the_measured_ones_of_the_stored_weights(tree):
    errors = tree["network"]["errors"]
    by_views = {each["views"]: each for each in tree["measured"] if "ece" in each}
    one, ten = by_views[1], by_views[10]
    assert one["images"] == ten["images"] == errors["images"]
    assert 9_900 <= one["images"] <= 10_000  # copies of training images are left out
    assert one["top1_error"] == pytest.approx(errors["top1_error"])
    assert one["top5_error"] == pytest.approx(errors["top5_error"])
    assert one["top1_interval"][0] < one["top1_error"] < one["top1_interval"][1]
    assert ten["top1_error"] < one["top1_error"]
    samples = [each for each in tree["measured"] if "ece" not in each]
    assert [each["views"] for each in samples] == [1, 10]
    assert [(each["images"], each["left_out"]) for each in samples] == [(26, 12)] * 2
    stored, trained = (tree["storage_errors"][kind]["top1_error"] for kind in (tree["storage"], "fp32"))
    assert abs(stored - trained) < 0.01


def test_it_is_calibrated_on_images_that_did_not_fit_the_temperature(tree, model):
    calibration = tree["network"]["calibration"]
    assert model.network.temperature == calibration["temperature"] != 1.0
    assert calibration["ece_after"] <= 0.03
    [one] = [each for each in tree["measured"] if "ece" in each and each["views"] == 1]
    assert one["ece"] == pytest.approx(calibration["ece_after"], abs=1e-3)
    assert one["ece_images"] == calibration["measured_images"]
    ten_views, [ten] = calibration["ten_views"], [
        each for each in tree["measured"] if "ece" in each and each["views"] == 10]
    assert model.network.ten_view_temperature == ten_views["temperature"] != calibration["temperature"]
    assert ten["ece"] == pytest.approx(ten_views["ece_after"], abs=1e-3)
    assert ten["ece"] <= 0.03 < ten_views["ece_before"]
    for kind in ("fitted_images", "measured_images"):
        assert ten_views[kind] == calibration[kind]
    assert len(model.seen.selected_on) == ten_views["fitted_images"]
    assert model.is_sure(0.51)
    assert model.is_sure(0.49) is False


def test_it_knows_its_training_images(model):
    assert len(model.seen.trained) > 99_000
    assert not model.seen.unknown


def test_the_json_file_says_how_to_make_it_anew_without_folders_of_one_machine(tree):
    training = tree["training"]
    assert training["command"].startswith("alexnet train ")
    assert training["package_command"].startswith("python benchmarks/pretrained.py make ")
    assert not re.search(r"(^|\s)/", training["command"] + " " + training["package_command"])
    assert "research" in tree["license"]
    assert "not commercial" in tree["license"]


def test_the_model_card_has_the_figures_of_the_json_file(tree):
    card = (ROOT / "docs" / "pretrained.md").read_text()
    for each in tree["measured"]:
        low, high = each["top1_interval"]
        assert f"{each['images']:,} | {each['views']} | {each['top1_error']:.1%} ({low:.1%} to {high:.1%})" in card
    for words in (f"{tree['parameters']:,} parameters", f"{tree['bytes']:,} bytes", tree["license"],
                  tree["training"]["command"], tree["training"]["package_command"]):
        assert words in card


def test_loading_opens_no_socket(monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("a socket was opened"))
    assert len(open_weights("pretrained").classes) == 200
