"""What cannot run without a GPU, by fakes: the device of each Triton launch, the current device, float32 in float32."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from alexnet._runtime.devices import choose_device
from alexnet._runtime.philox import Draw
from alexnet._runtime.pixels import TensorPixels
from alexnet.training.parallel.rendezvous import own_device
from alexnet.training.precision import MixedPrecision

SECOND = torch.device("cuda", 1)


@pytest.fixture
def current(monkeypatch) -> list[int]:
    """The stack of the current GPU's number; 0 is torch's default."""
    stack = [0]

    def exchange(index: int) -> int:
        former = stack[-1]
        if index >= 0:
            stack.append(index)
        return former

    monkeypatch.setattr(torch.cuda, "_exchange_device", exchange)
    monkeypatch.setattr(torch.cuda, "_maybe_exchange_device", exchange)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: stack.append(torch.device(device).index))
    return stack


KERNELS = {"triton_norm_dropout": ("_norm_forward", "_norm_backward", "_dropout"), "triton_crops": ("_views", "_boxes"),
           "triton_update": ("_update",)}


@pytest.fixture
def launches(monkeypatch, current) -> tuple[dict[str, ModuleType], list[tuple[int, dict[str, object]]]]:
    """The kernels' modules by name, and of each launch the current device and the options."""
    pytest.importorskip("triton")
    modules, launched = {name: importlib.import_module(f"alexnet._runtime.{name}") for name in KERNELS}, []

    class Kernel:
        def __getitem__(self, grid: object) -> object:
            return lambda *arguments, **options: launched.append((current[-1], options))

    for name, kernels in KERNELS.items():
        for kernel in kernels:
            monkeypatch.setattr(modules[name], kernel, Kernel())
    return modules, launched


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_every_kernel_is_launched_on_the_gpu_of_its_tensors(launches, current):
    """Triton launches on the current device: with cuda:1 it read the first GPU's memory by addresses of the second."""
    modules, launched = launches
    module, crops = modules["triton_norm_dropout"], modules["triton_crops"]
    norm = {"k": 2.0, "alpha": 1e-4, "beta": 0.75, "n": 5, "towers": 2}
    with FakeTensorMode():
        maps = torch.empty(2, 8, 3, 3, device=SECOND, memory_format=torch.channels_last)
        rows = torch.empty(4, 6, device=SECOND)
        module.norm_forward(maps, **norm)
        module.norm_backward(maps, maps, **norm)
        pixels, scale = torch.empty(2, 9, 9, 3, dtype=torch.uint8, device=SECOND), torch.empty(3, device=SECOND)
        crops.crop_normalize(
            TensorPixels(pixels), torch.empty(1, 1, 3, device=SECOND), scale,
            torch.empty(2, 2, dtype=torch.int64, device=SECOND), None, None, 7, bgr=False, dtype=torch.float32)
        crops.resized_crop_normalize(
            TensorPixels(pixels), scale, scale, torch.empty(2, 4, device=SECOND), None, None, 7, bgr=False,
            dtype=torch.float32)
        modules["triton_update"].sgd_update(
            [rows], [rows], [rows], [torch.empty((), device=SECOND)], [0.0], [], momentum=0.9, lr_in_velocity=True,
            nesterov=False)
        module.dropout(rows, torch.empty(7, dtype=torch.int64, device=SECOND), Draw(0.5, 0, 0, 0), 0)
    assert [device for device, _ in launched] == [1] * sum(map(len, KERNELS.values()))
    assert current[-1] == 0, "the caller's current device is as it was"


@pytest.mark.parametrize("kind", range(4))
def test_an_address_that_is_no_multiple_of_16_is_never_said_to_be_one(launches, kind):
    """A GPU stops a program that loads 16 bytes at once from elsewhere. 65 tensors are two launches."""
    modules, launched = launches
    shapes = [(8,)] * 65
    w, v, g, copies = [[torch.empty(shape, dtype=dtype) for shape in shapes] for dtype in (
        torch.float32, torch.float32, torch.float32, torch.bfloat16)]
    odd = (w, v, g, copies)[kind]
    odd[64] = torch.empty(12, dtype=odd[64].dtype)[1:9]
    modules["triton_update"].sgd_update(w, v, g, [torch.ones(())] * 65, [0.0] * 65, copies, momentum=0.9,
                                        lr_in_velocity=True, nesterov=False)
    assert [(options["TENSORS"], options["ALIGNED"]) for _, options in launched] == [(64, True), (1, False)]


def test_a_process_with_a_gpu_named_for_it_makes_that_one_the_current_one(current):
    """NCCL and the events of StepClock use the current one."""
    assert own_device(SECOND, local_rank=0) == SECOND
    assert current[-1] == 1


@pytest.fixture
def tf32_allowed():
    """torch's default."""
    torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32 = True


@pytest.mark.usefixtures("tf32_allowed")
@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:1"])
def test_convolutions_of_float32_are_not_computed_in_tf32(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    choose_device(name)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.usefixtures("tf32_allowed")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_neither_in_training_of_a_spec_that_names_the_gpu(precision):
    """Of bf16 and fp16, validation is in float32."""
    MixedPrecision(precision, SECOND)
    assert not torch.backends.cudnn.allow_tf32


def test_the_layers_after_a_convolution_are_launched_on_the_gpu_of_their_tensors_too(monkeypatch, current):
    pytest.importorskip("triton")
    module, devices = importlib.import_module("alexnet._runtime.triton_norm_pool"), []

    class Kernel:
        def __getitem__(self, grid: object) -> object:
            return lambda *arguments, **options: devices.append(current[-1])

    for name in ("_norm_pool_forward", "_norm_pool_backward"):
        monkeypatch.setattr(module, name, Kernel())
    norm = {"k": 2.0, "alpha": 1e-4, "beta": 0.75, "n": 5, "towers": 2}
    with FakeTensorMode():
        maps = torch.empty(2, 16, 7, 7, device=SECOND, memory_format=torch.channels_last)
        bias = torch.empty(16, device=SECOND)
        pooled, offsets = module.norm_pool_forward(maps, bias, 3, 2, (3, 3), **norm)
        module.norm_pool_backward(maps, bias, offsets, pooled, 3, 2, **norm)
    assert devices == [1] * 2
    assert current[-1] == 0
