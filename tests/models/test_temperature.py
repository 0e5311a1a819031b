"""A network's temperature divides its logits everywhere, and survives saving; the weights do not change."""

import pytest
import torch

from alexnet.errors import UserError
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.quantized import FastNetwork


@pytest.fixture
def saved(tiny):
    network = AlexNet(tiny)
    return Checkpoint(tiny, ("a", "b", "c", "d"), network.state_dict(), torch.zeros(1, 1, 3),
                      calibration={"temperature": 2.5, "fitted_images": 50, "measured_images": 50,
                                   "ece_before": 0.1, "ece_after": 0.03})


def test_logits_are_divided_by_the_temperature(saved):
    views = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    plain, calibrated = saved.network(calibrated=False), saved.network()
    with torch.inference_mode():
        torch.testing.assert_close(calibrated(views), plain(views) / 2.5, rtol=0, atol=0)
    assert (plain.temperature, calibrated.temperature) == (1.0, 2.5)


def test_fast_inference_divides_by_the_temperature_too(saved):
    try:
        plain, calibrated = (FastNetwork(saved.network(calibrated=each)) for each in (False, True))
    except UserError as error:
        pytest.skip(str(error))
    views = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(calibrated(views), plain(views) / 2.5)


def test_a_checkpoint_keeps_its_calibration(saved, tmp_path):
    checkpoint.save(saved, tmp_path)
    loaded = checkpoint.load(tmp_path)
    assert loaded.calibration == saved.calibration
    assert all(torch.equal(loaded.weights[key], tensor) for key, tensor in saved.weights.items())
    checkpoint.save(Checkpoint(saved.arch, saved.classes, saved.weights, saved.mean_HWC), tmp_path)
    assert checkpoint.load(tmp_path).network().temperature == 1.0
