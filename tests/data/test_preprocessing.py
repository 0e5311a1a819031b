"""Views are arithmetic on (seed, epoch, image), and each is the window it says it is."""

import numpy as np
import pytest
import torch

from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import recipe
from alexnet.architecture.spec import InputSpec
from alexnet.data.augmentation import lighting_basis, resized_crop_boxes, uniform
from alexnet.data.numpy_preprocessing import central_window
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import UserError

SPEC = InputSpec(side=20, crop=12)
MEAN = torch.rand(20, 20, 3) * 255
PIXELS = torch.randint(0, 256, (6, 20, 20, 3), dtype=torch.uint8)
INDICES = np.array([7, 1, 1_281_166, 3, 0, 99])
PLAIN = Recipe("plain", lighting=0.0)


def test_draws_are_uniform_and_independent():
    u = uniform(seed=5, epoch=2, indices=np.arange(20_000), draws=6)
    assert u.shape == (20_000, 6)
    assert ((u > 0) & (u < 1)).all()
    for column in u.T:
        counts, _ = np.histogram(column, bins=20, range=(0, 1))
        assert ((counts - 1000) ** 2 / 1000).sum() < 50  # chi-squared with 19 degrees: p < 0.0002
    correlations = np.corrcoef(u.T) - np.eye(6)
    assert np.abs(correlations).max() < 0.03
    assert abs(np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]) < 0.03
    next_epoch = uniform(seed=5, epoch=3, indices=np.arange(20_000), draws=6)
    assert abs(np.corrcoef(u[:, 0], next_epoch[:, 0])[0, 1]) < 0.03


def test_an_image_gets_the_same_view_in_any_batch():
    preprocess = Preprocess(SPEC, MEAN)
    lighting = torch.eye(3) * 10
    together = preprocess.training_views(PIXELS, INDICES, Recipe("r"), 1, 4, lighting)
    for place in range(6):
        only = slice(place, place + 1)
        alone = preprocess.training_views(PIXELS[only], INDICES[only], Recipe("r"), 1, 4, lighting)
        torch.testing.assert_close(alone[0], together[place])
    other_epoch = preprocess.training_views(PIXELS, INDICES, Recipe("r"), 1, 5, lighting)
    assert not torch.equal(together, other_epoch)


def test_a_training_view_is_a_window_less_the_mean_of_its_place():
    views = Preprocess(SPEC, MEAN).training_views(PIXELS, INDICES, PLAIN, 1, 0)
    centerd = (PIXELS.float() - MEAN).permute(0, 3, 1, 2)
    for view, photo in zip(views, centerd, strict=True):
        windows = photo.unfold(1, 12, 1).unfold(2, 12, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        both_ways = torch.cat([windows, windows.flip(-1)])
        assert (both_ways - view).abs().amax((1, 2, 3)).min() < 1e-4


def test_crops_and_mirrors_reach_all_2_x_9_x_9_views_evenly():
    # 81 places, mirrored or not; an image that names its own pixels tells which view was drawn.
    spec = InputSpec(side=20, crop=12, mean=(0.0, 0.0, 0.0))
    y, x = torch.meshgrid(torch.arange(20), torch.arange(20), indexing="ij")
    photo = torch.stack([y, x, y * 0], -1).to(torch.uint8)[None]
    count = 8000
    views = Preprocess(spec, torch.zeros(1, 1, 3)).training_views(
        photo.expand(count, -1, -1, -1), np.arange(count), PLAIN, 3, 0)
    top, left, right = views[:, 0, 0, 0], views[:, 1, 0, 0], views[:, 1, 0, -1]
    mirrored = left > right
    place = top * 9 + torch.minimum(left, right) + 81 * mirrored
    counts = torch.bincount(place.long(), minlength=162)
    assert len(counts) == 162
    assert (counts > 0).all()
    expected = count / 162
    assert ((counts - expected) ** 2 / expected).sum() < 240  # chi-squared with 161 degrees: p < 0.0001


def test_code2012_draws_one_view_for_a_group():
    spec = InputSpec(side=20, crop=12, mean=(0.0, 0.0, 0.0))
    photo = torch.randint(0, 256, (1, 20, 20, 3), dtype=torch.uint8).expand(64, -1, -1, -1)
    views = Preprocess(spec, torch.zeros(1, 1, 3)).training_views(
        photo, np.arange(64), Recipe("g", lighting=0.0, view_group=32), 0, 0)
    assert (views[:32] == views[0]).all()
    assert (views[32:] == views[32]).all()
    assert not torch.equal(views[0], views[32])
    assert recipe("code2012").view_group == 32


def test_ten_views_are_the_corners_the_center_and_their_mirror_images():
    views = Preprocess(SPEC, MEAN).ten_views(PIXELS)
    assert views.shape == (6, 10, 3, 12, 12)
    centerd = (PIXELS.float() - MEAN).permute(0, 3, 1, 2)
    for number, (top, left) in enumerate([(0, 0), (0, 8), (8, 0), (8, 8), (4, 4)]):
        window = centerd[:, :, top:top + 12, left:left + 12]
        torch.testing.assert_close(views[:, number], window)
        torch.testing.assert_close(views[:, number + 5], window.flip(-1))
    torch.testing.assert_close(Preprocess(SPEC, MEAN)(PIXELS), views[:, 4])


@pytest.mark.parametrize("spec", [
    SPEC, InputSpec(side=20, crop=13, channels="BGR"), InputSpec(side=20, crop=13, mean_crop="center"),
    InputSpec(side=20, crop=20, mean="channel", scale=(2.0, 3.0, 7.0))])
def test_a_traced_center_crop_is_bit_equal_to_crop_and_normalize(spec):
    """torch.export traces the module; the compiled kernel cannot be traced."""
    preprocess = Preprocess.from_data(spec, MEAN.numpy())
    exported = torch.export.export(preprocess, (PIXELS,), dynamic_shapes=({0: torch.export.Dim("images")},)).module()
    first = torch.full((len(PIXELS),), central_window(spec.side, spec.crop).start)
    expected = preprocess.normalize(preprocess.crop(PIXELS, first, first))
    assert torch.equal(exported(PIXELS), expected)
    assert torch.equal(exported(PIXELS[:3]), expected[:3])


def test_the_mean_moves_with_the_module_and_is_in_its_state():
    preprocess = Preprocess(SPEC, MEAN)
    assert set(preprocess.state_dict()) == {"mean_HWC", "scale_C"}
    assert preprocess.to(torch.device("meta")).mean_HWC.is_meta
    assert not list(preprocess.parameters())


def test_scale_and_channel_order_come_last():
    spec = InputSpec(side=20, crop=20, mean=(10.0, 20.0, 30.0), scale=(2.0, 4.0, 8.0), channels="BGR")
    view = Preprocess(spec, torch.tensor(spec.mean).reshape(1, 1, 3))(PIXELS)
    expected = (PIXELS.double().numpy() - [10, 20, 30]) / [2, 4, 8]
    np.testing.assert_allclose(view.numpy(), expected[..., ::-1].transpose(0, 3, 1, 2), rtol=1e-6)


def test_lighting_has_the_covariance_that_section_4_1_asks_for():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(3, 3)) * 40
    covariance = factor @ factor.T
    spec = InputSpec(side=4, crop=4, mean=(0.0, 0.0, 0.0))
    count = 60_000
    gray = torch.full((1, 4, 4, 3), 128, dtype=torch.uint8).expand(count, -1, -1, -1)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    for scale, lengths in (("deviations", np.sqrt(eigenvalues)), ("eigenvalues", eigenvalues / 255)):
        views = Preprocess(spec, torch.zeros(1, 1, 3)).training_views(
            gray, np.arange(count), Recipe("l", mirror=False), 0, 0, lighting_basis(covariance, scale))
        shifts = (views[:, :, 0, 0] - 128).numpy()
        assert (np.ptp(views.numpy(), axis=(2, 3)) == 0).all(), "one draw for the whole image"
        wanted = vectors @ np.diag((0.1 * lengths) ** 2) @ vectors.T
        np.testing.assert_allclose(np.cov(shifts.T), wanted, atol=0.03 * np.abs(wanted).max())


def test_both_scalings_of_lighting_shift_an_image_as_reported():
    # cuda-convnet2's (19.7, 37.1, 121.8) are standard deviations; the top component then moves about 12 gray levels,
    # and by the printed text, with pixels in 0..1, about half of that.
    covariance = np.diag([19.7, 37.1, 121.8]) ** 2
    assert 0.1 * lighting_basis(covariance, "deviations").norm(dim=0).max().item() == pytest.approx(12.18, rel=1e-3)
    assert 0.1 * lighting_basis(covariance, "eigenvalues").norm(dim=0).max().item() == pytest.approx(5.8, abs=0.1)


def test_resized_crop_with_the_whole_area_is_the_image_itself():
    spec = InputSpec(side=20, crop=20)
    whole = Recipe("w", crop="resized", crop_area=(1.0, 1.0), mirror=False, lighting=0.0)
    preprocess = Preprocess(spec, MEAN)
    boxes = resized_crop_boxes(np.full((6, 4), 0.5), 20, (1.0, 1.0))
    resized = preprocess.random_resized_crop(PIXELS, torch.from_numpy(boxes), 20)
    torch.testing.assert_close(resized, preprocess(PIXELS), atol=1e-2, rtol=0)
    views = preprocess.training_views(PIXELS, INDICES, whole, 0, 0)
    assert views.shape == (6, 3, 20, 20)


def test_resized_crop_takes_the_place_that_was_drawn():
    # Half the side, square, at the top left: what comes out is that quarter, enlarged twice.
    spec = InputSpec(side=20, crop=20, mean=(0.0, 0.0, 0.0))
    preprocess = Preprocess(spec, torch.zeros(1, 1, 3))
    boxes = resized_crop_boxes(np.array([[0.0, 0.5, 0.0, 0.0]] * 6), 20, (0.25, 1.0))
    quarter = PIXELS[:, :10, :10].permute(0, 3, 1, 2).float()
    enlarged = torch.nn.functional.interpolate(quarter, size=20, mode="bilinear", align_corners=False)
    got = preprocess.random_resized_crop(PIXELS, torch.from_numpy(boxes), 20)
    torch.testing.assert_close(got[..., 1:19, 1:19], enlarged[..., 1:19, 1:19], atol=1e-2, rtol=0)


def test_train_crop_is_the_side_of_the_training_views_and_not_of_the_others():
    preprocess = Preprocess(InputSpec(side=20, crop=16, mean=(0.0, 0.0, 0.0)), torch.zeros(1, 1, 3))
    smaller = Recipe("s", crop="resized", crop_area=(1.0, 1.0), train_crop=8, mirror=False, lighting=0.0)
    views = preprocess.training_views(PIXELS, INDICES, smaller, 0, 0)
    assert views.shape == (6, 3, 8, 8)
    assert preprocess(PIXELS).shape == (6, 3, 16, 16)
    assert preprocess.ten_views(PIXELS).shape == (6, 10, 3, 16, 16)


def test_train_crop_goes_with_resized_crops_only():
    with pytest.raises(UserError, match="train_crop sets the side of resized crops"):
        Recipe("s", crop="window", train_crop=8)
