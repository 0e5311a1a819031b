"""The `evaluate` and `predict` commands: errors of checkpoints on a data set, and classes of images."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from cyclopts import Parameter

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import limit_openmp_spinning
from alexnet._runtime.notes import is_rank0, say
from alexnet.cli.app import TRAIN_AND_EVALUATE, Classes, Device, Fast, Json, app, at_least_1
from alexnet.errors import require

if TYPE_CHECKING:
    from alexnet.inference.predictor import Model

Views = Annotated[Literal["1", "10"], Parameter(help="1: the center crop. 10: the average over four corners and the "
                  "center, and their mirror images (paper, section 4.1).")]


@app.command(group=TRAIN_AND_EVALUATE, sort_key=2)
def evaluate(
    *paths: Annotated[str, Parameter(name="CHECKPOINT... DATA")], views: Views = "1", split: str | None = None,
    batch_size: int = 128, device: Device = "auto", fast: Fast = False, json_: Json = False,
) -> None:
    """Measure the top-1 and top-5 error of a checkpoint on a data set, or of several checkpoints as an ensemble.

    Under torchrun each process evaluates its part of the images.

    Args:
        paths: One or more checkpoints or run folders, then the data: class folders, a packed folder or its URL, or a
            name such as cifar10.
        split: Default: val. A folder without a split that the network was not trained on is evaluated whole.
        batch_size: Images that go through the network at a time. It does not change the result.
    """
    at_least_1(batch_size=batch_size)
    set_allocator()
    limit_openmp_spinning()

    from alexnet import api

    require(len(paths) >= 2, "evaluate takes at least one checkpoint and then the data",
            "alexnet evaluate runs/demo DATA")
    *checkpoints, data = paths
    errors, models = api.evaluate_models(checkpoints, data, views=int(views), split=split, batch_size=batch_size,
                                         device=device, fast=fast, progress=True)
    if not is_rank0():
        return
    if json_:
        print(json.dumps(errors.to_json() | {"views": int(views), "networks": len(models)}, indent=2))
    else:
        names = ", ".join(str(model.path or path) for model, path in zip(models, checkpoints, strict=True))
        print(f"{names}: {errors.describe(views=int(views), networks=len(models), classes=len(models[0].classes))}")


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
    from alexnet.data.class_names import read_class_names
    from alexnet.inference.predictor import load

    require(bool(images), "predict takes a checkpoint and then images", "alexnet predict runs/demo IMAGE...")
    require(not (json_ and csv_), "--json and --csv are two output formats", "give only one of them")
    model = load(checkpoint, choose_device(device), fast, read_class_names(classes) if classes else None)
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
    from alexnet.data.images import BadImage
    from alexnet.data.url_images import fetch_image, is_url
    from alexnet.inference.predictor import BATCH_SIZE, list_image_files

    paths = iter([path for image in images
                  for path in ([image] if is_url(image) else map(str, list_image_files([image])))])
    while batch := list(islice(paths, BATCH_SIZE)):
        names, pixels = [], []
        for path in batch:
            try:
                pixels.append(model.pixels(fetch_image(path, allow_private) if is_url(path) else path, name=path))
                names.append(path)
            except BadImage as error:
                unreadable.append(path)
                say(f"alexnet: {error}")
        for name, guesses in zip(names, model.predict(pixels, top=top, views=views), strict=True):
            yield {"image": name,
                   "classes": [{"name": guess.name, "probability": guess.probability} for guess in guesses]}


def _print_csv(rows: Sequence[PredictedImage]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(["image", "rank", "class", "probability"])
    writer.writerows([row["image"], rank, guess["name"], f"{guess['probability']:.6f}"]
                     for row in rows for rank, guess in enumerate(row["classes"], 1))
