"""The `train` command and `alexnet.train`."""

import inspect
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

import alexnet as alexnet_package
from command_line import SMALL, alexnet


def test_a_run_folder_holds_what_scripts_rely_on(run):
    for name in ("best/checkpoint.json", "last/checkpoint.json", "log.jsonl", "config.json", "report.html"):
        assert (run / name).is_file(), name
    config = json.loads((run / "config.json").read_text())
    assert config["arch"]["classes"] == 4
    assert config["data"]["images"] == {"train": 120, "val": 44}


def test_training_on_class_folders_lowers_the_error(run):
    epochs = [event for event in map(json.loads, (run / "log.jsonl").read_text().splitlines())
              if event["event"] == "epoch"]
    assert epochs[-1]["val_top1_error"] < epochs[0]["val_top1_error"]
    assert epochs[-1]["val_top1_error"] < 0.4


def test_a_finished_run_is_resumed_without_repeating_its_options(run, class_folders, capsys):
    assert alexnet("train", class_folders, "--resume", "--out", run, "--epochs", 6) == 0
    printed = capsys.readouterr()
    assert "best top-1 error" in printed.out
    assert "\n  Chance: 75.0% top-1 error; always answering one of the largest classes: 75.0%\n" in (
        printed.out)
    assert f"\n  Classify new images: alexnet predict {run} IMAGES\n" in printed.out
    assert "the run has already trained 6 epochs; give --epochs more than that to train longer" in printed.err


@pytest.mark.slow
def test_a_run_with_a_damaged_checkpoint_is_resumed_from_the_previous_one(run, class_folders, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    json_file = tmp_path / "run" / "last" / "checkpoint.json"
    json_file.write_bytes(json_file.read_bytes()[:-9])
    command = [sys.executable, "-m", "alexnet", "train", str(class_folders), "--resume", "--epochs", "6", "--out",
               str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    previous = json_file.with_name("checkpoint.previous.json")
    assert f"note: {json_file} is damaged; {previous} is used instead" in done.stderr
    assert "UserWarning" not in done.stderr
    assert "resuming after 5 of 6 epochs" in done.stderr
    assert json.loads(json_file.read_text())["training"] == json.loads(
        (run / "last" / "checkpoint.json").read_text())["training"]


def test_images_that_cannot_be_decoded_are_named_when_training_and_in_the_log(class_folders, tmp_path, capsys):
    shutil.copytree(class_folders, tmp_path / "PHOTOS")
    broken = tmp_path / "PHOTOS" / "train" / "ash" / "broken.png"
    broken.write_bytes((tmp_path / "PHOTOS" / "train" / "ash" / "000.png").read_bytes()[:200])
    assert alexnet("train", tmp_path / "PHOTOS", *SMALL, "--epochs", 1, "--out", tmp_path / "run") == 0
    assert "1 image could not be decoded and is left out: train/ash/broken.png" in capsys.readouterr().err
    events = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    (warning,) = [event for event in events if event["event"] == "warning" and event["kind"] == "images_left_out"]
    assert "train/ash/broken.png" in warning["problem"]


@pytest.mark.parametrize("place", ["", "runs/mine", "train/run"])
def test_a_run_folder_inside_the_images_is_refused_before_anything_is_written(class_folders, tmp_path, capsys, place):
    shutil.copytree(class_folders, tmp_path / "PHOTOS")
    assert alexnet("train", tmp_path / "PHOTOS", *SMALL, "--out", tmp_path / "PHOTOS" / place) == 2
    assert "is inside the data" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "PHOTOS").iterdir()} == {"train", "val"}


def test_ctrl_c_leaves_a_checkpoint_and_exit_code_130(class_folders, tmp_path):
    import signal

    out = tmp_path / "run"
    command = ["train", str(class_folders), *SMALL, "--epochs", "500", "--out", str(out)]
    process = subprocess.Popen([sys.executable, "-m", "alexnet", *command], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)})
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (out / "log.jsonl").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in printed
    assert "Traceback" not in printed
    assert (out / "last" / "checkpoint.json").is_file()


def test_short_options_set_the_fields_of_the_recipe(class_folders, tmp_path):
    small = [word for word in SMALL if word != "recipe.batch_size=16"][:-1]
    assert alexnet("train", class_folders, *small, "--epochs", 1, "--lr", 0.02, "--batch-size", 8, "--weight-decay", 0,
                   "--out", tmp_path / "run") == 0
    recipe = json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]
    assert {name: recipe[name] for name in ("epochs", "learning_rate", "batch_size", "weight_decay")} == {
        "epochs": 1, "learning_rate": 0.02, "batch_size": 8, "weight_decay": 0.0}


def test_every_option_of_the_command_is_an_argument_of_alexnet_train():
    from dataclasses import fields

    from alexnet.cli import train as command

    groups = (command.NetworkOptions, command.RunOptions, command.FineTuneOptions, command.DeviceOptions,
              command.ParallelOptions)
    options = {field.name: field.default for group in groups for field in fields(group)}
    for name in ("labels", "group"):  # in no group of options
        options[name] = inspect.signature(command.train).parameters[name].default
    arguments = inspect.signature(alexnet_package.train).parameters
    assert options.keys() - {"allocator"} == arguments.keys() - {"data", "about", "progress", "transform"}
    assert all(arguments[name].default == default
               for name, default in options.items() if name != "allocator")


def test_alexnet_train_gives_the_model_its_errors_and_its_report(class_folders, run, tmp_path, capsys):
    trained = alexnet_package.train(
        class_folders, arch="small", settings=["arch.input.side=32", "arch.input.crop=28", "arch.conv.width=16"],
        batch_size=16, epochs=6, out=tmp_path / "run", progress=False)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")
    assert trained.path == tmp_path / "run"
    assert trained.report.is_file()
    best = json.loads((run / "best" / "checkpoint.json").read_text())["errors"]  # the command with the same options
    assert trained.metrics.top1_error == best["top1_error"]
    assert trained.metrics.loss == pytest.approx(best["loss"], rel=1e-12)
    image = class_folders / "val" / "cedar" / "001.png"
    assert trained.model.predict(image) == alexnet_package.load(run).predict(image)


@pytest.mark.slow
def test_resume_takes_the_seed_of_the_run_and_refuses_another(class_folders, tmp_path, capsys):
    out = tmp_path / "run"
    assert alexnet("train", class_folders, *SMALL, "--epochs", 1, "--seed", 3, "--out", out) == 0
    assert alexnet("train", class_folders, "--resume", "--epochs", 2, "--out", out) == 0
    assert json.loads((out / "last" / "checkpoint.json").read_text())["training"]["seed"] == 3
    capsys.readouterr()
    assert alexnet("train", class_folders, "--resume", "--epochs", 3, "--seed", 4, "--out", out) == 2
    assert "another seed" in capsys.readouterr().err


def test_fewer_epochs_than_were_trained_are_refused(run, class_folders, tmp_path, capsys):
    """They were stored, with "give more than that" and a warning that contradicted it."""
    out = shutil.copytree(run, tmp_path / "run")
    before = (out / "config.json").read_bytes()
    assert alexnet("train", class_folders, "--resume", "--out", out, "--epochs", 2) == 2
    assert capsys.readouterr().err.endswith(
        f"alexnet: {out} has trained 6 epochs already, more than --epochs 2; leave out --epochs, give more to train "
        "longer, or choose another --out to train less\n")
    assert (out / "config.json").read_bytes() == before
