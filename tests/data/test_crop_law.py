"""The boxes of random resized crops and of random erasing follow the laws of torchvision and of the authors' code.

The references draw one box at a time with Python's `random`, from the rule that the documentation states. They share
neither code nor random numbers with the package.
"""

import math
import random
from functools import partial

import numpy as np
import pytest
import torch

from alexnet.architecture.recipe import Recipe
from alexnet.data.augmentation import erase, random_views, resized_crop_boxes, uniform
from peers import torchvision

COUNT = 30_000
CPU = torch.device("cpu")

# Two samples of 30,000 from one law differ by more than this with a probability below 1 in 10,000 (Kolmogorov-Smirnov).
LARGEST_DISTANCE = math.sqrt(-math.log(1e-4 / 2) / 2) * math.sqrt(2 / COUNT)


def documented_box(draw: random.Random, side: int, low: float, high: float) -> tuple[int, int, int, int]:
    """RandomResizedCrop for a square image: ten attempts, then the whole image (its ratio of 1 is an allowed one)."""
    for _ in range(10):
        area = draw.uniform(low, high) * side * side
        ratio = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
        wide, high_ = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if wide <= side and high_ <= side:
            return draw.randint(0, side - high_), draw.randint(0, side - wide), high_, wide
    return 0, 0, side, side


def clamped_box(draw: random.Random, side: int, low: float, high: float) -> tuple[int, int, int, int]:
    """The other law: a box that does not fit is cut to the image."""
    root, ratio = math.sqrt(draw.uniform(low, high)), math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
    wide, high_ = (min(side, round(side * root * factor)) for factor in (math.sqrt(ratio), 1 / math.sqrt(ratio)))
    return draw.randint(0, side - high_), draw.randint(0, side - wide), high_, wide


def sample(box, side, area, seed):
    draw = random.Random(seed)
    return np.array([box(draw, side, *area) for _ in range(COUNT)], float)


def our_boxes(side, area, seed=3):
    views = random_views(Recipe("r", crop="resized", crop_area=area, lighting=0.0), np.arange(COUNT), seed, 5,
                         side=side, crop=8, device=CPU)
    return views.boxes_N4.numpy()


def distance(first, second):
    """The Kolmogorov-Smirnov statistic of two samples."""
    values = np.concatenate([first, second])
    below = [np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (first, second)]
    return np.abs(below[0] - below[1]).max()


def quantities(boxes, side):
    """What must be distributed alike: sizes, shapes and places."""
    top, left, rows, columns = boxes.T
    return {"area": rows * columns, "aspect": columns / rows, "rows": rows, "columns": columns,
            "longer side": np.maximum(rows, columns), "top": top, "left": left,
            "bottom margin": side - top - rows, "right margin": side - left - columns}


def distances(boxes, reference, side):
    ours, theirs = quantities(boxes, side), quantities(reference, side)
    return {name: distance(ours[name], theirs[name]) for name in ours}


LAWS = [(256, (0.08, 1.0)), (64, (0.25, 1.0)), (40, (0.9, 1.0))]


@pytest.mark.parametrize(("side", "area"), LAWS)
def test_boxes_have_the_law_of_torchvisions_random_resized_crop(side, area):
    found = distances(our_boxes(side, area), sample(documented_box, side, area, seed=1), side)
    assert max(found.values()) < LARGEST_DISTANCE, found


def test_the_documented_rule_is_that_of_torchvisions_code():
    torchvision()
    from torchvision.transforms import RandomResizedCrop

    side, area, count = 256, (0.08, 1.0), 3000
    image = torch.empty(3, side, side)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        get_params = partial(RandomResizedCrop.get_params, image, list(area), [3 / 4, 4 / 3])
        theirs = np.array([get_params() for _ in range(count)], float)
    found = distances(sample(documented_box, side, area, seed=1)[:count], theirs, side)
    assert max(found.values()) < LARGEST_DISTANCE * math.sqrt(COUNT / count), found


@pytest.mark.parametrize(("side", "area"), LAWS)
def test_the_comparison_tells_a_clamped_box_from_one_drawn_again(side, area):
    found = distances(sample(clamped_box, side, area, seed=2), sample(documented_box, side, area, seed=1), side)
    assert max(found.values()) > 3 * LARGEST_DISTANCE, found


def test_a_box_rarely_has_a_whole_side_and_is_drawn_in_whole_pixels_inside_the_image():
    boxes = our_boxes(256, (0.08, 1.0))
    top, left, rows, columns = boxes.T
    assert (boxes == boxes.round()).all()
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + rows).max() == (left + columns).max() == 256
    whole = ((rows == 256) | (columns == 256)).mean()
    assert 0.002 < whole < 0.02, "clamped boxes have a whole side in 14% of the images"
    assert 3 / 4 - 0.01 < (columns / rows).min() < 0.77
    assert 1.3 < (columns / rows).max() < 4 / 3 + 0.02


def draws_of(*attempts, row=0.5, column=0.5):
    (area, ratio), *others = attempts
    return np.array([[area, ratio, row, column, *(number for other in others for number in other)]])


def test_the_first_attempt_that_fits_is_taken_by_hand():
    """Side 100, all areas from 0.08 to 1; u = 1 is area 1, and u = 0 or 1 the ratios 3/4 and 4/3."""
    # Area 1 with ratio 4/3 is 115 wide; with ratio 3/4 it is 115 high; then area 0.54 of ratio 1: 73.48 pixels.
    boxes = resized_crop_boxes(draws_of((1.0, 1.0), (1.0, 0.0), (0.5, 0.5), (0.1, 0.5)), 100, (0.08, 1.0))
    assert boxes.tolist() == [[14, 14, 73, 73]]  # 0.5 x (100 - 73 + 1) = 14
    # Area 0.08 x 10,000 = 800 of ratio 4/3 (columns to rows): 24.49 rows, 32.66 columns. The last row and column.
    boxes = resized_crop_boxes(draws_of((0.0, 1.0), row=0.9999, column=0.0), 100, (0.08, 1.0))
    assert boxes.tolist() == [[76, 0, 24, 33]]


def test_after_ten_attempts_the_box_is_the_whole_image():
    boxes = resized_crop_boxes(draws_of(*[(1.0, 1.0)] * 10), 100, (0.08, 1.0))
    assert boxes.tolist() == [[0, 0, 100, 100]]
    boxes = resized_crop_boxes(draws_of(*[(1.0, 1.0)] * 9, (0.61, 0.5)), 100, (0.08, 1.0))  # 0.08 + 0.61 x 0.92
    assert boxes.tolist() == [[10, 10, 80, 80]], "the tenth attempt fits"


def test_ten_attempts_are_drawn_for_each_image(monkeypatch):
    given = []
    monkeypatch.setattr("alexnet.data.augmentation.resized_crop_boxes",
                        lambda draws_ND, side, area: given.append(draws_ND) or draws_ND[:, :4])
    random_views(Recipe("r", crop="resized"), np.arange(50), 1, 2, side=32, crop=8, device=CPU)
    assert given[0].shape == (50, 4 + 9 * 2)
    assert len(np.unique(given[0])) == given[0].size, "every attempt has its own numbers"
    shared = {*uniform(1, 2, np.arange(50), 20)[:, 4:].flatten()} & {*given[0].flatten()}
    assert not shared, "no other augmentation has them"


def test_a_box_depends_on_seed_epoch_and_image_and_not_on_the_batch():
    recipe, given = Recipe("r", crop="resized", lighting=0.0), {"side": 64, "crop": 8, "device": CPU}
    indices = np.array([9, 4, 1_281_166, 0, 77, 5, 23])
    whole = random_views(recipe, indices, 1, 2, **given).boxes_N4
    for rows in (slice(0, 1), slice(1, 3), slice(3, 7)):
        assert torch.equal(random_views(recipe, indices[rows], 1, 2, **given).boxes_N4, whole[rows])
    assert not torch.equal(random_views(recipe, indices, 2, 2, **given).boxes_N4, whole)
    assert not torch.equal(random_views(recipe, indices, 1, 3, **given).boxes_N4, whole)
    grouped = random_views(Recipe("g", crop="resized", view_group=3), indices, 1, 2, **given).boxes_N4
    assert torch.equal(grouped, whole[[0, 0, 0, 3, 3, 3, 6]])


# --- Random erasing ---

def documented_rectangle(draw: random.Random, side: int) -> tuple[int, int, int, int]:
    """The authors' code: an area of 2% to 40%, a ratio of 0.3 to 1 / 0.3, both uniform; shorter than the image."""
    while True:
        area, ratio = draw.uniform(0.02, 0.4) * side * side, draw.uniform(0.3, 1 / 0.3)
        rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if rows < side and columns < side:
            return draw.randint(0, side - rows), draw.randint(0, side - columns), rows, columns


def our_rectangles(side, count):
    indices = np.arange(count)
    draws = uniform(3, 5, indices, [*range(11, 16), *range(38, 56)])
    erased = erase(torch.ones(1, 1, 1, 1).expand(count, 1, side, side), draws, 1.0)[:, 0] == 0
    rows, columns = erased.any(2).int(), erased.any(1).int()
    assert torch.equal(erased.sum((1, 2)), rows.sum(1) * columns.sum(1)), "one rectangle"
    return torch.stack([rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)], 1).double().numpy()


def test_erased_rectangles_have_the_law_of_their_authors_code():
    side, draw = 32, random.Random(4)
    reference = np.array([documented_rectangle(draw, side) for _ in range(COUNT)], float)
    ours = our_rectangles(side, COUNT)
    found = distances(ours, reference, side)
    assert max(found.values()) < LARGEST_DISTANCE, found
    cut = (ours[:, 2:] >= side).any(1).mean()
    assert cut == 0, "a rectangle that is cut to the view would have its whole length in about 4% of them"


def test_a_rectangle_that_never_fits_erases_nothing():
    # Area 0.4 of ratio 3.33 is 11.5 rows of 10.
    draws = np.array([[0.0, 1.0, 1.0, 0.5, 0.5, *[1.0] * 18], [0.0, 1.0, 1.0, 0.5, 0.5, *[1.0] * 16, 0.0, 0.5]])
    erased = erase(torch.ones(2, 1, 10, 10), draws, 1.0)
    assert (erased[0] == 1).all()
    # Area 0.02 x 100 = 2 of ratio (0.3 + 3.33) / 2 = 1.82: 1.9 rows and 1.05 columns.
    assert (erased[1] == 0).sum() == 2
