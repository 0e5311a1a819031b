"""benchmarks/augmentations.py: its statistics by hand, and a run that is continued."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.needs("scipy", "pip install '.[test]'")


@pytest.fixture(scope="module")
def augmentations():
    sys.path.insert(0, str(BENCHMARKS))
    import augmentations

    yield augmentations
    sys.path.remove(str(BENCHMARKS))


def run(settings, seed, error):
    return {"settings": settings, "seed": seed, "top1_error": error}


def test_the_table_has_mean_differences_and_paired_intervals(augmentations):
    runs = [run("", 0, 0.30), run("", 1, 0.32), run("", 2, 0.31), run("a=1", 0, 0.29), run("a=1", 1, 0.30),
            run("a=1", 2, 0.28), run("b=1", 0, 0.31), run("b=1", 1, None), run("b=1", 2, None)]
    # a: -1, -2 and -3 points; mean -2, deviation 1; t(0.975, 2) = 4.3027, so 4.3027 / sqrt(3) = 2.48 to both sides.
    assert augmentations.table(runs, ["a=1", "b=1", "c=1"]).splitlines() == [
        "plain: 31.00% mean top-1 error over 3 seeds",
        "a=1: -2.00 points, 95% -4.48 to +0.48, 3 seeds",
        "b=1: +1.00 points, one seed, so no interval",
        "c=1: no pair of runs ended",
        "diverged, and left out: b=1 (seed 1), b=1 (seed 2)"]


def test_the_default_variants_are_settings_of_the_default_recipe(augmentations):
    from alexnet.architecture.network_presets import arch
    from alexnet.architecture.overrides import override
    from alexnet.architecture.recipe_presets import default_recipe

    plain = default_recipe(arch("small"))
    fields = set()
    for settings in augmentations.VARIANTS:
        changed = override(plain, settings.split(), "recipe.")
        assert changed != plain
        fields |= {setting.split("=")[0] for setting in settings.split()}
    assert fields == {"trivial_augment", "erase_probability", "mixup_alpha", "cutmix_alpha", "class_weights",
                      "ema_decay", "clip_norm", "early_stop_epochs"}


@pytest.mark.slow
def test_a_stopped_benchmark_goes_on_and_never_sees_the_validation_images(class_folders, tmp_path):
    runs = tmp_path / "runs.json"

    def ran(seeds):
        done = subprocess.run(
            [sys.executable, BENCHMARKS / "augmentations.py", class_folders, "--runs", runs, "--seeds", str(seeds),
             "--epochs", "1", "--side", "32", "--variant", "mixup_alpha=0.2 erase_probability=0.5"],
            capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout, json.loads(runs.read_text())

    printed, first = ran(1)
    # 30 training images in each of 4 classes; those of val/, 11 in each, are not among them.
    training, validation = map(int, re.search(r"(\d+) training and (\d+) validation images", printed).groups())
    assert (training + validation, 20 <= validation <= 28) == (120, True)
    assert [(run["seed"], run["settings"]) for run in first] == [(0, ""), (0, "mixup_alpha=0.2 erase_probability=0.5")]
    printed, both = ran(2)
    assert both[:2] == first, "finished runs are not trained again"
    assert [run["seed"] for run in both] == [0, 0, 1, 1]
    assert "points, 95% " in printed
    assert printed.splitlines()[-1].endswith("2 seeds")
