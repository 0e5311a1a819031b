"""Changes a configuration by `path=value` settings, and turns it into JSON and back, checking every value's type.

Knows the dataclasses of config.py by their type hints alone, so that a new field needs nothing here.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal

from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch, InputSpec
from alexnet.errors import did_you_mean, require

Config = typing.TypeVar("Config", Arch, Recipe, InputSpec)


def override(config: Config, settings: Iterable[str]) -> Config:
    """The configuration with `path=value` settings applied, all at once, so that they are checked together.

    A path names fields from the configuration's own level down: `activation=tanh`, `input.crop=128`, `conv1.width=64`
    (or `conv.width=...` for every convolution), `dense1.width=512`, `drop_epochs=10,20`.
    Raises ValueError naming the nearest field for an unknown path, and the wanted type for a wrong value.
    """
    tree = to_json(config)
    for setting in settings:
        path, equals, text = setting.partition("=")
        require(bool(equals), f"{setting!r} is not a setting; write it as field=value")
        _set(tree, type(config), path.strip().split("."), text.strip(), path)
    return from_json(type(config), tree)


def difference(one: Any, other: Any, names: tuple[str, str] = ("then", "now")) -> str:
    """The first value that differs between two trees of JSON: `rate: 0.01 then, 0.1 now`."""
    if isinstance(one, dict) and isinstance(other, dict):
        key = next(key for key in one if one[key] != other.get(key))
        return f"{key}: {difference(one[key], other.get(key), names)}"
    return f"{one!r} {names[0]}, {other!r} {names[1]}"


def _set(tree: dict[str, Any], kind: type, keys: list[str], text: str, path: str) -> None:
    hints = typing.get_type_hints(kind)
    key, rest = keys[0], keys[1:]
    if (stem := key.rstrip("0123456789")) != key and stem in hints and _items(hints[stem]):
        number = int(key[len(stem):])
        require(1 <= number <= len(tree[stem]),
               f"{path}: there is no {key}; {stem}1 to {stem}{len(tree[stem])} are there")
        chosen = [tree[stem][number - 1]]
    else:
        require(key in hints, f"there is no setting {path!r}; {did_you_mean(key, hints)}")
        if not rest:
            require(not _items(hints[key]), f"{path} is made of layers; set one of their fields, as in {path}1.width=64")
            tree[key] = _convert(_parse(text, hints[key]), hints[key], path)
            return
        chosen = tree[key] if _items(hints[key]) else [tree[key]]
        require(all(isinstance(branch, dict) for branch in chosen), f"{path}: {key} has no fields of its own")
    require(bool(rest), f"{path} is a layer; set one of its fields, as in {path}.width=64")
    for branch in chosen:
        _set(branch, _items(hints[stem if stem in hints else key]) or hints[key], rest, text, path)


def _items(hint: Any) -> Any:
    """The dataclass that a `tuple[Layer, ...]` holds; None for any other hint."""
    arguments = typing.get_args(hint)
    return arguments[0] if typing.get_origin(hint) is tuple and dataclasses.is_dataclass(arguments[0]) else None


def _parse(text: str, hint: Any) -> Any:
    """A value as JSON would read it; a bare word is a string, and `10,20` a list where a tuple is wanted."""
    wants_list = any(typing.get_origin(h) is tuple for h in (hint, *typing.get_args(hint)))
    for candidate in (f"[{text}]",) if wants_list and "," in text and not text.startswith("[") else (text,):
        try:
            return json.loads(candidate)
        except json.JSONDecodeError:
            return text
    return text


def to_json(config: Any) -> dict[str, Any]:
    """The configuration as plain values that JSON holds."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_json(kind: type[Config], tree: dict[str, Any]) -> Config:
    """The configuration of that kind from plain values. Raises ValueError for unknown fields and wrong types."""
    return _convert(tree, kind, kind.__name__.lower())


def _convert(value: Any, hint: Any, path: str) -> Any:  # a hint is a type, a union, or a Literal: Any
    """The value as the type hint wants it. Raises ValueError with the path, the value and the type."""
    wrong = ValueError(f"{path}: {value!r} is not {_describe(hint)}")
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        if not isinstance(value, dict):
            raise wrong
        for key in value:
            require(key in hints, f"{path} has no field {key!r}; {did_you_mean(key, hints)}")
        return hint(**{key: _convert(item, hints[key], f"{path}.{key}") for key, item in value.items()})
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        for option in arguments:
            try:
                return _convert(value, option, path)
            except ValueError:
                continue
        raise wrong
    if origin is Literal:
        if value not in arguments:
            raise wrong
        return value
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        inner = arguments[:1] * len(items) if arguments[-1] is Ellipsis else arguments
        if len(items) != len(inner):
            raise wrong
        return tuple(_convert(item, h, path) for item, h in zip(items, inner, strict=True))
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise wrong
    return value


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_describe(option) for option in arguments)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"{len(arguments)} numbers"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
    return words.get(hint, "a list of numbers")
