"""The examples run and do what they say."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def story(name):
    return runpy.run_path(str(EXAMPLES / name))["main"]


def test_a_image_becomes_55x55_by_hand_as_the_networks_own_layers_have_it(capsys):
    assert story("from_image_to_55.py")() < 1e-3  # of values up to 72
    told = capsys.readouterr().out
    assert "(224 - 11) / 4 + 1 = 54.25" in told
    assert "(96, 55, 55), of which each of two GPUs has 48x55x55" in told
    assert "pool1: (96, 27, 27)" in told


@pytest.mark.slow
def test_the_gradient_dies_in_sigmoids_and_lives_in_relus(capsys, monkeypatch):
    main = story("why_relu.py")
    from alexnet.data.sources import embedded

    small = embedded.open_embedded(train=60, test=5)
    monkeypatch.setattr("alexnet.data.sources.detect.open_embedded", lambda *_, **__: small)
    looks = main(steps=20)
    passed = {unit: before.weights[0].gradient / before.weights[-1].gradient for unit, (before, _) in looks.items()}
    assert passed["sigmoid"] < 0.01 < passed["relu"]
    assert passed["sigmoid"] < 0.1 * passed["sigmoid, batch norm"]
    assert looks["relu"][1].loss < looks["sigmoid"][1].loss
    assert looks["tanh, raw pixels"][0].units[0].saturated > 3 * looks["tanh"][0].units[0].saturated
    assert "0.25^8 = 2e-05" in capsys.readouterr().out


def test_your_own_images_begin_from_a_trained_network(class_folders, tmp_path, monkeypatch, capsys):
    main = story("your_own_images.py")
    from alexnet.models import checkpoint
    from weight_files import saved_as

    checkpoint.save(saved_as("small", "conv.width=16", "input.side=32", "input.crop=28"), tmp_path / "start")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    errors = main(str(class_folders), str(tmp_path / "start"), epochs=3)
    assert set(errors) == {"from nothing", "all layers tuned", "convolutions frozen"}
    assert all(one.images == 44 for one in errors.values())
    assert min(one.top1_error for one in errors.values()) < 0.5  # chance is 0.75
    told = capsys.readouterr().out
    assert "120 images of 4 classes to learn from, 44 to be measured on." in told
    assert "Best: " in told


def test_training_by_hand_learns(class_folders, capsys):
    main = story("training_by_hand.py")
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
    assert all(f'story("{path.name}")' in tests for path in EXAMPLES.glob("*.py"))
