"""The `--config` option: a TOML file with the network and the recipe of a run.

    [arch]
    preset = "small"          # as --arch
    input.crop = 56           # as --set arch.input.crop=56

    [recipe]
    preset = "modern"         # as --recipe
    epochs = 20
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from alexnet.errors import UserError, did_you_mean, require

_TABLES = ("arch", "recipe")


@dataclass(frozen=True)
class ConfigFile:
    """What a configuration file says."""

    arch: str | None
    """Name of the preset network."""
    recipe: str | None
    """Name of the preset recipe."""
    settings: tuple[str, ...]
    """The other keys, as `--set` takes them: `recipe.epochs=20`."""


def read_config_file(path: Path) -> ConfigFile:
    """Read a TOML file of settings.

    Raises:
        UserError: the file does not exist, is not TOML, or has a table other than [arch] and [recipe].
    """
    require(path.is_file(), f"{path} is not a file", "name a TOML file with the tables [arch] and [recipe]")
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not UTF-8, or not TOML
        raise UserError(f"{path} is not a TOML file: {error}", "write tables [arch] and [recipe] of `field = value`"
                        ) from error
    presets: dict[str, str | None] = {"arch": None, "recipe": None}
    settings: list[str] = []
    for table, values in tree.items():
        require(table in _TABLES, f"{path} has the key {table!r}", did_you_mean(table, _TABLES))
        if not isinstance(values, dict):
            raise UserError(f"{path}: {table} is not a table", f"write [{table}] and, below it, preset = {values!r}")
        preset = values.pop("preset", None)
        require(preset is None or isinstance(preset, str), f"{path}: preset of [{table}] is not a name",
                'write it as in preset = "small"')
        presets[table] = preset
        settings += _settings(table, values)
    return ConfigFile(presets["arch"], presets["recipe"], tuple(settings))


def _settings(path: str, table: Mapping[str, object]) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _settings(f"{path}.{key}", value)
        else:
            yield f"{path}.{key}={value if isinstance(value, str) else json.dumps(value, default=str)}"
