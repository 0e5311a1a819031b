"""Make the pretrained network of the package from a run, measure it, and write its model card, docs/pretrained.md.

    python benchmarks/pretrained.py make RUN/last DATA --samples SAMPLES.tar
    python benchmarks/pretrained.py measure DATA --samples SAMPLES.tar
    python benchmarks/pretrained.py card

`make` stores the weights in int8 or fp16, fits the temperature on one half of DATA's validation images, measures the
stored weights and writes src/alexnet/models/weights/. `measure` measures the packaged network again. Both write the
model card and print JSON. `card` writes the model card from what the package records, and measures only the loading
time. The samples are full-size photographs named nXXXXXXXX_label.JPEG.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pretrained_card import model_card

from alexnet.api.evaluation import EvaluationSet, open_evaluation_set
from alexnet.data.content import distinct_hashes
from alexnet.data.imagenet_classes import readable
from alexnet.data.sources.embedded import PHOTOGRAPHS
from alexnet.errors import UserError, require
from alexnet.inference import calibration
from alexnet.inference.confidence import SURE_FROM
from alexnet.inference.evaluate import predictions, probabilities
from alexnet.inference.metrics import Errors, count_errors, wilson
from alexnet.inference.predictor import Model, load, model_from_checkpoint
from alexnet.models import checkpoint, packaged
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.checkpoint_json import ErrorsJson
from alexnet.models.formats.packaged_weights import add_measured, dequantize, quantize, write_packaged
from alexnet.models.packaged import Measured, ProbedImage, Storage, TrainingFacts
from alexnet.serving.samples import generated_patterns

ROOT = Path(__file__).parents[1]
CARD = ROOT / "docs" / "pretrained.md"

_PATHS = {"make": ("RUN", "DATA"), "measure": ("DATA",), "card": ()}
"""Paths that each command takes."""

PROBED_PHOTOS = ("chelsea.png", "coffee.png", "rocket.jpg")
"""Of the package, in data/photographs."""

LOAD_CODE = """
import time, torch
began = time.perf_counter()
import alexnet
alexnet.load()
print(time.perf_counter() - began)
"""


def main() -> None:
    """Run one of the three commands."""
    options, errors = _options(), dict[str, ErrorsJson]()
    if options.command == "make":
        errors = make(options)
    path = packaged.default_weights() if options.folder == packaged.FOLDER else next(options.folder.glob("*.json"))
    loading = load_seconds() if path.parent == packaged.FOLDER else None
    if options.command == "card":
        options.card.write_text(model_card(packaged.read_head(path), loading))
        return
    model = load(path)
    images = open_evaluation_set([model], options.data)
    measured = [measure_split(model, images, f"{options.data_name}, validation", views) for views in (1, 10)]
    if options.samples:
        measured += [measure_samples(model, packaged.read_head(path)["wnids"], options.samples, views)
                     for views in (1, 10)]
    if options.command == "make":
        add_measured(path, measured, probe(model), errors)
    print(json.dumps({"measured": measured, "selection": images.selection.describe(), "load_seconds": loading},
                     indent=2))
    options.card.write_text(model_card(packaged.read_head(path), loading))


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=tuple(_PATHS))
    parser.add_argument("paths", nargs="*", type=Path, metavar="[[RUN] DATA]")
    parser.add_argument("--samples", type=Path, help="tar archive of full-size photographs")
    parser.add_argument("--name", default="tiny-imagenet-200")
    parser.add_argument("--data-name", default="Tiny ImageNet")
    parser.add_argument("--storage", choices=("fp16", "int8"), help="default: fp16 if it fits into 8 MB, else int8")
    parser.add_argument("--folder", type=Path, default=packaged.FOLDER)
    parser.add_argument("--card", type=Path, default=CARD)
    options = parser.parse_args()
    names = _PATHS[options.command]
    require(len(options.paths) == len(names), f"{options.command} takes {' and '.join(names) or 'no path'}",
            "see --help")
    for name, path in zip(names, options.paths, strict=True):
        setattr(options, name.lower(), path)
    return options


# --- Make -------------------------------------------------------------------------------------------------------------


def make(options: Any) -> dict[str, ErrorsJson]:
    """Write the files of a run, and return the errors of its weights in float32, fp16 and int8."""
    saved = _with_readable_names(checkpoint.load(options.run))
    images = open_evaluation_set([model_from_checkpoint(saved)], options.data)
    print(images.selection.describe(), file=sys.stderr)
    require(not images.selection.unknown, f"{options.run} does not say what it was trained on", "train it again")
    errors = {"fp32": _errors(saved, images).to_json()}
    storages: tuple[Storage, ...] = ("fp16", "int8")
    for kind in storages:
        errors[kind] = _errors(_stored(saved, kind), images).to_json()
        print(f"{kind}: top-1 error {errors[kind]['top1_error']:.2%}, top-5 {errors[kind]['top5_error']:.2%}; fp32: "
              f"{errors['fp32']['top1_error']:.2%}, {errors['fp32']['top5_error']:.2%}", file=sys.stderr)
    facts = _training_facts(saved, options)
    with TemporaryDirectory() as folder:  # the size decides, where no option does
        kind = packaged.read_head(write_packaged(
            saved, Path(folder), options.name, facts, packaged.LICENSE, storage=options.storage))["storage"]
    calibrated = _calibrated(_stored(saved, kind), images)
    final = replace(saved, calibration=calibrated.calibration, seen=calibrated.seen)
    final.errors = _errors(replace(final, weights=calibrated.weights), images).to_json()
    for old in filter(packaged.is_packaged_head, options.folder.glob("*.json")):
        old.unlink()
        old.with_suffix(".safetensors").unlink()
    path = write_packaged(final, options.folder, options.name, facts, packaged.LICENSE, storage=kind)
    head = packaged.read_head(path)
    print(f"{path}: {head['storage']}, {head['bytes']:,} bytes, {head['parameters']:,} parameters", file=sys.stderr)
    if not head["look_alikes_recognized"]:
        print("warning: the perceptual hashes of the training images do not fit, so look-alikes of training images "
              "will not be recognized", file=sys.stderr)
    return errors


def _with_readable_names(saved: Checkpoint) -> Checkpoint:
    """The checkpoint with names in place of WordNet IDs. Raises UserError for an ID that has no name."""
    names = tuple(map(readable, saved.classes))
    unnamed = [name for name in names if name[:1] == "n" and name[1:].isdigit()]
    require(not unnamed, f"{', '.join(unnamed)} have no readable names", "add them to data/imagenet_classes")
    return replace(saved, classes=names)


def _stored(saved: Checkpoint, kind: Storage) -> Checkpoint:
    """The checkpoint with the weights that come back from the file."""
    return replace(saved, weights=dequantize(quantize(saved.weights, kind)))


def _calibrated(saved: Checkpoint, images: EvaluationSet) -> Checkpoint:
    """The checkpoint with the temperature that one half of the images gives."""
    logits_NK = calibration.compute_logits(model_from_checkpoint(replace(saved, calibration={})), images.images)
    hashes_N = images.images.content_hashes
    found = calibration.calibrate(logits_NK, images.label_map[images.images.labels].numpy(), hashes_N)
    print(f"temperature {found.temperature:.3f}: ECE {found.before.ece:.2%} -> {found.after.ece:.2%} on "
          f"{found.measured_images:,} other images; a calibrated network's would be {found.after.calibrated_ece:.2%}",
          file=sys.stderr)
    if not found.helps:
        raise UserError("no temperature lowers the loss of the other half by more than chance",
                        "the network may be calibrated already; look at it with alexnet calibrate")
    fitted = distinct_hashes(saved.seen.selected_on, hashes_N[calibration.fitting_half(hashes_N)])
    return replace(saved, calibration=found.stored(), seen=replace(saved.seen, selected_on=fitted))


def _training_facts(saved: Checkpoint, options: Any) -> TrainingFacts:
    """From the run's config.json. Folders of this machine are left out of the commands."""
    config = json.loads((options.run.parent / "config.json").read_text())
    recipe = saved.recipe
    assert recipe is not None
    return {
        "data": options.data_name, "images": len(saved.seen.trained), "command": _without_folders(config["command"]),
        "package_command": _without_folders(shlex.join(["python", "benchmarks/pretrained.py", *sys.argv[1:]])),
        "seed": config["seed"], "epochs": saved.training["epoch"], "batch_size": recipe.batch_size,
        "software": config["versions"], "device": config["device"], "changed_since": []}


def _without_folders(command: str) -> str:
    """The command with the last part of every absolute path; of a checkpoint, with the run's folder as well."""
    return shlex.join(_without_folder(part) if part.startswith("/") else part for part in shlex.split(command))


def _without_folder(path: str) -> str:
    parts = Path(path).parts
    return "/".join(parts[-2 if parts[-1] in ("best", "last") else -1:])


# --- Measure ----------------------------------------------------------------------------------------------------------


def _errors(saved: Checkpoint, images: EvaluationSet) -> Errors:
    """Over all images, with one view."""
    model = model_from_checkpoint(saved)
    _, errors = _outputs(model, images, 1)
    return errors


def _outputs(model: Model, images: EvaluationSet, views: int) -> tuple[NDArray[np.float64], Errors]:
    """The probabilities [N, K] in the order of the split, and the errors."""
    outputs_NK, errors = np.zeros((len(images.images), len(model.classes))), Errors()
    for batch_nK, indices in predictions([(model.network, model.preprocess)], images.images, views=views):
        outputs_NK[indices] = batch_nK.double().numpy()
        errors += count_errors(batch_nK, images.label_map[torch.from_numpy(images.images.labels[indices])])
    return outputs_NK, errors


def measure_split(model: Model, images: EvaluationSet, name: str, views: int) -> Measured:
    """Errors on all images; the ECE on those that did not fit the temperature."""
    outputs_NK, errors = _outputs(model, images, views)
    labels_N = images.label_map[images.images.labels].numpy()
    others_N = ~calibration.fitting_half(images.images.content_hashes)
    confidence_N, right_N = outputs_NK.max(1), outputs_NK.argmax(1) == labels_N
    measured = _measured(name, errors, views, confidence_N, right_N)
    measured["ece"] = calibration.expected_calibration_error(confidence_N[others_N], right_N[others_N])
    measured["ece_images"] = int(others_N.sum())
    return measured


def measure_samples(model: Model, wnids: Sequence[str], archive: Path, views: int) -> Measured:
    """Errors on the full-size photographs whose class the network knows."""
    photos = iter([(wnids.index(name[:9]), model.pixels(data, name)) for name, data in _photos(archive)
                   if name[:9] in wnids])
    errors, confidences, rights = Errors(), list[NDArray[np.float64]](), list[NDArray[np.bool_]]()
    while batch := list(islice(photos, 32)):
        labels_N = torch.tensor([label for label, _ in batch])
        with torch.inference_mode():
            outputs_NK = probabilities([(model.network, model.preprocess)],
                                       torch.from_numpy(np.stack([pixels for _, pixels in batch])), views)
        errors += count_errors(outputs_NK, labels_N)
        confidences.append(outputs_NK.max(1).values.double().numpy())
        rights.append((outputs_NK.argmax(1) == labels_N).numpy())
    return _measured("full-size ImageNet photographs of classes that it knows", errors, views,
                     np.concatenate(confidences), np.concatenate(rights))


def _photos(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each JPEG of a tar archive."""
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file and member.name.lower().endswith((".jpeg", ".jpg")):
                yield Path(member.name).name, file.read()


def _measured(
    name: str, errors: Errors, views: int, confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_],
) -> Measured:
    sure_N = confidence_N >= SURE_FROM
    return {
        "data": name, "images": errors.images, "views": views, "loss": errors.loss,
        "top1_error": errors.top1_error, "top1_interval": list(wilson(errors.top1_wrong, errors.images)),
        "top5_error": errors.top5_error, "top5_interval": list(wilson(errors.top5_wrong, errors.images)),
        "sure_images": int(sure_N.sum()), "sure_error": float(1 - right_N[sure_N].mean()) if sure_N.any() else 0.0}


def probe(model: Model) -> list[ProbedImage]:
    """The likeliest classes of generated patterns and of the package's photographs."""
    images: dict[str, Any] = {**generated_patterns(), **{name: PHOTOGRAPHS / name for name in PROBED_PHOTOS}}
    found = model.predict(images.values())
    return [{"image": name, "classes": [(guess.name, guess.probability) for guess in guesses]}
            for name, guesses in zip(images, found, strict=True)]


def load_seconds(runs: int = 5) -> float:
    """The least time of `import alexnet` and `alexnet.load()` in a new process, after torch's import."""
    command = [sys.executable, "-c", LOAD_CODE]
    return min(float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(runs))


if __name__ == "__main__":
    try:
        main()
    except UserError as problem:
        sys.exit(f"pretrained: {problem}")
