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
def on_device() -> Iterator[None]:
    """A default device for the test's tensors."""
    with torch.device(DEVICE):
        yield


# The modules are imported late, since they need Triton.


@pytest.fixture
def triton_norm_dropout(on_device: None) -> ModuleType:
    return importlib.import_module("alexnet._runtime.triton_norm_dropout")


@pytest.fixture
def triton_crops(on_device: None) -> ModuleType:
    return importlib.import_module("alexnet._runtime.triton_crops")


@pytest.fixture
def triton_update(on_device: None) -> ModuleType:
    return importlib.import_module("alexnet._runtime.triton_update")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lrn", [LRN(), LRN(k=1.0, n=3, alpha=0.1, beta=0.5, within_tower=True)], ids=str)
def test_normalization_and_its_gradient(triton_norm_dropout, lrn, dtype):
    norm = ResponseNorm(lrn, 12, 2)  # on the device, as all else is
    maps = (torch.randn(2, 12, 3, 5) * 30).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    grad = torch.randn(2, 12, 3, 5).to(dtype)
    numbers = {"k": lrn.k, "alpha": norm.alpha, "beta": lrn.beta, "n": lrn.n, "towers": norm.towers}
    exact_maps = maps.detach().double().requires_grad_()
    expected = norm.double().banded(exact_maps)
    expected.backward(grad.double())
    bounds = {"rtol": 1e-2, "atol": 1e-2} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
    with torch.no_grad():
        result, gradient = triton_norm_dropout.norm_forward(maps, **numbers), triton_norm_dropout.norm_backward(
            maps, grad, **numbers)
        assert result.dtype == gradient.dtype == dtype
        torch.testing.assert_close(result.double(), expected, **bounds)
        torch.testing.assert_close(gradient.double(), exact_maps.grad, **bounds)
        assert triton_norm_dropout.norm_forward(maps[:0], **numbers).shape == (0, 12, 3, 5)


@pytest.mark.parametrize(("mean_side", "mean_crop"), [(1, "own"), (12, "own"), (12, "center")])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_views(triton_crops, mean_side, mean_crop, channels):
    pixels = torch.randint(0, 256, (3, 12, 12, 3), dtype=torch.uint8)
    preprocess = Preprocess(InputSpec(12, 9, mean_crop=mean_crop, channels=channels, scale=(2.0, 3.0, 4.0)),
                            torch.rand(mean_side, mean_side, 3) * 255)
    places, mirrored = torch.tensor([[0, 3], [2, 0], [1, 1], [3, 3]]), torch.tensor([True, False, True, False])
    shift, image = torch.randn(4, 3) * 9, torch.tensor([2, 0, 1, 2])
    central = mean_crop == "center"
    mean_HWC = preprocess.central_mean(9) if central else preprocess.mean_HWC
    result = triton_crops.crop_normalize(
        TensorPixels(pixels), mean_HWC, preprocess.scale_C, places, mirrored, shift, 9,
        bgr=channels == "BGR", dtype=torch.float32, image_V=image, mean_is_central=central)
    expected = preprocess.normalize(preprocess.crop(pixels, *places.unbind(1), image), mirrored, shift)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("side", "crop", "channels"), [(13, 9, "RGB"), (13, 17, "BGR"), (1, 3, "RGB"), (8, 1, "RGB")])
def test_resized_crops(triton_crops, monkeypatch, side, crop, channels, dtype):
    """Against the torch code: boxes of whole pixels, one of fractions, the whole image, one row, and one pixel."""
    monkeypatch.setenv("ALEXNET_NATIVE", "0")
    preprocess = Preprocess(InputSpec(side, min(side, crop), "channel", channels=channels, scale=(2.0, 3.0, 4.0)),
                            torch.rand(1, 1, 3) * 255)
    boxes = torch.tensor([[0, 0, side, side], [side // 3, side // 2, side // 2 or 1, side // 3 or 1],
                          [0.25 * side, 0.1 * side, 0.7 * side, 0.63 * side], [side - 1, 0, 1, side],
                          [side - 1, side - 1, 1, 1]], dtype=torch.float64)
    pixels = torch.randint(0, 256, (len(boxes), side, side, 3), dtype=torch.uint8)
    mirrored, shift = torch.tensor([False, True, True, False, True]), torch.randn(len(boxes), 3) * 9
    for of_view in ((mirrored, shift), (None, None)):
        result = triton_crops.resized_crop_normalize(
            TensorPixels(pixels), preprocess.mean_HWC.flatten(), preprocess.scale_C * 1.1, boxes, *of_view, crop,
            bgr=channels == "BGR", dtype=dtype)
        expected = preprocess.random_resized_crop(pixels, boxes, crop, *of_view, dtype, divisor=1.1)
        assert result.dtype == dtype
        assert result.is_contiguous(memory_format=torch.channels_last)
        # Triton's interpreter truncates to bf16. Positions agree to the last digits, and neighbors differ by up to 255.
        torch.testing.assert_close(result, expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-2)
    assert triton_crops.resized_crop_normalize(
        TensorPixels(pixels[:0]), preprocess.mean_HWC.flatten(), preprocess.scale_C, boxes[:0], None, None, crop,
        bgr=False, dtype=dtype).shape == (0, 3, crop, crop)


RULES = pytest.mark.parametrize(("lr_in_velocity", "nesterov"), [(True, False), (False, False), (False, True)])


def updated(w, v, g, rate, decay, lr_in_velocity, nesterov):
    """Weight and velocity after an update by the formulas, with momentum 0.9."""
    if lr_in_velocity:  # §5
        velocity = 0.9 * v - decay * rate * w - rate * g
        return w + velocity, velocity
    decayed = g + decay * w  # torch.optim.SGD's documentation
    velocity = 0.9 * v + decayed
    return w - rate * (decayed + 0.9 * velocity if nesterov else velocity), velocity


def check_update(triton_update, tensors, lr_in_velocity, nesterov, with_copies):
    """Update tensors (w, v and g of each), with a rate and a decay of their own, and compare with the formulas."""
    exact = [[tensor.double() for tensor in of_one] for of_one in tensors]
    w, v, g = (list(of_kind) for of_kind in zip(*tensors, strict=True))
    rates, decays = torch.linspace(0.05, 0.5, len(w)).unbind(), [0.01 * number for number in range(len(w))]
    copies = [torch.empty_like(tensor, dtype=torch.bfloat16) for tensor in w] if with_copies else []
    triton_update.sgd_update(w, v, g, rates, decays, copies, momentum=0.9, lr_in_velocity=lr_in_velocity,
                             nesterov=nesterov)
    for number, (of_one, (weight, velocity, gradient)) in enumerate(zip(tensors, exact, strict=True)):
        new = updated(weight, velocity, gradient, rates[number].double(), decays[number], lr_in_velocity, nesterov)
        torch.testing.assert_close([tensor.double() for tensor in of_one], [*new, gradient], rtol=1e-5, atol=1e-6)
    for copy, weight in zip(copies, w, strict=with_copies):
        if DEVICE == "cpu":  # Triton's interpreter truncates to bf16
            weight = (weight.view(torch.int32) >> 16 << 16).view(torch.float32)
        assert torch.equal(copy, weight.bfloat16())


@RULES
@pytest.mark.parametrize("with_copies", [False, True])
def test_one_update_of_all_tensors(triton_update, lr_in_velocity, nesterov, with_copies):
    """Of a bias, an odd number, nothing, a channels-last kernel, whole blocks, and a single number."""
    def tensor(shape):
        made = torch.randn(shape)
        return made.contiguous(memory_format=torch.channels_last) if made.ndim == 4 else made

    shapes = [(96,), (1501,), (0,), (12, 8, 5, 3), (4, triton_update.BLOCK), (1,)]
    check_update(triton_update, [[tensor(shape) for _ in range(3)] for shape in shapes], lr_in_velocity, nesterov,
                 with_copies)


def test_updates_of_more_tensors_than_a_launch_takes(triton_update, monkeypatch):
    monkeypatch.setattr(triton_update, "MAX_TENSORS", 3)
    check_update(triton_update, [[torch.randn(5) for _ in range(3)] for _ in range(7)], True, False, with_copies=True)


@pytest.mark.parametrize("which", range(3))
def test_an_update_of_a_tensor_at_an_odd_address(triton_update, which):
    """DistributedDataParallel makes gradients that begin anywhere in a larger tensor."""
    tensors = [[torch.randn(2 * triton_update.BLOCK + 1) for _ in range(3)] for _ in range(2)]
    tensors[1][which] = torch.randn(2 * triton_update.BLOCK + 2)[1:]
    check_update(triton_update, tensors, True, False, with_copies=True)


def test_an_update_of_nothing(triton_update):
    check_update(triton_update, [[torch.empty(0)] * 3], True, False, with_copies=True)
