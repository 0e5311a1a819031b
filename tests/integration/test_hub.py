"""torch.hub finds every preset and trained models in a folder of the repository."""

import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import ARCHS, arch
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint

ROOT = Path(__file__).parents[2]


def hub(name, *arguments, **settings):
    return torch.hub.load(str(ROOT), name, *arguments, source="local", **settings)


@pytest.fixture
def entries():
    """What torch.hub lists of a repository: the callables of its hubconf.py but for those with an underscore."""
    names = runpy.run_path(str(ROOT / "hubconf.py"))
    return {name: value for name, value in names.items() if callable(value) and not name.startswith("_")}


def test_hub_lists_the_presets_and_the_trained_model(entries):
    assert set(entries) == {"model", *(name.replace("-", "_") for name in ARCHS)}


@pytest.mark.parametrize("name", ["cifar", "small", "torchvision_bn"])
def test_a_preset_from_the_hub_is_the_preset(name):
    ours, hubs = AlexNet(arch(name.replace("_", "-")), seed=3), hub(name, arch(name.replace("_", "-")).classes, seed=3)
    assert str(ours) == str(hubs)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), hubs.parameters(), strict=True))


def test_every_entry_says_what_it_is(entries):
    assert all(entry.__doc__ for entry in entries.values())
    assert "inputs of 227x227 pixels" in entries["caffenet"].__doc__
    assert hub("small", classes=7)(torch.zeros(2, 3, 56, 56)).shape == (2, 7)


def test_a_trained_model_from_the_hub_predicts(tiny, tmp_path):
    names = ("ash", "birch", "cedar", "date palm")
    network = AlexNet(tiny)
    checkpoint.save(Checkpoint(tiny, names, network.state_dict(), torch.full((1, 1, 3), 128.0)), tmp_path / "saved")
    model = hub("model", tmp_path / "saved")
    guesses = model.predict(np.zeros((50, 40, 3), np.uint8))[0]
    assert {guess.name for guess in guesses} == set(names)


def test_it_works_where_the_package_is_not_installed(tmp_path):
    """In a Python that does not know the package, but has what hubconf.py says it depends on."""
    code = ("import sys, torch\n"
            "sys.path[:] = [entry for entry in sys.path if entry != sys.argv[2]]\n"
            "sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]\n"
            "assert 'alexnet' not in sys.modules\n"
            "network = torch.hub.load(sys.argv[1], 'small', source='local')\n"
            "import alexnet\n"
            "assert alexnet.__file__.startswith(sys.argv[1])\n"
            "print(sum(p.numel() for p in network.parameters()))")
    done = subprocess.run([sys.executable, "-c", code, str(ROOT), str(ROOT / "src")], cwd=tmp_path, check=True,
                          capture_output=True, text=True)
    assert int(done.stdout) == explain(replace(arch("small"), classes=1000)).parameters
