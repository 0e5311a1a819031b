"""Prediction without torch: the same probabilities as with it, on real photos, for every kind of file that it takes."""

import csv
import io
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import alexnet
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import ARCHS
from alexnet.data import images
from alexnet.data.class_names import unknown_names
from alexnet.data.numpy_preprocessing import center_views
from alexnet.data.sources.embedded import PHOTOGRAPHS
from alexnet.errors import UserError
from alexnet.inference import quick_start
from alexnet.inference.quick_start import load_quickly
from alexnet.models import checkpoint, packaged
from alexnet.models.formats.export import export
from alexnet.models.formats.huggingface import write_huggingface
from command_line import alexnet as command
from weight_files import narrow

pytestmark = pytest.mark.usefixtures("one_thread")

PHOTOS = sorted(path for path in PHOTOGRAPHS.iterdir() if path.suffix in (".jpg", ".png"))
CALIBRATION = {"temperature": 0.6, "fitted_images": 20, "measured_images": 20, "ece_before": 0.1, "ece_after": 0.01}


@cache
def decoded() -> list[np.ndarray]:
    return [images.read(photo) for photo in PHOTOS]


def assert_same_predictions(path: str | Path) -> None:
    """Of all photos of the package: probabilities to 1e-4, the same five classes, the same notes and "not sure"."""
    quick, model = load_quickly(str(path)), alexnet.load(path)
    assert quick is not None
    assert (quick.classes, quick.side, quick.notes) == (model.classes, model.side, model.notes)
    pixels_NHWC = np.stack([model.pixels(photo) for photo in decoded()])
    assert np.array_equal(pixels_NHWC[:2], np.stack([quick.pixels(photo) for photo in PHOTOS[:2]]))
    ours, theirs = quick.probabilities(pixels_NHWC), model.probabilities(pixels_NHWC)
    assert ours.dtype == theirs.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    assert theirs.max() > 1.5 / len(model.classes)  # the network tells the classes apart
    for one, other in zip(quick.predict(decoded()), model.predict(decoded()), strict=True):
        assert [guess.name for guess in one] == [guess.name for guess in other]
    assert [quick.is_sure(p) for p in (0.4999, 0.5)] == [model.is_sure(p) for p in (0.4999, 0.5)]


def trained(name: str, *settings: str, **fields: object) -> checkpoint.Checkpoint:
    """A network whose outputs are far apart, so that a difference would show."""
    return replace(narrow(name, "initialization=kaiming", "output_init_std=0.3", *settings), **fields)


# --- Same answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pretrained", "tiny-imagenet-200", packaged.default_weights()])
def test_the_packaged_network_on_real_photos(name):
    assert len(PHOTOS) == 14
    assert_same_predictions(name)


def test_the_packaged_network_gives_the_probabilities_in_its_json_file():
    tree = packaged.read_packaged_json(packaged.default_weights())
    quick = load_quickly("pretrained")
    measured = {probe["image"]: probe["classes"] for probe in tree["probe"]}
    for photo in ("chelsea.png", "coffee.png", "rocket.jpg"):
        [guesses] = quick.predict(PHOTOGRAPHS / photo)
        assert [guess.name for guess in guesses] == [name for name, _ in measured[photo]]
        np.testing.assert_allclose([guess.probability for guess in guesses], [p for _, p in measured[photo]], atol=1e-4)


@pytest.mark.parametrize("storage", ["fp16", "int8"])
def test_packaged_networks_of_both_storages(storage, tmp_path):
    from alexnet.models.formats.packaged_weights import write_packaged

    json_file = write_packaged(trained("small"), tmp_path, "other", {}, "", storage=storage)
    assert_same_predictions(json_file)


@pytest.mark.parametrize("name", ARCHS)
def test_every_preset_as_a_checkpoint(name, tmp_path):
    checkpoint.save(trained(name, calibration=CALIBRATION), tmp_path / "run" / "best")
    assert_same_predictions(tmp_path / "run")
    assert_same_predictions(tmp_path / "run" / "best")


@pytest.mark.parametrize("settings", [
    ("input.channels=BGR", "input.scale=58,57,40"), ("input.mean=pixel", "input.mean_crop=center"),
    ("state_keys=torchvision",)])
def test_preprocessing_and_keys_of_every_kind(settings, tmp_path):
    checkpoint.save(trained("small", *settings), tmp_path)
    assert_same_predictions(tmp_path)


def test_names_that_are_unknown_are_told(tmp_path):
    saved = trained("small")
    checkpoint.save(replace(saved, classes=unknown_names(7), class_names_known=False), tmp_path)
    assert_same_predictions(tmp_path)
    assert load_quickly(str(tmp_path)).notes[0].startswith("the weights have no class names")


@pytest.mark.parametrize("from_pixels", [False, True])
def test_onnx_files(tmp_path, from_pixels):
    export(trained("medium", calibration=CALIBRATION), tmp_path / "net.onnx", "onnx", from_pixels=from_pixels)
    assert_same_predictions(tmp_path / "net.onnx")


def test_center_views_by_hand():
    """A stored square of 4 with crop 2 keeps rows and columns 1 and 2; BGR puts blue, (9 - 1) / 2, first."""
    spec = replace(ARCHS["small"].input, side=4, crop=2, mean="channel", scale=(1.0, 4.0, 2.0), channels="BGR")
    pixels_NHWC = np.zeros((1, 4, 4, 3), np.uint8)
    pixels_NHWC[0, 1, 2] = 5, 7, 9
    views = center_views(pixels_NHWC, spec, np.array([[[1, 3, 1]]], np.float32))
    assert views.shape == (1, 3, 2, 2)
    assert views[0, :, 0, 1].tolist() == [4, 1, 4]
    assert views[0, :, 1, 0].tolist() == [-0.5, -0.75, -1]


# --- What torch must do -----------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path) -> Path:
    checkpoint.save(trained("small"), tmp_path / "run" / "best")
    return tmp_path / "run"


def test_many_images_go_to_torch(run, monkeypatch, capsys):
    least = explain(checkpoint.load(run).arch).multiply_adds
    assert load_quickly(str(run)).most_images == 50e9 / least
    assert round(load_quickly("pretrained").most_images) == 207  # of 242 million multiply-adds each
    with monkeypatch.context() as patch:
        patch.setattr(quick_start, "MOST_MULTIPLY_ADDS", 2 * least)
        patch.setattr("alexnet.inference.predictor.load_model", lambda *arguments: pytest.fail("torch was asked"))
        assert command("predict", run, *PHOTOS[:2]) == 0
        with pytest.raises(pytest.fail.Exception, match="torch was asked"):
            command("predict", run, *PHOTOS[:3])


def test_damaged_checkpoints_go_to_torch_which_has_the_error_or_the_warning(run):
    weights = next((run / "best").glob("weights*"))
    weights.write_bytes(weights.read_bytes()[:-1])
    assert load_quickly(str(run)) is None
    (run / "best" / "checkpoint.json").write_text("{}")
    assert load_quickly(str(run)) is None


def test_a_run_without_best_goes_to_torch_which_warns(run):
    (run / "best").rename(run / "last")
    assert load_quickly(str(run)) is None


def test_weights_of_other_formats_go_to_torch(tmp_path):
    saved = trained("small")
    write_huggingface(saved, tmp_path / "hub")
    torch.save(saved.weights, tmp_path / "net.pth")
    for path in (tmp_path / "hub", tmp_path / "net.pth", "torchvision", "hf://somebody/net", tmp_path / "nothing", ""):
        assert load_quickly(str(path)) is None


def test_onnx_files_of_others_and_damaged_ones_go_to_torch(tmp_path, monkeypatch):
    import onnx

    path = tmp_path / "net.onnx"
    export(trained("small"), path, "onnx")
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    (tmp_path / "half.onnx").write_bytes(path.read_bytes()[:1000])
    assert load_quickly(str(tmp_path / "other.onnx")) is None
    assert load_quickly(str(tmp_path / "half.onnx")) is None
    assert load_quickly(str(path)) is not None
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert load_quickly(str(path)) is None


def test_a_diverged_network_gives_no_warning(tmp_path):
    saved = trained("small")
    saved.weights["features.conv1.weight"].fill_(float("inf"))
    checkpoint.save(saved, tmp_path)
    [guesses] = load_quickly(str(tmp_path)).predict(PHOTOS[0])
    [others] = alexnet.load(tmp_path).predict(PHOTOS[0])
    assert [guess.name for guess in guesses] == [guess.name for guess in others]
    assert all(math.isnan(guess.probability) for guess in (*guesses, *others))


def test_a_folder_comes_before_the_packaged_network_of_that_name(tmp_path, monkeypatch):
    """As in every other command: `alexnet predict pretrained` beside a run in ./pretrained/."""
    checkpoint.save(trained("small"), tmp_path / "pretrained" / "best")
    monkeypatch.chdir(tmp_path)
    assert load_quickly("pretrained").classes == alexnet.load("pretrained").classes == trained("small").classes


def test_a_quantized_file_is_no_checkpoint_here_either(tmp_path):
    import onnx

    export(trained("small"), tmp_path / "net.onnx", "onnx", from_pixels=False)
    model = onnx.load(tmp_path / "net.onnx")
    entry = model.metadata_props.add()
    entry.key, entry.value = "quantized", "int8"
    onnx.save(model, tmp_path / "net.onnx")
    assert load_quickly(str(tmp_path / "net.onnx")) is None
    with pytest.raises(UserError, match="cannot be used as a checkpoint"):
        alexnet.load(tmp_path / "net.onnx")


# --- The command ------------------------------------------------------------------------------------------------------

_CODE = """
import sys
from alexnet.cli.main import main
code = 0
try:
    main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code or 0
assert "torch" not in sys.modules and "matplotlib" not in sys.modules
sys.exit(code)
"""


def predict(*arguments: object) -> tuple[str, str, int]:
    """Standard output and error and the exit code of `alexnet predict` in a process that may not import torch."""
    done = subprocess.run([sys.executable, "-c", _CODE, "predict", *map(str, arguments)],
                          capture_output=True, text=True, check=False)
    return done.stdout, done.stderr, done.returncode


@pytest.fixture
def in_torch(monkeypatch, capsys) -> Callable[..., tuple[str, str, int]]:
    """As `predict`, in this process and with torch."""

    def predict_in_torch(*arguments: object) -> tuple[str, str, int]:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(quick_start, "load_quickly", lambda path: None)
            code = command("predict", *arguments)
        return (*capsys.readouterr(), code)

    return predict_in_torch


def test_the_command_prints_the_same_without_torch(tmp_path, in_torch):
    """Photos in a folder and a broken image, with the packaged network. Only the sixth decimal of CSV may differ."""
    (tmp_path / "broken.png").write_bytes(b"no image")
    folder = shutil.copytree(PHOTOGRAPHS, tmp_path / "photos", ignore=shutil.ignore_patterns("*.md"))
    arguments = (folder, tmp_path / "broken.png", "--device", "cpu", "--top", "3")
    ours, theirs = predict(*arguments), in_torch(*arguments)
    assert ours == theirs
    assert ours[2] == 2
    ours, theirs = (list(csv.DictReader(io.StringIO(run(folder, "--csv")[0]))) for run in (predict, in_torch))
    assert [{**row, "probability": ""} for row in ours] == [{**row, "probability": ""} for row in theirs]
    np.testing.assert_allclose(*([float(row["probability"]) for row in rows] for rows in (ours, theirs)), atol=1e-5)
    ours, theirs = (json.loads(run(folder, "--json")[0]) for run in (predict, in_torch))
    for one, other in zip(ours, theirs, strict=True):
        assert (one["image"], one["sure"]) == (other["image"], other["sure"])
        assert [guess["name"] for guess in one["classes"]] == [guess["name"] for guess in other["classes"]]
        np.testing.assert_allclose([guess["probability"] for guess in one["classes"]],
                                   [guess["probability"] for guess in other["classes"]], atol=1e-5)


def test_the_command_needs_no_torch_for_runs_and_onnx_files(run, in_torch):
    export(checkpoint.load(run), run / "net.onnx", "onnx")
    for network in (run, run / "net.onnx"):
        assert predict(network, PHOTOS[0]) == in_torch(network, PHOTOS[0])


@pytest.mark.parametrize("options", [("--views", "10"), ("--classes", "names.txt"), ("--device", "cuda"), ("--fast",)])
def test_other_options_need_torch(run, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("\n".join("hijklmn"))
    monkeypatch.setattr(quick_start, "load_quickly", lambda path: pytest.fail("NumPy was asked"))
    assert command("predict", run, PHOTOS[0], *options) in (0, 2)  # 2: without CUDA


def test_processes_of_torchrun_share_the_images_in_torch(run, monkeypatch, capsys):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(quick_start, "load_quickly", lambda path: pytest.fail("NumPy was asked"))
    assert command("predict", run, PHOTOS[0]) == 0
    assert str(PHOTOS[0]) in capsys.readouterr().out


def test_a_damaged_run_is_reported_as_with_torch(run, capsys):
    next((run / "best").glob("weights*")).unlink()
    assert command("predict", run, PHOTOS[0]) == 2
    assert "is missing from the checkpoint; use the run's other checkpoint" in capsys.readouterr().err


def test_numpy_keeps_to_the_quota_of_a_container():
    """The quota sets OMP_NUM_THREADS before NumPy is imported, whose matrix products read it then."""
    code = ("import os, sys\n"
            "from alexnet._runtime import cpu_threads\n"
            "cpu_threads._cgroup_cores = lambda folder: 1.0\n"
            "cpu_threads._affinity_cores = lambda: 8\n"
            "from alexnet.cli.main import main\n"
            "assert 'numpy' not in sys.modules\n"
            "try: main(sys.argv[1:])\n"
            "except SystemExit as stop: assert not stop.code\n"
            "assert 'torch' not in sys.modules\n"
            "from threadpoolctl import threadpool_info\n"
            "print({pool['num_threads'] for pool in threadpool_info() if pool['user_api'] == 'blas'}, file=sys.stderr)")
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code, "predict", str(PHOTOS[0])], capture_output=True, text=True,
                          env=environment, check=True)
    assert done.stderr.splitlines()[-1] == "{1}"
