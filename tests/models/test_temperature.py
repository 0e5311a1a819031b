"""A network's temperature divides its logits everywhere, and survives saving; the weights do not change."""

from dataclasses import replace

import pytest
import torch

from alexnet.errors import UserError
from alexnet.inference.evaluate import softmax_of_views
from alexnet.inference.predictor import model_from_checkpoint
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.checkpoint_json import calibration_from_json
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


def test_fast_inference_knows_the_temperature_of_ten_views(saved):
    network = saved.network()
    network.ten_view_temperature = 1.25
    try:
        fast = FastNetwork(network)
    except UserError as error:
        pytest.skip(str(error))
    logits = torch.tensor([[1.0, 2.0, 4.0, 0.0]])
    torch.testing.assert_close(softmax_of_views(fast, logits), (logits * 2).softmax(-1))


def test_ten_views_have_a_temperature_of_their_own_if_one_was_fitted(saved, tmp_path):
    ten_views = {"temperature": 1.75, "fitted_images": 50, "measured_images": 50, "ece_before": 0.06, "ece_after": 0.02}
    both = replace(saved, calibration={**saved.calibration, "ten_views": ten_views})
    checkpoint.save(both, tmp_path)
    loaded = checkpoint.load(tmp_path)
    assert loaded.calibration == both.calibration
    views = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(loaded.network()(views), saved.network()(views)), "one view has its own"
    for each, expected in ((both, 1.75), (saved, 2.5)):
        model = model_from_checkpoint(each)
        assert (model.temperature(1), model.temperature(10)) == (2.5, expected)
        assert model.has_ten_view_temperature == (each is both)
    assert loaded.network(calibrated=False).ten_view_temperature is None


@pytest.mark.parametrize("temperature", [0, -1.0, float("inf"), float("nan"), "2", None])
def test_a_ten_view_temperature_that_is_no_positive_number_is_refused(temperature):
    one = {"temperature": 2.0, "fitted_images": 9, "measured_images": 9, "ece_before": 0.1, "ece_after": 0.0}
    with pytest.raises(TypeError):
        calibration_from_json(one | {"ten_views": one | {"temperature": temperature}})
    with pytest.raises(KeyError):
        calibration_from_json(one | {"ten_views": {"temperature": 2.0}})


def test_a_checkpoint_keeps_its_calibration(saved, tmp_path):
    checkpoint.save(saved, tmp_path)
    loaded = checkpoint.load(tmp_path)
    assert loaded.calibration == saved.calibration
    assert all(torch.equal(loaded.weights[key], tensor) for key, tensor in saved.weights.items())
    checkpoint.save(Checkpoint(saved.arch, saved.classes, saved.weights, saved.mean_HWC), tmp_path)
    assert checkpoint.load(tmp_path).network().temperature == 1.0
