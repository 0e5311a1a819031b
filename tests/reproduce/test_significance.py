"""Statistics of paired comparisons against published tables and worked examples, and the search of learning rates."""

import math

import pytest
from scipy import stats

from alexnet.reproduce.significance import paired_t_test
from alexnet.reproduce.tuning import Trial, next_rate, search


def test_a_paired_test_is_that_of_students_sleep_data():
    """Student (1908), Cushny and Peebles' ten patients: t = 4.06, p = 0.0028, interval 0.70 to 2.46."""
    hours = (1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4)
    test = paired_t_test(hours)
    assert test.mean == pytest.approx(1.58)
    assert test.p == pytest.approx(0.00283, abs=5e-5)
    assert (test.low, test.high) == (pytest.approx(0.70, abs=5e-3), pytest.approx(2.46, abs=5e-3))
    # (2.262 + 0.883) * 1.2300 / sqrt(10), by the table's t for 9 degrees.
    assert test.minimum_detectable == pytest.approx(1.223, abs=2e-3)


@pytest.mark.parametrize("comparisons", [1, 2, 5, 8])
@pytest.mark.parametrize("differences", [(-3, -3.5, -2, -3.5), (0.3, -0.1, 0.2, 0.4, -0.3, 0.1, 0.0, 0.2)])
def test_simultaneous_intervals_and_detectable_effects_are_those_of_scipy(differences, comparisons):
    test, degrees = paired_t_test(differences, comparisons), len(differences) - 1
    expected = stats.ttest_1samp(differences, 0)
    assert test.p == pytest.approx(expected.pvalue, rel=1e-6)
    alone, together = (expected.confidence_interval(1 - 0.05 / count) for count in (1, comparisons))
    assert (test.low, test.high) == pytest.approx((alone.low, alone.high), rel=1e-6)
    assert (test.low_all, test.high_all) == pytest.approx((together.low, together.high), rel=1e-6)
    quantiles = stats.t.ppf(1 - 0.05 / comparisons / 2, degrees) + stats.t.ppf(0.8, degrees)
    assert test.minimum_detectable == pytest.approx(quantiles * stats.sem(differences), rel=1e-6)


def test_the_minimum_detectable_effect_is_found_in_80_of_100_experiments_at_the_corrected_level():
    """Power of the noncentral t distribution for 8 seeds and the strictest of 5 tests, p < 0.01."""
    smallest = paired_t_test((0.3, -0.1, 0.2, 0.4, -0.3, 0.1, 0.0, 0.2), 5).minimum_detectable
    shift = smallest / stats.sem((0.3, -0.1, 0.2, 0.4, -0.3, 0.1, 0.0, 0.2))
    critical = stats.t.ppf(0.995, 7)
    power = stats.nct.sf(critical, 7, shift) + stats.nct.cdf(-critical, 7, shift)
    assert power == pytest.approx(0.8, abs=0.03)  # the usual approximation


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
