"""`train --head`: the fit equals scikit-learn's, the run is an ordinary one, useless options are refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import alexnet as alexnet_package
from alexnet.architecture.recipe_presets import head_recipe
from alexnet.inference.evaluate import evaluate
from alexnet.models import checkpoint
from alexnet.models.seen import SeenImages
from alexnet.training.build import build
from alexnet.training.head import fit_output, held_out
from alexnet.training.spec import RunSpec
from command_line import alexnet

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_fit_is_that_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    features = (rng.normal(size=(90, 7)) + rng.normal(size=(3, 7))[labels]) * np.arange(1, 8) + 5
    fit = fit_output(torch.from_numpy(features).float(), torch.from_numpy(labels), torch.zeros(90, dtype=torch.bool), 3,
                     weight_decay=0.1)
    scaler = StandardScaler().fit(features)
    scaler.scale_ = features.std(0, ddof=1)
    # scikit-learn minimizes C * sum of losses + |w|^2 / 2; ours is the mean of losses + decay * |w|^2 / 2.
    reference = LogisticRegression(C=1 / (0.1 * 90), tol=1e-8, max_iter=1000).fit(scaler.transform(features), labels)
    ours = (torch.from_numpy(features).float() @ fit.weight_KD.T + fit.bias_K).softmax(1)
    np.testing.assert_allclose(ours, reference.predict_proba(scaler.transform(features)), atol=2e-3)


def test_every_fifth_image_of_each_class_is_held_out():
    labels = np.array([0, 1, 0, 0, 1, 0, 0, 1, 1, 1, 0, 2])
    assert np.flatnonzero(held_out(labels)).tolist() == [6, 9]


def test_the_weight_decay_with_the_lowest_held_out_loss_is_chosen():
    """Labels that do not depend on the features: the largest weight decay is the best."""
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(60, 30, generator=generator), torch.randint(0, 2, (60,), generator=generator)
    held = torch.arange(60) % 3 == 0
    fit = fit_output(features, labels, held, 2)
    assert fit.weight_decay == 10.0
    assert list(fit.held_out_errors) == ["10", "1", "0.1", "0.01", "0.001", "0.0001"]


def test_classes_too_small_to_hold_an_image_out_get_a_weight_decay_of_a_hundredth():
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(12, 5, generator=generator), torch.arange(12) % 3
    assert not held_out(labels.numpy()).any()
    found, given = (fit_output(features, labels, torch.zeros(12, dtype=torch.bool), 3, decay) for decay in (0.0, 0.01))
    assert (found.weight_decay, found.held_out_errors) == (0.01, {})
    torch.testing.assert_close(found.weight_KD, given.weight_KD)


def test_only_the_output_layer_changes_and_the_run_evaluates_as_it_says(packed, tiny, trained, tmp_path):
    init = checkpoint.load(trained)
    run = build(RunSpec(packed, tiny, head_recipe(tiny), tmp_path / "run", init=replace(init, seen=SeenImages())))
    errors = run.fit()
    saved = checkpoint.load(tmp_path / "run")
    changed = {key for key, tensor in saved.weights.items() if not torch.equal(tensor, init.weights[key])}
    assert changed == {"classifier.fc7.weight", "classifier.fc7.bias"}
    assert evaluate([(saved.network(), saved.preprocess())], packed.split("val")).loss == pytest.approx(errors.loss)
    assert errors.top1_error < 0.5  # chance is 0.75
    head = saved.provenance["head"]
    assert saved.recipe.weight_decay == head["weight_decay"]
    assert saved.seen.selected_on.tolist() == [], "one epoch leaves nothing to choose"
    assert (head["features"], head["views"], head["held_out"]) == ("relu6", 2, 24)
    assert head["weight_decay"] in (10, 1, 0.1, 0.01, 0.001, 0.0001)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in log if event["event"] != "warning"] == ["start", "head", "epoch", "end"]


@pytest.mark.slow
def test_head_from_the_command_line_makes_an_ordinary_run(class_folders, trained, tmp_path, capsys):
    out = tmp_path / "run"
    assert alexnet("train", class_folders, "--init", trained, "--head", "--out", out) == 0
    printed, result = (lambda captured: (captured.err, captured.out))(capsys.readouterr())
    assert "\noutput layer   training loss " in printed
    assert "epoch" not in printed
    assert result.startswith("top-1 error ")  # and not the best of several
    assert "fitted to the outputs of relu6 for 120 images (the center crop and its mirror image)" in printed
    assert "training images set aside)" in printed
    for name in ("best/checkpoint.json", "last/checkpoint.json", "log.jsonl", "config.json", "report.html"):
        assert (out / name).is_file(), name
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "L-BFGS on the output layer" in page
    assert "There are no curves: the output layer was fitted once" in page
    assert "dropout where the network has it" not in page
    assert '<th scope="col" class="number">learning rate</th>' not in page
    assert f"{trained}: small with 4 classes" in page
    assert "share of the last update in the next" not in page, "momentum plays no part"
    image = class_folders / "val" / "ash" / "000.png"
    assert len(alexnet_package.load(out).predict(image)[0]) == 4
    assert alexnet("train", class_folders, "--init", trained, "--head", "--out", out, "--resume") == 0


@pytest.mark.parametrize(("options", "words"), [
    (["--head"], "name the network with --init CHECKPOINT, or --init torchvision"),
    (["--head", "--init", "RUN", "--epochs", "3"], "--epochs has no effect with --head"),
    (["--head", "--init", "RUN", "--freeze", "conv"], "--freeze has no effect with --head"),
    (["--head", "--init", "RUN", "--recipe", "modern"], "--head has a recipe of its own, and modern was named"),
    (["--head", "--init", "RUN", "--micro-batch", "8"], "--micro-batch has no effect with --head"),
    (["--head", "--init", "RUN", "--precision", "bf16"], "--precision bf16 has no effect with --head"),
    (["--head", "--init", "RUN", "--set", "recipe.class_weights=balanced"],
     "recipe.class_weights balanced must be off with the optimizer lbfgs"),
    (["--recipe", "head", "--init", "RUN"],
     "the recipe head trains the output layer alone; give --head in place of --recipe head"),
])
def test_options_without_effect_on_the_head_are_refused(class_folders, trained, tmp_path, capsys, options, words):
    options = [str(trained) if option == "RUN" else option for option in options]
    assert alexnet("train", class_folders, *options, "--out", tmp_path / "run") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
