"""The text of `alexnet list`: the presets and what each is for, and every setting of one with its value and meaning."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence

from alexnet.architecture.overrides import Json
from alexnet.architecture.preset_listing import Preset, PresetRow, Setting


def presets_text(networks: Sequence[PresetRow], recipes: Sequence[PresetRow]) -> str:
    """Every network and recipe with what it is for, and a word on which one to take."""
    lines = ["networks (--arch)"]
    for row in networks:
        lines += _entry(
            row.name, f"{row.about} {row.parameters:,} parameters, {row.input} pixels, recipe {row.recipe}.")
    lines += ["", "recipes (--recipe); each network has its own by default"]
    for row in recipes:
        lines += _entry(row.name, row.about)
    lines += ["", *_wrapped(
        "Which one: small for images of 64 pixels or less and for a first result without a GPU, paper-bn for larger "
        "images with a GPU, paper to follow the paper. With a few hundred images start from trained weights: train "
        "--init torchvision --head."), "Every setting of one of them: alexnet list NAME",
        "Trained weights: alexnet list weights"]
    return "\n".join(lines)


def settings_text(presets: Sequence[Preset]) -> str:
    """What each preset is, and its settings: of a recipe first those that differ from the paper's, last those off."""
    lines: list[str] = []
    for preset in presets:
        lines += [*_wrapped(f"{preset.kind} {preset.name}: {preset.about}"),
                  *_wrapped(f"Source: {preset.source}.", "  "), ""]
        seen: set[str] = set()
        for title, settings in _groups(preset):
            lines += [title, *_settings(settings, seen), ""] if settings else []
    defaults = {
        "network": "A network's defaults are those of its fields in Python, and not the paper's values: these are the "
                   "settings of the network paper.",
        "recipe": "A recipe's defaults are the paper's values; but patience, of which the paper gives no number, is "
                  "this project's, and lighting_scale is cuda-convnet2's. What the paper does not have is off."}
    return "\n".join([*lines, *_wrapped(" ".join([
        "Change one with --set, as in --set recipe.epochs=20.", *(defaults[preset.kind] for preset in presets)]))])


def _groups(preset: Preset) -> list[tuple[str, list[Setting]]]:
    """The settings under their titles. Those of a network stay in the order of its layers."""
    used = [setting for setting in preset.settings if setting.is_used]
    unused = ("Not used, because another setting decides otherwise:",
              [setting for setting in preset.settings if not setting.is_used])
    if preset.kind == "network":
        return [("Settings, layer by layer:", used), unused]
    same = [setting for setting in used if not setting.differs]
    return [("Other than the paper's:", [setting for setting in used if setting.differs]),
            ("As in the paper:", [setting for setting in same if not setting.is_off]),
            ("Off:", [setting for setting in same if setting.is_off]), unused]


def _settings(settings: Sequence[Setting], seen: set[str]) -> Iterator[str]:
    """A line with the value of each setting, and below it the meaning, if it is not in `seen`."""
    for setting in settings:
        default = f"   (default: {_text(setting.default)})" if setting.differs else ""
        yield f"  {setting.path} = {_text(setting.value)}{default}"
        if setting.meaning not in seen:
            yield from _wrapped(setting.meaning, "      ")
        seen.add(setting.meaning)


def _entry(name: str, text: str) -> list[str]:
    return _wrapped(text, f"  {name:<16}", " " * 18)


def _wrapped(text: str, first: str = "", rest: str | None = None) -> list[str]:
    width = min(shutil.get_terminal_size().columns, 100)
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=first if rest is None else rest,
                         break_long_words=False, break_on_hyphens=False)


def _text(value: Json) -> str:
    if value == "" or value == []:
        return "none"
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value)
