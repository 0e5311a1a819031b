"""Checks of a run before its images are opened, so that a mistake packs nothing: network, recipe, processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.folds import parse_fold
from alexnet.errors import UserError, require
from alexnet.models.alexnet import AlexNet
from alexnet.training.class_weights import require_weight_for_each
from alexnet.training.head import require_output_layer_alone
from alexnet.training.parallel.plan import Parallel, partition_plan
from alexnet.training.resume import SAME_DATA_OR_OTHER, SAME_OR_OTHER, require_same_classes, require_same_settings
from alexnet.training.run_folder import read_config
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
    require_whole_batches(recipe, readers_of(parallel, processes))
    if recipe.optimizer == "lbfgs":
        require_output_layer_alone(network, recipe, processes)


def readers_of(parallel: Parallel, processes: int) -> int:
    """How many processes read different parts of every batch."""
    return 1 if parallel == "towers" else processes


def require_whole_batches(recipe: Recipe, readers: int) -> None:
    """Mixup and CutMix: the image that another one is mixed with must be read by the same process."""
    require(readers == 1 or not recipe.mixes_images, "mixup and CutMix mix images of a whole batch, of which each of "
            f"{readers} processes reads only a part", "train in one process or with --parallel towers, or set "
            "recipe.mixup_alpha=0 and recipe.cutmix_alpha=0")


def check_division(out: Path, fold: str | None, group: str | None, has_own_groups: bool) -> None:
    """Raise UserError if the images of a resumed run would be divided in another way, which packing would have to show.

    Args:
        out: the run's folder; nothing is checked if its config.json is missing or damaged.
        fold: --fold of now.
        group: --group of now; None: that of the run.
        has_own_groups: whether the data are packed or streamed, and so have the groups that they were packed with.
    """
    try:
        data = read_config(out)["data"]
    except UserError:
        return
    former = data.get("fold")
    changes = [(f"on fold {former[0]}/{former[1]}" if former else "without --fold",
                "on fold {}/{}".format(*parse_fold(fold)) if fold else "without --fold")]
    if group and not has_own_groups:
        changes.append((f"with --group {data['group']}" if "group" in data else "without --group",
                        f"with --group {group}"))
    for then, now in changes:
        require(then == now, f"{out} was started {then} and is now resumed {now}", SAME_OR_OTHER)


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
    require(before == len(classes), f"{out} was started with data of {before:,} classes, and this data has "
            f"{len(classes):,}", SAME_DATA_OR_OTHER)
    if saved:
        require_same_classes(out, _recorded_classes(out) or classes, classes)


def _recorded_classes(out: Path) -> Sequence[str]:
    """The names in the run's config.json; none if it is missing or damaged."""
    try:
        return read_config(out)["data"].get("classes", [])
    except UserError:
        return []
