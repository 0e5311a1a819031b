"""The `reproduce` command: tests of the paper's claims, and Tables 1 and 2 with the errors of your networks."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import set_openmp_defaults
from alexnet._runtime.local_files import require_writable
from alexnet._runtime.notes import say
from alexnet.api.evaluation import load_ensemble, open_evaluation_set
from alexnet.api.opening import open_data
from alexnet.cli.app import (
    PAPER,
    Classes,
    Device,
    Json,
    OptionalInt,
    PrecisionName,
    Split,
    app,
    at_least_1,
    check_output,
    class_names,
    reject_options,
)
from alexnet.errors import plural, require
from alexnet.reproduce.claims import CLAIMS

if TYPE_CHECKING:
    from alexnet.reproduce.outcome import OutcomeJson

ClaimName = Literal["figure1", "lrn", "overlap", "dropout", "augmentation", "lighting", "two-gpu", "depth", "ten-views",
                    "ensemble", "batch-norm", "saturation", "weight-decay", "biases", "table"]


@Parameter(name="*", group=Group("Claims", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class ClaimOptions:
    """How the networks of a claim are trained."""

    data: str | None = None
    """Images to train on: class folders, a packed folder, or a name such as cifar10. Every claim but table needs it."""
    side: OptionalInt = None
    """Side of the packed images in pixels, 32 or 64. Default: 32 for cifar10, else 64."""
    epochs: OptionalInt = None
    """Epochs of each run. Default: the claim's."""
    seeds: OptionalInt = None
    """Seeds of the compared runs, which tuning does not use: 0, 1, 2 and so on. Default: the claim's, mostly 8."""
    images_per_class: OptionalInt = None
    """Training images of each class. Default: the claim's."""
    plan: bool = False
    """Print what would be compared and trained, and about how long it takes here; train nothing but a few steps of
    each network, to measure that."""
    quick: bool = False
    """Two seeds, learning rates and epochs, and few images by default, to try the command. All verdicts: undecided."""
    out: Path | None = None
    """Folder for the runs, which several commands may share. Default: runs/reproduce."""
    results: Path | None = None
    """JSON lines file to which the result is appended. Default: OUT/results.jsonl."""
    archive: Path | None = None
    """JSON lines file of finished runs, without weights: those in it are not trained again, in whatever precision and
    on whatever machine they were, and new ones are appended. So a claim may take several days and machines."""
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


def _claims_help() -> str:
    """The help of the argument CLAIM in Markdown: for each claim the section, and what is compared first."""
    lines = [f"- {claim.name} ({claim.section}): {claim.comparisons[0].title}" for claim in CLAIMS.values()]
    return "\n".join(("One of:\n", *lines, "- table: Tables 1 and 2 with the errors of your networks added"))


@app.command(group=PAPER, sort_key=2)
def reproduce(
    claim: Annotated[ClaimName, Parameter(help=_claims_help(), show_choices=False)], /,
    *paths: Annotated[str, Parameter(name="CHECKPOINT... DATA")],
    claims: ClaimOptions = ClaimOptions(), table: TableOptions = TableOptions(),
    device: Device = "auto", json_: Json = False,
) -> None:
    """Test a claim of the paper: train the networks that it compares, and print the paper's number beside ours.

    The networks are small versions of the paper's, trained on your images. Each one's learning rate is searched on
    images held out of the training images; then fresh seeds are trained and compared on the validation split. A run
    takes minutes on a CPU, a claim hours. Finished runs are reused; interrupted runs are resumed.

    Args:
        paths: For table: one or more checkpoints or run folders, then the data. A run's folder means its best epoch;
            RUN/last is its last one, whose errors `train --seeds` prints.
    """
    at_least_1(epochs=claims.epochs, seeds=claims.seeds, images_per_class=claims.images_per_class,
               batch_size=table.batch_size)
    if claim == "table":
        reject_options("reproduce table", **_given(claims))
        _reproduce_table(paths, table, device, json_)
    else:
        reject_options(f"reproduce {claim}", **_given(table))
        require(not paths, f"reproduce {claim} trains its own networks, and takes their images by --data",
                _claim_line(claim, claims, "DATA"))
        require(bool(claims.data), f"reproduce {claim} has no images to train its networks on",
                f"{_claim_line(claim, claims, 'DATA')}; `embedded` is the name of images in this package")
        _reproduce_claim(claim, claims, device, json_)


def _claim_line(claim: str, options: ClaimOptions, data: str) -> str:
    """The command with the options that were given, and the data."""
    words = ["write: alexnet reproduce", claim, "--data", shlex.quote(options.data or data)]
    for name, value in _given(options).items():
        if name != "data":
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [shlex.quote(str(value))])]
    return " ".join(words)


def _given(options: ClaimOptions | TableOptions) -> Mapping[str, object]:
    """The options that differ from their default."""
    return {name: value for name, value in vars(options).items() if value != getattr(type(options), name)}


def _reproduce_claim(name: str, options: ClaimOptions, device: str, json_: bool) -> None:
    set_allocator()
    set_openmp_defaults()

    from alexnet._runtime.devices import choose_device, choose_precision
    from alexnet.cli.render_claims import plan_text
    from alexnet.data.overlap import find_overlap
    from alexnet.reproduce import measures
    from alexnet.reproduce import results as results_module
    from alexnet.reproduce.design import Design, check_images
    from alexnet.reproduce.run_archive import RunArchive
    from alexnet.reproduce.run_duration import measure_durations
    from alexnet.reproduce.runs import RunStore
    from alexnet.training.progress_bar import ClaimBar
    from alexnet.training.state import Interrupted

    out = options.out or Path("runs/reproduce")
    results = options.results or out / "results.jsonl"
    require_writable(out, is_folder=True)
    check_output(results, overwrite=True)  # a line is appended
    if options.archive:
        check_output(options.archive, overwrite=True)  # lines are appended
    archive = RunArchive.open(options.archive) if options.archive else None
    data = options.data or ""
    device = choose_device(device)
    precision = choose_precision(options.precision, device)
    packed = open_data(data, claim_side(data, options.side), splits=("train", "val"), check=partial(
        check_images, CLAIMS[name], images_per_class=options.images_per_class, quick=options.quick))
    design = Design.of(CLAIMS[name], packed, epochs=options.epochs, seeds=options.seeds,
                       images_per_class=options.images_per_class, quick=options.quick)
    if options.plan:
        times = measure_durations(design, packed, device, precision)
        print(json.dumps(results_module.plan_json(design, packed, times), indent=2) if json_ else
              plan_text(design, packed, times))
        return
    say(plan_text(design, packed))
    notes = []
    if known := (overlap := find_overlap(packed.split("val"), packed.split("train"))).describe():
        notes.append(f"{known}, {overlap.verdict}")
    if refusal := measures.data_refusal(overlap):
        say(f"warning: no verdict will be given: {refusal}")
    if lost := sum(map(len, packed.quarantined.values())):
        notes.append(f"{plural(lost, 'image')} of the data cannot be decoded, and {'is' if lost == 1 else 'are'} not "
                     "counted")
    with ClaimBar() as bar:
        runs = RunStore(packed, out, precision, device, on_event=bar.show, on_line=bar.print_line, archive=archive)
        try:
            measured = measures.reproduce(design, runs, refusal)
        except Interrupted as stop:
            raise Interrupted(stop.number, stop.folder, "the same command resumes the claim") from None
    outcome = results_module.to_outcome(design, packed, measured, {
        "command": shlex.join(["alexnet", *sys.argv[1:]]), "machine": "; ".join(sorted(runs.machines)),
        "precision": " and ".join(sorted(runs.precisions)), "date": datetime.now(UTC).date().isoformat()}, notes)
    if options.archive:
        say(f"{runs.restored} finished runs were read from {options.archive}")
    results_module.append(results, outcome)
    _print_outcome(outcome, results, json_)


def _print_outcome(outcome: OutcomeJson, results: Path, json_: bool) -> None:
    """Print the verdicts of a claim, and where they were written."""
    from rich.console import Console

    from alexnet.cli.render_claims import outcome_table

    if json_:
        print(json.dumps(outcome, indent=2))
    else:
        Console(highlight=False).print(outcome_table(outcome))
    say(f"written: a line of {results}; `alexnet results {shlex.quote(str(results))}` shows all results in it")
    if outcome["quick"]:
        say("note: --quick only shows that the command works and decides nothing; leave it out for a result")


def _reproduce_table(paths: Sequence[str], options: TableOptions, device: str, json_: bool) -> None:
    """Print the errors of each network with one view and ten, and of all networks averaged, below the paper's."""
    import torch
    from rich.console import Console

    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.cli.render import errors_table
    from alexnet.cli.render_series import epochs_text
    from alexnet.reproduce import paper_tables

    require(len(paths) >= 2, "reproduce table needs checkpoints and then the data",
            "write: alexnet reproduce table runs/a runs/b DATA")
    *checkpoints, data = paths
    device = choose_device(device)
    models = load_ensemble(checkpoints, device, classes=class_names(options.classes))
    test = open_evaluation_set(models, data, options.split, options.include_trained)
    members = [(path, (model.network, model.preprocess)) for path, model in zip(checkpoints, models, strict=True)]
    with Bar(f"evaluating {len(members)} network{'s' * (len(members) > 1)}", "images") as bar:
        measured = paper_tables.measure_table(members, test.images, label_map=test.label_map,
                                        batch_size=options.batch_size or 128, device=torch.device(device),
                                        on_progress=bar)
    if json_:
        print(json.dumps(paper_tables.to_json(measured) | {"measured": test.selection.to_json()}, indent=2))
    else:
        images = f"{len(test.images):,} of {Path(test.packed.source).name}, {len(test.packed.classes)} classes"
        Console(highlight=False).print(errors_table(measured, images, len(models[0].classes)))
        print(epochs_text(checkpoints, [model.path for model in models]))
        print(test.selection.describe())


def claim_side(data: str, side: int | None) -> int:
    """Side of the images on which a claim's networks are trained."""
    if side is None:
        side = 32 if "cifar" in Path(data).name else 64
    require(side in (32, 64), f"--side {side} must be 32 or 64, the sizes of the claims' networks", "give one of them")
    return side
