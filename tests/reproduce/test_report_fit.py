"""The report on under- and overfitting, uneven classes, confused pairs, changed epochs and reproduction."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.inference import neighbors
from alexnet.inference.evaluate import probabilities
from alexnet.inference.metrics import Errors
from alexnet.inference.predictor import model_from_checkpoint
from alexnet.inference.validation import ValidationPredictions
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import load, save
from alexnet.reproduce.report.fit import Fit
from alexnet.reproduce.report.image_sections import mistakes
from alexnet.reproduce.report.page import write_report
from alexnet.reproduce.report.run_data import RunData, read_run, searched_images
from alexnet.reproduce.report.summary_section import summary
from report_runs import CLASSES, PackedImages, selected, words, write_run

pytestmark = pytest.mark.usefixtures("one_thread")


def with_answers(run: RunData, answers: list[tuple[int, int]], classes: tuple[str, ...] = CLASSES) -> RunData:
    """The run with predictions: for each image, a (true class, predicted class), with growing confidence."""
    labels, predicted = np.array(answers).T
    rows = np.arange(len(answers))
    outputs = np.full((len(answers), len(classes)), 0.01, np.float32)
    outputs[rows, predicted] = 0.5 + 0.001 * rows
    images = PackedImages(np.zeros((len(answers), 8, 8, 3), np.uint8), labels, tuple(f"{row}.png" for row in rows))
    return replace(run, predictions=ValidationPredictions(
        images, selected(len(answers), len(answers)), classes, rows, labels, outputs))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    return read_run(write_run(tmp_path_factory.mktemp("run")))


def change(folder: Path, **entries: object) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | entries))
    return folder


# --- Underfitting and overfitting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("training", "validation", "kind"), [
    ((10, 100), (30, 100), "overfitting"),  # Wilson's intervals, by hand: 5.5% to 17.4%, and 21.9% to 39.6%
    ((20, 100), (30, 100), "undecided"),  # 10 points as well, but 13.3% to 28.9% overlaps
    ((100, 1000), (190, 1000), "undecided"),  # apart, but 9 points; up to 21.6%, which is 11.6 points
    ((25, 100), (30, 100), "undecided"),  # up to 39.6%
    ((0, 108), (1, 12), "undecided"),  # up to 35.4%
    ((150, 1000), (190, 1000), "neither"),  # up to 21.6%
    ((26, 100), (30, 100), "underfitting"),
    ((300, 1000), (600, 1000), "both"),
    ((0, 100), (0, 100), "neither")])
def test_the_kind_of_fit(training: tuple[int, int], validation: tuple[int, int], kind: str):
    errors = [Errors(images, 0.0, wrong, 0) for wrong, images in (training, validation)]
    assert Fit(*errors, 100).kind == kind


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_training_error_is_that_of_evaluate(tmp_path: Path, packed_images: PackedImages, temperature: float):
    folder = write_run(tmp_path)
    saved = replace(load(folder / "best"), calibration={
        "temperature": temperature, "fitted_images": 9, "measured_images": 9, "ece_before": 0.1, "ece_after": 0.1})
    save(saved, folder / "best")
    found = read_run(folder, packed_images).fit
    with torch.inference_mode():
        outputs_NK = probabilities([(saved.network(), saved.preprocess())], torch.from_numpy(packed_images.pixels))
    wrong = outputs_NK.argmax(1).numpy() != packed_images.labels
    loss = -outputs_NK.log()[np.arange(30), packed_images.labels].mean().item()
    assert (found.training.images, found.training.top1_wrong) == (30, wrong.sum())
    assert found.training.loss == pytest.approx(loss, rel=1e-4)


def test_a_network_without_a_hidden_layer_has_no_logits_from_its_maps():
    network = AlexNet(override(arch("small"), ["input.side=32", "input.crop=28", "conv.width=8", "classes=3"]))
    assert network.logits_from("relu5", torch.zeros(1, 8)) is None


def test_the_page_names_it_with_both_errors_the_rule_and_what_to_do(tmp_path: Path, packed_images: PackedImages):
    text = words(write_report(write_run(tmp_path, epochs=4), packed_images).read_text(encoding="utf-8"))
    assert "Does it under- or overfit? Underfitting: it is wrong on" in text  # random weights
    assert ("of 30 training images as they are, without random resized crops, mirroring, color noise and dropout, and "
            "on") in text
    assert "The rule: underfitting is an error above 25% on the training images." in text
    assert "higher by 10 percentage points or more, with 95% intervals that are apart" in text
    assert "a learning rate from alexnet lr-find" in text
    assert "Would more training help? Yes, probably: it has not learned its training images yet" in text
    other = replace(packed_images, fingerprint="0" * 64)
    assert "Does it under- or overfit?" not in words(write_report(tmp_path, other).read_text(encoding="utf-8"))


def without_randomness(folder: Path) -> Path:
    """A run whose network has no dropout, and whose recipe has center crops only."""
    write_run(folder, epochs=4)
    for which in ("best", "last"):
        saved = load(folder / which)
        plain = replace(saved.recipe, crop="center", mirror=False, lighting=0.0, label_smoothing=0.0)
        save(replace(saved, arch=replace(saved.arch, dropout=0.0), recipe=plain), folder / which)
    return folder


def test_a_run_without_random_views_and_dropout_is_not_said_to_have_them(tmp_path: Path, packed_images: PackedImages):
    text = words(write_report(without_randomness(tmp_path), packed_images).read_text(encoding="utf-8"))
    assert "of 30 training images as they are and on" in text
    assert "a larger network (--arch), weaker regularization (weight decay), or pretrained weights" in text
    assert ("Training errors are measured during training, while the weights change, so they may be higher than "
            "validation errors. At the end, it is wrong on") in text
    told = text.partition("Recipe and environment")[0].partition("Architecture")[0]
    assert not [word for word in ("dropout", "random crop", "random resized", "random view", "color noise") if
                word in told.lower()]
    unmeasured = words(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "its training error is measured while the weights change. With the images" in unmeasured


def test_the_curves_name_what_the_run_trained_with(tmp_path: Path, packed_images: PackedImages):
    text = words(write_report(write_run(tmp_path), packed_images).read_text(encoding="utf-8"))
    assert ("while the weights change, and with random resized crops, mirroring, color noise and dropout, so they may "
            "be higher") in text
    change(tmp_path, transform="mine.flip")
    text = words(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "color noise, the transform mine.flip and dropout, so they" in text


# --- Classes ----------------------------------------------------------------------------------------------------------


def test_the_balanced_error_is_shown_for_uneven_classes(run: RunData):
    # Class 0: 1 of 10 wrong. Class 4: 2 of 2 wrong. Plain: 3 of 12; the classes' mean: (10% + 100%) / 2.
    found = summary(with_answers(run, [(0, 0)] * 9 + [(0, 1)] + [(4, 0)] * 2))
    assert found.balanced.error == pytest.approx(0.55)
    assert (found.balanced.smallest, found.balanced.largest) == (2, 10)
    assert found.never_right == [("elm", 2)]
    even = summary(with_answers(run, [(0, 0)] * 6 + [(4, 4)] * 5 + [(4, 1)]))
    assert even.balanced is None
    assert even.never_right == []


def test_the_page_names_the_balanced_error_and_the_classes_that_are_never_right(
    tmp_path: Path, packed_images: PackedImages,
):
    uneven = replace(packed_images, labels=np.array([0] * 12 + [1] * 6 + [2] * 6 + [3] * 3 + [4] * 2 + [5]))
    page = words(write_report(write_run(tmp_path), uneven).read_text(encoding="utf-8"))
    found = summary(read_run(tmp_path, uneven))
    assert f"Its balanced error, the mean of the classes' errors, is {100 * found.balanced.error:.1f}%" in page
    assert "the classes have 1 to 12 images" in page
    assert found.never_right
    name, images = found.never_right[0]
    assert f"Never right: {name} ({images} image{'s' * (images != 1)})" in page


def test_classes_that_are_not_listed_are_not_called_better(run: RunData):
    classes = tuple(f"class {number}" for number in range(45))
    section = mistakes(with_answers(run, [(k, (k + 1) % 45) for k in range(45)], classes))
    assert (len(section.classes), section.classes_left_out, section.highest_left_out) == (20, 25, 1.0)
    better = mistakes(with_answers(run, [(k, k if k > 20 else 44) for k in range(45)], classes))
    assert (better.classes_left_out, better.highest_left_out) == (25, 1.0)  # class 20 is as bad as the listed ones


def test_confused_pairs_have_their_images_the_most_confident_first(run: RunData):
    answers = [(0, 4)] * 5 + [(2, 2)] + [(2, 0)] * 2 + [(4, 4)]
    first, second = mistakes(with_answers(run, answers)).pairs
    assert (first.truth, first.predicted, first.count) == (CLASSES[0], CLASSES[4], 5)
    assert [each.file for each in first.shown] == ["4.png", "3.png", "2.png", "1.png"]
    assert (second.truth, second.predicted, second.count) == (CLASSES[2], CLASSES[0], 2)
    assert [each.file for each in second.shown] == ["7.png", "6.png"]
    assert {each.predicted for each in second.shown} == {CLASSES[0]}


# --- Changed epochs, and reproduction ---------------------------------------------------------------------------------


def starts(folder: Path, *events: tuple[int, int]) -> Path:
    """Add start events of (epochs finished, epochs) to a run's log."""
    with (folder / "log.jsonl").open("a") as file:
        for epoch, epochs in events:
            file.write(json.dumps({"event": "start", "step": 10 * epoch, "epoch": epoch, "epochs": epochs}) + "\n")
    return folder


def test_a_run_that_was_finished_and_resumed_is_reproduced_by_two_commands(tmp_path: Path):
    typed, resumed = "alexnet train photos --epochs 2", "alexnet train photos --epochs 4 --resume"
    folder = change(starts(write_run(tmp_path), (0, 2), (2, 4)), command=typed, resumed=[resumed])
    page = write_report(folder).read_text(encoding="utf-8")
    assert f"<pre><code>{typed}\n{resumed}\n" in page
    assert "After epoch 2, the run was resumed with 4 epochs instead of 2." in words(page)


def test_a_run_whose_epochs_changed_in_its_course_is_reproduced_by_no_command(tmp_path: Path):
    typed = "alexnet train photos --epochs 20"
    folder = change(starts(write_run(tmp_path), (0, 20), (1, 20), (2, 4)), command=typed)
    text = words(write_report(folder).read_text(encoding="utf-8"))
    assert "After epoch 2, the run was resumed with 4 epochs instead of 20." in text
    assert "No command line reproduces this run" in text
    assert "It was interrupted before its last epoch, and resumed for another number of epochs" in text
    assert "Reproduce this run" not in text


@pytest.mark.parametrize(("entries", "missing"), [
    ({"transform": "mine.blur", "command": "alexnet train photos"}, "The transform mine.blur is a function in Python"),
    ({"arch": {"name": "mine", "activation": "relu", "input": {}}}, "not a preset of this version")])
def test_what_no_command_can_repeat_is_named(tmp_path: Path, entries: dict[str, object], missing: str):
    text = words(write_report(change(write_run(tmp_path), **entries)).read_text(encoding="utf-8"))
    assert "No command line reproduces this run" in text
    assert missing in text


def test_a_command_that_was_not_typed_names_the_initial_weights(tmp_path: Path):
    page = write_report(change(write_run(tmp_path), init="runs/other")).read_text(encoding="utf-8")
    assert "--epochs 4 --init runs/other --seed 7" in page


# --- Speed ------------------------------------------------------------------------------------------------------------


def test_fewer_training_images_of_a_slow_network_are_searched():
    assert searched_images(arch("small")) == 4000
    # 400 billion over the paper's 0.7 billion multiply-adds an image
    assert 500 < searched_images(arch("paper")) < 620


def test_a_second_report_computes_no_features(tmp_path: Path, packed_images: PackedImages, monkeypatch):
    folder = write_run(tmp_path)
    first = read_run(folder, packed_images)
    monkeypatch.setattr(neighbors, "feature_batches", None)
    assert read_run(folder, packed_images).nearest == first.nearest


def test_a_cache_that_cannot_be_written_is_not_used(tmp_path: Path, packed_images: PackedImages, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(neighbors, "is_writable", lambda folder: False)
    model = model_from_checkpoint(load(write_run(tmp_path) / "best"))
    assert neighbors.split_features(model, packed_images, cache_key="these").shape == (30, 16)
    assert not (tmp_path / "cache").exists()
