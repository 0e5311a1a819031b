"""What is installed, and what this machine can do (`alexnet doctor`): versions, device, kernels, precision, extras."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from alexnet._runtime import native
from alexnet._runtime.cpu_threads import loader_threads
from alexnet._runtime.extras import EXTRAS, clone, install_line, reinstall_line
from alexnet._runtime.software import own_version
from alexnet.errors import UserError

PACKAGES = ("numpy", "pillow", "simplejpeg", "safetensors")
"""Those whose versions are shown beside torch's."""

MISSING = "(missing)"
_INDEX = "https://download.pytorch.org/whl"


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
    """Examine this installation and this machine. Imports torch, if it can be, and trains nothing."""
    root = clone()
    place = f"the clone {root}" if root else str(Path(__file__).parents[1])
    yield Check("alexnet", "ok", f"{own_version()}, from {place}")
    yield Check("python", "ok", f"{platform.python_version()}, {sys.executable}, {platform.system()} "
                f"{platform.machine()}")
    torch = _torch()
    yield torch
    if torchvision := _torchvision(_version("torch")):
        yield torchvision
    yield Check("packages", "ok", ", ".join(f"{name} {_version(name)}" for name in PACKAGES))
    if torch.state == "ok":
        yield from _machine()
    yield _kernels()
    for name, extra in EXTRAS.items():
        missing = extra.missing
        yield Check(f"extra {name}", "missing" if missing else "ok", extra.purpose + (
            f": without {', '.join(missing)}" if missing else ""), install_line(name) if missing else "")


def _version(package: str) -> str:
    """The version of an installed package; MISSING without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return MISSING


def _torch() -> Check:
    """torch's version, or why it cannot be imported."""
    try:
        import torch
    except (ImportError, OSError) as error:
        again = "" if _version("torch") == MISSING else "--force-reinstall "
        line = f"pip install {again}torch"
        if sys.platform == "linux":  # elsewhere PyPI has the build for the CPU
            line += f" --index-url {_INDEX}/cpu   # without --index-url: the CUDA build, several GB"
        return Check("torch", "wrong", f"cannot be imported: {str(error).splitlines()[0]}", line)
    return Check("torch", "ok", torch.__version__)


def _torchvision(torch: str) -> Check | None:
    """Whether a torchvision is of the version and the build of the torch beside it; None without both.

    It is not imported. Each torchvision is compiled for one torch, which its metadata name.

    Args:
        torch: the version in its wheel's metadata. The wheels of PyPI have no build in it, those of
            download.pytorch.org do: "2.13.0+cpu".
    """
    found = _version("torchvision")
    if MISSING in (found, torch):
        return None
    (number, _, build), other_build = torch.partition("+"), found.partition("+")[2]
    wanted = re.search(r"^torch\s*\(?==\s*([\w.]+)", "\n".join(requires("torchvision") or ()), re.MULTILINE)
    if wanted and wanted[1] != number:
        problem = f" is for torch {wanted[1]}, and this is torch {torch}: importing it fails"
    elif build != other_build:
        problem = f" is of another build than torch {torch}: importing it fails"
    else:
        return Check("torchvision", "ok", found)
    if fitting := _fitting_torchvision(number):
        index = f" --index-url {_INDEX}/{build}" if build else ""
        remedy = f"pip install --force-reinstall --no-deps torchvision=={fitting}{index}"
    else:
        remedy = f"install the torchvision that https://github.com/pytorch/vision names for torch {number}"
    return Check("torchvision", "wrong", found + problem, remedy)


def _fitting_torchvision(torch: str) -> str:
    """The torchvision of a release of torch 2, such as 0.28.0 of 2.13.0; "" where no rule gives it.

    The table in torchvision's README has 0.15 beside torch 2.0, and since then one more beside each next torch; their
    releases that mend faults come together, as from 2.1 on.
    """
    release = re.fullmatch(r"2\.([1-9]\d*)\.(\d+)", torch)
    return f"0.{int(release[1]) + 15}.{release[2]}" if release else ""


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
