"""What commands say of data without a validation split, of class weights, and of more epochs for a resumed run."""

import json

import numpy as np
import pytest
from PIL import Image

from command_line import SMALL, alexnet
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")

HELD_OUT = "there is no validation split: 10% of each class (6 images, chosen by name) is held out for validation"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three classes of 40, 12 and 8 images, without a validation split: 4, 1 and 1 are held out."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("notes") / "photos"
    for label, (name, count) in enumerate((("ash", 40), ("birch", 12), ("cedar", 8))):
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(draw(rng, label)).save(root / name / f"{number:02}.png")
    return root


def start_of(run):
    return json.loads((run / "log.jsonl").read_text().splitlines()[0])


@pytest.mark.slow
def test_training_says_what_it_holds_out_and_measuring_only_where_it_matters(photos, tmp_path, capsys):
    run = tmp_path / "run"
    assert alexnet("train", photos, *SMALL, "--epochs", 1, "--out", run) == 0
    assert f"note: {HELD_OUT}\n" in capsys.readouterr().err
    assert HELD_OUT in start_of(run)["notes"]
    assert alexnet("evaluate", run, photos) == 0
    assert capsys.readouterr().err.startswith(f"{photos}: 60 images of 3 classes\n")
    assert alexnet("evaluate", run, photos, "--split", "val") == 0
    divided = f"{photos}: 60 images of 3 classes; no validation split of its own: 54 are train, 6 val\n"
    assert capsys.readouterr().err.startswith(divided)
    assert alexnet("top-patches", run, photos, "--layer", "conv1", "--out", tmp_path / "a.png") == 0
    assert capsys.readouterr().err.startswith(divided)
    assert alexnet("check", photos, "--quick") == 0
    assert HELD_OUT in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_fold_is_said_in_place_of_the_images_that_are_not_held_out(photos, tmp_path, capsys):
    assert alexnet("train", photos, *SMALL, "--epochs", 1, "--folds", 2, "--out", tmp_path / "folds") == 0
    printed = capsys.readouterr()
    assert "held out" not in printed.err
    assert "note: fold 1 of 2: " in printed.err
    notes = start_of(tmp_path / "folds" / "fold-2")["notes"]
    assert not any("held out" in note for note in notes)
    assert notes[-1].startswith("fold 2 of 2: ")
    assert printed.out.splitlines()[-1] == (
        f"runs: {tmp_path}/folds/fold-1, {tmp_path}/folds/fold-2")


# Training images: 36, 11 and 7. Weights 1, 36/11 and 36/7 over their mean (3 x 36) / 54 = 2; or 1, 2, 4 over 1.593.
@pytest.mark.parametrize(("value", "said"), [
    ("auto", "class weights (auto): an image's loss is multiplied by 0.5 (ash) to 2.6 (cedar)"),
    pytest.param("balanced", "class weights (balanced): an image's loss is multiplied by 0.5 (ash) to 2.6 (cedar)",
                 marks=pytest.mark.slow),
    ("1,2,4", "class weights (given): an image's loss is multiplied by 0.63 (ash) to 2.5 (cedar)"),
    pytest.param("off", None, marks=pytest.mark.slow)])
def test_class_weights_are_said_and_logged(photos, tmp_path, capsys, value, said):
    assert alexnet("train", photos, *SMALL, "--epochs", 1, "--set", f"recipe.class_weights={value}",
                   "--out", tmp_path / "run") == 0
    printed = capsys.readouterr().err
    assert ("class weights" in printed, (said or "") in printed) == (said is not None, True)
    assert ("class_weights" in start_of(tmp_path / "run")) == (said is not None)


@pytest.mark.slow
def test_more_epochs_of_a_resumed_run_are_said(photos, tmp_path, capsys):
    words = ("train", photos, *SMALL, "--out", tmp_path / "run")
    assert alexnet(*words, "--epochs", 1, "--set", "recipe.schedule=constant") == 0
    capsys.readouterr()
    assert alexnet("train", photos, "--out", tmp_path / "run", "--resume", "--epochs", 2) == 0
    assert "resuming after 1 of 2 epochs (formerly --epochs 1), 4 steps done" in capsys.readouterr().err
