"""A training loop written out: the parts of `alexnet train` without logging, checkpoints and resuming.

    python examples/training_by_hand.py IMAGES [EPOCHS]

IMAGES is a folder with one folder of images for each class, or `embedded`.
"""

import argparse
from dataclasses import replace

import torch

from alexnet.architecture.network_presets import arch
from alexnet.architecture.recipe_presets import recipe
from alexnet.data.augmentation import lighting_basis
from alexnet.data.loader import batches
from alexnet.data.open import open_or_pack
from alexnet.data.order import batches_per_epoch
from alexnet.data.preprocessing import Preprocess
from alexnet.inference.evaluate import evaluate
from alexnet.models.alexnet import AlexNet
from alexnet.training.optimizer import SGD
from alexnet.training.precision import MixedPrecision
from alexnet.training.schedule import learning_rate
from alexnet.training.step import train_step


def main(images: str, epochs: int = 3, seed: int = 0) -> float:
    """Train `small` for a few epochs. Returns the top-1 error on the validation images."""
    data = open_or_pack(images, side=arch("small").input.side, say=print)
    network_arch = replace(arch("small"), classes=len(data.classes))
    training_recipe = replace(recipe("modern"), epochs=epochs)

    network = AlexNet(network_arch, seed)
    preprocess = Preprocess.from_data(network_arch.input, data.mean_HWC)
    lighting = lighting_basis(data.rgb_covariance, training_recipe.lighting_scale)
    optimizer, precision = SGD(network, training_recipe), MixedPrecision("fp32", torch.device("cpu"))
    steps = batches_per_epoch(len(data.split("train")), training_recipe.batch_size)

    error = 1.0
    for epoch in range(epochs):
        network.train()
        shuffled = batches(data.split("train"), training_recipe.batch_size, shuffle=(seed, epoch))
        for step, batch in enumerate(shuffled):
            views = preprocess.training_views(batch.pixels, batch.indices, training_recipe, seed, epoch, lighting)
            rate = learning_rate(training_recipe, epoch + (step + 0.5) / steps)
            train_step(network, optimizer, views, batch.labels_N, rate, precision)
        error = evaluate([(network, preprocess)], data.split("val")).top1_error
        print(f"epoch {epoch + 1}: top-1 error {error:.1%}")
    return error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images")
    parser.add_argument("epochs", type=int, nargs="?", default=3)
    try:
        main(**vars(parser.parse_args()))
    except (OSError, ValueError) as error:
        parser.error(str(error))
