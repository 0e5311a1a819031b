"""Student's t against printed tables and SciPy, and Holm's correction by hand."""

import math

import pytest
from scipy import stats

from alexnet.inference.statistics import POWER, SIGNIFICANCE, Z_POWER, Z, critical_value, holm, t_inside, t_quantile

# Percentage points of Student's t, two-sided 5% and one-sided 20%: any printed table (Fisher and Yates, table III).
T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 7: 2.365, 8: 2.306, 9: 2.262, 14: 2.145, 15: 2.131, 30: 2.042}
T_80 = {1: 1.376, 2: 1.061, 4: 0.941, 7: 0.896, 14: 0.868, 30: 0.854}


@pytest.mark.parametrize(("degrees", "value"), T_975.items())
def test_t_quantiles_are_those_of_the_printed_table(degrees, value):
    assert t_quantile(0.975, degrees) == pytest.approx(value, abs=5e-4)
    assert t_inside(value, degrees) == pytest.approx(0.95, abs=5e-5)


@pytest.mark.parametrize(("degrees", "value"), T_80.items())
def test_quantiles_of_the_power_are_those_of_the_printed_table(degrees, value):
    assert t_quantile(0.8, degrees) == pytest.approx(value, abs=5e-4)


def test_one_and_two_degrees_of_freedom_have_simple_forms():
    """Cauchy's distribution, and t / sqrt(2 + t^2)."""
    assert t_inside(1.0, 1) == pytest.approx(0.5)
    assert t_inside(-3.0, 2) == pytest.approx(3 / math.sqrt(11))


@pytest.mark.parametrize("degrees", [1, 2, 9, 99, 100, 400, 5000, 10**6])
def test_critical_values_are_scipys(degrees):
    assert critical_value(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=1e-6)


def test_z_are_the_normal_quantiles_of_the_level_and_the_power():
    assert pytest.approx(stats.norm.ppf(1 - SIGNIFICANCE / 2), abs=1e-6) == Z
    assert pytest.approx(stats.norm.ppf(POWER), abs=1e-6) == Z_POWER


def test_holm_by_hand():
    # Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1, each no smaller than the one before it.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_multiplies_the_smallest_p_most_and_never_orders_them_anew():
    """Hand-computed: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04 raised to what precedes it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
