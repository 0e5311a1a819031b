"""Find images that are probably mislabeled: a trained network's features, and a classifier that never saw the image.

The images are divided into folds by their content hashes, so copies are in one fold. For each fold, two classifiers on
the network's features of the other folds predict its classes: logistic regression, and a vote of the nearest images.
Their log-probabilities are averaged. A temperature for each split calibrates them, as features fit training images
better than others. An image is a suspect if its likeliest class is not its label, and is predicted as confidently as
that class is on average (confident learning, arXiv 1911.00068). The first suspects are those with the largest log-odds
of the predicted class against the label.

The features themselves may have adapted to wrong labels of images that the network was trained on. So a wrong label
that the network has memorized may be missed.

Shapes: N images, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, one_hot

from alexnet.data.catalog import Catalog
from alexnet.data.content import contained
from alexnet.data.order import evenly_spaced
from alexnet.data.packed import PackedDataset
from alexnet.errors import require
from alexnet.inference.calibration import softmax
from alexnet.inference.logistic_regression import fit_logistic_regression
from alexnet.inference.neighbors import split_features
from alexnet.inference.predictor import Model

FOLDS = 5

MAX_IMAGES = 100_000
"""Images that are checked at most, evenly spaced: with 1,000 classes that takes some minutes on a CPU."""

COMPONENTS = 256
"""Principal components of the features that the classifier sees."""

WEIGHT_DECAYS = (1e-3, 1e-2, 1e-1)
"""Of these, the one with the least log loss on the first fold is used for all."""

SuspectJson = TypedDict("SuspectJson", {
    "name": str, "split": str, "class": str, "predicted": str, "probability": float, "class_probability": float})

WEAK = 0.2
"""A network that disagrees with more of the labels is too weak to judge them: most suspects are its own mistakes."""

CONFIDENT = 0.9
"""A prediction of this probability is confident in any case."""

NEIGHBORS = 100
"""Nearest images, weighted by exp(10 cosine). With `small` after one epoch on Imagenette, and 100 wrong labels among
13,414, a tenth of these is found behind 39 right labels by logistic regression alone, and behind 15 with neighbors."""

_BLOCK = 1_000
"""Images whose neighbors are searched at once: 400 MB for 100,000 images."""

TEMPERATURES = np.geomspace(0.25, 64.0, 65)


@dataclass(frozen=True)
class Suspect:
    """An image whose label is probably wrong."""

    name: str
    split: str
    label: str
    """Its class in the data."""
    predicted: str
    """The class that the classifier finds likeliest."""
    probability: float
    """Of the predicted class."""
    label_probability: float
    """Of its class in the data."""

    def to_json(self) -> SuspectJson:
        return {"name": self.name, "split": self.split, "class": self.label, "predicted": self.predicted,
                "probability": self.probability, "class_probability": self.label_probability}


@dataclass(frozen=True)
class LabelCheck:
    """The suspects of a data set, the most suspicious first."""

    suspects: tuple[Suspect, ...]
    images: int
    """Images that were checked."""
    total: int
    """Images of the data set."""
    seen: int
    """Of the checked images, those that the network was trained on."""
    error: float
    """The fraction of the checked images whose likeliest class is not their label."""

    @property
    def weak(self) -> bool:
        """Whether most suspects are probably mistakes of the network."""
        return self.error > WEAK

    @property
    def method(self) -> str:
        """How the suspects were found, in sentences."""
        checked = f"{self.images:,}" if self.images == self.total else f"{self.images:,} of {self.total:,}"
        memorized = (f" The network was trained on {self.seen:,} of them; where it has memorized a wrong label, that "
                     "label may not be found." if self.seen else "")
        return (f"{checked} images were checked by logistic regression and nearest neighbors on the network's "
                f"features, in {FOLDS} folds: no image was predicted by a classifier that was fitted to it. They "
                f"disagree with {self.error:.1%} of the labels; suspects are those on which they are confident."
                f"{memorized}")


def check_labels(
    model: Model, packed: PackedDataset, on_progress: Callable[[int, int], object] | None = None,
) -> LabelCheck:
    """Rank the images whose labels are probably wrong.

    Args:
        model: a network, whose classes need not be those of the data.
        packed: the images, at the network's side.
        on_progress: called with the number of images whose features are computed, and of all.

    Raises:
        UserError: there are too few images to fit a classifier.
    """
    catalog = Catalog(packed)
    rows = evenly_spaced(len(catalog), MAX_IMAGES)
    content_N = catalog.packed_hashes_N[rows]
    require(len(np.unique(content_N)) >= 2 * FOLDS,
            f"{len(np.unique(content_N))} different images are too few to find mislabeled ones", "leave out --run")
    features_ND = _features(model, packed, catalog, rows, on_progress)
    labels_N = catalog.labels_N[rows]
    logits_NK = out_of_fold_logits(features_ND, labels_N, content_N, len(catalog.classes))
    probabilities_NK = calibrate(logits_NK, labels_N, catalog.split_N[rows])
    return LabelCheck(
        tuple(_suspect(catalog, int(rows[index]), probabilities_NK[index])
              for index in rank_suspects(probabilities_NK, labels_N)),
        len(rows), len(catalog), int(contained(content_N, model.seen.trained).sum()),
        float((probabilities_NK.argmax(1) != labels_N).mean()))


def _features(
    model: Model, packed: PackedDataset, catalog: Catalog, rows: NDArray[np.int64],
    on_progress: Callable[[int, int], object] | None,
) -> NDArray[np.float32]:
    """The network's features of these rows: float32 [N, D]."""
    features, done = [], 0
    for split in catalog.splits:
        mine = np.intersect1d(rows, catalog.rows_of(split))
        if not len(mine):
            continue

        def advance(in_split: int, _: int, before: int = done) -> None:
            if on_progress:
                on_progress(before + in_split, len(rows))

        key = f"{packed.fingerprint} {split}" if len(rows) == len(catalog) else ""
        features.append(split_features(model, packed.split(split), cache_key=key,
                                       indices=mine - catalog.rows_of(split)[0], on_progress=advance))
        done += len(mine)
    return np.concatenate(features)


def _suspect(catalog: Catalog, row: int, probabilities_K: NDArray[np.float64]) -> Suspect:
    predicted, label = int(probabilities_K.argmax()), int(catalog.labels_N[row])
    return Suspect(catalog.names_N[row], catalog.locate(row)[0], catalog.classes[label],
                   catalog.classes[predicted], float(probabilities_K[predicted]), float(probabilities_K[label]))


def rank_suspects(probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the images whose labels are probably wrong, the most suspicious first.

    A suspect's likeliest class is not its label, and has at least the probability that this class has on average over
    the images with its label, or CONFIDENT. The order is by the ratio of the two probabilities.
    """
    given_N = probabilities_NK[np.arange(len(labels_N)), labels_N]
    predicted_N, highest_N = probabilities_NK.argmax(1), probabilities_NK.max(1)
    counts_K = np.bincount(labels_N, minlength=probabilities_NK.shape[1])
    confidence_K = np.bincount(labels_N, given_N, len(counts_K)) / np.maximum(counts_K, 1)
    enough_K = np.minimum(confidence_K, CONFIDENT)
    suspects = np.flatnonzero((predicted_N != labels_N) & (highest_N >= enough_K[predicted_N]))
    return suspects[np.argsort(given_N[suspects] / highest_N[suspects], kind="stable")]


# --- Out-of-fold predictions ------------------------------------------------------------------------------------------


def out_of_fold_logits(
    features_ND: NDArray[np.float32], labels_N: NDArray[np.int64], content_N: NDArray[np.uint64], classes: int,
) -> NDArray[np.float32]:
    """The logits of each image, by classifiers that were fitted to the other folds: float32 [N, K].

    Args:
        features_ND: features of the images.
        labels_N: their labels.
        content_N: their content hashes, which decide the folds.
        classes: number of classes.
    """
    inputs_ND = _principal_components(torch.from_numpy(np.ascontiguousarray(features_ND)))
    labels, fold_N = torch.from_numpy(labels_N), torch.from_numpy(_folds(content_N))
    logits_NK, decay = torch.zeros(len(labels), classes), 0.0
    for fold in range(FOLDS):
        inside = fold_N == fold
        if not inside.any():
            continue
        outside = inputs_ND[~inside], labels[~inside]
        if not decay:
            losses = {each: cross_entropy(_fit(*outside, classes, each)(inputs_ND[inside]), labels[inside]).item()
                      for each in WEIGHT_DECAYS}
            decay = min(losses, key=losses.__getitem__)
        fitted = _fit(*outside, classes, decay)(inputs_ND[inside]).log_softmax(1)
        logits_NK[inside] = (fitted + _neighbor_log_probabilities(inputs_ND[inside], *outside, classes)) / 2
    return logits_NK.numpy()


def calibrate(
    logits_NK: NDArray[np.float32], labels_N: NDArray[np.int64], split_N: NDArray[np.int8],
) -> NDArray[np.float64]:
    """Class probabilities, float64 [N, K], with the temperature of least log loss for each split."""
    # A grid and not `calibration.fit_temperature`, which refuses images that are all predicted right, or by chance.
    probabilities_NK = np.zeros(logits_NK.shape)
    for split in np.unique(split_N):
        inside = np.flatnonzero(split_N == split)
        candidates = (softmax(logits_NK[inside] / temperature) for temperature in TEMPERATURES)
        probabilities_NK[inside] = max(candidates, key=lambda each_nK: np.log(
            each_nK[np.arange(len(each_nK)), labels_N[inside]] + 1e-45).sum())
    return probabilities_NK


def _folds(content_N: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Folds of nearly the same size: the different hashes in their order, which is random, dealt out one by one."""
    return np.unique(content_N, return_inverse=True)[1].astype(np.int64) % FOLDS


def _principal_components(features_ND: Tensor) -> Tensor:
    """The first COMPONENTS principal components, divided by the standard deviation of the first: [N, D']."""
    centered = features_ND.float() - features_ND.float().mean(0)
    if centered.shape[1] > COMPONENTS:
        _, vectors = torch.linalg.eigh(centered.T @ centered)
        centered = centered @ vectors.flip(1)[:, :COMPONENTS]
    return centered / centered.std(0).max().clamp(min=1e-12)


def _fit(inputs_ND: Tensor, labels_N: Tensor, classes: int, weight_decay: float) -> Callable[[Tensor], Tensor]:
    """Fit logistic regression: inputs -> logits."""
    weight_KD, bias_K = fit_logistic_regression(inputs_ND, labels_N, classes, weight_decay, iterations=50)
    return lambda inputs: inputs @ weight_KD.T + bias_K


def _neighbor_log_probabilities(queries_QD: Tensor, inputs_ND: Tensor, labels_N: Tensor, classes: int) -> Tensor:
    """The log-frequencies of classes among the NEIGHBORS nearest of the inputs, by cosine, smoothed: [Q, K]."""
    one_hot_NK, references_ND = one_hot(labels_N, classes).float(), normalize(inputs_ND)
    blocks = []
    for queries in normalize(queries_QD).split(_BLOCK):
        cosines, indices = (queries @ references_ND.T).topk(min(NEIGHBORS, len(references_ND)))
        votes_QK = ((10 * cosines).exp()[..., None] * one_hot_NK[indices]).sum(1)
        votes_QK += 0.002 * votes_QK.sum(1, keepdim=True)
        blocks.append((votes_QK / votes_QK.sum(1, keepdim=True)).log())
    return torch.cat(blocks)
