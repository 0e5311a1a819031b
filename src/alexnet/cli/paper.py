"""The `demo`, `report`, `reproduce` and `figure` commands: reports of runs, the paper's claims, tables and figures."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import limit_openmp_spinning
from alexnet._runtime.notes import say
from alexnet.api import load_ensemble, open_data, open_evaluation_set
from alexnet.architecture.overrides import configure
from alexnet.architecture.presets import ARCHS, arch
from alexnet.cli.app import (
    IMAGE_FILE,
    PAPER,
    TRAIN_AND_EVALUATE,
    Classes,
    Device,
    Json,
    OptionalInt,
    PrecisionName,
    Settings,
    Split,
    app,
    at_least_1,
    check_output,
    class_names,
    reject_options,
)
from alexnet.cli.default_checkpoint import default_checkpoint, split_checkpoint
from alexnet.errors import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from alexnet.reproduce.outcome import Outcome

ClaimName = Literal["figure1", "lrn", "overlap", "dropout", "augmentation", "lighting", "two-gpu", "towers", "depth",
                    "ten-views", "ensemble", "batch-norm", "saturation", "table"]


@app.command(group=TRAIN_AND_EVALUATE, sort_key=0)
def demo(*, out: Path = Path("runs/demo"), seed: int = 0, epochs: int | None = None) -> None:
    """Train, evaluate and report on images that come with the installation: offline, in a few minutes.

    An interrupted demo is resumed by the same command. A finished one is kept.

    Args:
        out: Folder for the data, the run and its report.
        seed: Seed of the initial weights, the order of the images and the augmentation.
        epochs: Epochs to train. Default: 15.
    """
    from alexnet.reproduce.demo import demo as run_demo

    print(f"report: {run_demo(out, seed=seed, epochs=epochs)}")


@app.command(group=TRAIN_AND_EVALUATE, sort_key=4)
def report(run: Path, /, *, data: str | None = None) -> None:
    """Write RUN/report.html: an offline page with errors, loss curves, conv1's filters and misclassified images.

    Args:
        run: A run folder that `alexnet train` wrote.
        data: The data that the network was trained on, if it has moved since. With other data, the report shows its
            images and the errors on them, and names the data of each number.
    """
    from alexnet.models import checkpoint
    from alexnet.reproduce.report.page import write_report
    from alexnet.reproduce.report.run_data import as_trained_on, is_own_data, packed_data
    from alexnet.training.run_folder import read_config, read_log

    read_log(run)  # raises UserError if this is not a run folder
    packed = as_trained_on(run, open_data(data, checkpoint.load(run).arch.input.side)) if data else packed_data(run)
    if packed is None:
        say("note: the data is no longer where it was, so the report shows no images; name it with --data")
    else:
        if not is_own_data(packed, read_config(run)):
            say(f"note: {data} is not the data that {run} was trained on, or has changed since; the report names the "
                "data of each number")
        say("classifying validation images, and drawing figures")
    print(f"report: {write_report(run, packed)}")


# --- Claims and tables ------------------------------------------------------------------------------------------------


@Parameter(name="*", group=Group("Claims", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class ClaimOptions:
    """How the networks of a claim are trained."""

    data: str | None = None
    """Images to train on: class folders, a packed folder, or a name such as cifar10."""
    side: OptionalInt = None
    """Side of the packed images in pixels, 32 or 64. Default: 32 for cifar10, else 64."""
    epochs: OptionalInt = None
    """Epochs of each run. Default: 12; for figure1, at most 40."""
    seeds: OptionalInt = None
    """Runs of each network, with seeds 0, 1, 2 and so on. Default: 3."""
    quick: bool = False
    """One seed and two epochs by default: to try the command. The result means nothing."""
    out: Path | None = None
    """Folder for the runs. Default: runs/reproduce."""
    results: Path | None = None
    """JSON lines file to which the result is appended. Default: OUT/results.jsonl."""
    page: Path | None = None
    """Markdown file whose marked section is rewritten with tables of all results."""
    precision: PrecisionName = "auto"


@Parameter(name="*", group=Group("table", sort_key=2))
@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How the networks of `reproduce table` are evaluated."""

    split: Split = None
    include_trained: bool = False
    """Measure the images that a network was trained on as well. By default they are left out."""
    batch_size: OptionalInt = None
    """Images that go through a network at a time. Default: 128."""
    classes: Classes = None


@app.command(group=PAPER, sort_key=2)
def reproduce(
    claim: ClaimName, /, *paths: Annotated[str, Parameter(name="CHECKPOINT... DATA")],
    claims: ClaimOptions = ClaimOptions(), table: TableOptions = TableOptions(),
    device: Device = "auto", json_: Json = False,
) -> None:
    """Test a claim of the paper: train the networks that it compares, and print the paper's number beside ours.

    The networks are small versions of the paper's, trained on your images: a few minutes a run on a CPU. Finished runs
    are reused; interrupted runs are resumed.

    Args:
        claim: The claim to test; or table: Tables 1 and 2 with the errors of your networks added.
        paths: For table: one or more checkpoints or run folders, then the data.
    """
    at_least_1(epochs=claims.epochs, seeds=claims.seeds, batch_size=table.batch_size)
    if claim == "table":
        reject_options("reproduce table", **_given(claims))
        _reproduce_table(paths, table, device, json_)
    else:
        reject_options(f"reproduce {claim}", **_given(table))
        require(bool(claims.data) and not paths, f"reproduce {claim} trains its own networks",
                f"alexnet reproduce {claim} --data DATA")
        _reproduce_claim(claim, claims, device, json_)


def _given(options: ClaimOptions | TableOptions) -> Mapping[str, object]:
    """The options that differ from their default."""
    return {name: value for name, value in vars(options).items() if value != getattr(type(options), name)}


def _reproduce_claim(name: str, options: ClaimOptions, device: str, json_: bool) -> None:
    set_allocator()
    limit_openmp_spinning()

    from rich.console import Console

    from alexnet._runtime.devices import choose_device, choose_precision, describe_machine
    from alexnet.cli.render import outcome_table
    from alexnet.data.overlap import find_overlap
    from alexnet.reproduce import measures
    from alexnet.reproduce import results as results_module
    from alexnet.reproduce.claims import CLAIMS
    from alexnet.reproduce.runs import Runs
    from alexnet.training.progress_bar import ClaimBar

    claim, data = CLAIMS[name], options.data or ""
    side = claim_side(data, options.side)
    out = options.out or Path("runs/reproduce")
    results = options.results or out / "results.jsonl"
    check_output(results)
    if options.page:
        results_module.split_page(options.page)  # refuses a page without marks before anything is trained
    seeds = options.seeds or (1 if options.quick else 3)
    epochs = options.epochs or (2 if options.quick else 40 if claim.measure == "epochs" else 12)
    packed = open_data(data, side)
    overlap = find_overlap(packed.split("val"), packed.split("train"))
    if known := overlap.describe():
        say(f"note: {known}, {overlap.verdict}")
    device = choose_device(device)
    with ClaimBar() as bar:
        runs = Runs(packed, out, choose_precision(options.precision, device), device, bar.show)
        outcome = measures.reproduce(claim, runs, seeds=range(seeds), epochs=epochs)
    provenance: results_module.Provenance = {
        "command": shlex.join(["alexnet", *sys.argv[1:]]), "machine": describe_machine(device),
        "precision_used": runs.precision, "seconds": round(runs.seconds, 1),
        "undecodable": sum(map(len, packed.quarantined.values())), **overlap.to_json()}
    results_module.append(results, outcome, provenance)
    if options.page:
        results_module.write_page(options.page, results_module.read(results))
    if claim.measure == "epochs":
        say(f"figures: {', '.join(map(str, _draw_curves(outcome, out, name)))}")
    if json_:
        print(json.dumps({**outcome.to_json(), **provenance}, indent=2))
    else:
        Console(highlight=False).print(outcome_table(outcome))
    say(f"written: a line of {results}" + (f", and the tables of {options.page}" if options.page else ""))
    if options.quick:
        say("note: --quick only shows that the command works; leave it out for a result")


def _draw_curves(outcome: Outcome, out: Path, name: str) -> list[Path]:
    """Figure 1 of the claim's first runs."""
    from alexnet.reproduce.figures.figure1 import figure1
    from alexnet.reproduce.figures.style import save_figure

    folders, names = zip(*((out / variant.runs[0], variant.name) for variant in outcome.variants), strict=True)
    return save_figure(figure1(folders, names), out / name)


def _reproduce_table(paths: Sequence[str], options: TableOptions, device: str, json_: bool) -> None:
    """Print the errors of each network with one view and ten, and of all networks averaged, below the paper's."""
    import torch
    from rich.console import Console

    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.cli.render import errors_table
    from alexnet.reproduce import tables

    require(len(paths) >= 2, "reproduce table takes checkpoints and then the data",
            "alexnet reproduce table runs/a runs/b DATA")
    *checkpoints, data = paths
    device = choose_device(device)
    models = load_ensemble(checkpoints, device, classes=class_names(options.classes))
    test = open_evaluation_set(models, data, options.split, options.include_trained)
    members = [(path, (model.network, model.preprocess)) for path, model in zip(checkpoints, models, strict=True)]
    with Bar(f"evaluating {len(members)} network{'s' * (len(members) > 1)}", "images") as bar:
        measured = tables.measure_table(members, test.images, label_map=test.label_map,
                                        batch_size=options.batch_size or 128, device=torch.device(device),
                                        on_progress=bar)
    if json_:
        print(json.dumps(tables.to_json(measured) | {"measured": test.selection.to_json()}, indent=2))
    else:
        images = f"{len(test.images):,} of {Path(test.packed.source).name}, {len(test.packed.classes)} classes"
        Console(highlight=False).print(errors_table(measured, images, len(models[0].classes)))
        print(test.selection.describe())


def claim_side(data: str, side: int | None) -> int:
    """Side of the images on which a claim's networks are trained."""
    if side is None:
        side = 32 if "cifar" in Path(data).name else 64
    require(side in (32, 64), f"--side {side} must be 32 or 64", "the claims' networks are made for these sizes")
    return side


# --- Figures ----------------------------------------------------------------------------------------------------------

_TAKES = {"1": ((1, 8), "one to eight run folders"), "2": ((1, 1), "a network's name, a run or a checkpoint"),
          "3": ((0, 1), "a checkpoint"), "4": ((1, 2), "a checkpoint and the data it was trained on")}
"""For each figure: the fewest and most sources, and what they are."""


@app.command(group=PAPER, sort_key=3)
def figure(
    number: Literal["1", "2", "3", "4"], /, *sources: Annotated[str, Parameter(name="SOURCE")],
    out: Path | None = None, name: Annotated[list[str] | None, Parameter(negative=())] = None, size: int | None = None,
    settings: Settings = None,
) -> None:
    """Draw one of the paper's four figures from your own runs and images, as PNG and SVG.

    - `alexnet figure 1 RUN RUN`: training error over epochs
    - `alexnet figure 2 ARCH`: the network's layers with their sizes, of a preset, run or checkpoint
    - `alexnet figure 3 [CHECKPOINT]`: the filters of conv1, tower 1 above tower 2
    - `alexnet figure 4 [CHECKPOINT] DATA`: images with their five most likely classes, and their nearest neighbors

    Args:
        sources: As listed above. Default of CHECKPOINT: the pretrained network of the package.
        out: File to write; without an ending, both .png and .svg. Default: figures/figure1 and so on.
        name: For figure 1: the name of a run in the legend. Repeat it for each run.
        size: For figure 2: side of the square input in pixels.
    """
    (fewest, most), takes = _TAKES[number]
    require(fewest <= len(sources) <= most, f"figure {number} takes {takes}, and got {len(sources)} argument"
            f"{'s' * (len(sources) != 1)}", "see alexnet figure --help")
    reject_options(f"figure {number}", name=name if number != "1" else None, size=size if number != "2" else None,
                   set=settings if number != "2" else None)
    out = Path("figures") / f"figure{number}" if out is None else out
    check_output(out, IMAGE_FILE)

    from alexnet.models.formats.open_weights import open_weights
    from alexnet.reproduce.figures.figure3 import figure3
    from alexnet.reproduce.figures.style import save_figure

    if number == "1":
        made = _figure1(sources, name or ())
    elif number == "2":
        made = _figure2(sources[0], settings, size)
    elif number == "3":
        made = figure3(open_weights(sources[0] if sources else default_checkpoint()))
    else:
        checkpoint, (data,) = split_checkpoint("figure 4", sources, "DATA")
        made = _figure4(checkpoint, data)
    for path in save_figure(made, out):
        print(path)


def _figure1(runs: Sequence[str], names: Sequence[str]) -> Figure:
    from alexnet.reproduce.figures.figure1 import figure1

    require(not names or len(names) == len(runs), f"--name was given {len(names)} times for {len(runs)} runs",
            "give one for each, or none")
    require(len(set(names)) == len(names), f"--name {', '.join(names)} gives two runs the same name",
            "give each its own")
    return figure1([Path(run) for run in runs], names)


def _figure2(source: str, settings: list[str] | None, size: int | None) -> Figure:
    from alexnet.models.formats.open_weights import open_weights
    from alexnet.models.packaged import packaged_path
    from alexnet.reproduce.figures.figure2 import network_diagram

    is_preset = source in ARCHS or not (Path(source).exists() or packaged_path(source))
    network = arch(source) if is_preset else open_weights(source).arch
    return network_diagram(configure(network, None, settings)[0], size)


def _figure4(checkpoint: str, data: str) -> Figure:
    from alexnet._runtime.progress import Bar
    from alexnet.models.formats.open_weights import open_weights
    from alexnet.reproduce.figures.figure4 import figure4

    saved = open_weights(checkpoint)
    packed = open_data(data, saved.arch.input.side)
    with Bar("features of the training images", "images") as bar:
        return figure4(saved, packed, bar)
