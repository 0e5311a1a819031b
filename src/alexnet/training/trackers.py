"""Experiment trackers (`train --log`): TensorBoard, Weights & Biases, MLflow and CSV files, beside log.jsonl.

Each is a few lines behind `Tracker`, and its package is imported when it is named. A package has its own configuration,
such as WANDB_MODE and MLFLOW_TRACKING_URI in the environment, which stays in force.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.csv_cells import csv_row
from alexnet._runtime.extras import install_line, is_installed
from alexnet.errors import UserError, did_you_mean, require
from alexnet.training.events import Event

IDS = "trackers.json"
"""In the run folder: what a tracker calls the run, so that a resumed run continues there."""


@dataclass(frozen=True)
class Point:
    """The numbers of one event."""

    kind: str
    """The event: step, epoch or signals."""
    step: int
    epoch: int | None
    """From 1; None for signals."""
    values: Mapping[str, float]

    @property
    def tagged(self) -> dict[str, float]:
        """The values by names that tell those of a step from those of an epoch: "epoch/val_loss"."""
        return {name if self.kind == "signals" else f"{self.kind}/{name}": value for name, value in self.values.items()}


def point(event: Event) -> Point | None:
    """The numbers of an event that is tracked; None for another one."""
    if event["event"] == "signals":
        return Point("signals", event["step"], None, {
            f"{name}/{layer}": value for name in ("saturated", "dead", "ratio")
            for layer, value in event[name].items()})
    if event["event"] not in ("step", "epoch"):
        return None
    values = {name: value for name, value in event.items() if isinstance(value, int | float)}
    return Point(event["event"], int(values.pop("step")), int(values.pop("epoch")), values)


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker receives about a run when it is opened."""

    out: Path
    step: int
    """Steps taken before; more than 0 for a resumed run."""
    settings: Mapping[str, Any]
    """Network, recipe, seed and data, as plain values."""
    former: Sequence[Point]
    """What a resumed run has logged up to `step`."""
    id: str | None
    """What the tracker called this run when it was begun; None for a new run."""


class Tracker(Protocol):
    """Receives the numbers of a run that log.jsonl also has. Its class is called with a `TrackedRun`.

    Attributes:
        is_local: whether `log` waits for the disk of the run's folder, and may be called in another thread.
    """

    is_local: bool

    @property
    def id(self) -> str | None:
        """What the tracker calls the run; None if the folder says it."""

    def log(self, point: Point) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in OUT/tensorboard: `tensorboard --logdir OUT`."""

    id = None
    is_local = True

    def __init__(self, run: TrackedRun) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(run.out / "tensorboard"), purge_step=run.step + 1)

    def log(self, point: Point) -> None:
        for tag, value in point.tagged.items():
            self._writer.add_scalar(tag, value, point.step)

    def close(self) -> None:
        self._writer.close()


class WandB:
    """A run of Weights & Biases, in the project of WANDB_PROJECT or "alexnet". Its local files are in OUT/wandb."""

    is_local = False

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "alexnet", name=run.out.name, dir=str(run.out), id=run.id,
            resume="allow", config=dict(run.settings), allow_val_change=True)
        # The result of a step is read after the signals of the next one, and a resumed run repeats steps: wandb's own
        # counter would refuse both.
        self._run.define_metric("*", step_metric="step")
        self.id: str | None = self._run.id

    def log(self, point: Point) -> None:
        self._run.log({**point.tagged, "step": point.step})

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of MLflow, in the experiment that the environment names, or "alexnet"."""

    is_local = False

    def __init__(self, run: TrackedRun) -> None:
        import mlflow

        self._mlflow = mlflow
        if not any(os.environ.get(name) for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID")):
            mlflow.set_experiment("alexnet")
        self.id: str | None = mlflow.start_run(run_id=run.id, run_name=run.out.name).info.run_id
        if not run.id:  # MLflow refuses another value, and a run may be resumed for more epochs
            mlflow.log_params(_flat(run.settings))

    def log(self, point: Point) -> None:
        # Not synchronous: MLflow tries for minutes to reach a server that has gone, and other processes would wait.
        self._mlflow.log_metrics(point.tagged, step=point.step, synchronous=False)

    def close(self) -> None:
        self._mlflow.end_run()


class CsvFiles:
    """OUT/csv/step.csv, epoch.csv and signals.csv: a row for each event, a column for each number."""

    id = None
    is_local = True

    def __init__(self, run: TrackedRun) -> None:
        self._folder = run.out / "csv"
        self._folder.mkdir(exist_ok=True)
        self._files: dict[str, tuple[TextIO, csv.DictWriter[str]]] = {}
        for former in run.former:  # written again, without what a resumed run repeats
            self.log(former)

    def log(self, point: Point) -> None:
        row = {"step": point.step, **({"epoch": point.epoch} if point.epoch else {}), **point.values}
        if point.kind not in self._files or not row.keys() <= {*self._files[point.kind][1].fieldnames}:
            self._begin(point.kind, list(row))
        file, writer = self._files[point.kind]
        writer.writerow(row)
        file.flush()

    def _begin(self, kind: str, columns: list[str]) -> None:
        """Open a file, or give it more columns: a run that several processes resume has their times from then on."""
        path, rows = self._folder / f"{kind}.csv", list[dict[str, str]]()
        if kind in self._files:
            former, writer = self._files[kind]
            former.close()
            before = list(writer.fieldnames)
            columns = list(dict.fromkeys([*before, *columns]))
            with path.open(newline="", encoding="utf-8") as written:
                rows = list(csv.DictReader(written, before))[1:]
        file = path.open("w", newline="", encoding="utf-8")
        file.write(csv_row(columns))
        self._files[kind] = file, csv.DictWriter(file, columns)
        self._files[kind][1].writerows(rows)

    def close(self) -> None:
        for file, _ in self._files.values():
            file.close()


TRACKERS: dict[str, type[TensorBoard | WandB | MLflow | CsvFiles]] = {
    "tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow, "csv": CsvFiles}
"""Name on the command line -> the tracker."""

PACKAGES = {"tensorboard": ("tensorboardX", install_line("tensorboard")), "wandb": ("wandb", "pip install wandb"),
            "mlflow": ("mlflow", "pip install mlflow")}
"""Name on the command line -> the module it needs, and how to install that."""


def tracker_names(log: str | Sequence[str] | None) -> tuple[str, ...]:
    """The trackers that `--log` names: one, several, or several in one word, separated by commas.

    Raises:
        UserError: a name is unknown, or its package is not installed. Nothing has been imported.
    """
    words = [log] if isinstance(log, str) else log or ()
    names = tuple(dict.fromkeys(name.strip() for word in words for name in word.split(",")))
    for name in names:
        require(name in TRACKERS, f"--log {name or repr(name)} is unknown", did_you_mean(name, TRACKERS))
        if name in PACKAGES:
            module, remedy = PACKAGES[name]
            require(is_installed(module), f"--log {name} needs the package {module}", remedy)
    return names


def open_trackers(
    names: Sequence[str], out: Path, step: int, settings: Mapping[str, Any], before: Sequence[Event],
) -> dict[str, Tracker]:
    """Open the trackers of a run, by name.

    Args:
        names: of `TRACKERS`.
        out: the run's folder.
        step: steps taken before.
        settings: network, recipe, seed and data, as plain values.
        before: events that a resumed run has logged up to `step`.

    Raises:
        UserError: a tracker cannot begin: it is not logged in, its server does not answer, its disk is full.
    """
    known = _known_ids(out / IDS)
    former = [made for event in before if (made := point(event))]
    opened: dict[str, Tracker] = {}
    for name in names:
        try:
            opened[name] = TRACKERS[name](TrackedRun(out, step, settings, former, known.get(name)))
        except Exception as error:  # each package has its own kinds
            for other in opened.values():
                other.close()
            raise UserError(f"--log {name}: {first_line(error)}",
                            f"solve that, or leave out --log {name}: log.jsonl in "
                            "the run folder has the same numbers") from error
    known |= {name: tracker.id for name, tracker in opened.items() if tracker.id}
    if known:
        replace_file(out / IDS, lambda path: path.write_text(json.dumps(known), encoding="utf-8"))
    return opened


def _known_ids(path: Path) -> dict[str, str]:
    """What the trackers called the run when it was begun."""
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        require(isinstance(known, dict), "not an object")
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)})", "delete it; the trackers then begin a new run"
                        ) from error
    return dict(known)


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under the names that `--set` takes: "recipe.learning_rate"."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
