"""Fit batch normalization to the scale of evaluation, for training on smaller views (`Recipe.train_crop`)."""

from __future__ import annotations

import numpy as np

from alexnet._runtime.devices import to_device
from alexnet.data.packed import PackedSplit
from alexnet.data.preprocessing import Preprocess
from alexnet.models.alexnet import AlexNet
from alexnet.models.reestimate_batch_norm import reestimate_batch_norm

IMAGES = 10_000
"""Training images, at most, on which batch normalization's statistics are estimated; always the same ones."""

BATCH_SIZE = 250
"""Images that go through the network at a time."""


def fit_batch_norm(network: AlexNet, preprocess: Preprocess, training: PackedSplit) -> None:
    """Estimate batch normalization's statistics on center crops of training images.

    `medium` on Tiny ImageNet after 12 epochs, trained at 44 pixels and evaluated at 56: top-1 error 55.9% with the
    statistics of training, 50.8% with these (seed 0).
    """
    indices = np.random.default_rng(0).permutation(len(training))[:IMAGES]
    batches = np.array_split(indices, max(1, len(indices) // BATCH_SIZE))  # of nearly equal size, none of one image
    device = next(network.parameters()).device
    reestimate_batch_norm(network, (
        preprocess(to_device(training.read(batch), device)) for batch in batches))
