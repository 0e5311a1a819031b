"""The ten views and their averaged softmax (§4.1, §6), and preprocessing, against NumPy, torchvision and kornia."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from comparing import assert_agrees, many_shapes, numbers
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from numpy_layers import Array, softmax
from numpy_networks import network, small_network
from PIL import Image

import peers
from alexnet.architecture.network_presets import arch
from alexnet.architecture.spec import InputSpec
from alexnet.data.preprocessing import Preprocess
from alexnet.data.square import square
from alexnet.inference.evaluate import probabilities


def ten_views(pixels_NHWC: NDArray[np.uint8], mean_HWC: Array, crop: int) -> Array:
    """Top left, top right, bottom left, bottom right, center; then each mirrored (§4.1): [N, V, C, crop, crop].

    With an odd margin the center crop leaves one more pixel at the right and bottom.
    """
    centered, last = pixels_NHWC.astype(np.float64) - mean_HWC, pixels_NHWC.shape[1] - crop
    five = [centered[:, top:top + crop, left:left + crop] for top, left in (
        (0, 0), (0, last), (last, 0), (last, last), (last // 2, last // 2))]
    return np.stack([*five, *(view[:, :, ::-1] for view in five)], axis=1).transpose(0, 1, 4, 2, 3)


def images_and_mean(rng: np.random.Generator, side: int) -> tuple[NDArray[np.uint8], Array]:
    """Three images of noise, and a per-pixel mean that float32 holds exactly."""
    return rng.integers(0, 256, (3, side, side, 3), np.uint8), np.abs(numbers(rng, side, side, 3, scale=100))


@many_shapes
@given(crop=st.integers(1, 9), margin=st.integers(0, 9))
def test_ten_views_are_crops_minus_the_mean_at_their_position(crop, margin):
    rng, side = np.random.default_rng([crop, margin]), crop + margin
    pixels, mean = images_and_mean(rng, side)
    preprocess = Preprocess(InputSpec(side, crop), torch.tensor(mean, dtype=torch.float32))
    reference = ten_views(pixels, mean, crop)
    views = preprocess.ten_views(torch.from_numpy(pixels))
    assert views.shape == (3, 10, 3, crop, crop)
    assert_agrees(views, reference, 1e-6)
    assert_agrees(preprocess(torch.from_numpy(pixels)), reference[:, 4], 1e-6)


@pytest.mark.parametrize("margin", [0, 7, 8])
def test_the_prediction_of_ten_views_is_the_mean_of_their_softmax_outputs(margin):
    rng = np.random.default_rng(margin)
    members, answers = [], []
    pixels, mean = images_and_mean(rng, 74 + margin)
    for _ in range(2):  # §6 averages over networks too
        ours, weights = small_network("paper", rng, f"input.side={74 + margin}", "input.scale=64,64,64")
        members.append((ours.float().eval(), Preprocess(ours.arch.input, torch.tensor(mean, dtype=torch.float32))))
        views = ten_views(pixels, mean, 74) / 64
        outputs = softmax(network("paper", views.reshape(30, 3, 74, 74), weights)[0])
        answers.append(outputs.reshape(3, 10, 5).mean(1))
    with torch.inference_mode():
        for count in (1, 2):
            ours = probabilities(members[:count], torch.from_numpy(pixels), views=10)
            assert_agrees(ours, np.mean(answers[:count], axis=0), 1e-5)


@pytest.mark.parametrize(("side", "crop"), [(256, 224), (20, 12), (21, 15), (13, 13), (19, 12), (21, 12)])
def test_torchvisions_ten_crop_equals_our_ten_views(side, crop):
    pixels_NHWC = torch.from_numpy(np.random.default_rng(side).integers(0, 256, (1, side, side, 3), np.uint8))
    ours = Preprocess(InputSpec(side, crop, (0.0, 0.0, 0.0)), torch.zeros(1, 1, 3)).ten_views(pixels_NHWC)[0]
    # It crops the mirrored image in the same order, so its sixth view is our second one mirrored.
    theirs = torch.stack(peers.torchvision().transforms.TenCrop(crop)(pixels_NHWC[0].permute(2, 0, 1))).float()
    theirs = theirs[[0, 1, 2, 3, 4, 6, 5, 8, 7, 9]]
    corners = [0, 1, 2, 3, 5, 6, 7, 8]
    assert torch.equal(ours[corners], theirs[corners])
    if (side - crop) % 2 == 0:
        assert torch.equal(ours, theirs)
        return
    # Half a pixel: the package and Caffe round down, torchvision rounds to even, again for the mirrored image.
    place = round((side - crop) / 2)
    assert torch.equal(theirs[4], pixels_NHWC[0, place:place + crop, place:place + crop].permute(2, 0, 1).float())
    assert torch.equal(ours[9], ours[4].flip(-1))
    assert not torch.equal(theirs[9], theirs[4].flip(-1))


def sample(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Waves of many lengths with noise: edges and texture for the rescaling."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1) + rng.uniform(0, 6)) for _ in range(9)]
    colors = np.tensordot(rng.normal(0, 30, (3, 9)), np.array(waves), 1).transpose(1, 2, 0)
    return np.clip(128 + colors + rng.normal(0, 20, colors.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [
    (375, 500), (500, 375), (256, 256), (224, 299), (600, 257), (301, 902), (333, 334), (120, 161)])
def test_torchvisions_preprocessing_equals_ours(height, width):
    pixels = sample(np.random.default_rng([height, width]), height, width)
    transforms = peers.torchvision().models.AlexNet_Weights.IMAGENET1K_V1.transforms()
    spec = arch("torchvision").input
    stored = torch.from_numpy(square(pixels, spec.side).copy())[None]
    ours = Preprocess(spec, torch.tensor(spec.mean).reshape(1, 1, 3))(stored)
    # Both rescale with Pillow. Only rounding differs: torchvision divides by 255 first, the package works on 0..255.
    assert_agrees(ours[0], transforms(Image.fromarray(pixels)).double().numpy(), 1e-6)
    # For tensors torchvision uses torch's uint8 kernel, where one value in five differs by one gray level, rarely two.
    of_tensor = transforms(torch.from_numpy(pixels).permute(2, 0, 1))
    assert ((ours[0] - of_tensor).abs() * torch.tensor(spec.scale)[:, None, None]).max() < 2.01


@pytest.mark.parametrize(("side", "crop"), [(20, 12), (21, 14)])
def test_kornias_crops_and_normalization_equal_our_ten_views(side, crop):
    kornia, spec = peers.kornia(), replace(arch("torchvision").input, side=side, crop=crop)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8))
    preprocess = Preprocess(spec, torch.tensor(spec.mean).reshape(1, 1, 3))
    x = kornia.enhance.normalize(
        pixels.permute(0, 3, 1, 2).float(), torch.tensor(spec.mean), torch.tensor(spec.scale))
    last = side - crop
    five = []
    for top, left in ((0, 0), (0, last), (last, 0), (last, last), (last // 2, last // 2)):
        right, bottom = left + crop - 1, top + crop - 1
        corners = torch.tensor([[left, top], [right, top], [right, bottom], [left, bottom]]).expand(3, -1, -1)
        five.append(kornia.geometry.transform.crop_by_indices(x, corners))
    theirs = torch.stack([*five, *(kornia.geometry.transform.hflip(view) for view in five)], dim=1)
    assert_agrees(preprocess.ten_views(pixels), theirs.double().numpy(), 1e-6)
    if last % 2 == 0:
        center = kornia.augmentation.CenterCrop(crop, cropping_mode="slice")(x)
        assert_agrees(preprocess(pixels), center.double().numpy(), 1e-6)
