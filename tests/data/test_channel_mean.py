"""Mean and covariance of the colors weigh every training image alike, however uneven classes, images and shards are."""

import numpy as np
import pytest
import torch

from alexnet.architecture.spec import InputSpec
from alexnet.data.dataset import Dataset
from alexnet.data.folds import folded
from alexnet.data.packing import pack
from alexnet.data.preprocessing import Preprocess

SIDE = 16
CLASSES = ("rare", "common", "some")
COLORS = ((250, 0, 100), (10, 20, 30), (100, 200, 50))
TRAIN, VAL = (1, 7, 3), (2, 1, 1)
SIZES = ((16, 16), (40, 16), (16, 64), (90, 120))
"""Rows and columns of the images, in turn."""


class Plain:
    """An image of its class's color, whose size differs from that of its neighbors."""

    def __init__(self, split: str, label: int, number: int) -> None:
        self.name, self.label = f"{split}/{CLASSES[label]}/{number:02}.png", label
        self._pixels = np.tile(np.array(COLORS[label], np.uint8), (*SIZES[number % 4], 1))

    def stamp(self) -> str:
        return self.name

    def content(self) -> np.ndarray:
        return self._pixels

    def pixels(self) -> np.ndarray:
        return self._pixels


def uneven(tmp_path, counts=(TRAIN, VAL)):
    splits = {split: [Plain(split, label, number) for label, of_class in enumerate(of_split)
                      for number in range(of_class)] for split, of_split in zip(("train", "val"), counts, strict=True)}
    return pack(Dataset(name="uneven", classes=CLASSES, splits=splits, source="uneven", wnids=None, notes=(),
                        credits=""), tmp_path / "data", side=SIDE, shard_images=4)


def of_images(counts):
    """Mean and covariance, each image of a class counted once: its pixels all have one color."""
    colors = np.repeat(np.array(COLORS, float), counts, axis=0)
    return colors.mean(0), np.cov(colors.T, bias=True)


def test_the_channel_mean_of_an_uneven_set_is_that_of_its_images(tmp_path):
    packed = uneven(tmp_path)
    # Red: (1 x 250 + 7 x 10 + 3 x 100) / 11; green: (7 x 20 + 3 x 200) / 11; blue: (100 + 7 x 30 + 3 x 50) / 11.
    by_hand = [620 / 11, 740 / 11, 460 / 11]
    preprocess = Preprocess.from_data(InputSpec(side=SIDE, crop=12, mean="channel"), packed.mean_HWC)
    assert preprocess.mean_HWC.shape == (1, 1, 3)
    assert preprocess.mean_HWC.flatten().tolist() == pytest.approx(by_hand, rel=1e-5)
    assert packed.mean_HWC.reshape(-1, 3) == pytest.approx(np.tile(by_hand, (SIDE * SIDE, 1)), rel=1e-5)
    assert packed.rgb_mean.tolist() == pytest.approx(by_hand)
    mean, covariance = of_images(TRAIN)
    assert mean.tolist() == pytest.approx(by_hand)
    np.testing.assert_allclose(packed.rgb_covariance, covariance, rtol=1e-9)


def test_the_channel_mean_of_a_fold_is_that_of_its_own_training_images(tmp_path):
    packed = uneven(tmp_path, ((4, 14, 6), VAL))
    for number in (1, 2):
        fold = folded(packed, number, 2)
        counts = np.bincount(fold.split("train").labels, minlength=3)
        assert counts.sum() < 28
        mean, covariance = of_images(counts)
        np.testing.assert_allclose(fold.rgb_mean, mean, rtol=1e-5)
        np.testing.assert_allclose(fold.rgb_covariance, covariance, rtol=1e-6)
        channel = Preprocess.from_data(InputSpec(side=SIDE, crop=12, mean="channel"), fold.mean_HWC).mean_HWC
        np.testing.assert_allclose(channel.flatten(), mean, rtol=1e-5)


def test_the_channel_mean_is_taken_over_all_pixels_and_a_given_one_is_kept():
    mean_HWC = np.zeros((4, 4, 3), np.float32)
    mean_HWC[0] = (16, 32, 64)  # the first of four rows
    mean_HWC[3, 3] += (16, 0, 0)  # one of 16 pixels
    spec = InputSpec(side=4, crop=2, mean="channel")
    assert Preprocess.from_data(spec, mean_HWC).mean_HWC.flatten().tolist() == [5, 8, 16]
    assert torch.equal(Preprocess.from_data(InputSpec(side=4, crop=2), mean_HWC).mean_HWC, torch.from_numpy(mean_HWC))
    given = Preprocess.from_data(InputSpec(side=4, crop=2, mean=(1.0, 2.0, 3.0)), mean_HWC).mean_HWC
    assert given.flatten().tolist() == [1, 2, 3]
