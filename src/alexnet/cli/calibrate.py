"""The `calibrate` command: fit a temperature, so that a probability of 90% is right 9 times in 10, and store it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import set_openmp_defaults
from alexnet._runtime.local_files import require_writable
from alexnet._runtime.notes import say
from alexnet.cli.app import (
    TRAIN_AND_EVALUATE,
    Classes,
    Device,
    ForwardSize,
    Groups,
    Json,
    Labels,
    Split,
    app,
    at_least_1,
    class_names,
)
from alexnet.errors import UserError, require

if TYPE_CHECKING:
    from alexnet.api.evaluation import EvaluationSet
    from alexnet.inference.calibration import Calibration, Halves
    from alexnet.inference.predictor import Model
    from alexnet.models.checkpoint_json import CalibrationJson


@app.command(group=TRAIN_AND_EVALUATE, sort_key=5)
def calibrate(
    checkpoint: Path, data: str, /, *, labels: Labels = None, split: Split = None, batch_size: ForwardSize = 128,
    group: Groups = None, device: Device = "auto", classes: Classes = None, one_view: bool = False, json_: Json = False,
) -> None:
    """Calibrate the probabilities of a checkpoint: fit a temperature on images that it has not seen.

    One half of the images, chosen by their content, fits the temperature. The other half measures the expected
    calibration error before and after. Images of one group (--group), copies and look-alikes are in one half. The
    weights stay as they are; predict, evaluate, serve and export use the temperature. It is stored only if it lowers
    the loss of the second half by more than chance.

    The mean over ten views (--views 10, and ?views=10 of the server) then gets a temperature of its own, on the same
    halves and by the same rule. Its logits take ten times as long as those of one view, which `evaluate --views 10`
    takes too, and 40 bytes of memory for each image and class.

    Args:
        checkpoint: A checkpoint or a run folder, whose best checkpoint is calibrated.
        data: A folder or archive of images, a packed folder, or a name such as cifar10. Images that the network was
            trained on are left out, and a split that is trained on is refused.
        one_view: Fit no temperature for ten views, which then have that of one view.
    """
    at_least_1(batch_size=batch_size)
    set_allocator()
    set_openmp_defaults()

    from alexnet._runtime.devices import choose_device
    from alexnet.api.evaluation import open_evaluation_set
    from alexnet.cli.render_metrics import calibration_text
    from alexnet.data.content import distinct_hashes
    from alexnet.inference.calibration import halve
    from alexnet.inference.predictor import model_from_checkpoint
    from alexnet.models import checkpoint as ckpt
    from alexnet.models.formats.state_dict import rename_classes

    saved = ckpt.load(checkpoint, with_velocity=True)
    assert saved.path is not None
    require(saved.path.is_dir(), f"{saved.path.parent} is damaged, so no temperature can be stored in it",
            "name the run's other checkpoint")
    require_writable(saved.path, is_folder=True)
    named = rename_classes(saved, names) if (names := class_names(classes)) else saved
    model = model_from_checkpoint(replace(named, calibration={}), choose_device(device))
    images = open_evaluation_set([model], data, split, labels=labels, group=group)
    require(not images.selection.includes_trained,
            f"the network was trained on {images.selection.trained_on:,} of these {images.selection.available:,} "
            "images, and is overconfident on images it was trained on", "leave out --split, or give other images")
    halves = halve(images.images)
    found, ten_views = _fit(model, images, halves, batch_size, one_view)
    if found.helps:
        fitted = distinct_hashes(saved.seen.selected_on, images.images.content_hashes[halves.fit_N])
        ckpt.save(replace(saved, calibration=_stored(found, ten_views),
                          seen=replace(saved.seen, selected_on=fitted)), saved.path)
    if json_:
        print(json.dumps({
            "checkpoint": str(saved.path), **_to_json(found), "ten_views": ten_views and _to_json(ten_views),
            "measured": images.selection.to_json()}, indent=2))
        return
    print(f"{saved.path}: ", end="")
    for line in calibration_text(found, halves.apart.describe(), ten_views):
        print(line)
    print(images.selection.describe())
    print(_stored_text(saved.path, found, ten_views, model.preprocess.spec.side))


def _fit(
    model: Model, images: EvaluationSet, halves: Halves, batch_size: int, one_view: bool,
) -> tuple[Calibration, Calibration | None]:
    """The temperature of one view, and that of ten; None if it was not fitted, and a note says why.

    Args:
        model: at temperature 1.
        one_view: fit that of one view only.
    """
    from alexnet._runtime.progress import Bar
    from alexnet.inference import calibration

    labels_N, groups_N = images.label_map[images.images.labels].numpy(), images.images.groups
    began = time.perf_counter()
    with Bar("computing logits", "images") as bar:
        logits_NK = calibration.compute_logits(model, images.images, batch_size=batch_size, on_progress=bar)
    seconds = time.perf_counter() - began
    found = calibration.calibrate(logits_NK, labels_N, halves.together_N, halves.measured_N, groups_N,
                                  model.preprocess.spec.side)
    if one_view or not found.helps:
        return found, None
    say(f"note: ten views take about ten times the {max(seconds, 0.1):,.1f} s of one view; --one-view leaves them out")
    with Bar("computing logits of ten views", "images") as bar:
        logits_NVK = calibration.compute_ten_view_logits(model, images.images, batch_size=batch_size, on_progress=bar)
    try:
        return found, calibration.calibrate_ten_views(logits_NVK, labels_N, found.temperature, halves.together_N,
                                                      halves.measured_N, groups_N)
    except UserError as error:
        say(f"note: ten views use the temperature of one view: {error.problem}; {error.remedy}")
        return found, None


def _stored(found: Calibration, ten_views: Calibration | None) -> CalibrationJson:
    """What the checkpoint keeps: the temperature of one view, and that of ten if it lowers the loss."""
    if ten_views is None or not ten_views.helps:
        return {**found.stored()}
    return {**found.stored(), "ten_views": ten_views.stored()}


def _to_json(found: Calibration) -> dict[str, object]:
    return {**found.to_json(), "stored": found.helps}


def _stored_text(path: Path, found: Calibration, ten_views: Calibration | None, side: int) -> str:
    """Which temperatures are stored, and why others are not."""
    from alexnet.inference.calibration import more_images

    by_chance = "the loss of the images that it was not fitted on does not fall by more than chance"
    if not found.helps:
        return (f"not stored: {by_chance}; {path} is unchanged; with few images chance is large: {more_images(side)}")
    text = f"stored in {path}: predict, evaluate, serve and export use it"
    if ten_views is None:
        return text + "; ten views use the same temperature"
    return text + ("; ten views use a temperature of their own" if ten_views.helps else
                   f"; the temperature of ten views is not stored, as {by_chance}: they use the same one")
