"""What hashes cost: packing with and without content and perceptual hashes, evaluation with and without the search.

    python benchmarks/hashing.py IMAGES [--rounds 7] [--side 256] [--arch small] [--json FILE]

IMAGES is a folder of images, or of class folders. Evaluation searches for each image among the hashes of 26 times as
many training images: the proportion of ImageNet's training and validation images. The variants take turns in every
round, so that both see the same state of the machine. Printed are the medians of the rates, with the lowest and
highest, and the median of the ratio within a round: 1 means that hashing is free.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from alexnet._runtime.devices import describe_machine
from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.data import packing
from alexnet.data.dataset import Dataset, FileImage
from alexnet.data.packed import PackedDataset, open_packed
from alexnet.data.preprocessing import Preprocess
from alexnet.inference.evaluate import evaluate
from alexnet.inference.selection import evaluation_images
from alexnet.models.alexnet import AlexNet
from alexnet.models.seen import SeenImages

TRAINING_IMAGES = 26
"""Training images for each image that is measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--arch", default="small")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    dataset = read(options.images)
    print(f"{dataset.image_count:,} images of {options.images}, {options.side} pixels; {describe_machine('cpu')}")
    with tempfile.TemporaryDirectory() as folder:
        places = map(str, range(10**9))

        def pack() -> PackedDataset:
            return packing.pack(dataset, Path(folder) / next(places), side=options.side)

        def pack_without_hashes() -> PackedDataset:
            with patch.object(packing, "content_hash", lambda content: 0), \
                    patch.object(packing, "perceptual_hash", lambda pixels: np.zeros(2, np.uint64)):
                return pack()

        packed = pack()
        network, preprocess = model(options.arch, packed)
        rng, count = np.random.default_rng(0), TRAINING_IMAGES * dataset.image_count
        others, perceptual = rng.integers(0, 2**63, count, np.uint64), rng.integers(0, 2**63, (count, 2), np.uint64)
        seen = SeenImages.of(others, others[:0], perceptual)

        def evaluate_unseen() -> object:
            chosen, _ = evaluation_images(open_packed(packed.path), [seen])
            return evaluate([(network, preprocess)], chosen)

        def evaluate_all() -> object:
            return evaluate([(network, preprocess)], open_packed(packed.path).split("train"))

        results = {
            "packing": compare(pack, pack_without_hashes, dataset.image_count, options.rounds),
            "evaluation": compare(evaluate_unseen, evaluate_all, dataset.image_count, options.rounds)}
    if options.json:
        options.json.write_text(json.dumps({"machine": describe_machine("cpu"), **results}) + "\n")


def read(folder: Path) -> Dataset:
    """All images of a folder, as one class."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                   if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return Dataset("images", ("image",), {"train": [FileImage(name, 0, folder) for name in files]}, str(folder))


def model(name: str, packed: PackedDataset) -> tuple[AlexNet, Preprocess]:
    """An untrained network of two classes, for images of this side."""
    layout = override(arch(name), [f"input.side={packed.side}", "classes=2"])
    return AlexNet(layout), Preprocess(layout.input, torch.from_numpy(packed.mean_HWC))


def compare(
    with_hashes: Callable[[], object], without: Callable[[], object], images: int, rounds: int,
) -> dict[str, float]:
    """Run both in turns and print their rates. The order changes in every round."""
    rates: dict[str, list[float]] = {"with hashes": [], "without": []}
    for number in range(rounds + 1):
        turns = [("with hashes", with_hashes), ("without", without)]
        for name, run in turns if number % 2 else turns[::-1]:
            began = time.perf_counter()
            run()
            if number:  # the first round warms up
                rates[name].append(images / (time.perf_counter() - began))
    ratio = statistics.median(map(float.__truediv__, rates["with hashes"], rates["without"]))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        print(f"{without.__name__.split('_')[0]} {name}: {medians[name]:,.0f} img/s "
              f"({min(values):,.0f} to {max(values):,.0f})")
    print(f"  ratio {ratio:.3f}")
    return {**medians, "ratio": ratio}


if __name__ == "__main__":
    main()
