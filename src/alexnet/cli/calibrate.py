"""The `calibrate` command: fit a temperature, so that a probability of 90% is right 9 times in 10, and store it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import set_openmp_defaults
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
from alexnet.errors import require


@app.command(group=TRAIN_AND_EVALUATE, sort_key=5)
def calibrate(
    checkpoint: Path, data: str, /, *, labels: Labels = None, split: Split = None, batch_size: ForwardSize = 128,
    group: Groups = None, device: Device = "auto", classes: Classes = None, json_: Json = False,
) -> None:
    """Calibrate the probabilities of a checkpoint: fit a temperature on images that it has not seen.

    One half of the images, chosen by their content, fits the temperature. The other half measures the expected
    calibration error before and after. Images of one group (--group), copies and look-alikes are in one half. The
    weights stay as they are; predict, evaluate, serve and export use the temperature. It is stored only if it lowers
    the loss of the second half by more than chance.

    Args:
        checkpoint: A checkpoint or a run folder, whose best checkpoint is calibrated.
        data: A folder or archive of images, a packed folder, or a name such as cifar10. Images that the network was
            trained on are left out, and a split that is trained on is refused.
    """
    at_least_1(batch_size=batch_size)
    set_allocator()
    set_openmp_defaults()

    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.api.evaluation import open_evaluation_set
    from alexnet.cli.render_metrics import calibration_text
    from alexnet.data.content import distinct_hashes
    from alexnet.inference import calibration
    from alexnet.inference.predictor import model_from_checkpoint
    from alexnet.models import checkpoint as ckpt
    from alexnet.models.formats.state_dict import rename_classes

    saved = ckpt.load(checkpoint, with_velocity=True)
    assert saved.path is not None
    require(saved.path.is_dir(), f"{saved.path.parent} is damaged, so no temperature can be stored in it",
            "name the run's other checkpoint")
    named = rename_classes(saved, names) if (names := class_names(classes)) else saved
    model = model_from_checkpoint(replace(named, calibration={}), choose_device(device))
    images = open_evaluation_set([model], data, split, labels=labels, group=group)
    require(not images.selection.includes_trained,
            f"the network was trained on {images.selection.trained_on:,} of these {images.selection.available:,} "
            "images, and is surer of them than of others", "leave out --split, or give other images")
    with Bar("computing logits", "images") as bar:
        logits_NK = calibration.compute_logits(model, images.images, batch_size=batch_size, on_progress=bar)
    labels_N = images.label_map[images.images.labels].numpy()
    hashes_N = images.images.content_hashes
    halves = calibration.halve(images.images)
    found = calibration.calibrate(logits_NK, labels_N, halves.together_N, halves.measured_N, images.images.groups)
    if found.helps:
        fitted = distinct_hashes(saved.seen.selected_on, hashes_N[halves.fit_N])
        ckpt.save(replace(saved, calibration=found.stored(), seen=replace(saved.seen, selected_on=fitted)), saved.path)
    if json_:
        print(json.dumps({"checkpoint": str(saved.path), **found.to_json(), "stored": found.helps,
                          "measured": images.selection.to_json()}, indent=2))
        return
    print(f"{saved.path}: ", end="")
    for line in calibration_text(found, halves.apart.describe()):
        print(line)
    print(images.selection.describe())
    print(f"stored in {saved.path}: predict, evaluate, serve and export use it" if found.helps else
          "not stored: the loss of the images that it was not fitted on does not fall by more than chance; "
          f"{saved.path} is unchanged; with few images chance is large: {calibration.MORE_IMAGES}")
