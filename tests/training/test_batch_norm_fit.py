"""On how many training images batch normalization is fitted to the scale of evaluation, and on which."""

import numpy as np
import pytest
from torch import nn

from alexnet.training.batch_norm_fit import fit_batch_norm

pytestmark = pytest.mark.usefixtures("one_thread")


class Images:
    """Training images without content, which remembers those that were read."""

    def __init__(self, count):
        self.count, self.batches = count, []

    def __len__(self):
        return self.count

    def read(self, indices):
        self.batches.append(indices.tolist())
        return np.zeros((len(indices), 3), np.float32)


def read(count):
    images = Images(count)
    fit_batch_norm(nn.Linear(3, 1), lambda pixels: pixels, images)
    return images.batches


@pytest.mark.parametrize(("count", "used"), [(12_345, 10_000), (10_000, 10_000), (740, 740)])
def test_ten_thousand_images_are_read_or_all_each_once_and_always_the_same(count, used):
    batches = read(count)
    chosen = [number for batch in batches for number in batch]
    assert len(chosen) == len({*chosen}) == used
    assert {*chosen} <= {*range(count)}
    assert read(count) == batches
    sizes = [len(batch) for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2
    if count > used:  # drawn, not the first ones, which may be of one class
        assert max(chosen) > 12_000
