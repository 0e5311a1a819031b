"""The examples run, and their results are what their text says."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def example(name):
    """An example's `main`."""
    return runpy.run_path(str(EXAMPLES / name))["main"]


def test_an_image_becomes_55x55_by_hand_as_in_the_networks_layers(capsys):
    assert example("from_image_to_55.py")() < 1e-3  # of values up to 72
    printed = capsys.readouterr().out
    assert "(224 - 11) / 4 + 1 = 54.25" in printed
    assert "(96, 55, 55), 48x55x55 on each of the two GPUs" in printed
    assert "pool1: (96, 27, 27)" in printed
    page = (EXAMPLES.parent / "docs" / "learn" / "sizes.md").read_text(encoding="utf-8")
    shown = page.split("\n## By hand")[1].split("```\n")[1].splitlines()
    assert len(shown) > 5
    assert [line for line in shown if line != "..." and line not in printed.splitlines()] == []


@pytest.mark.slow
def test_gradients_vanish_in_sigmoids_and_not_in_relus(capsys, monkeypatch):
    main = example("why_relu.py")
    from alexnet.data.sources import embedded

    small = embedded.open_embedded(train=60, test=5)
    monkeypatch.setattr("alexnet.data.sources.detect.open_embedded", lambda *_, **__: small)
    reports = main(steps=20)
    ratio = {name: report.gradient_ratio for name, report in reports.items()}
    assert ratio["sigmoid"] < 0.01 < ratio["relu"]
    assert ratio["sigmoid"] < 0.3 * ratio["sigmoid, batch norm"]  # each with weights by the sigmoid's own gain
    assert reports["relu"].after.loss < reports["sigmoid"].after.loss
    assert reports["tanh, raw pixels"].before.units[0].saturated > 3 * reports["tanh"].before.units[0].saturated
    assert "0.25^7 = 6e-05" in capsys.readouterr().out


@pytest.mark.slow
def test_transfer_learning_on_ones_own_images(class_folders, tmp_path, monkeypatch, capsys):
    main = example("your_own_images.py")
    from alexnet.models import checkpoint
    from weight_files import saved_as

    checkpoint.save(saved_as("small", "conv.width=16", "input.side=32", "input.crop=28"), tmp_path / "start")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    errors = main(str(class_folders), str(tmp_path / "start"), epochs=3)
    assert set(errors) == {"from scratch", "all layers fine-tuned", "convolutions frozen"}
    assert all(one.images == 44 for one in errors.values())
    assert min(one.top1_error for one in errors.values()) < 0.5  # chance is 0.75
    printed = capsys.readouterr().out
    assert "holds train/: 4 classes (ash 30, birch 30, cedar 30, date palm 30)" in printed
    assert "Best: " in printed


def test_the_training_loop_learns(class_folders, capsys):
    main = example("training_by_hand.py")
    assert main(str(class_folders), epochs=6) < 0.5  # chance is 0.75
    assert "epoch 6: top-1 error" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "mistakes"), [
    ("from_image_to_55.py", ["nowhere.jpg"]), ("why_relu.py", ["abc"]), ("training_by_hand.py", []),
    ("training_by_hand.py", ["nowhere"]), ("your_own_images.py", []), ("your_own_images.py", ["nowhere"])])
def test_a_mistake_gets_a_usage_line_and_no_traceback(name, mistakes, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [name, *mistakes])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"usage: {name}")


def test_every_example_is_run_here():
    tests = Path(__file__).read_text()
    assert all(f'example("{path.name}")' in tests for path in EXAMPLES.glob("*.py"))
