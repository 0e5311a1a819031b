"""Find mislabeled images: a classifier on networks' features, fitted to other images, predicts another class.

The images are divided into folds by their content hashes, so copies are in one fold; images of one group (--group) are,
too. For each fold, logistic regression on a network's features of the other folds predicts its classes. The
log-probabilities of several networks are averaged: for each image, those of the networks that were not trained on it,
if there are any. So the runs of `train --folds` judge each image by the one network that has never seen it. A
temperature for each split calibrates the result, as features fit training images better than others. An image is a
suspect if its likeliest class is not its label, and is predicted as confidently as that class is on average (confident
learning, arXiv 1911.00068). The first suspects are those with the largest log-odds of the predicted class against the
label.

How many wrong labels are among the first suspects depends on the network. For this table, the labels of 50 of 13,424
images (Imagenette's 13,394 and 30 copies of some of them, in validation) were replaced at random after training. The
columns "first 25" to "200" count the replaced labels among so many suspects (mean of three drawings). The last column
has the ranks of five labels that were already wrong in training; a dash is a label that is no suspect.

| network: `small`, of images of | top-1 error | disagrees with | first 25 | 50 | 100 | 200 | the five |
|---|---|---|---|---|---|---|---|
| 64 pixels, 1 epoch | 47.6% | 41% of the labels | 9.0 | 12.3 | 16.3 | 20.0 | |
| 64 pixels, 12 epochs | 24.6% | 20% | 17.0 | 24.0 | 27.7 | 32.3 | 5, 9, -, -, - |
| 96 pixels, 13 of 30 epochs | 24.2% | 16% | 18.3 | 27.0 | 33.3 | 36.7 | 6, 26, 129, -, - |
| both of the above | | 16% | 18.7 | 27.7 | 32.7 | 35.3 | 4, 10, -, -, - |

With 200 replaced labels, the two networks rank 40% and 48% of them behind at most 20 right labels, and both together
51%. Most of the right labels among the first suspects belong to unusual images. What did not help on all drawings: ten
views, features of conv5, a perceptron or nearest neighbors instead of or beside logistic regression, the network's own
probabilities, self-confidence, entropy, a penalty for classes that are often confused, fitting again without the
suspects.

Shapes: N images, D features, K classes, R networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from alexnet.data.catalog import Catalog
from alexnet.data.content import contained
from alexnet.data.folds import copies_and_groups
from alexnet.data.hold_out import deal_groups
from alexnet.data.order import evenly_spaced
from alexnet.data.packed import PackedDataset
from alexnet.errors import require
from alexnet.inference.logistic_regression import fit_logistic_regression
from alexnet.inference.neighbors import split_features
from alexnet.inference.predictor import Model
from alexnet.inference.temperature import softmax

FOLDS = 5

MAX_IMAGES = 100_000
"""Images that are checked at most, evenly spaced: with 1,000 classes that takes some minutes on a CPU."""

COMPONENTS = 256
"""Principal components of the features that the classifier sees."""

WEIGHT_DECAYS = (1e-3, 1e-2, 1e-1)
"""Of these, the one with the least log loss on the first fold is used for all."""

SuspectJson = TypedDict("SuspectJson", {
    "name": str, "split": str, "class": str, "predicted": str, "probability": float, "class_probability": float})

WEAK = 0.3
"""A network that disagrees with more of the labels is too weak to judge them: even the first suspects are mostly its
own mistakes. Of 50 wrong labels in Imagenette, 9 are among the first 25 suspects of a network that disagrees with 41%
of the labels, and 17 with one that disagrees with 20% (the table above)."""

CONFIDENT = 0.9
"""A prediction of this probability is confident in any case."""

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
    networks: int
    seen: int
    """Of the checked images, those that every network was trained on."""
    error: float
    """The fraction of the checked images whose likeliest class is not their label."""
    grouped: bool = False
    """Whether whole groups (--group) were dealt into folds."""

    @property
    def weak(self) -> bool:
        """Whether most suspects are probably mistakes of the network."""
        return self.error > WEAK

    @property
    def method(self) -> str:
        """How the suspects were found, in sentences."""
        checked = f"{self.images:,}" if self.images == self.total else f"{self.images:,} of {self.total:,}"
        several = self.networks > 1
        features = (f"the features of {self.networks} networks, averaged (for each image, of those that were not "
                    "trained on it, if there are any)" if several else "the network's features")
        memorized = (f" {'All networks were' if several else 'The network was'} trained on {self.seen:,} of the "
                     "images; where a wrong label has been memorized, it may not be found." if self.seen else "")
        groups = (", or to another image of its group; a class whose images are nearly all in one group is divided "
                  "image by image" if self.grouped else "")
        return (f"{checked} images were checked by logistic regression on {features}, in {FOLDS} folds: no image was "
                f"predicted by a classifier that was fitted to it{groups}. The predictions disagree with "
                f"{self.error:.1%} of the labels; suspects are those that disagree with confidence.{memorized}")


def check_labels(
    networks: Sequence[tuple[Model, PackedDataset]], on_progress: Callable[[int, int], object] | None = None,
) -> LabelCheck:
    """Rank the images whose labels are probably wrong.

    Args:
        networks: networks, whose classes need not be those of the data, each with the images at its side. The images
            are the same, in the same order.
        on_progress: called with the number of images whose features are computed, and of all, over all networks.

    Raises:
        UserError: there are too few images to fit a classifier.
    """
    catalog = Catalog(networks[0][1])
    rows = evenly_spaced(len(catalog), MAX_IMAGES)
    content_N, labels_N = catalog.packed_hashes_N[rows], catalog.labels_N[rows]
    groups_N = None if catalog.groups_N is None else catalog.groups_N[rows]
    require(len(np.unique(content_N)) >= 2 * FOLDS,
            f"{len(np.unique(content_N))} different images are too few to find mislabeled ones", "leave out --run")
    logits, trained = [], []
    for number, (model, packed) in enumerate(networks):
        def advance(done: int, _: int, before: int = number * len(rows)) -> None:
            if on_progress:
                on_progress(before + done, len(networks) * len(rows))

        its_catalog = Catalog(packed)
        require(np.array_equal(its_catalog.packed_hashes_N, catalog.packed_hashes_N),
                f"{packed.source} has changed since it was packed for another of the networks", "run the check again")
        features_ND = _features(model, packed, its_catalog, rows, advance)
        logits.append(out_of_fold_logits(features_ND, labels_N, content_N, len(catalog.classes), groups_N))
        trained.append(contained(content_N, model.seen.trained))
    probabilities_NK = calibrate(average(np.array(logits), np.array(trained)), labels_N, catalog.split_N[rows])
    return LabelCheck(
        tuple(_suspect(catalog, int(rows[index]), probabilities_NK[index])
              for index in rank_suspects(probabilities_NK, labels_N)),
        len(rows), len(catalog), len(networks), int(np.all(trained, 0).sum()),
        float((probabilities_NK.argmax(1) != labels_N).mean()), groups_N is not None)


def _features(
    model: Model, packed: PackedDataset, catalog: Catalog, rows: NDArray[np.int64],
    on_progress: Callable[[int, int], object],
) -> NDArray[np.float32]:
    """The network's features of these rows: float32 [N, D]."""
    features, done = [], 0
    for split in catalog.splits:
        mine = np.intersect1d(rows, catalog.rows_of(split))
        if not len(mine):
            continue

        def advance(in_split: int, _: int, before: int = done) -> None:
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
    groups_N: NDArray[np.uint64] | None = None,
) -> NDArray[np.float32]:
    """The log-probabilities of each image, by classifiers that were fitted to the other folds: float32 [N, K].

    Args:
        features_ND: features of the images.
        labels_N: their labels.
        content_N: their content hashes, which decide the folds.
        classes: number of classes.
        groups_N: equal for images that belong together (--group), which are then in one fold.
    """
    inputs_ND = _principal_components(torch.from_numpy(np.ascontiguousarray(features_ND)))
    labels, fold_N = torch.from_numpy(labels_N), torch.from_numpy(_folds(content_N, labels_N, groups_N))
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
        logits_NK[inside] = _fit(*outside, classes, decay)(inputs_ND[inside]).log_softmax(1)
    return logits_NK.numpy()


def average(logits_RNK: NDArray[np.float32], trained_RN: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The mean over the networks that were not trained on an image, or over all if all were: float32 [N, K].

    Args:
        logits_RNK: log-probabilities by each network's features.
        trained_RN: the images that each network was trained on.
    """
    counted_RN = (~trained_RN | trained_RN.all(0)).astype(np.float32)
    mean_NK: NDArray[np.float32] = np.einsum("rnk,rn->nk", logits_RNK, counted_RN / counted_RN.sum(0))
    return mean_NK


def calibrate(
    logits_NK: NDArray[np.float32], labels_N: NDArray[np.int64], split_N: NDArray[np.int8],
) -> NDArray[np.float64]:
    """Class probabilities, float64 [N, K], with the temperature of least log loss for each split."""
    # A grid and not `temperature.fit_temperature`, which refuses images that are all predicted right, or by chance.
    probabilities_NK = np.zeros(logits_NK.shape)
    for split in np.unique(split_N):
        inside = np.flatnonzero(split_N == split)
        candidates = (softmax(logits_NK[inside] / temperature) for temperature in TEMPERATURES)
        probabilities_NK[inside] = max(candidates, key=lambda each_nK: np.log(
            each_nK[np.arange(len(each_nK)), labels_N[inside]] + 1e-45).sum())
    return probabilities_NK


def _folds(
    content_N: NDArray[np.uint64], labels_N: NDArray[np.int64], groups_N: NDArray[np.uint64] | None,
) -> NDArray[np.int64]:
    """Folds of nearly the same size: the different hashes in their order, which is random, dealt out one by one.

    Groups are dealt as wholes. A class that would be in one fold alone is dealt by the hashes all the same: the
    classifier of that fold would not know the class, and all its images would be suspects.
    """
    by_content_N = np.unique(content_N, return_inverse=True)[1].astype(np.int64) % FOLDS
    if groups_N is None:
        return by_content_N
    fold_N = np.array(deal_groups(copies_and_groups(content_N, groups_N).tolist(), labels_N.tolist(), FOLDS), np.int64)
    for label in np.unique(labels_N):
        of_class_N = labels_N == label
        if len(np.unique(fold_N[of_class_N])) == 1:
            fold_N[of_class_N] = by_content_N[of_class_N]
    return fold_N


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
