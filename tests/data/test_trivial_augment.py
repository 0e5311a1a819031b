"""TrivialAugment's operations are torchvision's, and an image's operation does not depend on its batch."""

import numpy as np
import pytest
import torch

from alexnet.data import trivial_augment as ours
from alexnet.data.augmentation import uniform
from peers import torchvision

SIDE = 48


def images() -> torch.Tensor:
    """Four images: a smooth one, noise, one of low contrast, and one of a single color."""
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    smooth = torch.stack([row * 5, column * 5, (row + column) * 2], -1)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (SIDE, SIDE, 3), generator=generator)
    return torch.stack([smooth, noise, 90 + noise // 8, torch.full_like(noise, 77)]).to(torch.uint8)


def affine(image, **moved):
    given = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]} | moved
    return torchvision_functional().affine(image, **given)


def torchvision_functional():
    torchvision()
    from torchvision.transforms.v2 import functional

    return functional


def degrees(level):
    return float(np.degrees(np.arctan(level)))


REFERENCES = {
    "shear_x": lambda F, image, level: affine(image, shear=[degrees(level), 0.0], center=[0, 0]),
    "shear_y": lambda F, image, level: affine(image, shear=[0.0, degrees(level)], center=[0, 0]),
    "translate_x": lambda F, image, level: affine(image, translate=[int(level), 0]),
    "translate_y": lambda F, image, level: affine(image, translate=[0, int(level)]),
    "rotate": lambda F, image, level: F.rotate(image, level),
    "brightness": lambda F, image, level: F.adjust_brightness(image, level),
    "color": lambda F, image, level: F.adjust_saturation(image, level),
    "contrast": lambda F, image, level: F.adjust_contrast(image, level),
    "sharpness": lambda F, image, level: F.adjust_sharpness(image, level),
    "posterize": lambda F, image, level: F.posterize(image, int(level)),
    "solarize": lambda F, image, level: F.solarize(image, level),
    "autocontrast": lambda F, image, level: F.autocontrast(image),
    "equalize": lambda F, image, level: F.equalize(image),
}
LEVELS = {
    "shear_x": (0.33, -0.99), "shear_y": (0.33, -0.99), "translate_x": (9.6, -32.0), "translate_y": (9.6, -32.0),
    "rotate": (40.5, -135.0), "brightness": (1.5, 0.01), "color": (1.5, 0.01), "contrast": (1.5, 0.01),
    "sharpness": (1.5, 0.01), "posterize": (2.0, 8.0), "solarize": (0.0, 127.5), "autocontrast": (0.0,),
    "equalize": (0.0,)}
MOVES = {"shear_x", "shear_y", "translate_x", "translate_y", "rotate"}
BLENDS = {"brightness", "color", "contrast", "sharpness"}


@pytest.mark.parametrize("name", REFERENCES)
def test_an_operation_is_that_of_torchvision(name):
    functional, pixels = torchvision_functional(), images()
    for level in LEVELS[name]:
        got = ours.OPERATIONS[name][1](pixels, torch.full((4,), level))
        expected = REFERENCES[name](functional, pixels.permute(0, 3, 1, 2), level).permute(0, 2, 3, 1)
        assert got.dtype == torch.uint8
        difference = (got.int() - expected.int()).abs()
        if name in MOVES:  # a position halfway between two pixels may be rounded either way
            assert (difference > 0).float().mean() < 0.01
        elif name in BLENDS:  # a product just below an integer may be rounded to it
            assert difference.max() <= 1
            assert (difference > 0).float().mean() < 0.01
        elif name == "autocontrast":  # torchvision's brightest value is 254 in some channels
            assert difference.max() <= 1
            assert got[2].amax((0, 1)).tolist() == [255] * 3
        else:
            assert torch.equal(got, expected)
        if name != "posterize" or level < 8:
            assert not torch.equal(got[1:3], pixels[1:3]), "the operation does something"


def test_every_operation_but_identity_is_compared_and_there_are_fourteen():
    assert len(ours.OPERATIONS) == 14
    assert {"identity", *REFERENCES} == set(ours.OPERATIONS)


def test_hand_computed_values():
    """A row of values 0, 50, 100 in each of three rows, as a gray image of 3 x 3 pixels."""
    values = torch.tensor([0, 50, 100], dtype=torch.uint8)
    pixels = values.view(1, 1, 3, 1).expand(1, 3, 3, 3).contiguous()

    def row(name, level, number=0):
        return ours.OPERATIONS[name][1](pixels, torch.tensor([level]))[0, number, :, 0].tolist()

    assert row("translate_x", 1.9) == [0, 0, 50]
    assert row("translate_x", -1.0) == [50, 100, 0]
    assert row("rotate", 90.0, 0) == [100, 100, 100], "counterclockwise: the right column becomes the top row"
    assert row("brightness", 1.5) == [0, 75, 150]
    assert row("solarize", 50.0) == [0, 205, 155]
    assert row("autocontrast", 0.0) == [0, 127, 255]
    assert row("posterize", 2.0) == [0, 0, 64]  # 50 = 0b00110010, 100 = 0b01100100
    assert row("shear_x", 0.5, 2) == [50, 100, 0], "2.5 pixels from the top, the row is read 1.25 pixels further right"


@pytest.mark.parametrize(("name", "draw", "level"), [
    ("rotate", 0.0, 0.0), ("rotate", 0.999, 135.0), ("translate_x", 0.999, 32.0), ("shear_y", 0.999, 0.99),
    ("posterize", 0.0, 8.0), ("posterize", 0.999, 2.0), ("solarize", 0.0, 255.0),
    ("solarize", 0.999, 0.0), ("solarize", 0.5, 127.5), ("rotate", 0.5, 67.5)])
def test_the_ranges_are_those_of_the_wide_space(name, draw, level, monkeypatch):
    levels = []
    level_of, _ = ours.OPERATIONS[name]
    place = list(ours.OPERATIONS).index(name)

    def record(pixels, given):
        levels.extend(given.tolist())
        return pixels

    monkeypatch.setitem(ours.OPERATIONS, name, (level_of, record))
    draws = np.array([[(place + 0.5) / 14, draw, sign] for sign in (0.7, 0.2)])
    ours.trivial_augment(images()[:2], draws)
    signed = name not in ("posterize", "solarize")
    assert levels == pytest.approx([level, -level if signed else level])


def test_factors_of_blends_lie_between_0_01_and_1_99():
    strengths, signs = np.array([0.0, 1.0, 1.0]), np.array([1.0, 1.0, -1.0])
    for name in BLENDS:
        assert ours.OPERATIONS[name][0](strengths, signs) == pytest.approx([1.0, 1.99, 0.01])


def test_an_image_is_augmented_alike_in_any_batch_and_all_operations_are_equally_frequent():
    draws = uniform(3, 1, np.arange(700), 11)[:, 8:]
    counts = np.bincount((draws[:, 0] * 14).astype(int), minlength=14)
    assert ((counts - 50) ** 2 / 50).sum() < 40  # chi-squared with 13 degrees: p < 0.0002
    pixels = images()[1].expand(60, -1, -1, -1)
    whole = ours.trivial_augment(pixels, draws[:60])
    parts = [ours.trivial_augment(pixels[:size], draws[first:first + size])
             for first, size in ((0, 1), (1, 6), (7, 53))]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(pixels[0], images()[1]), "the images themselves are unchanged"
