"""Text and tables of measured networks: errors, per-class metrics, calibration, and comparisons of networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from alexnet.errors import plural, some
from alexnet.models.checkpoint_json import has_top5

if TYPE_CHECKING:  # these bring torch or rich
    from rich.console import RenderableType

    from alexnet.inference.calibration import Calibration, CalibrationError
    from alexnet.inference.class_metrics import Baselines, PerClassMetrics
    from alexnet.inference.comparison import PairedTest
    from alexnet.inference.metrics import Errors
    from alexnet.reproduce.run_settings import DifferingSetting

SETTINGS_SHOWN = 8
"""Differing settings of the network, of the recipe, and of data and software that `compare` shows by default."""

CLASSES_SHOWN = 5
"""Classes without measured images that `evaluate` names."""

SETTING_WIDTH = 25
"""Longest value of a setting in the table; --json has all of it."""


def errors_text(errors: Errors, *, views: int, networks: int, classes: int) -> str:
    """What was measured, and the errors with their intervals, in lines. Up to five classes have no top-5 error.

    Args:
        errors: the sums.
        views: views of each image: 1 or 10.
        networks: networks in the ensemble.
        classes: of the network.
    """
    lines = [f"{plural(errors.images, 'image')}, {plural(views, 'view')}, {plural(networks, 'network')}, "
             f"loss {errors.loss:.4f}"]
    counts = [("top-1 error", errors.top1_wrong, errors.top1_interval),
              *([("top-5 error", errors.top5_wrong, errors.top5_interval)] * has_top5(classes))]
    groups = errors.groups
    for name, wrong, (low, high) in counts:
        lines.append(f"{name} {wrong / max(errors.images, 1):7.2%}   (95% interval{over_groups(groups)} {low:.2%} to "
                     f"{high:.2%})")
    return "\n".join([*lines, *few_groups_text(groups)])


def over_groups(groups: int | None) -> str:
    """" over 37 groups", the unit of an interval; "" for images without groups."""
    return "" if groups is None else f" over {plural(groups, 'group')}"


def few_groups_text(groups: int | None) -> Iterator[str]:
    """A line that says that an interval over so few groups is unreliable; none for enough groups, or without any."""
    from alexnet.inference.grouped import FEW_GROUPS

    if groups is not None and groups < FEW_GROUPS:
        yield (f"unreliable: {plural(groups, 'group')} {'does' if groups == 1 else 'do'} not show how much groups "
               f"differ; measure {FEW_GROUPS} groups or more")


def look_alikes_text(errors: Errors, look_alikes: Errors | None) -> str:
    """The error of the images that were left out, as they look like training images, and of all images, in one line.

    Args:
        errors: of the images that were measured.
        look_alikes: of those that were left out; None if there are none.
    """
    if look_alikes is None:
        return "No image is known to look like a training image, so none was left out."
    together = errors + look_alikes
    return (f"Left out, as they look like training images: {plural(look_alikes.images, 'image')}, top-1 error "
            f"{look_alikes.top1_error:.2%}; with them, {together.images:,} images, {together.top1_error:.2%}")


def baselines_text(found: Baselines) -> str:
    """The errors of guessing, in one line."""
    largest = f"the largest class ({found.largest_class})" if found.largest_class else "one of the largest classes"
    return (f"Chance: {found.chance_top1_error:.1%} top-1 error; always answering {largest}: "
            f"{found.largest_class_error:.1%}")


def unmeasured_text(missing: Sequence[str], count: int) -> str:
    """The classes of the network of which no image was measured, in one line; "" if there are none.

    Args:
        missing: their names.
        count: the network's classes.
    """
    return (f"Not measured, as there are no images of {'it' if len(missing) == 1 else 'them'}: "
            f"{some(missing, CLASSES_SHOWN)} ({len(missing):,} of {count:,} classes)") if missing else ""


def per_class_table(found: PerClassMetrics) -> RenderableType:
    """A row for each class, and the means below. A dash: undefined, since there is nothing to divide by."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    from alexnet.inference.grouped import FEW_GROUPS

    groups = found.classes[0].groups
    few = next((each for each in found.classes if each.groups is not None and each.images
                and each.groups < FEW_GROUPS), None)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))  # so that it fits 80 columns
    table.add_column("class", min_width=8, overflow="fold")  # 16 letters fit 80 columns, such as English springer
    for title in ("images", "pred.", "precision", "recall", "F1", "AUC"):
        table.add_column(title, justify="right", no_wrap=True)
    for each in found.classes:
        table.add_row(escape(each.name), f"{each.images:,}", f"{each.predicted:,}",
                      _with_interval(each.precision, each.precision_interval),
                      _with_interval(each.recall, each.recall_interval), _with_interval(each.f1, each.f1_interval),
                      _decimal(each.auc))
    return Group(
        table, "",
        f"Balanced accuracy {_percent(found.balanced_accuracy)} (mean recall), macro F1 {_percent(found.macro_f1)}, "
        f"macro AUC {_decimal(found.macro_auc)} (one class against the rest): means over {_measured_classes(found)}.",
        "pred.: images that were predicted as this class. "
        f"In brackets: 95% intervals (Wilson{'' if groups is None else ', over the groups'}) in percent. -: undefined, "
        "as the class has no images or no predictions.",
        *([] if few is None else [
            f"Unreliable: the intervals of classes whose images are in fewer than {FEW_GROUPS} groups, such as "
            f"{escape(few.name)} ({plural(few.groups or 0, 'group')})."]))


def _measured_classes(found: PerClassMetrics) -> str:
    """Which classes the means of `PerClassMetrics` are over."""
    count, of_all = found.classes_with_images, len(found.classes)
    if count == of_all:
        return f"the {of_all:,} classes, each of which counts the same"
    if count == 1:
        return f"the only one of the {of_all:,} classes that has images"
    return f"the {count:,} of {of_all:,} classes that have images, each of which counts the same"


def _with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return "-"
    percent = "100%" if value == 1 else f"{value:.1%}"
    return f"{percent} ({100 * interval[0]:.0f}-{100 * interval[1]:.0f})"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def calibration_text(found: Calibration, apart: str = "", ten_views: Calibration | None = None) -> Iterator[str]:
    """The temperatures and the errors before and after them, in lines.

    Args:
        found: the temperature of one view.
        apart: what of the other images was left out (`HeldApart.describe`).
        ten_views: the temperature of the mean over ten views, on the same images; None: it was not fitted.
    """
    yield (f"temperature {found.temperature:.3f}, fitted on {plural(found.fitted_images, 'image')}; it makes the "
           f"probabilities {'less' if found.temperature > 1 else 'more'} extreme; with one view the predicted class "
           "stays the same")
    groups = "" if found.groups is None else f" in {plural(found.groups, 'group')}, none of which fitted it"
    yield f"measured on {found.measured_images:,} other images{groups}{f' ({apart})' if apart else ''}:"
    yield from _before_and_after(found)
    if ten_views:
        yield (f"ten views: temperature {ten_views.temperature:.3f} of each view, fitted on the same images; on the "
               "same other images, before with the temperature of one view:")
        yield from _before_and_after(ten_views)
    yield ("ECE: expected calibration error, the mean gap between confidence and accuracy, over 15 bins of equal width "
           "(Guo et al. 2017). Calibrated: what a perfectly calibrated network would measure on as many images, in 95 "
           "of 100 cases.")


def _before_and_after(found: Calibration) -> Iterator[str]:
    """The errors before and after a temperature, indented."""
    low, high = found.loss_change_interval
    yield f"  before: {_calibration_error(found.before)}"
    yield f"  after:  {_calibration_error(found.after)}"
    yield (f"  change of the loss: {found.loss_change:+.4f} (95% interval{over_groups(found.groups)} {low:+.4f} to "
           f"{high:+.4f})")
    yield from (f"  {line}" for line in few_groups_text(found.groups))
    if found.ece_undecided:
        yield (f"  with {found.measured_images:,} images the ECE cannot show whether the probabilities were wrong "
               "before; the loss decides")


def _calibration_error(error: CalibrationError) -> str:
    low, high = error.calibrated_range
    return f"ECE {error.ece:6.2%} (calibrated: {low:.2%} to {high:.2%}), loss {error.loss:.4f}"


def comparison_table(
    names: Sequence[str], settings: Sequence[DifferingSetting], errors: Sequence[Errors], tests: Sequence[PairedTest],
    classes: int, all_settings: bool = False,
) -> RenderableType:
    """Differing settings, errors, and a verdict on each pair of runs.

    Args:
        names: of the runs.
        settings, errors, tests: of the runs.
        classes: of the networks.
        all_settings: show all differing settings, and not only the first of each kind.
    """
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    measured = Table(box=None, pad_edge=False, header_style="bold")
    groups = errors[0].groups
    titles = ("top-1 error", f"95% interval{over_groups(groups)}", *(["top-5 error"] * has_top5(classes)), "loss")
    for title in ("run", *titles):
        measured.add_column(title, justify="left" if title == "run" else "right", overflow="fold")
    for name, each in zip(names, errors, strict=True):
        low, high = each.top1_interval
        top5 = [f"{each.top5_error:.2%}"] * has_top5(classes)
        measured.add_row(escape(name), f"{each.top1_error:.2%}", f"{low:.2%} to {high:.2%}", *top5, f"{each.loss:.4f}")
    verdicts = [escape(line) for test in tests for line in paired_test_text(test, names, len(tests))]
    more = f"; of the network: alexnet explain {names[0]} --diff {names[1]}" if len(names) == 2 else ""
    return Group(settings_table(names, settings, all_settings, more) if settings else
                 "The recorded settings are the same.", "", measured, *few_groups_text(groups), "", *verdicts)


def settings_table(
    names: Sequence[str], settings: Sequence[DifferingSetting], all_settings: bool, more_by: str = "",
) -> RenderableType:
    """A row for each setting, grouped; of each group the first rows, if not all are asked for.

    Args:
        names: of the columns.
        settings: in order.
        all_settings: show all.
        more_by: what else shows the settings that are left out.
    """
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("setting", *names):
        table.add_column(escape(title), overflow="fold", no_wrap=title == "setting")
    hidden = 0
    for is_of_group in (lambda part: part == "arch", lambda part: part == "recipe",
                        lambda part: part not in ("arch", "recipe")):
        group = [setting for setting in settings if is_of_group(setting.name.partition(".")[0])]
        shown = group if all_settings else group[:SETTINGS_SHOWN]
        for setting in shown:
            table.add_row(escape(setting.name), *(escape(_setting(value)) for value in setting.values))
        if more := len(group) - len(shown):
            hidden += more
            table.add_row(f"and {more:,} more", style="dim")
    if not hidden:
        return table
    return Group(table, f"Not shown: {plural(hidden, 'setting')} more in which they differ; --all-settings prints all"
                        f"{more_by}")


def _setting(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        text = ", ".join(map(str, value)) or "none"
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value) or "none"
    return text if len(text) <= SETTING_WIDTH else f"{text[: SETTING_WIDTH - 1]}…"


def paired_test_text(test: PairedTest, names: Sequence[str], tests: int) -> Iterator[str]:
    """One comparison: the verdict with its numbers, and whether the images suffice if no difference is shown.

    Args:
        test: the comparison.
        names: of all networks.
        tests: comparisons that are made, by which p is corrected.
    """
    first, second = names[test.first], names[test.second]
    if not test.only_first_right and not test.only_second_right:
        yield f"{first} and {second} are right about the same images."
        return
    better, worse = (second, first) if test.difference > 0 else (first, second)
    points, (low, high) = 100 * test.difference, (100 * end for end in test.interval)
    if test.difference < 0:  # the interval of how much better the better one is
        points, low, high = -points, -high, -low
    p_value = f"p = {test.p_value:.2g}" + (f", {test.adjusted_p_value:.2g} after Holm's correction for {tests} tests; "
                                           "the interval is not corrected" if tests > 1 else "")
    counts = (f"only {first} is right about {plural(test.only_first_right, 'image')}, only {second} about "
              f"{test.only_second_right:,}")
    if not test.difference:
        verdict = f"{first} and {second} make equally many errors"
    elif test.significant:
        verdict = f"{better} is better than {worse}, by {points:.1f} points of top-1 error"
    else:
        verdict = f"{better} makes {points:.1f} points fewer errors than {worse}, but that may be chance"
    method = "McNemar's exact test" if test.groups is None else "sign-flip test over groups"
    yield (f"{verdict} (95% interval{over_groups(test.groups)} {low:+.1f} to {high:+.1f}; {counts}; {method}: "
           f"{p_value})")
    if not test.significant:
        more = "" if test.groups is None else "in groups of this size "
        needed = "" if test.images_needed is None or test.images_needed <= test.images else (
            f"; about {test.images_needed:,} {more}would be needed for {points:.1f}")
        among = "" if test.groups is None else f" in {plural(test.groups, 'group')}"
        yield (f"With {plural(test.images, 'image')}{among} this test usually finds only differences of "
               f"{100 * test.detectable:.1f} points or more{needed}.")
