"""Why ReLU: the same network with sigmoid, tanh and ReLU units, and what becomes of the gradient on its way down.

    python examples/why_relu.py [STEPS]

On the images that ship inside scikit-image (`pip install "alexnet[demo]"`). A minute or two on
a CPU with nothing else to do.

A bounded unit squeezes all numbers into a finite range. Near a bound it is flat, and a flat unit passes no gradient to
the layers below it: it is saturated (§3.1). A ReLU is flat only below zero.
"""

import argparse
import math
from dataclasses import replace
from itertools import count, islice

import torch

from alexnet.architecture.overrides import override
from alexnet.architecture.presets import arch, recipe
from alexnet.architecture.spec import Arch
from alexnet.data.loader import batches
from alexnet.data.open import open_or_pack
from alexnet.data.preprocessing import Preprocess
from alexnet.interpret.activations import ActivationReport, inspect_activations, training_views
from alexnet.models.alexnet import AlexNet
from alexnet.training.optimizer import SGD
from alexnet.training.precision import MixedPrecision
from alexnet.training.step import train_step

UNITS = ("sigmoid", "tanh", "relu")


def slopes() -> None:
    """One unit, then eight on top of one another."""
    print("1. How steep is a unit at x? That is what it multiplies a gradient by.\n")
    print("       x    sigmoid     tanh   ReLU")
    for x in (0.0, 1.0, 2.0, 5.0):
        sigmoid, tanh = 1 / (1 + math.exp(-x)), math.tanh(x)
        print(f"   {x:5.1f} {sigmoid * (1 - sigmoid):10.4f} {1 - tanh**2:8.4f} {float(x > 0):6.0f}")
    print(f"\n   A sigmoid's steepest is 1/4. Through eight layers, at the very best: 0.25^8 = {0.25**8:.0e}.")
    print(f"   At x = 2, tanh's is {1 - math.tanh(2)**2:.3f}, and its eighth power {(1 - math.tanh(2)**2)**8:.0e}. "
          "A ReLU's, where it is open, stays 1.\n")


def network_of(unit: str, classes: int, **settings: object) -> Arch:
    """`small`, narrow and without normalization, Gaussian weights of a size that suits its fan-in, and these units."""
    narrow = override(arch("small"), ["conv.width=32", "dense.width=64"])
    return replace(narrow, activation=unit, norm="none", dense_norm=False, dropout=0.0, classes=classes,
                   **settings)


def train(what: Arch, data, steps: int, seed: int = 0) -> tuple[ActivationReport, ActivationReport]:
    """Some steps at a rate of 0.01; what is seen on 256 images before the first and after the last."""
    how = replace(recipe("cifar"), learning_rate=0.01, crop="center", mirror=False, weight_decay=0.0)
    network, preprocess = AlexNet(what, seed), Preprocess.from_data(what.input, data.mean_HWC)
    optimizer, arithmetic = SGD(network, how), MixedPrecision("fp32", torch.device("cpu"))
    training = data.split("train")

    def seen() -> ActivationReport:
        return inspect_activations(network, training_views(training, preprocess, how, 256), rate=how.learning_rate)

    before = seen()
    network.train()
    source = (batch for epoch in count() for batch in batches(training, how.batch_size, shuffle=(seed, epoch)))
    for batch in islice(source, steps):
        views = preprocess.training_views(batch.pixels, batch.indices, how, seed, 0)
        train_step(network, optimizer, views, batch.labels_N, how.learning_rate, arithmetic)
    return before, seen()


def passed(seen: ActivationReport) -> float:
    """The gradient that reaches conv1, for each that the last layer gets."""
    return seen.weights[0].gradient / seen.weights[-1].gradient


def main(steps: int = 100) -> dict[str, tuple[ActivationReport, ActivationReport]]:
    """Tells the story; returns what was seen of each network."""
    slopes()
    data = open_or_pack("embedded", side=64, say=print)
    classes = len(data.classes)
    print(f"2. Six layers of each, on {len(data.split('train')):,} images of {classes} classes, untrained.\n")
    looks = {unit: train(network_of(unit, classes), data, steps) for unit in UNITS}
    print("            flattest layer        gradient of conv1 / last layer")
    for unit, (before, _) in looks.items():
        flat = max(before.units, key=lambda one: one.saturated)
        print(f"   {unit:8} {flat.layer:>9} {flat.saturated:5.0%} {passed(before):20.1e}")
    print("\n   (Half of a ReLU's units are flat, each for other images: the rest pass everything.)\n")

    print(f"3. After {steps} steps. Blind guessing has a loss of ln({classes}) = {math.log(classes):.2f}.\n")
    for unit, (before, after) in looks.items():
        bar = "#" * round(20 * min(after.loss, 1.2 * math.log(classes)) / math.log(classes))
        print(f"   {unit:8} {before.loss:5.2f} -> {after.loss:5.2f}  {bar}")
    if looks["tanh"][1].loss <= looks["relu"][1].loss:
        print("\n   Tanh keeps up here: inputs and weights have the scale at which it is steep. It depends on that.")

    print("\n4. Pixels of 0 to 255, less no mean, divided by nothing, drive bounded units to their bounds at once.\n")
    raw = replace(arch("small").input, mean=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0))
    looks["tanh, raw pixels"] = train(network_of("tanh", classes, input=raw), data, steps)
    for name in ("tanh", "tanh, raw pixels"):
        before, after = looks[name]
        flat = before.units[0].saturated
        print(f"   {name:18} tanh1 saturated {flat:4.0%}, loss after {steps} steps {after.loss:.2f}")

    print("\n5. Batch normalization brings what goes into a unit back to where it is steep, whatever the unit.\n")
    normed = replace(network_of("sigmoid", classes), norm="batch", dense_norm=True)
    looks["sigmoid, batch norm"] = train(normed, data, steps)
    for name in ("sigmoid", "sigmoid, batch norm"):
        before, after = looks[name]
        print(f"   {name:20} gradient passed {passed(before):.1e}, loss after {steps} steps {after.loss:.2f}")
    return looks


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("steps", type=int, nargs="?", default=100)
    try:
        main(**vars(parser.parse_args()))
    except (OSError, ValueError) as mistake:
        parser.error(str(mistake))
