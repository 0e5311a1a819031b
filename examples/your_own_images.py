"""Transfer learning on your own images: train from scratch, fine-tune, fine-tune with frozen convolutions, and compare.

    python examples/your_own_images.py IMAGES [CHECKPOINT] [EPOCHS]

IMAGES is a folder with one folder of images for each class. CHECKPOINT is a run folder, or `torchvision`, whose weights
are downloaded once. Without it, a small network is first trained for a minute on the photographs that come
with the package. Takes a few minutes for some hundred images.
"""

import argparse
from pathlib import Path
from tempfile import mkdtemp

import alexnet
from alexnet.inference.metrics import Errors
from alexnet.inference.statistics import wilson


def main(images: str, checkpoint: str | Path | None = None, epochs: int = 15) -> dict[str, Errors]:
    """Train three networks on the same images. Returns the validation errors of each after its last epoch."""
    found = alexnet.check(images, progress=False)
    print(*found.notes, *found.findings, sep="\n")
    runs = Path(mkdtemp(prefix="alexnet-"))
    if checkpoint is None:
        print("\nTraining a network to fine-tune, on 14 textures:")
        checkpoint = alexnet.train("embedded", arch="small", epochs=3, out=runs / "pretrained").path
    arch = alexnet.load(checkpoint).network.arch

    errors = {}
    for name, options in {
        "from scratch": {"arch": arch, "batch_size": 32},
        "all layers fine-tuned": {"init": checkpoint},
        "convolutions frozen": {"init": checkpoint, "freeze": "conv"},
    }.items():
        run = alexnet.train(images, **options, epochs=epochs, out=runs / name.replace(" ", "-"))
        # The last epoch's error: the best epoch was chosen by these very images, so its error is too optimistic.
        errors[name] = alexnet.evaluate(run.path / "last", images)

    print()
    for name, error in errors.items():
        low, high = wilson(error.top1_wrong, error.images)
        print(f"{name:22} top-1 error {error.top1_error:6.1%}  (95% interval {low:.1%} to {high:.1%})")
    best = min(errors, key=lambda name: errors[name].top1_error)
    low, high = wilson(errors[best].top1_wrong, errors[best].images)
    print(f"\nBest: {best}.")
    if similar := [name for name, error in errors.items() if name != best and error.top1_error <= high]:
        print(f"The error of {' and '.join(similar)} lies within its interval: {errors[best].images:,} images are too "
              "few to tell them apart. Evaluate on more images, or train with other seeds.")
    print(f"Try it: alexnet predict {runs / best.replace(' ', '-')} IMAGE")
    return errors


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images")
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("epochs", type=int, nargs="?", default=15)
    try:
        main(**vars(parser.parse_args()))
    except (OSError, ValueError) as error:
        parser.error(str(error))
