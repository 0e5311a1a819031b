"""Report section on the recipe: every setting with its meaning, the environment, and the commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType

from alexnet.data.class_names import printable
from alexnet.reproduce.report.commands import Obstacle, follow_up_commands, obstacles, training_command, unnamed_data
from alexnet.reproduce.report.run_data import EpochChange, RunData

MEANINGS = {
    "name": "preset", "epochs": "passes over the training images",
    "batch_size": "images in a step", "learning_rate": "initial learning rate",
    "optimizer": "sgd: stochastic gradient descent; lbfgs: L-BFGS on the output layer",
    "momentum": "share of the last update in the next", "weight_decay": "L2 penalty on the weights",
    "decay_biases": "whether biases have weight decay too",
    "output_decay_factor": "weight decay of the output layer, as a multiple",
    "bias_lr_factor": "learning rate of biases, as a multiple",
    "bias_lr_schedule": "whether the learning rate of biases falls with that of the weights",
    "new_layer_lr_factor": "learning rate of newly initialized layers in fine-tuning, as a multiple",
    "lars_trust": "LARS trust coefficient; 0: no LARS",
    "lr_in_velocity": "yes: momentum as in §5; no: as in PyTorch",
    "nesterov": "Nesterov momentum", "schedule": "how the learning rate falls",
    "lr_drop_count": "number of drops of the learning rate, for plateau and steps",
    "drop_factor": "divisor of the learning rate at a drop",
    "drop_epochs": "epochs after which it drops, for steps",
    "patience": "epochs without improvement before a drop, for plateau",
    "warmup_epochs": "epochs over which the learning rate first rises",
    "label_smoothing": "share of the label spread over all classes",
    "class_weights": "what the losses of the classes are multiplied by",
    "class_weight_cap": "largest weight of a class over that of the largest class",
    "clip_norm": "norm to which longer gradients are shortened",
    "ema_decay": "decay of the moving average of the weights",
    "early_stop_epochs": "epochs without a lower validation error before training ends",
    "crop": "how training views are cropped", "crop_area": "smallest and largest share of the area, for resized crops",
    "train_crop": "side of the training views, where it is not that of the input",
    "mirror": "horizontal mirroring of every other view", "lighting": "standard deviation of the color noise (§4.1)",
    "lighting_scale": "unit of that deviation",
    "lighting_rescale": "whether views with color noise are divided by 1 + its deviation",
    "trivial_augment": "TrivialAugment: a random operation on each image",
    "erase_probability": "random erasing: share of the views in which a rectangle is erased",
    "mixup_alpha": "mixup of two images: parameter of the beta distribution",
    "cutmix_alpha": "CutMix of two images: parameter of the beta distribution",
    "view_group": "images that share one crop and mirroring",
    "conv1_slow_epoch": "epoch from which conv1 has a reduced learning rate",
    "conv1_stop_epoch": "epoch from which conv1 is frozen",
    "lighting_stop_epoch": "epoch from which there is no color noise", "freeze": "frozen layers",
}
"""What each field of a recipe means, in a few words."""

HEAD_FIELDS = {"name", "epochs", "optimizer", "weight_decay", "crop", "mirror", "freeze"}
"""Fields of a recipe that `train --head` uses."""

INPUT_MEANINGS = {
    "side": "pixels per side of a stored image", "crop": "pixels per side of the network's input",
    "mean": "what is subtracted: the mean of each pixel or of each channel", "scale": "divisor of each channel",
    "mean_crop": "part of the mean image that a view loses: the view's own, or the center crop",
    "channels": "order of the color channels",
}
"""What each field of an input specification means."""

EMPTY_VALUES = {"conv1_slow_epoch": "never", "conv1_stop_epoch": "never", "lighting_stop_epoch": "never",
                "freeze": "none", "clip_norm": "never", "ema_decay": "no average", "early_stop_epochs": "never",
                "erase_probability": "never", "mixup_alpha": "no mixup", "cutmix_alpha": "no CutMix"}
"""How zero or an empty value of a field is written."""

Setting = tuple[str, str, str]
"""Name, value and meaning of a setting, as text."""


@dataclass(frozen=True)
class RecipeSection:
    """How a run was trained."""

    command: str | None
    """None if no command line trains the run again, for the reasons in `obstacles`."""
    obstacles: Sequence[Obstacle]
    epoch_changes: Sequence[EpochChange]
    follow_up: Sequence[str]
    unnamed_data: str | None
    """What DATA stands for in the commands."""
    transform: str
    """Name of the user's own augmentation, which no command line has; "" without one."""
    groups: Sequence[tuple[str, Sequence[Setting]]]


def recipe(run: RunData) -> RecipeSection:
    """Recipe, input and environment, and the commands that train, evaluate and report the run again."""
    config, views = run.config, max((event["views"] for event in run.evaluations), default=1)
    missing = obstacles(run)
    return RecipeSection(
        None if missing else training_command(config), missing, run.epoch_changes,
        follow_up_commands(config, run.checkpoint_name, views), unnamed_data(config), config.get("transform", ""), [
            ("Recipe", _settings(_recipe(run), MEANINGS)),
            ("Input", _settings(config["arch"]["input"], INPUT_MEANINGS)),
            ("Environment", _settings(_environment(run))),
        ])


def _recipe(run: RunData) -> Mapping[str, object]:
    """The recipe; of `train --head`, only the fields that it uses, with the weight decay that it has chosen."""
    recipe, head = run.config["recipe"], run.checkpoint.provenance.get("head")
    if head is None or not run.is_head:
        return recipe
    used = {key: value for key, value in recipe.items() if key in HEAD_FIELDS}
    return used | {"weight_decay": head["weight_decay"]}


def _environment(run: RunData) -> dict[str, object]:
    config, data = run.config, run.config["data"]
    rates = [event["images_per_second"] for event in run.steps if "images_per_second" in event]
    init = run.checkpoint.provenance.get("init")
    environment = {
        "device": config.get("device"), "precision": config.get("precision"), "threads": config.get("threads"),
        **config.get("versions", {}), "seed": config.get("seed"),
        "speed": f"{median(rates):,.0f} img/s (median step)" if rates else None,
        "fine-tuned from": f"{config.get('init', 'weights')}: {init['arch']} with {init['classes']:,} classes, "
        f"SHA-256 {init['sha256'][:12]}"
        if init else None,
        "class weights": _class_weights(run), "transform": config.get("transform"),
        "fold": "{} of {}, whose images are the validation set".format(*data["fold"]) if "fold" in data else None,
        "groups": f"{data['group']}: each in training or in validation" if "group" in data else None,
        "data": data["source"], "data fingerprint": str(data.get("fingerprint", ""))[:12],
    }
    return {key: value for key, value in environment.items() if value not in (None, "")}


def _class_weights(run: RunData) -> str | None:
    """The smallest and the largest class weight with their classes; None if all classes weigh alike."""
    weights = next((event["class_weights"] for event in run.events
                    if event["event"] == "start" and "class_weights" in event), None)
    if not weights:
        return None
    low, high = (weights.index(choose(weights)) for choose in (min, max))
    return (f"{weights[low]:.2g} for {run.checkpoint.classes[low]} up to {weights[high]:.2g} for "
            f"{run.checkpoint.classes[high]}")


def _settings(values: Mapping[str, object], meanings: Mapping[str, str] = MappingProxyType({})) -> list[Setting]:
    return [(key.replace("_", " "), printable(_text(value or EMPTY_VALUES.get(key, value))), meanings.get(key, ""))
            for key, value in values.items()]


def _text(value: object) -> str:
    """A JSON value for a reader."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
