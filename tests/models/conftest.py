"""Fixtures of tests of weights."""

import pytest
import torch

from alexnet.architecture.overrides import override
from alexnet.architecture.presets import arch
from alexnet.models.formats import torchvision
from weight_files import NARROW, TorchvisionAlexNet


@pytest.fixture
def narrow_net(monkeypatch):
    """torchvision's network with few maps and units, in place of the real one."""
    monkeypatch.setattr(torchvision, "TORCHVISION", override(arch("torchvision"), ["conv.width=8", "dense.width=16"]))
    torch.manual_seed(0)
    network = TorchvisionAlexNet(*NARROW, classes=7).eval()
    for parameter in network.parameters():
        parameter.data *= 3  # outputs as far apart as a trained network's
    return network
