"""The report of a run: it shows what the log holds, makes no request, and escapes every name."""

import json
import re
import shlex
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override, to_json
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import recipe
from alexnet.architecture.spec import InputSpec
from alexnet.data.preprocessing import Preprocess
from alexnet.inference.predictor import model_from_checkpoint
from alexnet.inference.statistics import wilson
from alexnet.inference.validation import predict_validation
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import load, save
from alexnet.models.seen import SeenImages
from alexnet.reproduce.report.commands import training_command
from alexnet.reproduce.report.page import write_report
from alexnet.reproduce.report.recipe_section import INPUT_MEANINGS, MEANINGS
from alexnet.reproduce.report.run_data import packed_data, read_run
from report_runs import CLASSES, EVALUATION, Elements, PackedImages, small_network, words, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), events=[
        {**EVALUATION, "top1_error": 0.9}, EVALUATION, {**EVALUATION, "views": 10, "top1_error": 0.3911},
        {"event": "warning", "step": 400, "kind": "loss_not_falling", "subject": "",
         "problem": "the loss is 6.9, still ln(1000) <i>", "remedy": "wait"}])


@pytest.fixture(scope="module")
def page(run: Path, packed_images: PackedImages) -> str:
    return write_report(run, packed_images, note="A stand-in, <no more>.").read_text(encoding="utf-8")


# --- What the page says -----------------------------------------------------------------------------------------------


def test_result_has_errors_and_intervals_of_the_log(page: str):
    text = words(page)
    assert "small classifies 732 of 1,234 validation images correctly (top-1), and 1,009 within" in text
    assert "One view top-1 error 40.7% 38.0% to 43.5% top-5 error 18.2% 16.2% to 20.5%" in text
    assert "Ten views top-1 error 39.1%" in text
    assert "90.0%" not in text  # the earlier evaluation of one view


def test_note_and_warnings_are_shown_as_text(page: str):
    assert "A stand-in, <no more>." in words(page)
    assert "Step 400: The loss is 6.9, still ln(1000) <i>. Remedy: wait." in words(page)
    assert "The log has 1 warning." in words(page)


def test_without_evaluation_and_data_the_result_is_of_the_best_epoch(tmp_path: Path):
    text = words(write_report(write_run(tmp_path)).read_text(encoding="utf-8"))
    assert "small classifies 30 of 40 validation images correctly" in text
    assert "top-1 error 25.0% 14.2% to 40.2%" in text  # Wilson's interval for 10 of 40
    assert "Measured with one view at the end of its epoch" in text
    assert "epoch 3 of 4: it was interrupted" in text


def test_without_data_the_report_has_curves_and_kernels(tmp_path: Path):
    run = write_run(tmp_path)
    found = Elements(write_report(run).read_text(encoding="utf-8")).found
    ids = {attributes.get("id") for _, attributes in found}
    assert {"curves", "kernels", "architecture", "recipe", "warnings"} <= ids
    assert not {"predictions", "mistakes"} & ids
    assert [tag for tag, _ in found].count("svg") == 4  # three panels and the network
    assert {path.name for path in (run / "figures").iterdir()} == {
        "learning_curves.png", "learning_curves.svg", "architecture.png", "architecture.svg", "kernels.png"}


def test_every_link_has_a_target(page: str):
    found = Elements(page).found
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    links = {attributes["href"][1:] for tag, attributes in found if tag == "a"}
    assert links
    assert links <= set(ids)
    assert len(ids) == len(set(ids))


def test_predictions_are_those_of_the_evaluated_checkpoint(run: Path, packed_images: PackedImages):
    network = AlexNet(small_network(), seed=2).eval()  # what write_run saved as `last`; `best` has seed 1
    preprocess = Preprocess(network.arch.input, torch.full((1, 1, 3), 120.0))
    with torch.inference_mode():
        predicted_N = network(preprocess(torch.from_numpy(packed_images.pixels))).argmax(1).numpy()
    predictions = read_run(run, packed_images).predictions
    expected = np.zeros((6, 6), int)
    for true, predicted in zip(packed_images.labels, predicted_N, strict=True):
        expected[true, predicted] += 1
    assert (predictions.confusion_KK == expected).all()
    wrong = predictions.mistakes
    assert sorted(wrong) == np.flatnonzero(packed_images.labels != predicted_N).tolist()
    assert (np.diff(predictions.probabilities_MK[wrong].max(axis=1)) <= 0).all()


def test_at_most_a_limit_of_evenly_spaced_images_is_predicted(run: Path, packed_images: PackedImages):
    predictions = predict_validation(load(run / "last"), packed_images, at_most=10)
    assert predictions.indices_M.tolist() == [0, 3, 6, 9, 12, 16, 19, 22, 25, 29]


def test_classes_are_matched_by_name(run: Path, packed_images: PackedImages):
    reversed_classes = replace(packed_images, classes=CLASSES[::-1], labels=len(CLASSES) - 1 - packed_images.labels)
    expected = read_run(run, packed_images).predictions.confusion_KK
    assert (read_run(run, reversed_classes).predictions.confusion_KK == expected).all()


def test_training_command_gives_the_same_network_and_recipe(run: Path):
    config = read_run(run).config
    line = shlex.split(training_command(config))
    assert line[:7] == ["alexnet", "train", "/photos/trees <b>", "--arch", "small", "--recipe", "modern"]
    assert line[7:11] == ["--epochs", "4", "--seed", "7"]
    settings = [word.partition(".")[2] for word in line if word.startswith("arch.")]
    assert replace(override(arch("small"), settings), classes=len(CLASSES)) == small_network()


@pytest.mark.parametrize("setting", ["drop_epochs=[10, 20]", "nesterov=false", "crop=center", "lighting=0.0"])
def test_training_command_repeats_every_kind_of_setting(setting: str):
    changed: Recipe = override(recipe("modern"), [setting])
    config = {"arch": to_json(arch("small")), "recipe": to_json(changed), "data": {"source": "images inside"}}
    quoted = shlex.quote(f"recipe.{setting}")
    assert training_command(config) == f"alexnet train DATA --arch small --recipe modern --seed 0 --set {quoted}"


@pytest.mark.parametrize(("trained", "run", "data"), [
    ("alexnet train PHOTOS --out runs/mine", "runs/mine", "PHOTOS"),
    ("alexnet demo --out runs/demo --seed 0", "runs/demo", "runs/demo/data")])
def test_follow_up_commands_name_the_run_and_its_data(tmp_path: Path, trained: str, run: str, data: str):
    config = json.loads((write_run(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"command": trained}))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert f"alexnet evaluate {run}/best {data}\nalexnet report {run} --data {data}" in page


def test_a_typed_command_is_repeated_unchanged():
    assert training_command({"command": ["alexnet", "demo", "--out", "my runs"]}) == "alexnet demo --out 'my runs'"


def test_every_setting_of_recipe_and_input_has_a_meaning(page: str):
    assert MEANINGS.keys() == {field.name for field in fields(Recipe)}
    assert INPUT_MEANINGS.keys() == {field.name for field in fields(InputSpec)}
    text = words(page)
    for meaning in (*MEANINGS.values(), *INPUT_MEANINGS.values()):
        assert meaning in text
    assert "freeze frozen layers none" in text
    assert "conv1 slow epoch epoch from which conv1 has a reduced learning rate never" in text


def test_random_kernels_are_reported_as_random(tmp_path: Path):
    run = write_run(tmp_path)
    text = words(write_report(run).read_text(encoding="utf-8"))
    assert "Filters of conv1 (still random)" in text
    saved = load(run / "best")
    saved.weights["features.conv1.weight"][...] = torch.linspace(-1, 1, 5)[:, None]  # each an edge
    save(saved, run / "best")
    text = words(write_report(run).read_text(encoding="utf-8"))
    assert "Filters of conv1" in text
    assert "still random" not in text
    assert "look like their random initial weights" not in text


# --- What the page does not do ----------------------------------------------------------------------------------------


def test_the_page_makes_no_request(page: str):
    assert "://" not in page
    assert "@import" not in page
    assert set(re.findall(r"url\(([^)]{1,2})", page)) <= {"#p"}  # clip paths of a figure
    for tag, attributes in Elements(page).found:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        for name in ("src", "srcset", "href", "xlink:href", "data", "poster", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    assert "default-src 'none'" in page


def test_hostile_names_are_escaped(page: str):
    elements = Elements(page)
    for name in CLASSES:
        assert name in elements.text
    assert "<img src=x onerror=alert(2)>" in elements.text
    assert "/photos/trees <b>" in elements.text
    for tag, attributes in elements.found:
        assert tag not in ("script", "i", "b")
        assert not [name for name in attributes if name.startswith("on")]


def test_the_same_run_gives_the_same_page_and_figures(run: Path, packed_images: PackedImages, page: str):
    figures_before = {path.name: path.read_bytes() for path in (run / "figures").iterdir()}
    assert set(figures_before) == {
        *(f"{name}.{kind}" for name in ("learning_curves", "architecture", "confusion", "class_errors")
          for kind in ("png", "svg")), "kernels.png", "predictions.png", "mistakes.png", "nearest.png"}
    assert write_report(run, packed_images, note="A stand-in, <no more>.").read_text(encoding="utf-8") == page
    assert {path.name: path.read_bytes() for path in (run / "figures").iterdir()} == figures_before
    assert not list(run.glob("*.new"))


# --- What is missing is named -----------------------------------------------------------------------------------------


def test_a_run_without_a_finished_epoch_is_an_error(tmp_path: Path):
    run = write_run(tmp_path, epochs=0, events=[{
        "event": "warning", "step": 3, "kind": "exploding", "subject": "", "problem": "the loss is nan", "remedy": ""}])
    with pytest.raises(ValueError, match=r"no finished epoch.*\(the loss is nan\)"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_a_folder_that_is_no_run_is_an_error(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "nowhere", Path(__file__)):
        for function in (write_report, packed_data):
            with pytest.raises(ValueError, match="is not a run; give a folder that `alexnet train` made"):
                function(folder)
    (write_run(tmp_path) / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is missing or damaged"):
        write_report(tmp_path)
    (tmp_path / "config.json").write_text('{"arch": {}, "data": {}}')
    with pytest.raises(ValueError, match="has no recipe"):
        write_report(tmp_path)


def test_the_environment_names_the_software_that_wrote_the_run(tmp_path: Path):
    config = json.loads((write_run(tmp_path) / "config.json").read_text())
    config["versions"] = {"alexnet": "0.1.7", "alexnet_commit": "c" * 40, "python": "3.11", "torch": "2.13"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    text = words(write_report(tmp_path).read_text(encoding="utf-8"))
    assert f"alexnet 0.1.7 alexnet commit {'c' * 40} python 3.11 torch 2.13" in text


def test_a_half_written_log_line_is_ignored(tmp_path: Path):
    run = write_run(tmp_path)
    with (run / "log.jsonl").open("a") as log:
        log.write('{"event": "step", "st')
    assert len(read_run(run).epochs) == 3


def test_data_of_another_side_or_other_classes_is_an_error(run: Path, packed_images: PackedImages):
    with pytest.raises(ValueError, match="packed at 64 pixels and the network takes 32"):
        read_run(run, replace(packed_images, side=64))
    with pytest.raises(ValueError, match="not trained on"):
        read_run(run, replace(packed_images, classes=("oak", *CLASSES[1:])))


def test_diagnosis_shows_the_findings_of_the_log(measured_page: Path):
    text = words(measured_page.read_text(encoding="utf-8"))
    assert "relu5: 50% of its units are zero for every image measured" in text
    assert "Measurements at step 225" in text


def test_a_run_at_chance_is_not_called_healthy(tmp_path: Path):
    """38 of 40 images wrong, 95.0%; six classes: 83.3% for a guess. Every unit responds."""
    signals = {"event": "signals", "step": 300, "saturated": {"relu1": 0.5}, "dead": {"relu1": 0.0},
               "ratio": {"fc7": 0.001}}
    write_run(tmp_path, events=[signals])
    text = words(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "Healthy: the error is better than chance, units respond" in text
    for which in ("best", "last"):
        wrong = {"images": 40, "loss": 1.8, "top1_error": 0.95, "top5_error": 0.1,
                 "interval": {"top1_error": [0.835, 0.986], "top5_error": [0.04, 0.23]}}
        save(replace(load(tmp_path / which), errors=wrong), tmp_path / which)
    text = words(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "Healthy" not in text
    assert "The error is at chance after 30 steps: the top-1 error on 40 validation images is 95.0%" in text


def test_a_short_run_is_not_diagnosed(tmp_path: Path):
    early = {"event": "signals", "step": 1, "saturated": {"relu1": 0.4}, "dead": {"relu1": 0.9}, "ratio": {"fc7": 0.06}}
    text = words(write_report(write_run(tmp_path, events=[early])).read_text(encoding="utf-8"))
    assert "The run is too short to judge its layers" in text
    assert "units are zero for every image" not in text
    assert "0.1% is usual" not in text


def test_the_result_names_its_checkpoint(run: Path, page: str, tmp_path: Path):
    assert "The checkpoint is last, the network after its last epoch;" in words(page)
    write_run(tmp_path)
    text = words(write_report(tmp_path).read_text(encoding="utf-8"))
    assert ("The checkpoint is best, the epoch with the lowest validation error, which alexnet evaluate and predict "
            "use. After the last epoch, training measured 25.0%.") in text
    shutil.rmtree(tmp_path / "best")
    assert "The checkpoint is last, the network" in words(write_report(tmp_path).read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_headline_and_the_mistakes_are_of_the_same_images(packed_images: PackedImages, tmp_path: Path):
    write_run(tmp_path)  # training measured 40 images
    saved = load(tmp_path / "best")
    copies_N = np.sort(packed_images.content_hashes[[3, 17]])
    save(replace(saved, seen=SeenImages(trained=copies_N, selected_on=np.sort(packed_images.content_hashes))),
         tmp_path / "best")
    config = json.loads((tmp_path / "config.json").read_text())
    config["data"] |= {"images": {"train": 300, "val": 30}, "validation_copies": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    text = words(write_report(tmp_path, packed_images).read_text(encoding="utf-8"))
    right, images = re.search(r"classifies (\d+) of (\d+) validation images", text).groups()
    wrong, mistaken = re.search(r"(\d+) of (\d+) images are misclassified", text).groups()
    assert images == mistaken == "28"
    assert int(right) + int(wrong) == 28
    assert "2 of the 30 validation images are copies of training images: the copies are not measured." in text
    assert f"top-1 error {int(wrong) / 28:.1%}" in text


def test_nearest_images_are_the_nearest_training_images(measured_run: Path, packed_images: PackedImages):
    run = read_run(measured_run, packed_images)
    model = model_from_checkpoint(run.checkpoint)
    features = model.features(list(packed_images.pixels)).numpy()
    for row, found in zip(run.predictions.examples, run.nearest, strict=False):
        far = np.linalg.norm(features - features[run.predictions.indices_M[row]], axis=1)
        assert [neighbor.index for neighbor in found] == np.argsort(far, kind="stable")[:6].tolist()


def test_every_class_error_has_its_interval(measured_run: Path, measured_page: Path, packed_images: PackedImages):
    predictions = read_run(measured_run, packed_images).predictions
    text = words(measured_page.read_text(encoding="utf-8"))
    for label, name in enumerate(CLASSES):
        asked = int((predictions.labels_M == label).sum())
        wrong = asked - int(predictions.confusion_KK[label, label])
        low, high = wilson(wrong, asked)
        assert f"{name} {wrong} of {asked}: {100 * wrong / asked:.0f}% ({100 * low:.0f} to {100 * high:.0f})" in text
