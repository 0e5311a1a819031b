"""What `alexnet reproduce CLAIM --plan` says: numbers of the data, signs, and what all variants have in common."""

import pytest

from alexnet.reproduce import run_duration
from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.design import Design
from alexnet.reproduce.results import plan_json
from command_line import alexnet as command

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _known_time(request, monkeypatch):
    """No network is timed, but in the test of that."""
    if "is_measured" not in request.node.name:
        monkeypatch.setattr(run_duration, "_seconds_of_an_image", lambda *_: (0.4, 0.2))


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


def test_a_plan_says_how_long_the_runs_take(class_folders, packed, capsys):
    """120 training images for 40 epochs are 4,800, and 120 once more for the clean training error; the validation
    images are evaluated after 8, 16, 24, 32 and 40 epochs. Each network has 3 x 2 tuning runs and 8 with fresh seeds.
    """
    assert packed.counts["val"] == 44
    seconds = 1_988.0  # 4,800 x 0.4 + (120 + 5 x 44) x 0.2; 23.2 hours for 42 runs
    design = Design.of(CLAIMS["lrn"], packed)
    times = run_duration.measure_durations(design, packed, "cpu", "fp32")
    assert [(time.variant.name, time.runs, time.seconds) for time in times] == [
        (name, 14, seconds) for name in ("no normalization", "constant factor 2^-0.75", "response normalization")]
    plan = plan_json(design, packed, times)
    assert plan["seconds"] == 42 * seconds
    assert plan["seconds_of_a_run"]["no normalization"] == seconds
    assert "seconds" not in plan_json(design, packed)
    text = plan_of(capsys, class_folders, "lrn")
    assert ("Time on this machine: 23 h 12 min for these runs one after another; those that are finished already take "
            "none. A run takes: no normalization 33 min, constant factor 2^-0.75 33 min, response normalization 33 min"
            ) in text
    text = plan_of(capsys, class_folders, "figure1")
    assert "Time on this machine: at most" in text
    assert "A run takes at most: ReLU " in text


def test_the_time_of_a_plan_is_measured_with_each_network(packed):
    """One network of the two has half the kernels of the other in four of its layers."""
    times = run_duration.measure_durations(Design.of(CLAIMS["two-gpu"], packed), packed, "cpu", "fp32")
    assert len(times) == 2
    assert all(0 < time.seconds < 3600 for time in times)


def test_the_common_settings_are_in_the_json_of_a_plan(packed):
    assert plan_json(Design.of(CLAIMS["lighting"], packed), packed)["common"] == {
        "batch_size": 128, "epochs": 40, "schedule": "linear", "momentum": 0.9, "weight_decay": 0.0005, "dropout": 0.5,
        "image_side": 32, "crop": 28, "augmentation": ["random crops", "mirroring"]}
