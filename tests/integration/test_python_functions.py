"""The public Python functions, used as docs/python.md shows: a run, its attributes, features for scikit-learn."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import alexnet
from command_line import alexnet as command

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "python-cache"))


def test_importing_the_package_imports_no_torch_and_has_all_its_names():
    code = ("import sys, alexnet\n"
            "assert 'torch' not in sys.modules\n"
            "from alexnet.api import evaluation, features, opening, training\n"
            "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
            "assert all(getattr(alexnet, name) for name in alexnet.__all__)")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_knows_its_folder_its_errors_its_best_epoch_and_its_network(packed, tiny, tmp_path):
    run = alexnet.train(packed.path, arch=tiny, recipe="modern", epochs=3, batch_size=20, out=tmp_path / "run",
                        device="cpu", progress=False)
    assert run.path == tmp_path / "run"
    assert run.report.is_file()
    assert [event["epoch"] for event in run.history] == [1, 2, 3]
    best = min(run.history, key=lambda event: (event["val_top1_error"], event["val_loss"]))
    assert run.best_epoch == best["epoch"]
    assert run.metrics.top1_error == best["val_top1_error"]
    assert isinstance(run.network, torch.nn.Module)
    assert run.network is run.model.network
    assert not run.network.training
    assert run.model.classes == packed.classes
    assert repr(run) == (f"TrainedRun({str(run.path)!r}, best_epoch={run.best_epoch}, "
                         f"top1_error={best['val_top1_error']:.4f}, top5_error=0.0000, images=44)")
    errors = alexnet.evaluate(run.path, packed.path, include_trained=True, progress=False)
    assert errors.top1_wrong == run.metrics.top1_wrong


@pytest.mark.parametrize(("options", "arguments"), [
    ({"arch": "papper"}, ["--arch", "papper"]), ({"epochs": 0}, ["--epochs", "0"]),
    ({"settings": ["recipe.momentun=0.5"]}, ["--set", "recipe.momentun=0.5"]),
    ({"init": "nowhere"}, ["--init", "nowhere"]), ({"micro_batch": 1}, ["--micro-batch", "1"])])
def test_a_mistake_is_the_sentence_of_the_command_line(packed, tmp_path, capsys, options, arguments):
    out = tmp_path / "run"
    assert command("train", packed.path, "--out", out, *arguments) == 2
    printed = capsys.readouterr().err.strip().removeprefix("alexnet: ")
    with pytest.raises(alexnet.UserError) as error:
        alexnet.train(packed.path, out=out, progress=False, **options)
    assert str(error.value) == printed.removeprefix("error: ")
    assert "\n" not in printed
    assert not out.exists()


def test_features_are_those_of_the_command_and_of_the_model(packed, trained, tmp_path, capsys):
    features, labels = alexnet.features(packed.path, model=trained, split="val", progress=False)
    assert features.dtype == np.float32
    assert features.shape == (44, 32)
    assert capsys.readouterr().err == ""
    assert command("features", trained, packed.path, tmp_path / "out.npz", "--split", "val") == 0
    with np.load(tmp_path / "out.npz") as file:
        assert np.array_equal(file["features"], features)
        assert np.array_equal(file["labels"], labels)
        names = alexnet.features(packed.path, model=trained, split="val", progress=False).names
        assert list(names) == file["names"].tolist() == list(packed.split("val").names)
    pixels = [packed.split("val").read_one(index) for index in range(3)]
    assert np.allclose(alexnet.load(trained).features(pixels).numpy(), features[:3], atol=1e-5)


def test_features_of_a_loaded_model_another_layer_and_all_splits(packed, trained):
    model = alexnet.load(trained)
    features, labels = alexnet.features(packed.path, model=model, layer="conv5", pool=True, progress=False)
    assert features.shape == (164, 16)
    assert np.array_equal(labels, np.concatenate([packed.split("train").labels, packed.split("val").labels]))
    for options, words in (({"layer": "conv9"}, "did you mean"), ({"pool": True}, "has no feature maps to average"),
                           ({"split": "trian"}, "trian")):
        with pytest.raises(alexnet.UserError, match=words):
            alexnet.features(packed.path, model=model, progress=False, **options)


def test_a_layer_named_as_a_hidden_one_of_the_paper_is_said_to_be_the_output_layer(packed, trained, tmp_path, capsys):
    note = "note: fc7 is the output layer of small, with a score for each class; its last hidden layer is fc6\n"
    assert alexnet.features(packed.path, model=trained, split="val", layer="fc7").features.shape == (44, 4)
    assert note in capsys.readouterr().err
    assert command("features", trained, packed.path, tmp_path / "out.npz", "--split", "val", "--layer", "fc7") == 0
    assert note in capsys.readouterr().err
    alexnet.features(packed.path, model=trained, split="val", layer="fc6")
    assert "output layer" not in capsys.readouterr().err


def test_preprocess_takes_stored_pixels_and_says_so_of_a_path(packed, trained):
    model = alexnet.load(trained)
    pixels = packed.split("val").read_one(0)
    views = model.preprocess(torch.from_numpy(model.pixels(pixels))[None])
    assert torch.equal(views, model.views(pixels))
    for wrong in ("photo.jpg", pixels):
        with pytest.raises(alexnet.UserError, match=r"preprocess takes a tensor, uint8 \[N, .* model\.views\(image\)"):
            model.preprocess(wrong)


def test_a_linear_classifier_on_the_packaged_networks_features(class_folders):
    features, labels = alexnet.features(class_folders, split="train", progress=False)
    classifier = LogisticRegression(max_iter=1000).fit(features, labels)
    assert classifier.score(*alexnet.features(class_folders, split="val", progress=False)) > 0.7  # chance is 0.25
    assert json.dumps(sorted({*labels.tolist()})) == "[0, 1, 2, 3]"
