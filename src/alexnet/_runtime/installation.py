"""What is installed, and what this machine can do (`alexnet doctor`): versions, device, kernels, precision, extras."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from alexnet._runtime import native
from alexnet._runtime.cpu_threads import loader_threads
from alexnet._runtime.extras import EXTRAS, clone, install_line, reinstall_line
from alexnet.errors import UserError

PACKAGES = ("numpy", "pillow", "simplejpeg", "safetensors")
"""Those whose versions are shown beside torch's."""


@dataclass(frozen=True)
class Check:
    """One line of the examination."""

    name: str
    state: Literal["ok", "missing", "wrong"]
    """missing: an option that works after an installation. wrong: something slower or broken."""
    found: str
    remedy: str = ""
    """What changes it, in one line; "" where nothing needs to."""


def examine() -> Iterator[Check]:
    """Examine this installation and this machine. Imports torch and trains nothing."""
    root = clone()
    place = f"the clone {root}" if root else str(Path(__file__).parents[1])
    yield Check("alexnet", "ok", f"{version('alexnet')}, from {place}")
    yield Check("python", "ok", f"{platform.python_version()}, {sys.executable}, {platform.system()} "
                f"{platform.machine()}")
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Check("torch", "wrong", f"cannot be imported: {str(error).splitlines()[0]}",
                    "install it again: pip install --force-reinstall torch")
        return
    yield Check("torch", "ok", torch.__version__)
    if torchvision := _torchvision(_version("torch")):
        yield torchvision
    yield Check("packages", "ok", ", ".join(f"{name} {_version(name)}" for name in PACKAGES))
    yield from _machine()
    yield _kernels()
    for name, extra in EXTRAS.items():
        missing = extra.missing
        yield Check(f"extra {name}", "missing" if missing else "ok", extra.purpose + (
            f": without {', '.join(missing)}" if missing else ""), install_line(name) if missing else "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(missing)"


def _torchvision(torch: str) -> Check | None:
    """Whether a torchvision beside torch is of the same build; None without one. It is not imported.

    Args:
        torch: the version in its wheel's metadata. The wheels of PyPI have no build in it, those of
            download.pytorch.org do: "2.13.0+cpu".
    """
    found = _version("torchvision")
    if found == "(missing)":
        return None
    builds = [text.partition("+")[2] for text in (torch, found)]
    index = f"https://download.pytorch.org/whl/{builds[0]}" if builds[0] else ""
    return Check("torchvision", "ok" if builds[0] == builds[1] else "wrong", found + (
        "" if builds[0] == builds[1] else f" is of another build than torch {torch}: importing it fails"),
        "" if builds[0] == builds[1] else "pip install --force-reinstall --no-deps torchvision"
        + (f" --index-url {index}" if index else ""))


def _machine() -> Iterator[Check]:
    import torch

    from alexnet._runtime.devices import choose_device, choose_precision, device_name

    device = choose_device("auto")
    count = torch.cuda.device_count() if device == "cuda" else 0
    others = f"; {count} GPUs" if count > 1 else ""
    if device == "cpu" and torch.backends.mps.is_available():
        others = "; an Apple GPU is there: --device mps"
    yield Check("device", "ok", f"{device}: {device_name(torch.device(device))}{others}")
    yield Check("precision", "ok", f"{choose_precision('auto', device)} (what --precision auto chooses here)")
    yield Check("threads", "ok", f"torch computes with {torch.get_num_threads()}, {loader_threads()} read images")


def _kernels() -> Check:
    """The native kernels: the instruction set that they use, or why there are none."""
    allowed = os.environ.get("ALEXNET_NATIVE")
    try:
        level = native.level()
    except UserError as error:
        return Check("native kernels", "wrong", error.problem, "unset ALEXNET_NATIVE")
    if level:
        return Check("native kernels", "ok", level + (f", at most ALEXNET_NATIVE={allowed}" if allowed else ""))
    if allowed == "0":
        return Check("native kernels", "wrong", "turned off by ALEXNET_NATIVE=0: torch and Pillow do their work, "
                     "slower", "unset ALEXNET_NATIVE")
    return Check("native kernels", "wrong", "not built, or built for another machine; torch and Pillow do their work, "
                 "slower", f"install a C compiler, then {reinstall_line()}")
