"""Checks of a run before its images are opened, so that a mistake packs nothing: network, recipe, processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.errors import require
from alexnet.models.alexnet import AlexNet
from alexnet.training.class_weights import require_weight_for_each
from alexnet.training.head import require_output_layer_alone
from alexnet.training.parallel.plan import Parallel, partition_plan
from alexnet.training.resume import require_same_settings
from alexnet.training.state import State


def check_network(arch: Arch, recipe: Recipe, parallel: Parallel, processes: int) -> None:
    """Raise UserError for a network that cannot be built, frozen or split as asked. No memory is taken for weights.

    Args:
        arch: the network.
        recipe: `freeze` and `optimizer`.
        parallel: how `processes` share the network.
        processes: how many train.
    """
    with torch.device("meta"):
        network = AlexNet(arch, seed=None)
    network.freeze(recipe.freeze)
    partition_plan(arch, parallel, processes)
    if recipe.optimizer == "lbfgs":
        require_output_layer_alone(network, recipe, processes)


def check_resumed(
    out: Path, saved: tuple[Arch, Recipe, State] | None, arch: Arch, recipe: Recipe, state: State,
) -> None:
    """Raise UserError if a run would be resumed with another network, recipe, seed, precision or transform.

    Args:
        out: the run's folder.
        saved: of the run to resume; None for a new run.
        arch, recipe: those that were asked for.
        state: has the seed, the precision and the transform that were asked for.
    """
    if saved:
        require_same_settings(out, saved, arch, recipe, state)


def check_classes(
    classes: Sequence[str], recipe: Recipe, out: Path, saved: tuple[Arch, Recipe, State] | None,
) -> None:
    """Raise UserError for data with another number of classes than the recipe's weights or the resumed run.

    Args:
        classes: of the data.
        recipe, out, saved: as for `check_resumed`.
    """
    require_weight_for_each(recipe, len(classes))
    before = saved[0].classes if saved else len(classes)
    require(before == len(classes), f"{out} was begun with data of {before:,} classes, and this data has "
            f"{len(classes):,}", "resume it with the same, or choose another --out")
