"""The presets code2012 and code2010 against computerhistory/AlexNet-Source-Code: values, input, bias updates.

Every number is typed from the released files; comments name the file and the line. `145` is layers/layer-params-145.cfg
and `145-2010` is layers/layer-params-145-2010.cfg.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy_layers import Array
from torch import nn

from alexnet._runtime import native
from alexnet.architecture.network_presets import arch
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import default_recipe, recipe
from alexnet.architecture.spec import InputSpec
from alexnet.data.augmentation import lighting_basis, random_views
from alexnet.data.preprocessing import Preprocess
from alexnet.training.optimizer import SGD
from alexnet.training.schedule import bias_rate, conv1_learning_rate, learning_rate, logged_rates

SIDE, CROP, COUNT = 20, 12, 64
COLORS = np.array([[2000.0, 1500, 1400], [1500, 1900, 1700], [1400, 1700, 2300]])


# --- Values of the files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "changes"), [
    # 145, lines 169, 174, 177 and 180: epsw 0.01 -> 0.001 -> 0.0001, on conv1 0.00001, then everywhere; 181: killed.
    ("code2012", [(0, 1e-2), (24.9, 1e-2), (25, 1e-3), (50.9, 1e-3), (51, 1e-4), (78.9, 1e-4), (79, 1e-5), (91, 1e-5)]),
    # 145-2010, lines 170, 171, 175 and 176.
    ("code2010", [(0, 1e-2), (22.9, 1e-2), (23, 1e-3), (50.9, 1e-3), (51, 1e-4), (77.9, 1e-4), (78, 1e-5), (93, 1e-5)]),
])
def test_the_weights_learning_rate_drops_at_the_epochs_of_the_log(name, changes):
    assert [learning_rate(recipe(name), epoch) for epoch, _ in changes] == pytest.approx([rate for _, rate in changes])


@pytest.mark.parametrize(("name", "epochs", "slow", "stop"), [
    ("code2012", 91, 67, 72),  # 145, lines 181, 177 and 179
    ("code2010", 93, 68, 72),  # 145-2010, lines 176, 172 and 174
])
def test_conv1_slows_and_stops_and_the_noise_ends_at_the_epochs_of_the_log(name, epochs, slow, stop):
    its = recipe(name)
    assert its.epochs == epochs
    rates = [conv1_learning_rate(its, epoch, 1e-4) for epoch in (slow - 0.01, slow, stop - 0.01, stop)]
    assert rates == [1e-4, 1e-5, 1e-5, 0]
    assert its.lighting_stop_epoch == slow  # "set color noise to 0 from 0.1", on the line below
    assert its.lighting == 0.1


@pytest.mark.parametrize(("name", "rate"), [
    ("code2012", 0.02),  # epsB in 145, lines 19, 27, ..., 115
    ("code2010", 0.002),  # epsB in 145-2010, lines 19, 27, ..., 115
])
def test_biases_keep_their_rate_and_conv1s_are_frozen_with_its_weights(name, rate):
    its = recipe(name)
    assert [its.bias_lr_factor * bias_rate(its, weights) for weights in (0.01, 1e-3, 1e-4, 1e-5)] == [rate] * 4
    assert bias_rate(its, 0.0) == 0  # conv1's epsB is 0.0 in the files of the end, line 3
    assert logged_rates(its, 1e-4) == {"learning_rate": 1e-4, "bias_learning_rate": rate}
    assert not its.decay_biases  # src/layer.cu, line 565: wc 0
    caffe = recipe("caffe")
    assert logged_rates(caffe, 1e-4) == {"learning_rate": 1e-4}
    assert bias_rate(caffe, 1e-4) == 1e-4


@pytest.mark.parametrize("name", ["code2012", "code2010"])
def test_other_values_are_those_of_the_files(name):
    its, network = recipe(name), arch(name)
    assert default_recipe(network) == its
    assert (its.momentum, its.weight_decay) == (0.9, 0.0005)  # momW and wc in both files, lines 20 and 22
    assert its.batch_size == 128  # convnet.py, line 177
    assert its.view_group == 32  # convdata_jpeg.py, line 77
    assert its.lighting_rescale  # convdata_jpeg.py, line 179
    assert (network.lrn.alpha, network.lrn.beta, network.lrn.k, network.lrn.n) == (1e-4, 0.75, 2, 5)  # lines 138 to 140
    assert network.lrn.divide_by_n  # layer.py, line 1183
    assert network.dropout == 0.5  # layers/layers-145.cfg, line 258
    # convdata_jpeg.py, line 95. 224: conv1's partialSum=5 (layers-145.cfg, line 18) must divide its modules
    # (layer.py, line 1067); 55 x 55 it does, 54 x 54 of rounding down it does not.
    assert network.input == InputSpec(side=256, crop=224, mean="pixel", mean_crop="center")
    assert replace(network, name="") == replace(arch("code2012"), name="")  # one layers-145.cfg for both runs


# --- Input (convdata_jpeg.py) -----------------------------------------------------------------------------------------


def view_of_2012(image: Array, mean: Array, top: int, left: int, mirrored: bool, noise: Array | None = None) -> Array:
    """One view, [crop, crop, 3]: lines 155 to 179, 209 to 211 and 238 to 246 of convdata_jpeg.py.

    noise: the PCA noise of the image, already times 0.1; None: the noise is off, or this is a test.
    """
    view = image[top:top + CROP, left:left + CROP].astype(np.float64)
    if mirrored:
        view = view[:, ::-1]
    border = (SIDE - CROP) // 2
    view = view - mean[border:border + CROP, border:border + CROP]
    return view if noise is None else (view + noise) / 1.1


@pytest.fixture(params=["kernels", "torch"])
def path(request, monkeypatch):
    """With the compiled kernels, and with torch's operators alone."""
    if request.param == "torch":
        monkeypatch.setenv("ALEXNET_NATIVE", "0")
    elif not native.level():
        pytest.skip("no compiled kernels")


@pytest.fixture
def data():
    """Images, and the mean of a training set."""
    rng = np.random.default_rng(0)
    mean = rng.uniform(0, 255, (SIDE, SIDE, 3)).astype(np.float32)
    return rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8), mean


def preprocess(mean_HWC: Array, **changes: object) -> Preprocess:
    spec = replace(arch("code2012").input, side=SIDE, crop=CROP, **changes)
    return Preprocess.from_data(spec, mean_HWC)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("channels", "dtype", "within"), [
    ("RGB", torch.float32, 1e-6), ("BGR", torch.float32, 1e-6), ("RGB", torch.bfloat16, 1 / 256)])
@pytest.mark.parametrize("noise", [True, False])
def test_training_views_are_those_of_the_2012_code(data, noise, channels, dtype, within):
    pixels, mean = data
    basis = lighting_basis(COLORS, "deviations") if noise else None
    its, indices = recipe("code2012"), np.arange(COUNT) * 7
    drawn = random_views(replace(its, view_group=4), indices, 3, 1, side=SIDE, crop=CROP, device=torch.device("cpu"),
                         lighting_CC=basis)
    views = preprocess(mean, channels=channels).training_views(
        torch.from_numpy(pixels), indices, replace(its, view_group=4), 3, 1, basis, dtype)
    assert 0.2 < drawn.mirrored_N.double().mean() < 0.8
    for number, view in enumerate(views.double().numpy()):
        top, left = drawn.top_left_N2[number].tolist()
        shift = drawn.shift_NC[number].double().numpy() if noise else None
        expected = view_of_2012(pixels[number], mean, top, left, bool(drawn.mirrored_N[number]), shift)
        if channels == "BGR":
            expected = expected[..., ::-1]
        np.testing.assert_allclose(view, expected.transpose(2, 0, 1), rtol=within, atol=1e-4)


@pytest.mark.usefixtures("path")
def test_at_test_time_no_view_is_divided_and_all_ten_lose_the_center_crop_of_the_mean(data):
    pixels, mean = data
    inputs = preprocess(mean)
    border = (SIDE - CROP) // 2
    starts = [(0, 0), (0, border * 2), (border * 2, 0), (border * 2, border * 2), (border, border)]  # lines 226 to 228
    views = inputs.ten_views(torch.from_numpy(pixels)).double().numpy()
    for number, (top, left) in enumerate(starts):
        for image in range(COUNT):
            for mirrored in (False, True):
                expected = view_of_2012(pixels[image], mean, top, left, mirrored)
                np.testing.assert_allclose(
                    views[image, number + 5 * mirrored], expected.transpose(2, 0, 1), rtol=1e-6, atol=1e-4)
    assert torch.equal(inputs(torch.from_numpy(pixels)), torch.from_numpy(views[:, 4]).float())


def test_a_mean_color_has_no_place_and_a_resized_crop_loses_the_center_crop(data):
    pixels, mean = (torch.from_numpy(each) for each in data)
    assert not preprocess(data[1], mean="channel").mean_is_central
    whole, mirrored = torch.tensor([[0.0, 0, SIDE, SIDE]]).expand(COUNT, -1), torch.arange(COUNT) % 2 == 0
    inputs = Preprocess(replace(arch("code2012").input, side=SIDE, crop=SIDE), mean)
    views = inputs.random_resized_crop(pixels, whole, SIDE, mirrored).permute(0, 2, 3, 1)
    torch.testing.assert_close(views[1::2], pixels[1::2].float() - mean, rtol=0, atol=0.05)
    torch.testing.assert_close(views[::2], pixels[::2].flip(2).float() - mean, rtol=0, atol=0.05)


# --- Updates (src/weights.cu, lines 146 to 198) -----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "moves"), [
    # A bias with the gradients 3, then 5: velocity -0.02 * 3 = -0.06, then 0.9 * -0.06 - 0.02 * 5 = -0.154.
    ("code2012", (-0.06, -0.154)),
    # With 0.002: -0.006, then 0.9 * -0.006 - 0.002 * 5 = -0.0154.
    ("code2010", (-0.006, -0.0154)),
])
def test_a_step_moves_biases_by_hand_computation_whatever_the_rate_of_the_weights(name, moves):
    layer = nn.Linear(1, 1, dtype=torch.float64)
    nn.init.constant_(layer.weight, 2.0)
    nn.init.constant_(layer.bias, 1.0)
    optimizer = SGD(layer, recipe(name))
    weight, bias = 2.0, 1.0
    # Weights at 1e-4, then 1e-5: v = -0.0005 * 1e-4 * 2 - 1e-4 * 3 = -3.001e-4, w = 1.9996999;
    # v = 0.9 * -3.001e-4 - 0.0005 * 1e-5 * 1.9996999 - 1e-5 * 5 = -3.2009999849995e-4.
    for rate, gradient, bias_moves, weight_moves in (
            (1e-4, 3.0, moves[0], -3.001e-4), (1e-5, 5.0, moves[1], -3.200999984999500e-4)):
        layer.weight.grad, layer.bias.grad = torch.full((1, 1), gradient).double(), torch.full((1,), gradient).double()
        optimizer.step(rate)
        weight, bias = weight + weight_moves, bias + bias_moves
        assert layer.weight.item() == pytest.approx(weight, rel=1e-12)
        assert layer.bias.item() == pytest.approx(bias, rel=1e-12)


def test_frozen_biases_do_not_drift_with_their_velocity():
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1))
    optimizer = SGD(network, recipe("code2012"))

    def step(conv1: float | None) -> list[float]:
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        before = [parameter.detach().clone() for parameter in network.parameters()]
        optimizer.step(1e-4, conv1)
        return [(now - old).abs().item() for now, old in zip(network.parameters(), before, strict=True)]

    assert min(step(None)) > 0
    conv1_weight, conv1_bias, *others = step(0.0)  # weights.cu, line 148: with a base rate of 0 nothing is added
    assert (conv1_weight, conv1_bias) == (0, 0)
    assert min(others) > 0


def test_other_recipes_have_the_biases_rate_in_proportion():
    assert [name for name in ("paper", "caffe", "torchvision", "modern", "cifar", "finetune")
            if not recipe(name).bias_lr_schedule or recipe(name).lighting_rescale] == []
    assert bias_rate(Recipe("r"), 1e-5) == 1e-5
