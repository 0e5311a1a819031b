"""A validation loss that has risen is reported while a run trains, once, and at its end."""

import json
from dataclasses import replace

import numpy as np
import pytest

from alexnet.architecture.network_presets import arch
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import recipe
from alexnet.inference.metrics import Errors
from alexnet.interpret.health import result_findings
from alexnet.training.build import build
from alexnet.training.monitor import Monitor
from alexnet.training.overfitting import overfitting_remedy, risen_loss_finding
from alexnet.training.spec import RunSpec
from alexnet.training.state import State

pytestmark = pytest.mark.usefixtures("one_thread")


def epochs(*rows):
    """Epoch events from (training loss, validation loss, top-1 error on the validation images)."""
    return [{"event": "epoch", "step": 7 * number, "epoch": number, "train_loss": train, "train_error": 0.5,
             "val_loss": val, "val_top1_error": error, "val_top5_error": 0.0, "learning_rate": 0.01}
            for number, (train, val, error) in enumerate(rows, 1)]


RISING = ((2.0, 1.9, 0.6), (1.2, 1.4, 0.5), (0.8, 2.6, 0.52), (0.4, 4.0, 0.48), (0.1, 5.5, 0.49))
"""A validation loss that rises from 1.4 to 5.5, above ln 10 = 2.303, while the error still falls once."""


def test_a_validation_loss_that_rises_from_1_4_to_5_5_is_reported_since_epoch_2():
    finding = risen_loss_finding(epochs(*RISING), 10, is_pretrained=True)
    assert finding.kind == "risen_loss"
    assert finding.problem == (
        "the validation loss has risen since epoch 2: 1.4 -> 5.5, while the training loss fell from 1.2 to 0.1; the "
        "validation loss is above ln(10) = 2.303, that of the same probability for every class")
    assert finding.remedy.startswith(
        "best/ holds epoch 4, of the lowest top-1 error (48.0%, validation loss 4); to keep the loss low, try more "
        "images")
    assert "--freeze conv" in finding.remedy
    assert "--init" not in finding.remedy
    assert "--init" in risen_loss_finding(epochs(*RISING), 10, is_pretrained=False).remedy


def test_below_the_loss_of_equal_probabilities_the_sentence_does_not_name_it():
    finding = risen_loss_finding(epochs(*RISING), 1000, is_pretrained=False)  # ln 1000 = 6.9
    assert finding.problem.endswith("1.4 -> 5.5, while the training loss fell from 1.2 to 0.1")


@pytest.mark.parametrize("rows", [
    ((1.2, 1.4, 0.5), (0.8, 2.6, 0.5), (0.4, 4.0, 0.5)),  # no three epochs after the lowest loss
    (*RISING[:4], (0.1, 1.5, 0.5)),  # the last epoch is low again
    ((1.2, 1.4, 0.5), (0.8, 1.7, 0.5), (0.4, 1.7, 0.5), (0.2, 1.7, 0.5)),  # 21% above the minimum, 25% is the limit
    ((1.2, 1.4, 0.5), (1.2, 2.0, 0.5), (1.3, 2.1, 0.5), (1.3, 2.2, 0.5)),  # the training loss rises too
    ((0.3, 0.02, 0.0), (0.2, 0.06, 0.0), (0.1, 0.07, 0.0), (0.1, 0.08, 0.0)),  # fourfold, and nobody minds
    ((2.0, 1.9, 0.6), (1.5, 1.6, 0.5), (1.2, 1.4, 0.5), (1.0, 1.3, 0.4)),  # it learns
], ids=["two epochs", "recovered", "21%", "both rise", "tiny", "healthy"])
def test_no_risen_loss_is_reported_of(rows):
    assert risen_loss_finding(epochs(*rows), 10, is_pretrained=True) is None


@pytest.mark.parametrize(("last", "is_reported"), [(0.149, False), (0.151, True), (0.3, True)])
def test_a_low_loss_has_risen_if_it_is_a_tenth_of_a_nat_higher(last, is_reported):
    """From 0.05: a quarter more would be 0.0625, which harms nobody."""
    rows = ((0.5, 0.05, 0.02), (0.3, last, 0.02), (0.2, last, 0.02), (0.1, last, 0.02))
    assert (risen_loss_finding(epochs(*rows), 10, is_pretrained=True) is not None) == is_reported


def test_a_loss_above_that_of_equal_probabilities_from_the_first_epoch_on_is_reported():
    """ln 10 = 2.303. The validation loss has no low minimum to rise from."""
    rows = ((1.8, 3.0, 0.7), (1.1, 2.9, 0.6), (0.9, 2.8, 0.6), (0.7, 2.9, 0.6))
    finding = risen_loss_finding(epochs(*rows), 10, is_pretrained=True)
    assert finding.kind == "loss_above_uniform"
    assert finding.problem.startswith("the validation loss is 2.9, above ln(10) = 2.303")
    early = tuple((1.2, val, error) for _, val, error in rows)  # above half of ln 10
    assert risen_loss_finding(epochs(*early), 10, is_pretrained=True) is None


def test_the_monitor_reports_it_once_and_its_extent_at_the_end():
    monitor = Monitor(replace(arch("small"), classes=10), is_pretrained=True)
    reported = [monitor.epoch_findings(epoch) for epoch in epochs(*RISING, (0.05, 6.0, 0.49))]
    assert [len(findings) for findings in reported] == [0, 0, 0, 0, 1, 0]
    assert "1.4 -> 5.5" in reported[4][0].problem
    labels_N = np.repeat(range(10), 20)
    (found,) = monitor.result_findings(State(0, "", "fp32", best_error=0.48), labels_N)
    assert (found.kind, "1.4 -> 6, while" in found.problem) == ("risen_loss", True)


@pytest.mark.parametrize(("name", "settings", "named", "unnamed"), [
    ("paper", {}, "more augmentation and label smoothing (recipe.crop=resized, recipe.label_smoothing=0.1)", "trivial"),
    ("modern", {}, "more augmentation (recipe.trivial_augment=true)", "smoothing"),  # resized crops, smoothing of 0.1
    ("modern", {"label_smoothing": 0.0}, "(recipe.trivial_augment=true, recipe.label_smoothing=0.1)", "crop=resized"),
    ("modern", {"trivial_augment": True}, "try more images, trained weights", "augmentation"),
    ("head", {}, "more images, or other trained weights", "--head")])
def test_nothing_is_recommended_that_the_run_has(name, settings, named, unnamed):
    remedy = overfitting_remedy(False, replace(recipe(name), **settings))
    assert named in remedy
    assert unnamed not in remedy


@pytest.mark.parametrize(("images", "advised"), [(None, True), (40, True), (39, False), (28, False)])
def test_calibrate_is_advised_only_where_its_two_halves_of_20_images_are_there(images, advised):
    for name in ("modern", "head"):
        assert ("alexnet calibrate" in overfitting_remedy(False, recipe(name), images)) == advised
    monitor = Monitor(replace(arch("small"), classes=10), validation_images=images)
    *_, (found,) = [monitor.epoch_findings(epoch) for epoch in epochs(*RISING)]
    assert ("alexnet calibrate" in found.remedy) == advised


def test_a_run_of_28_validation_images_is_not_told_to_calibrate_at_its_end():
    for images, remedy in ((40, "start from trained weights (--init), or correct the confidence with `alexnet "
                                "calibrate`"), (28, "start from trained weights (--init)")):
        (found,) = result_findings(0, 3.0, (images // 2, images // 2), 2, "", False)
        assert (found.kind, found.remedy) == ("loss_above_uniform", remedy)
    (found,) = result_findings(0, 3.0, (14, 14), 2, "", True)
    assert found.remedy == "add images, and train for fewer epochs"


def test_a_run_with_frozen_convolutions_is_not_told_to_freeze_them():
    assert "(--freeze conv, or --head)" in overfitting_remedy(True, recipe("finetune"))
    assert "(--head)" in overfitting_remedy(True, replace(recipe("finetune"), freeze="conv"))


def test_the_output_layer_alone_has_no_epochs_in_which_the_loss_rises():
    monitor = Monitor(replace(arch("small"), classes=10), is_pretrained=True, recipe=recipe("head"))
    assert not any(monitor.epoch_findings(epoch) for epoch in epochs(*RISING))


def test_a_resumed_run_reports_a_risen_loss_where_an_uninterrupted_one_does(packed, tiny, tmp_path, monkeypatch):
    """The validation loss rises after epoch 2 by a script; the run is resumed after epochs 3 and 4."""
    script = [1.3, 1.0, 2.0, 2.5, 3.0, 3.5, 4.0]
    network = replace(tiny, dropout=0.0)  # the training loss must fall to half within five or six epochs
    quick = Recipe("quick", epochs=7, batch_size=16, learning_rate=0.05, schedule="constant", decay_biases=False)

    def train(out, stops):
        for done, stop in zip([0, *stops], [*stops, 7], strict=True):
            losses = iter(script[done:])
            monkeypatch.setattr("alexnet.training.trainer.evaluate",
                                lambda *a, losses=losses, **k: Errors(44, 44 * next(losses), 11, 0))
            build(RunSpec(packed, network, replace(quick, epochs=stop), tmp_path / out, resume=True)).fit()
        events = map(json.loads, (tmp_path / out / "log.jsonl").read_text().splitlines())
        return [(event["step"], event["problem"]) for event in events
                if event["event"] == "warning" and event["kind"] == "risen_loss"]

    (step, first), (end, last) = whole = train("whole", [])
    assert first.startswith("the validation loss has risen since epoch 2: 1 -> 3"), "3.0 or 3.5"
    assert last.startswith("the validation loss has risen since epoch 2: 1 -> 4, while the training loss fell from")
    assert step in (5 * 8, 6 * 8), "120 images in batches of 16 are 8 steps"
    assert end == 7 * 8
    halves = train("halves", [3, 4])
    assert halves == whole
