"""Training steps on a GPU that is not there: tensors on "cuda:0" with shapes and no values. test_fake_gpu.py runs it.

    python tests/fake_gpu.py LIBRARY FOLDER [evaluation]

LIBRARY is fake_gpu.cpp, compiled, which torch must find when it is imported, so this is a program of its own. It prints
a line of JSON for each step that it has taken, or what fake_gpu_evaluation.py has found. Whatever would read a value
from the GPU (`.item()`, `.tolist()`, a comparison) raises, and so do tensors on different devices, and copies between
CPU and GPU that would wait.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if __name__ == "__main__":
    lib = Path(importlib.util.find_spec("torch").origin).parent / "lib"  # type: ignore[union-attr,arg-type]
    ctypes.CDLL(str(lib / "libtorch_cpu.so"), ctypes.RTLD_GLOBAL)
    ctypes.CDLL(sys.argv[1])

import numpy as np
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

from alexnet._runtime import kernels
from alexnet._runtime.pixels import TensorPixels
from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import recipe
from alexnet.data.dataset import ArrayImage, Dataset
from alexnet.data.packed import PackedDataset
from alexnet.data.packing import pack
from alexnet.training.build import build
from alexnet.training.parallel import data_parallel, hybrid
from alexnet.training.parallel.process_group import ProcessGroup
from alexnet.training.spec import RunSpec

CUDA, SIDE = torch.device("cuda", 0), 40


class Waits(TorchDispatchMode):
    """Raises at a copy between CPU and GPU that waits for the GPU: one that must, or one from memory not pinned.

    own: how often each operator of this package was called.
    casts: how often a parameter was cast to another type, as by autocast.
    """

    def __init__(self) -> None:
        super().__init__()
        self.own: Counter[str] = Counter()
        self.casts = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = str(func)
        if name.startswith("alexnet."):
            self.own[name.split(".")[1]] += 1
        if name == "aten._to_copy.default" and isinstance(args[0], torch.nn.Parameter):
            self.casts += 1
        if name.startswith("aten.empty.") and kwargs.get("pin_memory"):
            result.is_in_pinned_memory = True
        if name in ("aten._to_copy.default", "aten.copy_.default"):
            target, source = (result, args[0]) if name.startswith("aten._to") else args[:2]
            non_blocking = kwargs.get("non_blocking") or (len(args) > 2 and args[2])
            if target.device != source.device:
                host = source if source.device.type == "cpu" else target
                if not non_blocking:
                    raise AssertionError(f"{name} of {tuple(source.shape)} to {target.device} waits for the GPU")
                if not getattr(host, "is_in_pinned_memory", False):
                    raise AssertionError(f"{name} of {tuple(source.shape)}: the memory is not pinned")
        return result


def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype)  # a copy would be a constant, which torch moves for real
    pinned.is_in_pinned_memory = True  # type: ignore[attr-defined]
    return pinned


def move(module: torch.nn.Module, device: torch.device | str, memory_format: Any = None) -> torch.nn.Module:
    """`nn.Module.to` to the fake GPU; torch's own does not replace fake parameters."""
    def on_device(tensor: torch.Tensor) -> torch.Tensor:
        layout = memory_format if memory_format and tensor.ndim == 4 else torch.contiguous_format
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=device, memory_format=layout)

    for part in module.modules():
        for key, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[key] = torch.nn.Parameter(on_device(parameter.detach()), parameter.requires_grad)
        for key, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[key] = on_device(buffer)
    return module


def install() -> None:
    """Replace what asks for the driver."""
    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: 1
    torch.cuda.is_bf16_supported = lambda **options: True
    torch.cuda._exchange_device = torch.cuda._maybe_exchange_device = lambda index: 0
    torch.cuda.current_device = lambda: 0
    torch.cuda.Event = lambda **options: SimpleNamespace(record=lambda: None)  # type: ignore[assignment,misc]
    torch.nn.Module.to = move  # type: ignore[method-assign,assignment]
    torch.Tensor.pin_memory = pin_memory  # type: ignore[method-assign,assignment]
    ProcessGroup.from_rank0 = lambda group, make: make()  # type: ignore[method-assign,assignment]
    # The C++ code of DistributedDataParallel reads the memory of gradients, which have none.
    data_parallel.sum_gradients = hybrid.sum_gradients = lambda module, group: module
    kernels._has_triton = lambda: True  # type: ignore[assignment]


def what_raises() -> dict[str, str]:
    """What must raise here, and the kind of error that it does raise; "" if none."""
    on_gpu, on_cpu = torch.empty(4, device=CUDA), torch.empty(4)
    attempts = {"item": lambda: on_gpu[0].item(), "tolist": lambda: on_gpu.tolist(),
                "comparison": lambda: bool(on_gpu.sum() > 0), "mixed devices": lambda: on_gpu + on_cpu,
                "to the CPU": lambda: on_gpu.cpu(), "from memory not pinned": lambda: on_cpu.to(
                    CUDA, non_blocking=True), "blocking": lambda: on_cpu.pin_memory().to(CUDA)}
    raised = dict.fromkeys(attempts, "")
    for name, attempt in attempts.items():
        try:
            attempt()
        except Exception as error:
            raised[name] = type(error).__name__
    return raised


@contextmanager
def processes(size: int) -> Iterator[ProcessGroup]:
    """This process as rank 0 of several, whose collective operations send nothing."""
    if size == 1:
        yield ProcessGroup()
        return
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=size)
    try:
        yield ProcessGroup(0, size, CUDA)
    finally:
        dist.destroy_process_group()


def take_step(spec: RunSpec, group: ProcessGroup) -> dict[str, Any]:
    """Take a step of the run on the fake GPU, and say what came out."""
    with closing(build(replace(spec, parallel="data")).epoch_batches()) as source:
        batch = next(source)  # on the CPU, with what its thread has drawn
    if group.size > 1 and spec.parallel != "towers":
        (batch, *_) = batch.parts(group.size)
    with FakeTensorMode(allow_non_fake_inputs=True), group.clock.running():
        trainer = build(replace(spec, device=str(CUDA)), group)
        trainer.network.train()
        trainer._lighting = torch.empty(3, 3, device=CUDA)
        trainer.state.step = 1  # every hundredth step measures the units, and waits
        count, logits = len(batch.indices), []
        trainer.strategy.module.register_forward_hook(lambda module, inputs, output: logits.append(output))
        batch = replace(batch, labels_N=torch.empty(count, dtype=torch.int64, device=CUDA), pixels=TensorPixels(
            torch.empty((count, SIDE, SIDE, 3), dtype=torch.uint8, device=CUDA)))
        with Waits() as waits:
            step = trainer._queue_step(batch, 0.0, 0.0, None)
        return {"logits": [str(output.dtype) for output in logits], "device": str(logits[0].device),
                "results": list(step.results._values.shape),
                "crops": [waits.own["crop_normalize"], waits.own["resized_crop_normalize"]],
                "updates": waits.own["sgd_update"], "casts": waits.casts}


def packed_noise(folder: Path) -> PackedDataset:
    """A packed folder of random images."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, SIDE, SIDE, 3), np.uint8)
    splits = {split: [ArrayImage(f"{split}/{number}", number % 4, image) for number, image in enumerate(pixels)]
              for split in ("train", "val")}
    return pack(Dataset("noise", ("a", "b", "c", "d"), splits, "random numbers"), folder / "packed", side=SIDE)


def spec_of(
    packed: PackedDataset, folder: Path, network: str, train: str, precision: str = "bf16", parallel: str = "data",
    micro_batch: int | None = None, **settings: Any,
) -> RunSpec:
    """A run of a narrow network, in batches of six."""
    layout = override(arch(network), [f"input.side={SIDE}", "input.crop=36", "conv1.kernel=5", "conv1.stride=1",
                                      "conv.width=16", "dense.width=16"])
    return RunSpec(packed, layout, replace(recipe(train), batch_size=6, **settings), folder / "run", workers=1,
                   precision=precision, micro_batch=micro_batch, parallel=parallel)  # type: ignore[arg-type]


def main() -> None:
    install()
    packed = packed_noise(Path(sys.argv[2]))
    if len(sys.argv) > 3:
        scenario = importlib.import_module(f"fake_gpu_{sys.argv[3]}")
        print(json.dumps(scenario.found(packed, Path(sys.argv[2]))), flush=True)
        return
    with FakeTensorMode(), Waits():
        print(json.dumps(what_raises()), flush=True)
    every = {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "trivial_augment": True, "erase_probability": 0.5,
             "ema_decay": 0.9, "clip_norm": 1.0}
    for network, train, precision, parallel, size, micro_batch, settings in (
        ("paper", "paper", "fp32", "data", 1, None, {}), ("paper", "paper", "bf16", "data", 1, None, {}),
        ("paper", "paper", "bf16", "data", 1, 3, {}), ("paper", "paper", "bf16", "data", 1, None, every),
        ("paper-bn", "modern", "bf16", "data", 1, None, {}), ("code2012", "code2012", "bf16", "data", 1, None, {}),
        ("paper", "paper", "bf16", "towers", 2, None, {}), ("paper", "paper", "bf16", "hybrid", 2, None, {}),
        ("paper", "paper", "bf16", "data", 2, None, {}),
    ):
        spec = spec_of(packed, Path(sys.argv[2]), network, train, precision, parallel, micro_batch, **settings)
        with processes(size) as group:
            taken = take_step(spec, group)
        print(json.dumps({"network": network, "precision": precision, "parallel": parallel, "processes": size,
                          "parts": len(taken["logits"]), **taken}), flush=True)


if __name__ == "__main__":
    main()
