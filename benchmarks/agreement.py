"""How often fast answers (int8, bf16) name the class that the network in fp32 names, on images it did not see.

    python benchmarks/agreement.py CHECKPOINT DATA [--images 500] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from alexnet.data.open import open_or_pack
from alexnet.inference.evaluate import probabilities
from alexnet.inference.metrics import count_errors
from alexnet.inference.predictor import load
from alexnet.inference.selection import evaluation_images
from alexnet.inference.statistics import wilson


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=500, help="spread evenly over the validation split")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = load(options.checkpoint, fast=True)
    packed = open_or_pack(options.data, model.preprocess.spec.side)
    split, selection = evaluation_images(packed, [model.seen])
    print(selection.describe())
    chosen = split.sample(options.images)
    agree, apart = 0, 0.0
    errors = {"fp32": 0, "fast": 0}
    for first in range(0, len(chosen), 50):
        indices = chosen[first : first + 50]
        pixels, labels = torch.from_numpy(split.read(indices)), torch.from_numpy(split.labels[indices])
        with torch.inference_mode():
            exact, fast = (probabilities([(network, model.preprocess)], pixels)
                           for network in (model.network, model.inference_network))
        agree += int((exact.argmax(1) == fast.argmax(1)).sum())
        apart = max(apart, float((exact - fast).abs().max()))
        for name, outputs in (("fp32", exact), ("fast", fast)):
            errors[name] += count_errors(outputs, labels).top1_wrong
    low, high = wilson(agree, len(chosen))
    print(f"{model.network.arch.name}, {len(chosen):,} images: the same first answer on {agree / len(chosen):.2%} "
          f"(95% interval {low:.2%} to {high:.2%}); probabilities at most {apart:.4f} apart; top-1 error "
          f"{errors['fp32'] / len(chosen):.2%} in fp32, {errors['fast'] / len(chosen):.2%} fast")
    if options.json:
        figures = {"images": len(chosen), "agree": agree, "apart": apart, **errors}
        options.json.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
