"""The `--set` option: `path=value` settings on a network or recipe; configurations to JSON and back, type-checked.

The code reads the type hints of spec.py and recipe.py, so a new field needs no change here.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import default_recipe
from alexnet.architecture.spec import Arch, InputSpec
from alexnet.errors import UserError, closest_match, did_you_mean, require

Config = typing.TypeVar("Config", Arch, Recipe, InputSpec)

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""A value that JSON can hold."""

SYNONYMS = {
    "lr": "learning_rate", "rate": "learning_rate", "eps": "learning_rate", "base_lr": "learning_rate",
    "batch": "batch_size", "bs": "batch_size", "wd": "weight_decay", "decay": "weight_decay", "l2": "weight_decay",
    "gamma": "drop_factor", "milestones": "drop_epochs", "steps": "drop_epochs", "drops": "lr_drop_count",
    "warmup": "warmup_epochs", "smoothing": "label_smoothing", "scheduler": "schedule", "trust": "lars_trust",
    "lars": "lars_trust", "flip": "mirror", "pca": "lighting", "color_noise": "lighting", "color_jitter": "lighting",
    "frozen": "freeze", "num_epochs": "epochs", "num_classes": "classes", "gpus": "towers", "relu": "activation",
    "init": "initialization", "sigma": "init_std", "std": "init_std", "bias": "init_bias", "filters": "width",
    "channels": "width", "out_channels": "width", "kernels": "width", "units": "width", "kernel_size": "kernel",
    "ema": "ema_decay", "model_ema": "ema_decay", "grad_clip": "clip_norm", "clip_grad": "clip_norm",
    "max_grad_norm": "clip_norm", "early_stopping": "early_stop_epochs", "early_stop": "early_stop_epochs",
    "class_weight": "class_weights", "balance": "class_weights", "mixup": "mixup_alpha", "cutmix": "cutmix_alpha",
    "random_erasing": "erase_probability", "erasing": "erase_probability", "reprob": "erase_probability",
    "autoaugment": "trivial_augment", "auto_augment": "trivial_augment", "randaugment": "trivial_augment",
    "pad": "padding", "groups": "grouped", "ops": "post_ops", "size": "crop", "local_size": "n",
}
"""Words that users may try -> the field's name. Used for the remedy in error messages only."""


def configure(arch: Arch, recipe: Recipe | None, settings: Iterable[str] | None) -> tuple[Arch, Recipe]:
    """Apply settings that begin with `arch.` or `recipe.`, such as `recipe.learning_rate=0.1`.

    Args:
        recipe: default: the default recipe of the changed network.

    Raises:
        UserError: with the closest field for an unknown path, and the wanted type for a wrong value.
    """
    by_config: dict[str, list[str]] = {"arch": [], "recipe": []}
    for setting in settings or ():
        config, dot, rest = setting.partition(".")
        if not dot or config not in by_config:
            key = setting.split("=")[0].split(".")[0]
            field = _top_level_field(key)
            raise UserError(f"--set {setting}: begin with arch. or recipe.",
                            f"did you mean {field}{setting[len(key):]}?" if field else "as in arch.activation=tanh")
        by_config[config].append(rest)
    arch = override(arch, by_config["arch"], "arch.")
    return arch, override(recipe or default_recipe(arch), by_config["recipe"], "recipe.")


def override(config: Config, settings: Iterable[str], prefix: str = "") -> Config:
    """Return the configuration with `path=value` settings applied. All are applied before the values are validated.

    Args:
        settings: paths name fields from the configuration's top level down: `activation=tanh`, `input.crop=128`,
            `conv1.width=64`, `conv.width=64` (every convolution), `dense1.width=512`, `drop_epochs=10,20`.
        prefix: precedes the paths in error messages: "arch.".

    Raises:
        UserError: with the closest field for an unknown path, and the wanted type for a wrong value.
    """
    tree = to_json(config)
    for setting in settings:
        path, equals, text = setting.partition("=")
        require(bool(equals), f"--set {prefix}{setting} has no value", f"write --set {prefix}{setting}=VALUE")
        _set(tree, type(config), prefix.removesuffix("."), path.strip().split("."), text.strip())
    return from_json(type(config), tree)


def _set(tree: dict[str, Json], config: type, parent: str, keys: list[str], text: str) -> None:
    """Set one value in a JSON tree. parent: path of the tree, for messages. keys: path from the tree on."""
    hints = typing.get_type_hints(config)
    key, rest = keys[0], keys[1:]
    path = f"{parent}.{key}" if parent else key
    stem = key.rstrip("0123456789")
    if key in hints and not _layer_type(hints[key]):
        if not rest:
            tree[key] = _convert(_parse(text, hints[key]), hints[key], path)
            return
        require(dataclasses.is_dataclass(hints[key]), f"{path} has no fields of its own", f"write {path}={text}")
        fields = tree[key]
        assert isinstance(fields, dict)
        _set(fields, hints[key], path, rest, text)
    elif stem in hints and (layer := _layer_type(hints[stem])):
        layers, index = tree[stem], key[len(stem):]
        assert isinstance(layers, list)
        require(not index or 1 <= int(index) <= len(layers), f"there is no {path}",
                f"the network has {stem}1 to {stem}{len(layers)}" if layers else f"the network has no {stem} layer")
        require(bool(rest), f"{path} has several fields", f"set one of them, as in {path}.width=64")
        for branch in [layers[int(index) - 1]] if index else layers:
            assert isinstance(branch, dict)
            _set(branch, layer, path, rest, text)
    else:
        raise UserError(f"there is no setting {path!r}", _unknown_field(parent, key, config))


def _unknown_field(parent: str, key: str, config: type) -> str:
    """The remedy for an unknown field: the closest field here, else in the other configuration, else all names here."""
    here = typing.get_type_hints(config)
    top_level = parent in ("arch", "recipe")
    if SYNONYMS.get(key) not in here and top_level and (elsewhere := _top_level_field(key, typos=False)):
        return f"did you mean {elsewhere}?"
    misspelled_synonym = closest_match(key, SYNONYMS) or ""
    if field := _synonym(key, here) or closest_match(key, here) or _synonym(misspelled_synonym, here):
        return f"did you mean {parent}.{field}?" if parent else f"did you mean {field}?"
    if top_level and (elsewhere := _top_level_field(key)):
        return f"did you mean {elsewhere}?"
    return did_you_mean(key, here)


def _top_level_field(key: str, typos: bool = True) -> str | None:
    """Path of the field of a network or recipe that a word most likely means: "recipe.learning_rate" for "lr"."""
    known = {"arch": typing.get_type_hints(Arch), "recipe": typing.get_type_hints(Recipe)}
    stem = key.rstrip("0123456789")
    for name, hints in known.items():
        if key in hints or (stem in hints and _layer_type(hints[stem])):
            return f"{name}.{key}"
    for find in (_synonym, closest_match) if typos else (_synonym,):
        for name, hints in known.items():
            if field := find(key, hints):
                return f"{name}.{field}"
    return None


def _synonym(key: str, known: Iterable[str]) -> str | None:
    return next((field for field in known if field == SYNONYMS.get(key.lower())), None)


def _layer_type(hint: Any) -> Any:
    """The dataclass in a hint like `tuple[Conv, ...]`; None for any other hint."""
    arguments = typing.get_args(hint)
    return arguments[0] if typing.get_origin(hint) is tuple and dataclasses.is_dataclass(arguments[0]) else None


def _parse(text: str, hint: Any) -> Json:
    """Read a value as JSON; `10,20` is a list where a tuple is wanted, and anything that is no JSON is a string."""
    wants_list = any(typing.get_origin(h) is tuple for h in (hint, *typing.get_args(hint)))
    try:
        return json.loads(f"[{text}]" if wants_list and "," in text and not text.startswith("[") else text)
    except json.JSONDecodeError:
        return text


# --- JSON -------------------------------------------------------------------------------------------------------------


def to_json(config: Arch | Recipe | InputSpec) -> dict[str, Json]:
    """Convert a configuration (any dataclass) to values that JSON can hold."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_json(config: type[Config], tree: Json) -> Config:
    """Make a configuration from JSON values. Raises UserError for unknown fields and wrong types."""
    return _convert(tree, config, config.__name__.lower())


def _convert(value: Json, hint: Any, path: str) -> Any:
    """Convert a JSON value to what the type hint says. path: for messages."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _convert_dataclass(value, hint, path)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        for option in arguments:
            try:
                return _convert(value, option, path)
            except UserError:
                continue
    elif origin is Literal:
        if value in arguments:
            return value
    elif origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        inner = arguments[:1] * len(items) if arguments[-1] is Ellipsis else arguments
        if len(items) == len(inner):
            return tuple(_convert(item, item_hint, path) for item, item_hint in zip(items, inner, strict=True))
    elif hint is float and type(value) is int:
        return float(value)
    elif type(value) is hint:
        return value
    raise UserError(f"{path}: {value!r} is not {_describe(hint)}", _fraction(value) if hint is float else "")


def _fraction(value: Json) -> str:
    """The remedy for a percentage, such as "write 0.3" for 30%; else ""."""
    percent = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", str(value).strip())
    return f"write {float(percent[1]) / 100:g}" if percent else ""


def _convert_dataclass(value: Json, config: Any, path: str) -> Any:
    hints = typing.get_type_hints(config)
    if not isinstance(value, dict):
        raise UserError(f"{path}: {value!r} is not {_describe(config)}",
                        f"set one of its fields, as in {path}.{next(iter(hints))}")
    for key in value:
        if key not in hints:
            raise UserError(f"{path} has no field {key!r}", did_you_mean(key, hints))
    return config(**{key: _convert(item, hints[key], f"{path}.{key}") for key, item in value.items()})


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_describe(option) for option in arguments)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"{len(arguments)} numbers"
    if dataclasses.is_dataclass(hint):
        return "a group of fields"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
    return names.get(hint, "a list of numbers")
