"""Settings that have no effect because of others, each with that reason: the init_std of a layer with kaiming."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch

_OF_SGD = (
    "epochs", "batch_size", "learning_rate", "momentum", "bias_lr_factor", "bias_lr_schedule", "new_layer_lr_factor",
    "lr_in_velocity", "nesterov", "lars_trust", "schedule", "lr_drop_count", "drop_factor", "drop_epochs", "patience",
    "warmup_epochs", "early_stop_epochs", "conv1_slow_epoch", "conv1_stop_epoch", "freeze")


def reason_unused(path: str, arch: Arch | None, recipe: Recipe | None) -> str:
    """Why a setting has no effect, such as "arch.initialization is kaiming"; "" where it has one.

    Args:
        path: as `--set` takes it: `arch.conv1.init_std`, or `arch.conv.init_std` of all convolutions.
        arch: the network; None where only settings of a recipe are asked for.
        recipe: the recipe; None where only settings of a network are asked for.
    """
    rules = [*(_of_network(arch) if arch else ()), *(_of_recipe(recipe) if recipe else ())]
    return next((reason for pattern, reason in rules if re.fullmatch(pattern, path)), "")


def unused_notes(settings: Iterable[str], arch: Arch, recipe: Recipe) -> Iterator[str]:
    """A sentence for each of these settings, such as "arch.conv1.init_std=0.1", that has no effect."""
    for setting in settings:
        path = setting.partition("=")[0].strip()
        if reason := reason_unused(path, arch, recipe):
            yield f"note: --set {setting} has no effect, as {reason}"


def _of_network(arch: Arch) -> Iterator[tuple[str, str]]:
    """Patterns of the paths of unused settings, and why they are unused."""
    layers = {op for conv in arch.conv for op in conv.post_ops.split()}
    if arch.norm != "lrn":
        yield r"arch\.lrn\..*", f"arch.norm is {arch.norm}"
    elif "norm" not in layers:
        yield r"arch\.lrn\..*", "no layer has norm in its post_ops"
    if "mapnorm" not in layers:
        yield r"arch\.map_lrn\..*", "no layer has mapnorm in its post_ops"
    if not layers & {"pool", "avgpool"}:
        yield r"arch\.pool_(kernel|stride|rounding)", "no layer has a pooling in its post_ops"
    if arch.initialization != "gaussian":
        yield r"arch\.(conv|dense)\d*\.init_std", f"arch.initialization is {arch.initialization}"
    if arch.initialization == "fan-in":  # which draws the output layer and the biases too
        yield r"arch\.(output_init_(std|bias)|(conv|dense)\d*\.init_bias)", "arch.initialization is fan-in"
    if not arch.dense:
        yield r"arch\.(dropout|dropout_on_inputs|dense_norm)", "the network has no hidden fully connected layer"
    elif not arch.dropout:
        yield r"arch\.dropout_on_inputs", "arch.dropout is 0"


def _of_recipe(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """As `_of_network`."""
    if recipe.optimizer == "lbfgs":
        yield rf"recipe\.({'|'.join(_OF_SGD)})", "the optimizer lbfgs (--head) fits the output layer in one pass"
    if recipe.schedule != "plateau":
        yield r"recipe\.(patience|lr_drop_count)", f"recipe.schedule is {recipe.schedule}"
    if recipe.schedule != "steps":
        yield r"recipe\.drop_epochs", f"recipe.schedule is {recipe.schedule}"
    if recipe.schedule not in ("plateau", "steps"):
        yield r"recipe\.drop_factor", f"recipe.schedule is {recipe.schedule}"
    if not recipe.weight_decay and recipe.optimizer == "sgd":  # with lbfgs, 0 is chosen on held-out images
        yield r"recipe\.(decay_biases|output_decay_factor)", "recipe.weight_decay is 0"
    if recipe.class_weights not in ("auto", "balanced"):
        yield r"recipe\.class_weight_cap", f"recipe.class_weights is {_kind(recipe.class_weights)}"
    if recipe.crop != "resized":
        yield r"recipe\.(crop_area|train_crop)", f"recipe.crop is {recipe.crop}"
    if not recipe.lighting:
        yield r"recipe\.lighting_(scale|rescale|stop_epoch)", "recipe.lighting is 0"


def _kind(class_weights: str | tuple[float, ...]) -> str:
    return class_weights if isinstance(class_weights, str) else "a list"
