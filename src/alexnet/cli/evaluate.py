"""The `evaluate` and `predict` commands: errors of checkpoints on a data set, and classes of images."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from cyclopts import Group, Parameter

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import limit_openmp_spinning
from alexnet._runtime.notes import is_rank0, say
from alexnet.cli.app import (
    HTML_FILE,
    TRAIN_AND_EVALUATE,
    Classes,
    Device,
    Fast,
    ForwardSize,
    Json,
    Labels,
    Split,
    app,
    at_least_1,
    check_output,
    class_names,
)
from alexnet.errors import require

if TYPE_CHECKING:
    from alexnet.api import Evaluation
    from alexnet.inference.predictor import Model
    from alexnet.inference.validation import ValidationPredictions

Views = Annotated[Literal["1", "10"], Parameter(help="1: the center crop. 10: the average over four corners and the "
                  "center, and their mirror images (paper, section 4.1).")]


@Parameter(name="*", group=Group("Details", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class DetailOptions:
    """What `evaluate` says about each class and each image. One process only."""

    per_class: bool = False
    """Print precision, recall and F1 of each class with 95% intervals, balanced accuracy, macro F1 and macro AUC."""
    csv: Path | None = None
    """Write a CSV file with a line for each image: name, true class, predicted class, probabilities, correct or not."""
    html: Path | None = None
    """Write an offline page that shows every mistake, grouped by true and predicted class."""

    @property
    def any(self) -> bool:
        return bool(self.per_class or self.csv or self.html)

    def check(self) -> None:
        """Raise UserError for a file that cannot be written."""
        if self.csv:
            check_output(self.csv, (".csv",))
        if self.html:
            check_output(self.html, HTML_FILE)


@app.command(group=TRAIN_AND_EVALUATE, sort_key=2)
def evaluate(
    *paths: Annotated[str, Parameter(name="CHECKPOINT... DATA")], labels: Labels = None, views: Views = "1",
    split: Split = None, include_trained: bool = False, batch_size: ForwardSize = 128, device: Device = "auto",
    fast: Fast = False, classes: Classes = None, json_: Json = False, details: DetailOptions | None = None,
) -> None:
    """Measure the top-1 and top-5 error of a checkpoint on a data set, or of several checkpoints as an ensemble.

    Under torchrun each process evaluates its part of the images.

    Args:
        paths: One or more checkpoints or run folders, then the data: a folder or archive of images, a packed folder or
            its URL, or a name such as cifar10.
        include_trained: Measure the images that a network was trained on as well. By default they are left out,
            recognized by their content.
    """
    details = details or DetailOptions()
    at_least_1(batch_size=batch_size)
    details.check()
    set_allocator()
    limit_openmp_spinning()

    from alexnet import api

    require(len(paths) >= 2, "evaluate takes at least one checkpoint and then the data",
            "alexnet evaluate runs/demo DATA")
    *checkpoints, data = paths
    evaluation = api.evaluate_models(
        checkpoints, data, labels=labels, views=int(views), split=split, include_trained=include_trained,
        batch_size=batch_size, device=device, fast=fast, progress=True, collect=details.any,
        classes=class_names(classes))
    if is_rank0():
        names = [str(model.path or path) for model, path in zip(evaluation.models, checkpoints, strict=True)]
        _report(evaluation, names, int(views), details, json_)


def _report(evaluation: Evaluation, names: Sequence[str], views: int, details: DetailOptions, json_: bool) -> None:
    """Print the result, and write the files of `details`."""
    from rich.console import Console

    from alexnet.cli.render_metrics import baselines_text, errors_text, per_class_table
    from alexnet.inference.class_metrics import baselines, per_class_metrics

    errors, measured, predictions = evaluation.errors, evaluation.measured, evaluation.predictions
    classes = evaluation.models[0].classes
    temperatures = [model.network.temperature for model in evaluation.models]
    guessing = baselines(measured.label_map[measured.images.labels].numpy(), classes)
    per_class = per_class_metrics(predictions.labels_M, predictions.probabilities_MK, predictions.classes) if (
        predictions and details.per_class) else None
    if json_:
        print(json.dumps(errors.to_json() | {
            "views": views, "networks": len(names), "measured": measured.selection.to_json(),
            "temperatures": temperatures, "baselines": asdict(guessing),
            **({"per_class": per_class.to_json()} if per_class else {})}, indent=2))
    else:
        print(f"{', '.join(names)}: {errors_text(errors, views=views, networks=len(names), classes=len(classes))}")
        print(baselines_text(guessing))
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
        yield f"{details.csv}: {len(names):,} images" + (
            f"; {len(changed):,} names are not UTF-8, and have \\x and two digits for each such byte, as in "
            f"{valid_utf8(changed[0])}" if changed else "")
    if details.html:
        from alexnet.reproduce.pages.mistakes import write_mistakes_page

        shown, wrong = write_mistakes_page(details.html, predictions, title=title), len(predictions.mistakes)
        yield f"{details.html}: {shown:,} of {wrong:,} mistakes" + (
            f"; the {wrong - shown:,} least confident ones are left out" if shown < wrong else "")


def _write_image_csv(path: Path, predictions: ValidationPredictions) -> None:
    """A line for each image. `probability` is that of the predicted class, `true_probability` that of the true one.

    `looks_trained_on` is 1 for an image that looks like a training image, but is no copy of one, byte for byte.
    """
    from alexnet.data.class_names import valid_utf8

    rows = zip(predictions.indices_M.tolist(), predictions.labels_M.tolist(), predictions.predicted_M.tolist(),
               predictions.probabilities_MK, strict=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "true", "predicted", "probability", "true_probability", "correct",
                         "looks_trained_on"])
        writer.writerows(
            [valid_utf8(predictions.split.names[index]), predictions.classes[label], predictions.classes[predicted],
             f"{row_K[predicted]:.6f}", f"{row_K[label]:.6f}", int(label == predicted),
             int(predictions.selection.looks_trained_on_M[index])]
            for index, label, predicted, row_K in rows)


class PredictedClass(TypedDict):
    name: str
    probability: float


class PredictedImage(TypedDict):
    """One entry of `predict --json`."""

    image: str
    classes: list[PredictedClass]


@app.command(group=TRAIN_AND_EVALUATE, sort_key=3)
def predict(
    checkpoint: Path, /, *images: str, top: int = 5, views: Views = "1", device: Device = "auto", fast: Fast = False,
    classes: Classes = None, allow_private: bool = False, json_: Json = False,
    csv_: Annotated[bool, Parameter(name="--csv", help="Print CSV.")] = False,
) -> None:
    """Predict the classes of images.

    Args:
        checkpoint: A checkpoint or a run folder.
        images: Files, folders of files, or http and https URLs.
        top: Classes to print for each image, the most likely first.
        allow_private: Follow a URL's redirect into a private network too.
    """
    limit_openmp_spinning()

    from alexnet._runtime.devices import choose_device
    from alexnet.inference.predictor import load

    require(bool(images), "predict takes a checkpoint and then images", "alexnet predict runs/demo IMAGE...")
    tables = [image for image in images if csv_ and image.lower().endswith(".csv")]
    require(not tables, "predict --csv prints the table, and takes no file", f"write > {''.join(tables[:1])} after it")
    require(not (json_ and csv_), "--json and --csv are two output formats", "give only one of them")
    model = load(checkpoint, choose_device(device), fast, class_names(classes))
    for note in model.notes:
        say(f"note: {note}")
    unreadable: list[str] = []
    rows = list(_predictions(model, images, top, int(views), allow_private, unreadable))
    if json_:
        print(json.dumps(rows, indent=2))
    elif csv_:
        _print_csv(rows)
    else:
        for row in rows:
            print(row["image"])
            for guess in row["classes"]:
                print(f"  {guess['probability']:6.1%}  {'█' * round(24 * guess['probability']):<24}  {guess['name']}")
    if unreadable:
        sys.exit(2)


def _predictions(
    model: Model, images: Sequence[str], top: int, views: int, allow_private: bool, unreadable: list[str],
) -> Iterator[PredictedImage]:
    """One row for each readable image. The others are reported on standard error and added to `unreadable`."""
    from alexnet.data.image_tree import list_image_files
    from alexnet.data.images import BadImage
    from alexnet.data.remarks import Kind, add_remarks, remark_findings
    from alexnet.data.url_images import fetch_image, is_url
    from alexnet.inference.predictor import BATCH_SIZE

    def files(image: str) -> list[str]:
        listed = list_image_files([image])
        for note in listed.notes:
            say(f"note: {note}")
        return list(map(str, listed.paths))

    paths = iter([path for image in images for path in ([image] if is_url(image) else files(image))])
    known: dict[str, set[Kind]] = {}
    while batch := list(islice(paths, BATCH_SIZE)):
        names, pixels = [], []
        for path in batch:
            try:
                content = fetch_image(path, allow_private) if is_url(path) else path
                pixels.append(model.pixels(content, name=path, remarks=known.setdefault(path, set())))
                names.append(path)
            except BadImage as error:
                unreadable.append(path)
                say(f"alexnet: {error}")
        for name, guesses in zip(names, model.predict(pixels, top=top, views=views), strict=True):
            yield {"image": name,
                   "classes": [{"name": guess.name, "probability": guess.probability} for guess in guesses]}
    for finding in remark_findings({"": add_remarks((), known.items())}):
        say(f"note: {finding}")


def _print_csv(rows: Sequence[PredictedImage]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(["image", "rank", "class", "probability"])
    writer.writerows([row["image"], rank, guess["name"], f"{guess['probability']:.6f}"]
                     for row in rows for rank, guess in enumerate(row["classes"], 1))
