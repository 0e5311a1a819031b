"""When a network is "not sure" of an image: its likeliest class is below a threshold, 50% or that of --sure."""

from __future__ import annotations

from alexnet.errors import require

SURE_FROM = 0.5
"""Probability of the likeliest class from which a calibrated network is right at least as often as wrong."""


def require_threshold(sure: float | None) -> None:
    """Raise UserError for a value of --sure that is no probability."""
    require(sure is None or 0 <= sure <= 1, f"--sure {sure or 0:g} is not between 0 and 1",
            f"write --sure {sure / 100:g} for {sure:g}%" if sure and 1 < sure <= 100 else "write 0.8 for 80%")


def is_sure(probability: float, calibrated: bool, sure_from: float | None = None) -> bool | None:
    """Whether the likeliest class of an image reaches the threshold.

    Args:
        probability: of the likeliest class.
        calibrated: whether the network's probabilities are (`alexnet calibrate`). Without that, one of 90% says nothing
            about how often it is right.
        sure_from: the user's own threshold; None: `SURE_FROM`.

    Returns:
        None if the network is not calibrated and the user gave no threshold.
    """
    if sure_from is None:
        return probability >= SURE_FROM if calibrated else None
    return probability >= sure_from


def threshold_of(calibrated: bool, sure_from: float | None) -> float | None:
    """The threshold that `is_sure` uses; None if it uses none."""
    return sure_from if sure_from is not None else SURE_FROM if calibrated else None


def below_text(calibrated: bool, sure_from: float | None) -> str:
    """What it means that the likeliest class is below the threshold."""
    if sure_from is None:
        return "the likeliest class has a probability below 50%, and is then wrong more often than right"
    percent = f"{100 * sure_from:.4g}%"
    if calibrated:
        return (f"the likeliest class has a probability below {percent}, the threshold of --sure, and is then right in "
                f"fewer than {percent} of cases")
    return (f"the likeliest class has a probability below {percent}, the threshold of --sure; the network is not "
            "calibrated (alexnet calibrate RUN DATA), so a probability does not say how often it is right")


def several_views_note(calibrated: bool, views: int, has_ten_view_temperature: bool) -> str:
    """Say that the temperature of ten views is that of one view; "" for one view, or if ten have one of their own."""
    if not calibrated or views == 1 or has_ten_view_temperature:
        return ""
    return ("the probabilities are calibrated for one view; those of ten views are averages, which are less well "
            "calibrated")


def always_sure_note(classes: int, calibrated: bool, sure_from: float | None) -> str:
    """Say that no image can be below the threshold, as the likeliest of few classes never is; "" if one can be."""
    threshold = threshold_of(calibrated, sure_from)
    if threshold is None or threshold * classes > 1:
        return ""
    return (f"no image can be marked \"not sure\": the likeliest of {classes:,} classes always has "
            f"{100 / classes:.4g}% or more, and the threshold is {100 * threshold:.4g}%; set a higher one, such as "
            "--sure 0.8")
