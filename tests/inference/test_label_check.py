"""Suspicious labels: out-of-fold predictions never come from a classifier that saw the image, and rank wrong labels."""

import numpy as np
import pytest

from alexnet.inference.label_check import calibrate, out_of_fold_logits, rank_suspects

pytestmark = pytest.mark.usefixtures("one_thread")


def clusters(images: int, classes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Features around one center for each class."""
    labels_N = np.arange(images) % classes
    centers_KD = rng.normal(0, 1, (classes, 20))
    return (centers_KD[labels_N] + rng.normal(0, 0.3, (images, 20))).astype(np.float32), labels_N


def content(images: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(1, 2**63, images, np.uint64)


@pytest.mark.parametrize("seed", range(3))
def test_wrong_labels_are_the_first_suspects(seed):
    rng = np.random.default_rng(seed)
    features_ND, labels_N = clusters(600, 6, rng)
    wrong = rng.choice(600, 5, replace=False)
    labels_N[wrong] = (labels_N[wrong] + rng.integers(1, 6, 5)) % 6
    logits_NK = out_of_fold_logits(features_ND, labels_N, content(600, rng), 6)
    ranked = rank_suspects(calibrate(logits_NK, labels_N, np.zeros(600, np.int8)), labels_N)
    assert set(wrong) <= set(ranked[:10])


def test_labels_without_any_relation_to_the_features_are_not_fitted():
    """A classifier that had seen an image would be right more often than chance on random labels."""
    rng = np.random.default_rng(0)
    labels_N = rng.integers(0, 2, 400)
    logits_NK = out_of_fold_logits(rng.normal(0, 1, (400, 100)).astype(np.float32), labels_N, content(400, rng), 2)
    assert 0.4 < (logits_NK.argmax(1) == labels_N).mean() < 0.6


def test_copies_of_an_image_are_in_one_fold():
    """Otherwise a copy with the same wrong label would vouch for it."""
    rng = np.random.default_rng(0)
    features_ND, labels_N = clusters(300, 3, rng)
    contents_N = content(300, rng)
    labels_N[0] = (labels_N[0] + 1) % 3
    features_ND[1:30], labels_N[1:30], contents_N[1:30] = features_ND[0], labels_N[0], contents_N[0]
    logits_NK = out_of_fold_logits(features_ND, labels_N, contents_N, 3)
    assert (logits_NK[:30].argmax(1) != labels_N[0]).all()


def test_suspects_are_confident_and_wrong():
    probabilities_NK = np.array([
        [0.9, 0.1],   # right
        [0.7, 0.3],   # right: class 0 has 0.8 on average
        [0.95, 0.05],  # labeled 1: wrong, and as confident as class 0
        [0.85, 0.15],  # labeled 1: wrong, less so
        [0.6, 0.4],   # labeled 1: wrong but not confident
        [0.1, 0.9]])
    assert rank_suspects(probabilities_NK, np.array([0, 0, 1, 1, 1, 1])).tolist() == [2, 3]


def test_each_split_has_its_own_temperature():
    """Confident logits that are wrong half of the time become 0.5 in their split, and stay confident in the other."""
    logits_NK = np.array([[8.0, 0.0]] * 100, np.float32)
    labels_N = np.array([0, 1] * 25 + [0] * 49 + [1])
    probabilities_NK = calibrate(logits_NK, labels_N, np.repeat([0, 1], 50).astype(np.int8))
    assert probabilities_NK[0, 0] < 0.6
    # The temperature of least loss gives the frequency, 49 of 50.
    assert probabilities_NK[-1, 0] == pytest.approx(0.98, abs=0.005)
