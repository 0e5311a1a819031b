"""Device choice (cpu, cuda, mps), precision choice (fp32, bf16, fp16), and a description of the machine."""

from __future__ import annotations

import os
import platform
from typing import Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.errors import UserError, require

Precision = Literal["fp32", "bf16", "fp16"]

_USE_CPU = "use --device cpu, or auto"


def choose_device(name: str | torch.device) -> str:
    """Return the torch device for a name; `auto` is CUDA where it is available, else the CPU.

    On CUDA, `compute_fp32_in_fp32` then holds for this process.

    Raises:
        UserError: for an unknown or absent device.
    """
    name = str(name)
    if name == "auto":
        return choose_device("cuda") if torch.cuda.is_available() else "cpu"
    kind, colon, number = name.partition(":")
    require(kind in ("cpu", "cuda", "mps") and (number.isdecimal() or not colon), f"there is no device {name!r}",
            "use auto, cpu, cuda, cuda:1 (the second GPU) or mps")
    if kind == "cuda":
        require(torch.cuda.is_available(), f"device {name} is not available: torch finds no CUDA GPU", _USE_CPU)
        count = torch.cuda.device_count()
        require(int(number or 0) < count,
                f"device {name} is not available: there are {count} GPUs, numbered from 0", _USE_CPU)
        compute_fp32_in_fp32()
    require(kind != "mps" or torch.backends.mps.is_available(),
            f"device {name} is not available: torch finds no Apple GPU", _USE_CPU)
    return name


def choose_precision(precision: str, device: torch.device | str) -> Precision:
    """Return the precision for a name; `auto` is bf16 where the device has instructions for it, else fp32.

    A processor without bf16 instructions emulates them, slower than fp32.

    Raises:
        UserError: for an unknown precision, and for fp16 on a CPU, which has neither fast instructions for it nor its
            range for gradients.
    """
    kind = torch.device(device).type
    if precision == "fp16" and kind == "cpu":
        raise UserError("fp16 is not supported on a CPU, where it is slow and its range too small for gradients",
                        "use --precision bf16 or fp32")
    if precision != "auto":
        require(precision in get_args(Precision),
                f"precision {precision!r} must be auto or one of {', '.join(get_args(Precision))}")
        return cast(Precision, precision)
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if kind == "cpu" and cpu_has_bf16() else "fp32"


def compute_fp32_in_fp32() -> None:
    """Let CUDA compute convolutions of float32 in float32, in this whole process, also in backward passes.

    torch's default is TF32, which rounds their inputs to 10 bits of fraction, as fp16 has. Its matrix products are in
    float32 by default.
    """
    torch.backends.cudnn.allow_tf32 = False


def to_device(values: Tensor | NDArray[np.generic], device: torch.device) -> Tensor:
    """Copy a few numbers to a device without waiting for it: on CUDA through pinned memory, in the stream's order.

    A copy from other memory waits until all that is queued is done.
    """
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if device.type == "cuda" and not tensor.is_cuda:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def cpu_has_bf16() -> bool:
    """Whether the CPU has bf16 instructions: AVX-512 BF16 or AMX on x86; on Arm as oneDNN reports."""
    if platform.machine() in ("x86_64", "AMD64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def describe_machine(device: str) -> str:
    """Device and torch version, for the record of a run: "x86_64 CPU, 8 cores, torch 2.10.0"."""
    return f"{device_name(torch.device(device))}, torch {torch.__version__}"


def device_name(device: torch.device) -> str:
    """The GPU's model, or the CPU's architecture and number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"
