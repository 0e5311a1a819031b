"""An ensemble averages probabilities, with one view and with ten; values by hand."""

import math

import pytest
import torch
from torch import nn

from alexnet.architecture.spec import InputSpec
from alexnet.data.preprocessing import Preprocess
from alexnet.inference.evaluate import probabilities

PLAIN = Preprocess(InputSpec(side=4, crop=2, mean=(0.0, 0.0, 0.0)), torch.zeros(1, 1, 3))


class Fixed(nn.Module):
    """The logits of given probabilities, for every view."""

    def __init__(self, *of_class: float) -> None:
        super().__init__()
        self.logits = torch.tensor([math.log(each) for each in of_class])

    def forward(self, x):
        return self.logits.expand(len(x), -1)


class Reader(nn.Module):
    """Two classes: the odds of the first are given by the red value of the view's first pixel."""

    def forward(self, x):
        return torch.stack([x[:, 0, 0, 0].log(), torch.zeros(len(x))], 1)


@pytest.mark.parametrize("views", [1, 10])
def test_an_ensemble_averages_probabilities_and_not_logits(views):
    models = [(Fixed(0.9, 0.06, 0.04), PLAIN), (Fixed(0.1, 0.5, 0.4), PLAIN), (Fixed(0.2, 0.4, 0.4), PLAIN)]
    pixels = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    # The mean of the logits would give the second class; that of the probabilities the first.
    expected = torch.tensor([1.2 / 3, 0.96 / 3, 0.84 / 3]).expand(2, -1)
    torch.testing.assert_close(probabilities(models, pixels, views), expected)
    torch.testing.assert_close(probabilities(models[:1], pixels, views), torch.tensor([0.9, 0.06, 0.04]).expand(2, -1))


def test_an_ensemble_at_one_view_sees_the_center_and_at_ten_views_the_corners_too():
    """Red is 1 but for the four corners' first pixels: 3 at the top left, 7 in the window at the top right, ..."""
    red = torch.ones(4, 4)
    red[0, 0], red[0, 2], red[2, 0], red[2, 2], red[1, 1] = 3, 7, 1, 9, 4
    red[0, 1], red[0, 3], red[2, 1], red[2, 3], red[1, 2] = 1, 3, 1, 1, 9  # the first pixels of the mirrored windows
    pixels = torch.stack([red, red * 0, red * 0], -1)[None].to(torch.uint8)
    models = [(Reader(), PLAIN), (Fixed(0.5, 0.5), PLAIN)]
    # The center's first pixel is 4: probability 4 / 5; the other network says 1 / 2.
    assert probabilities(models, pixels, 1)[0].tolist() == pytest.approx([0.65, 0.35])
    ten = [3 / 4, 7 / 8, 1 / 2, 9 / 10, 4 / 5, 1 / 2, 3 / 4, 1 / 2, 1 / 2, 9 / 10]
    first = (sum(ten) / 10 + 1 / 2) / 2
    assert probabilities(models, pixels, 10)[0].tolist() == pytest.approx([first, 1 - first])
