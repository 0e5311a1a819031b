"""Tables and text that the commands print: layers, differences, errors, claims, activations, top patches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING

from alexnet.architecture.arithmetic import (
    Explanation,
    Layer,
    Shape,
    alternatives,
    exact_input,
    smallest_input,
)
from alexnet.architecture.explain_diff import Difference
from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.errors import Finding, did_you_mean, require
from alexnet.models.checkpoint_json import has_top5

if TYPE_CHECKING:  # these bring torch, which `alexnet explain` does without
    from rich.console import RenderableType

    from alexnet.interpret.activations import ActivationReport, Histogram
    from alexnet.interpret.top_patches import Patch
    from alexnet.reproduce.compare import BeforeAfter
    from alexnet.reproduce.paper_tables import Measured

NAME_WIDTH = 18
"""Longest name of a network in the errors table that is shown with all its folders."""

WIDE = 92
"""Columns of a terminal that hold the table of activations with histograms of 20 characters."""


# --- Architecture -----------------------------------------------------------------------------------------------------


def explanation_table(explanation: Explanation, layer: str | None = None) -> RenderableType:
    """A table of all layers, or everything about one layer. Raises UserError for an unknown layer."""
    if layer is None:
        return _layer_table(explanation)
    layers = {each.name: each for each in explanation.layers}
    require(layer in layers, f"{explanation.arch.name} has no layer {layer!r}", did_you_mean(layer, layers))
    return _layer_details(explanation.arch, layers[layer])


def _shape(arch: Arch, shape: Shape) -> str:
    """A shape as text, by tower as in Figure 2: 2 x 48x55x55 for 96x55x55. The input and mere groups are not split."""
    if arch.has_gpu_towers and len(shape) == 3 and shape[0] > 3 and shape[0] % arch.towers == 0:
        return f"{arch.towers} x {shape[0] // arch.towers}x{shape[1]}x{shape[2]}"
    return "x".join(map(str, shape))


def _layer_table(explanation: Explanation) -> RenderableType:
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table

    arch, size = explanation.arch, explanation.size
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("layer", "output", "(side + 2*pad - kernel)\n/stride + 1"):  # else 80 columns wrap its last digit
        table.add_column(title)
    for title in ("parameters", "mult-adds", "field"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_row("input", f"3x{size}x{size}", "", "", "", "1")
    for layer in explanation.layers:
        table.add_row(layer.name, _shape(arch, layer.output_shape), layer.worked or layer.constants,
                      f"{layer.parameters:,}" if layer.parameters else "",
                      _millions(layer.multiply_adds) if layer.multiply_adds else "", f"{layer.receptive_field}",
                      style="" if layer.parameters or layer.worked else "dim")
    changed = ", changed" if arch != ARCHS.get(arch.name, arch) else ""
    totals = (f"{arch.name}{changed}: {explanation.parameters:,} parameters, "
              f"{explanation.multiply_adds / 1e6:,.1f} million multiply-adds an image (convolutions and fully "
              "connected layers), "
              f"{explanation.activation_bytes / 1e6:.1f} MB of activations in fp32. Smallest input: "
              f"{smallest_input(arch)} pixels.")
    notes = [Padding(f"{layer.name}: {note}.", (0, 0, 0, 2), expand=False)
             for layer in explanation.layers if layer.kind == "convolution" for note in layer.notes]
    return Group(table, "", totals, *notes, "",
                 "field: side of the receptive field, the part of the image that one unit sees, in pixels. "
                 "One layer in full: --layer conv1.")


def _millions(count: int) -> str:
    """A count in millions, and a small one in thousands, of which the millions would be 0.0."""
    if count >= 100_000:
        return f"{count / 1e6:.1f} M"
    return f"{count / 1e3:.1f} k" if count >= 1000 else f"{count}"


def _layer_details(arch: Arch, layer: Layer) -> RenderableType:
    from rich.console import Group
    from rich.padding import Padding

    lines = [f"{layer.name} of {arch.name}: {layer.kind}", "",
             f"  in      {_shape(arch, layer.input_shape)}", f"  out     {_shape(arch, layer.output_shape)}"]
    if layer.formula:
        lines += ["", f"  size    {layer.formula}", f"          {layer.worked}"]
    if layer.kind == "convolution":
        lines += ["", *_alternatives(arch, layer)]
    lines.append("")
    if layer.parameters:
        lines.append(f"  weights {layer.parameters_worked} parameters")
    if layer.multiply_adds:
        per_unit = layer.multiply_adds // layer.neurons
        lines.append(f"  work    {layer.neurons:,} units x {per_unit:,} weights = {layer.multiply_adds:,} mult-adds")
    whole = layer.receptive_field_with_padding
    stride = f", {layer.jump} pixels from one unit to the next (jump)" if len(layer.output_shape) == 3 else ""
    lines += [f"  memory  {layer.neurons:,} units x 4 bytes = {_memory(layer.activation_bytes)} an image",
              f"  field   {whole}x{whole} input pixels{stride}"]
    if layer.receptive_field_worked:
        lines.append(f"          field before + (kernel - 1) x jump before: {layer.receptive_field_worked}")
    if layer.receptive_field < whole:
        lines.append(f"          of which at most {layer.receptive_field}x{layer.receptive_field} lie in the image")
    if layer.kind == "convolution" and layer.output_shape == (96, 55, 55):
        lines += ["", "  The paper's §3.5 prints 253,440 units for this layer; 96 x 55 x 55 is 290,400."]
    notes = (Padding(f"{note[0].upper()}{note[1:]}.", (0, 0, 0, 2), expand=False) for note in layer.notes)
    return Group(*lines, "", *notes)


def _memory(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.2f} KB"


def _alternatives(arch: Arch, layer: Layer) -> Iterator[str]:
    """Output sizes with other paddings and roundings, which explain the confusion about 224, 227 and 55."""
    yield "  with other paddings and roundings:"
    for each in alternatives(layer, arch.conv_rounding):
        yield f"    padding {each.padding}: {each.worked}{'   <- here' if each.is_own else ''}"
    exact = exact_input(layer)
    if exact != layer.input_shape[-1] and exact >= 1:
        yield f"    an input of {exact} gives {layer.output_shape[-1]} without rounding"


def differences_table(
    found: Sequence[Difference], names: tuple[str, str], recipes: tuple[Recipe, Recipe], *, compares_training: bool,
) -> RenderableType:
    """A row for each difference: layer, field, both values with their sources. Long sources are listed below it.

    Args:
        found: from `explain_diff.differences`.
        names: what the user calls the networks.
        recipes: the two that were compared.
        compares_training: whether what the networks record of their training was compared, too.
    """
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    compared = "start, seed, transform and data of training were compared too" if compares_training else (
        "only these were compared, not the start, seed, transform or data of training")
    if not found:
        return Text(f"{names[0]} and {names[1]} have the same network and recipe; {compared}.")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", no_wrap=True)
    table.add_column("field", no_wrap=True)
    for name in names:
        table.add_column(escape(name), overflow="fold")
    letters: dict[str, str] = {}

    def cell(value: str, source: str) -> Text:
        if value == "-" or source in ("counted", "recorded"):
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
    first, second = (recipe.name for recipe in recipes)
    named = f"The recipes are {first} and {second}." if first != second else f"Both have the recipe {first}."
    legend = [Text(f"  {letter} {source}", "dim") for source, letter in letters.items()]
    same = "Everything else" if compares_training else "Everything else of network and recipe"
    return Group(table, "", f"{same} is the same in both. {named} Sources of the values:",
                 Text("  § a section of the paper", "dim"), *legend)


def errors_table(measured: Sequence[Measured], images: str, classes: int) -> RenderableType:
    """The rows of the paper's Tables 1 and 2, then the measured networks with 95% intervals.

    Args:
        images: What the networks were measured on, as text.
        classes: Of the networks. With five or fewer, ours have no top-5 error.
    """
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    from alexnet.reproduce.paper_tables import REPORTED

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("system", "views", "images", "top-1", "top-5", "source; 95% intervals in %"):
        is_number = title in ("views", "top-1", "top-5")
        table.add_column(title, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    table.add_row("the paper's", style="bold")
    for row in REPORTED:
        table.add_row(f"  {row.system}", str(row.views or ""), row.images, *(
            "-" if error is None else f"{error:.1f}%" for error in (row.top1_error, row.top5_error)), row.where)
    table.add_row("ours", style="bold")
    names = iter(_without_shared_folders([network.system for network in measured]))
    for network in measured:
        errors = network.errors.to_json()
        interval = errors["interval"]
        intervals = [f"{100 * low:.1f} to {100 * high:.1f}"
                     for low, high in (interval["top1_error"], interval["top5_error"])]
        table.add_row(f"  {escape(next(names))}", str(network.views), escape(images), f"{errors['top1_error']:.1%}",
                      f"{errors['top5_error']:.1%}" if has_top5(classes) else "-",
                      ", ".join(intervals if has_top5(classes) else intervals[:1]))
    return Group(table, "", *_notes(measured))


def _without_shared_folders(names: Sequence[str]) -> Sequence[str]:
    """Names of networks for a narrow column: in long paths, "…/" replaces the folders that all of them begin with."""
    paths = {name for name in names if "/" in name}
    if len(paths) < 2 or max(map(len, paths)) <= NAME_WIDTH:
        return names
    folders = zip(*(path.split("/")[:-1] for path in paths), strict=False)
    start = "".join(f"{each[0]}/" for each in takewhile(lambda each: len({*each}) == 1, folders))
    return [f"…/{name.removeprefix(start)}" if start and name in paths else name for name in names]


def _notes(measured: Sequence[Measured]) -> list[str]:
    """Footnotes of the errors table."""
    from alexnet.reproduce.paper_tables import VIEWS

    notes = ["* pre-trained on the ImageNet 2011 Fall release, with a sixth convolution (--arch paper-conv6)."]
    if measured and measured[0].errors.images != 50_000:
        notes.append(f"Our errors are measured on {measured[0].errors.images:,} images, which are not the paper's "
                     "50,000 of ILSVRC-2012: compare them with each other, not with the paper's.")
    for views in VIEWS:
        single = [row.errors.top1_error for row in measured if row.networks == 1 and row.views == views]
        if len(single) > 1:
            mean = sum(single) / len(single)
            change = next(row.errors.top1_error for row in measured if row.networks > 1 and row.views == views) - mean
            notes.append(f"{'One view' if views == 1 else 'Ten views'}: single networks {min(single):.1%} to "
                         f"{max(single):.1%}, mean {mean:.1%}; averaging their outputs: {100 * change:+.1f} points"
                         + (" (Table 2: -2.6 with five networks)." if views == 10 else "."))
    return notes


def activations_table(report: ActivationReport, columns: int) -> RenderableType:
    """Two tables: activations of each layer with a histogram, and weights with their updates.

    Args:
        columns: of the terminal. The histogram is shorter in a narrow one, so that no number is cut off.
    """
    from rich.console import Group
    from rich.table import Table

    def new_table(*titles: str) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in titles:
            table.add_column(title, justify="left" if title in ("", "values") else "right", no_wrap=True)
        return table

    units = new_table("", "saturated", "dead", "mean", "deviation", "rank", "values", "gradient")
    bars = 20 if columns >= WIDE else 10
    for unit in report.units:
        units.add_row(unit.layer, f"{unit.saturated:.0%}", f"{unit.dead:.0%}", f"{unit.mean:.3g}",
                      f"{unit.deviation:.3g}", f"{unit.rank:.0f}/{unit.max_rank}", spark(unit.values, bars),
                      f"{unit.gradient:.1e}")
    weights = new_table("", "weight", "update", "update/weight", "gradient")
    for layer in report.weights:
        weights.add_row(layer.layer, f"{layer.weight:.2e}", f"{layer.update:.2e}", f"{layer.ratio:.1e}",
                        f"{layer.gradient:.1e}")
    return Group(units, "", weights)


def spark(values: Histogram, width: int = 20) -> str:
    """A histogram as a line of block characters. Heights are square roots of counts, so that small bars show."""
    step = len(values.counts) // width
    bars = [math.sqrt(sum(values.counts[place * step : (place + 1) * step])) for place in range(width)]
    highest = max(bars) or 1.0
    return "".join(" ▁▂▃▄▅▆▇█"[math.ceil(8 * bar / highest)] for bar in bars)


def before_after_table(networks: Sequence[BeforeAfter], steps: int) -> RenderableType:
    """A row for each network: its units and gradients before the first training step and after the last."""
    from rich.console import Group
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "saturated", "dead", "first/last", "loss", "error"):
        table.add_column(title, justify="left" if not title else "right", no_wrap=True)

    def change(network: BeforeAfter, text: Callable[[ActivationReport], str]) -> str:
        return f"{text(network.before)}→{text(network.after) if network.after else 'nan'}"

    for network in networks:
        table.add_row(
            network.name, change(network, lambda report: f"{max(unit.saturated for unit in report.units):.0%}"),
            change(network, lambda report: f"{max(unit.dead for unit in report.units):.0%}"),
            change(network, lambda report: f"{_gradient_ratio(report):.1g}"),
            change(network, lambda report: f"{report.loss:.2f}"),
            change(network, lambda report: f"{report.top1_error:.0%}"))
    return Group(
        table, "", *_findings(networks), "",
        f"Before the first step → after {steps}. Saturated, dead: the layer with the largest fraction. A ReLU is "
        "saturated where it is zero. First/last: the gradient of conv1's weights / that of the last layer's, root mean "
        "squares. Error: top-1, of the measured training images.")


def _gradient_ratio(report: ActivationReport) -> float:
    return report.weights[0].gradient / (report.weights[-1].gradient or math.nan)


def _findings(networks: Sequence[BeforeAfter]) -> Iterator[str]:
    """The findings with the networks that have them. A remedy that several findings share is printed once."""
    from alexnet.interpret.health import HEALTHY

    by_remedy: dict[str, dict[str, list[str]]] = {}
    for network in networks:
        for finding in network.findings or [Finding("healthy", "", HEALTHY)]:
            problem = str(replace(finding, remedy=""))
            by_remedy.setdefault(finding.remedy, {}).setdefault(problem, []).append(network.name)
    for remedy, problems in by_remedy.items():
        lines = [f"{'; '.join(names)}: {problem}" for problem, names in problems.items()]
        if len(lines) == 1:
            yield f"{lines[0]}; {remedy}." if remedy else f"{lines[0]}."
        else:
            yield from (f"{line}." for line in lines)
            yield f"For each of these: {remedy}."


def print_top_patches(found: Mapping[int, Sequence[Patch]], kind: str, names: Sequence[str]) -> None:
    """A line for each map or unit: its largest output, and the classes of its patches.

    Args:
        kind: "map" for a layer of feature maps, "unit" for a fully connected one.
        names: The units' names, where they are classes; else empty.
    """
    titles = {number: f"{number}, {names[number]}" if names else f"{number}" for number in found}
    width = max(4, *map(len, titles.values()))
    print(f"{kind:<{width}}   largest output   classes of its patches (count)")
    for number, best in found.items():
        classes = Counter(patch.label for patch in best).most_common()
        text = ", ".join(f"{name} ({count})" for name, count in classes[:3]) or "zero everywhere"
        more = ", …" * (len(classes) > 3)
        print(f"{titles[number]:<{width}}   {best[0].output if best else 0.0:14.2f}   {text}{more}")
