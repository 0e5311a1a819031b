"""Outcome of a claim: differences between variants, their 95% intervals over seeds, and the verdict."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Literal, TypedDict

from alexnet.reproduce.claims import CLAIMS

STUDENT_T = (math.inf, math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t for a 95% interval, by the number of values."""


@dataclass(frozen=True)
class VariantResult:
    """What was measured of one variant: a value for each seed, or one value if the seeds are averaged."""

    name: str
    values: tuple[float, ...]
    """Top-1 errors as fractions, or epochs."""
    note: str = ""
    """Further measurements as text."""
    runs: tuple[str, ...] = ()
    """Names of the runs' folders, seed by seed."""


@dataclass(frozen=True)
class Difference:
    """A variant against the first, seed by seed: points of top-1 error, or factor of epochs."""

    name: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def half_width(self) -> float:
        """Half the width of Student's 95% interval of the mean; infinite for one seed."""
        count = len(self.values)
        if count < 2:
            return math.inf
        return STUDENT_T[min(count, len(STUDENT_T) - 1)] * statistics.stdev(self.values) / math.sqrt(count)


@dataclass(frozen=True)
class Verdict:
    """How a measured difference compares with the paper's."""

    sign: Literal["same", "opposite", "zero"]
    """Sign of the mean difference, compared with the sign that the claim expects."""
    seeds: int
    significant: bool | None
    """Whether the 95% interval excludes "no difference"; None for one seed, which has no interval."""
    size: Literal["contained", "larger", "smaller"] | None
    """The paper's number is in the interval, or our effect is larger or smaller; None without a number or interval."""

    def __str__(self) -> str:
        signs = {"same": "same sign as the claim", "opposite": "opposite sign", "zero": "no difference"}
        if self.significant is None:
            return f"{signs[self.sign]}; one seed, so no interval"
        significance = "significant" if self.significant else "not significant"
        sizes = {"contained": "; the interval contains the paper's number", "larger": "; larger than the paper's",
                 "smaller": "; smaller than the paper's", None: ""}
        return f"{signs[self.sign]}, {significance} over {self.seeds} seeds{sizes[self.size]}"


class VariantJson(TypedDict):
    """`VariantResult`."""

    name: str
    values: list[float]
    note: str
    runs: list[str]


class DifferenceJson(TypedDict):
    """`Difference`."""

    name: str
    mean: float
    half_width: float | None
    """None for one seed."""


class OutcomeJson(TypedDict):
    """`Outcome`, as a line of a results file has it."""

    claim: str
    section: str
    """Of the paper."""
    statement: str
    data: str
    side: int
    images: list[int]
    """In training and in validation."""
    epochs: int
    seeds: list[int]
    precision: str
    paper: float | None
    """The paper's number for the first difference."""
    unit: Literal["times", "points"]
    variants: list[VariantJson]
    differences: list[DifferenceJson]
    verdict: str


@dataclass(frozen=True)
class Outcome:
    """A claim, measured on one data set."""

    claim: str
    data: str
    side: int
    images: tuple[int, int]
    """In training and in validation."""
    epochs: int
    seeds: tuple[int, ...]
    precision: str
    variants: tuple[VariantResult, ...]

    @property
    def unit(self) -> Literal["times", "points"]:
        return "times" if CLAIMS[self.claim].measure == "epochs" else "points"

    @property
    def measure_name(self) -> str:
        """Heading of the measured values."""
        return "epochs to 25% training error" if self.unit == "times" else "top-1 error"

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Every variant but the first, against the first."""
        first, *others = self.variants
        return tuple(Difference(other.name, tuple(
            value / reference if self.unit == "times" else 100 * (value - reference)
            for reference, value in zip(first.values, _one_per_seed(other.values, len(first.values)), strict=True)))
            for other in others)

    @property
    def verdict(self) -> Verdict:
        """Compare the first difference with the paper's."""
        claim, ours = CLAIMS[self.claim], self.differences[0]
        effect = ours.mean - (1.0 if self.unit == "times" else 0.0)
        sign: Literal["same", "opposite", "zero"] = (
            "zero" if not effect else "same" if effect * claim.sign > 0 else "opposite")
        if len(ours.values) < 2:
            return Verdict(sign, 1, None, None)
        size: Literal["contained", "larger", "smaller"] | None = None
        if claim.paper is not None:
            size = ("contained" if abs(claim.paper - ours.mean) <= ours.half_width
                    else "larger" if (ours.mean - claim.paper) * claim.sign > 0 else "smaller")
        return Verdict(sign, len(ours.values), abs(effect) > ours.half_width, size)

    def to_json(self) -> OutcomeJson:
        """One line of a results file, less its provenance."""
        claim = CLAIMS[self.claim]
        return {
            "claim": self.claim, "section": claim.section, "statement": claim.statement, "data": self.data,
            "side": self.side, "images": list(self.images), "epochs": self.epochs, "seeds": list(self.seeds),
            "precision": self.precision, "paper": claim.paper, "unit": self.unit,
            "variants": [{"name": variant.name, "values": list(variant.values), "note": variant.note,
                          "runs": list(variant.runs)} for variant in self.variants],
            "differences": [{"name": difference.name, "mean": difference.mean,
                             "half_width": difference.half_width if math.isfinite(difference.half_width) else None}
                            for difference in self.differences],
            "verdict": str(self.verdict)}

    @classmethod
    def from_json(cls, tree: OutcomeJson) -> Outcome:
        return cls(tree["claim"], tree["data"], tree["side"], (tree["images"][0], tree["images"][1]), tree["epochs"],
                   tuple(tree["seeds"]), tree["precision"],
                   tuple(VariantResult(variant["name"], tuple(variant["values"]), variant["note"],
                                       tuple(variant["runs"])) for variant in tree["variants"]))


def _one_per_seed(values: tuple[float, ...], seeds: int) -> tuple[float, ...]:
    """Repeat a single value that was measured of all seeds together."""
    return values if len(values) == seeds else values * seeds
