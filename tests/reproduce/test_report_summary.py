"""The first screen of the report: how good the network is, what it confuses, whether to train longer, what is next."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alexnet.inference.class_metrics import Baselines
from alexnet.inference.metrics import Errors
from alexnet.inference.validation import ValidationPredictions
from alexnet.models.checkpoint import load, save
from alexnet.models.seen import SeenImages
from alexnet.reproduce.report.commands import longer_command, next_commands
from alexnet.reproduce.report.fit import Fit
from alexnet.reproduce.report.page import write_report
from alexnet.reproduce.report.run_data import RunData, read_run
from alexnet.reproduce.report.summary_section import outlook, summary
from report_runs import CLASSES, PackedImages, selected, words, write_run

ASH, PALM, ELM = CLASSES[0], CLASSES[2], CLASSES[4]


def with_answers(run: RunData, images: PackedImages, answers: list[tuple[int, int]]) -> RunData:
    """The run with predictions: for the first images, a (true class, predicted class) each."""
    labels, predicted = np.array(answers).T
    probabilities = np.full((len(answers), len(CLASSES)), 0.1, np.float32)
    probabilities[np.arange(len(answers)), predicted] = 0.5
    split = images.subset(np.arange(len(answers)))
    return replace(run, predictions=ValidationPredictions(
        split, selected(len(answers), len(answers)), CLASSES, np.arange(len(answers)), labels,
        probabilities))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    return read_run(write_run(tmp_path_factory.mktemp("run")))


# --- How good it is, and what it confuses -----------------------------------------------------------------------------


def test_the_most_frequent_confusions_are_named_with_the_images_of_their_class(run, packed_images):
    # 10 of class 0: 3 taken for class 4, 1 for class 2. 8 of class 2: 2 taken for class 0.
    answers = [(0, 0)] * 6 + [(0, 4)] * 3 + [(0, 2)] + [(2, 2)] * 6 + [(2, 0)] * 2
    found = summary(with_answers(run, packed_images, answers)).confusions
    assert [(each.truth, each.predicted, each.count, each.images) for each in found] == [
        (ASH, ELM, 3, 10), (PALM, ASH, 2, 8), (ASH, PALM, 1, 10)]
    assert summary(with_answers(run, packed_images, [(0, 0), (1, 1)])).confusions == []
    assert summary(run).confusions is None


@pytest.mark.parametrize(("wrong", "largest_class_error", "verdict"), [
    (6, 0.7, "better"),  # Wilson's interval of 6 in 30, by hand: 9.5% to 37.3%
    (6, 0.37, "not_better"),  # the interval reaches it
    (28, 0.95, "not_better")])  # chance among six classes is 83.3%
def test_an_error_is_compared_with_answers_that_ignore_the_image(
    run, packed_images, wrong: int, largest_class_error: float, verdict: str,
):
    answers = [(0, 1)] * wrong + [(0, 0)] * (30 - wrong)
    found = replace(with_answers(run, packed_images, answers), baseline=Baselines(5 / 6, ASH, largest_class_error))
    assert summary(found).verdict == verdict
    assert summary(run).verdict == "unknown"


@pytest.mark.slow
def test_the_first_screen_compares_the_error_with_guessing(run, packed_images):
    save(replace(run.checkpoint, seen=SeenImages()), run.folder / "best")
    page = words(write_report(run.folder, packed_images).read_text(encoding="utf-8"))
    # All six classes have five images, so each is the largest.
    assert "always answering one of the largest classes 83.3%" in page
    assert "guessing 83.3%" in page
    assert "Measured: all 30 images, none of these files seen in training." in page
    assert "The interval is wide because 30 images are few" in page


@pytest.mark.slow
def test_the_first_screen_names_a_class_without_validation_images(tmp_path, packed_images, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write_run(tmp_path)
    found = with_answers(read_run(folder), packed_images, [(0, 0)])
    few = packed_images.subset(np.flatnonzero(packed_images.labels != CLASSES.index(ELM)))
    assert summary(replace(found, predictions=replace(found.predictions, split=few))).unmeasured == (ELM,)
    assert summary(read_run(folder)).unmeasured == ()
    page = words(write_report(folder, few).read_text(encoding="utf-8"))
    assert "Nothing is known of elm: there are no validation images of this class." in page.replace(" :", ":")


def test_initial_weights_of_unknown_training_images_are_named(tmp_path: Path):
    folder = write_run(tmp_path)
    saved = load(folder / "best")
    save(replace(saved, seen=SeenImages()), folder / "best")
    assert "The network was not trained on these images." in words(write_report(folder).read_text(encoding="utf-8"))
    save(replace(saved, seen=SeenImages.not_recorded("old <i>weights</i>")), folder / "best")
    assert ("The network was not trained on these images, as far as is known: nobody has recorded which images "
            "old <i>weights</i> were trained on.") in words(write_report(folder).read_text(encoding="utf-8"))


def test_copies_of_training_images_that_training_measured_are_counted(tmp_path: Path):
    folder = write_run(tmp_path)
    save(replace(load(folder / "best"), seen=SeenImages()), folder / "best")
    config = json.loads((folder / "config.json").read_text())
    config["data"] |= {"validation_copies": 3, "validation_look_alikes": 2}
    (folder / "config.json").write_text(json.dumps(config))
    text = words(write_report(folder).read_text(encoding="utf-8"))
    assert ("The network was not trained on these images, except for 3 of them, which are copies of training images."
            in text)
    assert ("3 of the 40 validation images are copies of training images, 2 more look like one: the copies are "
            "measured here, but not under Mistakes. Look-alikes are measured, so this error is probably too low."
            ) in text


# --- Whether to train longer ------------------------------------------------------------------------------------------


def curves(run: RunData, *epochs: tuple[float, float, float, float], **recipe: object) -> RunData:
    """The run with epochs of (training loss, training error, validation loss, validation error)."""
    events = [{"event": "epoch", "step": 10 * number, "epoch": number, "train_loss": loss, "train_error": error,
               "val_loss": val_loss, "val_top1_error": val_error, "val_top5_error": 0.0, "learning_rate": 0.1}
              for number, (loss, error, val_loss, val_error) in enumerate(epochs, 1)]
    return replace(run, events=events, config=run.config | {
        "recipe": run.config["recipe"] | {"epochs": len(epochs)} | recipe})


def test_whether_more_epochs_help_is_read_from_the_curves_and_the_errors_on_training_images(run: RunData):
    fallen, fitted = (1.8, 0.8, 1.8, 0.8), (0.2, 0.05, 1.0, 0.30)
    # The training error of the log is that of random crops and of changing weights, which decides nothing.
    assert outlook(curves(run, fallen, (1.2, 0.5, 1.2, 0.52))) == "unmeasured"
    assert outlook(curves(run, fallen, fitted)) == "unmeasured"
    measured = replace(run, fit=Fit(Errors(100, 0.0, 40, 0), Errors(100, 0.0, 41, 0), 100))
    assert outlook(curves(measured, fallen, fitted)) == "underfitting"
    measured = replace(run, fit=Fit(Errors(100, 0.0, 0, 0), Errors(100, 0.0, 30, 0), 100))
    assert outlook(curves(measured, fallen, (1.2, 0.5, 1.2, 0.52))) == "overfitting"
    lowest = (0.6, 0.2, 0.9, 0.30)
    assert outlook(curves(run, fallen, lowest, fitted, fitted, fitted)) == "risen_loss"  # from 0.9 to 1.0
    # One or two epochs do not show it: a run of two was told to train less, while both of its errors fell.
    assert outlook(curves(run, lowest, fitted)) == outlook(curves(run, fallen, lowest, fitted, fitted)) == "unmeasured"
    assert outlook(curves(run, fallen, lowest, fitted, lowest, fitted)) == "unmeasured"
    assert outlook(curves(run, fallen, (0.6, 0.2, 0.97, 0.30), fitted, fitted, fitted)) == "unmeasured"  # by 3%
    assert outlook(curves(run, fallen, (0.1, 0.01, 0.1, 0.0))) == "perfect"
    assert outlook(curves(run, fallen, fitted, epochs=5)) == "unfinished"
    assert outlook(curves(run, fitted, optimizer="lbfgs")) == "head"
    stopped = curves(run, fallen, fitted, epochs=5)
    stopped = replace(stopped, events=[*stopped.events, {"event": "end", "step": 20, "stopped_early": True}])
    assert outlook(stopped) == "stopped_early"


def test_the_page_says_whether_more_training_helps(tmp_path: Path):
    text = words(write_report(write_run(tmp_path)).read_text(encoding="utf-8"))
    assert ("Would more training help? It has finished epoch 3 of 4. If it is no longer running, the same command "
            "with --resume goes on.") in text
    text = words(write_report(write_run(tmp_path, epochs=4)).read_text(encoding="utf-8"))
    assert ("Would more training help? The log alone cannot tell: its training error is measured while the "
            "weights change, with random resized crops, mirroring, color noise and dropout. "
            "With the images (alexnet report --data)") in text
    assert "<code" not in text


def test_a_risen_validation_loss_is_not_called_overfitting(tmp_path: Path):
    """Overfitting is a gap of the errors, by the answer above this one."""
    last = [{"event": "epoch", "step": 10 * epoch, "epoch": epoch, "train_loss": 0.4, "learning_rate": 0.1,
             "train_error": 0.2, "val_loss": 2.5, "val_top1_error": 0.25, "val_top5_error": 0.05}
            for epoch in (2, 3, 4)]
    text = words(write_report(write_run(tmp_path, events=last, epochs=1)).read_text(encoding="utf-8"))
    answer = text.partition("Would more training help?")[2]
    assert answer.startswith(
        " No: the validation loss is lowest after epoch 1 and has risen since. To keep it low, try ")
    assert "overfit" not in text


@pytest.mark.parametrize(("typed", "longer"), [
    ("alexnet train 'my photos' --epochs 20 --out runs/mine",
     "alexnet train 'my photos' --epochs 40 --out runs/mine-40"),
    ("alexnet train photos --epochs=20 --arch small",
     "alexnet train photos --arch small --epochs 40 --out runs/longer-40"),
    ("torchrun --nproc-per-node 2 -m alexnet train photos --out=runs/a/ --seed 3",
     "torchrun --nproc-per-node 2 -m alexnet train photos --seed 3 --epochs 40 --out runs/a-40"),
    ("alexnet demo", "")])
def test_the_longer_run_has_a_folder_of_its_own(run: RunData, typed: str, longer: str):
    assert longer_command({**run.config, "command": typed}, 40) == longer


# --- What is next -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("typed", "data"), [
    ("alexnet train 'my photos' --out runs/mine", "'my photos'"),
    ("alexnet train photos --labels=labels.csv", "photos --labels labels.csv"),
    ("alexnet train --arch small photos", "'/photos/trees <b>'"),  # the data is not where it usually stands
    ("alexnet demo --out=runs/demo", "runs/demo/data")])
def test_the_next_commands_name_the_run_and_its_data(run: RunData, typed: str, data: str):
    assert [line for _, line in next_commands(run.config | {"command": typed}, "runs/my run")] == [
        "alexnet predict 'runs/my run' IMAGES", "alexnet serve 'runs/my run'",
        f"alexnet evaluate 'runs/my run' {data} --html 'runs/my run/mistakes.html'",
        f"alexnet check {data} --run 'runs/my run' --html 'runs/my run/check.html'"]


def test_the_next_command_keeps_the_groups_unless_the_data_is_packed(run: RunData, tmp_path: Path):
    (tmp_path / "manifest.json").touch()
    config = run.config | {"data": run.config["data"] | {"group": "folder"}, "command": "alexnet train photos"}
    for typed, option in (("photos", " --group folder"), (str(tmp_path), ""), ("https://host/packed", "")):
        command = next_commands(config | {"command": f"alexnet train {typed}"}, "run")[-1][1]
        assert command == f"alexnet check {typed}{option} --run run --html run/check.html"


# --- Images of other data ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_numbers_of_other_data_are_not_mixed_with_those_of_the_run(tmp_path: Path, packed_images: PackedImages):
    other = replace(packed_images, fingerprint="0" * 64, source="/photos/other <i>")
    folder = write_run(tmp_path)
    text = words(write_report(folder, other).read_text(encoding="utf-8"))
    assert "small classifies 30 of 40 validation images correctly" in text  # those of training
    assert "top-1 error 25.0% 14.2% to 40.2%" in text
    assert "The images in this report are of other <i>, which is not the data that the network was trained on" in text
    assert "Data: trees <b>, 6 classes, 300 training and 40 validation images" in text
    wrong = len(read_run(folder, other).predictions.mistakes)
    assert f"{wrong} of 30 images of other <i> are misclassified (top-1)." in text
    assert "What does it confuse? On the images of other <i>: Most often" in text
    assert "Images of other <i>, evenly spaced in the split" in text
    assert "images of its training split, which the network was not trained on," in text
    assert "always answering" not in text, "the classes of the run's own images are not known"
    own = words(write_report(folder, packed_images).read_text(encoding="utf-8"))
    assert "other <i>" not in own
    assert json.loads((folder / "config.json").read_text())["data"]["fingerprint"] == "f" * 64
