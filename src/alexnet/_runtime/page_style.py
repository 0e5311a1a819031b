"""Color palette, stylesheet and data URIs that all HTML pages and figures share."""

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
"""Name -> (color in the light theme, color in the dark theme)."""


def stylesheet(selector: str) -> str:
    """CSS that defines each palette color as a variable (`--ink`) on `selector`, for the light and the dark theme."""
    light, dark = (" ".join(f"--{name}: {colors[theme]};" for name, colors in PALETTE.items()) for theme in (0, 1))
    return f"{selector} {{ {light} }}\n@media (prefers-color-scheme: dark) {{ {selector} {{ {dark} }} }}"


def data_uri(data: bytes, kind: str) -> str:
    """An image as a data URI. kind: "png", "jpeg" or "svg+xml"."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
