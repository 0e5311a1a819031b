"""Subsets of the training images and the tuning split: disjoint, stratified, nested, with statistics of their own."""

import numpy as np
import pytest

from alexnet.data.subset import subset, tuning_images
from alexnet.errors import UserError


@pytest.fixture(scope="module")
def is_tuning_N(packed):
    return tuning_images(packed)


def contents(split):
    return set(split.content_hashes.tolist())


def test_the_tuning_split_is_a_fifth_of_each_class_of_the_training_images(packed, is_tuning_N):
    """30 images of each of four classes, so 6 of each; look-alikes, which stay together, may change that by one."""
    made = subset(packed, is_tuning_N, tuning=True)
    held_out_K = np.bincount(made.split("val").labels)
    assert len(held_out_K) == 4
    assert abs(held_out_K - 6).max() <= 1
    assert (np.bincount(made.split("train").labels) == 30 - held_out_K).all()
    assert made.counts == packed.counts | {"train": 120 - held_out_K.sum(), "val": held_out_K.sum()}


@pytest.mark.parametrize("images_per_class", [None, 5, 23, 27])
def test_tuning_touches_no_validation_image_and_measures_on_none_that_it_trains_on(
        packed, is_tuning_N, images_per_class):
    made = subset(packed, is_tuning_N, images_per_class, tuning=True)
    trained, measured = contents(made.split("train")), contents(made.split("val"))
    assert trained
    assert measured
    assert not trained & measured
    assert (trained | measured) <= contents(packed.split("train"))
    assert not (trained | measured) & contents(packed.split("val"))


def test_runs_with_fresh_seeds_are_validated_on_the_datas_own_split(packed, is_tuning_N):
    made = subset(packed, is_tuning_N, 5)
    assert contents(made.split("val")) == contents(packed.split("val"))
    assert np.bincount(made.split("train").labels).tolist() == [5, 5, 5, 5]
    assert subset(packed, is_tuning_N) is packed


def test_a_subset_is_part_of_a_larger_one_and_tuned_at_its_full_size(packed, is_tuning_N):
    small, large = (contents(subset(packed, is_tuning_N, count).split("train")) for count in (5, 27))
    assert small < large
    assert contents(subset(packed, is_tuning_N, 5, tuning=True).split("train")) == small
    # All images outside of the tuning split, of which no class has more than 25, are among 27 of each class.
    assert len(subset(packed, is_tuning_N, 27, tuning=True).split("train")) == (~is_tuning_N).sum()


def test_the_mean_is_that_of_the_images_trained_on(packed, is_tuning_N):
    made = subset(packed, is_tuning_N, 5, tuning=True)
    pixels_NHWC = made.split("train").read(np.arange(20))
    np.testing.assert_allclose(made.mean_HWC, pixels_NHWC.mean(0), rtol=1e-5)
    np.testing.assert_allclose(
        made.rgb_covariance, np.cov(pixels_NHWC.reshape(-1, 3).T, bias=True), rtol=1e-6)
    assert abs(made.mean_HWC - packed.mean_HWC).max() > 1


def test_subsets_have_fingerprints_of_their_own(packed, is_tuning_N):
    made = [packed, *(subset(packed, is_tuning_N, count, tuning=tuning)
                      for count, tuning in ((5, False), (6, False), (5, True), (None, True)))]
    assert len({data.fingerprint for data in made}) == 5


def test_more_images_than_a_class_has_are_rejected(packed, is_tuning_N):
    with pytest.raises(UserError, match="than the smallest class has, 30; give --images-per-class 30 or less"):
        subset(packed, is_tuning_N, 31)


def test_another_draw_chooses_other_images_from_the_same_ones(packed, is_tuning_N):
    """As many of each class, and outside of the tuning split as before; the same draw makes the same choice."""
    chosen = [contents(subset(packed, is_tuning_N, 5, draw=draw).split("train")) for draw in range(4)]
    outside = contents(packed.split("train").subset(np.flatnonzero(~is_tuning_N)))
    assert len({frozenset(one) for one in chosen}) == 4
    assert all(len(one) == 20 and one <= outside for one in chosen)
    assert contents(subset(packed, is_tuning_N, 5, draw=3).split("train")) == chosen[3]
    assert len({subset(packed, is_tuning_N, 5, draw=draw).fingerprint for draw in range(4)}) == 4
