"""The `list` and `explain` commands: the named networks, and how every size of a network is calculated."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from alexnet._runtime.hub_address import is_hub_address
from alexnet._runtime.local_files import require_no_url
from alexnet._runtime.software import versions_text
from alexnet.architecture.explain_diff import Fact, Place
from alexnet.architecture.network_presets import ARCHS, arch
from alexnet.architecture.overrides import configure
from alexnet.architecture.preset_listing import all_networks, all_recipes, presets_named
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import default_recipe
from alexnet.architecture.spec import Arch
from alexnet.cli.app import HTML_FILE, PAPER, Json, Overwrite, Settings, app, check_output
from alexnet.cli.settings_table import presets_text, settings_text
from alexnet.errors import require
from alexnet.models.packaged import packaged_path

if TYPE_CHECKING:
    from alexnet.models.checkpoint import Checkpoint
    from alexnet.models.stored_network import StoredNetwork


@app.command(name="list", group=PAPER, sort_key=0)
def list_(name: str | None = None, weights: str | None = None, /, *, json_: Json = False) -> None:
    """List the named networks and recipes, every setting of one of them, or the named pretrained weights.

    Args:
        name: A network or recipe, such as modern: show each setting with its value and meaning. weights: the pretrained
            network of the package, and torchvision's and Caffe's weights, with errors, license, address and checksum.
        weights: After weights: one of these names, or a checkpoint or run: show its facts and all of its classes.
    """
    if name == "weights":
        _list_weights(weights, json_)
        return
    require(weights is None, f"list {name} takes no other name", "did you mean alexnet list weights NAME?")
    if name is not None:
        presets = presets_named(name)
        print(json.dumps([asdict(preset) for preset in presets], indent=2) if json_ else settings_text(presets))
        return
    networks, recipes = all_networks(), all_recipes()
    if json_:
        rows = [{key: value for key, value in asdict(row).items() if value} for row in (*networks, *recipes)]
        print(json.dumps({"networks": rows[: len(networks)], "recipes": rows[len(networks) :]}, indent=2))
    else:
        print(presets_text(networks, recipes))


def _list_weights(name: str | None, json_: bool) -> None:
    from rich.console import Console

    from alexnet.cli.weights_table import print_weights, print_weights_table
    from alexnet.models.known_weights import class_names, known_weights, named

    console = Console(highlight=False)
    if name is None:
        known = known_weights()
        if json_:
            print(json.dumps([asdict(each) for each in known], indent=2))
        else:
            print_weights_table(console, known)
    elif entry := named(name):
        classes, measured = class_names(entry)
        if json_:
            print(json.dumps({**asdict(entry), "class_names": classes, "measured": measured}, indent=2))
        else:
            print_weights(console, entry, classes, measured)
    else:
        saved = _saved(name)
        if json_:
            print(json.dumps({"name": name, "arch": saved.arch.name, "classes": len(saved.classes),
                              "class_names": saved.classes, "errors": saved.errors,
                              "versions": saved.versions}, indent=2))
        else:
            console.print(f"{name}: {saved.arch.name}, {len(saved.classes):,} classes", soft_wrap=True)
            if saved.versions:
                console.print(f"written by {versions_text(saved.versions)}", soft_wrap=True, markup=False)
            console.print(", ".join(saved.classes))


@app.command(group=PAPER, sort_key=1)
def explain(
    name: Annotated[str, Parameter(name="NETWORK")] = "paper", /, *, size: int | None = None, layer: str | None = None,
    diff: str | None = None, html: Path | None = None, overwrite: Overwrite = False, settings: Settings = None,
    json_: Json = False,
) -> None:
    """Show the output size, parameters, multiply-adds and receptive field of every layer, with the calculation.

    Args:
        name: paper, paper-conv6, code2012, code2010, caffe, caffenet, torchvision, one-gpu, paper-bn, torchvision-bn,
            cifar, cifar-18pct, small or medium; or a run's folder, a checkpoint or a file of weights.
        size: Side of the square input in pixels. Default: the network's crop.
        layer: Show one layer in full, such as conv1.
        diff: Another network, run or checkpoint: list the differences, layer by layer and in the recipe, with the
            source of each number; of two runs also in the start, seed, transform and data of training.
        html: Write an interactive page instead, on which any number can be changed.
    """
    if html is not None:
        check_output(html, HTML_FILE, overwrite=overwrite)

    from rich.console import Console

    from alexnet.architecture import explain_diff, explorer
    from alexnet.architecture.arithmetic import explain as calculate
    from alexnet.cli.render import differences_table, explanation_table

    network, recipe, training = _network(name)
    network, recipe = configure(network, recipe, settings)
    console = Console(highlight=False)
    if diff is not None:
        require(size is None and layer is None and html is None,
                "--diff compares whole networks at their own input sizes", "leave out --size, --layer and --html")
        other, other_recipe, other_training = _network(diff)
        recipes = recipe or default_recipe(network), other_recipe or default_recipe(other)
        both = (training, other_training) if training and other_training else None
        found = explain_diff.differences(network, other, *recipes, both)
        if json_:
            print(json.dumps(explain_diff.to_json((network, other), recipes, found), indent=2))
        else:
            console.print(differences_table(found, (name, diff), recipes, compares_training=both is not None))
    elif html is not None:
        require(layer is None and not json_, "--html writes a page of all layers", "leave out --layer and --json")
        explorer.write(html, network, size)
        print(html)
    elif json_:
        print(json.dumps(calculate(network, size).to_json(), indent=2))
    else:
        console.print(explanation_table(calculate(network, size), layer))


def _network(name: str) -> tuple[Arch, Recipe | None, dict[Place, Fact]]:
    """A preset network, or that of a run, a checkpoint or a file of weights, with its recipe and other training facts.
    """
    is_on_hub = is_hub_address(name)
    if not is_on_hub:
        require_no_url(name, "networks")
    if name in ARCHS or not (is_on_hub or Path(name).exists() or packaged_path(name)):
        return arch(name), None, {}
    from alexnet.models.training_facts import training_facts

    saved = _saved(name)
    return saved.arch, saved.recipe, training_facts(saved)


def _saved(name: str) -> StoredNetwork | Checkpoint:
    """A stored network, without its tensors if their JSON says enough, because reading tensors imports torch."""
    from alexnet.models.stored_network import find_json, read_stored_network

    json_file = find_json(name)
    with suppress(ValueError, KeyError, TypeError):  # `open_weights` has the error, or the warning
        if json_file:
            return read_stored_network(json_file)
    from alexnet.models.formats.open_weights import open_weights

    return open_weights(name)
