"""Mixup, CutMix and random erasing: values by hand, distributions, and independence of how a batch is read."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import InputSpec
from alexnet.data.augmentation import box_mask, erase, uniform
from alexnet.data.mixing import beta_quantile, draw_mixes, mix_batch
from alexnet.data.preprocessing import Preprocess

CPU = torch.device("cpu")
PLAIN = Recipe("plain", lighting=0.0)
LABELS = torch.tensor([0, 1, 2])


def constant_views(*values: float, crop: int = 4) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, crop, crop)


# --- The beta distribution ---

@pytest.mark.parametrize(("alpha", "cumulative"), [
    (1.0, lambda x: x), (0.5, lambda x: 2 / np.pi * np.arcsin(np.sqrt(x))), (2.0, lambda x: 3 * x**2 - 2 * x**3),
    (3.0, lambda x: 10 * x**3 - 15 * x**4 + 6 * x**5)])
def test_quantiles_are_those_of_the_closed_forms(alpha, cumulative):
    draws = np.array([0.001, 0.02, 0.25, 0.5, 0.6, 0.9, 0.999])
    assert cumulative(beta_quantile(draws, alpha)) == pytest.approx(draws, abs=2e-4)


@pytest.mark.needs("scipy", "pip install '.[test]'")
@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.4, 1.0, 10.0])
def test_quantiles_are_those_of_scipy(alpha):
    from scipy import stats

    draws = np.linspace(0.001, 0.999, 999)
    assert beta_quantile(draws, alpha) == pytest.approx(stats.beta.ppf(draws, alpha, alpha), abs=1e-3)


# --- Mixing ---

def test_mixup_averages_a_view_with_the_next_one(monkeypatch):
    monkeypatch.setattr("alexnet.data.mixing.draw_mixes", lambda *a: (np.array([0.75, 0.5, 0.0]), np.full((3, 4), -1)))
    views, mixed = mix_batch(constant_views(0.0, 4.0, 8.0), LABELS, np.arange(3), replace(PLAIN, mixup_alpha=0.2), 0, 0)
    # 0.75 x 0 + 0.25 x 4, then 0.5 x 4 + 0.5 x 8, then 0 x 8 + 1 x 0: the last one's partner is the first.
    torch.testing.assert_close(views, constant_views(1.0, 6.0, 0.0))
    assert mixed.partner_labels_N.tolist() == [1, 2, 0]
    assert mixed.weight_N.tolist() == [0.75, 0.5, 0.0]


def test_cutmix_pastes_a_rectangle_of_the_next_view(monkeypatch):
    boxes = np.array([[1, 0, 3, 2], [0, 0, 0, 0], [0, 0, 4, 4]])
    monkeypatch.setattr("alexnet.data.mixing.draw_mixes", lambda *a: (np.array([0.75, 1.0, 0.0]), boxes))
    views, _ = mix_batch(constant_views(1.0, 2.0, 3.0), LABELS, np.arange(3), replace(PLAIN, cutmix_alpha=1.0), 0, 0)
    assert views[0, 2].tolist() == [[1, 1, 1, 1], [2, 2, 1, 1], [2, 2, 1, 1], [1, 1, 1, 1]]
    assert torch.equal(views[1:], constant_views(2.0, 1.0))


def test_cutmix_draws_the_boxes_of_its_authors_code():
    """rand_bbox and the corrected lambda of clovaai/CutMix-PyTorch, written again for one image."""
    indices, crop = np.arange(200), 28
    weights, boxes = draw_mixes(replace(PLAIN, cutmix_alpha=1.0), indices, 7, 2, crop)
    draws = uniform(7, 2, indices, 20)[:, 16:]
    for (_, lam, row, column), weight, box in zip(draws, weights, boxes, strict=True):
        cut = int(crop * (1.0 - lam) ** 0.5)
        y, x = int(row * crop), int(column * crop)
        top, bottom = max(y - cut // 2, 0), min(y + cut // 2, crop)
        left, right = max(x - cut // 2, 0), min(x + cut // 2, crop)
        assert box.tolist() == [top, left, bottom, right]
        # The weight is interpolated in a table, and a box's area is a whole number of pixels.
        assert weight == pytest.approx(1 - (bottom - top) * (right - left) / crop**2)
        assert box_mask(box[None], crop, CPU).sum() == round((1 - weight) * crop**2)


def test_with_both_half_of_the_images_have_cutmix():
    _, boxes = draw_mixes(replace(PLAIN, cutmix_alpha=1.0, mixup_alpha=0.2), np.arange(2000), 0, 0, 28)
    assert 900 < (boxes[:, 0] >= 0).sum() < 1100
    _, boxes = draw_mixes(replace(PLAIN, mixup_alpha=0.2), np.arange(100), 0, 0, 28)
    assert (boxes == -1).all()


def test_a_mix_depends_on_the_image_and_the_epoch_and_not_on_its_place():
    recipe = replace(PLAIN, cutmix_alpha=1.0, mixup_alpha=0.2)
    weights, boxes = draw_mixes(recipe, np.array([5, 9, 3]), 1, 4, 28)
    alone, box = draw_mixes(recipe, np.array([9]), 1, 4, 28)
    assert (alone[0], box[0].tolist()) == (weights[1], boxes[1].tolist())
    assert draw_mixes(recipe, np.array([9]), 1, 5, 28)[0] != alone
    assert draw_mixes(recipe, np.array([9]), 2, 4, 28)[0] != alone


# --- Random erasing ---

def test_erasing_sets_one_rectangle_to_zero():
    views = torch.ones(3, 3, 10, 10)
    # Area 0.02 + 0.5 x 0.38 = 0.21, ratio 0.3 + 0.21 x (3.333 - 0.3) = 0.937: 4.4 rows and 4.7 columns of 10.
    # The first row is 0.5 x 7 = 3.5, the first column 0.99 x 6 = 5.9.
    box = [0.4, 0.5, 0.21, 0.5, 0.99]
    too_long = [0.49, 0.9999, 0.9999, 0.5, 0.01]  # area 0.4, ratio 3.33: 11.5 rows
    erased = erase(views, np.array([box, [0.5, *box[1:]], too_long]), probability=0.5)
    expected = torch.ones(10, 10)
    expected[3:7, 5:10] = 0
    assert torch.equal(erased[0], expected.expand(3, -1, -1))
    assert torch.equal(erased[1], views[1]), "a draw that is not below the probability erases nothing"
    assert torch.equal(erased[2], views[2])
    assert (views == 1).all()


def test_erased_areas_lie_between_2_and_40_percent():
    draws = uniform(0, 0, np.arange(3000), [*range(11, 16), *range(38, 56)])
    erased = (erase(torch.ones(3000, 1, 50, 50), draws, 1.0) == 0).float().mean((1, 2, 3))
    assert 0.015 < erased.min() < 0.03
    assert 0.35 < erased.max() < 0.42  # the sides are rounded
    # The mean of the drawn areas is (0.02 + 0.4) / 2; the few that are too long are drawn again.
    assert 0.20 < erased.mean() < 0.215


# --- Training views ---

AUGMENTED = replace(PLAIN, trivial_augment=True, erase_probability=0.5)


@pytest.mark.parametrize("crop", ["window", "resized", "center"])
def test_an_augmented_view_does_not_depend_on_its_batch(crop):
    pixels, indices = torch.randint(0, 256, (12, 20, 20, 3), dtype=torch.uint8), np.arange(40, 52)
    preprocess = Preprocess(InputSpec(side=20, crop=12, mean="channel"), torch.full((1, 1, 3), 120.0))
    recipe = replace(AUGMENTED, crop=crop)
    whole = preprocess.training_views(pixels, indices, recipe, 1, 2)
    parts = [preprocess.training_views(pixels[rows], indices[rows], recipe, 1, 2)
             for rows in (slice(0, 1), slice(1, 5), slice(5, 12))]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(preprocess.training_views(pixels, indices, recipe, 1, 3), whole)


def test_an_augmentation_that_is_on_leaves_crop_mirror_and_color_noise_as_they_were():
    pixels, indices = torch.randint(1, 256, (40, 20, 20, 3), dtype=torch.uint8), np.arange(40)
    preprocess = Preprocess(InputSpec(side=20, crop=12, mean="channel"), torch.zeros(1, 1, 3))
    before = preprocess.training_views(pixels, indices, PLAIN, 1, 2)
    erased = preprocess.training_views(pixels, indices, replace(PLAIN, erase_probability=0.5), 1, 2)
    assert 5 < (erased == 0).flatten(1).any(1).sum() < 35
    assert torch.equal(erased[erased != 0], before[erased != 0])


def test_further_draws_leave_the_first_eight_as_they_were():
    """The first ones, of seed 3 and epoch 1, by splitmix64 in Python's integers."""
    mask, golden = 2**64 - 1, 0x9E3779B97F4A7C15

    def mixed(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
        return x ^ (x >> 31)

    row = mixed((mixed((mixed(3) + 2 * golden) & mask) + 11 * golden) & mask)  # of the image with index 11
    expected = [((mixed((row + number * golden) & mask) >> 11) + 0.5) / 2**53 for number in range(1, 21)]
    assert uniform(3, 1, np.array([11]), 20)[0].tolist() == expected
    assert uniform(3, 1, np.array([11]), 8)[0].tolist() == expected[:8]
