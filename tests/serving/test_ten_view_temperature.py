"""The server divides the logits of each of ten views by their own temperature, and those of one view by its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet.inference.predictor import model_from_checkpoint
from alexnet.models import checkpoint
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service
from inprocess import encoded, served
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")

ONE = {"temperature": 4.0, "fitted_images": 20, "measured_images": 20, "ece_before": 0.1, "ece_after": 0.0}


@pytest.mark.parametrize(("calibration", "own", "used"), [
    ({}, None, 1.0), (ONE, None, 4.0), (ONE | {"ten_views": ONE | {"temperature": 9.0}}, 9.0, 9.0)])
def test_ten_views_are_answered_at_their_temperature(trained, calibration, own, used):
    saved = checkpoint.load(trained)
    model = model_from_checkpoint(replace(saved, calibration=calibration))
    pixels_HWC = draw(np.random.default_rng(1), 2)
    with served(Service([ServedModel(model)])) as client:
        ten, one = (client.predict(encoded(pixels_HWC), f"?views={views}&top=4")[2]["images"][0]["classes"]
                    for views in (10, 1))
        described = client.request("/model")[2]
    assert described["ten_view_temperature"] == own
    assert described["temperature"] == calibration.get("temperature", 1.0)
    plain, stored_NHWC = saved.network(calibrated=False), next(model.stored_batches(pixels_HWC))
    with torch.inference_mode():
        views = model.preprocess.ten_views(torch.from_numpy(stored_NHWC))[0]
        expected = (plain(views) / used).softmax(-1).mean(0)
        center = (plain(views[4:5]) / described["temperature"]).softmax(-1)[0]
    for found, row_K in ((ten, expected), (one, center)):
        assert {each["name"]: each["probability"] for each in found} == pytest.approx(
            dict(zip(model.classes, row_K.tolist(), strict=True)), abs=1e-4)
