"""The `predict` command: the likeliest classes of images, and whether the network is sure of them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

from cyclopts import Parameter

from alexnet._runtime.cpu_threads import set_openmp_defaults
from alexnet._runtime.csv_cells import csv_row
from alexnet._runtime.notes import say
from alexnet.cli.app import TRAIN_AND_EVALUATE, Classes, Device, Fast, Json, Sure, app, class_names
from alexnet.cli.default_checkpoint import split_images
from alexnet.cli.evaluate import Views
from alexnet.cli.image_arguments import list_images
from alexnet.errors import require
from alexnet.inference.confidence import (
    always_sure_note,
    below_text,
    require_threshold,
    several_views_note,
    threshold_of,
)

if TYPE_CHECKING:
    from alexnet._runtime.ranks import Ranks
    from alexnet.data.remarks import Kind
    from alexnet.inference.classifier import Classifier


class PredictedClass(TypedDict):
    name: str
    probability: float


class PredictedImage(TypedDict):
    """One entry of `predict --json`."""

    image: str
    classes: list[PredictedClass]
    sure: bool | None
    """`Classifier.is_sure`; null if the network is not calibrated and no --sure was given."""
    trained_on: bool | None
    """Whether the network was trained on a copy of the file; null if its training images are not recorded."""


@app.command(group=TRAIN_AND_EVALUATE, sort_key=3)
def predict(
    *paths: Annotated[str, Parameter(name="[CHECKPOINT] IMAGE...")], top: int = 5, sure: Sure = None,
    only_unsure: bool = False, views: Views = "1", device: Device = "auto", fast: Fast = False, classes: Classes = None,
    allow_private: bool = False, json_: Json = False,
    csv_: Annotated[bool, Parameter(name="--csv", help="Print CSV: a row for each class of each image, so with --top 1 "
                                    "one row an image; columns image, rank, class, probability, and, as 1 or 0, sure "
                                    "and trained_on.")]
    = False,
) -> None:
    """Predict the classes of images.

    For a calibrated network such as the pretrained one, "not sure" means that the likeliest class has less than 50%: it
    is then wrong more often than right. --sure sets another threshold. With two classes the likeliest always has 50% or
    more, so only --sure marks any. An image of a class that the network does not know gets another class's name. Under
    torchrun the processes share the images, which every host must have under the same names; rank 0 prints.

    NumPy predicts up to about 200 images of 64 pixels, or 70 of 224, on the CPU, because importing torch takes longer
    than that; onnxruntime runs ONNX files. The probabilities are the same to 0.0001. --views 10, --fast, --classes and
    --device cuda or mps use torch.

    Args:
        paths: A checkpoint, a run folder or a name that `alexnet list weights` shows, then files, folders of files, or
            http and https URLs. Without a checkpoint: the pretrained network of the package.
        top: Classes to print for each image, the most likely first.
        only_unsure: Print only the images that are "not sure", which are the ones to look at, with --csv and --json
            too. Refused for a network that is not calibrated, unless --sure sets a threshold.
        allow_private: Follow a URL's redirect to private IP addresses too.
    """
    set_openmp_defaults()

    from alexnet.models.packaged import shown_name

    tables = [path for path in paths if csv_ and path.lower().endswith(".csv")]
    require(not tables, "predict --csv prints the table, and takes no file", f"write > {''.join(tables[:1])} after it")
    require(not (json_ and csv_), "--json and --csv are two output formats", "give only one of them")
    require_threshold(sure)
    checkpoint, images = split_images("predict", paths)
    with _job(checkpoint, images, top, views, device, fast, classes) as (model, files, ranks):
        views_note = several_views_note(model.is_calibrated, int(views), model.has_ten_view_temperature)
        for note in filter(None, (*model.notes, views_note)):
            say(f"note: {note}")
        if only_unsure:
            _require_marks(model, sure, shown_name(checkpoint))
        rows, unreadable = _predict_files(model, files, top, int(views), sure, allow_private, ranks)
    if ranks.rank > 0:
        return
    shown = [row for row in rows if row["sure"] is False] if only_unsure else rows
    if json_:
        print(json.dumps(shown, indent=2))
    else:
        (_print_csv if csv_ else _print_bars)(shown)
    if not_sure := sum(row["sure"] is False for row in rows):
        say(f"note: {_not_sure_text(not_sure, len(rows), model, sure, shown_name(checkpoint))}")
    elif note := always_sure_note(len(model.classes), model.is_calibrated, sure):
        say(f"note: {note}")
    elif only_unsure and rows:
        of_all = f"all {len(rows):,} images" if len(rows) > 1 else "this image"
        say(f"note: the network is sure of {of_all}, so --only-unsure has none to print")
    if trained_on := sum(row["trained_on"] is True for row in rows):
        say(f"note: {_trained_on_text(trained_on, len(rows), shown_name(checkpoint))}")
    if unreadable:
        sys.exit(2)


def _require_marks(model: Classifier, sure: float | None, weights: str) -> None:
    """Raise UserError for --only-unsure with a network that marks no image as not sure."""
    require(threshold_of(model.is_calibrated, sure) is not None,
            f"{weights} is not calibrated, so --only-unsure has no threshold",
            "calibrate it with alexnet calibrate RUN DATA, or set a threshold such as --sure 0.8")


@contextmanager
def _job(
    checkpoint: str, images: Sequence[str], top: int, views: Views, device: str, fast: bool, classes: Path | None,
) -> Iterator[tuple[Classifier, list[str], Ranks]]:
    """The network, the files, and the processes that share them; without torch where that is faster."""
    files = None
    if device in ("auto", "cpu") and views == "1" and not fast and classes is None and "RANK" not in os.environ:
        from alexnet._runtime.ranks import OneProcess
        from alexnet.inference.quick_start import load_quickly

        if quick := load_quickly(checkpoint):
            files = _files(images)
            if len(files) <= quick.most_images:
                yield quick, files, OneProcess()
                return

    from alexnet._runtime.devices import choose_device
    from alexnet.inference.predictor import load_model
    from alexnet.training.parallel.shared_job import require_same_job, shared_job

    with shared_job(choose_device(device)) as processes:
        model = processes.local_rank0_first(
            lambda: load_model(checkpoint, str(processes.device), fast, class_names(classes)))
        files = processes.from_rank0(lambda: _files(images)) if files is None else files
        require_same_job(processes, [model], {"--top, --views or --fast": [top, views, fast]})
        yield model, files, processes


def _files(images: Sequence[str]) -> list[str]:
    """The URLs and image files that the arguments mean."""
    from alexnet.data.url_images import is_url

    return [file for image in images for file in ([image] if is_url(image) else map(str, list_images([image])))]


@dataclass
class _Predicted:
    """What became of one batch of files."""

    rows: list[PredictedImage] = field(default_factory=list)
    """One for each readable image."""
    problems: list[str] = field(default_factory=list)
    """A sentence for each of the others."""
    remarks: dict[str, set[Kind]] = field(default_factory=dict)
    """What a user should know of each file (data/remarks.py)."""


def _predict_files(
    model: Classifier, files: Sequence[str], top: int, views: int, sure: float | None, allow_private: bool,
    ranks: Ranks,
) -> tuple[list[PredictedImage], int]:
    """The rows of all readable images, and how many are not readable: these are reported on standard error.

    Ranks share whole batches, so that each image is predicted beside the same others as in one process.
    """
    from alexnet.data.remarks import add_remarks, remark_findings
    from alexnet.inference.classifier import BATCH_SIZE

    batches = [files[begin : begin + BATCH_SIZE] for begin in range(0, len(files), BATCH_SIZE)]
    own = (_predict_batch(model, batch, top, views, sure, allow_private) for batch in batches[ranks.rank :: ranks.size])
    rows: list[PredictedImage] = []
    remarks: dict[str, set[Kind]] = {}
    unreadable = 0
    for predicted in ranks.in_order(own, len(batches)):
        for problem in predicted.problems:
            say(f"alexnet: {problem}")
        rows += predicted.rows
        unreadable += len(predicted.problems)
        remarks |= predicted.remarks
    for finding in remark_findings({"": add_remarks((), remarks.items())}):
        say(f"note: {finding}")
    return rows, unreadable


def _predict_batch(
    model: Classifier, files: Sequence[str], top: int, views: int, sure: float | None, allow_private: bool,
) -> _Predicted:
    from alexnet.data.content import content_hash
    from alexnet.data.images import BadImage
    from alexnet.data.url_images import fetch_image, is_url
    from alexnet.inference.classifier import read_content

    predicted, images, pixels = _Predicted(), list[tuple[str, bool | None]](), []
    for file in files:
        try:
            content = fetch_image(file, allow_private) if is_url(file) else read_content(file)
            pixels.append(model.pixels(content, name=file, remarks=predicted.remarks.setdefault(file, set())))
            images.append((file, model.seen.has_trained_on(content_hash(content))))
        except BadImage as error:
            predicted.problems.append(str(error))
    for (name, trained_on), guesses in zip(images, model.predict(pixels, top=top, views=views), strict=True):
        predicted.rows.append({
            "image": name, "sure": model.is_sure(guesses[0].probability, sure), "trained_on": trained_on,
            "classes": [{"name": guess.name, "probability": guess.probability} for guess in guesses]})
    return predicted


def _print_bars(rows: Sequence[PredictedImage]) -> None:
    from alexnet.inference.classifier import probability_text

    for row in rows:
        print(row["image"])
        if row["sure"] is False:
            print("  not sure:")
        for guess in row["classes"]:
            bar = "█" * round(24 * guess["probability"])
            print(f"  {probability_text(guess['probability'], tenths=True):>6}  {bar:<24}  {guess['name']}")


def _not_sure_text(not_sure: int, images: int, model: Classifier, sure: float | None, weights: str) -> str:
    of_all = f"of {not_sure} of {images:,} images" if images > 1 else "of this image"
    return (f"the network is not sure {of_all}: {below_text(model.is_calibrated, sure)}. It knows "
            f"{len(model.classes):,} classes; alexnet list weights {weights} lists them")


def _trained_on_text(trained_on: int, images: int, weights: str) -> str:
    which = ("this image" if images == 1 else f"all {images:,} images" if trained_on == images else
             f"{trained_on:,} of the {images:,} images (trained_on in --json and --csv)")
    return (f"{weights} was trained on {which}, so a right answer there says nothing about new images; alexnet "
            "evaluate measures the error on those")


def _csv_flag(value: bool | None) -> int | None:
    """1 or 0, which programs read as a number and a spreadsheet adds up; None, an empty cell, where it is unknown."""
    return None if value is None else int(value)


def _print_csv(rows: Sequence[PredictedImage]) -> None:
    sys.stdout.write(csv_row(["image", "rank", "class", "probability", "sure", "trained_on"]))
    sys.stdout.writelines(
        csv_row([row["image"], rank, guess["name"], f"{guess['probability']:.6f}", _csv_flag(row["sure"]),
                 _csv_flag(row["trained_on"])])
        for row in rows for rank, guess in enumerate(row["classes"], 1))
