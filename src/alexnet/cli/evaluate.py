"""The `evaluate` command: errors of checkpoints on a data set, in all, of each class and of each image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import set_openmp_defaults
from alexnet._runtime.notes import is_rank0, say
from alexnet.cli.app import (
    HTML_FILE,
    TRAIN_AND_EVALUATE,
    Classes,
    Device,
    Fast,
    ForwardSize,
    Groups,
    Json,
    Labels,
    Overwrite,
    Split,
    app,
    at_least_1,
    check_output,
    class_names,
)
from alexnet.cli.default_checkpoint import default_checkpoint, means_run
from alexnet.errors import plural, require

if TYPE_CHECKING:
    from alexnet.api.measurement import Evaluation
    from alexnet.inference.validation import ValidationPredictions

Views = Annotated[Literal["1", "10"], Parameter(help="1: the center crop. 10: the average over four corners and the "
                  "center, and their mirror images (paper, section 4.1).")]


@Parameter(name="*", group=Group("Details", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class DetailOptions:
    """What `evaluate` says about each class and each image."""

    per_class: bool = False
    """Print precision, recall and F1 of each class with 95% intervals, balanced accuracy, macro F1 and macro AUC."""
    csv: Path | None = None
    """Write a CSV file with a row for each image: true and predicted class, probabilities, and, as 1 or 0, whether they
    are the same and whether the image looks like a training image."""
    html: Path | None = None
    """Write an offline page that shows every mistake, grouped by true and predicted class."""
    overwrite: Overwrite = False

    @property
    def any(self) -> bool:
        return bool(self.per_class or self.csv or self.html)

    def check(self) -> None:
        """Raise UserError for a file that exists or cannot be written."""
        if self.csv:
            check_output(self.csv, (".csv",), overwrite=self.overwrite)
        if self.html:
            check_output(self.html, HTML_FILE, overwrite=self.overwrite)


@app.command(group=TRAIN_AND_EVALUATE, sort_key=2)
def evaluate(
    *paths: Annotated[str, Parameter(name="[CHECKPOINT]... DATA")], labels: Labels = None, group: Groups = None,
    views: Views = "1", split: Split = None, include_trained: bool = False, exclude_look_alikes: bool = False,
    batch_size: ForwardSize = 128, device: Device = "auto", fast: Fast = False, classes: Classes = None,
    json_: Json = False, details: DetailOptions | None = None,
) -> None:
    """Measure the top-1 and top-5 error of a checkpoint on a data set, or of several checkpoints as an ensemble.

    Under torchrun each process evaluates its part of the images, and rank 0 prints and writes the files.

    Args:
        paths: Checkpoints, run folders or names that `alexnet list weights` shows, then the data: a folder or archive
            of images, a packed folder or its URL, or a name such as cifar10. Without a checkpoint: the pretrained
            network of the package.
        include_trained: Measure the images that a network was trained on as well. By default they are left out,
            recognized by their content.
        exclude_look_alikes: Leave out also the images that look like a training image: saved again, resized, mirrored.
            They are recognized by a perceptual hash, and their error is printed beside that of the others.
    """
    details = details or DetailOptions()
    at_least_1(batch_size=batch_size)
    details.check()
    set_allocator()
    set_openmp_defaults()

    from alexnet.api.evaluation import evaluate_models
    from alexnet.models.packaged import packaged_path, shown_name

    usage = "evaluate needs checkpoints and then the data", "write: alexnet evaluate runs/demo DATA"
    require(bool(paths), *usage)
    *checkpoints, data = paths
    require(bool(checkpoints) or not means_run(data), *usage)
    checkpoints = checkpoints or [default_checkpoint()]
    evaluation = evaluate_models(
        checkpoints, data, labels=labels, group=group, views=int(views), split=split, include_trained=include_trained,
        exclude_look_alikes=exclude_look_alikes, batch_size=batch_size, device=device, fast=fast, progress=True,
        collect=details.any, classes=class_names(classes))
    if is_rank0():
        names = [str(model.path or shown_name(packaged_path(str(path)) or path))
                 for model, path in zip(evaluation.models, checkpoints, strict=True)]
        _report(evaluation, names, details, json_)


def _report(evaluation: Evaluation, names: Sequence[str], details: DetailOptions, json_: bool) -> None:
    """Print the result, and write the files of `details`."""
    from rich.console import Console

    from alexnet.cli.render_metrics import (
        baselines_text,
        errors_text,
        look_alikes_text,
        per_class_table,
        unmeasured_text,
    )
    from alexnet.inference.class_metrics import baselines, classes_without_images, per_class_metrics

    errors, measured, predictions = evaluation.errors, evaluation.measured, evaluation.predictions
    alike, views = evaluation.look_alike_errors, evaluation.views
    classes = evaluation.models[0].classes
    temperatures = [model.temperature(views) for model in evaluation.models]
    guessing = baselines(measured.labels_N, classes)
    per_class = per_class_metrics(predictions.labels_M, predictions.probabilities_MK, predictions.classes,
                                  predictions.groups_M) if (predictions and details.per_class) else None
    if json_:
        from alexnet.api.measurement import measurement_of

        measurement = measurement_of(evaluation)
        for model, name in zip(measurement["models"], names, strict=True):
            model["checkpoint"] = name
        print(json.dumps(errors.to_json() | {
            **measurement, **({"per_class": per_class.to_json()} if per_class else {})}, indent=2))
    else:
        print(f"{', '.join(names)}: {errors_text(errors, views=views, networks=len(names), classes=len(classes))}")
        if measured.look_alikes is not None:
            print(look_alikes_text(errors, alike))
        print(baselines_text(guessing))
        if unmeasured := unmeasured_text(classes_without_images(measured.labels_N, classes), len(classes)):
            print(unmeasured)
        print(measured.selection.describe())
        if any(temperature != 1.0 for temperature in temperatures):
            print("calibrated: " + ", ".join(f"{name} (temperature {temperature:.3f})" for name, temperature in zip(
                names, temperatures, strict=True) if temperature != 1.0))
        if per_class:
            print()
            Console(highlight=False).print(per_class_table(per_class))
    if predictions:
        for line in _write_details(predictions, details, f"{', '.join(names)} on {measured.packed.source}"):
            say(line)


def _write_details(predictions: ValidationPredictions, details: DetailOptions, title: str) -> Iterator[str]:
    """Write the CSV file and the page, and yield a line about each."""
    if details.csv:
        from alexnet._runtime.atomic_files import replace_file
        from alexnet.data.class_names import valid_utf8

        details.csv.parent.mkdir(parents=True, exist_ok=True)
        replace_file(details.csv, lambda path: _write_image_csv(path, predictions))
        names = [predictions.split.names[index] for index in predictions.indices_M]
        changed = [name for name in names if valid_utf8(name) != name]
        yield f"{details.csv}: {plural(len(names), 'image')}" + (
            f"; {len(changed):,} names are not UTF-8, and have \\x and two digits for each such byte, as in "
            f"{valid_utf8(changed[0])}" if changed else "")
    if details.html:
        from alexnet.reproduce.pages.mistakes import write_mistakes_page

        shown, wrong = write_mistakes_page(details.html, predictions, title=title), len(predictions.mistakes)
        yield f"{details.html}: {shown:,} of {wrong:,} mistakes" + (
            f"; the {wrong - shown:,} least confident ones are left out" if shown < wrong else "")


def _write_image_csv(path: Path, predictions: ValidationPredictions) -> None:
    """A row for each image. `probability` is that of the predicted class, `true_probability` that of the true one.

    `looks_trained_on` is 1 for an image that looks like a training image, but is no copy of one, byte for byte.
    """
    from alexnet._runtime.csv_cells import csv_row
    from alexnet.data.class_names import valid_utf8

    rows = zip(predictions.indices_M.tolist(), predictions.labels_M.tolist(), predictions.predicted_M.tolist(),
               predictions.probabilities_MK, strict=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(csv_row(["image", "true", "predicted", "probability", "true_probability", "correct",
                            "looks_trained_on"]))
        file.writelines(
            csv_row([valid_utf8(predictions.split.names[index]), predictions.classes[label],
                     predictions.classes[predicted], f"{row_K[predicted]:.6f}", f"{row_K[label]:.6f}",
                     int(label == predicted), int(predictions.selection.looks_trained_on_M[index])])
            for index, label, predicted, row_K in rows)
