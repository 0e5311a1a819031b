"""Commands without a checkpoint use the packaged network; which first argument means a checkpoint; `list weights`."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet.models import checkpoint, packaged
from alexnet.models.formats.packaged_weights import write_packaged
from command_line import alexnet
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")

NAMED = "no checkpoint named: using trees-4 (4 classes, 32x32 pixels, top-1 error"


@pytest.fixture
def pretrained(run, tmp_path, monkeypatch) -> Path:
    """The run's network as the packaged one, with a temperature that makes it unsure of everything."""
    saved = checkpoint.load(run)
    folder = tmp_path / "package"
    monkeypatch.setattr(packaged, "FOLDER", folder)
    calibration = {"temperature": 50.0, "fitted_images": 20, "measured_images": 20, "ece_before": 0.1, "ece_after": 0.0}
    write_packaged(replace(saved, calibration=calibration), folder, "trees-4", {
        "data": "trees", "images": 3, "command": "alexnet train trees", "package_command": "python make.py", "seed": 4,
        "epochs": 5, "batch_size": 6, "software": {}, "device": "CPU", "changed_since": []}, packaged.LICENSE)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    Image.fromarray(draw(np.random.default_rng(1), 2)).save("photo.png")
    Path("photos").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(draw(np.random.default_rng(2), 1)).save(f"photos/{name}")
    return work


def run_json(capsys, *arguments):
    capsys.readouterr()
    assert alexnet(*arguments, "--json") == 0
    printed = capsys.readouterr()
    return json.loads(printed.out), printed.err


# --- Default and names ------------------------------------------------------------------------------------------------


def test_predict_without_a_checkpoint_is_predict_of_the_packaged_network(pretrained, capsys):
    found, notes = run_json(capsys, "predict", "photo.png")
    assert NAMED in notes
    for name in ("pretrained", "trees-4"):
        same, notes = run_json(capsys, "predict", name, "photo.png")
        assert same == found
        assert "no checkpoint named" not in notes


def test_a_checkpoint_that_is_named_is_used(pretrained, run, capsys):
    other, notes = run_json(capsys, "predict", run, "photo.png")
    assert "no checkpoint named" not in notes
    assert other[0]["sure"] is None  # it is not calibrated
    ours, _ = run_json(capsys, "predict", "photo.png")
    assert ours[0]["sure"] is False
    assert ours[0]["classes"][0]["name"] == other[0]["classes"][0]["name"]
    assert ours[0]["classes"][0]["probability"] < other[0]["classes"][0]["probability"]


def test_a_folder_of_images_is_not_taken_for_a_checkpoint_even_if_it_is_called_best(pretrained, capsys):
    Path("photos").rename("best")
    Path("best/last").mkdir()
    found, notes = run_json(capsys, "predict", "best")
    assert NAMED in notes
    assert [row["image"] for row in found] == ["best/a.png", "best/b.png"]
    found, _ = run_json(capsys, "predict", "photo.png", "best")
    assert len(found) == 3


@pytest.mark.parametrize(("arguments", "sentence"), [
    ((), "predict needs images"),
    (("nowhere.jpg",), "nowhere.jpg does not exist; name an image, or a folder of images"),
    (("nowhere",), "nowhere does not exist"),
    (("runs/nowhere", "photo.png"), "runs/nowhere does not exist; give a run's folder"),
    (("empty",), "empty holds no images"),
    (("empty", "photo.png"), "empty is not a checkpoint"),
    (("{run}",), "predict needs images after the checkpoint {run}"),
    (("{run}/best",), "predict needs images after the checkpoint {run}/best"),
    (("pretrained",), "predict needs images after the checkpoint pretrained"),
    (("broken", "photo.png"), "broken is not a checkpoint"),
    (("https://example.invalid/net.pth", "photo.png"), "is a URL, and checkpoints must be files"),
    (("net.caffemodel", "photo.png"), "needs its mean image too"),
])
def test_arguments_that_are_neither_are_refused_in_one_sentence(pretrained, run, capsys, arguments, sentence):
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/log.jsonl").touch()
    Path("net.caffemodel").touch()
    assert alexnet("predict", *(each.format(run=run) for each in arguments)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sentence.format(run=run) in printed.err
    assert "no checkpoint named" not in printed.err
    assert len([line for line in printed.err.splitlines() if line.startswith("alexnet: ")]) == 1


def test_without_a_packaged_network_the_sentence_says_what_to_name(pretrained, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(packaged, "FOLDER", tmp_path / "nothing")
    assert alexnet("predict", "photo.png") == 2
    assert "this installation has no pretrained network; name a run's folder" in capsys.readouterr().err


def test_evaluate_without_a_checkpoint(pretrained, class_folders, run, capsys):
    options = ("--include-trained",)
    ours, notes = run_json(capsys, "evaluate", class_folders, *options)
    assert NAMED in notes
    same, _ = run_json(capsys, "evaluate", "pretrained", class_folders, *options)
    assert same == ours
    theirs, _ = run_json(capsys, "evaluate", run, class_folders, *options)
    assert theirs["top1_error"] == pytest.approx(ours["top1_error"], abs=0.02)  # its weights are in fp16
    assert theirs["loss"] != ours["loss"]
    assert alexnet("evaluate", run) == 2
    assert "evaluate needs checkpoints and then the data" in capsys.readouterr().err


def test_evaluate_prints_the_name_and_not_the_path_of_the_package(pretrained, class_folders, capsys):
    assert alexnet("evaluate", class_folders, "--include-trained") == 0
    assert capsys.readouterr().out.startswith("trees-4: ")


@pytest.mark.parametrize(("command", "options", "output"), [
    (("attribute", "photo.png"), ("--out", "made.png"), "made.png"),
    (("features", "{data}", "made.npz"), (), "made.npz"),
    (("top-patches", "{data}"), ("--layer", "conv1", "--count", "1", "--out", "made.png"), "made.png"),
    (("neighbors", "photo.png"), ("--reference-set", "{data}", "--out", "made.png"), "made.png"),
    (("figure", "3"), ("--out", "made.png"), "made.png"),
])
def test_other_commands_use_it_too(pretrained, class_folders, capsys, command, options, output):
    data = [each.format(data=class_folders) for each in (*command, *options)]
    assert alexnet(*data) == 0
    assert NAMED in capsys.readouterr().err
    assert Path(output).is_file()


@pytest.mark.parametrize(("arguments", "sentence"), [
    (("attribute",), "attribute needs images; write: alexnet attribute [CHECKPOINT] IMAGE..."),
    (("attribute", "pretrained"), "attribute needs images after the checkpoint pretrained"),
    (("features", "pretrained", "made.npz"), "features needs DATA OUT after the checkpoint pretrained"),
    (("map", "pretrained"), "map needs DATA after the checkpoint pretrained"),
])
def test_a_missing_argument_is_named(pretrained, capsys, arguments, sentence):
    assert alexnet(*arguments) == 2
    assert sentence in capsys.readouterr().err


def test_explain_and_diagnose_take_the_name(pretrained, class_folders, capsys):
    found, _ = run_json(capsys, "explain", "pretrained")
    assert found["input"] == [3, 28, 28]
    assert found["layers"][0]["output"][0] == 16
    report, _ = run_json(capsys, "diagnose", "pretrained", class_folders, "--images", "16")
    assert report["trained_on"] == report["training_images"]


# --- Not sure ---------------------------------------------------------------------------------------------------------


def test_an_answer_below_50_percent_is_marked_and_explained(pretrained, capsys):
    assert alexnet("predict", "photo.png", "photos", "--top", "1") == 0
    printed = capsys.readouterr()
    assert printed.out.count("\n  not sure:\n") == 3
    assert ("note: the network is not sure of 3 of 3 images: the likeliest class has a probability below "
            "50%, and is then wrong more often than right. It knows 4 classes; alexnet list weights trees-4 lists "
            "them") in printed.err


def test_an_uncalibrated_network_is_never_said_to_be_unsure(pretrained, run, capsys):
    assert alexnet("predict", run, "photo.png") == 0
    printed = capsys.readouterr()
    assert "not sure" not in printed.out + printed.err


def test_a_calibrated_network_is_sure_from_50_percent(pretrained):
    from alexnet.inference.predictor import load

    model = load()
    assert [model.is_sure(p) for p in (0.4999, 0.5, 0.9)] == [False, True, True]


# --- List -------------------------------------------------------------------------------------------------------------


def test_list_weights_shows_all_with_checksum_and_license(pretrained, capsys):
    found, _ = run_json(capsys, "list", "weights")
    assert [each["name"] for each in found] == [
        "trees-4", "torchvision", "alexnet-owt-4df8aa71", "bvlc_alexnet", "bvlc_reference_caffenet"]
    assert all(each["license"] and each["checksum"] and each["address"] and each["use"] for each in found)
    assert alexnet("list", "weights") == 0
    printed = capsys.readouterr().out
    for each in found:
        assert each["checksum"] in printed
        assert each["license"] in printed
    assert "43.5%        20.9%" in printed


def test_list_weights_name_shows_its_classes(pretrained, run, capsys):
    found, _ = run_json(capsys, "list", "weights", "pretrained")
    assert len(found["class_names"]) == 4
    by_path, _ = run_json(capsys, "list", "weights", run)
    assert by_path["class_names"] == found["class_names"]
    theirs, _ = run_json(capsys, "list", "weights", "torchvision")  # nothing is downloaded
    assert theirs["class_names"][0] == "tench"
    assert len(theirs["class_names"]) == 1000
    assert alexnet("list", "weights", "pretrained") == 0
    assert f"Its 4 classes: {', '.join(found['class_names'])}" in capsys.readouterr().out
    assert alexnet("list", "weights", "nothing") == 2
    assert "nothing does not exist" in capsys.readouterr().err
    assert alexnet("list", "modern", "small") == 2
    assert "list modern takes no other name" in capsys.readouterr().err


def test_list_weights_needs_no_torch():
    code = ("import sys; from alexnet.cli.main import main\n"
            "try: main(['list', 'weights'])\n"
            "except SystemExit as stop: assert not stop.code\n"
            "assert 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
