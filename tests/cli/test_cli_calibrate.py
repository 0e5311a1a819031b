"""`alexnet calibrate` stores a temperature that predictions use, and leaves the weights alone."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import alexnet as package
from alexnet.cli.render_metrics import calibration_text
from alexnet.data.packed import open_packed
from alexnet.errors import UserError
from alexnet.inference.calibration import Calibration, CalibrationError
from alexnet.models import checkpoint
from command_line import alexnet
from report_runs import words
from sample_images import draw


@pytest.fixture
def own(run, tmp_path):
    """A copy of the run, which a test may calibrate."""
    return shutil.copytree(run, tmp_path / "run")


@pytest.fixture(scope="module")
def hard(tmp_path_factory):
    """320 new images of the run's four classes, of which one in four has a wrong label: 75% is the best accuracy."""
    root, rng = tmp_path_factory.mktemp("hard"), np.random.default_rng(9)
    for number in range(320):
        label = number % 4
        name = ("ash", "birch", "cedar", "date palm")[(label + (number % 16 < 4)) % 4]
        (root / name).mkdir(exist_ok=True)
        Image.fromarray(draw(rng, label)).save(root / name / f"{number}.png")
    return root


def test_calibration_lowers_the_ece_and_the_loss_of_other_images_and_leaves_the_weights(own, hard, capsys):
    before = checkpoint.load(own)
    weights = sorted(path.name for path in (own / "best").glob("weights-*"))
    assert alexnet("calibrate", own, hard, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["stored"], result["fitted_images"], result["measured_images"]) == (True, 160, 160)
    assert result["measured"]["trained_on"] == 0
    assert result["temperature"] > 1.2  # the network is sure of every image, and right about three in four
    assert result["after"]["ece"] < result["before"]["ece"]
    assert result["before"]["ece"] > result["before"]["calibrated_range"][1]
    assert result["after"]["loss"] < result["before"]["loss"]
    after = checkpoint.load(own)
    assert after.calibration["temperature"] == result["temperature"]
    assert sorted(path.name for path in (own / "best").glob("weights-*")) == weights
    assert all(torch.equal(after.weights[key], tensor) for key, tensor in before.weights.items())


def test_each_group_of_a_packed_folder_fits_the_temperature_or_measures_it(own, hard, tmp_path):
    rows = (f"{path.name},burst{int(path.stem) // 20}" for path in hard.rglob("*.png"))
    (tmp_path / "groups.csv").write_text("\n".join(["file_name,group", *rows]))
    assert alexnet("pack", hard, tmp_path / "packed", "--side", 32, "--group", tmp_path / "groups.csv") == 0
    before = checkpoint.load(own).seen.selected_on
    assert alexnet("calibrate", own, tmp_path / "packed") == 0
    fitted = set(checkpoint.load(own).seen.selected_on.tolist()) - set(before.tolist())
    images = open_packed(tmp_path / "packed").split("train", "val")
    halves = [{content in fitted for content, group in zip(images.content_hashes.tolist(), images.groups, strict=True)
               if group == each} for each in np.unique(images.groups)]
    assert sorted(halves, key=str) == [{False}] * 8 + [{True}] * 8


def test_predictions_use_the_temperature_and_keep_their_top_1(own, hard, class_folders):
    images = sorted((class_folders / "val").rglob("*.png"))[:12]
    plain = package.load(own).predict(images, top=4)
    assert alexnet("calibrate", own, hard) == 0
    temperature = checkpoint.load(own).calibration["temperature"]
    for one, other in zip(plain, package.load(own).predict(images, top=4), strict=True):
        assert one[0].name == other[0].name
        first, second = ({each.name: each.probability for each in row} for row in (one, other))
        likely = [name for name in first if first[name] > 1e-20]  # a network may be very sure of these images
        assert len(likely) > 1
        for name in likely[1:]:  # softmax(z / T): ratios of probabilities are the T-th roots
            assert second[name] / second[likely[0]] == pytest.approx(
                (first[name] / first[likely[0]]) ** (1 / temperature), rel=1e-3)


def test_calibrating_twice_gives_the_same_temperature(own, hard):
    temperatures = []
    for _ in range(2):
        assert alexnet("calibrate", own, hard) == 0
        temperatures.append(checkpoint.load(own).calibration["temperature"])
    assert temperatures[0] == temperatures[1] != 1.0


def test_training_images_are_left_out_and_few_images_refused(own, class_folders, tmp_path, capsys):
    copied = shutil.copytree(class_folders / "train", tmp_path / "copy")
    assert alexnet("calibrate", own, copied) == 2
    assert "trained on all 120 images" in capsys.readouterr().err
    shutil.copy(class_folders / "val" / "ash" / "000.png", copied / "ash" / "new.png")
    assert alexnet("calibrate", own, copied) == 2
    printed = capsys.readouterr().err
    assert "1 images" in printed
    side = checkpoint.load(own).arch.input.side
    assert (f"alexnet pack PHOTOS PACKED --side {side} --held-out 0.4, then alexnet train PACKED with the options of "
            "this run, such as its --init or --arch") in printed
    assert not checkpoint.load(own).calibration


def test_a_temperature_that_is_not_stored_has_a_remedy(own, hard, capsys, monkeypatch):
    monkeypatch.setattr("alexnet.inference.calibration.Calibration.helps", False)
    assert alexnet("calibrate", own, hard) == 0
    side = checkpoint.load(own).arch.input.side
    reason = capsys.readouterr().out.partition("not stored: ")[2]
    assert f"alexnet pack PHOTOS PACKED --side {side} --held-out 0.4" in reason
    assert not checkpoint.load(own).calibration


def test_the_training_split_is_refused(own, class_folders, capsys):
    assert alexnet("calibrate", own, class_folders, "--split", "train") == 2
    assert "the network was trained on 120 of these 120 images" in capsys.readouterr().err
    assert not checkpoint.load(own).calibration


def test_images_that_fitted_the_temperature_are_recorded_and_said(own, hard, capsys):
    before = checkpoint.load(own).seen
    assert alexnet("calibrate", own, hard) == 0
    capsys.readouterr()
    after = checkpoint.load(own).seen
    assert len(after.selected_on) == len(before.selected_on) + 160  # one half of the 320 images
    assert np.array_equal(after.trained, before.trained)
    for command in (["evaluate", own], ["compare", own, own / "last"]):
        assert alexnet(*command, hard) == 0
        said = capsys.readouterr().out
        assert "measured: all 320 images, none of these files seen in training; " in said
        assert ("; 160 of these 320 chose the best epoch or fitted the temperature, so the result is slightly "
                "optimistic") in said


def test_an_undecided_calibration_error_is_said():
    error = CalibrationError(loss=1.5, ece=0.15, calibrated_ece=0.11, calibrated_range=(0.06, 0.16))
    found = Calibration(2.0, 100, 100, error, replace(error, loss=1.3), -0.2, (-0.3, -0.1))
    text = "\n".join(calibration_text(found))
    assert "with 100 images the ECE cannot show whether the probabilities were wrong before; the loss decides" in text
    decided = replace(found, before=replace(error, ece=0.17))
    assert "the loss decides" not in "\n".join(calibration_text(decided))


def test_a_calibrated_last_checkpoint_still_resumes_bit_for_bit(own, hard, class_folders):
    velocity = checkpoint.load(own / "last", with_velocity=True).velocity
    assert alexnet("calibrate", own / "last", hard) == 0
    calibrated = checkpoint.load(own / "last", with_velocity=True)
    assert calibrated.calibration
    assert velocity
    assert all(torch.equal(calibrated.velocity[key], tensor) for key, tensor in velocity.items())
    assert calibrated.network(calibrated=False).temperature == 1.0


def test_the_report_says_which_checkpoint_is_calibrated(own, hard, capsys):
    assert alexnet("calibrate", own, hard, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert alexnet("report", own) == 0
    page = words((own / "report.html").read_text())
    assert (f"The probabilities of best are calibrated: its logits are divided by the temperature "
            f"{result['temperature']:.3f}, fitted on 160 images. On 160 others, the expected calibration error is "
            f"{result['after']['ece']:.1%}, and {result['before']['ece']:.1%} without it.") in page
    assert "The probabilities of last" not in page
    assert "Chance: 75.0% top-1 error (always answering the largest class: 75.0%)" in page  # 11 images of each of four


def test_evaluate_says_that_probabilities_are_calibrated(own, hard, class_folders, capsys):
    assert alexnet("evaluate", own, class_folders, "--json") == 0
    before = json.loads(capsys.readouterr().out)
    assert alexnet("calibrate", own, hard) == 0
    assert "stored in" in capsys.readouterr().out
    assert alexnet("evaluate", own, class_folders, "--json") == 0
    after = json.loads(capsys.readouterr().out)
    assert (before["temperatures"], after["temperatures"]) == ([1.0], [checkpoint.load(own).calibration["temperature"]])
    assert after["top1_error"] == before["top1_error"]
    assert after["loss"] != before["loss"]
    assert alexnet("evaluate", own, class_folders) == 0
    assert f"calibrated: {own / 'best'} (temperature {after['temperatures'][0]:.3f})" in capsys.readouterr().out


@pytest.fixture
def helping(monkeypatch):
    """The views of such small images are nearly alike, so their own temperature helps by no more than chance."""
    monkeypatch.setattr("alexnet.inference.calibration.Calibration.helps", True)


def test_ten_views_get_a_temperature_of_their_own(own, hard, class_folders, helping, capsys):
    assert alexnet("calibrate", own, hard, "--json") == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert re.search(r"note: ten views take about ten times the \d+\.\d s of one view; --one-view leaves", printed.err)
    ten, stored = result["ten_views"], checkpoint.load(own).calibration
    assert ten["stored"]
    assert (ten["fitted_images"], ten["measured_images"]) == (160, 160)
    # Where it helps by no more than chance, the loss of the other half may rise a little. Without temperatures, the
    # network is sure of every image, and wrong about one in four.
    assert ten["after"]["loss"] == pytest.approx(ten["before"]["loss"], rel=0.05)
    assert ten["after"]["loss"] < 0.9 * result["before"]["loss"]
    assert stored["ten_views"] == {
        "temperature": ten["temperature"], "fitted_images": 160, "measured_images": 160,
        "ece_before": ten["before"]["ece"], "ece_after": ten["after"]["ece"]}
    assert stored["temperature"] == result["temperature"] != ten["temperature"]
    measured = {}
    for views in ("1", "10"):
        assert alexnet("evaluate", own, class_folders, "--views", views, "--json") == 0
        measured[views] = json.loads(capsys.readouterr().out)["temperatures"]
    assert measured == {"1": [result["temperature"]], "10": [ten["temperature"]]}


def test_the_text_has_the_errors_of_ten_views_and_says_what_is_stored(own, hard, helping, capsys):
    assert alexnet("calibrate", own, hard) == 0
    text, saved = capsys.readouterr().out, checkpoint.load(own).calibration["ten_views"]
    of_ten = text.partition(f"ten views: temperature {saved['temperature']:.3f} of each view, fitted on the same")[2]
    assert f"before: ECE {saved['ece_before']:6.2%}" in of_ten
    assert f"after:  ECE {saved['ece_after']:6.2%}" in of_ten
    assert "export use it; ten views use a temperature of their own" in of_ten


def test_one_view_leaves_ten_views_out(own, hard, capsys, monkeypatch):
    monkeypatch.setattr("alexnet.inference.calibration.compute_ten_view_logits",
                        lambda *_, **__: pytest.fail("ten views are computed"))
    assert alexnet("calibrate", own, hard, "--one-view", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["stored"]
    assert result["ten_views"] is None
    assert "ten_views" not in checkpoint.load(own).calibration
    assert alexnet("calibrate", own, hard, "--one-view") == 0
    assert "export use it; ten views use the same temperature" in capsys.readouterr().out


def test_a_temperature_of_ten_views_that_does_not_help_is_not_stored(own, hard, capsys, monkeypatch):
    monkeypatch.setattr("alexnet.inference.calibration.fit_ten_view_temperature", lambda *_: 99.0)
    assert alexnet("calibrate", own, hard) == 0
    assert "the temperature of ten views is not stored, as the loss of the images" in capsys.readouterr().out
    assert checkpoint.load(own).calibration.keys() == {
        "temperature", "fitted_images", "measured_images", "ece_before", "ece_after"}


def test_ten_views_without_a_best_temperature_keep_that_of_one_view(own, hard, capsys, monkeypatch):
    def refuse(*_):
        raise UserError("none is best", "give more images")

    monkeypatch.setattr("alexnet.inference.calibration.fit_ten_view_temperature", refuse)
    assert alexnet("calibrate", own, hard) == 0
    assert "note: ten views use the temperature of one view: none is best; give more" in capsys.readouterr().err
    assert "ten_views" not in checkpoint.load(own).calibration
    assert checkpoint.load(own).network().temperature != 1.0


def test_the_report_has_the_temperature_of_ten_views(own, hard, helping):
    assert alexnet("calibrate", own, hard) == 0
    saved = checkpoint.load(own).calibration["ten_views"]
    assert alexnet("report", own) == 0
    assert (f"For the mean over ten views each view's logits are divided by {saved['temperature']:.3f} instead: the "
            f"error is {saved['ece_after']:.1%}, and {saved['ece_before']:.1%} with the temperature of one view."
            ) in words((own / "report.html").read_text())
