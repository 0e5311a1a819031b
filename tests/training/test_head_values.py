"""Which images `train --head` holds out to choose its weight decay, by hand."""

import numpy as np

from alexnet.training.head import held_out


def test_the_fifth_tenth_and_fifteenth_image_of_each_class_are_held_out():
    # Classes 0 and 1 in turn, 16 images of each, then four of class 2: too few to hold one out.
    labels = np.array([0, 1] * 16 + [2] * 4)
    assert np.flatnonzero(held_out(labels)).tolist() == [8, 9, 18, 19, 28, 29]
    assert np.bincount(labels[held_out(labels)]).tolist() == [3, 3]
