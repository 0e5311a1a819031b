"""`alexnet list NAME`: every setting of a preset network or recipe with its value, default and meaning.

The meanings are the docstrings of the fields in spec.py and recipe.py.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any

from alexnet.architecture.arithmetic import explain
from alexnet.architecture.explain_diff import BASES, RECIPE_TOPICS, SOURCES
from alexnet.architecture.network_presets import ABOUT_ARCHS, ARCHS, unknown_network_remedy
from alexnet.architecture.overrides import Json
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import ABOUT_RECIPES, RECIPES, default_recipe
from alexnet.architecture.spec import Arch
from alexnet.architecture.unused_settings import reason_unused
from alexnet.errors import UserError


@dataclasses.dataclass(frozen=True)
class Setting:
    """One field of a network or recipe."""

    path: str
    """As `--set` takes it: `recipe.learning_rate`, `arch.conv1.width`."""
    value: Json
    default: Json
    """The field's default, in a recipe the paper's value; None for a field without one."""
    meaning: str
    is_used: bool = True
    """False: another setting makes this one irrelevant, as the crop `window` does the area of resized crops."""

    @property
    def differs(self) -> bool:
        """Whether the preset has another value than the default."""
        return self.default is not None and self.value != self.default

    @property
    def is_off(self) -> bool:
        """Whether the value turns something off, such as a probability of 0."""
        return self.value in (0, "", "off", [])  # 0 is False


@dataclasses.dataclass(frozen=True)
class Preset:
    """A network or recipe with all its settings."""

    kind: str
    """"network" or "recipe"."""
    name: str
    about: str
    """What it is, in a sentence."""
    source: str
    """Where its numbers come from, in the short names of network_presets.py. A meaning may name another one."""
    settings: tuple[Setting, ...]


@dataclasses.dataclass(frozen=True)
class PresetRow:
    """A network or recipe in the list of all."""

    name: str
    about: str
    """What it is, in a sentence."""
    parameters: int = 0
    """Of a network; the other fields too."""
    input: int = 0
    """Side of its input in pixels."""
    recipe: str = ""
    """Its default recipe."""


def all_networks() -> list[PresetRow]:
    """Every preset network."""
    return [PresetRow(name, ABOUT_ARCHS[name], explain(network).parameters, network.input.crop,
                      default_recipe(network).name) for name, network in ARCHS.items()]


def all_recipes() -> list[PresetRow]:
    """Every preset recipe."""
    return [PresetRow(name, ABOUT_RECIPES[name]) for name in RECIPES]


def presets_named(name: str) -> list[Preset]:
    """The preset network and the preset recipe of that name, of which there may be one or two.

    Raises:
        UserError: with the closest name if there is neither.
    """
    if name not in ARCHS and name not in RECIPES:
        raise UserError(f"there is no network or recipe {name!r}", unknown_network_remedy(name, [*ARCHS, *RECIPES]))
    found = []
    if name in ARCHS:
        found.append(Preset("network", name, ABOUT_ARCHS[name], _source(name, recipe=False),
                            tuple(_marked(_settings("arch", ARCHS[name]), ARCHS[name], None))))
    if name in RECIPES:
        found.append(Preset("recipe", name, ABOUT_RECIPES[name], _source(name, recipe=True),
                            tuple(_marked(_settings("recipe", RECIPES[name]), None, RECIPES[name]))))
    return found


def _source(name: str, recipe: bool) -> str:
    topics = SOURCES[name]
    if recipe:
        of_recipe = [topics.get("recipe", topics["else"])]
        of_recipe += [topics[topic] for topic in ("epochs", "batch", "schedule") if topic in topics]
        return "; ".join(source for source in of_recipe if not any(
            other != source and other.startswith(source) for other in of_recipe))
    of_network = [source for topic, source in topics.items() if topic not in RECIPE_TOPICS]
    base = [f"{BASES[name]}, but for what this changes"] if name in BASES else []
    return "; ".join(dict.fromkeys([*base, *of_network]))


def _settings(path: str, config: Any) -> Iterator[Setting]:
    kind: type = type(config)
    meanings = field_meanings(kind)
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{path}.{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _settings(name, value)
        elif isinstance(value, tuple) and field.name in ("conv", "dense"):  # of which there may be none
            for number, layer in enumerate(value, 1):
                yield from _settings(f"{name}{number}", layer)
        elif field.name != "name":
            default = None if field.default is dataclasses.MISSING else field.default
            yield Setting(name, _plain(value), _plain(default), meanings.get(field.name, ""))


def _marked(settings: Iterator[Setting], arch: Arch | None, recipe: Recipe | None) -> Iterator[Setting]:
    """The settings of one of the two; those that have no effect in it are marked."""
    for setting in settings:
        yield dataclasses.replace(setting, is_used=not reason_unused(setting.path, arch, recipe))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@cache
def field_meanings(config: type) -> dict[str, str]:
    """Field -> the docstring below it in the source, on one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    assert isinstance(definition, ast.ClassDef)
    meanings = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)):
            meanings[field.target.id] = " ".join(str(below.value.value).split())
    return meanings
