"""McNemar's test equals scipy's binomial test and published values; its companions hold in simulation."""

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from alexnet.inference.comparison import (
    detectable_difference,
    images_needed,
    mcnemar,
    paired_tests,
)
from alexnet.inference.paired_interval import difference_interval


@pytest.mark.parametrize(("first", "second"), [
    (0, 0), (1, 0), (0, 6), (6, 0), (10, 25), (7, 7), (300, 380), (2600, 2400)])
def test_mcnemar_equals_scipys_binomial_test(first, second):
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected)


def test_mcnemar_of_few_disagreements_by_hand():
    assert mcnemar(0, 6) == pytest.approx(2 / 2**6)  # the fewest that reach 5%
    assert mcnemar(0, 5) == pytest.approx(2 / 2**5)
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)


@pytest.mark.parametrize("disagreements", [1, 5, 6, 7, 20, 97, 400])
def test_the_interval_excludes_0_exactly_where_the_exact_test_finds_a_difference(disagreements):
    for first in range(disagreements + 1):
        second = disagreements - first
        p_value = binomtest(first, disagreements).pvalue
        ends = difference_interval(first, second, 1000, p_value)
        assert (p_value < 0.05) == (ends[0] > 0 or ends[1] < 0), (first, second, p_value, ends)
        # By the counts alone: told that the difference is certain, an end that they put beyond 0 comes out as 0.
        told = difference_interval(first, second, 1000, 0.0)
        assert (p_value < 0.05) == (told[0] > 0 or told[1] < 0), (first, second, p_value, told)
        assert ends[0] <= (second - first) / 1000 <= ends[1]


def test_a_difference_with_p_just_above_5_percent_has_an_interval_over_0():
    """10 against 22 of 194 images: 2 P(X <= 10 of 32) = 0.0501. Bonett and Price's interval was 0.003 to 0.120."""
    assert binomtest(10, 32).pvalue == pytest.approx(0.0501, abs=1e-4)
    low, high = difference_interval(10, 22, 194, binomtest(10, 32).pvalue)
    assert low < 0 < high


def test_intervals_without_disagreement_and_of_disagreements_alone_have_simple_forms():
    """No disagreement in N images: d is at most 1 - 0.025^(1/N). Of images that all disagree: (2 q - 1) d."""
    assert difference_interval(0, 0, 100, 1.0) == pytest.approx((-0.036217, 0.036217), abs=2e-5)
    assert difference_interval(0, 1, 1, 1.0) == pytest.approx((-0.95, 1.0), abs=1e-3)  # 2 x 0.025 - 1


@pytest.mark.parametrize(("first", "second", "images"), [(1, 9, 44), (30, 60, 400), (0, 8, 50), (300, 380, 50_000)])
def test_the_limits_are_the_quantiles_of_products_of_clopper_and_pearsons_distributions(first, second, images):
    """By drawing from SciPy's Beta distributions."""
    draws, rng = 400_000, np.random.default_rng(0)

    def drawn(a, b):
        return beta.rvs(a, b, size=draws, random_state=rng) if a and b else np.full(draws, float(not b))

    count = first + second
    for sign, wins, losses, limit in ((1, second, first, 0), (-1, first, second, 1)):
        share = 2 * drawn(wins, losses + 1) - 1
        products = share * np.where(share > 0, drawn(count, images - count + 1), drawn(count + 1, images - count))
        expected = sign * np.quantile(products, 0.025)
        found = difference_interval(first, second, images, binomtest(first, count).pvalue)[limit]
        assert found == pytest.approx(expected, rel=0.02, abs=0.002 * count / images)


@pytest.mark.parametrize(("only_first", "only_second"), [(0.04, 0.1), (0.0, 0.1), (0.05, 0.05)])
def test_the_interval_covers_the_truth_however_unequal_the_networks_are(only_first, only_second):
    rng = np.random.default_rng(0)
    draws = rng.multinomial(100, [only_first, only_second, 1 - only_first - only_second], 1000)
    covered = [low - 1e-9 <= only_second - only_first <= high + 1e-9 for first, second, _ in draws
               for low, high in [difference_interval(first, second, 100, mcnemar(first, second))]]
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
