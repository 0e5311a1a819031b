"""The table of `alexnet list NAME`: every setting of a preset with its value, default and meaning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from alexnet.architecture.overrides import Json
from alexnet.architecture.settings import Preset

if TYPE_CHECKING:
    from rich.console import RenderableType


def settings_tables(presets: Sequence[Preset]) -> RenderableType:
    """A table for each preset. A value in bold differs from the default, which stands beside it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for preset in presets:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("setting", no_wrap=True)
        table.add_column("value", overflow="fold")
        table.add_column("default", overflow="fold")
        table.add_column("meaning", ratio=1)
        seen: set[str] = set()
        for setting in preset.settings:
            differs = setting.default is not None and setting.value != setting.default
            value = _text(setting.value)
            table.add_row(setting.path, Text(value, style="bold" if differs else ""),
                          _text(setting.default) if differs else "",
                          Text("" if setting.meaning in seen else setting.meaning))
            seen.add(setting.meaning)
        parts += [f"{preset.kind} {preset.name} (source: {preset.source})", "", table, ""]
    return Group(*parts, "Change one with --set, as in --set recipe.epochs=20. default: where the preset has another "
                 "value. The defaults of a recipe are the paper's.")


def _text(value: Json) -> str:
    if value == "" or value == []:
        return "none"
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value)
