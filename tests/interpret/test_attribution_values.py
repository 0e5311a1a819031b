"""Values of attribution maps by hand, for networks simple enough to work them out."""

import numpy as np
import pytest
import torch

from alexnet.inference.predictor import model_from_checkpoint
from alexnet.interpret.attribution import _occlusion
from weight_files import saved_as

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_occlusion_map_is_by_how_much_the_probability_falls():
    """Two classes: the odds of the first are e where the view's center is to be seen, and 1 where it is hidden."""
    saved = saved_as("small", "input.side=32", "input.crop=28", "conv.width=16", "dense.width=32")
    model = model_from_checkpoint(saved)
    view = torch.zeros(1, 3, 28, 28)
    view[:, :, 13:15, 13:15] = 1 / 12  # 12 values, which add up to 1

    def logits(views_NCHW):
        total = views_NCHW[:, :, 13:15, 13:15].sum((1, 2, 3))
        return torch.stack([total, torch.zeros_like(total)], 1)

    model.network.forward = logits
    heat = _occlusion(model, view, 0, 28)  # one square, which hides everything
    e = np.e
    assert heat == pytest.approx(np.full((28, 28), e / (e + 1) - 1 / 2), rel=1e-4)
    heat = _occlusion(model, view, 1, 28)  # the other class's probability rises as much
    assert heat == pytest.approx(np.full((28, 28), 1 / 2 - e / (e + 1)), rel=1e-4)
