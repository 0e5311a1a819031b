"""What the claims say in words is what is tested: sizes of effects, targets, parameters, and how often is measured."""

import re

import pytest

from alexnet.architecture.arithmetic import explain
from alexnet.inference.statistics import detectable_shift, t_quantile
from alexnet.reproduce.claim import UNITS
from alexnet.reproduce.claim_networks import common_setup
from alexnet.reproduce.claims import CLAIMS

SIZES = {"point": r"([\d.]+) points?", "%": r"([\d.]+)%", "factor": r"factor of ([\d.]+)"}
"""How a sentence gives the size of an effect."""


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_what_would_contradict_a_claim_has_the_sizes_that_are_tested(claim):
    """Each size in the sentence is that of a comparison, and each comparison's is in the sentence."""
    said = {(kind, float(size)) for kind, pattern in SIZES.items() for size in re.findall(pattern, claim.against)}
    tested = set()
    for comparison in claim.comparisons:
        size = comparison.least if comparison.paper is None else comparison.paper
        unit = UNITS.get(comparison.quantity, "points")
        kind = {"points": "point", "percent": "%", "times": "factor"}[unit]
        tested.add((kind, round(max(size, 1 / size) if unit == "times" else abs(size), 6)))
    assert said == tested


def test_the_errors_at_which_networks_count_as_trained():
    """Figure 1: 25% training error. The others are of this project: 5% where a network overfits, half of the images
    where the early stages count."""
    assert {name: claim.target for name, claim in CLAIMS.items() if claim.target} == {
        "dropout": 0.05, "figure1": 0.25, "saturation": 0.5, "biases": 0.5}


def test_the_note_of_depth_has_the_parameters_of_each_network():
    """By hand, at 64 pixels with ten classes: conv1 32 (3 x 25 + 1), conv2 64 (16 x 25 + 1), conv3 96 (64 x 9 + 1),
    conv4 96 (48 x 9 + 1), conv5 64 (48 x 9 + 1), fc6 256 units that see 3x3 positions."""
    conv1, conv2, conv3, conv4, conv5 = 32 * 76, 64 * 401, 96 * 577, 96 * 433, 64 * 433
    fc7, fc8 = 256 * 257, 10 * 257
    five = conv1 + conv2 + conv3 + conv4 + conv5 + fc6(64) + fc7 + fc8
    no_conv3 = conv1 + conv2 + 96 * (32 * 9 + 1) + conv5 + fc6(64) + fc7 + fc8
    no_conv4 = conv1 + conv2 + conv3 + conv5 + fc6(64) + fc7 + fc8
    no_conv5 = conv1 + conv2 + conv3 + conv4 + fc6(96) + fc7 + fc8
    counted = [explain(variant.apply(*common_setup(64, 40))[0]).parameters
               for variant in CLAIMS["depth"].variants]
    assert counted == [five, no_conv3, no_conv4, no_conv5]
    note = CLAIMS["depth"].note
    assert [int(number.replace(",", "")) for number in re.findall(r"\d\d\d,\d\d\d", note)] == counted
    assert "414,858 without conv5: more than with it" in note
    assert no_conv5 > five


def fc6(maps):
    """Parameters of 256 units that see 3x3 positions of these maps."""
    return 256 * (maps * 9 + 1)


def test_a_long_run_on_few_images_is_measured_about_fifty_times():
    few, all_ = CLAIMS["dropout"], CLAIMS["lrn"]
    assert [few.curve_epochs(few.variants[0], epochs) for epochs in (20, 50, 100, 150, 450)] == [1, 1, 2, 3, 9]
    assert all_.curve_epochs(all_.variants[0], 150) == 0, "after the last epoch only"
    assert few.variants[-1].tuned_by == "epochs"
    assert few.curve_epochs(few.variants[-1], 300) == 1, "the epoch of the target is what is measured"


def test_the_note_of_ensemble_has_what_three_pairs_can_find():
    # SciPy's nct, 2 degrees: |t| > 4.3027 has a probability of 79.96% at a shift of 5.65, and of 80.07% at 5.66.
    degrees = CLAIMS["ensemble"].seeds - 1
    assert round(detectable_shift(t_quantile(0.975, degrees), degrees), 1) == 5.7
    assert "finds a mean difference of 5.7 standard errors (power 80%)" in CLAIMS["ensemble"].note
