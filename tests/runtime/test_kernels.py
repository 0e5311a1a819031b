"""The C kernels against torch and Pillow, with every instruction set that the processor has."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alexnet._runtime import kernels, native
from alexnet.architecture.network_presets import arch
from alexnet.architecture.recipe_presets import recipe
from alexnet.architecture.spec import LRN, InputSpec
from alexnet.data.augmentation import lighting_basis
from alexnet.data.preprocessing import Preprocess
from alexnet.data.square import square
from alexnet.models.alexnet import AlexNet
from alexnet.models.response_norm import ResponseNorm
from alexnet.training.build import build
from alexnet.training.optimizer import SGD
from alexnet.training.spec import RunSpec

LEVELS = native.LEVELS[: native.LEVELS.index(native.level() or "generic") + 1]


@pytest.fixture(params=LEVELS)
def instructions(request, monkeypatch):
    """Each instruction set in turn."""
    monkeypatch.setenv("ALEXNET_NATIVE", request.param)
    assert native.level() == request.param, "the package was installed without its kernels: is there a C compiler?"
    return request.param


def without_kernels(work):
    """The result of the torch code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALEXNET_NATIVE", "0")
        assert native.level() == ""
        return work()


def maps_of(shape, scale, seed=0, dtype=torch.float32, channels_last=True):
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return maps.to(dtype).contiguous(memory_format=layout)


NORMS = [LRN(), LRN(divide_by_n=True), LRN(within_tower=True), LRN(k=1.0, n=3, alpha=0.1, beta=0.5),
         LRN(k=1.0, n=9, alpha=5e-5), LRN(n=9, alpha=0.01, beta=1.0, within_tower=True), LRN(n=1, alpha=1.0)]


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("lrn", NORMS, ids=str)
@pytest.mark.parametrize("shape", [(3, 96, 7, 5), (1, 2, 1, 1), (2, 34, 3, 3), (0, 16, 4, 4)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_response_norm_and_its_gradient_equal_torch_in_double_precision(lrn, shape, channels_last):
    norm, maps = ResponseNorm(lrn, shape[1], 2), maps_of(shape, 30, channels_last=channels_last).requires_grad_()
    grad = maps_of(shape, 1, seed=1)
    assert kernels.supports_norm(maps, norm.towers, lrn.n)
    result = norm(maps)
    result.backward(grad)
    exact_maps = maps.detach().double().requires_grad_()
    exact = norm.double().banded(exact_maps)
    exact.backward(grad.double())
    torch.testing.assert_close(result.double(), exact, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(maps.grad.double(), exact_maps.grad, rtol=1e-5, atol=2e-6)


@pytest.mark.usefixtures("instructions")
def test_response_norm_in_bf16_is_fp32_rounded_once():
    norm, maps = ResponseNorm(LRN(), 48, 1), maps_of((2, 48, 6, 6), 50, dtype=torch.bfloat16)
    torch.testing.assert_close(norm(maps), norm(maps.float()).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e8, 3e18, float("inf"), float("nan")])
@pytest.mark.usefixtures("instructions")
def test_response_norm_of_extreme_values_equals_torch(value):
    """A kernel must not hide the NaN of a diverging run."""
    maps = torch.full((1, 16, 1, 1), value)
    norm = ResponseNorm(LRN(), 16, 1)
    for dtype in (torch.float32, torch.bfloat16):
        result, expected = norm(maps.to(dtype)), norm.banded(maps.to(dtype))
        assert torch.equal(result.isnan(), expected.isnan()) or not np.isfinite(value * value)
        if np.isfinite(value * value):
            torch.testing.assert_close(result, expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-30)
    if np.isnan(value):
        assert norm(maps).isnan().all()


def test_response_norm_in_torch_has_the_same_gradient():
    def gradient():
        maps = maps_of((2, 24, 5, 5), 30).requires_grad_()
        ResponseNorm(LRN(within_tower=True), 24, 2)(maps).backward(maps_of((2, 24, 5, 5), 1, seed=1))
        return maps.grad

    torch.testing.assert_close(gradient(), without_kernels(gradient), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("instructions")
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_crops_equal_torch(data):
    side = data.draw(st.integers(1, 40))
    crop = data.draw(st.integers(1, side))
    crop_by = data.draw(st.sampled_from(["window", "center", "resized"]))
    count = data.draw(st.integers(crop_by == "resized", 5))  # torch cannot make a grid for zero images
    channels = data.draw(st.sampled_from(["RGB", "BGR"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    mean_side = data.draw(st.sampled_from([1, side]))
    mean_crop = data.draw(st.sampled_from(["own", "center"]))
    scale = data.draw(st.sampled_from([(1, 1, 1), (58.4, 57.1, 57.4)]))
    spec = InputSpec(side, crop, channels=channels, mean_crop=mean_crop, scale=scale)
    preprocess = Preprocess(spec, torch.from_numpy(rng.uniform(0, 255, (mean_side, mean_side, 3))))
    pixels = torch.from_numpy(rng.integers(0, 256, (count, side, side, 3), np.uint8))
    train_recipe = replace(recipe("paper"), crop=crop_by, crop_area=(0.1, 1.0), mirror=data.draw(st.booleans()),
                           lighting_rescale=data.draw(st.booleans()))
    lighting = data.draw(st.sampled_from([None, lighting_basis(np.eye(3) * 900, "deviations")]))
    indices = rng.integers(0, 1000, count)
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16]))

    def views():
        return preprocess.training_views(pixels, indices, train_recipe, 3, 1, lighting, dtype)

    result, expected = views(), without_kernels(views)
    assert result.dtype == expected.dtype == dtype
    # bf16: one rounding of numbers that agree to the last digits of fp32. Rescaled boxes: positions agree to the last
    # digits of fp32, and neighboring pixels of this noise differ by up to 255.
    torch.testing.assert_close(result, expected, rtol=8e-3 if dtype == torch.bfloat16 else 1e-6,
                               atol=1e-2 if train_recipe.crop == "resized" else 1e-4)
    torch.testing.assert_close(preprocess.ten_views(pixels), without_kernels(lambda: preprocess.ten_views(pixels)),
                               rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("name", ["paper", "torchvision", "modern"])
@pytest.mark.usefixtures("instructions")
def test_sgd_updates_equal_torch(name):
    train_recipe = recipe(name)

    def trained():
        network = AlexNet(arch("cifar"), seed=1).to(memory_format=torch.channels_last)
        optimizer = SGD(network, train_recipe)
        for step in range(3):
            generator = torch.Generator().manual_seed(step)
            for parameter in network.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.grad = torch.empty_like(parameter).copy_(noise)
            optimizer.step(0.1 / (step + 1))
        return [parameter.detach() for parameter in network.parameters()], optimizer.velocity

    weights, velocity = trained()
    torch_weights, torch_velocity = without_kernels(trained)
    torch.testing.assert_close(weights, torch_weights, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(velocity, torch_velocity, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("instructions")
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 130), st.integers(0, 9))
def test_rescaling_equals_pillow_bit_for_bit(height, width, side, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    np.testing.assert_array_equal(square(pixels, side), without_kernels(lambda: square(pixels, side)))
    if height <= 2 * width <= 8 * height:  # narrow strips: see square
        shorter = min(height, width)
        rows, columns = side * height // shorter, side * width // shorter
        top, left = round((rows - side) / 2), round((columns - side) / 2)
        theirs = np.asarray(Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(square(pixels, side), theirs[top:top + side, left:left + side])


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize(("height", "width"), [(1, 1), (300, 300), (256, 256), (7, 40_000)])
def test_color_products_are_exact(height, width):
    white = np.full((height, width, 3), 255, np.uint8)
    assert native.color_products(white).tolist() == [[65_025 * height * width] * 3] * 3
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    colors = pixels.reshape(-1, 3).astype(np.int64)
    for found in (native.color_products(pixels), without_kernels(lambda: native.color_products(pixels))):
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, colors.T @ colors)


def test_images_in_the_memory_map_have_the_same_crops_as_a_copy(packed):
    split = packed.split("train")
    indices = np.array([5, 0, 5, len(split) - 1])
    spec = InputSpec(packed.side, packed.side - 3, "channel")
    preprocess = Preprocess.from_data(spec, packed.mean_HWC)
    mapped = split.mapped(indices)
    np.testing.assert_array_equal(mapped.tensor(), split.read(indices))
    copied = torch.from_numpy(split.read(indices))
    assert torch.equal(preprocess.ten_views(mapped), preprocess.ten_views(copied))
    assert torch.equal(without_kernels(lambda: preprocess(mapped)), without_kernels(
        lambda: preprocess(copied)))


def test_an_unknown_instruction_set_is_rejected(monkeypatch):
    monkeypatch.setenv("ALEXNET_NATIVE", "sse9")
    with pytest.raises(ValueError, match="ALEXNET_NATIVE=sse9 must be 0, generic, avx2, avx512"):
        native.level()


@pytest.mark.parametrize("first", ["alexnet.data.images", "torch"])
def test_kernels_load_with_and_without_torch(first):
    """The kernels use torch's threads. Packing does not import torch."""
    script = (f"import sys, {first}; from alexnet._runtime import native; "
              "print(native.level(), 'torch' in sys.modules); import numpy; "
              "print(native.resize_and_crop(numpy.zeros((9, 12, 3), numpy.uint8), 3, 4, 0, 0, 3).shape)")
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True,
                          env={**os.environ, "ALEXNET_NATIVE": "generic"}).stdout.splitlines()
    assert printed == [f"generic {first == 'torch'}", "(3, 3, 3)"]


def test_a_memory_mapped_file_that_is_truncated_ends_the_process_with_the_message(tmp_path):
    script = """import mmap, os, sys
from alexnet._runtime.native import set_sigbus_message
with open(sys.argv[1], "wb+") as file:
    file.truncate(100_000)
    memory = mmap.mmap(file.fileno(), 0)
    set_sigbus_message("alexnet: the file is gone")
    os.truncate(sys.argv[1], 10)
    memory[50_000]
"""
    ended = subprocess.run([sys.executable, "-c", script, tmp_path / "file"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", "alexnet: the file is gone\n")


@pytest.mark.gpu
def test_a_gpu_run_with_triton_kernels_equals_one_without(packed, tiny, tmp_path):
    train_recipe = replace(recipe("modern"), epochs=2, batch_size=32)

    def loss(name):
        return build(RunSpec(packed, tiny, train_recipe, tmp_path / name, device="cuda", precision="fp32")).fit().loss

    assert loss("with") == pytest.approx(without_kernels(lambda: loss("without")), rel=1e-3)
