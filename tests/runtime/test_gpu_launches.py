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


@pytest.fixture
def launches(monkeypatch, current) -> tuple[ModuleType, list[int]]:
    """The kernels' module, and the current device at each launch."""
    pytest.importorskip("triton")
    module, devices = importlib.import_module("alexnet._runtime.triton_kernels"), []

    class Kernel:
        def __getitem__(self, grid: object) -> object:
            return lambda *arguments, **options: devices.append(current[-1])

    for name in ("_norm_forward", "_norm_backward", "_views", "_update", "_dropout"):
        monkeypatch.setattr(module, name, Kernel())
    return module, devices


def test_every_kernel_is_launched_on_the_gpu_of_its_tensors(launches, current):
    """Triton launches on the current device: with cuda:1 it read the first GPU's memory by addresses of the second."""
    module, devices = launches
    norm = {"k": 2.0, "alpha": 1e-4, "beta": 0.75, "n": 5, "towers": 2}
    with FakeTensorMode():
        maps = torch.empty(2, 8, 3, 3, device=SECOND, memory_format=torch.channels_last)
        rows = torch.empty(4, 6, device=SECOND)
        module.norm_forward(maps, **norm)
        module.norm_backward(maps, maps, **norm)
        module.crop_normalize(
            TensorPixels(torch.empty(2, 9, 9, 3, dtype=torch.uint8, device=SECOND)),
            torch.empty(1, 1, 3, device=SECOND), torch.empty(3, device=SECOND),
            torch.empty(2, 2, dtype=torch.int64, device=SECOND), None, None, 7, bgr=False, dtype=torch.float32)
        module.sgd_update(rows, rows, rows, torch.empty((), device=SECOND), momentum=0.9, weight_decay=0.0,
                          lr_in_velocity=True, nesterov=False)
        module.dropout(rows, torch.empty(7, dtype=torch.int64, device=SECOND), Draw(0.5, 0, 0, 0), 0)
    assert devices == [1] * 5
    assert current[-1] == 0, "the caller's current device is as it was"


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
