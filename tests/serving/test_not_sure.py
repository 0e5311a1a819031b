"""The server says whether the network is sure of an image."""

from dataclasses import replace

import numpy as np
import pytest

from alexnet.inference.predictor import model_from_checkpoint
from alexnet.models import checkpoint
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service
from inprocess import encoded, served
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("temperature", "sure"), [(None, None), (50.0, False), (0.02, True)])
def test_an_answer_says_whether_its_likeliest_class_has_50_percent(trained, temperature, sure):
    calibration = {"temperature": temperature} if temperature else {}
    model = model_from_checkpoint(replace(checkpoint.load(trained), calibration=calibration))
    with served(Service([ServedModel(model)])) as client:
        _, _, response = client.predict(encoded(draw(np.random.default_rng(1), 2)))
    [image] = response["images"]
    assert image["sure"] is sure
    assert sure is None or (image["classes"][0]["probability"] >= 0.5) is sure
