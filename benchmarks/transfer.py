"""What pretrained weights are worth on few images of other classes: fine-tuning in three ways, and none at all.

    python benchmarks/transfer.py FOLDER... --init NAME_OR_CHECKPOINT [--known WNIDS.txt] [--per-class 20] [--seeds 3]
        [--test-per-class 100] [--epochs 120] [--way WAY]... [--json FILE] [--device cuda]

FOLDER is what `alexnet train` takes and has training images and a validation or test split, such as Imagenette or
CIFAR-10. Its images are stored at the side of the pretrained network, so those of CIFAR-10 are enlarged. Folders
named by the WordNet ids of classes that the weights know are left out: those of the file `--known`, one id a line, by
default those of the weights' class names.

Each seed draws its own `--per-class` training images of each class, and trains with that seed

    nothing   the same network from random weights, by its default recipe in batches of 32
    whole     as `alexnet train FOLDER --init NAME`
    frozen    as `alexnet train FOLDER --init NAME --freeze conv`
    head      as `alexnet train FOLDER --init NAME --head`

The learning rate of `nothing` is chosen first, with another seed, by the error on other training images (the tuning
images, on which nothing else is trained or measured); the grid is extended until the best rate is not at its end. The
recipe of fine-tuning is used as it is. Measured is the network of the last epoch, on `--test-per-class` images of each
class of the test split, which have no part in any choice.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime.devices import describe_machine
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import default_recipe, finetune_recipe, head_recipe
from alexnet.data.dataset import SourceImage
from alexnet.data.imagenet_classes import NAMES
from alexnet.data.packed import PackedDataset, PackedSplit
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.errors import UserError, require
from alexnet.inference.evaluate import evaluate
from alexnet.inference.metrics import Errors
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.open_weights import open_weights
from alexnet.training.build import build
from alexnet.training.spec import RunSpec
from alexnet.training.state import Diverged

Way = Literal["nothing", "whole", "frozen", "head"]

TUNING_SEED = 1_000
"""Of the runs that choose the learning rate of `nothing`; seeds 0, 1, 2, ... are measured."""

TUNING_IMAGES = 40
"""Training images of each class on which that rate is chosen."""

WATCHED_IMAGES = 5
"""Training images of each class that a run's own validation set has. They choose nothing that is reported."""

POOL = 500
"""Training images of each class from which the seeds draw."""

RATES = (0.01, 0.03, 0.1)
"""Where the search for the learning rate of `nothing` begins."""


LOSSES: tuple[Literal["loss", "training_loss"], ...] = ("loss", "training_loss")


class Result(TypedDict):
    """A finished run."""

    data: str
    way: Way
    seed: int
    learning_rate: float
    epochs: int
    training_images: int
    test_images: int
    top1_error: float
    loss: float
    training_loss: float
    """Mean loss on the training images in evaluation mode."""
    training_error: float
    seconds: float


@dataclass(frozen=True)
class FewImages(PackedDataset):
    """Some images of a packed folder: those to train on, and a few others as the validation set of the run.

    The pixel mean is that of all training images, as only a network from random weights uses it.
    """

    rows: Mapping[str, NDArray[np.int64]]
    """`train` and `val` -> indices of images in the packed folder's training split, ascending."""

    def split(self, *names: str) -> PackedSplit:
        return super().split("train").subset(np.sort(np.concatenate([self.rows[name] for name in names])))

    @property
    def counts(self) -> dict[str, int]:
        return {name: len(rows) for name, rows in self.rows.items()}

    @cached_property
    def fingerprint(self) -> str:
        return f"{super().fingerprint} {[rows.tolist() for rows in self.rows.values()]}"


@dataclass(frozen=True)
class Source:
    """A data set whose images are drawn."""

    name: str
    packed: PackedDataset
    test: PackedSplit

    @cached_property
    def _shuffled(self) -> list[NDArray[np.int64]]:
        """The training images of each class in a random order, of which the first are the tuning images."""
        labels_N = self.packed.split("train").labels
        rng = np.random.default_rng(TUNING_SEED)
        return [rng.permutation(np.flatnonzero(labels_N == label)) for label in range(len(self.packed.classes))]

    @property
    def tuning(self) -> PackedSplit:
        """The training images on which the learning rate of `nothing` is chosen."""
        rows = [rows[:TUNING_IMAGES] for rows in self._shuffled]
        return self.packed.split("train").subset(np.sort(np.concatenate(rows)))

    def draw(self, per_class: int, seed: int) -> FewImages:
        """`per_class` training images of each class, and a few to watch the run; none of them is a tuning image."""
        chosen: dict[str, list[NDArray[np.int64]]] = {"train": [], "val": []}
        rng = np.random.default_rng(seed)
        for rows in self._shuffled:
            pool = rng.permutation(rows[TUNING_IMAGES:])
            need = TUNING_IMAGES + per_class + WATCHED_IMAGES
            require(len(rows) >= need, f"{self.name} has a class of {len(rows)} training images, and --per-class "
                    f"{per_class} needs {need} with those for tuning", "give a smaller --per-class, or other data")
            chosen["train"].append(pool[:per_class])
            chosen["val"].append(pool[per_class : per_class + WATCHED_IMAGES])
        return FewImages(self.packed.path, self.packed.manifest,
                         {name: np.sort(np.concatenate(rows)) for name, rows in chosen.items()})


def known_wnids(init: Checkpoint) -> frozenset[str]:
    """The WordNet ids of the weights' classes, as far as they are ImageNet's."""
    return frozenset(wnid for wnid, name in NAMES.items() if name in init.classes or wnid in init.classes)


def open_source(folder: Path, known: frozenset[str], dest: Path, side: int, test_per_class: int) -> Source:
    """Pack images of the classes that the network does not know: at most `POOL` for training, the rest for testing."""
    dataset = open_dataset(folder)
    unknown = [label for label, name in enumerate(dataset.wnids or dataset.classes) if name not in known]
    left_out = f"{len(dataset.classes) - len(unknown)} of {len(dataset.classes)} classes"
    print(f"{folder.name}: {left_out} are left out, as the weights know them; the others: "
          f"{', '.join(dataset.classes[label] for label in unknown)}", flush=True)
    require(len(unknown) >= 2, f"{folder} has {len(unknown)} classes that the network does not know", "name other data")
    test = next((name for name in ("val", "test") if dataset.splits.get(name)), None)
    require(test is not None and not dataset.held_out, f"{folder} has no validation or test split of its own",
            "name a folder with train/ and val/")
    splits = {"train": _drawn(dataset.splits["train"], unknown, POOL),
              "val": _drawn(dataset.splits[str(test)], unknown, test_per_class)}
    chosen = replace(dataset, splits=splits, classes=tuple(dataset.classes[label] for label in unknown),
                     wnids=dataset.wnids and tuple(dataset.wnids[label] for label in unknown))
    packed = pack(chosen, dest, side=side)
    return Source(folder.name, packed, packed.split("val"))


def _drawn(images: Sequence[SourceImage], classes: Sequence[int], per_class: int) -> list[SourceImage]:
    """At random, `per_class` images of each of these classes, which are numbered anew."""
    labels_N, rng = np.array([image.label for image in images]), np.random.default_rng(0)
    return [replace(images[row], label=label)
            for label, old in enumerate(classes)
            for row in sorted(rng.permutation(np.flatnonzero(labels_N == old))[:per_class])]


def recipe_of(way: Way, init: Checkpoint, epochs: int, rate: float | None = None) -> Recipe:
    """The recipe of a way; `epochs` and `rate` are those of `nothing`."""
    if way == "nothing":
        recipe = replace(default_recipe(init.arch), epochs=epochs, batch_size=32)
        return replace(recipe, learning_rate=rate) if rate else recipe
    if way == "head":
        return head_recipe(init.arch)
    return replace(finetune_recipe(init.arch), freeze="conv" if way == "frozen" else "")


def train(
    data: FewImages, init: Checkpoint, recipe: Recipe, way: Way, seed: int, device: str, test: PackedSplit,
) -> tuple[Errors, Errors]:
    """Train one network. Returns the errors after the last epoch on the test and on the training images."""
    with tempfile.TemporaryDirectory() as folder:
        spec = RunSpec(data, init.arch, recipe, Path(folder) / "run", seed=seed, device=device,
                       precision="fp32" if way == "head" else "auto", init=None if way == "nothing" else init)
        run = build(spec)
        run.fit()
    with run.average.swapped() if run.average else nullcontext():
        measured = [evaluate([(run.network.eval(), run.preprocess)], split, device=run.device)
                    for split in (test, run.training)]
    return measured[0], measured[1]


def tune_rate(source: Source, init: Checkpoint, per_class: int, epochs: int, device: str) -> float:
    """The learning rate of `nothing` with the lowest error on the tuning images, between two others that are worse."""
    data = source.draw(per_class, TUNING_SEED)
    errors: dict[float, float] = {}
    waiting = list(RATES)
    while waiting:
        rate = waiting.pop(0)
        try:
            recipe = recipe_of("nothing", init, epochs, rate)
            errors[rate] = train(data, init, recipe, "nothing", TUNING_SEED, device, source.tuning)[0].top1_error
        except Diverged:
            errors[rate] = 1.0
        print(f"{source.name}, nothing, learning rate {rate:g}: {errors[rate]:.1%} on the tuning images", flush=True)
        best = min(errors, key=lambda rate: errors[rate])
        if not waiting and best in (min(errors), max(errors)):
            waiting.append(float(f"{best / 3 if best == min(errors) else best * 3:.1g}"))
    return best


def measure(
    source: Source, init: Checkpoint, ways: Sequence[Way], seeds: Sequence[int], per_class: int, epochs: int,
    device: str,
) -> Iterator[Result]:
    """Train and measure every way with every seed."""
    rate = tune_rate(source, init, per_class, epochs, device) if "nothing" in ways else None
    for seed in seeds:
        data = source.draw(per_class, seed)
        for way in ways:
            recipe, began = recipe_of(way, init, epochs, rate), time.perf_counter()
            test, training = train(data, init, recipe, way, seed, device, source.test)
            yield {"data": source.name, "way": way, "seed": seed, "learning_rate": recipe.learning_rate,
                   "epochs": recipe.epochs, "training_images": training.images, "test_images": test.images,
                   "top1_error": test.top1_error, "loss": test.loss, "training_loss": training.loss,
                   "training_error": training.top1_error, "seconds": round(time.perf_counter() - began, 1)}


def table(results: Sequence[Result]) -> str:
    """A Markdown table: a row for each data set and way, with the mean and the standard deviation over the seeds."""
    lines = ["| images | start | top-1 error, each seed | mean ± sd | less than from nothing | loss | training loss |",
             "|---|---|---|---|---|---|---|"]
    for data in dict.fromkeys(result["data"] for result in results):
        of_data = [result for result in results if result["data"] == data]
        nothing = {result["seed"]: result["top1_error"] for result in of_data if result["way"] == "nothing"}
        for way in dict.fromkeys(result["way"] for result in of_data):
            rows = [result for result in of_data if result["way"] == way]
            gains = [nothing[row["seed"]] - row["top1_error"] for row in rows if way != "nothing" and nothing]
            lines.append("| " + " | ".join([
                f"{data}, {rows[0]['training_images']:,} to train, {rows[0]['test_images']:,} to test", way,
                ", ".join(f"{row['top1_error']:.1%}" for row in rows), _spread([row["top1_error"] for row in rows]),
                f"{_spread(gains, 'points')}" if gains else "",
                *(f"{statistics.mean(row[key] for row in rows):.2f}" for key in LOSSES)]) + " |")
    return "\n".join(lines)


def _spread(values: Sequence[float], unit: str = "") -> str:
    """Mean and standard deviation in percent, or in points."""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}{f' {unit}' if unit else '%'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--init", required=True, help="a checkpoint, a run folder, or the name of pretrained weights")
    parser.add_argument("--known", type=Path, help="WordNet ids of the classes that the weights know, one a line; "
                        "default: by the names of their classes")
    parser.add_argument("--per-class", type=int, default=20, help="training images of each class")
    parser.add_argument("--test-per-class", type=int, default=100, help="test images of each class")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each way: seeds 0, 1, 2 and so on")
    parser.add_argument("--epochs", type=int, default=120, help="of `nothing`")
    parser.add_argument("--way", action="append", choices=get_args(Way), help="only this; may be given several times")
    parser.add_argument("--json", type=Path, help="file that gets the results")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or mps")
    options = parser.parse_args()
    try:
        init, results = open_weights(options.init), []
        known = frozenset(options.known.read_text().split()) if options.known else known_wnids(init)
        for folder in options.folders:
            with tempfile.TemporaryDirectory() as dest:
                source = open_source(folder, known, Path(dest), init.arch.input.side, options.test_per_class)
                for result in measure(source, init, options.way or get_args(Way), range(options.seeds),
                                      options.per_class, options.epochs, options.device):
                    results.append(result)
                    print(f"{result['data']}, seed {result['seed']}, {result['way']}: {result['top1_error']:.1%} "
                          f"top-1 error, loss {result['loss']:.2f}, {result['seconds']:.0f} s", flush=True)
                    if options.json:
                        options.json.write_text(json.dumps(
                            {"init": init.describe()["sha256"], "arch": init.arch.name,
                             "machine": describe_machine(options.device), "results": results}, indent=1) + "\n")
    except UserError as error:
        parser.error(str(error))
    print(table(results))


if __name__ == "__main__":
    main()
