"""What `alexnet reproduce CLAIM --plan` says: numbers of the data, signs, and what all variants have in common."""

import pytest

from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.measures import Design
from alexnet.reproduce.results import plan_json
from command_line import alexnet as command

pytestmark = pytest.mark.usefixtures("one_thread")


def plan_of(capsys, class_folders, *words) -> str:
    assert command("reproduce", *words, "--data", class_folders, "--side", 32, "--plan") == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_plan_counts_the_steps_on_its_own_data(class_folders, packed, capsys):
    """120 images are one batch of 128. 40 steps at a rate that falls linearly from 0.01 sum to 0.2: weights shrink by
    0.2 x 0.0005 / 0.1 = 0.001, and with a decay of 0.02 by 0.04."""
    text = plan_of(capsys, class_folders, "weight-decay")
    assert ("here, in 40 steps that begin at the learning rate 0.01, 0.0005 would shrink them by exp(-0.001), and the "
            "decay of 0.02 by exp(-0.04).") in text
    assert "3,000 steps" not in text
    text = plan_of(capsys, class_folders, "weight-decay", "--epochs", 100)
    assert "in 100 steps that begin at the learning rate 0.01, 0.0005 would shrink them by exp(-0.0025)" in text
    noted = plan_json(Design.of(CLAIMS["weight-decay"], packed, epochs=100), packed)["note"]
    assert "in 100 steps" in noted


@pytest.mark.parametrize("name", CLAIMS)
def test_no_note_has_an_unfilled_number(name, packed):
    design = Design.of(CLAIMS[name], packed, images_per_class=5)
    assert not {"{", "}"} & {*design.note(packed)}


def test_a_plan_compares_with_signs_and_counts_epochs_in_good_english(class_folders, capsys):
    text = plan_of(capsys, class_folders, "lighting")
    assert "expected less top-1 error; published: beyond −2.4% (over 1 point of 41.7%)" in text
    assert "expected a smaller rise of the error by recoloring; published: no number; least effect −1.0 points" in text
    text = plan_of(capsys, class_folders, "biases")
    assert "expected fewer epochs to 50% clean training error" in text
    assert "less epochs" not in text


@pytest.mark.parametrize(("name", "common"), [
    ("lrn", "batch size 128, 40 epochs, schedule linear, momentum 0.9, weight decay 0.0005, dropout 0.5, views of 28x28"
            " pixels of images of 32x32, augmentation: random crops, mirroring and color noise."),
    # Its variants differ in the weight decay.
    ("weight-decay", "batch size 128, 40 epochs, schedule linear, momentum 0.9, dropout 0.5, views of 28x28 pixels of "
                     "images of 32x32, augmentation: random crops, mirroring and color noise."),
    # They differ in crops and mirroring, not in the color noise; and in the epochs.
    ("augmentation", "batch size 128, schedule linear, momentum 0.9, weight decay 0.0005, dropout 0.5, views of 28x28"
                     " pixels of images of 32x32, augmentation: color noise."),
    ("figure1", "batch size 128, at most 16,000 epochs, schedule constant, momentum 0.9, weight decay 0, dropout 0, "
                "views of 28x28 pixels of images of 32x32, augmentation: none.")])
def test_a_plan_lists_what_all_variants_have_in_common(class_folders, capsys, name, common):
    few = ["--images-per-class", 9] if name == "augmentation" else []
    assert f"Common to all: {common}" in plan_of(capsys, class_folders, name, *few)


def test_the_common_settings_are_in_the_json_of_a_plan(packed):
    assert plan_json(Design.of(CLAIMS["lighting"], packed), packed)["common"] == {
        "batch_size": 128, "epochs": 40, "schedule": "linear", "momentum": 0.9, "weight_decay": 0.0005, "dropout": 0.5,
        "image_side": 32, "crop": 28, "augmentation": ["random crops", "mirroring"]}
