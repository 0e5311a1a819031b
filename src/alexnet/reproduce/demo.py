"""`alexnet demo`: train, evaluate and report on images that come with the installation, offline."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from alexnet.architecture.presets import arch, recipe
from alexnet.data.packing import pack_with_bar
from alexnet.data.sources.detect import open_dataset
from alexnet.errors import UserError
from alexnet.inference.evaluate import evaluate
from alexnet.reproduce.report.page import write_report
from alexnet.training.build import build
from alexnet.training.events import EvaluationEvent
from alexnet.training.progress_bar import TrainingBar
from alexnet.training.spec import RunSpec
from alexnet.training.state import Interrupted

EPOCHS = 15

NOTE = (
    "The task is texture recognition: which of the images was a small patch cut from? A checkerboard is laid over each "
    "image. Training patches come from its black tiles and validation patches from its white tiles, so they share an "
    "image but no pixel. Validation patches may overlap one another, so the interval is slightly too narrow. The demo "
    "shows that everything works; to train on images of your own: alexnet train FOLDER.")


class DemoInterrupted(Exception):
    """A signal has stopped the demo, and its checkpoint is written.

    Attributes:
        exit_code: what a shell expects of a process that the signal ended.
    """

    def __init__(self, out: Path, exit_code: int) -> None:
        super().__init__(f"{out / 'last'} is saved; the same command resumes the demo")
        self.exit_code = exit_code


def demo(
    out: Path, *, seed: int = 0, epochs: int | None = None,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> Path:
    """Pack the embedded images, train `small`, evaluate it with one view and with ten, and write the report.

    Resumes a demo that was interrupted in `out`. The errors are those of the last epoch: selecting the best epoch by
    validation error would be optimistic.

    Args:
        out: folder for the data, the run and its report.
        seed: training seed.
        epochs: default: EPOCHS.
        say: prints a line of progress.

    Returns:
        The report's path.

    Raises:
        UserError: `out` has a finished demo, or files that no demo wrote.
        DemoInterrupted: a signal stopped the demo.
    """
    demo_recipe = replace(recipe("modern"), epochs=EPOCHS if epochs is None else epochs)
    _require_free(out)
    dataset = open_dataset("embedded")
    say(f"{len(dataset.classes)} images from scikit-image, cut into patches: which one does a patch come from?")
    packed = pack_with_bar(dataset, out / "data", side=arch("small").input.side)
    command = ["alexnet", "demo", "--out", str(out), "--seed", str(seed)]
    command += ["--epochs", str(epochs)] if epochs is not None else []
    about = {"title": "AlexNet demo", "note": NOTE, "command": shlex.join(command)}
    with TrainingBar(demo_recipe.epochs) as bar:
        spec = RunSpec(packed, arch("small"), demo_recipe, out, seed=seed, resume=True, about=about)
        run = build(spec, on_event=bar.show)
        try:
            run.fit()
        except Interrupted as stop:
            raise DemoInterrupted(out, stop.exit_code) from None
    with (out / "log.jsonl").open("a") as log:
        for views in (1, 10):
            errors = evaluate([(run.network, run.preprocess)], run.validation, views=views)
            event: EvaluationEvent = {
                "event": "evaluation", "step": run.state.step, "checkpoint": "last", "views": views, **errors.to_json()}
            log.write(json.dumps(event) + "\n")
            say(f"{out / 'last'}, the network after its last epoch: top-1 error {errors.top1_error:.1%} "
                f"({views} view{'s' * (views != 1)}, {errors.images:,} images)")
    return write_report(out, packed)


def _require_free(out: Path) -> None:
    """Raise UserError if `out` has a finished run, or files that no demo wrote."""
    if not out.exists():
        return
    known = {"data", "best", "last", "tensorboard", "figures", "log.jsonl", "config.json", "report.html"}
    if foreign := sorted(path.name for path in out.iterdir() if path.name not in known):
        raise UserError(f"{out} holds {foreign[0]}, which no demo wrote", "choose another --out")
    if (out / "report.html").exists():
        raise UserError(f"{out} already holds a run, whose report is {out / 'report.html'}",
                        "choose another --out, or remove it")
