"""`--group` on the command line: check, pack and train draw the same groups, and a run records them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from alexnet.data.packed import open_packed
from command_line import SMALL, alexnet
from image_files import plant
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")

BURST = "{animal}_{n}.png"
HELD_OUT = ("there is no validation split: 8 of 60 images are held out for validation, in whole groups (--group "
            "{animal}_{n}.png): between 12.5% of ash and 15.0% of birch")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """40 images of 8 ashes, of which a tenth is 4, and 20 of 7 birches, three of each but the last."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("groups") / "photos"
    for label, (name, count, size) in enumerate((("ash", 40, 5), ("birch", 20, 3))):
        (root / name).mkdir(parents=True)
        for number in range(count):
            path = root / name / f"{name}{number // size}_{number}.png"
            Image.fromarray(draw(rng, label)).save(path)
    return root


def test_check_and_pack_say_what_is_held_out(photos, tmp_path, capsys):
    assert alexnet("check", photos, "--quick", "--group", BURST) == 0
    assert HELD_OUT in " ".join(capsys.readouterr().out.split())
    assert alexnet("pack", photos, tmp_path / "packed", "--side", 32, "--group", BURST) == 0
    printed = capsys.readouterr()
    assert f"note: {HELD_OUT}\n" in printed.err
    assert "note: --group {animal}_{n}.png: 15 groups of 2 to 5 images (median 5), such as " in printed.err
    assert "52 train, 8 val" in printed.out
    assert alexnet("check", tmp_path / "packed", "--json") == 0
    assert HELD_OUT in json.loads(capsys.readouterr().out)["notes"]


@pytest.mark.parametrize("command", [
    ("map", "--split", "train"), ("top-patches", "--layer", "conv5", "--split", "val", "--unit", 0),
    ("neighbors", "--split", "val", "--reference-set")])
def test_commands_that_show_images_take_the_groups_too(photos, trained, tmp_path, capsys, command):
    """Without it, their validation images were others than those of the run: some of its training images."""
    name, *options = command
    data = [photos / "ash" / "ash0_0.png", *options, photos] if name == "neighbors" else [photos, *options]
    out = tmp_path / ("map.html" if name == "map" else "figure.png")
    assert alexnet(name, trained, *data, "--group", BURST, "--out", out) == 0
    assert "no validation split of its own: 52 are train, 8 " in capsys.readouterr().err  # without it 54 and 6
    assert out.stat().st_size > 1000


def test_a_pattern_that_matches_nothing_ends_with_a_sentence_and_writes_nothing(photos, tmp_path, capsys):
    assert alexnet("train", photos, *SMALL, "--out", tmp_path / "run", "--group", "{animal}-{n}.png") == 2
    assert "matches none of the 60 images" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_records_by_what_its_images_were_divided(photos, tmp_path, capsys):
    run = tmp_path / "run"
    assert alexnet("train", photos, *SMALL, "--epochs", 1, "--out", run, "--group", BURST) == 0
    printed = capsys.readouterr()
    assert f"note: {HELD_OUT}\n" in printed.err
    assert "  95% interval over 2 groups " in printed.out
    assert "  unreliable: 2 groups do not show how much groups differ" in printed.out
    data = json.loads((run / "config.json").read_text())["data"]
    assert data["group"] == open_packed(data["packed"]).manifest.grouped_by == BURST
    assert data["images"] == {"train": 52, "val": 8}
    assert HELD_OUT in json.loads((run / "log.jsonl").read_text().splitlines()[0])["notes"]
    page = (run / "report.html").read_text()
    assert "(95% interval over 2 groups)" in " ".join(page.split())
    assert "The interval is unreliable" in page
    assert HELD_OUT in page
    assert f"alexnet check {photos} --group &#39;{BURST}&#39; --run" in page
    assert alexnet("evaluate", run, photos, "--json") == 0  # with the groups of the run
    measured = json.loads(capsys.readouterr().out)
    assert (measured["images"], measured["groups"]) == (8, 2)
    assert alexnet("train", photos, "--resume", "--epochs", 2, "--out", run) == 0  # with the groups of the run
    assert "resuming after 1 of 2 epochs" in capsys.readouterr().err
    assert alexnet("check", photos, "--group", BURST, "--run", run, "--json") == 0
    assert "fitted to it, or to another image of its group" in json.loads(capsys.readouterr().out)["suspects_method"]
    like = ("--like", run, "--epochs", 1, "--workers", 0)
    not_taken = f"note: {run} was trained with --group '{BURST}', which --like does not copy; add it"
    assert alexnet("train", photos, *like, "--out", tmp_path / "like") == 0
    assert not_taken in capsys.readouterr().err
    assert alexnet("train", photos, *like, "--group", BURST, "--out", tmp_path / "grouped") == 0
    assert "not taken" not in capsys.readouterr().err
    assert alexnet("figure", 4, run, photos, "--out", tmp_path / "figure4.png") == 0  # no neighbor is a held-out image
    assert "52 are train, 8 val" in capsys.readouterr().err
    moved = tmp_path / "moved"
    photos.rename(moved)
    try:
        assert alexnet("report", run, "--data", moved) == 0  # with the groups of the run, too
        assert "is not the data that" not in capsys.readouterr().err
    finally:
        moved.rename(photos)
    other = plant(tmp_path / "other", *(f"{name}/x{number}.jpg" for name in ("ash", "birch") for number in range(9)))
    assert alexnet("report", run, "--data", other) == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert f"the groups of {run} are not used: the pattern of --group '{BURST}' matches none of the 18" in printed
    assert "is not the data that" in printed


@pytest.fixture(scope="module")
def bursts(tmp_path_factory):
    """Twelve groups of ten new images of the run's four classes; half of the groups have wrong labels."""
    root, rng = tmp_path_factory.mktemp("bursts") / "photos", np.random.default_rng(9)
    names = ("ash", "birch", "cedar", "date palm")
    for group in range(12):
        folder = root / names[(group + group % 2) % 4]
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(10):
            Image.fromarray(draw(rng, group % 4)).save(folder / f"burst{group}_{number}.png")
    return root


def test_evaluate_has_intervals_over_groups_and_says_so(run, bursts, capsys):
    group = ("--group", "{burst}_{n}.png")
    assert alexnet("evaluate", run, bursts, "--json", "--per-class") == 0
    alone = json.loads(capsys.readouterr().out)
    assert alexnet("evaluate", run, bursts, "--json", "--per-class", *group) == 0
    grouped = json.loads(capsys.readouterr().out)
    assert (grouped["groups"], grouped["top1_error"]) == (12, alone["top1_error"])
    assert grouped["design_effect"]["top1_error"] > 5
    low, high = alone["interval"]["top1_error"]
    grouped_low, grouped_high = grouped["interval"]["top1_error"]
    assert grouped_low < low < high < grouped_high
    assert grouped_high - grouped_low > 2 * (high - low)
    assert [each["groups"] for each in grouped["per_class"]["classes"]] == [6, 0, 6, 0]
    assert not {"groups", "design_effect"} & alone.keys()
    assert "groups" not in alone["per_class"]["classes"][0]
    assert alexnet("evaluate", run, bursts, "--per-class", *group) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "(95% interval over 12 groups " in printed
    assert "95% intervals (Wilson, over the groups) in percent" in printed
    assert "in fewer than 10 groups, such as ash (6 groups)" in printed
    assert alexnet("evaluate", run, bursts, "--group", "{burst}-{n}.png") == 2
    assert "matches none of the 120 images" in capsys.readouterr().err


def test_compare_tests_whole_groups(run, bursts, capsys):
    arguments = ("compare", run, run / "last", bursts)
    assert alexnet(*arguments, "--group", "{burst}_{n}.png", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert [each["groups"] for each in (*result["runs"], *result["tests"])] == [12, 12, 12]
    assert alexnet(*arguments, "--group", "{burst}_{n}.png") == 0
    assert "95% interval over 12 groups" in capsys.readouterr().out
    assert alexnet(*arguments, "--json") == 0
    assert "groups" not in json.loads(capsys.readouterr().out)["tests"][0]


def test_calibrate_measures_groups_that_did_not_fit(run, bursts, tmp_path, capsys):
    own = shutil.copytree(run, tmp_path / "run")
    assert alexnet("calibrate", own, bursts, "--group", "{burst}_{n}.png") == 0
    printed = capsys.readouterr().out
    assert "fitted on 60 images; " in printed
    assert "other images in 6 groups, none of which fitted it" in printed
    assert "unreliable: 6 groups do not show how much groups differ; measure 10 groups or more" in printed
