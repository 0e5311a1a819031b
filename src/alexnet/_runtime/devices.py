"""Which device a run uses, and which precision is fast on it."""

from __future__ import annotations

import os
import platform
from typing import Literal, cast, get_args

import torch


def choose_device(name: str) -> str:
    """`auto` is CUDA where there is one. Raises ValueError for a device that is absent."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {name} is absent: this torch sees no CUDA; use --device cpu")
    if name.split(":")[0] not in ("cpu", "cuda", "mps"):
        raise ValueError(f"there is no device {name!r}; use auto, cpu or cuda")
    return name


def machine(device: str) -> str:
    """What a run was done on, for its record."""
    return f"{_device_name(torch.device(device))}, torch {torch.__version__}"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"

Precision = Literal["fp32", "bf16", "fp16"]


def choose_precision(wanted: str, device: torch.device | str) -> Precision:
    """auto: bf16 where the device has instructions for it, fp32 elsewhere.

    A processor without them can do bf16 in several instructions each, slower than fp32.
    Raises ValueError for fp16 on a CPU, which has neither the instructions nor the range.
    """
    kind = torch.device(device).type
    if wanted == "fp16" and kind == "cpu":
        raise ValueError("fp16 on a CPU has no fast instructions and no range; use --precision bf16 or fp32")
    if wanted != "auto":
        if wanted not in get_args(Precision):
            raise ValueError(f"precision {wanted!r} must be auto, {', '.join(get_args(Precision))}")
        return cast(Precision, wanted)
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if kind == "cpu" and _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    """AVX-512 BF16 or AMX on x86; on Arm, what oneDNN says."""
    if platform.machine() in ("x86_64", "AMD64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
