"""Settings in which runs differ (`alexnet compare`): network, recipe, data, seed, software and machine."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from alexnet.architecture.overrides import Json, to_json
from alexnet.data.packed import is_packed
from alexnet.errors import UserError
from alexnet.models.checkpoint import Checkpoint
from alexnet.training.events import Config
from alexnet.training.run_folder import read_config


@dataclass(frozen=True)
class DifferingSetting:
    """A setting that is not the same in all runs."""

    name: str
    """Its path, such as recipe.learning_rate or arch.conv1.width."""
    values: tuple[Json, ...]
    """One for each run; None where a run does not have it or does not record it."""


def differing_settings(checkpoints: Sequence[Checkpoint]) -> list[DifferingSetting]:
    """The settings that differ between checkpoints, in the order of the first that has each of them."""
    flat = [dict(_flatten(settings_of(saved))) for saved in checkpoints]
    names = dict.fromkeys(name for settings in flat for name in settings)
    rows = [DifferingSetting(name, tuple(settings.get(name) for settings in flat)) for name in names]
    return [row for row in rows if any(value != row.values[0] for value in row.values)]


def settings_of(saved: Checkpoint) -> dict[str, Json]:
    """Everything that decided a checkpoint's weights, as far as it and its run's config.json record it."""
    settings: dict[str, Json] = {"arch": to_json(saved.arch), "classes": list(saved.classes)}
    settings |= {"recipe": to_json(saved.recipe)} if saved.recipe else {}
    settings |= {key: saved.training[key] for key in ("seed", "precision", "transform", "epoch", "step")
                 if saved.training.get(key, "") != ""}
    settings["temperature"] = saved.calibration.get("temperature", 1.0)
    if "ten_views" in saved.calibration:
        settings["ten_view_temperature"] = saved.calibration["ten_views"]["temperature"]
    if "init" in saved.provenance:
        settings["init"] = saved.provenance["init"]["sha256"][:12]
    if config := config_of(saved):
        recorded: dict[str, dict[str, Json]] = json.loads(json.dumps(config))
        data = recorded["data"]
        settings["data"] = {key: data[key] for key in ("source", "fingerprint", "side", "images") if key in data}
        settings |= {key: recorded[key] for key in ("device", "kernels", "versions", "threads", "processes", "parallel")
                     if key in recorded}
    return settings


def config_of(saved: Checkpoint) -> Config | None:
    """The config.json of the run that a checkpoint is of; None for a checkpoint that stands alone."""
    with suppress(UserError):
        if saved.path is not None:
            return read_config(saved.path.parent)
    return None


def data_of(saved: Checkpoint, sides: Collection[int]) -> str | None:
    """The data that a run was trained on, if it is still where it was: the packed folder, else the source.

    Args:
        saved: a checkpoint of the run.
        sides: of the images that are needed, in pixels. A packed folder has images of one side.
    """
    config = config_of(saved)
    if config is None:
        return None
    packed, source = config["data"].get("packed"), config["data"]["source"]
    if packed and is_packed(Path(packed)) and {*sides} == {config["data"]["side"]}:
        return packed
    return source if Path(source).exists() else None


def _flatten(value: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """(path, value) of everything in a JSON tree: conv1.width for the first of a list of layers."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for number, item in enumerate(value, 1):
            yield from _flatten(item, f"{path}{number}")
    else:
        yield path, value
