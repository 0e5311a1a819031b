"""Make the pretrained network of the package from a run, measure it, and write its model card, docs/pretrained.md.

    python benchmarks/pretrained.py make RUN/last DATA --samples SAMPLES.tar
    python benchmarks/pretrained.py calibrate DATA --samples SAMPLES.tar
    python benchmarks/pretrained.py measure DATA --samples SAMPLES.tar
    python benchmarks/pretrained.py card

`make` stores the weights in int8 or fp16, fits the temperatures of one view and of ten on one half of DATA's validation
images, measures the stored weights and writes src/alexnet/models/weights/. `calibrate` fits the temperature of ten
views again, on the images that the package names, and measures: it writes the JSON file, and no weight. `measure`
measures the packaged network again. All three write the model card and print JSON. `card` writes the model card from
what the package records, and measures only the loading time. The samples are full-size photographs named
nXXXXXXXX_label.JPEG.
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
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pretrained_card import model_card

from alexnet._runtime.notes import silent
from alexnet.api.evaluation import open_evaluation_set
from alexnet.api.measurement import EvaluationSet
from alexnet.data.content import distinct_hashes
from alexnet.data.imagenet_classes import readable
from alexnet.data.sources.embedded import PHOTOGRAPHS
from alexnet.errors import UserError, require
from alexnet.inference import calibration
from alexnet.inference.confidence import SURE_FROM
from alexnet.inference.evaluate import predictions
from alexnet.inference.metrics import Errors, count_errors
from alexnet.inference.predictor import Model, load, model_from_checkpoint
from alexnet.inference.statistics import wilson
from alexnet.models import checkpoint, packaged
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.checkpoint_json import ErrorsJson, TemperatureJson
from alexnet.models.formats.packaged_weights import (
    add_measured,
    dequantize,
    quantize,
    read_packaged,
    replace_calibration,
    write_packaged,
)
from alexnet.models.packaged import Measured, ProbedImage, Storage, TrainingRecord
from alexnet.serving.samples import generated_patterns

ROOT = Path(__file__).parents[1]
CARD = ROOT / "docs" / "pretrained.md"

_PATHS = {"make": ("RUN", "DATA"), "calibrate": ("DATA",), "measure": ("DATA",), "card": ()}
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
    """Run one of the commands."""
    options, errors = _options(), dict[str, ErrorsJson]()
    if options.command == "make":
        errors = make(options)
    path = packaged.default_weights() if options.folder == packaged.FOLDER else next(options.folder.glob("*.json"))
    loading = load_seconds() if path.parent == packaged.FOLDER else None
    if options.command == "card":
        options.card.write_text(card_of(path, loading))
        return
    if options.command == "calibrate":
        calibrate(path, options.data)
        errors = packaged.read_packaged_json(path)["storage_errors"]
    model = load(path)
    images = open_evaluation_set([model], options.data)
    measured = [each for views in (1, 10)
                for each in measure_split(model, images, f"{options.data_name}, validation", views)]
    if options.samples:
        measured += [measure_samples(model, packaged.read_packaged_json(path)["wnids"], options.samples, views)
                     for views in (1, 10)]
    if options.command != "measure":
        add_measured(path, measured, probe(model), errors)
    print(json.dumps({"measured": measured, "selection": images.selection.describe(), "load_seconds": loading},
                     indent=2))
    options.card.write_text(card_of(path, loading))


def card_of(path: Path, loading: float | None = None) -> str:
    """The model card of a packaged network, as `model_card`. path: of its JSON file."""
    tree, arrays = packaged.read_arrays(path)
    hashes = sum(array.nbytes for name, array in arrays.items() if name.startswith(packaged.SEEN))
    return model_card(tree, hashes, loading)


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
    record = _training_record(saved, options)
    with TemporaryDirectory() as folder:  # the size decides, where no option does
        kind = packaged.read_packaged_json(write_packaged(
            saved, Path(folder), options.name, record, packaged.LICENSE, storage=options.storage))["storage"]
    calibrated = _calibrated(_stored(saved, kind), images)
    final = replace(saved, calibration=calibrated.calibration, seen=calibrated.seen)
    final.errors = _errors(replace(final, weights=calibrated.weights), images).to_json()
    for old in filter(packaged.is_packaged_json, options.folder.glob("*.json")):
        old.unlink()
        old.with_suffix(".safetensors").unlink()
    path = write_packaged(final, options.folder, options.name, record, packaged.LICENSE, storage=kind)
    tree = packaged.read_packaged_json(path)
    print(f"{path}: {tree['storage']}, {tree['bytes']:,} bytes, {tree['parameters']:,} parameters", file=sys.stderr)
    if not tree["look_alikes_recognized"]:
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
    """The checkpoint with the temperatures of one view and of ten that one half of the images gives."""
    logits_NK = calibration.compute_logits(model_from_checkpoint(replace(saved, calibration={})), images.images)
    hashes_N = images.images.content_hashes
    found = calibration.calibrate(logits_NK, images.label_map[images.images.labels].numpy(), hashes_N)
    _require_help(found, "one view")
    ten_views = _of_ten_views(saved, images, found.temperature)
    fitted = distinct_hashes(saved.seen.selected_on, hashes_N[calibration.fitting_half(hashes_N)])
    return replace(saved, calibration={**found.stored(), "ten_views": ten_views},
                   seen=replace(saved.seen, selected_on=fitted))


def _of_ten_views(saved: Checkpoint, images: EvaluationSet, one_view: float) -> TemperatureJson:
    """The temperature of ten views that one half of the images gives. one_view: that of one view."""
    logits_NVK = calibration.compute_ten_view_logits(
        model_from_checkpoint(replace(saved, calibration={})), images.images)
    found = calibration.calibrate_ten_views(logits_NVK, images.label_map[images.images.labels].numpy(), one_view,
                                            images.images.content_hashes)
    _require_help(found, "ten views")
    return found.stored()


def _require_help(found: calibration.Calibration, views: str) -> None:
    """Print what a temperature changes. Raises UserError if that may be chance."""
    print(f"{views}: temperature {found.temperature:.3f}: ECE {found.before.ece:.2%} -> {found.after.ece:.2%} on "
          f"{found.measured_images:,} other images; a calibrated network's would be {found.after.calibrated_ece:.2%}",
          file=sys.stderr)
    if not found.helps:
        raise UserError(f"no temperature of {views} lowers the loss of the other half by more than chance",
                        "the network may be calibrated already; look at it with alexnet calibrate")


def calibrate(path: Path, data: Path) -> None:
    """Fit the temperature of ten views of a packaged network, on the images that fitted that of one view.

    Args:
        path: of its JSON file, which is written; the file of the tensors is not.
        data: with the validation images that the file names as those that fitted.

    Raises:
        UserError: the data has other images.
    """
    saved = read_packaged(path)
    images = open_evaluation_set([model_from_checkpoint(saved)], data)
    hashes_N = images.images.content_hashes
    require(np.array_equal(np.unique(hashes_N[calibration.fitting_half(hashes_N)]), saved.seen.selected_on),
            f"{data} has other validation images than those that fitted the temperature of {path.stem}",
            "name the data that it was made with")
    ten_views = _of_ten_views(saved, images, saved.calibration["temperature"])
    replace_calibration(path, {**saved.calibration, "ten_views": ten_views})


def _training_record(saved: Checkpoint, options: Any) -> TrainingRecord:
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


def measure_split(model: Model, images: EvaluationSet, name: str, views: int) -> list[Measured]:
    """Errors on all images, with the ECE on those that fitted no temperature; and on those unlike training images."""
    outputs_NK, errors = _outputs(model, images, views)
    labels_N = images.label_map[images.images.labels].numpy()
    others_N = ~calibration.fitting_half(images.images.content_hashes)
    measured = _measured(name, errors, views, outputs_NK, labels_N)
    measured["ece"] = calibration.expected_calibration_error(
        outputs_NK[others_N].max(1), outputs_NK[others_N].argmax(1) == labels_N[others_N])
    measured["ece_images"] = int(others_N.sum())
    measured["look_alikes"] = images.selection.looks_trained_on
    return [measured, _measured_unlike(name, images, views, outputs_NK)] if images.selection.looks_trained_on else [
        measured]


def measure_samples(model: Model, wnids: Sequence[str], archive: Path, views: int) -> Measured:
    """Errors on the full-size photographs whose class the network knows, without those that look like training images.

    Tiny ImageNet is made of the same photographs, so among the samples some are training images.
    """
    with TemporaryDirectory() as folder:
        for name, data in _photos(archive):
            if name[:9] in wnids:
                place = Path(folder) / model.classes[wnids.index(name[:9])] / name
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(data)
        images = open_evaluation_set([model], folder, note=silent)
        outputs_NK, _ = _outputs(model, images, views)
    return _measured_unlike("full-size ImageNet photographs of classes that it knows", images, views, outputs_NK)


def _measured_unlike(name: str, images: EvaluationSet, views: int, outputs_NK: NDArray[np.float64]) -> Measured:
    """Errors on the images that do not look like training images."""
    unlike_N = ~images.selection.looks_trained_on_M
    outputs_NK, labels_N = outputs_NK[unlike_N], images.label_map[images.images.labels[unlike_N]].numpy()
    errors = count_errors(torch.from_numpy(outputs_NK), torch.from_numpy(labels_N))
    measured = _measured(f"{name}, without look-alikes of training images", errors, views, outputs_NK, labels_N)
    measured["left_out"] = images.selection.looks_trained_on
    return measured


def _photos(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each JPEG of a tar archive."""
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file and member.name.lower().endswith((".jpeg", ".jpg")):
                yield Path(member.name).name, file.read()


def _measured(
    name: str, errors: Errors, views: int, outputs_NK: NDArray[np.float64], labels_N: NDArray[np.int64],
) -> Measured:
    sure_N = outputs_NK.max(1) >= SURE_FROM
    wrong_N = outputs_NK.argmax(1) != labels_N
    return {
        "data": name, "images": errors.images, "views": views, "loss": errors.loss,
        "top1_error": errors.top1_error, "top1_interval": list(wilson(errors.top1_wrong, errors.images)),
        "top5_error": errors.top5_error, "top5_interval": list(wilson(errors.top5_wrong, errors.images)),
        "sure_images": int(sure_N.sum()), "sure_error": float(wrong_N[sure_N].mean()) if sure_N.any() else 0.0}


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
