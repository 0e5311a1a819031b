"""A request whose images alone take longer than others may wait: while others wait, "try again" would not help."""

import threading

import numpy as np
import pytest

from alexnet.inference.predictor import load
from alexnet.serving.limits import Limits
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service
from inprocess import encoded, served
from sample_images import draw


@pytest.mark.parametrize(("images", "error"), [
    (2, {"problem": "too many images are queued", "remedy": "try again in a second"}),
    (3, {"problem": "other images are queued, and those of this request alone take longer than others may wait",
         "remedy": "send fewer images per request"})])
def test_a_long_request_is_told_to_be_shorter(trained, images, error):
    """An image takes 0.2 s and others may wait for 0.5 s; one image is pending."""
    service = Service([ServedModel(load(trained))], limits=Limits(max_queue_seconds=0.5))
    png, begun, may_end = encoded(draw(np.random.default_rng(1), 2)), threading.Event(), threading.Event()
    with served(service) as client:
        forward = service.batcher.forward

        def blocking(*arguments):
            begun.set()
            assert may_end.wait(60)
            return forward(*arguments)

        service.batcher.forward = blocking
        pending = threading.Thread(target=client.predict, args=(png,))
        pending.start()
        assert begun.wait(60)
        service.admission.decodes.seconds_per_item = 0.0
        service.admission.views["alexnet"].seconds_per_item = 0.2
        status, headers, response = client.post_form({f"{number}.png": png for number in range(images)})
        may_end.set()
        pending.join()
        assert (status, headers["retry-after"]) == (503, "1")
        assert response == {"error": error}
        assert client.post_form({f"{number}.png": png for number in range(3)})[0] == 200, "with nothing pending"
