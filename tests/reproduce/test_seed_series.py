"""Two series of runs in numbers and words: paired or not, without spread, and what is too small to be found."""

import numpy as np
import pytest
from scipy import stats

from alexnet.cli.render_series import series_test_text
from alexnet.errors import UserError
from alexnet.inference.metrics import Errors
from alexnet.models.seen import SeenImages
from alexnet.reproduce.seed_series import Series, compare_series, spread, unequal_role, why_unpaired
from weight_files import narrow

IMAGES = 1000


def errors(*wrong):
    return [Errors(IMAGES, 1.0 * each, each, 0) for each in wrong]


def series(name, seeds, chosen_by=(1, 2), weights_differ=True):
    """Runs of a narrow network with these seeds, whose best epoch the images `chosen_by` chose."""
    checkpoints = []
    for place, seed in enumerate(seeds):
        saved = narrow("cifar")
        if weights_differ:
            saved.weights["classifier.fc4.bias"] += place + 1
        saved.training["seed"] = seed
        seen = SeenImages.of(np.empty(0, np.uint64), np.array(chosen_by, np.uint64), np.empty((0, 2), np.uint64))
        checkpoints.append(type(saved)(**{**vars(saved), "seen": seen}))
    return Series(tuple(f"{name}-{place}" for place in range(len(seeds))), tuple(checkpoints))


def text(found):
    return list(series_test_text(found))


def test_pairs_are_matched_by_seed_whatever_their_order():
    found = compare_series(series("a", (0, 1, 2)), series("b", (2, 0, 1)),
                           (errors(210, 230, 250), errors(240, 190, 225)))
    expected = stats.ttest_rel([0.21, 0.23, 0.25], [0.19, 0.225, 0.24])
    assert found.test.p == pytest.approx(expected.pvalue)
    assert found.difference == pytest.approx(0.035 / 3)
    verdict, pairs, smallest, covers = text(found)
    assert verdict.startswith("B has 1.17 points less top-1 error than A, but that may be chance (95% interval -0.")
    assert pairs == "The runs are paired by seed (3 pairs): same seed, same validation images."
    quantile, error = stats.t.ppf(0.975, 2), stats.sem([0.02, 0.005, 0.01])
    shift = next(shift for shift in np.arange(1, 9, 0.001) if  # the power, by the noncentral t distribution
                 stats.nct.sf(quantile, 2, shift) + stats.nct.cdf(-quantile, 2, shift) >= 0.8)
    assert f"differences of {100 * shift * error:.2f} points or more (power 80%, level 5%" in smallest
    assert covers.startswith("The interval covers the seed of training, and not the choice of the images")


def test_a_significant_difference_names_the_better_series():
    found = compare_series(series("a", (0, 1, 2, 3)), series("b", (0, 1, 2, 3)),
                           (errors(210, 231, 252, 219), errors(260, 280, 301, 270)))
    assert found.significant
    assert text(found)[0].startswith("A is better than B, by 4.97 points of top-1 error (95% interval +4.8")
    assert found.to_json()["difference"] == pytest.approx(-0.04975)
    low, high = found.to_json()["interval"]
    assert low < -0.04975 < high < 0


@pytest.mark.parametrize(("second", "reason"), [
    (series("b", (3, 4)), "the seeds differ: 0, 1 and 3, 4"),
    (series("b", (0, 0)), "a series has one seed twice"),
    (series("b", (0, None)), "the seed of b-1 is not recorded"),
    (series("b", (0, 1), chosen_by=(1, 3)), "a-0 and b-0 were validated on different images in training")])
def test_what_cannot_be_paired_says_why_and_gets_welchs_test(second, reason):
    first = series("a", (0, 1))
    assert why_unpaired(first, second) == reason
    found = compare_series(first, second, (errors(210, 230), errors(250, 262)))
    assert found.method == "Welch's t test"
    assert found.test.p == pytest.approx(stats.ttest_ind([0.21, 0.23], [0.25, 0.262], equal_var=False).pvalue)
    assert text(found)[1] == (f"The runs are not paired by seed, since {reason}; Welch's test takes them as "
                              "independent (2 and 2 runs).")


def test_equal_differences_have_no_spread_and_prove_nothing():
    found = compare_series(series("a", (0, 1)), series("b", (0, 1)), (errors(210, 230), errors(211, 231)))
    assert (found.test, found.significant, found.interval) == (None, False, None)
    assert text(found)[0] == ("A has 0.10 points less top-1 error than B; there is no spread over the runs to "
                              "test against: measure more images, or train more seeds.")
    assert found.to_json()["p_value"] is None
    same = compare_series(series("a", (0, 1)), series("b", (0, 1)), (errors(210, 230), errors(210, 230)))
    assert text(same)[0].startswith("A and B have the same mean top-1 error;")


def test_two_wild_seeds_are_told_that_they_show_nothing():
    found = compare_series(series("a", (0, 1)), series("b", (0, 1)), (errors(200, 700), errors(400, 300)))
    assert "train more seeds" in text(found)[2]


def test_mean_and_standard_deviation_are_those_of_the_runs():
    found = spread(errors(200, 230, 260))
    assert (found.top1_error, found.top1_deviation) == (pytest.approx(0.23), pytest.approx(0.03))


def test_one_network_twice_is_no_series():
    with pytest.raises(UserError, match="a-0 and a-1 hold the same weights"):
        series("a", (0, 1), weights_differ=False).check()
    series("a", (0, 1)).check()


def test_images_that_chose_the_epoch_of_some_runs_only_favor_these():
    assert unequal_role(("a", "b"), (44, 44)) == ""
    assert unequal_role(("a", "b", "c"), (44, 0, 44)) == (
        "44 of the measured images chose the best epoch of a, and 0 that of b, which favors the former")
