"""The `list` and `explain` commands: the named networks, and how every size of a network is calculated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from alexnet.architecture.overrides import configure
from alexnet.architecture.presets import ARCHS, RECIPES, arch, default_recipe
from alexnet.cli.app import HTML_FILE, PAPER, Json, Settings, app, check_output
from alexnet.errors import require


@app.command(name="list", group=PAPER, sort_key=0)
def list_(*, json_: Json = False) -> None:
    """List the named networks and recipes."""
    from alexnet.architecture.arithmetic import explain as calculate

    rows = [{"name": name, "parameters": calculate(network).parameters, "input": network.input.crop,
             "recipe": default_recipe(network).name} for name, network in ARCHS.items()]
    if json_:
        print(json.dumps({"networks": rows, "recipes": list(RECIPES)}, indent=2))
        return
    for row in rows:
        print(f"{row['name']:<16}{row['parameters']:>12,} parameters {row['input']:>5} pixels   recipe {row['recipe']}")
    print(f"recipes: {', '.join(RECIPES)}")


@app.command(group=PAPER, sort_key=1)
def explain(
    name: Annotated[str, Parameter(name="arch")] = "paper", /, *, size: int | None = None, layer: str | None = None,
    diff: str | None = None, html: Path | None = None, settings: Settings = None, json_: Json = False,
) -> None:
    """Show the output size, parameters, multiply-adds and receptive field of every layer, with the calculation.

    Args:
        name: paper, paper-conv6, code2012, caffe, caffenet, torchvision, one-gpu, paper-bn, torchvision-bn, cifar or
            small.
        size: Side of the square input in pixels. Default: the network's crop.
        layer: Show one layer in full, such as conv1.
        diff: Another network: list the differences, layer by layer and in the recipe, with the source of each number.
        html: Write an interactive page instead, on which any number can be changed.
    """
    from rich.console import Console

    from alexnet.architecture import differences, explorer
    from alexnet.architecture.arithmetic import explain as calculate
    from alexnet.cli.render import differences_table, explanation_table

    network, recipe = configure(arch(name), None, settings)
    console = Console(highlight=False)
    if diff is not None:
        require(size is None and layer is None and html is None,
                "--diff compares whole networks at their own input sizes", "leave out --size, --layer and --html")
        if json_:
            print(json.dumps(differences.to_json(network, arch(diff), recipe), indent=2))
        else:
            console.print(differences_table(network, arch(diff), recipe))
    elif html is not None:
        require(layer is None and not json_, "--html writes a page of all layers", "leave out --layer and --json")
        check_output(html, HTML_FILE)
        explorer.write(html, network, size)
        print(html)
    elif json_:
        print(json.dumps(calculate(network, size).to_json(), indent=2))
    else:
        console.print(explanation_table(calculate(network, size), layer))
