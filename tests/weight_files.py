"""Weights for tests: an independent copy of torchvision's network, weight files, and checkpoints of narrow networks."""

import pytest
import torch
from torch import nn

from alexnet.architecture.network_presets import ARCHS, arch
from alexnet.architecture.overrides import override
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats import torchvision

FULL = ((64, 192, 384, 256, 256), 4096)
NARROW = ((8, 8, 8, 8, 8), 16)
"""Widths of the convolutions, and of the hidden fully connected layers."""


class TorchvisionAlexNet(nn.Module):
    """torchvision's alexnet, written from its printed form (pytorch/vision, models/alexnet.py)."""

    def __init__(self, widths=FULL[0], hidden=4096, classes=1000):
        super().__init__()
        a, b, c, d, e = widths
        self.features = nn.Sequential(
            nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(b, c, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c, d, 3, padding=1), nn.ReLU(),
            nn.Conv2d(d, e, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(e * 36, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, classes))

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def write(content, path, zipped=True):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def saved_as(name: str, *settings: str, classes: tuple[str, ...] = tuple("abcdefg"), seed: int = 3) -> Checkpoint:
    """A checkpoint of a preset with narrow fully connected layers; statistics and mean are like a trained network's."""
    network = arch(name)
    network = override(network, [f"classes={len(classes)}", *(["dense.width=64"] if network.dense else []), *settings])
    generator = torch.Generator().manual_seed(seed)
    state = AlexNet(network, seed).state_dict()
    for key in state:
        if "running" in key:
            state[key] = torch.rand(state[key].shape, generator=generator) / 2 + (0.75 if "var" in key else -0.25)
    side = network.input.side if network.input.mean == "pixel" else 1
    mean_HWC = torch.rand(side, side, 3, generator=generator) * 255
    if isinstance(network.input.mean, tuple):
        mean_HWC = torch.tensor(network.input.mean).reshape(1, 1, 3)
    return Checkpoint(network, classes, state, mean_HWC)


def narrow(name: str, *settings: str) -> Checkpoint:
    """A checkpoint of a preset at 16 maps a layer and 32 units."""
    narrow_layers = ("conv.width=16", "dense.width=32")
    return saved_as(name, *narrow_layers[: 2 if ARCHS[name].dense else 1], *settings)


def assert_same(first: Checkpoint, second: Checkpoint) -> None:
    """Assert that two checkpoints hold the same network, bit for bit."""
    assert first.arch == second.arch
    assert first.classes == second.classes
    assert first.weights.keys() == second.weights.keys()
    for key, tensor in first.weights.items():
        assert tensor.dtype == second.weights[key].dtype
        assert torch.equal(tensor, second.weights[key]), key
    assert torch.equal(first.mean_HWC, second.mean_HWC)


def narrow_torchvision(monkeypatch: pytest.MonkeyPatch) -> TorchvisionAlexNet:
    """torchvision's network with few maps and units and 7 classes; the package then expects this size in its files."""
    monkeypatch.setattr(torchvision, "TORCHVISION", override(arch("torchvision"), ["conv.width=8", "dense.width=16"]))
    torch.manual_seed(0)
    network = TorchvisionAlexNet(*NARROW, classes=7).eval()
    for parameter in network.parameters():
        parameter.data *= 3  # outputs as far apart as a trained network's
    return network
