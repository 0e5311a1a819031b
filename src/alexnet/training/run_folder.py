"""A run's folder: log.jsonl and config.json, written and read back."""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from alexnet._runtime import native
from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.devices import device_name
from alexnet._runtime.local_files import require_no_url
from alexnet._runtime.locks import file_lock
from alexnet._runtime.notes import say
from alexnet._runtime.software import software_versions
from alexnet.architecture.overrides import to_json
from alexnet.architecture.recipe import Recipe
from alexnet.data.content import distinct_hashes
from alexnet.data.folds import FoldedDataset
from alexnet.data.overlap import Overlap
from alexnet.data.packed import PackedSplit, is_packed
from alexnet.data.subset import SubsetDataset
from alexnet.data.url_images import is_url
from alexnet.errors import UserError, require
from alexnet.models import checkpoint
from alexnet.models.checkpoint_files import JSON_FILE, did_you_mean_weights, require_single_run
from alexnet.models.seen import SeenImages
from alexnet.training import trackers
from alexnet.training.events import Config, Event, WarningEvent
from alexnet.training.slow_disk import PatientWriter
from alexnet.training.spec import RunSpec
from alexnet.training.state import State
from alexnet.training.transform import transform_name

RUN_FILES = ("log.jsonl", "config.json", "report.html", "best", "last", "figures", "tensorboard", "csv", "wandb",
             trackers.IDS)
"""What training writes into a run's folder."""


def is_run(folder: Path) -> bool:
    """Whether training has written a folder: by its log, or, before the first event, its config.json or checkpoint."""
    try:
        with (folder / "log.jsonl").open(encoding="utf-8") as file:
            if first := file.readline():
                return {"event": "start"}.items() <= json.loads(first).items()
        return {"arch", "recipe", "data"} <= json.loads((folder / "config.json").read_text(encoding="utf-8")).keys()
    except FileNotFoundError:
        return (folder / "last" / JSON_FILE).is_file()
    except (OSError, ValueError, AttributeError):
        return False


def seen_by(name: str, recipe: Recipe, seen: SeenImages, validation: PackedSplit) -> SeenImages:
    """What decided the weights of a run's checkpoint: `seen`, and validation images where their errors chose some.

    Args:
        name: best or last.
        recipe: of the run. The only epoch is not chosen, and the last one only by early stopping or the learning rate.
        seen: without the run's validation images.
        validation: these images.
    """
    is_chosen = name == "best" or recipe.schedule == "plateau" or recipe.early_stop_epochs > 0
    if recipe.epochs == 1 or not is_chosen:
        return seen
    return replace(seen, selected_on=distinct_hashes(seen.selected_on, validation.content_hashes))


def record_selection(spec: RunSpec, state: State, validation: PackedSplit) -> None:
    """Record in out/best that the validation images choose it, where a run of one epoch is given more.

    A damaged checkpoint stays as it is.
    """
    best = spec.out / "best"
    if state.epoch != 1:
        return
    with suppress(UserError):
        saved = checkpoint.load(best)
        seen = seen_by("best", spec.recipe, saved.seen, validation)
        if len(seen.selected_on) > len(saved.seen.selected_on):
            checkpoint.save(replace(saved, seen=seen), best)


LOCK = "training.lock"
"""In the run folder while a process trains into it."""


class RunLog:
    """log.jsonl, one event a line, and the same numbers in the trackers that the run names.

    Opening it drops the events that a resumed run will log again. While it is open, no other process can open it.

    Args:
        out: the run's folder.
        state: up to which the log stays.
        is_shared: whether other processes wait for this one in each step. Then no event waits long for a slow disk,
            and `wait` must be called where they may wait longer.
    """

    STEPS = 10
    """Steps from one line about a step to the next."""

    def __init__(self, out: Path, state: State, is_shared: bool = False) -> None:
        """Raises UserError if another process trains into `out`."""
        self._lock = ExitStack()
        require(self._lock.enter_context(file_lock(out / LOCK, wait=False)),
                f"another process is training into {out}", "wait until it has ended, or give another --out")
        self.path = out / "log.jsonl"
        kept = [line for line in whole_lines(out) if _is_before(json.loads(line), state)]
        self.before: list[Event] = [json.loads(line) for line in kept]
        """What a resumed run has logged up to the step that it resumes from."""
        self._warnings = {_warning_key(event) for event in self.before} - {None}
        replace_file(self.path, lambda path: path.write_text("".join(kept)))
        self.file = self.path.open("a")
        self._writers = defaultdict[str, PatientWriter](PatientWriter) if is_shared else None
        """Of log.jsonl, by the name "", and of the trackers that write into the run's folder, each with its errors."""
        self._trackers: dict[str, trackers.Tracker] = {}

    def open_trackers(self, spec: RunSpec, state: State) -> None:
        """Open those of `spec.log`. Raises UserError if one cannot begin; the run folder is then one without events."""
        settings = {"arch": to_json(spec.arch), "recipe": to_json(spec.recipe), "seed": state.seed,
                    "data": spec.data.source}
        self._trackers = trackers.open_trackers(spec.log, spec.out, state.step, settings, self.before)

    def write(self, event: Event) -> None:
        """Append an event; of steps, every tenth. A warning that a resumed run repeats is in the log already."""
        if (event["event"] == "step" and event["step"] % self.STEPS) or _warning_key(event) in self._warnings:
            return
        self._do("", partial(self._append, json.dumps(event) + "\n"))
        if point := trackers.point(event):
            for name, tracker in list(self._trackers.items()):
                try:
                    if tracker.is_local:
                        self._do(name, partial(tracker.log, point))
                    else:
                        tracker.log(point)
                except Exception as error:  # of a server that has gone, or a full disk: training goes on
                    self._drop(name, error, point.step)

    def _do(self, name: str, write: Callable[[], object]) -> None:
        """Write into the run's folder."""
        if self._writers is None:
            write()
        else:
            self._writers[name].do(write)

    def _append(self, line: str) -> None:
        self.file.write(line)
        self.file.flush()

    def wait(self) -> None:
        """Wait until log.jsonl has all events, however slow the disk is. Raises OSError."""
        if self._writers is not None:
            self._writers[""].wait()

    def _drop(self, name: str, error: Exception, step: int) -> None:
        """Log nothing more to a tracker that has failed, and say so."""
        tracker = self._trackers.pop(name)
        with suppress(Exception):  # of the failed package; the next run of a series would find it open
            if tracker.is_local:
                self._do(name, tracker.close)
            else:
                tracker.close()
        problem = f"--log {name} has failed and gets no more numbers: {trackers.first_line(error)}"
        self.write(WarningEvent(event="warning", step=step, kind="tracker_failed", subject="", problem=problem,
                                remedy=f"log.jsonl has them all; to log to {name} again, stop and resume the run"))
        say(f"warning: {problem}")

    def close(self) -> None:
        """Close the log and the trackers, once all is written. Raises OSError."""
        try:
            self.wait()
        finally:
            self._close()

    def _close(self) -> None:
        self.file.close()
        for name, tracker in self._trackers.items():
            try:
                if self._writers is not None:
                    self._writers[name].wait()
                tracker.close()
            except Exception as error:
                say(f"warning: --log {name} may lack the last numbers: {trackers.first_line(error)}")
        self._lock.close()


def _warning_key(event: Event) -> tuple[str, str, str] | None:
    return (event["kind"], event["subject"], event["problem"]) if event["event"] == "warning" else None


def _is_before(event: Event, state: State) -> bool:
    """Whether an event is of the time before `state`, so that the resumed run does not log it again."""
    if event["event"] == "epoch":
        return event["epoch"] <= state.epoch
    if event["event"] == "end" or event["event"] == "evaluation":
        return False
    if event["event"] == "validating" or event["event"] == "features":  # these are never logged
        return False
    return event.get("step", 0) <= state.step


def whole_lines(run: Path) -> list[str]:
    """The log's lines with their ends; none if there is no log."""
    path = run / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    # The last line is incomplete if the run was killed, or is writing it at this moment.
    return [line for line in lines if line.endswith("}\n")]


def logged(run: Path) -> list[Event]:
    """The log's events in order; none if there is no log."""
    return [json.loads(line) for line in whole_lines(run)]


def read_log(run: Path) -> list[Event]:
    """The log's events of a folder that a user names. Raises UserError if it is no run's, or its log is damaged."""
    path = run / "log.jsonl"
    if not path.is_file():
        raise _no_run(run)
    try:
        return logged(run)
    except ValueError as error:
        raise UserError(f"{path} is damaged: a line of it is not JSON", "remove that line") from error


def write_config(
    spec: RunSpec, precision: str, images: dict[str, int], overlap: Overlap, processes: int,
    unknown: Sequence[str] = (),
) -> None:
    """Write config.json: everything that the run was started with.

    Args:
        precision: the one that training uses.
        images: split -> number of images that are trained or measured on.
        overlap: of the validation and training images.
        processes: how many train.
        unknown: `SeenImages.unknown`.
    """
    data = spec.data
    left_out = len(data.split("val")) - images["val"]
    config: dict[str, object] = {
        "arch": to_json(spec.arch), "recipe": to_json(spec.recipe), "seed": spec.seed, "precision": precision,
        "device": device_name(torch.device(spec.device)), "kernels": native.level(),
        "data": {"source": data.source, "packed": str(data.path.resolve()), "fingerprint": data.fingerprint,
                 "side": data.side, "classes": list(data.classes), "images": images,
                 "undecodable": {name: len(data.quarantined[name]) for name in images},
                 **({"left_out": left_out} if left_out else {}), **overlap.to_json(),
                 **({"fold": [data.number, data.folds]} if isinstance(data, FoldedDataset) else {}),
                 **({"group": data.manifest.grouped_by} if data.manifest.grouped_by else {}),
                 **({"subset": [data.images_per_class, data.draw, data.tuning]}
                    if isinstance(data, SubsetDataset) else {})},
        **({"transform": transform} if (transform := transform_name(spec.transform)) else {}),
        **({"cuda_graph": True} if spec.cuda_graph else {}),
        "versions": {**software_versions(), "python": platform.python_version(), "torch": torch.__version__},
        "threads": torch.get_num_threads(), "processes": processes,
        **({"log": list(spec.log)} if spec.log else {}),
        **({"unknown_training_images": list(unknown)} if unknown else {}),
        **({"parallel": spec.parallel} if processes > 1 else {}), **_about(spec),
    }
    replace_file(spec.out / "config.json", lambda path: path.write_text(json.dumps(config, indent=1)))


def _about(spec: RunSpec) -> dict[str, object]:
    """`spec.about`; of a resumed run with the command that began it, and those that changed its number of epochs."""
    about: dict[str, object] = dict(spec.about)
    if not (spec.out / "last").exists():
        return about
    try:
        former = read_config(spec.out)
    except UserError:  # it is missing or damaged, and is written again
        return about
    resumed, typed = list(former.get("resumed", [])), spec.about.get("command")
    if typed and former["recipe"]["epochs"] != spec.recipe.epochs:
        resumed.append(typed)
    about.pop("command", None)
    return about | {key: former[key] for key in ("command", "init") if key in former} | (
        {"resumed": resumed} if resumed else {})


def read_config(run: Path) -> Config:
    """config.json. Raises UserError if the folder is no run's, or the file is missing or damaged."""
    path, remedy = run / "config.json", "`alexnet train --resume` writes it again"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        missing = {"arch", "recipe", "data"} - config.keys()
    except (OSError, ValueError, AttributeError) as error:
        if not (run / "log.jsonl").is_file():
            raise _no_run(run) from error
        raise UserError(f"{path} is missing or damaged", remedy) from error
    if missing:
        raise UserError(f"{path} has no {min(missing)}", remedy)
    return config


def group_of(config: Config, data: str | Path) -> str | None:
    """The --group with which a run's data is opened again; None for packed and streamed data, which have their own.

    Args:
        config: of the run.
        data: what the user calls it.
    """
    return None if is_url(str(data)) or is_packed(data) else config["data"].get("group")


def logged_to(run: Path) -> list[str]:
    """The trackers of a run when it was last started; none if its config.json is missing or damaged."""
    try:
        return read_config(run).get("log", [])
    except UserError:
        return []


def read_overlap(config: Config) -> Overlap:
    """Which of a run's validation images are known from training, by its config.json."""
    return Overlap.from_json(config["data"]["images"]["val"], config["data"])


def _no_run(run: Path) -> UserError:
    require_no_url(run, "runs")
    require_single_run(run)
    close = "" if run.exists() else did_you_mean_weights(run)
    return UserError(f"{run} is not a run", close or "give a folder that `alexnet train` made")
