"""The Triton kernels against the same computation in torch's operators: on a GPU if there is one (`make gpu`), else in
Triton's interpreter. Nothing here calls `kernels`, which on CUDA calls these kernels."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from alexnet._runtime.pixels import TensorPixels
from alexnet.architecture.spec import LRN, InputSpec
from alexnet.data.preprocessing import Preprocess
from alexnet.models.response_norm import ResponseNorm

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported

pytestmark = [
    pytest.mark.gpu if DEVICE == "cuda" else pytest.mark.slow,
    pytest.mark.needs("triton", "pip install -c constraints.txt '.[ci]' on Linux x86_64"),
]


@pytest.fixture
def triton_kernels() -> Iterator[ModuleType]:
    """The module, and a default device for the test's tensors. It is imported late, since it needs Triton."""
    module = importlib.import_module("alexnet._runtime.triton_kernels")
    with torch.device(DEVICE):
        yield module


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lrn", [LRN(), LRN(k=1.0, n=3, alpha=0.1, beta=0.5, within_tower=True)], ids=str)
def test_normalization_and_its_gradient(triton_kernels, lrn, dtype):
    norm = ResponseNorm(lrn, 12, 2)  # on the device, as all else is
    maps = (torch.randn(2, 12, 3, 5) * 30).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    grad = torch.randn(2, 12, 3, 5).to(dtype)
    numbers = {"k": lrn.k, "alpha": norm.alpha, "beta": lrn.beta, "n": lrn.n, "towers": norm.towers}
    exact_maps = maps.detach().double().requires_grad_()
    expected = norm.double().banded(exact_maps)
    expected.backward(grad.double())
    bounds = {"rtol": 1e-2, "atol": 1e-2} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
    with torch.no_grad():
        result, gradient = triton_kernels.norm_forward(maps, **numbers), triton_kernels.norm_backward(
            maps, grad, **numbers)
        assert result.dtype == gradient.dtype == dtype
        torch.testing.assert_close(result.double(), expected, **bounds)
        torch.testing.assert_close(gradient.double(), exact_maps.grad, **bounds)
        assert triton_kernels.norm_forward(maps[:0], **numbers).shape == (0, 12, 3, 5)


@pytest.mark.parametrize(("mean_side", "mean_crop"), [(1, "own"), (12, "own"), (12, "center")])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_views(triton_kernels, mean_side, mean_crop, channels):
    pixels = torch.randint(0, 256, (3, 12, 12, 3), dtype=torch.uint8)
    preprocess = Preprocess(InputSpec(12, 9, mean_crop=mean_crop, channels=channels, scale=(2.0, 3.0, 4.0)),
                            torch.rand(mean_side, mean_side, 3) * 255)
    places, mirrored = torch.tensor([[0, 3], [2, 0], [1, 1], [3, 3]]), torch.tensor([True, False, True, False])
    shift, image = torch.randn(4, 3) * 9, torch.tensor([2, 0, 1, 2])
    central = mean_crop == "center"
    mean_HWC = preprocess.central_mean(9) if central else preprocess.mean_HWC
    result = triton_kernels.crop_normalize(
        TensorPixels(pixels), mean_HWC, preprocess.scale_C, places, mirrored, shift, 9,
        bgr=channels == "BGR", dtype=torch.float32, image_V=image, mean_is_central=central)
    expected = preprocess.normalize(preprocess.crop(pixels, *places.unbind(1), image), mirrored, shift)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("lr_in_velocity", "nesterov"), [(True, False), (False, False), (False, True)])
def test_updates(triton_kernels, lr_in_velocity, nesterov):
    w, v, g = (torch.linspace(-1, 1, 1500, dtype=torch.float64).roll(place) for place in range(3))
    ours = [tensor.float() for tensor in (w, v, g)]
    rate = torch.tensor(0.1, device=ours[0].device)
    triton_kernels.sgd_update(*ours, rate, momentum=0.9, weight_decay=0.01, lr_in_velocity=lr_in_velocity,
                              nesterov=nesterov)
    if lr_in_velocity:  # §5
        velocity = 0.9 * v - 0.01 * 0.1 * w - 0.1 * g
        weight = w + velocity
    else:  # torch.optim.SGD's documentation
        decayed = g + 0.01 * w
        velocity = 0.9 * v + decayed
        weight = w - 0.1 * (decayed + 0.9 * velocity if nesterov else velocity)
    torch.testing.assert_close([tensor.double() for tensor in ours], [weight, velocity, g], rtol=1e-5, atol=1e-6)
