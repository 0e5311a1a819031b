"""McNemar's test equals scipy's binomial test and published values; its companions hold in simulation."""

import numpy as np
import pytest
from scipy.stats import binomtest

from alexnet.inference.comparison import (
    detectable_difference,
    difference_interval,
    images_needed,
    mcnemar,
    paired_tests,
)


@pytest.mark.parametrize(("first", "second"), [
    (0, 0), (1, 0), (0, 6), (6, 0), (10, 25), (7, 7), (300, 380), (2600, 2400)])
def test_mcnemar_equals_scipys_binomial_test(first, second):
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected)


def test_mcnemar_of_few_disagreements_by_hand():
    assert mcnemar(0, 6) == pytest.approx(2 / 2**6)  # the fewest that reach 5%
    assert mcnemar(0, 5) == pytest.approx(2 / 2**5)
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)


def test_interval_of_the_difference_equals_bonett_and_price_and_covers_the_truth():
    # By hand: 1 and 9 of 44 -> (2/46, 10/46), difference 8/46 = 0.1739, standard error sqrt((12/46 - 0.1739^2)/46).
    error = ((12 / 46 - (8 / 46) ** 2) / 46) ** 0.5
    assert difference_interval(1, 9, 44) == pytest.approx((8 / 46 - 1.959964 * error, 8 / 46 + 1.959964 * error))
    rng = np.random.default_rng(0)
    covered = [low <= 0.06 <= high for first, second, _ in rng.multinomial(100, [0.04, 0.1, 0.86], 3000)
               for low, high in [difference_interval(first, second, 100)]]
    assert np.mean(covered) > 0.94


def test_a_detectable_difference_is_found_four_times_in_five():
    rng = np.random.default_rng(0)
    images, disagreeing = 2000, 0.1
    difference = detectable_difference(200, images)
    assert 0.018 < difference < 0.022  # 2.80 sqrt(0.1 / 2000) = 0.0198
    one_sided = (disagreeing - difference) / 2, (disagreeing + difference) / 2
    draws = rng.multinomial(images, [*one_sided, 1 - disagreeing], 2000)
    found = np.mean([mcnemar(first, second) < 0.05 for first, second, _ in draws])
    assert 0.74 < found < 0.84  # the exact test is a little conservative
    assert images_needed(90, 130, 2000) == pytest.approx(2000 * (difference / 0.02) ** 2, rel=0.15)
    assert images_needed(5, 5, 100) is None


def test_without_disagreements_a_detectable_difference_needs_at_least_eight_images():
    assert 7.5 / 100 < detectable_difference(0, 100) < 8 / 100
    assert detectable_difference(0, 3) == pytest.approx(1.0)


def test_pairs_are_tested_in_order_and_the_better_network_is_positive():
    rng = np.random.default_rng(0)
    good, bad = rng.random(500) < 0.9, rng.random(500) < 0.6
    tests = paired_tests(np.stack([bad, good, good]))
    assert [(each.first, each.second) for each in tests] == [(0, 1), (0, 2), (1, 2)]
    assert tests[0].difference == pytest.approx(good.mean() - bad.mean())
    assert tests[0].interval[0] < tests[0].difference < tests[0].interval[1]
    assert [each.significant for each in tests] == [True, True, False]
    assert (tests[2].p_value, tests[2].difference) == (1.0, 0.0)
    assert tests[0].adjusted_p_value == pytest.approx(3 * tests[0].p_value)
