"""Transfer to your own images: begin from a trained network instead of from nothing, and see whether it helps.

    python examples/your_own_images.py PHOTOS [CHECKPOINT] [EPOCHS]

PHOTOS is a folder with a folder of images for each class. CHECKPOINT is a run of yours, or `torchvision`, whose
weights are fetched once; without it a small network is first trained for a minute on the images that ship inside
scikit-image (`pip install "alexnet[demo]"`). Some minutes for some hundred images.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from alexnet import load
from alexnet._runtime.progress import ClaimBar
from alexnet.architecture.presets import arch, default_recipe, finetune_recipe, recipe
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.open import open_or_pack
from alexnet.inference.evaluate import evaluate
from alexnet.inference.metrics import Errors, wilson
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.open_weights import open_weights
from alexnet.training.build import build
from alexnet.training.spec import RunSpec


def teacher(folder: Path) -> Path:
    """A small network that knows fourteen textures: little, but it has seen edges and colors."""
    data = open_or_pack("embedded", side=64, say=print)
    learn("a network to begin from", data, replace(arch("small"), classes=len(data.classes)),
          replace(recipe("modern"), epochs=3), folder)
    return folder


def learn(name: str, data, network: Arch, how: Recipe, folder: Path, init: Checkpoint | None = None) -> None:
    """One run, and how far it is."""
    with ClaimBar() as bar:
        build(RunSpec(data, network, how, folder, init=init), on_event=lambda event: bar.see(event | {"run": name})).fit()


def measure(folder: Path, data) -> Errors:
    """Of the last epoch: the best one's error, chosen by these very images, would flatter."""
    model = load(folder / "last")
    return evaluate([(model.network, model.preprocess)], data.split("val"))


def main(photos: str, checkpoint: str | None = None, epochs: int = 15) -> dict[str, Errors]:
    """Three ways to the same classes, measured on the same images."""
    runs = Path(mkdtemp(prefix="alexnet-"))
    start = open_weights(checkpoint) if checkpoint else None
    data = open_or_pack(photos, side=(start.arch if start else arch("small")).input.side, say=print)
    if start is None:
        print("First a network to begin from, trained on fourteen textures.")
        start = open_weights(teacher(runs / "teacher"))
    train, val = len(data.split("train")), len(data.split("val"))
    print(f"{train:,} images of {len(data.classes)} classes to learn from, {val:,} to be measured on.\n")

    network = replace(start.arch, classes=len(data.classes))
    tuned, scratch = replace(finetune_recipe(network), epochs=epochs), replace(default_recipe(network), epochs=epochs)
    ways = {
        "from nothing": (replace(scratch, batch_size=tuned.batch_size), None),
        "all layers tuned": (tuned, start),
        "convolutions frozen": (replace(tuned, freeze="conv"), start),
    }
    errors = {}
    for name, (how, init) in ways.items():
        folder = runs / name.replace(" ", "-")
        learn(name, data, network, how, folder, init)
        errors[name] = measure(folder, data)
        low, high = wilson(errors[name].top1_wrong, val)
        print(f"{name:20} top-1 error {errors[name].top1_error:6.1%}  (95% interval {low:.1%} to {high:.1%})")

    best = min(errors, key=lambda name: errors[name].top1_error)
    low, high = wilson(errors[best].top1_wrong, val)
    as_good = [name for name, one in errors.items() if name != best and low <= one.top1_error <= high]
    print(f"\nBest: {best}.")
    if as_good:
        print(f"But {' and '.join(as_good)}: within its interval. {val:,} images cannot tell them apart; measure "
              "on more, or with other seeds.")

    model, image = load(runs / best.replace(" ", "-") / "last"), data.split("val").read_one(0)
    guess, truth = model.predict(image)[0][0], data.classes[data.split("val").labels[0]]
    print(f"The first of them, of the class {truth}, it takes for {guess.name} ({guess.probability:.0%} sure).")
    print(f"Ask it about others: alexnet predict {runs / best.replace(' ', '-')} PHOTO")
    return errors


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos")
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("epochs", type=int, nargs="?", default=15)
    try:
        main(**vars(parser.parse_args()))
    except (OSError, ValueError) as mistake:
        parser.error(str(mistake))
