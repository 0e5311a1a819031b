"""Every table that a command prints. The numbers come from the modules below, which print nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from alexnet.architecture.arithmetic import Explanation, Layer, Shape, _worked_size, output_size, smallest_input
from alexnet.architecture.differences import differences
from alexnet.architecture.presets import default_recipe
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch, Rounding
from alexnet.errors import Finding, did_you_mean

if TYPE_CHECKING:  # these bring torch, which `alexnet explain` does without
    from rich.console import RenderableType

    from alexnet.interpret.activations import ActivationReport, Histogram
    from alexnet.interpret.top_patches import Patch
    from alexnet.reproduce.runs import BeforeAfter, Outcome
    from alexnet.reproduce.tables import Ours

# --- For a person -----------------------------------------------------------------------------------------------------


def explanation_table(explanation: Explanation, layer: str | None = None) -> RenderableType:
    """A table of all layers, or the whole story of one. Raises ValueError naming the nearest for an unknown layer."""
    if layer is None:
        return _layer_table(explanation)
    found = {each.name: each for each in explanation.layers}
    if layer not in found:
        raise ValueError(f"{explanation.arch.name} has no layer {layer!r}; {did_you_mean(layer, found)}")
    return _story(explanation, found[layer])


def _shown(arch: Arch, shape: Shape) -> str:
    """96x55x55 of a net with two towers as 2 x 48x55x55, for that is what Figure 2 shows; colors are of no tower."""
    if arch.towers > 1 and len(shape) == 3 and shape[0] > 3 and shape[0] % arch.towers == 0:
        return f"{arch.towers} x {shape[0] // arch.towers}x{shape[1]}x{shape[2]}"
    return "x".join(map(str, shape))


def _layer_table(explanation: Explanation) -> RenderableType:
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table

    arch, size = explanation.arch, explanation.size
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("layer", "output", "(side + 2*pad - kernel)/stride + 1"):
        table.add_column(title)
    for title in ("parameters", "mult-adds", "sees"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_row("input", f"3x{size}x{size}", "", "", "", "1")
    for layer in explanation.layers:
        weighty = layer.parameters > 0
        table.add_row(layer.name, _shown(arch, layer.output_shape), layer.worked,
                      f"{layer.parameters:,}" if weighty else "",
                      f"{layer.multiply_adds / 1e6:.1f} M" if layer.multiply_adds else "", f"{layer.receptive_field}",
                      style="" if weighty or layer.worked else "dim")
    totals = (f"{arch.name}: {explanation.parameters:,} parameters, {explanation.multiply_adds / 1e6:,.1f} million "
              f"multiply-adds an image (convolutions and fully connected layers), "
              f"{explanation.activation_bytes / 1e6:.1f} MB of activations in fp32. Smallest input: "
              f"{smallest_input(arch)} pixels.")
    notes = [Padding(f"{layer.name}: {note}.", (0, 0, 0, 2), expand=False)
             for layer in explanation.layers if layer.kind == "convolution" for note in layer.notes]
    return Group(table, "", totals, *notes, "", "One layer's story: --layer conv1. `sees`: side in input pixels.")


def _story(explanation: Explanation, layer: Layer) -> RenderableType:
    from rich.console import Group
    from rich.padding import Padding

    arch = explanation.arch
    lines = [f"{layer.name} of {arch.name}: {layer.kind}", "",
             f"  in      {_shown(arch, layer.input_shape)}", f"  out     {_shown(arch, layer.output_shape)}"]
    if layer.formula:
        lines += ["", f"  size    {layer.formula}", f"          {layer.worked}"]
    if layer.kind == "convolution":
        lines += ["", *_alternatives(arch, layer)]
    lines.append("")
    if layer.parameters:
        lines.append(f"  weights {layer.parameters_worked} parameters")
    if layer.multiply_adds:
        per_unit = layer.multiply_adds // layer.neurons
        lines.append(f"  work    {layer.neurons:,} units x {per_unit:,} taps = {layer.multiply_adds:,} multiply-adds")
    apart = f", {layer.jump} pixels from one unit to the next" if len(layer.output_shape) == 3 else ""
    lines += [f"  memory  {layer.neurons:,} units x 4 bytes = {_memory(layer.activation_bytes)} an image",
              f"  sees    {layer.receptive_field}x{layer.receptive_field} input pixels{apart}"]
    if layer.receptive_field_worked:
        lines.append(f"          field before + (kernel - 1) x jump before: {layer.receptive_field_worked}")
    if layer.kind == "convolution" and layer.output_shape == (96, 55, 55):
        lines += ["", "  The paper's §3.5 prints 253,440 units for this layer; 96 x 55 x 55 is 290,400."]
    notes = (Padding(f"{note[0].upper()}{note[1:]}.", (0, 0, 0, 2), expand=False) for note in layer.notes)
    return Group(*lines, "", *notes)


def _memory(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.2f} KB"


def _alternatives(arch: Arch, layer: Layer) -> Iterator[str]:
    """The same convolution with other paddings and roundings: most of the confusion about 224, 227 and 55."""
    side, kernel, stride = layer.input_shape[-1], layer.kernel, layer.stride
    reach = layer.dilation * (kernel - 1) + 1
    yield "  with other paddings and roundings:"
    for padding in range(max(3, layer.padding + 1)):
        room = side + 2 * padding - reach
        roundings: tuple[Rounding, ...] = ("floor", "ceil") if room % stride else (arch.conv_rounding,)
        for rounding in roundings if room >= 0 else ():
            result = output_size(side, reach, stride, padding, rounding)
            mark = "   <- here" if (padding, rounding) == (layer.padding, arch.conv_rounding) else ""
            worked = _worked_size(side, kernel, stride, padding, rounding, result, layer.dilation)
            yield f"    padding {padding}: {worked}{mark}"
    out = layer.output_shape[-1]
    exact = (out - 1) * stride + reach - 2 * layer.padding
    if exact != side and exact >= 1:
        yield f"    an input of {exact} gives {out} without a rest"


def differences_table(one: Arch, other: Arch, recipe: Recipe | None = None) -> RenderableType:
    """A table: where, what, the two values with their sources, and the long sources in full below."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    found = differences(one, other, recipe)
    if not found:
        return f"{one.name} and {other.name} are the same network, trained the same way."
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", no_wrap=True)
    table.add_column("what", no_wrap=True)
    for network in (one, other):
        table.add_column(network.name)
    letters: dict[str, str] = {}

    def cell(value: str, source: str) -> Text:
        if value == "-" or source == "counted":
            return Text(value)
        short = source if len(source) < 10 else letters.setdefault(source, f"[{chr(ord('a') + len(letters))}]")
        return Text.assemble(value, (f"  {short}", "dim"))

    where = ""
    for difference in found:
        if where and difference.where != where:
            table.add_section()
        table.add_row(difference.where if difference.where != where else "", difference.what,
                      *map(cell, difference.values, difference.sources))
        where = difference.where
    ways = [(recipe or default_recipe(one)).name, default_recipe(other).name]
    trained = f"The recipes are {ways[0]} and {ways[1]}." if ways[0] != ways[1] else f"Both have the recipe {ways[0]}."
    legend = [Text(f"  {letter} {source}", "dim") for source, letter in letters.items()]
    return Group(table, "", f"What is not listed is the same in both. {trained} Where each value stands:",
                 Text("  § a section of the paper", "dim"), *legend)


def errors_table(measured: Sequence[Ours], images: str) -> RenderableType:
    """The paper's lines and ours in one table; ours with their 95% intervals. images: ours, in words."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    from alexnet.reproduce.tables import REPORTED

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("system", "views", "images", "top-1", "top-5", "source; 95% intervals in %"):
        number = title in ("views", "top-1", "top-5")
        table.add_column(title, justify="right" if number else "left", no_wrap=number)
    table.add_row("the paper's", style="bold")
    for row in REPORTED:
        table.add_row(f"  {row.system}", str(row.views or ""), row.images, *(
            "-" if error is None else f"{error:.1f}%" for error in (row.top1_error, row.top5_error)), row.where)
    table.add_row("ours", style="bold")
    for own in measured:
        errors = own.errors.to_json()
        table.add_row(f"  {escape(own.system)}", str(own.views), escape(images),
                      f"{errors['top1_error']:.1%}", f"{errors['top5_error']:.1%}", ", ".join(
                          f"{100 * low:.1f} to {100 * high:.1f}" for low, high in errors["interval"].values()))
    return Group(table, "", *_remarks(measured))


def _remarks(measured: Sequence[Ours]) -> list[str]:
    """What must be known to read the table."""
    from alexnet.reproduce.tables import VIEWS

    remarks = ["* pre-trained on the ImageNet 2011 Fall release, with a sixth convolution (--arch paper-conv6)."]
    if measured and measured[0].errors.images != 50_000:
        remarks.append(f"Ours are errors on {measured[0].errors.images:,} images that are not the paper's "
                       "50,000 of ILSVRC-2012: they are to be compared with each other, and not with the paper's.")
    for views in VIEWS:
        single = [row.errors.top1_error for row in measured if row.networks == 1 and row.views == views]
        if len(single) > 1:
            mean = sum(single) / len(single)
            change = next(row.errors.top1_error for row in measured if row.networks > 1 and row.views == views) - mean
            remarks.append(f"{'One view' if views == 1 else 'Ten views'}: single networks {min(single):.1%} to "
                           f"{max(single):.1%}, mean {mean:.1%}; averaging their outputs, {100 * change:+.1f} points"
                           + (" (Table 2: -2.6, by five)." if views == 10 else "."))
    return remarks


def outcome_table(outcome: Outcome) -> RenderableType:
    """The claim, each side's values, and the paper's number beside ours."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    from alexnet.reproduce.claims import CLAIMS
    from alexnet.reproduce.results import ours, papers, value

    claim = CLAIMS[outcome.claim]
    what = "epochs to 25% training error" if outcome.unit == "times" else "top-1 error"
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", what, "against the first"):
        table.add_column(title, no_wrap=True)
    differences = ["", *(ours(outcome, difference) for difference in outcome.differences)]
    for side, difference in zip(outcome.measured, differences, strict=True):
        table.add_row(escape(side.name), ", ".join(value(outcome, one) for one in side.values), difference)
    notes = [f"{escape(side.name)}: {side.note}" for side in outcome.measured if side.note]
    return Group(
        f"{claim.name} ({escape(claim.where)}): {escape(claim.says)}.", "", table, "", *notes, "",
        f"the paper: {papers(outcome)}; ours: {ours(outcome, outcome.differences[0])}: {outcome.verdict}.",
        f"{escape(outcome.data)} at {outcome.side} pixels, {outcome.images[0]:,} images for training and "
        f"{outcome.images[1]:,} for measuring, {outcome.epochs} epochs, seeds "
        f"{', '.join(map(str, outcome.seeds))}; brackets: 95% intervals over seeds.")


def activations_table(seen: ActivationReport) -> RenderableType:
    """Two tables for the terminal: activations with their histograms, and weights with their updates."""
    from rich.console import Group
    from rich.table import Table

    def table(*titles: str) -> Table:
        made = Table(box=None, pad_edge=False, header_style="bold")
        for title in titles:
            made.add_column(title, justify="left" if title in ("", "values") else "right", no_wrap=True)
        return made

    units = table("", "saturated", "dead", "mean", "deviation", "rank", "values", "gradient")
    for one in seen.units:
        units.add_row(one.layer, f"{one.saturated:.0%}", f"{one.dead:.0%}", f"{one.mean:.3g}", f"{one.deviation:.3g}",
                      f"{one.rank:.0f}/{one.most}", spark(one.values), f"{one.gradient:.1e}")
    weights = table("", "weight", "update", "update/weight", "gradient")
    for layer in seen.weights:
        weights.add_row(layer.layer, f"{layer.weight:.2e}", f"{layer.update:.2e}", f"{layer.ratio:.1e}",
                        f"{layer.gradient:.1e}")
    return Group(units, "", weights)


def spark(values: Histogram, wide: int = 20) -> str:
    """A histogram in a line of text, each bar by the root of its count, or a single peak would hide the rest."""
    step = len(values.counts) // wide
    bars = [math.sqrt(sum(values.counts[place * step : (place + 1) * step])) for place in range(wide)]
    top = max(bars) or 1.0
    return "".join(" ▁▂▃▄▅▆▇█"[math.ceil(8 * bar / top)] for bar in bars)


def before_after_table(asides: Sequence[BeforeAfter], steps: int) -> RenderableType:
    """A line for each network: what its units and gradients do before the first step and after the last."""
    from rich.console import Group
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "saturated", "dead", "first/last gradient", "loss"):
        table.add_column(title, justify="left" if not title else "right", no_wrap=True)

    def change(aside: BeforeAfter, form: Callable[[ActivationReport], str]) -> str:
        return f"{form(aside.before)} → {form(aside.after) if aside.after else 'nan'}"

    for aside in asides:
        table.add_row(
            aside.name, change(aside, lambda seen: f"{max(one.saturated for one in seen.units):.0%}"),
            change(aside, lambda seen: f"{max(one.dead for one in seen.units):.0%}"),
            change(aside, lambda seen: f"{seen.weights[0].gradient / (seen.weights[-1].gradient or math.nan):.0e}"),
            change(aside, lambda seen: f"{seen.loss:.2f}"))
    return Group(
        table, "", *_said(asides), "",
        f"Before the first step → after {steps}. Saturated, dead: the layer with most. A ReLU's saturated values are "
        "its zeros. First/last gradient: conv1's weights against the last layer's, root mean squares.")


def _said(asides: Sequence[BeforeAfter]) -> Iterator[str]:
    """The findings, each with the networks it is about; a remedy that several share is printed once, below them."""
    from alexnet.interpret.health import HEALTHY

    shared: dict[str, dict[str, list[str]]] = {}
    for aside in asides:
        for finding in aside.findings or [Finding("healthy", "", HEALTHY)]:
            seen = str(replace(finding, remedy=""))
            shared.setdefault(finding.remedy, {}).setdefault(seen, []).append(aside.name)
    for remedy, whose in shared.items():
        lines = [f"{'; '.join(names)}: {seen}" for seen, names in whose.items()]
        if len(lines) == 1:
            yield f"{lines[0]}; {remedy}." if remedy else f"{lines[0]}."
        else:
            yield from (f"{line}." for line in lines)
            yield f"For each of these: {remedy}."


def print_top_patches(found: Mapping[int, Sequence[Patch]], names: Sequence[str]) -> None:
    """A line for each unit: its largest output, and the classes of its patches.

    Args:
        names: The units' names, where they are classes; else empty.
    """
    called = {number: f"{number}, {names[number]}" if names else f"{number}" for number in found}
    wide = max(4, *map(len, called.values()))
    print(f"{'unit':<{wide}}   largest output   classes of its patches (count)")
    for number, best in found.items():
        classes = Counter(patch.label for patch in best).most_common()
        text = ", ".join(f"{name} ({count})" for name, count in classes[:3]) or "zero everywhere"
        print(f"{called[number]:<{wide}}   {best[0].output if best else 0.0:14.2f}   {text}" + ", …" * (len(classes) > 3))
