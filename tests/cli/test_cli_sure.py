"""--sure: the user's own threshold of "not sure", on the command line, in CSV and JSON, on the server and its page."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from alexnet.data.sources.embedded import PHOTOGRAPHS
from alexnet.errors import UserError
from alexnet.inference.confidence import (
    always_sure_note,
    below_text,
    is_sure,
    require_threshold,
    several_views_note,
    threshold_of,
)
from alexnet.inference.predictor import model_from_checkpoint
from alexnet.models import checkpoint
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service
from command_line import alexnet
from inprocess import encoded, served
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sure") / "photos"
    folder.mkdir()
    for label in range(4):
        Image.fromarray(draw(np.random.default_rng(label), label)).save(folder / f"{label}.png")
    return folder


@pytest.fixture(scope="module")
def probabilities(trained, photos):
    """Of the likeliest class of each photo, by an uncalibrated network."""
    model = model_from_checkpoint(checkpoint.load(trained))
    return {path.name: model.predict(path, top=1)[0][0].probability for path in sorted(photos.iterdir())}


def test_without_the_option_only_a_calibrated_network_is_not_sure():
    assert [is_sure(p, True) for p in (0.49, 0.5, 1.0)] == [False, True, True]
    assert [is_sure(p, False) for p in (0.49, 0.5, 1.0)] == [None, None, None]
    assert [is_sure(p, calibrated, 0.8) for calibrated in (True, False) for p in (0.79, 0.8)] == [False, True] * 2
    assert [threshold_of(True, None), threshold_of(False, None), threshold_of(False, 0.8)] == [0.5, None, 0.8]


@pytest.mark.parametrize(("sure", "remedy"), [(80, "write --sure 0.8 for 80%"), (1.5, "write --sure 0.015 for 1.5%"),
                                              (-0.1, "write 0.8 for 80%"), (500, "write 0.8 for 80%"),
                                              (float("nan"), "write 0.8 for 80%")])
def test_a_threshold_that_is_no_probability_is_refused(sure, remedy):
    with pytest.raises(UserError) as refused:
        require_threshold(sure)
    assert str(refused.value) == f"--sure {sure:g} is not between 0 and 1; {remedy}"


@pytest.mark.parametrize("command", [("predict", "photo.jpg"), ("serve",)])
def test_commands_refuse_it_before_anything_else(command, capsys):
    assert alexnet(*command, "--sure", 80) == 2
    assert "--sure 80 is not between 0 and 1; write --sure 0.8 for 80%" in capsys.readouterr().err


@pytest.mark.parametrize("sure", [0.0, None, 1.0])
def test_zero_none_and_one_are_thresholds(sure):
    require_threshold(sure)


def test_with_two_classes_half_marks_none_and_this_is_said():
    """The likeliest of two has 50% or more; of 4 classes it may have 25%, of which 0.25 marks none."""
    assert always_sure_note(2, True, None) == (
        "no image can be marked \"not sure\": the likeliest of 2 classes always has 50% or more, and the threshold is "
        "50%; set a higher one, such as --sure 0.8")
    assert not always_sure_note(2, False, None)
    assert not always_sure_note(2, True, 0.8)
    assert not always_sure_note(4, True, None)
    assert always_sure_note(4, True, 0.25)


def test_ten_views_of_a_calibrated_network_are_said_to_be_calibrated_for_one(photos, trained, tmp_path, capsys):
    assert several_views_note(True, 10, False) == (
        "the probabilities are calibrated for one view; those of ten views are averages, which are less well "
        "calibrated")
    assert not several_views_note(True, 1, False)
    assert not several_views_note(False, 10, False)
    assert not several_views_note(True, 10, True)
    saved = checkpoint.load(trained)
    temperature = {"temperature": 2.0, "fitted_images": 20, "measured_images": 20, "ece_before": 0.1, "ece_after": 0.0}
    one, ten = tmp_path / "one", tmp_path / "ten"
    checkpoint.save(replace(saved, calibration=temperature), one)
    checkpoint.save(replace(saved, calibration={**temperature, "ten_views": temperature}), ten)
    for weights, views, is_said in ((one, 10, True), (one, 1, False), (ten, 10, False), (trained, 10, False)):
        assert alexnet("predict", weights, photos / "0.png", "--views", views) == 0
        assert ("note: the probabilities are calibrated for one view" in capsys.readouterr().err) == is_said


def test_table_csv_and_json_mark_the_same_images(trained, photos, probabilities, capsys):
    threshold = sum(sorted(probabilities.values())[1:3]) / 2  # two are below, two are not
    assert alexnet("predict", trained, photos, "--sure", threshold, "--json") == 0
    printed = capsys.readouterr()
    found = {row["image"].rpartition("/")[2]: row["sure"] for row in json.loads(printed.out)}
    assert found == {name: probability >= threshold for name, probability in probabilities.items()}
    assert sum(found.values()) == 2
    assert "the network is not sure of 2 of 4 images: the likeliest class has a probability below" in printed.err
    assert "is not calibrated (alexnet calibrate RUN DATA), so a probability does not say how often" in printed.err
    assert alexnet("predict", trained, photos, "--sure", threshold, "--csv", "--top", 1) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["image"].rpartition("/")[2]: row["sure"] == "1" for row in rows} == found
    assert alexnet("predict", trained, photos, "--sure", threshold) == 0
    assert capsys.readouterr().out.count("  not sure:\n") == 2


def test_csv_has_a_row_for_each_class_so_with_top_1_one_for_each_photo(trained, photos, capsys):
    for top in (1, 3):
        assert alexnet("predict", trained, photos, "--csv", "--top", top) == 0
        header, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
        assert header == ["image", "rank", "class", "probability", "sure", "trained_on"]
        assert len(rows) == 4 * top
        assert [row[1] for row in rows] == [str(rank) for rank in range(1, top + 1)] * 4
        assert {row[4] for row in rows} == {""}  # not calibrated, and no threshold


def test_what_a_threshold_means_is_said_by_whether_the_network_is_calibrated():
    assert below_text(True, None) == (
        "the likeliest class has a probability below 50%, and is then wrong more often than right")
    assert below_text(True, 0.8) == (
        "the likeliest class has a probability below 80%, the threshold of --sure, and is then right in fewer than "
        "80% of cases")
    assert below_text(False, 0.8).startswith("the likeliest class has a probability below 80%, the threshold of "
                                             "--sure; the network is not calibrated")


@pytest.mark.parametrize(("sure_from", "calibrated", "sure", "used"), [
    (None, False, None, None), (0.0, False, True, 0.0), (1.0, False, False, 1.0), (None, True, False, 0.5),
    (0.1, True, True, 0.1)])
def test_the_server_marks_by_its_threshold_and_says_it(trained, sure_from, calibrated, sure, used):
    """A temperature of 50 makes all four classes nearly equally likely."""
    saved = replace(checkpoint.load(trained), calibration={"temperature": 50.0} if calibrated else {})
    model = ServedModel(model_from_checkpoint(saved), sure_from=sure_from)
    with served(Service([model])) as client:
        _, _, response = client.predict(encoded(draw(np.random.default_rng(1), 2)))
        _, _, description = client.request("/model")
    assert response["images"][0]["sure"] is sure
    assert (json.loads(description) if isinstance(description, bytes) else description)["sure_from"] == used


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_only_unsure_prints_the_marked_images_in_every_form(trained, photos, probabilities, capsys):
    threshold = sum(sorted(probabilities.values())[1:3]) / 2
    unsure = {name for name, probability in probabilities.items() if probability < threshold}
    options = (trained, photos, "--sure", threshold, "--only-unsure")
    assert alexnet("predict", *options, "--json") == 0
    printed = capsys.readouterr()
    assert {row["image"].rpartition("/")[2] for row in json.loads(printed.out)} == unsure
    assert "the network is not sure of 2 of 4 images" in printed.err
    assert alexnet("predict", *options, "--csv", "--top", 1) == 0
    rows = rows_of(capsys.readouterr().out)
    assert {row["image"].rpartition("/")[2] for row in rows} == unsure
    assert {row["sure"] for row in rows} == {"0"}
    assert alexnet("predict", *options) == 0
    printed = capsys.readouterr().out
    assert printed.count("  not sure:\n") == 2
    assert sum(name in printed for name in probabilities) == 2


def test_only_unsure_without_a_calibration_or_a_threshold_is_refused(trained, photos, capsys):
    assert alexnet("predict", trained, photos, "--only-unsure", "--csv") == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert "is not calibrated, so --only-unsure has no threshold" in printed.err
    assert "alexnet calibrate RUN DATA, or set a threshold such as --sure 0.8" in printed.err


def test_only_unsure_of_images_that_are_all_sure_prints_none_and_says_so(trained, photos, capsys):
    assert alexnet("predict", trained, photos, "--only-unsure", "--sure", 0.26, "--csv") == 0
    printed = capsys.readouterr()
    assert rows_of(printed.out) == []
    assert "note: the network is sure of all 4 images, so --only-unsure has none to print" in printed.err


def test_only_unsure_takes_the_threshold_of_a_calibrated_network(capsys):
    """Of the embedded photographs the pretrained network is sure of some: the ones that are left out."""
    assert alexnet("predict", PHOTOGRAPHS, "--csv", "--top", 1) == 0
    marked = {row["image"] for row in rows_of(capsys.readouterr().out) if row["sure"] == "0"}
    assert alexnet("predict", PHOTOGRAPHS, "--csv", "--top", 1, "--only-unsure") == 0
    assert {row["image"] for row in rows_of(capsys.readouterr().out)} == marked
    assert 0 < len(marked) < 14
