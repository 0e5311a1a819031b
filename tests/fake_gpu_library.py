"""Compiles fake_gpu.cpp, a CUDA device that does nothing, for tests that run fake_gpu.py."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import torch

from requirements import missing

TESTS = Path(__file__).parent


def compiled(folder: Path) -> Path:
    """fake_gpu.cpp as a library."""
    if torch.version.cuda or not sys.platform.startswith("linux"):
        missing("this torch has a real CUDA; `make gpu` takes a real step")
    if not (compiler := shutil.which("g++")):
        missing("g++ is not on the PATH")
    library, torch_folder = folder / "fake_gpu.so", Path(torch.__file__).parent
    subprocess.run([compiler, "-std=c++20", "-O0", "-shared", "-fPIC", f"-I{torch_folder / 'include'}",
                    TESTS / "fake_gpu.cpp", f"-L{torch_folder / 'lib'}", "-lc10", "-ltorch_cpu", "-o", library],
                   check=True)
    return library
