"""Statistics of paired comparisons against published tables and worked examples, and the search of learning rates."""

import math

import numpy as np
import pytest
from scipy import stats

from alexnet.reproduce.t_tests import paired_t_test
from alexnet.reproduce.tuning import Trial, next_rate, search


def test_a_paired_test_is_that_of_students_sleep_data():
    """Student (1908), Cushny and Peebles' ten patients: t = 4.06, p = 0.0028, interval 0.70 to 2.46."""
    hours = (1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4)
    test = paired_t_test(hours)
    assert test.mean == pytest.approx(1.58)
    assert test.p == pytest.approx(0.00283, abs=5e-5)
    assert (test.low, test.high) == (pytest.approx(0.70, abs=5e-3), pytest.approx(2.46, abs=5e-3))
    # SciPy's nct, 9 degrees: a shift of 3.1496 standard errors of 1.2300 / sqrt(10) is found in 80% of tests.
    assert test.minimum_detectable == pytest.approx(1.2250, abs=1e-3)


@pytest.mark.parametrize("comparisons", [1, 2, 5, 8])
@pytest.mark.parametrize("differences", [(-3, -3.5, -2, -3.5), (0.3, -0.1, 0.2, 0.4, -0.3, 0.1, 0.0, 0.2)])
def test_simultaneous_intervals_and_detectable_effects_are_those_of_scipy(differences, comparisons):
    test, degrees = paired_t_test(differences, comparisons), len(differences) - 1
    expected = stats.ttest_1samp(differences, 0)
    assert test.p == pytest.approx(expected.pvalue, rel=1e-6)
    alone, together = (expected.confidence_interval(1 - 0.05 / count) for count in (1, comparisons))
    assert (test.low, test.high) == pytest.approx((alone.low, alone.high), rel=1e-6)
    assert (test.low_all, test.high_all) == pytest.approx((together.low, together.high), rel=1e-6)
    found = power_of(test.minimum_detectable / stats.sem(differences), degrees, comparisons)
    assert found == pytest.approx(0.8, abs=1e-5)


def power_of(shift, degrees, comparisons=1):
    """By SciPy's noncentral t distribution: of a two-sided t test at the strictest level of so many comparisons."""
    critical = stats.t.ppf(1 - 0.05 / comparisons / 2, degrees)
    # The other tail is 0, or not a number where SciPy's series does not converge.
    return stats.nct.sf(critical, degrees, shift) + np.nan_to_num(stats.nct.cdf(-critical, degrees, shift))


@pytest.mark.parametrize("pairs", [2, 3, 5, 8, 30])
def test_the_minimum_detectable_effect_is_found_in_80_of_100_experiments(pairs):
    """Also with the fewest seeds, where the sum of Student's quantiles is found in 73% (2 pairs) and 77% (3)."""
    differences = [0.1, 0.3, -0.2, 0.0, 0.25, 0.1, -0.05, 0.3, 0.15, 0.2] * 3
    test = paired_t_test(differences[:pairs])
    shift = test.minimum_detectable / stats.sem(differences[:pairs])
    assert power_of(shift, pairs - 1) == pytest.approx(0.8, abs=1e-4)
    rough = stats.t.ppf(0.975, pairs - 1) + stats.t.ppf(0.8, pairs - 1)
    if pairs in (2, 3):  # as reported of a comparison of 2 and of 3 seeds
        assert shift / rough == pytest.approx({2: 1.17, 3: 1.05}[pairs], abs=0.015)


# --- Learning rates ---------------------------------------------------------------------------------------------------


def test_rates_are_1_or_3_times_a_power_of_10():
    assert [next_rate(rate, 1) for rate in (0.01, 0.03, 0.3, 1.0)] == [0.03, 0.1, 1.0, 3.0]
    assert [next_rate(rate, -1) for rate in (0.01, 0.03, 0.001, 1.0)] == [0.003, 0.01, 0.0003, 0.3]


def searched(best, rates, **options):
    """A search in which a rate's error is its distance from `best`, in decades. Returns also the rates tried, in order.
    """
    tried = []

    def run(rate):
        tried.append(rate)
        return [Trial(abs(math.log10(rate / best)) + noise) for noise in (0.1, -0.1)]

    return search(run, rates, **options), tried


@pytest.mark.parametrize(("best", "more"), [(0.01, []), (0.1, [0.3]), (0.3, [0.3, 1.0]), (0.001, [0.001, 0.0003])])
def test_the_grid_is_extended_until_the_best_rate_has_neighbors(best, more):
    tuned, tried = searched(best, (0.003, 0.01, 0.03, 0.1))
    assert (tuned.rate, tuned.interior) == (best, True)
    assert tried == [0.003, 0.01, 0.03, 0.1, *more]
    assert list(tuned.grid) == sorted(tried)


def test_a_search_that_reaches_its_limit_says_that_the_best_is_an_end():
    tuned, tried = searched(1e-9, (0.003, 0.01, 0.03, 0.1), max_rates=8)
    assert (tuned.rate, tuned.interior, len(tried)) == (3e-5, False, 8)


def test_a_rate_at_which_a_run_diverged_is_worse_than_any_error():
    """One of two runs at 0.03 has the lowest error of all, and the other one diverged."""
    errors = {0.003: [0.8, 0.8], 0.01: [0.5, 0.7], 0.03: [0.1, None], 0.1: [None, None]}
    tuned = search(lambda rate: [Trial(error) for error in errors[rate]], tuple(errors))
    assert (tuned.rate, tuned.interior) == (0.01, True)


def test_where_no_run_reaches_its_target_the_lowest_training_error_decides():
    errors = {0.001: 0.5, 0.003: 0.3, 0.01: 0.4}
    assert search(lambda rate: [Trial(None, errors[rate])], tuple(errors)).rate == 0.003


def test_a_rate_is_judged_by_the_mean_over_its_seeds_and_not_by_the_luckiest():
    """Means 0.45, 0.4 and 0.5; the lowest single error is at 0.003."""
    errors = {0.003: [0.1, 0.8], 0.01: [0.3, 0.5], 0.03: [0.5, 0.5]}
    assert search(lambda rate: [Trial(error) for error in errors[rate]], tuple(errors)).rate == 0.01
