"""Calibration: one temperature that makes probabilities match how often the network is right (Guo et al. 2017).

The temperature divides the logits before the softmax, so it changes no image's top-1 class with one view. It is fitted
on one half of the images, and the expected calibration error (ECE) is measured on the other half. Which half an image
is in depends on its content alone, so that copies of an image stand on the same side, and so do near duplicates and the
images of a group (`--group`).

Shapes: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet.data.folds import copies_and_groups, together
from alexnet.data.loader import batches
from alexnet.data.packed import PackedSplit
from alexnet.errors import UserError, require
from alexnet.inference.grouped import design_effect, effective_images, group_sums, intraclass_correlation
from alexnet.inference.held_apart import HeldApart, held_apart
from alexnet.inference.metrics import Interval, predicted_classes
from alexnet.inference.predictor import Model
from alexnet.models.checkpoint_json import CalibrationJson

ECE_BINS = 15
"""Bins of equal width, as in Guo et al. 2017."""

FEWEST_IMAGES = 20
"""Images that each half needs at least."""

MORE_IMAGES = ("give more images that the network was not trained on (often more than 100 are needed), or hold more "
               "out and train again: alexnet pack PHOTOS PACKED --held-out 0.4, then alexnet train PACKED")
"""The remedy for too few images."""

DRAWS = 1000
"""Random draws of the outcomes of a calibrated network."""

_COLDEST, _HOTTEST = 0.01, 100.0
"""Temperatures searched. A best one outside them means that there is none."""


@dataclass(frozen=True)
class CalibrationError:
    """How far probabilities are from frequencies, on some images."""

    loss: float
    """Mean negative log-probability of the true class, in nats."""
    ece: float
    """Expected calibration error, a fraction."""
    calibrated_ece: float
    """The ECE that a perfectly calibrated network with these confidences has on average on as many images. It is above
    zero, because the frequency in a bin is that of few images."""
    calibrated_range: Interval
    """Such a network's ECE is in this range in 95 of 100 cases. There is no bootstrap interval of `ece` itself, which
    would be biased upward and may exclude the value."""


@dataclass(frozen=True)
class Calibration:
    """A fitted temperature, and the calibration error before and after it, on images that it was not fitted on."""

    temperature: float
    fitted_images: int
    measured_images: int
    before: CalibrationError
    """At temperature 1."""
    after: CalibrationError

    loss_change: float
    """Mean change of the loss, negative if the temperature lowers it."""
    loss_change_interval: Interval
    """95%, of the paired differences of the images."""
    groups: int | None = None
    """Groups of the measured images, which the interval and the ranges are over; None for images without groups."""

    @property
    def ece_undecided(self) -> bool:
        """Whether a perfectly calibrated network may have the ECE that was measured before, on as few images."""
        low, high = self.before.calibrated_range
        return low <= self.before.ece <= high

    @property
    def helps(self) -> bool:
        """Whether the temperature lowers the loss of images that it was not fitted on, by more than chance."""
        return self.loss_change_interval[1] < 0

    def to_json(self) -> dict[str, object]:
        """Every field but `groups` of images without groups, and `helps`."""
        tree = asdict(self) | {"helps": self.helps}
        return tree if self.groups is not None else {name: tree[name] for name in tree if name != "groups"}

    def stored(self) -> CalibrationJson:
        """What the checkpoint keeps."""
        return {"temperature": self.temperature, "fitted_images": self.fitted_images,
                "measured_images": self.measured_images, "ece_before": self.before.ece, "ece_after": self.after.ece}


def compute_logits(
    model: Model, split: PackedSplit, *, batch_size: int = 128,
    on_progress: Callable[[int, int], object] | None = None,
) -> NDArray[np.float32]:
    """The network's logits for the center crops of all images of a split: float32 [N, K], in the split's order."""
    logits_NK = np.empty((len(split), len(model.classes)), np.float32)
    done = 0
    for batch in batches(split, batch_size, device=model.preprocess.mean_HWC.device):
        with torch.inference_mode():
            outputs_NK = model.inference_network(model.preprocess(batch.pixels))
        logits_NK[batch.indices] = outputs_NK.float().cpu().numpy()
        done += len(batch.indices)
        if on_progress:
            on_progress(done, len(split))
    return logits_NK


class Halves(NamedTuple):
    """Which images fit the temperature and which measure it."""

    together_N: NDArray[np.uint64]
    """For `calibrate`."""
    fit_N: NDArray[np.bool_]
    measured_N: NDArray[np.bool_]
    apart: HeldApart
    """What is in neither, as it has something in common with images that fit."""


def halve(split: PackedSplit) -> Halves:
    """Divide images into two halves that have no copies and no groups in common, and no near duplicates.

    Where images are alike by nature, as digits are, near duplicates stay. Those of two groups join no groups, but are
    not measured.
    """
    together_N = together(split, 2) if split.groups is None else copies_and_groups(split.content_hashes, split.groups)
    fit_N = fitting_half(together_N)
    apart = held_apart(split.subset(np.flatnonzero(fit_N)), split.subset(np.flatnonzero(~fit_N)))
    measured_N = ~fit_N
    measured_N[measured_N] = apart.kept_M
    return Halves(together_N, fit_N, measured_N, apart)


def calibrate(
    logits_NK: NDArray[np.float32], labels_N: NDArray[np.int64], together_N: NDArray[np.uint64],
    measured_N: NDArray[np.bool_] | None = None, groups_N: NDArray[np.uint64] | None = None,
) -> Calibration:
    """Fit a temperature on one half of the images, and measure the calibration error on the other half.

    Args:
        logits_NK: of the network at temperature 1.
        labels_N: true classes.
        together_N: a number for each image, equal for images of one half: content hashes, or `Halves.together_N`.
        measured_N: which images measure; default: all that do not fit.
        groups_N: equal for images that belong together; None: the images are independent.

    Raises:
        UserError: there are too few images, or no temperature is best.
    """
    fit_N = fitting_half(together_N)
    measured_N = ~fit_N if measured_N is None else measured_N
    fitted, measured = int(fit_N.sum()), int(measured_N.sum())
    require(min(fitted, measured) >= FEWEST_IMAGES,
            f"{len(labels_N)} images, of which one half fits the temperature and the other half measures it, are too "
            f"few: each half needs {FEWEST_IMAGES}", MORE_IMAGES)
    temperature = fit_temperature(logits_NK[fit_N], labels_N[fit_N])
    probabilities = [softmax(logits_NK[measured_N] / divisor) for divisor in (1.0, temperature)]
    labels_n, groups_n = labels_N[measured_N], None if groups_N is None else groups_N[measured_N]
    before_n, after_n = (log_losses(each_nK, labels_n) for each_nK in probabilities)
    change_n = after_n - before_n
    groups, effective = None, float(measured)
    if groups_n is not None:
        groups = len(np.unique(groups_n))
        effective = max(1.0, effective_images(measured, groups, design_effect(group_sums(change_n, groups_n))))
    half = 1.959964 * float(change_n.std(ddof=1)) / effective**0.5
    change = float(change_n.mean())
    before, after = (calibration_error(each_nK, labels_n, groups_n) for each_nK in probabilities)
    return Calibration(temperature, fitted, measured, before, after, change, (change - half, change + half), groups)


def fitting_half(together_N: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which images fit the temperature: bool [N], True for the lower half of the numbers; equal ones stay together."""
    if not len(together_N):
        return np.zeros(0, bool)
    return together_N <= np.sort(together_N)[(len(together_N) - 1) // 2]


def fit_temperature(logits_NK: NDArray[np.float32], labels_N: NDArray[np.int64]) -> float:
    """The temperature with the lowest mean negative log-probability of the true classes.

    The loss is convex in the inverse temperature b. Its derivative is the mean over images of the logits' expectation,
    under softmax(b logits), minus the true class's logit; bisection finds where it is zero.

    Raises:
        UserError: no temperature between 0.01 and 100 is best: the network is right about every image, or no better
            than a guess.
    """
    logits = logits_NK.astype(np.float64)
    require(bool(np.isfinite(logits).all()), "the network's logits are not finite", "use another checkpoint")
    true_N = logits[np.arange(len(labels_N)), labels_N]

    def slope(inverse: float) -> float:
        return float(((softmax(inverse * logits) * logits).sum(1) - true_N).mean())

    low, high = 1 / _HOTTEST, 1 / _COLDEST
    if slope(low) >= 0:
        raise UserError("no temperature is best: on these images the network is no better than a guess",
                        "train it further, or check the labels")
    if slope(high) <= 0:
        raise UserError(f"no temperature is best: the network is right about all {len(labels_N)} images that fit it, "
                        "so any lower one would be better", "give more images, among them ones that it gets wrong")
    while high / low > 1 + 1e-7:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / low


def calibration_error(
    probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64], groups_N: NDArray[np.uint64] | None = None,
) -> CalibrationError:
    """Measure the loss and the ECE, and what the ECE of a calibrated network would be.

    If images are in groups, the outcomes of such a network are drawn with the correlation measured within groups.
    """
    confidence_N = probabilities_NK.max(axis=1)
    right_N = predicted_classes(probabilities_NK, labels_N) == labels_N
    draw = _draws_of(len(confidence_N), None) if groups_N is None else _draws_of(
        len(confidence_N), groups_N, intraclass_correlation(group_sums(right_N - confidence_N, groups_N)))
    calibrated = [expected_calibration_error(confidence_N, draw() < confidence_N) for _ in range(DRAWS)]
    low, high = np.quantile(calibrated, (0.025, 0.975)).tolist()
    return CalibrationError(float(log_losses(probabilities_NK, labels_N).mean()),
                            expected_calibration_error(confidence_N, right_N), float(np.mean(calibrated)), (low, high))


def _draws_of(
    images: int, groups_N: NDArray[np.uint64] | None, correlation: float = 0.0,
) -> Callable[[], NDArray[np.float64]]:
    """A function that draws a number in [0, 1) for each image, with a correlation between images of a group.

    With probability sqrt(correlation) an image has its group's number, and else one of its own: so two images of a
    group have the same number with the probability `correlation`, and independent ones otherwise.
    """
    generator = np.random.default_rng(0)
    if groups_N is None:
        return lambda: generator.random(images)
    distinct, group_N = np.unique(groups_N, return_inverse=True)

    def draw() -> NDArray[np.float64]:
        shared_N = generator.random(images) < correlation**0.5
        return np.where(shared_N, generator.random(len(distinct))[group_N], generator.random(images))

    return draw


def log_losses(probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """The negative log-probability of each image's true class, in nats: float64 [N]."""
    true_N: NDArray[np.float64] = probabilities_NK[np.arange(len(labels_N)), labels_N]
    return -np.log(np.maximum(true_N, 1e-45))


def expected_calibration_error(confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_]) -> float:
    """Expected calibration error with ECE_BINS bins of equal width (Guo et al. 2017, equation 3).

    The sum over the bins of (share of the images in the bin) x |their accuracy - their mean confidence|.

    Args:
        confidence_N: probability of each image's likeliest class. A bin includes its upper end.
        right_N: whether that class is the true one.
    """
    bins_N = np.clip(np.ceil(confidence_N * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    gaps = np.bincount(bins_N, right_N.astype(np.float64) - confidence_N, ECE_BINS)
    return float(np.abs(gaps).sum() / len(confidence_N))


def softmax(logits_NK: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities: float64 [N, K]."""
    powers_NK = np.exp(logits_NK.astype(np.float64) - logits_NK.max(axis=1, keepdims=True))
    return powers_NK / powers_NK.sum(axis=1, keepdims=True)
