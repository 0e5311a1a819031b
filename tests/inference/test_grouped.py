"""Intervals and tests over groups: by hand, against enumeration, and by simulation of correlated images."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

from alexnet.inference.class_metrics import per_class_metrics
from alexnet.inference.comparison import mcnemar, paired_tests, sign_flip_test
from alexnet.inference.evaluate import evaluate
from alexnet.inference.grouped import (
    GroupedSample,
    count_sums,
    design_effect,
    effective_images,
    group_sums,
    intraclass_correlation,
    joint_effect,
    pooled_effect,
)
from alexnet.inference.metrics import Errors, count_errors, fraction_interval, sample_interval
from alexnet.inference.statistics import wilson

# --- Intervals --------------------------------------------------------------------------------------------------------


def test_groups_of_one_image_have_the_interval_of_independent_images_to_the_last_bit():
    rng = np.random.default_rng(0)
    for images, error in ((2, 0.5), (17, 0.0), (40, 1.0), (500, 0.1)):
        wrong = rng.random(images) < error
        assert fraction_interval(wrong, np.arange(images, dtype=np.uint64)) == wilson(int(wrong.sum()), images)
        assert fraction_interval(wrong) == wilson(int(wrong.sum()), images)


def test_groups_that_are_all_right_or_all_wrong_count_as_one_image_each_by_hand():
    sums = group_sums(np.repeat([0, 1], 20), np.repeat(np.arange(10, dtype=np.uint64), 4))
    assert intraclass_correlation(sums) == 1
    # Ratio estimator: 10 / 9 of sum (e - m / 2)^2 / (n p (1 - p)) = 10 / 9 x 10 x 2^2 / 10.
    assert design_effect(sums) == pytest.approx(40 / 9)
    assert effective_images(40, 10, 40 / 9) == pytest.approx(9 * (stats.t.ppf(0.975, 39) / stats.t.ppf(0.975, 9)) ** 2)


def test_the_correlation_is_that_of_the_analysis_of_variance_averaged_with_1_of_one_group():
    sums = count_sums(np.array([2, 2, 2, 2]), np.array([2, 1, 0, 1]))
    # Between: (1/2 + 0 + 1/2 + 0) / 3 = 1/3; within: (0 + 1/2 + 0 + 1/2) / 4 = 1/4; (1/3 - 1/4) / (1/3 + 1/4) = 1/7.
    assert intraclass_correlation(sums) == pytest.approx((1 + 3 / 7) / 4)  # three groups have an error
    same = group_sums(np.array([1, 1, 1, 0, 0, 0, 0, 1]), np.repeat(np.arange(4, dtype=np.uint64), 2))
    assert intraclass_correlation(same) == intraclass_correlation(sums)


def test_no_error_has_the_interval_of_as_many_images_as_groups_and_one_group_has_none():
    low, high = fraction_interval(np.zeros(240, bool), np.repeat(np.arange(12, dtype=np.uint64), 20))
    assert low == 0
    assert 0.2 < wilson(0, 12)[1] < high < 0.4  # the rule of three gives 3 / 12
    assert fraction_interval(np.zeros(20, bool), np.zeros(20, np.uint64)) == (0, 1)
    few = fraction_interval(np.arange(240) == 0, np.repeat(np.arange(12, dtype=np.uint64), 20))
    assert few[1] > 2 * wilson(1, 240)[1]  # one error in one group says little about groups


def test_errors_keep_their_groups_and_parts_are_pooled():
    sample = GroupedSample(12, 3.0, 2.0)
    errors = Errors(120, 30.0, 24, 6, sample)
    tree = errors.to_json()
    assert (tree["groups"], tree["design_effect"]) == (12, {"top1_error": 3.0, "top5_error": 2.0})
    assert Errors.from_json(tree) == errors
    assert "groups" not in Errors(120, 30.0, 24, 6).to_json()
    assert errors + Errors() == errors
    both = errors + errors  # all groups may be the same: twice the images tell no more
    assert both.sample == GroupedSample(12, pytest.approx(6.0), pytest.approx(4.0))
    assert pooled_effect([(120, 3.0), (120, 1.0)]) == 2
    assert joint_effect([(120, 3.0), (0, 1.0)]) == pytest.approx(3)


def test_the_errors_of_any_number_of_ranks_have_the_groups_of_one_process(packed, tiny):
    from alexnet.data.preprocessing import Preprocess
    from alexnet.models.alexnet import AlexNet

    models = [(AlexNet(tiny, 1), Preprocess.from_data(tiny.input, packed.mean_HWC))]
    split = packed.split("val")
    assert evaluate(models, split).sample is None
    split.__dict__["groups"] = (np.arange(44) // 4).astype(np.uint64)
    collected = np.zeros((44, len(packed.classes)), np.float32)

    def collect(outputs_nK, indices):
        collected[indices] = outputs_nK

    whole = evaluate(models, split, batch_size=3, on_outputs=collect)
    assert whole.sample.groups == 11
    assert whole.sample == count_errors(
        torch.from_numpy(collected), torch.from_numpy(split.labels), split.groups).sample
    parts = []
    for rank in range(3):
        evaluate(models, split, batch_size=3, share=(rank, 3), over_ranks=lambda counts: parts.append(counts) or counts)
    assert GroupedSample.of_counts(sum(parts).numpy()) == whole.sample


def test_each_class_has_its_own_groups():
    rng = np.random.default_rng(0)
    labels, group = np.repeat([0, 1], 60), np.arange(120) // 10
    right = rng.random(12)[group] < 0.6  # whole groups are right or wrong
    probabilities = np.eye(2, dtype=np.float32)[np.where(right, labels, 1 - labels)]
    alone = per_class_metrics(labels, probabilities, ["ash", "birch"])
    grouped = per_class_metrics(labels, probabilities, ["ash", "birch"], group.astype(np.uint64))
    assert [each.groups for each in grouped.classes] == [6, 6]
    assert "groups" not in alone.to_json()["classes"][0]
    for one, other in zip(alone.classes, grouped.classes, strict=True):
        for name in ("recall_interval", "precision_interval", "f1_interval"):
            (low, high), (grouped_low, grouped_high) = getattr(one, name), getattr(other, name)
            assert grouped_low < low
            assert grouped_high > high


def correlated(rng, images_G, error, correlation):
    """Errors of each group, beta-binomial."""
    if not correlation:
        return rng.binomial(images_G, error)
    size = (1 - correlation) / correlation
    return rng.binomial(images_G, rng.beta(error * size, (1 - error) * size, images_G.shape))


@pytest.mark.parametrize("uneven", [False, True], ids=["20 images", "1 to 20 images"])
@pytest.mark.parametrize("error", [0.05, 0.3])
@pytest.mark.parametrize("correlation", [0, 0.3, 0.9])
@pytest.mark.parametrize("groups", [10, 30, pytest.param(100, marks=pytest.mark.slow)])
def test_the_interval_covers_the_true_error_where_that_of_the_images_does_not(groups, correlation, error, uneven):
    rng, draws = np.random.default_rng(0), 600
    over_groups = over_images = 0
    for _ in range(draws):
        images_G = rng.integers(1, 21, groups) if uneven else np.full(groups, 20)
        wrong_G = correlated(rng, images_G, error, correlation)
        images, wrong = int(images_G.sum()), int(wrong_G.sum())
        low, high = sample_interval(wrong, images, (groups, design_effect(count_sums(images_G, wrong_G))))
        over_groups += low <= error <= high
        low, high = wilson(wrong, images)
        over_images += low <= error <= high
    assert over_groups / draws >= 0.92
    assert over_images / draws < 0.8 if correlation else over_images / draws > 0.92


# --- Comparison of two networks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("differences", [[3, -1, 2, 0], [1, 1, 1, -1, 1], [2, 2, 2, 2, 2, 2], [5, -5], [0, 0], []])
def test_the_sign_flip_test_equals_the_enumeration_of_all_signs(differences):
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
    expected = np.mean([each >= abs(sum(differences)) for each in sums])
    assert sign_flip_test(np.array(differences, np.int64)) == pytest.approx(expected)


def test_groups_of_one_image_are_tested_as_images_are():
    right = np.random.default_rng(0).random((3, 300)) < np.array([[0.6], [0.8], [0.8]])
    for alone, grouped in zip(paired_tests(right), paired_tests(right, np.arange(300, dtype=np.uint64)), strict=True):
        assert grouped.p_value == pytest.approx(alone.p_value)
        assert grouped.interval == alone.interval
        assert (grouped.detectable, grouped.images_needed) == (alone.detectable, alone.images_needed)
        assert (grouped.groups, grouped.to_json()["groups"]) == (300, 300)
        assert "groups" not in alone.to_json()


def test_equal_networks_differ_by_chance_5_times_in_100_over_groups_and_far_more_often_over_images():
    rng, draws = np.random.default_rng(1), 400
    group_N, found, by_images, covered = np.repeat(np.arange(20, dtype=np.uint64), 20), 0, 0, 0
    for _ in range(draws):
        # In a third of the groups one of the networks, either of them, is wrong about nearly all images.
        worse_G = rng.choice([0, 1, 2], 20, p=[2 / 3, 1 / 6, 1 / 6])
        right = np.stack([rng.random(400) < np.where(worse_G[group_N] == number, 0.1, 0.9) for number in (1, 2)])
        test, = paired_tests(right, group_N)
        found += test.p_value < 0.05
        by_images += mcnemar(test.only_first_right, test.only_second_right) < 0.05
        covered += test.interval[0] <= 0 <= test.interval[1]
    assert found / draws < 0.08
    assert by_images / draws > 0.3
    assert covered / draws > 0.92
