"""Student's distribution with fractional degrees of freedom, and Welch's test, against SciPy and a worked example."""

import numpy as np
import pytest
from scipy import stats

from alexnet.inference.statistics import t_inside, t_quantile
from alexnet.reproduce.t_tests import welch_t_test


@pytest.mark.parametrize("degrees", [1, 1.2, 1.9, 2, 3.7, 10, 58.3, 400])
@pytest.mark.parametrize("t", [0.0, 1e-6, 0.02, 0.7, 2.0, 4.3, 12.0])
def test_students_distribution_is_scipys_for_any_degrees_of_freedom(t, degrees):
    assert t_inside(t, degrees) == pytest.approx(1 - 2 * stats.t.sf(t, degrees), rel=1e-9, abs=1e-10)
    assert t_quantile(0.975, degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-9)


@pytest.mark.parametrize(("first", "second"), [
    ((30.02, 29.99, 30.11, 29.97, 30.01, 29.99), (29.89, 29.93, 29.72, 29.98, 30.02, 29.98)),
    ((0.21, 0.25), (0.31, 0.30, 0.36, 0.29)), ((0.2, 0.2, 0.21), (0.1, 0.4))])
def test_welchs_test_is_scipys(first, second):
    test, expected = welch_t_test(first, second), stats.ttest_ind(first, second, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert test.p == pytest.approx(expected.pvalue, rel=1e-8)
    assert (test.low, test.high) == pytest.approx((interval.low, interval.high), rel=1e-8)
    error = (stats.sem(first) ** 2 + stats.sem(second) ** 2) ** 0.5
    critical, shift = stats.t.ppf(0.975, expected.df), test.minimum_detectable / error
    power = stats.nct.sf(critical, expected.df, shift) + np.nan_to_num(stats.nct.cdf(-critical, expected.df, shift))
    assert power == pytest.approx(0.8, abs=1e-4)


def test_the_worked_example_of_the_two_screws():
    """Weights of screws in grams (Wikipedia, "Student's t-test"): difference 0.095, 7.03 degrees, p 0.091."""
    test = welch_t_test((30.02, 29.99, 30.11, 29.97, 30.01, 29.99), (29.89, 29.93, 29.72, 29.98, 30.02, 29.98))
    assert test.mean == pytest.approx(0.095)
    assert test.p == pytest.approx(0.091, abs=5e-4)


def test_equal_values_have_no_spread_and_any_difference_of_them_is_certain():
    assert (welch_t_test((0.2, 0.2), (0.2, 0.2)).p, welch_t_test((0.2, 0.2), (0.3, 0.3)).p) == (1.0, 0.0)
