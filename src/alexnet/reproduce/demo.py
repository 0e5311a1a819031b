"""`alexnet demo`: the pretrained network on photographs that come with the installation, then a training, offline."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from alexnet._runtime.local_files import require_writable
from alexnet.architecture.network_presets import arch
from alexnet.architecture.recipe_presets import recipe
from alexnet.data.packing import pack_with_bar
from alexnet.data.sources.detect import open_dataset
from alexnet.errors import UserError
from alexnet.inference.evaluate import evaluate
from alexnet.inference.predictor import model_from_checkpoint
from alexnet.models import checkpoint
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.packaged import PRETRAINED
from alexnet.reproduce.demo_photos import name_photos
from alexnet.reproduce.pages.demo import PAGE, Pretrained, pretrained_part, trained_part, write_demo_page
from alexnet.reproduce.report.page import write_report
from alexnet.training.build import build
from alexnet.training.events import EvaluationEvent
from alexnet.training.progress_bar import TrainingBar
from alexnet.training.run_folder import read_log
from alexnet.training.spec import RunSpec
from alexnet.training.state import Interrupted

EPOCHS = 15

NOTE = (
    "The task is texture recognition: which of the images was a small patch cut from? A checkerboard is laid over each "
    "image. Training patches come from its black tiles and validation patches from its white tiles, so they share an "
    "image but no pixel. Validation patches may overlap one another, so the interval is slightly too narrow. The demo "
    "shows that everything works; to train on images of your own: alexnet train FOLDER.")


def demo(
    out: Path, *, seed: int = 0, epochs: int | None = None,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> Path:
    """Let the pretrained network name photographs; then train `small` on patches of them, and write page and report.

    `small` is evaluated with one view and with ten. Resumes a demo that was interrupted in `out`. The errors are those
    of the last epoch: selecting the best epoch by validation error would be optimistic.

    Args:
        out: folder for the data, the run and its report.
        seed: training seed.
        epochs: default: EPOCHS.
        say: prints a line of progress.

    Returns:
        The path of the page, OUT/demo.html; OUT/report.html is the training's own.

    Raises:
        UserError: `out` has a finished demo, or files that no demo wrote.
        Interrupted: a signal stopped the demo.
    """
    demo_recipe = replace(recipe("modern"), epochs=EPOCHS if epochs is None else epochs)
    _require_free(out)
    shown = _show_pretrained(out, say)
    dataset = open_dataset("embedded")
    say(f"{len(dataset.classes)} photographs, cut into patches: which one does a patch come from?")
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
            raise Interrupted(stop.number, stop.folder, "the same command resumes the demo") from None
    measured = {}
    with (out / "log.jsonl").open("a") as log:
        for views in (1, 10):
            errors = measured[views] = evaluate([(run.network, run.preprocess)], run.validation, views=views)
            event: EvaluationEvent = {
                "event": "evaluation", "step": run.state.step, "checkpoint": "last", "views": views, **errors.to_json()}
            log.write(json.dumps(event) + "\n")
            say(f"{out / 'last'}, the network after its last epoch: top-1 error {errors.top1_error:.1%} "
                f"({views} view{'s' * (views != 1)}, {errors.images:,} images)")
    write_report(out, packed)
    epochs_of_run = [event for event in read_log(out) if event["event"] == "epoch"]
    return write_demo_page(out, shown, trained_part(checkpoint.load(out / "last"), epochs_of_run, measured))


def _show_pretrained(out: Path, say: Callable[[str], None]) -> Pretrained | None:
    """Name the photographs, and write the page's first part. None, with a note, if there is no pretrained network."""
    try:
        saved = open_weights(PRETRAINED)
    except UserError as error:
        say(f"note: the demo skips the pretrained network: {error}")
        return None
    named = name_photos(model_from_checkpoint(saved))
    say(f"the pretrained network {saved.arch.name} knows {len(saved.classes):,} classes; its predictions for "
        "photographs:")
    for each in named:
        say(f"  {each.photo.title}: {each.answer}. {each.verdict(len(saved.classes))}")
    shown = pretrained_part(saved, named)
    say(f"{write_demo_page(out, shown, None)} shows them with Grad-CAM, and the kernels of conv1")
    return shown


def _require_free(out: Path) -> None:
    """Raise UserError if `out` cannot be written, has a finished run, or files that no demo wrote."""
    require_writable(out, is_folder=True)
    if not out.exists():
        return
    known = {"data", "best", "last", "figures", "log.jsonl", "config.json", "report.html", PAGE}
    if foreign := sorted(path.name for path in out.iterdir() if path.name not in known):
        raise UserError(f"{out} holds {foreign[0]}, which no demo wrote", "choose another --out")
    if (out / "report.html").exists():
        raise UserError(f"{out} already holds a run, whose report is {out / 'report.html'}",
                        "choose another --out, or remove it")
