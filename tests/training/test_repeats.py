"""--seeds and --folds: who is in which fold, right means, resuming, and reports of the right images."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from alexnet.cli.render_training import repeats_table
from alexnet.data.folds import fold_of_images, folded, parse_fold
from alexnet.errors import UserError
from alexnet.models import checkpoint
from alexnet.reproduce.report.run_data import packed_data
from alexnet.training.repeats import Repeat, Repeats, single_run
from command_line import SMALL, alexnet

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# --- Folds ---

def test_each_class_is_spread_evenly_and_equal_images_share_a_fold():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [50, 23, 7])
    content = rng.integers(0, 2**63, 80).astype(np.uint64)
    content[[10, 60, 75]] = content[[3, 52, 4]]  # the last pair in two classes
    fold_N = fold_of_images(labels, content, 5)
    assert set(fold_N) == {0, 1, 2, 3, 4}
    for label, images in ((0, 50), (1, 23), (2, 7)):
        counts = np.bincount(fold_N[labels == label], minlength=5)
        assert counts.min() >= images // 5 - 2
        assert counts.max() <= images // 5 + 3
    assert fold_N[10] == fold_N[3]
    assert fold_N[60] == fold_N[52]
    assert fold_N[75] == fold_N[4]
    order = rng.permutation(80)
    assert (np.bincount(fold_of_images(labels[order], content[order], 5)) == np.bincount(fold_N)).all()


def test_the_folds_divide_all_images_and_each_has_its_own_mean(packed):
    parts = [folded(packed, number, 4) for number in (1, 2, 3, 4)]
    names = [set(part.split("val").names) for part in parts]
    everything = {*packed.split("train").names, *packed.split("val").names}
    assert set.union(*names) == everything
    assert sum(map(len, names)) == len(everything) == 164
    for part, validation in zip(parts, names, strict=True):
        train = part.split("train")
        assert set(train.names) == everything - validation
        assert part.counts["train"] == len(train) == 164 - len(validation)
        pixels = train.read(np.arange(len(train))).astype(np.float64)
        np.testing.assert_allclose(part.mean_HWC, pixels.mean(0), rtol=1e-5)
        np.testing.assert_allclose(part.rgb_covariance, np.cov(pixels.reshape(-1, 3).T, bias=True), rtol=1e-6)
        np.testing.assert_allclose(part.rgb_mean, pixels.mean((0, 1, 2)), rtol=1e-5)
        hashes = set(part.split("val").content_hashes)
        assert not hashes & set(train.content_hashes)
    assert len({part.fingerprint for part in parts} | {packed.fingerprint}) == 5


@pytest.mark.parametrize("text", ["3", "0/5", "6/5", "1/1", "a/b", "-1/5", "1/5/2"])
def test_a_fold_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="is not a fold; write 2/5 for the second of five"):
        parse_fold(text)
    assert parse_fold("2/5") == (2, 5)


def test_too_many_folds_are_refused(packed):
    with pytest.raises(UserError, match="different images are too few for 100 folds"):
        folded(packed, 1, 100)


# --- What they amount to ---

def repeats(kind, *runs):
    return Repeats(kind, tuple(Repeat(f"{kind} {number}", Path(f"{number}"), 100, images, error, error)
                               for number, (images, error) in enumerate(runs)))


def test_mean_standard_deviation_and_pooled_error():
    folds = repeats("fold", (10, 0.1), (20, 0.2), (10, 0.6))
    assert folds.mean == pytest.approx(0.3)
    assert folds.deviation == pytest.approx(0.2645751)  # of 0.1, 0.2, 0.6: sqrt((0.04 + 0.01 + 0.09) / 2)
    assert folds.pooled == (1 + 4 + 6, 40)
    assert "standard deviation 26.5 points, over 3 folds" in repeats_table(folds)
    assert "best epoch was selected" not in repeats_table(folds), "of one epoch"
    seeds = repeats("seed", (10, 0.1), (10, None), (10, 0.3))
    assert (seeds.mean, seeds.pooled) == (pytest.approx(0.2), None)
    assert seeds.deviation == pytest.approx(0.1414214)
    assert repeats("seed", (10, 0.1), (10, None)).deviation is None


def test_the_pooled_error_names_the_images_that_the_initial_weights_were_trained_on():
    runs = [Repeat(f"fold {number}", Path("x"), 200, 5, 0.4, 0.2, 2, 95, unknown) for number, unknown in (
        (1, ()), (2, ()))]
    assert ("over 10 of 200 images, each measured once by a network that was not trained on it (the weights of --init "
            "were trained on the other 190): 40.0%") in repeats_table(Repeats("fold", tuple(runs)))
    runs = [Repeat("fold 1", Path("x"), 5, 5, 0.4, 0.2, 2, 0, ("torchvision's weights",))] * 2
    assert ("over all 10 images, each measured once by a run that did not train on it (it is not known which images "
            "torchvision's weights were trained on): 40.0%") in repeats_table(Repeats("fold", tuple(runs)))


@pytest.mark.slow
def test_folds_leave_out_the_validation_images_that_the_initial_weights_were_trained_on(
    class_folders, trained, tmp_path, capsys,
):
    """`trained` has seen the 120 training images; the 44 others alone can be measured."""
    out = tmp_path / "runs"
    assert alexnet("train", class_folders, "--init", trained, "--head", "--folds", 2, "--out", out) == 0
    printed = capsys.readouterr()
    assert "over 44 of 164 images, each measured once by a network that was not trained on it (the weights of " \
           "--init were trained on the other 120): " in printed.out
    left_out = re.findall(r"on (\d+) of the (\d+) validation images, which are left out", " ".join(printed.err.split()))
    assert [sum(map(int, counts)) for counts in zip(*left_out, strict=True)] == [120, 164]
    counts = [json.loads((out / name / "config.json").read_text())["data"] for name in ("fold-1", "fold-2")]
    assert sum(data["images"]["val"] for data in counts) == 44
    assert sum(data["left_out"] for data in counts) == 120
    seen = [checkpoint.load(out / name).seen for name in ("fold-1", "fold-2")]
    assert [len(each.trained) for each in seen] == [120 + 44 - data["images"]["val"] for data in counts]
    assert alexnet("train", class_folders, "--init", trained, "--head", "--folds", 2, "--out", out, "--resume") == 0
    assert capsys.readouterr().out == printed.out


def test_the_command_of_one_run_is_made_from_that_of_all():
    about = {"command": "alexnet train 'MY PHOTOS' --seeds 3 --seed=5 --arch small --out=runs/x --json", "title": "t"}
    assert single_run(about, {"seed": 6, "out": "runs/x/seed-6"}) == {
        "command": "alexnet train 'MY PHOTOS' --arch small --seed 6 --out runs/x/seed-6", "title": "t"}
    assert single_run(None, {"seed": 6}) == {}


# --- The command ---

@pytest.mark.slow
def test_seeds_train_runs_that_differ_and_resume_keeps_the_finished_ones(class_folders, tmp_path, capsys):
    out = tmp_path / "runs"
    command = ["train", class_folders, *SMALL, "--epochs", 1, "--seeds", 2, "--seed", 5, "--out", out]
    assert alexnet(*command) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[1].split()[:4] == ["seed", "5", "120", "44"]
    assert lines[2].split()[:4] == ["seed", "6", "120", "44"]
    assert lines[0].split() == ["run", "training", "validation", "top-1", "error"]
    assert lines[3].startswith("top-1 error: mean ")
    seeds = [json.loads((out / f"seed-{seed}" / "config.json").read_text())["seed"] for seed in (5, 6)]
    assert seeds == [5, 6]
    before = (out / "seed-5" / "last" / "checkpoint.json").read_bytes()
    assert alexnet(*command) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert alexnet(*command, "--resume", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in result["runs"]] == ["seed 5", "seed 6"]
    assert result["pooled"] is None
    assert (out / "seed-5" / "last" / "checkpoint.json").read_bytes() == before


@pytest.mark.slow
def test_folds_validate_each_image_once_and_reports_show_the_folds_images(class_folders, tmp_path, capsys):
    out = tmp_path / "runs"
    assert alexnet("train", class_folders, *SMALL, "--epochs", 1, "--folds", 2, "--out", out) == 0
    printed = capsys.readouterr()
    found = re.search(r"fold 1 of 2: (\d+) training and (\d+) validation images; each class is dealt out by the "
                      "images' content, look-alikes into one fold", printed.err)
    assert found, printed.err
    training, validation = map(int, found.groups())
    assert (training + validation, abs(training - validation) < 10) == (164, True)
    assert "over all 164 images, each measured once by a network that was not trained on it: " in printed.out
    config = json.loads((out / "fold-2" / "config.json").read_text())
    assert config["data"]["fold"] == [2, 2]
    data = packed_data(out / "fold-2")
    assert data.fingerprint == config["data"]["fingerprint"]
    assert set(data.split("val").names) == set(packed_data(out / "fold-1").split("train").names)
    again = tmp_path / "again"
    assert alexnet("train", class_folders, *SMALL, "--epochs", 1, "--fold", "2/2", "--out", again) == 0
    alike = [json.loads((run / "last" / "checkpoint.json").read_text())["files"] for run in (out / "fold-2", again)]
    assert alike[0] == alike[1]


@pytest.mark.parametrize(("options", "words"), [
    (["--seeds", 1], "--seeds 1 must be at least 2"), (["--folds", 0], "--folds 0 must be at least 2"),
    (["--seeds", 2, "--folds", 2], "give one of them"),
    (["--folds", 2, "--fold", "1/2"], "--fold is one run of --folds"),
    (["--json"], "--json has no effect without --seeds or --folds"), (["--fold", "3/2"], "--fold 3/2 is not a fold"),
])
def test_impossible_repetitions_are_refused(class_folders, tmp_path, capsys, options, words):
    assert alexnet("train", class_folders, *SMALL, *options, "--out", tmp_path / "runs") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
