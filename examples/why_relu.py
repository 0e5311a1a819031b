"""Why ReLU (§3.1): train the same network with sigmoid, tanh and ReLU units, and measure how gradients vanish.

    python examples/why_relu.py [STEPS]

Uses the photographs that come with the package. Takes a minute or two on an idle CPU.

Sigmoid and tanh map all numbers into a bounded range. Near a bound the function is almost flat, so the unit passes
almost no gradient to the layers below: it is saturated. A ReLU is flat only below zero.
"""

import argparse
import math
from dataclasses import replace
from itertools import count, islice
from typing import NamedTuple

import torch

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import recipe
from alexnet.architecture.spec import Arch
from alexnet.data.loader import batches
from alexnet.data.open import open_or_pack
from alexnet.data.preprocessing import Preprocess
from alexnet.interpret.activations import ActivationReport, inspect_activations, training_views
from alexnet.models.alexnet import AlexNet
from alexnet.training.optimizer import SGD
from alexnet.training.precision import MixedPrecision
from alexnet.training.step import train_step

ACTIVATIONS = ("sigmoid", "tanh", "relu")


class Reports(NamedTuple):
    """Activations and gradients of a network on 256 images."""

    before: ActivationReport
    after: ActivationReport

    @property
    def gradient_ratio(self) -> float:
        """Before training: the gradient of conv1's weights, relative to that of the last layer's."""
        return self.before.weights[0].gradient / self.before.weights[-1].gradient


def main(steps: int = 100) -> dict[str, Reports]:
    """Print the comparison. Returns the reports by network."""
    print_derivatives()
    data = open_or_pack("embedded", side=64, say=print)
    classes = len(data.classes)

    print(f"2. Gradients of untrained networks with six layers, on {classes} classes of images. Initial weights keep\n"
          "   the variance of the signal, by each activation's own gain.\n")
    reports = {name: train(network_arch(name, classes), data, steps) for name in ACTIVATIONS}
    print("            most saturated layer  gradient of conv1 / last layer")
    for name in ACTIVATIONS:
        layer = max(reports[name].before.units, key=lambda layer: layer.saturated)
        print(f"   {name:8} {layer.layer:>9} {layer.saturated:5.0%} {reports[name].gradient_ratio:20.1e}")
    print("\n   (Half of the ReLUs are zero, but different ones for each image. The others pass the full gradient.)\n")

    print(f"3. Loss after {steps} training steps. Chance: ln({classes}) = {math.log(classes):.2f}.\n")
    for name in ACTIVATIONS:
        before, after = reports[name].before.loss, reports[name].after.loss
        bar = "#" * round(20 * min(after, 1.2 * math.log(classes)) / math.log(classes))
        print(f"   {name:8} {before:5.2f} -> {after:5.2f}  {bar}")
    if reports["tanh"].after.loss <= reports["relu"].after.loss:
        print("\n   Here tanh is as good as ReLU, because inputs and weights are scaled so that it is not saturated.")

    print("\n4. With raw pixels of 0 to 255 as input, without mean subtraction or scaling, tanh saturates at once.\n")
    raw = replace(arch("small").input, mean=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0))
    reports["tanh, raw pixels"] = train(network_arch("tanh", classes, input=raw), data, steps)
    for name in ("tanh", "tanh, raw pixels"):
        saturated = reports[name].before.units[0].saturated
        print(f"   {name:18} tanh1 saturated {saturated:4.0%}, loss after {steps} steps {reports[name].after.loss:.2f}")

    print("\n5. Batch normalization keeps the input of a sigmoid in the range where its derivative is large.\n")
    normalized = replace(network_arch("sigmoid", classes), norm="batch", dense_norm=True)
    reports["sigmoid, batch norm"] = train(normalized, data, steps)
    for name in ("sigmoid", "sigmoid, batch norm"):
        print(f"   {name:20} gradient of conv1 / last layer {reports[name].gradient_ratio:.1e}, loss after {steps} "
              f"steps {reports[name].after.loss:.2f}")
    return reports


def print_derivatives() -> None:
    """The derivative of one unit, and the product over the paper's seven activation layers."""
    print("1. The derivative of each activation function at x: a layer multiplies the gradient by it.\n")
    print("       x    sigmoid     tanh   ReLU")
    for x in (0.0, 1.0, 2.0, 5.0):
        sigmoid, tanh = 1 / (1 + math.exp(-x)), math.tanh(x)
        print(f"   {x:5.1f} {sigmoid * (1 - sigmoid):10.4f} {1 - tanh**2:8.4f} {float(x > 0):6.0f}")
    at_2 = 1 - math.tanh(2) ** 2
    print(f"\n   A sigmoid's derivative is at most 1/4. Through seven layers that is at most 0.25^7 = {0.25**7:.0e}.")
    print(f"   At x = 2, tanh's is {at_2:.3f}, and to the seventh power {at_2**7:.0e}. A ReLU's is 1 wherever x > 0.\n")


def network_arch(activation: str, classes: int, **fields: object) -> Arch:
    """`small` with fewer units, without normalization, and with weights initialized by the fan-in."""
    narrow = override(arch("small"), ["conv.width=32", "dense.width=64"])
    return replace(narrow, activation=activation, norm="none", dense_norm=False, dropout=0.0, classes=classes, **fields)


def train(network_arch: Arch, data, steps: int, seed: int = 0) -> Reports:
    """Train for some steps at a learning rate of 0.01, and inspect 256 images before and after."""
    plain = replace(recipe("cifar"), learning_rate=0.01, crop="center", mirror=False, weight_decay=0.0)
    network, preprocess = AlexNet(network_arch, seed), Preprocess.from_data(network_arch.input, data.mean_HWC)
    optimizer, precision = SGD(network, plain), MixedPrecision("fp32", torch.device("cpu"))
    training = data.split("train")

    def inspect() -> ActivationReport:
        return inspect_activations(network, training_views(training, preprocess, plain, 256), rate=plain.learning_rate)

    before = inspect()
    network.train()
    shuffled = (batch for epoch in count() for batch in batches(training, plain.batch_size, shuffle=(seed, epoch)))
    for batch in islice(shuffled, steps):
        views = preprocess.training_views(batch.pixels, batch.indices, plain, seed, 0)
        train_step(network, optimizer, views, batch.labels_N, plain.learning_rate, precision)
    return Reports(before, inspect())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("steps", type=int, nargs="?", default=100)
    try:
        main(**vars(parser.parse_args()))
    except (OSError, ValueError) as error:
        parser.error(str(error))
