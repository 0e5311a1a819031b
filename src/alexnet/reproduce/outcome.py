"""Results of a claim as data: one JSON line of a results file, its variants with every run, and its comparisons."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

Verdict = Literal["supported", "contradicted", "undecided"]
"""`supported`: the difference has the claim's sign and is significant after Holm's correction. `contradicted`: it has
the opposite sign and is significant. `undecided`: anything else, with the reason."""

Unit = Literal["points", "times"]
"""`points`: a difference of errors in percentage points. `times`: a ratio of epochs or losses."""


class RateJson(TypedDict):
    """A learning rate of a variant's grid, tried with the tuning seeds."""

    rate: float
    errors: list[float | None]
    """One for each tuning seed, of the quantity that `OutcomeJson.tuned_by` gives for the variant: errors as fractions,
    or epochs to the target. None: the run diverged, or did not reach the target."""


class RunJson(TypedDict):
    """A run with a fresh seed at the variant's best rate, measured at the weights of its last epoch.

    Errors are fractions, losses are in nats. None: the run diverged, or ended at its target and was not validated.
    """

    seed: int
    top1_error: float | None
    """On the validation split, one view."""
    top5_error: float | None
    loss: float | None
    train_error: float | None
    """Clean training error: of the training images' center crops in evaluation mode."""
    train_loss: float | None
    value: float | None
    """The measured quantity that the claim is about (`OutcomeJson.value_name`). None: not reached, or diverged."""
    epochs_without_target: NotRequired[int]
    """Only of a run that ended without having reached the claim's clean training error: it needs more epochs."""
    more: NotRequired[dict[str, float | None]]
    """Further measured quantities by name, which other comparisons of the claim are about."""


class VariantJson(TypedDict):
    """One of the networks that a claim compares."""

    name: str
    settings: list[str]
    """What differs from the common network and recipe, as `--set` takes it."""
    images: int
    """Training images of the runs with fresh seeds."""
    rate: float
    """The learning rate with the lowest mean, over the tuning seeds, of what it is chosen by."""
    tuning: list[RateJson]
    """The whole grid, by ascending rate."""
    interior: bool
    """Whether a lower and a higher rate were tried and were worse. If not, the grid's limit was reached."""
    runs: list[RunJson]


class ComparisonJson(TypedDict):
    """A variant against a reference, paired by seed."""

    name: str
    variant: str
    reference: str
    quantity: str
    """What is compared: the claim's `value_name`, or a key of `RunJson.more`."""
    unit: Unit
    paper: float | None
    """The paper's number in the same unit and direction; None: the paper gives none."""
    sign: int
    """Expected sign of the difference, or of the ratio's logarithm: +1 or -1."""
    values: list[float]
    """Points: 100 * (variant - reference) for each seed. Times: variant / reference."""
    mean: float | None
    """Times: the geometric mean, since ratios are compared as logarithms. None without values."""
    low: float | None
    """Student's 95% interval of the mean, not corrected for several comparisons. None for fewer than two values."""
    high: float | None
    p: float | None
    """Two-sided paired t test. None where nothing is judged: with --quick, or refused."""
    p_holm: float | None
    """`p` after Holm's correction over the claim's comparisons."""
    minimum_detectable: float | None
    """The difference (times: the ratio, above 1) that this test finds with a power of 80%, at a two-sided level of 5%,
    with the observed spread and number of seeds."""
    verdict: Verdict
    reason: str
    """One sentence."""


class MeasuredJson(TypedDict):
    """What the runs of a claim came to."""

    tuning_seeds: list[int]
    tuned_by: str
    """What the learning rates were chosen by; where it is not the same for all variants, for which."""
    value_name: str
    """What `RunJson.value` is: "top-1 error", "epochs to 25% clean training error"."""
    value_unit: Literal["fraction", "epochs"]
    variants: list[VariantJson]
    comparisons: list[ComparisonJson]
    notes: list[str]
    """What a reader must know besides: rates at the grid's limit, refusals, faults of the data."""


class OutcomeJson(MeasuredJson):
    """A claim measured on one data set: one line of a results file."""

    claim: str
    section: str
    """Of the paper."""
    statement: str
    """The claim in our words."""
    design: str
    """One sentence: network, data, images, epochs."""
    against: str
    """One sentence: which outcome would speak against the claim."""
    data: str
    side: int
    """Of the stored images, in pixels."""
    images: list[int]
    """Training images of the claim's subset, validation images."""
    epochs: int
    """Of each run; at most, where runs end at a target."""
    seeds: list[int]
    """Fresh seeds, which chose nothing. Of ensembles, those of their members."""
    quick: bool
    """Whether the runs were shortened by --quick, and decide nothing."""
    command: str
    machine: str
    """With the version of torch."""
    precision: str
