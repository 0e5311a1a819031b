"""The SGD update rule (§5, Caffe, PyTorch) and conv1's learning rate, against training in NumPy."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from comparing import assert_agrees, numbers
from numpy_layers import Array, softmax
from numpy_networks import network, small_network

from alexnet.architecture.recipe_presets import recipe
from alexnet.training.optimizer import SGD
from alexnet.training.schedule import conv1_learning_rate, learning_rate


def updated(rule: str, w: Array, v: Array, g: Array, eps: float, decay: float) -> tuple[Array, Array]:
    """Weights and velocity after one step, by §5 or by torch.optim.SGD's documentation; momentum 0.9."""
    if rule == "paper":
        v = 0.9 * v - decay * eps * w - eps * g
        return w + v, v
    g = g + decay * w
    v = 0.9 * v + g
    return w - eps * (g + 0.9 * v if rule == "nesterov" else v), v


#: The learning rate of biases where it stays the same for the whole run: epsB of layers/layer-params-145.cfg, line 19,
#: and of layers/layer-params-145-2010.cfg, line 19, of computerhistory/AlexNet-Source-Code.
CONSTANT_BIAS_RATES = {"code2012": 0.02, "code2010": 0.002}

RULES = {  # recipe: rule, weight decay, factor on the learning rate of biases, weight decay of biases
    "paper": ("paper", 0.0005, 1, 0.0005), "code2012": ("paper", 0.0005, 2, 0),
    "code2010": ("paper", 0.0005, 0.2, 0), "caffe": ("paper", 0.0005, 2, 0),
    "cifar-18pct": ("paper", 0.004, 2, 0), "torchvision": ("pytorch", 0.0001, 1, 0.0001),
    "modern": ("nesterov", 0.0005, 1, 0)}


def changes_by_training(name: str, rates: list[tuple[float, float]]) -> Iterator[tuple[str, Array, Array]]:
    """Train a small network one step per pair of learning rates, with the package and with NumPy.

    Args:
        rates: of conv1, and of the other layers.

    Yields:
        Each weight's name and its change, with the package and with NumPy.
    """
    rng, (rule, decay, bias_lr_factor, bias_decay) = np.random.default_rng(0), RULES[name]
    ours, first = small_network("paper", rng, "dropout=0")
    weights, velocity = first, [np.zeros_like(w) for w in first]
    optimizer = SGD(ours, recipe(name))
    for of_conv1, of_others in rates:
        x, labels = numbers(rng, 4, 3, 74, 74, scale=20), rng.integers(0, 5, 4)
        optimizer.zero_grad()
        F.cross_entropy(ours(torch.from_numpy(x)), torch.from_numpy(labels)).backward()
        optimizer.step(of_others, None if of_conv1 == of_others else of_conv1)

        logits, back = network("paper", x, weights)
        _, *gradients = back((softmax(logits) - np.eye(5)[labels]) / 4)  # of the mean of -log p(label)
        steps = []
        for number, (w, v, g) in enumerate(zip(weights, velocity, gradients, strict=True)):
            eps = of_conv1 if number < 2 else of_others
            if w.ndim == 1 and eps and name in CONSTANT_BIAS_RATES:
                eps, own_decay = CONSTANT_BIAS_RATES[name], bias_decay
            else:
                eps, own_decay = (eps, decay) if w.ndim > 1 else (eps * bias_lr_factor, bias_decay)
            if name == "cifar-18pct" and number == len(weights) - 2:  # layer-params-18pct: fc10 has wc=1
                own_decay = 1.0
            # A learning rate of 0 freezes a layer.
            steps.append(updated(rule, w, v, g, eps, own_decay) if eps else (w, v))
        weights, velocity = [w for w, _ in steps], [v for _, v in steps]
    for (key, parameter), before, after in zip(ours.named_parameters(), first, weights, strict=True):
        yield key, parameter.detach().numpy() - before, after - before


@pytest.mark.parametrize("name", RULES)
def test_training_equals_training_in_numpy_across_learning_rate_changes(name):
    rates = [0.01, 0.01, 0.01, 0.001, 0.001, 0.03]
    for key, ours, change in changes_by_training(name, list(zip(rates, rates, strict=True))):
        assert np.abs(change).max() > 1e-4, key
        assert_agrees(ours, change, 1e-9, key)


def test_code2012_slows_conv1_at_epoch_67_and_stops_it_at_72():
    code2012, epochs = recipe("code2012"), (66, 67, 71.9, 72, 80)
    others = [learning_rate(code2012, epoch) for epoch in epochs]
    rates = [(conv1_learning_rate(code2012, epoch, rate), rate) for epoch, rate in zip(epochs, others, strict=True)]
    by_hand = [(1e-4, 1e-4), (1e-5, 1e-4), (1e-5, 1e-4), (0, 1e-4), (0, 1e-5)]
    assert np.array(rates) == pytest.approx(np.array(by_hand), rel=1e-12)
    changed = {}
    for steps in (3, 5):
        for key, ours, change in changes_by_training("code2012", by_hand[:steps]):
            assert_agrees(ours, change, 1e-8, key)
            changed[key, steps] = ours
    for part in ("weight", "bias"):
        assert np.array_equal(changed[f"features.conv1.{part}", 3], changed[f"features.conv1.{part}", 5])
    assert not np.array_equal(changed["features.conv2.weight", 3], changed["features.conv2.weight", 5])
