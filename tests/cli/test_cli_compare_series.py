"""`alexnet compare RUNS --with RUNS`: two series of seeds, paired where they can be, and refused where they cannot."""

import json
import shutil

import pytest
from PIL import Image
from scipy import stats

from command_line import SMALL, alexnet


@pytest.fixture(scope="module")
def series(class_folders, tmp_path_factory):
    """Two folders that `train --seeds 3` wrote: at the recipe's learning rate, and at a tiny one."""
    folder = tmp_path_factory.mktemp("series")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        for name, options in (("a", ()), ("b", ("--lr", 0.0001))):
            assert alexnet("train", class_folders, *SMALL, "--epochs", 2, *options, "--seeds", 3,
                           "--out", folder / name) == 0
    return folder


def errors_of(found):
    """Top-1 errors by series, in the order of the runs."""
    errors = [each["top1_error"] for each in found["runs"]]
    return errors[:3], errors[3:]


def test_series_of_the_same_seeds_are_paired_and_tested_as_scipy_does(series, class_folders, capsys):
    a, b = series / "a", series / "b"
    assert alexnet("compare", *(a / f"seed-{seed}" for seed in (0, 1, 2)), "--with",
                   *(b / f"seed-{seed}" for seed in (2, 0, 1)), class_folders, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["seed"] for each in found["runs"]] == [0, 1, 2, 2, 0, 1]
    first, (two, zero, one) = errors_of(found)
    expected = stats.ttest_rel(first, [zero, one, two])
    low, high = expected.confidence_interval(0.95)
    test = found["test"]
    assert (test["method"], test["unpaired_because"]) == ("paired t test", None)
    assert test["p_value"] == pytest.approx(expected.pvalue)
    assert test["interval"] == pytest.approx([low, high])
    assert test["difference"] == pytest.approx(sum(first) / 3 - (two + zero + one) / 3)
    assert test["difference"] < 0  # hardly anything is learned at the tiny rate
    assert found["measured"]["images"] == 44
    assert found["series"][0]["top1_error"] == pytest.approx(sum(first) / 3)
    assert found["series"][0]["top1_deviation"] == pytest.approx(stats.tstd(first))
    settings = {row["name"]: row["values"] for row in found["settings"]}
    assert settings["recipe.learning_rate"][1] == 0.0001
    assert not {"seed", "step"} & {*settings}


def test_a_folder_of_train_seeds_stands_for_its_runs_and_the_text_says_how_it_tested(series, capsys):
    assert alexnet("compare", series / "a", "--with", series / "b") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "A is better than B, by" in printed or "A has" in printed
    assert "paired t test: p = " in printed
    assert "The runs are paired by seed (3 pairs): same seed, same validation images." in printed
    assert "usually finds only differences of" in printed or "train more seeds" in printed
    assert "standard deviation" in printed
    assert "measured: all 44 images" in printed


def test_a_series_has_the_errors_of_the_last_epoch_as_train_seeds_printed_them(series, class_folders, capsys):
    """The log's error after the last epoch, which is not the lowest in every run."""
    logged = {}
    for name in ("a", "b"):
        for seed in range(3):
            lines = (series / name / f"seed-{seed}" / "log.jsonl").read_text().splitlines()
            epochs = [event for event in map(json.loads, lines) if event["event"] == "epoch"]
            logged[f"{series}/{name}/seed-{seed}"] = [event["val_top1_error"] for event in epochs]
    assert alexnet("compare", series / "a", "--with", series / "b", class_folders, "--json") == 0
    found = json.loads(capsys.readouterr().out)["runs"]
    assert [each["epoch"] for each in found] == [2] * 6
    assert {each["run"]: each["top1_error"] for each in found} == pytest.approx({
        name: errors[-1] for name, errors in logged.items()})
    assert alexnet("compare", series / "a", "--with", series / "b", class_folders) == 0
    assert "errors are those of the last epoch (RUN/last)" in capsys.readouterr().out
    best = [f"{series}/{name}/seed-{seed}/best" for name in ("a", "b") for seed in range(3)]
    assert alexnet("compare", *best[:3], "--with", *best[3:], class_folders, "--json") == 0
    found = json.loads(capsys.readouterr().out)["runs"]
    assert [each["top1_error"] for each in found] == pytest.approx([min(errors) for errors in logged.values()])


def test_two_runs_have_the_errors_of_the_best_epoch_and_the_text_says_so(series, class_folders, capsys):
    assert alexnet("compare", series / "a/seed-0", series / "b/seed-0", class_folders) == 0
    assert "errors are those of the best epoch (RUN/best), which the validation images chose" in capsys.readouterr().out
    assert alexnet("compare", series / "a/seed-0", series / "b/seed-0/last", class_folders) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"errors are of different epochs: {series}/a/seed-0: best epoch (RUN/best)" in printed


@pytest.mark.parametrize("words", [("a", "b", "DATA"), ("a", "b"), ("a", "DATA")])
def test_folders_of_seeds_are_pointed_to_with(series, class_folders, words, capsys, monkeypatch):
    monkeypatch.chdir(series)
    assert alexnet("compare", *(class_folders if word == "DATA" else word for word in words)) == 2
    other = "b" if "b" in words else "OTHER-RUNS"
    assert capsys.readouterr().err.splitlines()[-1].endswith(
        f"; or compare two series of runs: alexnet compare a --with {other} [DATA]")


def test_a_run_and_a_folder_of_seeds_are_no_two_series(series, class_folders, capsys, monkeypatch):
    """The remedy named --with, which refuses one run beside several."""
    monkeypatch.chdir(series)
    assert alexnet("compare", "b/seed-0", "a", class_folders) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("name one of them: a/seed-0, a/seed-1, a/seed-2")


def test_runs_of_two_series_one_by_one_are_compared_with_a_note(series, class_folders, capsys, monkeypatch):
    monkeypatch.chdir(series)
    assert alexnet("compare", "a/seed-0", "a/seed-1", "b/seed-0", "b/seed-1", class_folders) == 0
    assert "to compare the two series over their seeds: alexnet compare a --with b [DATA]" in capsys.readouterr().err
    assert alexnet("compare", "a/seed-0", "b/seed-0", class_folders) == 0
    assert "--with" not in capsys.readouterr().err


def test_a_run_that_did_not_come_to_its_end_is_no_member_of_a_series(series, class_folders, tmp_path, capsys):
    shutil.copytree(series / "b", tmp_path / "b")
    log = tmp_path / "b" / "seed-1" / "log.jsonl"
    log.write_text("".join(line for line in log.read_text().splitlines(True) if '"end"' not in line))
    assert alexnet("compare", series / "a", "--with", tmp_path / "b", class_folders) == 2
    assert f"{tmp_path}/b/seed-1 has not finished: it diverged, or was stopped" in " ".join(
        capsys.readouterr().err.split())
    for name in ("best", "last"):
        shutil.rmtree(tmp_path / "b" / "seed-1" / name)
    assert alexnet("compare", series / "a", "--with", tmp_path / "b", class_folders) == 2
    assert f"{tmp_path}/b/seed-1 ended before a checkpoint was saved" in " ".join(capsys.readouterr().err.split())


def test_series_of_other_seeds_are_tested_unpaired_and_said_to_be(series, class_folders, capsys):
    a, b = series / "a", series / "b"
    assert alexnet("compare", a / "seed-0", a / "seed-1", "--with", b, class_folders, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    errors = [each["top1_error"] for each in found["runs"]]
    expected = stats.ttest_ind(errors[:2], errors[2:], equal_var=False)
    assert found["test"]["method"] == "Welch's t test"
    assert found["test"]["unpaired_because"] == "the seeds differ: 0, 1 and 0, 1, 2"
    assert found["test"]["p_value"] == pytest.approx(expected.pvalue)
    assert found["test"]["seeds"] == [2, 3]


def test_one_seed_each_falls_back_to_the_test_over_images_and_says_so(series, class_folders, capsys):
    assert alexnet("compare", series / "a/seed-0", "--with", series / "b/seed-0", class_folders) == 0
    printed = capsys.readouterr()
    assert "one run in each series, so there is no spread over seeds" in printed.err
    assert "McNemar's exact test" in " ".join(printed.out.split())


@pytest.mark.parametrize(("words", "problem"), [
    (("a/seed-0", "--with", "b"), "one series has 1 run and the other 3: one run has no spread over seeds"),
    (("--with", "b"), "compare --with needs runs before and after --with"),
    (("a/seed-0", "b/seed-0", "--with", "a/seed-1", "b/seed-1"),
     "the runs of one series differ in recipe.learning_rate"),
    (("a/seed-0", "a/seed-0/best", "--with", "b"), "are the same run"),
    (("a/seed-0", "copy", "--with", "b"), "hold the same weights, so they are not two runs"),
    (("a", "nothing", "--with", "b", "none"), "are not runs, and compare takes one data set")])
def test_series_that_would_mislead_are_refused(series, words, problem, capsys, monkeypatch):
    monkeypatch.chdir(series)
    shutil.copytree("a/seed-0", "copy", dirs_exist_ok=True)
    assert alexnet("compare", *words) == 2
    assert problem in capsys.readouterr().err


def test_images_that_chose_the_best_epoch_of_one_series_only_are_refused(series, class_folders, tmp_path, capsys):
    """The second series is trained on the same training images and validated on the half of the validation images."""
    shutil.copytree(class_folders, tmp_path / "half")
    for kind in (tmp_path / "half" / "val").iterdir():
        for number, path in enumerate(sorted(kind.iterdir())):
            if number % 2:
                path.unlink()
    assert alexnet("train", tmp_path / "half", *SMALL, "--epochs", 2, "--seeds", 2, "--out", tmp_path / "c") == 0
    capsys.readouterr()
    a = series / "a"
    assert alexnet("compare", a / "seed-0/best", a / "seed-1/best", "--with", tmp_path / "c/seed-0/best",
                   tmp_path / "c/seed-1/best", class_folders) == 2
    assert "44 of the measured images chose the best epoch of" in capsys.readouterr().err
    # They chose no last epoch, which a series is judged by unless another is named.
    assert alexnet("compare", a / "seed-0", a / "seed-1", "--with", tmp_path / "c", class_folders) == 0
    assert "were validated on different images in training" in " ".join(capsys.readouterr().out.split())
    # A pair of runs is compared, with a note.
    assert alexnet("compare", a / "seed-0", tmp_path / "c/seed-0", class_folders) == 0
    assert "which favors the former" in capsys.readouterr().err
    # On images that chose nothing, the series are compared, and not as pairs.
    shutil.copytree(class_folders / "val", tmp_path / "data/test")
    shutil.copytree(class_folders / "val", tmp_path / "data/val")
    shutil.copytree(class_folders / "train", tmp_path / "data/train")
    for path in (tmp_path / "data/test").rglob("*.*"):
        Image.open(path).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(path)
    assert alexnet("compare", a / "seed-0", a / "seed-1", "--with", tmp_path / "c", tmp_path / "data", "--split",
                   "test", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert "were validated on different images in training" in found["test"]["unpaired_because"]
