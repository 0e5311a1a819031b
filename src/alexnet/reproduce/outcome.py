"""Results of a claim as data: one JSON line of a results file, its variants with every run, and its comparisons."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from alexnet.reproduce.claim import Unit

Verdict = Literal["supported", "supported in sign", "contradicted", "undecided"]
"""What a comparison says about the claim. The effect that it is held against is the published number, or where there is
none the least effect that counts; the interval is the simultaneous one.

supported: the difference is significant, has the claim's sign, and its interval reaches that effect or lies beyond it.
supported in sign: the difference is significant and has the claim's sign; its whole interval is a smaller effect than
    the published one, or only a bound of the effect is known that does not tell (`ComparisonJson.bound`).
contradicted: the difference is significant and has the opposite sign; or its whole interval is a smaller effect than
    the published one and it is not significant; or its whole interval is a smaller effect than the least that counts.
undecided: anything else, with the reason.
"""

Bound = Literal["at least", "at most"]
"""What a measured ratio of epochs is of the true one, where runs of one side ended before they reached the target."""


class RateJson(TypedDict):
    """A learning rate of a variant's grid, tried with the tuning seeds."""

    rate: float
    errors: list[float | None]
    """One for each tuning seed: errors as fractions, or epochs to the target (`VariantJson.tuned_by`). Top-1 errors are
    those on the tuning split. None: the run diverged, or did not reach the target."""


class RunJson(TypedDict):
    """A run with a fresh seed at the variant's best rate, measured at the weights of its last epoch.

    Errors are fractions, losses are in nats. None: the run diverged, or ended at its target and was not validated.
    """

    seed: int
    top1_error: float | None
    """On the validation split: of a single network with one view, of an ensemble with `VariantJson.views`."""
    top5_error: float | None
    loss: float | None
    train_error: float | None
    """Clean training error: of the training images' center crops in evaluation mode."""
    train_loss: float | None
    value: float | None
    """The measured quantity that the claim is about (`OutcomeJson.value_name`). None: not reached, or diverged."""
    epochs_without_target: NotRequired[int]
    """Only of a run that ended without having reached the claim's clean training error: it needs more epochs."""
    tower_color: NotRequired[list[float]]
    """Only of a network with towers, if its weights were measured: the share of color in conv1's kernels, in the tower
    that has the least of it and in the one that has the most."""
    more: NotRequired[dict[str, float | None]]
    """Further measured quantities by name, which other comparisons of the claim are about."""


class VariantJson(TypedDict):
    """One of the networks that a claim compares."""

    name: str
    settings: list[str]
    """What differs from the common network and recipe, as `--set` takes it."""
    images: int
    """Training images of the runs with fresh seeds."""
    views: int
    """Views of each validation image, over which the outputs are averaged for `RunJson.value`."""
    averaged: int
    """Networks whose outputs are averaged: 1, or the size of an ensemble."""
    tuned_by: str
    """The quantity that the learning rate was chosen by: "top-1 error"."""
    rate: float
    """The learning rate with the lowest mean, over the tuning seeds, of what it is chosen by."""
    tuning: list[RateJson]
    """The whole grid, by ascending rate."""
    interior: bool
    """Whether a lower and a higher rate were tried and were worse. If not, the grid's limit was reached."""
    runs: list[RunJson]


class ExpectationJson(TypedDict):
    """What a claim expects of a comparison."""

    name: str
    variant: str
    reference: str
    unit: Unit
    paper: float | None
    """The published number in this unit and direction; None: there is none."""
    words: str
    """The number as it was published, where `paper` is derived from it: "1.4 points of 42.1%"; else ""."""
    is_bound: bool
    """Whether the number is a lower bound of the effect: "over 1 point"."""
    source: str
    """Who gives the number."""
    least: float | None
    """The least effect that counts where there is no published number. Smaller effects count as none."""
    sign: int
    """Expected sign of the difference, or of the ratio's logarithm: +1 or -1."""


class Bounded(TypedDict, total=False):
    """What only some comparisons of epochs have."""

    bound: Bound
    """Of `mean`, in which runs that did not reach the target count with the epochs that they had. `values` has the
    pairs without such runs; there is no interval."""


class ComparisonJson(ExpectationJson, Bounded):
    """A variant against a reference, paired by seed."""

    quantity: str
    """What is compared: the claim's `value_name`, or a key of `RunJson.more`."""
    values: list[float]
    """Points: 100 * (variant - reference) for each seed. Times: variant / reference. Percent: 100 * (variant /
    reference - 1)."""
    mean: float | None
    """Times and percent: of the geometric mean, since ratios are compared as logarithms. None without values."""
    low: float | None
    """Student's 95% interval of the mean, of this comparison alone. None for fewer than two values."""
    high: float | None
    low_all: float | None
    """Simultaneous 95% interval over the claim's comparisons (Bonferroni): Student's interval at a level of 5% divided
    by their number."""
    high_all: float | None
    p: float | None
    """Two-sided paired t test. None where nothing is judged."""
    p_holm: float | None
    """`p` after Holm's correction over the claim's comparisons."""
    minimum_detectable: float | None
    """The difference (times: the ratio, above 1) that is found with a power of 80% by a two-sided test at a level of 5%
    divided by the number of comparisons, with the observed spread and number of seeds."""
    verdict: Verdict
    reason: str
    """One sentence, without the numbers that stand in the other fields."""


class MeasuredJson(TypedDict):
    """What the runs of a claim came to."""

    tuning_seeds: list[int]
    tuned_by: str
    """What the learning rates were chosen by; where it is not the same for all variants, for which."""
    value_name: str
    """What `RunJson.value` is: "top-1 error", "epochs to 25% clean training error"."""
    fractions: list[str]
    """Names of the quantities that are fractions. The others, such as epochs and losses, are plain numbers."""
    variants: list[VariantJson]
    comparisons: list[ComparisonJson]
    notes: list[str]
    """What a reader must know besides: rates at the grid's limit, refusals, faults of the data."""


class _Read(TypedDict, total=False):
    """What `read_outcomes` adds."""

    replaces: list[str]
    """Dates of the earlier results of the same design in the file."""


class OutcomeJson(MeasuredJson, _Read):
    """A claim measured on one data set: one line of a results file."""

    claim: str
    section: str
    """Of the paper."""
    statement: str
    """The claim in our words."""
    design: str
    """One sentence: network, data, images, epochs."""
    against: str
    """One sentence: which outcomes would contradict the claim."""
    departures: list[str]
    """What differs from the claim's own design, in words: "20 epochs instead of 150". Empty with --quick."""
    data: str
    fingerprint: str
    """Of the data: equal for equal classes, images and pixels."""
    side: int
    """Of the stored images, in pixels."""
    images: list[int]
    """Training images of the claim's subset, validation images."""
    epochs: int
    """Of each run; at most, where runs end at a target."""
    seeds: list[int]
    """Fresh seeds, which chose nothing. For ensembles, those of their members."""
    quick: bool
    """Whether the runs were shortened by --quick, and decide nothing."""
    command: str
    machine: str
    """With the version of torch."""
    precision: str
    date: str
    """Of the measurement, in UTC: "2026-11-29"."""
