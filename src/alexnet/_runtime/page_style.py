"""Colors and embedded pictures that every page and figure shares. Imports no plotting library."""

from __future__ import annotations

import base64

PALETTE = {
    "ink": ("#1f1e1c", "#eae7e1"),
    "quiet": ("#6b6862", "#a39e95"),
    "faint": ("#dedad3", "#3b3935"),
    "paper": ("#fcfbf8", "#171614"),
    "card": ("#f4f2ed", "#201f1c"),
    "blue": ("#2a6a9c", "#79b2de"),
    "red": ("#b8452f", "#f08b73"),
}
"""Name -> color on light paper, color on dark; pages take theirs from here, and so figures belong to them."""


def stylesheet(selector: str) -> str:
    """CSS that gives `selector` each color of the palette as `--ink` and so on, for light paper and for dark."""
    light, dark = (" ".join(f"--{name}: {pair[dark]};" for name, pair in PALETTE.items()) for dark in (0, 1))
    return f"{selector} {{ {light} }}\n@media (prefers-color-scheme: dark) {{ {selector} {{ {dark} }} }}"


def data_uri(data: bytes, kind: str) -> str:
    """An image that needs no request."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
