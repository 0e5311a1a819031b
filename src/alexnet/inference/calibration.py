"""Calibration: one temperature that makes probabilities match how often the network is right (Guo et al. 2017).

The temperature divides the logits before the softmax, so it changes no image's top-1 class with one view. It is fitted
on one half of the images, and the expected calibration error (ECE) is measured on the other half. Which half an image
is in depends on its content alone, so that copies of an image stand on the same side, and so do near duplicates and the
images of a group (`--group`).

The mean of softmax outputs over ten views (§4.1) is less extreme than each of them, so it needs a temperature of its
own, which divides each view's logits. It is fitted and measured on the same halves.

Shapes: N images, V views of each, K classes; in functions, n and m images of those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet._runtime.pixels import AnyPixels
from alexnet.data.folds import copies_and_groups, together
from alexnet.data.loader import batches
from alexnet.data.packed import PackedSplit
from alexnet.errors import require
from alexnet.inference.grouped import design_effect, effective_images, group_sums, intraclass_correlation
from alexnet.inference.held_apart import HeldApart, held_apart
from alexnet.inference.metrics import predicted_classes
from alexnet.inference.predictor import Model
from alexnet.inference.statistics import Interval
from alexnet.inference.temperature import (
    fit_temperature,
    fit_ten_view_temperature,
    log_losses,
    mean_softmax,
    softmax,
)
from alexnet.models.checkpoint_json import TemperatureJson

ECE_BINS = 15
"""Bins of equal width, as in Guo et al. 2017."""

FEWEST_IMAGES = 20
"""Images that each half needs at least."""


def more_images(side: int | None = None) -> str:
    """The remedy for too few images.

    Args:
        side: of the images that the network takes, which `alexnet pack` must have; None: not known.
    """
    packed = f"alexnet pack PHOTOS PACKED --side {'SIDE' if side is None else side} --held-out 0.4"
    return ("give more images that the network was not trained on (often more than 100 are needed), or hold more out "
            f"and train again: {packed}, then alexnet train PACKED with the options of this run, such as its --init or "
            "--arch")


def enough_images(images: int) -> bool:
    """Whether `calibrate` can divide so many images into two halves that are large enough."""
    return images >= 2 * FEWEST_IMAGES


DRAWS = 1000
"""Random draws of the outcomes of a calibrated network."""

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
    """At temperature 1; for ten views, at the temperature of one view."""
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

    def stored(self) -> TemperatureJson:
        """What the checkpoint keeps of it."""
        return {"temperature": self.temperature, "fitted_images": self.fitted_images,
                "measured_images": self.measured_images, "ece_before": self.before.ece, "ece_after": self.after.ece}


def compute_logits(
    model: Model, split: PackedSplit, *, batch_size: int = 128,
    on_progress: Callable[[int, int], object] | None = None,
) -> NDArray[np.float32]:
    """The network's logits for the center crops of all images of a split: float32 [N, K], in the split's order."""
    return _compute_logits(model, split, model.preprocess, 1, batch_size, on_progress)[:, 0]


def compute_ten_view_logits(
    model: Model, split: PackedSplit, *, batch_size: int = 128,
    on_progress: Callable[[int, int], object] | None = None,
) -> NDArray[np.float32]:
    """The network's logits for the ten views of all images of a split: float32 [N, 10, K], in the split's order.

    They take ten times the time of `compute_logits`, and 40 bytes for each image and class: 2 GB for 50,000 images of
    1,000 classes.

    Args:
        batch_size: views in a forward pass.
    """
    return _compute_logits(model, split, lambda pixels: model.preprocess.ten_views(pixels).flatten(0, 1), 10,
                           max(1, batch_size // 10), on_progress)


def _compute_logits(
    model: Model, split: PackedSplit, views_of: Callable[[AnyPixels], Tensor], views: int, images_per_batch: int,
    on_progress: Callable[[int, int], object] | None,
) -> NDArray[np.float32]:
    """The logits of some views of all images: float32 [N, V, K].

    Args:
        views_of: stored images -> their views, those of an image in a row: float [N x V, C, crop, crop].
    """
    logits_NVK = np.empty((len(split), views, len(model.classes)), np.float32)
    done = 0
    for batch in batches(split, images_per_batch, device=model.preprocess.mean_HWC.device):
        with torch.inference_mode():
            outputs_VK = model.inference_network(views_of(batch.pixels))
        logits_NVK[batch.indices] = outputs_VK.float().unflatten(0, (-1, views)).cpu().numpy()
        done += len(batch.indices)
        if on_progress:
            on_progress(done, len(split))
    return logits_NVK


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
    side: int | None = None,
) -> Calibration:
    """Fit a temperature on one half of the images, and measure the calibration error on the other half.

    Args:
        logits_NK: of the network at temperature 1.
        labels_N: true classes.
        together_N: a number for each image, equal for images of one half: content hashes, or `Halves.together_N`.
        measured_N: which images measure; default: all that do not fit.
        groups_N: equal for images that belong together; None: the images are independent.
        side: of the images that the network takes, for the remedy in an error.

    Raises:
        UserError: there are too few images, or no temperature is best.
    """
    fit_N = fitting_half(together_N)
    measured_N = ~fit_N if measured_N is None else measured_N
    require(min(fit_N.sum(), measured_N.sum()) >= FEWEST_IMAGES,
            f"{len(labels_N)} images, of which one half fits the temperature and the other half measures it, are too "
            f"few: each half needs {FEWEST_IMAGES}", more_images(side))
    temperature = fit_temperature(logits_NK[fit_N], labels_N[fit_N])
    before_mK, after_mK = (softmax(logits_NK[measured_N] / divisor) for divisor in (1.0, temperature))
    return _measure(temperature, int(fit_N.sum()), before_mK, after_mK, labels_N[measured_N],
                    None if groups_N is None else groups_N[measured_N])


def calibrate_ten_views(
    logits_NVK: NDArray[np.float32], labels_N: NDArray[np.int64], one_view: float, together_N: NDArray[np.uint64],
    measured_N: NDArray[np.bool_] | None = None, groups_N: NDArray[np.uint64] | None = None,
) -> Calibration:
    """Fit the temperature of the mean over views, and measure what it changes, on the halves of `calibrate`.

    Args:
        logits_NVK: of the network at temperature 1, for each view.
        one_view: the temperature of `calibrate`, which the mean has had before.
        labels_N, together_N, measured_N, groups_N: as for `calibrate`, which has found that there are enough images.

    Raises:
        UserError: no temperature is best.
    """
    fit_N = fitting_half(together_N)
    measured_N = ~fit_N if measured_N is None else measured_N
    temperature = fit_ten_view_temperature(logits_NVK[fit_N], labels_N[fit_N])
    before_mK, after_mK = (mean_softmax(logits_NVK[measured_N], divisor) for divisor in (one_view, temperature))
    return _measure(temperature, int(fit_N.sum()), before_mK, after_mK, labels_N[measured_N],
                    None if groups_N is None else groups_N[measured_N])


def _measure(
    temperature: float, fitted: int, before_mK: NDArray[np.float64], after_mK: NDArray[np.float64],
    labels_m: NDArray[np.int64], groups_m: NDArray[np.uint64] | None,
) -> Calibration:
    """Compare the probabilities before and after a temperature, of images that it was not fitted on."""
    change_m = log_losses(after_mK, labels_m) - log_losses(before_mK, labels_m)
    groups, effective = None, float(len(labels_m))
    if groups_m is not None:
        groups = len(np.unique(groups_m))
        effective = max(1.0, effective_images(len(labels_m), groups, design_effect(group_sums(change_m, groups_m))))
    half = 1.959964 * float(change_m.std(ddof=1)) / effective**0.5
    change = float(change_m.mean())
    interval = change - half, change + half
    before, after = (calibration_error(each_mK, labels_m, groups_m) for each_mK in (before_mK, after_mK))
    return Calibration(temperature, fitted, len(labels_m), before, after, change, interval, groups)


def fitting_half(together_N: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which images fit the temperature: bool [N], True for the lower half of the numbers; equal ones stay together."""
    if not len(together_N):
        return np.zeros(0, bool)
    return together_N <= np.sort(together_N)[(len(together_N) - 1) // 2]


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
