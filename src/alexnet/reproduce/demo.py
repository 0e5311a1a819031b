"""`alexnet demo`: the whole way of an image, on images that come with the install, offline, in minutes."""

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
from alexnet.inference.evaluate import evaluate
from alexnet.reproduce.report import report
from alexnet.training.build import build
from alexnet.training.progress_bar import TrainingBar
from alexnet.training.spec import RunSpec
from alexnet.training.state import Interrupted

EPOCHS = 15

NOTE = (
    "This is texture recognition: which of the images was a small patch cut from? Training patches come from the "
    "black tiles of a checkerboard laid over each image, test patches from the white ones; they share no pixel, "
    "but they do share an image, and test patches may overlap one another, so that the interval is somewhat too "
    "narrow. It shows that the machinery works, and stands in until you bring images of your own: alexnet train "
    "FOLDER.")


def demo(
    out: Path, *, seed: int = 0, epochs: int | None = None,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> Path:
    """Pack the embedded images, train `small`, measure one view and ten, and write the report.

    A demo that was interrupted in `out` goes on. Returns the report's path. Raises ValueError where `out` holds a
    finished demo, or anything else.
    The figures are the last epoch's, not the best one's: choosing among epochs by test error would flatter.
    """
    chosen = replace(recipe("modern"), epochs=EPOCHS if epochs is None else epochs)
    _check_place(out)
    dataset = open_dataset("embedded")
    say(f"{len(dataset.classes)} images from scikit-image, cut into patches: which one does a patch come from?")
    packed = pack_with_bar(dataset, out / "data", side=arch("small").input.side)
    with TrainingBar(chosen.epochs) as bar:
        command = ["alexnet", "demo", "--out", str(out), "--seed", str(seed)]
        command += ["--epochs", str(epochs)] if epochs is not None else []
        about = {"title": "AlexNet demo", "note": NOTE, "command": shlex.join(command)}
        run = build(RunSpec(packed, arch("small"), chosen, out, seed=seed, resume=True, about=about), on_event=bar.show)
        try:
            run.fit()
        except Interrupted as stop:
            stop.args = (f"{out / 'last'} is saved: the same command goes on from it",)
            raise
    with (out / "log.jsonl").open("a") as log:
        for views in (1, 10):
            errors = evaluate([(run.network, run.preprocess)], run.validation, views=views)
            event = {"event": "evaluation", "step": run.state.step, "checkpoint": "last", "views": views}
            log.write(json.dumps(event | errors.to_json()) + "\n")
            say(f"{out / 'last'}, the network after its last epoch: {errors.describe(views=views)}")
    return report(out, packed)


def _check_place(out: Path) -> None:
    """Raises ValueError where `out` holds a finished run, or what no demo wrote."""
    if not out.exists():
        return
    known = {"data", "best", "last", "tensorboard", "figures", "log.jsonl", "config.json", "report.html"}
    strangers = sorted(path.name for path in out.iterdir() if path.name not in known)
    if strangers:
        raise ValueError(f"{out} holds {strangers[0]}, which no demo wrote; choose another --out")
    if (out / "report.html").exists():
        raise ValueError(f"{out} already holds a run, whose report is {out / 'report.html'}; choose another --out, "
                         "or remove it")
