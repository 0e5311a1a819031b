"""`alexnet compare`: differing settings, and McNemar's test on images that no run has seen."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from alexnet.cli.render_metrics import comparison_table, paired_test_text
from alexnet.inference.comparison import paired_tests
from alexnet.inference.metrics import Errors
from alexnet.models.checkpoint_files import JSON_FILE
from alexnet.reproduce.run_settings import DifferingSetting
from command_line import SMALL, alexnet
from sample_images import draw


@pytest.fixture(scope="module")
def other(class_folders, tmp_path_factory):
    """A run of one epoch with another seed and learning rate."""
    folder = tmp_path_factory.mktemp("other")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert alexnet("train", class_folders, *SMALL, "--epochs", 1, "--seed", 7, "--lr", 0.0001,
                       "--out", folder / "run") == 0
    return folder / "run"


def test_compare_tests_the_pair_on_the_same_images(run, other, class_folders, capsys):
    assert alexnet("compare", run, other, class_folders, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["run"] for each in found["runs"]] == [str(run), str(other)]
    settings = {row["name"]: row["values"] for row in found["settings"]}
    assert settings["seed"] == [0, 7]
    assert settings["recipe.learning_rate"][1] == 0.0001
    assert settings["recipe.epochs"] == [6, 1]
    assert not any(name.startswith(("arch.", "data.")) for name in settings)
    (test,) = found["tests"]
    errors = [each["top1_error"] for each in found["runs"]]
    assert test["images"] == found["measured"]["images"] == 44
    assert test["difference"] == pytest.approx(errors[0] - errors[1])
    assert test["only_first_right"] - test["only_second_right"] == pytest.approx(44 * (errors[1] - errors[0]))
    assert errors[0] < 0.2 < 0.5 < errors[1]  # six epochs against one at a tiny rate
    assert test["significant"]
    for each, name in zip(errors, (run, other), strict=True):
        assert alexnet("evaluate", name, class_folders, "--json") == 0
        assert json.loads(capsys.readouterr().out)["top1_error"] == each


def test_compare_says_in_words_what_the_test_says(run, other, class_folders, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "copy")
    assert alexnet("compare", run, copy, other, class_folders) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{run} is better than {other}, by" in printed
    assert "after Holm's correction for 3 tests" in printed
    assert f"{run} and {copy} are right about the same images." in printed
    assert "measured: all 44 images, none of these files seen in training" in printed
    assert "usually finds only" not in printed  # a difference is shown, or there is none


def test_of_many_differing_settings_the_first_of_each_kind_are_shown_and_all_on_demand(monkeypatch, capsys):
    """Two networks of 47 and recipes of 15 differing settings, of which eight each are shown, at 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    settings = [*(DifferingSetting(f"arch.{number}", ("x" * 90, None)) for number in range(47)),
                *(DifferingSetting(f"recipe.{number}", (number, 0.5)) for number in range(15)),
                DifferingSetting("seed", (0, 1)), DifferingSetting("data.side", (64, 32))]
    for all_settings, rows in ((False, 8 + 8 + 2), (True, 64)):
        Console().print(comparison_table(["runs/one", "runs/other"], settings, [Errors(6, 6.0, 3, 0)] * 2, [], 3,
                                         all_settings))
        printed = capsys.readouterr().out
        assert sum(line.startswith(("arch.", "recipe.", "seed", "data.")) for line in printed.splitlines()) == rows
        assert ("Not shown: 46 settings more" in " ".join(printed.split())) == (not all_settings)
        assert ("and 39 more" in printed, "and 7 more" in printed) == (not all_settings, not all_settings)
        assert max(map(len, printed.splitlines())) <= 80


def test_a_checkpoint_is_not_compared_with_itself(run, class_folders, capsys):
    assert alexnet("compare", run, run / "best", class_folders) == 2
    assert f"{run} and {run / 'best'} are the same checkpoint" in capsys.readouterr().err


def edited(run, folder, change):
    """A copy of a run whose checkpoints record something else of their training."""
    shutil.copytree(run, folder)
    for part in ("best", "last"):
        json_file = folder / part / JSON_FILE
        tree = json.loads(json_file.read_text(encoding="utf-8"))
        change(tree)
        del tree["sha256"]
        digest = hashlib.sha256(json.dumps(tree, indent=1).encode()).hexdigest()
        json_file.write_text(json.dumps({**tree, "sha256": digest}, indent=1), encoding="utf-8")
    return folder


def test_explain_lists_start_transform_data_and_seed_in_which_two_runs_differ(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "250")
    init = {"arch": "small", "classes": 10, "sha256": "0123456789abcdef", "taken": [], "drawn": []}
    tuned = edited(run, tmp_path / "tuned", lambda tree: (
        tree["provenance"].update(init=init), tree["training"].update(transform="mine.blur", data="fedcba9876543210")))
    assert alexnet("explain", run, "--diff", tuned) == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    assert "small and small" not in printed
    assert str(tuned) in printed
    assert ["start", "random", "weights", "weights", "of", "small,", "SHA-256", "0123456789ab"] in [
        row[-8:] for row in rows]
    assert ["transform", "none", "mine.blur"] in rows
    assert ["data", "fedcba987654"] in [[row[0], row[-1]] for row in rows if row]
    assert alexnet("explain", run, "--diff", tuned, "--json") == 0
    found = json.loads(capsys.readouterr().out)["differences"]
    assert [(each["where"], each["what"]) for each in found] == [
        ("training", what) for what in ("start", "transform", "data")]


def test_explain_says_what_it_compared_of_two_equal_networks(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "250")
    copy = shutil.copytree(run, tmp_path / "copy")
    assert alexnet("explain", run, "--diff", copy) == 0
    assert f"{run} and {copy} have the same network and recipe; start, seed, transform and data of training were " in (
        " ".join(capsys.readouterr().out.split()))
    assert alexnet("explain", "small", "--diff", "small") == 0
    assert "only these were compared" in " ".join(capsys.readouterr().out.split())


def test_a_transform_of_one_name_in_two_runs_may_be_other_code(run, tmp_path, class_folders, capsys):
    one, two = (edited(run, tmp_path / name, lambda tree: tree["training"].update(transform="mine.blur"))
                for name in ("one", "two"))
    assert alexnet("compare", one, two, class_folders) == 0
    assert "transform: mine.blur in both; its code is not recorded\n" in capsys.readouterr().out
    assert alexnet("compare", run, two, class_folders) == 0
    assert "its code is not recorded" not in capsys.readouterr().out


def test_a_comparison_on_training_images_says_that_it_is_no_test_of_generalization(run, other, class_folders, capsys):
    assert alexnet("compare", run, other, class_folders, "--split", "train") == 0
    assert "no test of generalization" in " ".join(capsys.readouterr().out.split())
    assert alexnet("compare", run, other, class_folders) == 0
    assert "no test of generalization" not in " ".join(capsys.readouterr().out.split())


# Of 2,000,000 draws of (2 q - 1) d, with SciPy's Beta distributions for 20 against 3 of 200 images: 3.4 to 13.8 points.
@pytest.mark.parametrize("counts", [(20, 3), (3, 20)])
def test_the_interval_has_the_direction_of_the_better_run(counts):
    rights = np.array([[True] * counts[0] + [False] * counts[1] + [True] * 177,
                       [False] * counts[0] + [True] * counts[1] + [True] * 177])
    (test,) = paired_tests(rights)
    (line,) = paired_test_text(test, ("one", "two"), 1)
    better, worse = ("one", "two") if counts[0] > counts[1] else ("two", "one")
    assert line.startswith(f"{better} is better than {worse}, by 8.5 points of top-1 error (95% interval +3.4 to "
                           f"+13.8; only one is right about {counts[0]} images, only two about {counts[1]};")


def test_a_difference_that_may_be_chance_names_the_images_that_it_needs():
    (test,) = paired_tests(np.array([[True] * 6 + [False] * 3 + [True] * 91, [False] * 6 + [True] * 94]))
    verdict, needed = paired_test_text(test, ("one", "two"), 1)
    assert verdict.startswith("one makes 3.0 points fewer errors than two, but that may be chance (95% interval -")
    # (1.959964 sqrt(0.09) + 0.841621 sqrt(0.09 - 0.03^2))^2 / 0.03^2 = 782.5
    assert needed.endswith("points or more; about 783 would be needed for 3.0.")


def test_the_data_is_that_of_the_first_run_by_default(run, capsys):
    assert alexnet("compare", run, run / "last", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measured"]["images"] == 44


@pytest.mark.slow
def test_networks_of_other_sides_are_matched_by_the_images_content(run, tmp_path, capsys):
    rng = np.random.default_rng(3)
    for label, name in enumerate(("ash", "birch", "cedar", "date palm")):
        for split, count in (("train", 6), ("val", 5)):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draw(rng, label, 48)).save(tmp_path / "data" / split / name / f"{number}.png")
    larger = ["--arch", "small", "--set", "arch.input.side=48", "--set", "arch.input.crop=44", "--set",
              "arch.conv.width=16"]
    assert alexnet("train", tmp_path / "data", *larger, "--epochs", 1, "--out", tmp_path / "larger") == 0
    capsys.readouterr()
    assert alexnet("compare", run, tmp_path / "larger", tmp_path / "data", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tests"][0]["images"] == 20
    # The first run's data is named by default: its packed folder has images of one side only, so the source is read.
    assert alexnet("compare", tmp_path / "larger", run, "--json") == 0
    assert json.loads(capsys.readouterr().out)["measured"]["images"] == 20
    # On the training images of one of them: they are left out.
    shutil.copytree(tmp_path / "data" / "train", tmp_path / "seen")
    shutil.copy(tmp_path / "data" / "val" / "ash" / "0.png", tmp_path / "seen" / "ash" / "new.png")
    assert alexnet("compare", run, tmp_path / "larger", tmp_path / "seen", "--json") == 0
    assert json.loads(capsys.readouterr().out)["measured"]["trained_on"] == 24


def test_one_run_and_data_that_is_gone_are_refused(run, tmp_path, capsys):
    assert alexnet("compare", run) == 2
    assert "at least two runs" in capsys.readouterr().err
    alone = shutil.copytree(run / "best", tmp_path / "alone")
    assert alexnet("compare", alone, run) == 2
    assert "name the data after the runs" in capsys.readouterr().err


def test_exported_weights_are_compared_and_not_taken_for_data(run, class_folders, tmp_path, capsys):
    assert alexnet("export", run, tmp_path / "hub") == 0
    capsys.readouterr()
    assert alexnet("compare", run, tmp_path / "hub", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["run"] for each in found["runs"]] == [str(run), str(tmp_path / "hub")]
    assert found["measured"]["unknown"] == []  # the export carries the training images
    assert found["tests"][0]["only_first_right"] == found["tests"][0]["only_second_right"] == 0
