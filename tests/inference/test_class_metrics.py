"""Per-class metrics equal scikit-learn's, also for absent classes and ties; their intervals cover the truth."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from alexnet.inference.class_metrics import baselines, f1_interval, per_class_metrics, roc_auc
from alexnet.inference.metrics import count_errors, predicted_classes


def drawn(images, classes, seed, absent=()):
    """Labels of all classes but `absent`, and probabilities that favor the true class."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([k for k in range(classes) if k not in absent], images)
    scores = rng.gumbel(size=(images, classes)) + 1.5 * np.eye(classes)[labels]
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return labels, probabilities.astype(np.float32)


@pytest.mark.parametrize(("images", "classes", "absent"), [
    (500, 7, ()), (200, 3, (1,)), (60, 12, (0, 11)), (40, 2, ())])
def test_values_equal_scikit_learns(images, classes, absent):
    labels, probabilities = drawn(images, classes, images, absent)
    predicted = probabilities.argmax(1)
    ours = per_class_metrics(labels, probabilities, [f"class {k}" for k in range(classes)])
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(classes), zero_division=math.nan)
    for k, each in enumerate(ours.classes):
        assert (each.name, each.images) == (f"class {k}", support[k])
        for own, theirs in ((each.precision, precision[k]), (each.recall, recall[k]), (each.f1, f1[k])):
            assert own is None if math.isnan(theirs) else own == pytest.approx(theirs)
        if k in absent:
            assert each.auc is None
        else:
            assert each.auc == pytest.approx(sklearn_metrics.roc_auc_score(labels == k, probabilities[:, k]))
    present = [k for k in range(classes) if k not in absent]
    assert ours.balanced_accuracy == pytest.approx(np.mean(recall[present]))
    if set(predicted) <= set(present):
        assert ours.balanced_accuracy == pytest.approx(sklearn_metrics.balanced_accuracy_score(labels, predicted))
    assert ours.macro_f1 == pytest.approx(sklearn_metrics.f1_score(labels, predicted, labels=present, average="macro"))
    if not absent and classes > 2:
        assert ours.macro_auc == pytest.approx(
            sklearn_metrics.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"))


def test_every_mean_is_over_the_classes_that_have_images():
    # Classes 1 and 2 have 10 images each. Of class 1, 5 are right, 4 are called 0 or 3 (without images), and 1 is
    # called 2; all of class 2 are right. F1: 2 * 5 / (5 + 10) and 2 * 10 / (11 + 10).
    labels, predicted = np.array([1] * 10 + [2] * 10), np.array([1] * 5 + [0, 0, 3, 3, 2] + [2] * 10)
    found = per_class_metrics(labels, np.eye(4, dtype=np.float32)[predicted], list("abcd"))
    assert [each.f1 for each in found.classes] == pytest.approx([0, 2 / 3, 20 / 21, 0])
    assert (found.balanced_accuracy, found.classes_with_images) == (0.75, 2)
    assert found.macro_f1 == pytest.approx(0.8095, abs=5e-5)  # and not (0 + 2/3 + 20/21 + 0) / 4 = 0.4048
    assert found.to_json()["classes_with_images"] == 2


def test_auc_counts_a_tie_as_a_half_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    positive, scores = rng.random(300) < 0.3, rng.integers(0, 4, 300).astype(np.float32)
    assert roc_auc(positive, scores) == pytest.approx(sklearn_metrics.roc_auc_score(positive, scores))
    assert roc_auc(np.array([True, False]), np.float32([0.5, 0.5])) == 0.5


def test_undefined_values_are_none_in_valid_json():
    one_class = per_class_metrics(np.zeros(3, np.int64), np.float32([[0.9, 0.1]] * 3), ["ash", "birch"])
    ash, birch = one_class.classes
    assert (ash.precision, ash.recall, ash.f1, ash.auc) == (1, 1, 1, None)
    assert (birch.precision, birch.recall, birch.f1, birch.auc, birch.f1_interval) == (None,) * 5
    assert (one_class.balanced_accuracy, one_class.macro_f1, one_class.macro_auc) == (1, 1, None)
    assert json.loads(json.dumps(one_class.to_json(), allow_nan=False))["classes"][1]["recall_interval"] is None
    collapsed = per_class_metrics(np.array([0, 1]), np.full((2, 2), np.nan, np.float32), ["ash", "birch"])
    assert (collapsed.balanced_accuracy, collapsed.macro_auc) == (0, None)


def test_a_prediction_is_right_exactly_if_the_errors_count_it_so():
    rng = np.random.default_rng(1)
    probabilities = rng.integers(0, 3, (2000, 4)).astype(np.float32) / 4  # half of the rows have ties
    probabilities[::50] = np.nan
    labels = rng.integers(0, 4, 2000)
    wrong = predicted_classes(probabilities, labels) != labels
    assert wrong.sum() == count_errors(torch.from_numpy(probabilities), torch.from_numpy(labels)).top1_wrong
    assert wrong[::50].all()
    assert predicted_classes(np.float32([[0.4, 0.4, 0.2]] * 2), np.array([0, 1])).tolist() == [1, 0]


def test_f1_interval_equals_hand_arithmetic_and_covers_the_truth():
    # 5 right of 6 images and 5 + 4 predictions: J = 5/10, Wilson 0.2366 to 0.7634 (as in test_evaluate.py).
    assert f1_interval(6, 9, 5) == pytest.approx((2 * 0.2366 / 1.2366, 2 * 0.7634 / 1.7634), abs=1e-4)
    rng = np.random.default_rng(0)
    truth = 2 * 0.15 / (2 * 0.15 + 0.05 + 0.1)  # of true and false positives and false negatives
    covered = [low <= truth <= high for tp, fp, fn, _ in rng.multinomial(200, [0.15, 0.05, 0.1, 0.7], 3000)
               for low, high in [f1_interval(tp + fn, tp + fp, tp)]]
    assert 0.93 < np.mean(covered) < 0.97


def test_baselines_of_tied_classes_name_none():
    found = baselines(np.array([0, 0, 2, 2, 1]), ["ash", "birch", "cedar"])
    assert (found.largest_class, found.largest_class_error) == (None, pytest.approx(0.6))


def test_baselines_of_an_imbalanced_folder():
    found = baselines(np.array([2, 2, 2, 2, 0, 1]), ["ash", "birch", "cedar"])
    assert (found.chance_top1_error, found.largest_class_error) == pytest.approx((2 / 3, 1 / 3))
    assert found.largest_class == "cedar"
