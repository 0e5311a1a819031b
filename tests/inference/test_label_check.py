"""Suspicious labels: out-of-fold predictions never come from a classifier that saw the image, and rank wrong labels."""

import numpy as np
import pytest

from alexnet.inference.label_check import LabelCheck, average, calibrate, out_of_fold_logits, rank_suspects

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


def test_an_image_is_judged_by_the_networks_that_were_not_trained_on_it():
    """The mean over those networks; an image that all were trained on is judged by all."""
    logits_RNK = np.array([[[-1.0, -3.0]] * 4, [[-5.0, -1.0]] * 4, [[-3.0, -2.0]] * 4], np.float32)
    trained_RN = np.array([[True, False, False, True], [False, False, True, True], [False, True, False, True]])
    expected_NK = [[-4.0, -1.5], [-3.0, -2.0], [-2.0, -2.5], [-3.0, -2.0]]
    np.testing.assert_allclose(average(logits_RNK, trained_RN), expected_NK, rtol=1e-6)


def planted(seed: int, images: int = 600, wrong: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """True classes of four, labels of which some are wrong, their rows, and content hashes."""
    rng = np.random.default_rng(seed)
    classes_N = np.arange(images) % 4
    wrong_W = rng.choice(images, wrong, replace=False)
    labels_N = classes_N.copy()
    labels_N[wrong_W] ^= 1 + np.arange(wrong) % 2  # 0 for 1 and 2 for 3, or 0 for 2 and 1 for 3
    return classes_N, labels_N, wrong_W, content(images, rng)


def found(logits_NK: np.ndarray, labels_N: np.ndarray, wrong_W: np.ndarray) -> int:
    """How many of the wrong labels are among as many first suspects."""
    ranked = rank_suspects(calibrate(logits_NK, labels_N, np.zeros(len(labels_N), np.int8)), labels_N)
    return len(set(wrong_W) & set(ranked[: len(wrong_W)]))


@pytest.mark.parametrize("seed", range(3))
def test_two_networks_find_the_wrong_labels_that_each_alone_cannot_tell(seed):
    """One tells classes 0 and 1 from 2 and 3, the other 0 and 2 from 1 and 3."""
    classes_N, labels_N, wrong_W, content_N = planted(seed)
    noise = np.random.default_rng(seed).normal(0, 0.1, (2, len(labels_N), 2))
    logits = [out_of_fold_logits((np.eye(2)[seen_N] + its).astype(np.float32), labels_N, content_N, 4)
              for seen_N, its in zip((classes_N // 2, classes_N % 2), noise, strict=True)]
    neither = np.zeros((2, len(labels_N)), bool)
    assert all(found(alone, labels_N, wrong_W) < 6 for alone in logits)
    assert found(average(np.array(logits), neither), labels_N, wrong_W) == 6


def test_wrong_labels_that_one_fold_memorized_are_found_by_the_other():
    """Two runs of `train --folds 2`: the features of each show the labels of its training images, right or wrong."""
    classes_N, labels_N, wrong_W, content_N = planted(0)
    first_N = np.random.default_rng(1).random(len(labels_N)) < 0.5
    trained_RN = np.array([first_N, ~first_N])
    noise = np.random.default_rng(2).normal(0, 0.1, (2, len(labels_N), 4))
    logits = np.array([out_of_fold_logits(
        (np.eye(4)[np.where(trained_N, labels_N, classes_N)] + its).astype(np.float32), labels_N, content_N, 4)
        for trained_N, its in zip(trained_RN, noise, strict=True)])
    assert found(logits[0], labels_N, wrong_W) < 6
    assert found(average(logits, trained_RN), labels_N, wrong_W) == 6


def test_the_method_says_how_many_networks_there_were_and_what_they_were_trained_on():
    one, several = (LabelCheck((), 1000, 1000, networks, seen, 0.125) for networks, seen in ((1, 800), (5, 0)))
    assert "by logistic regression on the network's features" in one.method
    assert "The network was trained on 800 of the images" in one.method
    assert "the features of 5 networks, averaged" in several.method
    assert "disagree with 12.5% of the labels" in several.method
    assert "memorized" not in several.method


@pytest.mark.parametrize(("error", "weak"), [(0.2, False), (0.29, False), (0.31, True), (0.41, True)])
def test_a_network_that_disagrees_with_three_of_ten_labels_is_weak(error, weak):
    assert LabelCheck((), 1000, 1000, 1, 0, error).weak == weak
