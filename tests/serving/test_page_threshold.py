"""The served page marks an image by the server's own threshold of "not sure", and names that threshold."""

import numpy as np
import pytest

from alexnet.inference.predictor import load
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service
from inprocess import encoded, served
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("sure_from", "text"), [
    (1.0, "The likeliest class has a probability below 100%, the threshold of this server. The network knows 4 "
          "classes, and names one of them for any image."), (0.0, None), (None, None)])
def test_the_page_names_the_threshold_of_the_server(trained, browser, tmp_path, sure_from, text):
    (tmp_path / "stripes.png").write_bytes(encoded(draw(np.random.default_rng(1), 2, 200)))
    with served(Service([ServedModel(load(trained), sure_from=sure_from)])) as client:
        page = browser.new_page()
        page.goto(client.url)
        page.set_input_files("#file", tmp_path / "stripes.png")
        page.wait_for_selector("#top-class:not(:empty)")
        assert page.inner_text("#top-class").startswith("Not sure: ") == (text is not None)
        assert page.is_visible("#not-sure") == (text is not None)
        assert text is None or page.inner_text("#not-sure") == text
        page.close()
