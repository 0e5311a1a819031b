"""The command lines of a run: how to train it again, evaluate it and write its report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.overrides import to_json
from alexnet.architecture.recipe_presets import RECIPES
from alexnet.data.class_names import printable
from alexnet.reproduce.report.run_data import RunData
from alexnet.training.events import Config
from alexnet.training.run_folder import group_of

Obstacle = Literal["transform", "interrupted", "no_preset", "subset", "fold", "init"]

DATA = "DATA"
"""Stands in a command line for data whose folder is unknown."""


def training_command(config: Config) -> str | None:
    """The command line that trains the run again: the one that was typed if config.json has it, else an equivalent one.

    None if the network or the recipe is not a preset with settings, or the run has a transform of the user's. Data
    whose folder is unknown is written DATA.
    """
    if typed := config.get("command"):
        return typed if isinstance(typed, str) else shlex.join(typed)
    arch, recipe = config["arch"], config["recipe"]
    if config.get("transform") or arch["name"] not in ARCHS or recipe["name"] not in RECIPES:
        return None
    # The data determines the number of classes, and epochs have an option of their own.
    settings = {f"arch.{path}": value for path, value in _changed(to_json(ARCHS[arch["name"]]), arch).items()}
    settings |= {f"recipe.{path}": value for path, value in _changed(to_json(RECIPES[recipe["name"]]), recipe).items()}
    settings.pop("arch.classes", None)
    epochs = settings.pop("recipe.epochs", None)
    words = ["torchrun", "--nproc-per-node", str(config["processes"]), "-m"] if config.get("processes", 1) > 1 else []
    words += ["alexnet", "train", _data_argument(config), "--arch", arch["name"], "--recipe", recipe["name"]]
    words += ["--group", group] if (group := group_of(config, config["data"]["source"])) else []
    words += ["--epochs", str(epochs)] if epochs else []
    words += ["--init", config["init"]] if "init" in config else []
    words += ["--seed", str(config.get("seed", 0))]
    words += ["--precision", config["precision"]] if config.get("precision", "fp32") != "fp32" else []
    words += ["--parallel", config["parallel"]] if config.get("parallel", "data") != "data" else []
    for path, value in settings.items():
        words += ["--set", f"{path}={value if isinstance(value, str) else json.dumps(value)}"]
    return printable(shlex.join(words))


def obstacles(run: RunData) -> list[Obstacle]:
    """Why no command line trains a run again; none if `training_command`, and then those that resumed it, do."""
    config = run.config
    found: dict[Obstacle, bool] = {
        "transform": "transform" in config,
        "interrupted": any(change.after < change.before for change in run.epoch_changes),
        "no_preset": not training_command(config) and "transform" not in config,
    }
    if not config.get("command"):
        found |= {"subset": "subset" in config["data"], "fold": "fold" in config["data"],
                  "init": "init" in run.checkpoint.provenance and "init" not in config}
    return [name for name, is_there in found.items() if is_there]


def longer_command(config: Config, epochs: int) -> str:
    """The command line that trains the run again for so many epochs, into a folder of its own; "" if none is known."""
    words = shlex.split(training_command(config) or "")
    if words[words.index("alexnet") + 1 if "alexnet" in words else 0 :][:1] != ["train"]:
        return ""
    run = (_option(words, "--out") or "runs/longer").rstrip("/")
    for name in ("--epochs", "--out"):
        words = [word for before, word in pairwise(["", *words])
                 if name not in (before, word) and not word.startswith(f"{name}=")]
    return printable(shlex.join([*words, "--epochs", str(epochs), "--out", f"{run}-{epochs}"]))


def follow_up_commands(config: Config, checkpoint: str, views: int = 1) -> list[str]:
    """The command lines that resumed the run for more epochs, evaluate its checkpoint and write its report.

    Args:
        config: of the run.
        checkpoint: its name, "best" or "last".
        views: of each image, 1 or 10.
    """
    run, data, labels = _arguments(config)
    return [printable(shlex.join(line)) for line in (
        *map(shlex.split, config.get("resumed", [])),
        ["alexnet", "evaluate", f"{run}/{checkpoint}", data, *labels,
         *(["--views", str(views)] if views > 1 else [])],
        ["alexnet", "report", run, "--data", data])]


def next_commands(config: Config, run: str) -> list[tuple[str, str]]:
    """What to do with a trained network: what it does, and the command line.

    Pages go into the run's folder: a check.html of the images before training is likely to be in the current one.

    Args:
        config: of the run.
        run: its folder.
    """
    _, data, labels = _arguments(config)
    group = ["--group", given] if (given := group_of(config, data)) else []
    return [(purpose, printable(shlex.join(["alexnet", *line]))) for purpose, line in (
        ("Classify new images", ["predict", run, "IMAGES"]),
        ("Classify images in the browser", ["serve", run]),
        ("See every mistake", ["evaluate", run, data, *labels, "--html", f"{run}/mistakes.html"]),
        ("Find wrong labels and copies",
         ["check", data, *labels, *group, "--run", run, "--html", f"{run}/check.html"]))]


def _arguments(config: Config) -> tuple[str, str, list[str]]:
    """The run folder, the data and the --labels option of the training command; RUN and DATA for what is not known."""
    words = shlex.split(training_command(config) or "")
    words = words[words.index("alexnet"):] if "alexnet" in words else words  # without torchrun
    run, labels = _option(words, "--out") or "RUN", _option(words, "--labels")
    data = f"{run}/data" if words[1:2] == ["demo"] else next(iter(words[2:3]), _data_argument(config))
    return run, config["data"]["source"] if data.startswith("-") else data, ["--labels", labels] if labels else []


def _option(words: Sequence[str], name: str) -> str:
    """The value of `--name value` or `--name=value`; "" without one."""
    return next((value for key, value in pairwise(words) if key == name), "") or next(
        (word.partition("=")[2] for word in words if word.startswith(f"{name}=")), "")


def unnamed_data(config: Config) -> str | None:
    """What DATA stands for in `training_command`; None if the command names the data."""
    return config["data"]["source"] if not config.get("command") and _data_argument(config) == DATA else None


def _data_argument(config: Config) -> str:
    source: str = config["data"]["source"]
    return source if Path(source).is_absolute() else DATA


def _changed(preset: object, value: object, path: str = "") -> dict[str, object]:
    """Path -> value of every difference of two JSON values, as `override` takes them: `conv2.width`, `input.crop`."""
    if isinstance(value, dict) and isinstance(preset, dict):
        pairs = {f"{path}.{key}" if path else key: (preset.get(key), item) for key, item in value.items()}
    elif isinstance(value, list) and isinstance(preset, list) and value and isinstance(value[0], dict):
        pairs = {f"{path}{number}": pair for number, pair in enumerate(zip(preset, value, strict=False), 1)}
    else:
        return {} if preset == value else {path: value}
    return {key: item for place, pair in pairs.items() for key, item in _changed(*pair, place).items()}
