"""Findings from measurements: saturated or dead units, updates of the wrong size, a loss that does not fall."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from alexnet.architecture.spec import Arch
from alexnet.errors import Finding
from alexnet.inference.calibration import enough_images
from alexnet.inference.grouped import GroupedSample
from alexnet.inference.metrics import sample_interval
from alexnet.inference.statistics import wilson
from alexnet.interpret.activations import ActivationReport

SATURATED_SHARE = 0.5
"""Share of a layer's values in the flat part of tanh or sigmoid, above which the layer is reported."""

DEAD_SHARE = 0.3
"""Share of a layer's ReLUs that are zero for every image, above which the layer is reported."""

VANISHING_RATIO = 1e-3
"""Gradient of the first layer over the largest gradient, below which gradients are reported as vanishing."""

VANISHING_RATIO_AT_CHANCE = 0.05
"""The same for a network whose error is at chance. Of the networks that `alexnet diagnose embedded` trains, those that
learn have 0.1 or more after 150 steps, and the one with sigmoids, which does not learn, 0.01."""

AT_CHANCE = 0.9
"""Top-1 error over that of always answering the largest class, from which an error may be called at chance: the
interval of a few images is so wide that it nearly always reaches that error."""

FAST_UPDATE, SLOW_UPDATE = 0.03, 1e-6
"""Mean absolute update over mean absolute weight, beyond which a layer is reported. About 0.001 is usual."""

EXPLODED_GRADIENT = 1e6
"""Root mean square of a layer's gradient, above which nothing else is worth reporting."""

WARM_UP_STEPS = 200
"""Training steps before which units and updates are not judged: the weights are still close to their initial values."""

PLATEAU_STEPS = 400
"""Training steps after which a loss that is still ln(classes) is reported."""

HEALTHY = ("healthy: the error is better than chance, units respond, gradients reach the first layer, and no update is "
           "far too large or too small")

SMALL_NETWORKS = ("small", "cifar")
"""Names of the presets beside which no smaller one is worth a try."""

SATURATED_REMEDY = ("scale the inputs to a standard deviation of 1 (arch.input.scale), draw smaller initial weights, "
                    "{normalize}or use ReLU (arch.activation=relu)")

LOWER_RATE = "lower the learning rate (--lr; `alexnet lr-find` suggests one)"


def layer_findings(
    activation: str, saturated: Mapping[str, float], dead: Mapping[str, float], update_ratio: Mapping[str, float],
    norm: str = "",
) -> list[Finding]:
    """Report the worst layer of each kind of problem.

    Args:
        activation: `Arch.activation`.
        saturated: layer -> share of its values where the activation is almost flat.
        dead: layer -> share of its units that are zero for every image.
        update_ratio: layer -> mean absolute update over mean absolute weight; empty if it was not measured.
        norm: `Arch.norm`, if known, so that batch normalization is not recommended to a network that has it.

    Returns:
        At most one finding each of the kinds "saturated", "dead", "update_too_large", "update_too_small".
    """
    found = []
    normalize = "" if norm == "batch" else "use batch normalization (arch.norm=batch), "
    layer = max(saturated, key=lambda name: saturated[name], default="")
    if activation != "relu" and layer and saturated[layer] > SATURATED_SHARE:
        found.append(Finding(
            "saturated", layer,
            f"{saturated[layer]:.0%} of its values lie where {activation} is almost flat and passes no gradient",
            SATURATED_REMEDY.format(normalize=normalize)))
    layer = max(dead, key=lambda name: dead[name], default="")
    if activation != "relu" and not found and layer and dead[layer] > DEAD_SHARE:
        found.append(Finding(
            "saturated", layer, f"{dead[layer]:.0%} of its units are saturated for every image measured, and pass "
            f"hardly any gradient", SATURATED_REMEDY.format(normalize=normalize)))
    if activation == "relu" and layer and dead[layer] > DEAD_SHARE:
        found.append(Finding(
            "dead", layer, f"{dead[layer]:.0%} of its units are zero for every image measured, and get no gradient",
            f"lower the learning rate, {normalize}or start with biases of 0.1 to 1 (arch.conv.init_bias)"))
    if update_ratio:
        fast = max(update_ratio, key=lambda name: update_ratio[name])
        slow = min(update_ratio, key=lambda name: update_ratio[name])
        if update_ratio[fast] > FAST_UPDATE:
            found.append(Finding("update_too_large", fast, f"a step changes its weights by {update_ratio[fast]:.1%}; "
                                 "0.1% is usual", LOWER_RATE))
        if update_ratio[slow] < SLOW_UPDATE:
            found.append(Finding("update_too_small", slow, f"a step changes its weights by {update_ratio[slow]:.1g} of "
                                 "their size", "raise the learning rate, or draw initial weights by fan-in "
                                 "(arch.initialization=kaiming)"))
    return found


def findings(report: ActivationReport, arch: Arch, steps: int | None) -> list[Finding]:
    """Report what is wrong with a network: an exploding loss or gradient alone, else every other problem.

    Args:
        report: what `inspect_activations` measured.
        arch: the network.
        steps: training steps taken; None if unknown, as for weights of another project.
    """
    if loss := exploding_loss(report.loss, arch.classes, steps):
        return [loss]
    if wild := next((layer for layer in report.weights if not layer.gradient < EXPLODED_GRADIENT), None):
        return [Finding("exploding", wild.layer, f"the gradient of its weights is {wild.gradient:.1g}{_after(steps)} "
                        "and is exploding", LOWER_RATE)]
    loss = loss_finding(report.loss, arch.classes, steps, arch.norm)
    chance = chance_finding(
        f"{report.images:,} measured images", report.top1_error, wilson(report.top1_wrong, report.images),
        1 - report.largest_class / report.images, report.loss, arch, steps)
    found = [finding for finding in [chance or loss] if finding]
    found += layer_findings(
        arch.activation, {units.layer: units.saturated for units in report.units},
        {units.layer: units.dead for units in report.units},
        {weights.layer: weights.ratio for weights in report.weights}, arch.norm)
    first, largest = report.weights[0], max(weights.gradient for weights in report.weights)
    if first.gradient < (VANISHING_RATIO_AT_CHANCE if chance else VANISHING_RATIO) * largest:
        remedies = ["use units that do not saturate (arch.activation=relu)"] * (arch.activation != "relu") + [
            "use batch normalization (arch.norm=batch)"] * (arch.norm != "batch")
        found.append(Finding("vanishing", first.layer, f"the gradient of its weights is {first.gradient:.1g}, and the "
                             f"largest of a layer is {largest:.1g}: gradients vanish on their way to it",
                             " or ".join(remedies) or "use fewer layers"))
    return found


def chance_finding(
    images: str, error: float, interval: Sequence[float], constant: float, loss: float, arch: Arch, steps: int | None,
) -> Finding | None:
    """Report an error that is not measurably better than that of an answer which ignores the image; else None.

    Args:
        images: which ones were measured: "100 validation images".
        error: the top-1 error on them, a fraction.
        interval: its 95% interval, over groups where the images are in groups.
        constant: error of always answering the largest class, a fraction; 0 if all images are of one class.
        loss: mean over the images, in nats.
        arch: the network.
        steps: training steps taken; None if unknown.
    """
    low, high = interval
    if not high >= constant > 0 or error < AT_CHANCE * constant:
        return None
    remedies = ["use ReLU (arch.activation=relu)"] * (arch.activation != "relu") + [
        "use batch normalization (arch.norm=batch)"] * (arch.norm != "batch") + [
        "train longer, or with another learning rate (--lr; `alexnet lr-find` suggests one)"]
    stuck = loss_finding(loss, arch.classes, steps, arch.norm) if arch.activation == "relu" else None
    return Finding(
        "error_at_chance", "", f"the error is at chance{_after(steps)}: the top-1 error on {images} is "
        f"{error:.1%} (95% interval {low:.1%} to {high:.1%}), and always answering the largest class would be wrong "
        f"for {constant:.1%}; the loss is {loss:.3f}, and ln({arch.classes}) = {math.log(arch.classes):.3f} is that "
        "of the same probability for every class", stuck.remedy if stuck else "; ".join(remedies))


def loss_finding(loss: float, classes: int, steps: int | None, norm: str = "") -> Finding | None:
    """Report a loss that explodes ("exploding") or does not fall ("loss_not_falling"); None if it looks healthy.

    A network that has learned nothing gives every class the same probability, so its loss is ln(classes).

    Args:
        loss: mean over the latest stretch of training, in nats.
        classes: number of classes.
        steps: training steps taken; None if unknown.
        norm: as for `layer_findings`.
    """
    if found := exploding_loss(loss, classes, steps):
        return found
    chance = math.log(classes)
    if (steps is None or steps >= PLATEAU_STEPS) and abs(loss - chance) < 0.01 * chance:
        remedy = "try another learning rate" if norm == "batch" else (
            "initial weights with standard deviation 0.01 start this way and may need a thousand steps; if it lasts, "
            "try a batch-norm form (--arch paper-bn), biases of 0.1 (--arch caffe) or another learning rate")
        return Finding("loss_not_falling", "", f"the loss is {loss:.3f}, still ln({classes}) = {chance:.3f}"
                       f"{_after(steps)}: every class gets the same probability", remedy)
    return None


def input_finding(loss: float, step: int, transform: str = "") -> Finding:
    """The finding for a loss that is not finite because the network's input is not.

    transform: name of the user's own augmentation, which then is the likeliest cause; "" without one.
    """
    return Finding("input_not_finite", "", f"the loss is {loss} after step {step}: the network's input has values that "
                   "are not finite", f"check what the transform {transform} returns for these images" if transform else
                   "check arch.input.scale and arch.input.mean, and pack the data again")


def useless_remedy(arch: str, is_pretrained: bool, is_head: bool) -> str:
    """What to try with a network that has learned nothing: none of what the run did already.

    Args:
        arch: the network's name.
        is_pretrained: whether training started from trained weights.
        is_head: whether only the output layer was trained (`train --head`).
    """
    if is_head:
        return "fine-tune the other layers too (leave out --head), or start from other weights"
    ways = ["another learning rate (--lr; `alexnet lr-find` suggests one)", "more epochs"]
    if not is_pretrained:
        ways += [] if arch in SMALL_NETWORKS else ["a smaller network such as --arch small"]
        ways.append("trained weights to start from (--init)")
    return f"try {', '.join(ways[:-1])} or {ways[-1]}; if nothing helps, check that the labels are right"


def result_findings(
    wrong: int, loss: float, class_counts: Sequence[int], classes: int, remedy: str, is_pretrained: bool,
    sample: GroupedSample | None = None,
) -> list[Finding]:
    """Report a network that is no better on validation images than an answer that ignores the image.

    Kinds: "no_better_than_largest_class", where the error's 95% interval reaches the error of always answering the
    largest class; "few_validation_images", where it does so only because it is wide; "loss_above_uniform", where the
    error is lower, but the loss is above ln(classes), that of the same probability for every class.

    Args:
        wrong: images whose likeliest class is wrong.
        loss: mean over the images, in nats.
        class_counts: images of each class.
        classes: number of classes.
        remedy: `useless_remedy` of the run.
        is_pretrained: whether training started from trained weights.
        sample: the groups of the images, if they have groups.
    """
    images, groups = sum(class_counts), sample.top1 if sample else None
    error, constant = wrong / images, 1 - max(class_counts) / images
    low, high = sample_interval(wrong, images, groups)
    over = f" over {sample.groups:,} groups" if sample else ""
    measured = (f"the top-1 error on the {images:,} validation images is {error:.1%} (95% interval{over} {low:.1%} to "
                f"{high:.1%}), and always answering the largest class would be wrong for {constant:.1%}")
    if high >= constant > 0:
        if error < 0.9 * constant and sample_interval(
                round(0.9 * constant * images), images, groups)[1] >= constant:
            return [Finding("few_validation_images", "", f"{measured}: so few images cannot tell the two apart",
                            "hold out more images (alexnet pack --held-out 0.2), or measure all with --folds 5")]
        return [Finding("no_better_than_largest_class", "", f"{measured}: the network is not measurably better",
                        remedy)]
    chance = math.log(classes)
    if loss > chance:
        return [Finding("loss_above_uniform", "", f"the validation loss is {loss:.3f}, above ln({classes}) = "
                        f"{chance:.3f}, that of the same probability for every class, while the top-1 error is "
                        f"{error:.1%}: the network is far too confident where it is wrong",
                        _confidence_remedy(images, is_pretrained))]
    return []


def _confidence_remedy(images: int, is_pretrained: bool) -> str:
    """What helps a network that is too confident; `calibrate` only where the validation images suffice for it."""
    ways = [] if is_pretrained else ["start from trained weights (--init)"]
    ways += ["correct the confidence with `alexnet calibrate`"] if enough_images(images) else []
    return ", or ".join(ways or ["add images, and train for fewer epochs"])


def exploding_loss(loss: float, classes: int, steps: int | None) -> Finding | None:
    """Report a loss that is not finite or far above ln(classes); nothing else is then worth reporting."""
    if not math.isfinite(loss):
        return Finding("exploding", "", f"the loss is {loss}{_after(steps)}: the weights have exploded",
                       f"{LOWER_RATE}, or train in fp32 if this was fp16")
    chance = math.log(classes)
    if (steps is None or steps >= 20) and loss > 3 * chance + 3:
        return Finding("exploding", "", f"the loss is {loss:.3g}, far above ln({classes}) = {chance:.3f}"
                       f"{_after(steps)}, and is exploding", LOWER_RATE)
    return None


def _after(steps: int | None) -> str:
    return "" if steps is None else f" after {steps} step{'s' * (steps != 1)}"
