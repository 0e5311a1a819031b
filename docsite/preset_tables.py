"""Write docs/presets.md, the static tables of all preset networks and recipes: `python -m docsite.preset_tables`.

Every value is computed from the presets or read from docs/published-errors.json and the paper's tables; a test compares
the page with what this module writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

from alexnet.architecture.explain_diff import network_facts, recipe_facts
from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.recipe_presets import RECIPES, default_recipe
from alexnet.architecture.spec import Arch
from alexnet.reproduce.paper_tables import REPORTED

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "presets.md"
PUBLISHED = ROOT / "docs" / "published-errors.json"

_SPACE = "\N{NO-BREAK SPACE}"

PAPER_SYSTEMS = {"1 CNN": "paper", "1 CNN*": "paper-conv6"}
"""System of Tables 1 and 2 -> the preset that it is."""

INTRODUCTION = """# All networks and recipes, side by side

Written by `python -m docsite.preset_tables`, do not edit: every value is that of the preset, and a test compares.
Presets with equal values share a row. `alexnet explain NAME --diff OTHER` prints the differences of two with the source
of each value, `alexnet list NAME` every setting with its meaning; why a preset differs from its source: [the
ledger](paper.md#where-a-preset-differs-from-its-source)."""

LAYERS = """`96 11x11/4`: 96 filters of 11x11 at stride 4; `p2`: 2 zeros of padding on each side; `g`: grouped, each
tower or group reads only its own maps. The paper's two towers are on two GPUs; `caffe`, `caffenet` and `medium` only
have groups. Parameters with the preset's number of classes, which training replaces by that of the data."""

RECIPES_TEXT = """\
A view is what the network receives of an image; those of training are cropped and mirrored. `alexnet train --init`
adapts `finetune` to the network: with batch normalization a learning rate of 0.003, and x 3 for new layers; for other
networks a tenth of the learning rate of the default recipe, and x 10."""

PUBLISHED_ERRORS = """In percent, with one view (the center crop) or ten. **None was measured here**; what was is in
[the results](results.md). From docs/published-errors.json, and of the paper from Tables 1 and 2."""


class PublishedError(TypedDict):
    """An error that others published, as docs/published-errors.json has it."""

    network: str
    top1_error: float
    """In percent."""
    top5_error: float | None
    views: int
    images: str
    source: str
    url: str


def page() -> str:
    """The text of docs/presets.md."""
    networks = {name: _network_row(arch) for name, arch in ARCHS.items()}
    parts = [INTRODUCTION, "## Layers", LAYERS, *_table("network", networks, (
        "convolutions", "towers or groups", "hidden layers", "parameters")),
        "## Order, normalization, pooling, dropout",
        "What follows each convolution, in this order; \"pool\" is max pooling.",
        *_table("network", networks, ("after the convolutions", "response norm", "pooling", "dropout", "activation")),
        "## Input and initialization",
        "Mean and scale are on 0..255. Biases of the layers in order, the output layer last.",
        *_table("network", networks, ("image, then view", "conv1's output", "mean", "scale", "channels", "weights",
                                      "biases")),
        "## Recipes", RECIPES_TEXT,
        *_table("recipe", {name: _recipe_row(name) for name in RECIPES}, (
            "default of", "epochs", "batch", "learning rate", "momentum", "weight decay", "biases", "training views",
            "color noise", "also")),
        "## Published errors", PUBLISHED_ERRORS, *_published()]
    return "\n\n".join(parts) + "\n"


def _table(title: str, rows: Mapping[str, Mapping[str, str]], columns: tuple[str, ...]) -> Iterator[str]:
    """One table: presets whose values are equal share a row."""
    shared: dict[tuple[str, ...], list[str]] = {}
    for name, values in rows.items():
        shared.setdefault(tuple(values[column] for column in columns), []).append(f"`{name}`")
    lines = [f"| {title} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {', '.join(names)} | {' | '.join(values)} |" for values, names in shared.items()]
    yield "\n".join(lines)


def _network_row(arch: Arch) -> dict[str, str]:
    """Column -> value, of one network."""
    facts = {place: fact.value for place, fact in network_facts(arch).items()}
    convs = [f"conv{number}" for number in range(1, len(arch.conv) + 1)]
    hidden = [f"hidden{number}" for number in range(1, len(arch.dense) + 1)]
    layers = [*convs, *hidden, "output"]
    weights = [facts[layer, "initialization"].rpartition(", biases ") for layer in layers]
    after = {conv: facts[conv, "followed by"].replace("max pooling", "pool") for conv in convs}
    activation = facts[convs[0], "followed by"].split(", ")
    return {
        "convolutions": "<br>".join(
            f"{conv.width}{_SPACE}{conv.kernel}x{conv.kernel}" + (f"/{conv.stride}" if conv.stride > 1 else "")
            + (f"{_SPACE}p{conv.padding}" if conv.padding else "") + f"{_SPACE}g" * (conv.grouped and arch.towers > 1)
            for conv in arch.conv),
        "towers or groups": str(arch.towers),
        "hidden layers": ", ".join(f"{layer.width:,}" for layer in arch.dense) or "none",
        "parameters": f"{facts['total', 'parameters']} ({arch.classes:,} classes)",
        "after the convolutions": _by_layer(after),
        "response norm": "<br>".join(facts[place] for place in (("norm", "formula"), ("norm", "within maps"))
                                     if place in facts) or "none",
        "pooling": f"{facts['pool', 'window']}, rounded {_rounding(arch.pool_rounding)}"
        + (f"; then averaged to {facts['average_pool', 'output size']}" if arch.average_pool else ""),
        "dropout": facts.get(("dropout", "probability"), "none"),
        "activation": next(op for op in activation if op in ("ReLU", "tanh", "sigmoid"))
        + (", after batch norm in the hidden layers" if arch.dense_norm and arch.dense else ""),
        "image, then view": f"{arch.input.side}, {arch.input.crop}", "conv1's output": facts["conv1", "output side"],
        "mean": facts["input", "mean"], "scale": facts["input", "scale"], "channels": facts["input", "channels"],
        "weights": _by_layer({layer: drawn for layer, (drawn, _, _) in zip(layers, weights, strict=True)}),
        "biases": "drawn as the weights" if arch.initialization == "fan-in" else ", ".join(
            bias for _, _, bias in weights),
    }


def _recipe_row(name: str) -> dict[str, str]:
    """Column -> value, of one recipe."""
    recipe = RECIPES[name]
    facts = {what: fact.value for (_, what), fact in recipe_facts(recipe).items()}
    plain = {what: fact.value for (_, what), fact in recipe_facts(RECIPES["paper"]).items()}
    shown = {"epochs", "batch size", "learning rate", "schedule", "momentum", "update rule", "weight decay", "crop",
             "mirrored", "one crop for", "PCA color noise", "bias learning rate"}
    mirrored = "" if facts["mirrored"] == plain["mirrored"] else ", not mirrored"
    group = "" if recipe.view_group == 1 else f", one crop and mirror for {facts['one crop for']}"
    networks = [f"`{arch.name}`" for arch in ARCHS.values() if default_recipe(arch).name == name]
    return {
        "default of": ", ".join(networks) or "-",
        "epochs": facts["epochs"], "batch": facts["batch size"],
        "learning rate": f"{facts['learning rate']}; {facts['schedule']}",
        "momentum": facts["momentum"] + (", PyTorch's rule" if not recipe.lr_in_velocity else "")
        + (", Nesterov" if recipe.nesterov else ""),
        "weight decay": facts["weight decay"], "biases": f"rate {facts['bias learning rate']}",
        "training views": f"{facts['crop']}{mirrored}{group}", "color noise": facts["PCA color noise"],
        "also": "; ".join(f"{what}: {value}" for what, value in facts.items()
                          if what not in shown and value != plain[what]) or "-"}


def _by_layer(values: Mapping[str, str]) -> str:
    """Each value with the layers that have it."""
    shared = _by_value(values)
    return "<br>".join(f"{_names(names) if len(shared) > 1 else 'all'}: {value}" for value, names in shared.items())


def _by_value(values: Mapping[str, str]) -> dict[str, list[str]]:
    """Value -> the keys that have it."""
    found: dict[str, list[str]] = {}
    for key, value in values.items():
        found.setdefault(value, []).append(key)
    return found


def _names(layers: list[str]) -> str:
    return ", ".join(layer.replace("hidden", "hidden ") for layer in layers)


def _rounding(rounding: str) -> str:
    return {"ceil": "up", "floor": "down"}[rounding]


def published_errors() -> list[PublishedError]:
    """The errors of docs/published-errors.json."""
    found: list[PublishedError] = json.loads(PUBLISHED.read_text(encoding="utf-8"))["errors"]
    return found


def _published() -> Iterator[str]:
    lines = ["| network | images | views | top-1 | top-5 | source |", "|---|---|---|---|---|---|"]
    rows = [(PAPER_SYSTEMS[row.system], f"{row.images}", str(row.views), row.top1_error, row.top5_error,
             f"the paper, {row.where}, \"{row.system}\"") for row in REPORTED if row.system in PAPER_SYSTEMS]
    rows += [(row["network"], row["images"], str(row["views"]), row["top1_error"], row["top5_error"],
              f"[{row['source']}]({row['url']})") for row in published_errors()]
    order = list(ARCHS)
    for name, images, views, top1, top5, source in sorted(rows, key=lambda row: order.index(row[0])):
        errors = ["-" if error is None else f"{error:.1f}" if error == round(error, 1) else f"{error:.2f}"
                  for error in (top1, top5)]
        lines.append(f"| `{name}` | {images} | {views} | {errors[0]} | {errors[1]} | {source} |")
    without = [f"`{name}`" for name in ARCHS if name not in {row[0] for row in rows}]
    yield "\n".join(lines)
    yield f"No errors by others are known of {', '.join(without)}."


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
