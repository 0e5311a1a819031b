"""The loss scale of fp16: when it is halved and doubled, by hand from torch.amp.GradScaler's defaults."""

import pytest
import torch
from torch import nn

from alexnet.training.precision import MixedPrecision

pytestmark = pytest.mark.usefixtures("one_thread")


def steps(precision, count, gradient=1.0):
    weight = nn.Parameter(torch.zeros(1))
    for _ in range(count):
        weight.grad = torch.full((1,), gradient)
        precision.gradients_are_finite([weight])
    return weight.grad.item()


def test_the_loss_scale_is_doubled_after_2000_steps_without_overflow_and_halved_after_one():
    """GradScaler: init_scale 65,536, growth_factor 2, backoff_factor 0.5, growth_interval 2,000."""
    precision = MixedPrecision("fp32", torch.device("cpu"))
    precision.dtype, precision.scale = torch.float16, 2.0**16  # a CPU has no fp16 training
    assert steps(precision, 1) == 2.0**-16, "gradients are divided by the scale"
    steps(precision, 1998)
    assert precision.scale == 2.0**16
    steps(precision, 1)
    assert precision.scale == 2.0**17
    steps(precision, 1, float("inf"))
    assert precision.scale == 2.0**16
    steps(precision, 1999)
    assert precision.scale == 2.0**16, "the count begins anew"
    steps(precision, 1)
    assert precision.scale == 2.0**17
