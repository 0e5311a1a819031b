"""Every Triton kernel compiles for an H100 or H200 without a GPU, and keeps its registers."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from alexnet._runtime import kernels

ROOT = Path(__file__).parents[2]

LAUNCHES = """import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction
from alexnet._runtime import triton_crops, triton_norm_pool, triton_update
from alexnet._runtime.pixels import TensorPixels

class Driver:
    def get_current_device(self): return 0
    def get_current_stream(self, device): return 0
    def get_current_target(self): return GPUTarget("cuda", 90, 32)

def compiled(kernel, grid):
    def launch(*arguments, **options):
        made = kernel.run(*arguments, grid=grid, warmup=True, **options)
        print(kernel.fn.__name__, "cubin" in made.asm)
    return launch

driver.set_active(Driver())
JITFunction.__getitem__ = compiled
tensors = [torch.randn(shape) for shape in ((1,), (0,), (1,), (5,), (16,), (7, 3, 5, 5), (2000,))]
for w in (tensors, tensors[:1], tensors[3:4]):
    for copies in ([], [tensor.bfloat16() for tensor in w]):
        triton_update.sgd_update(w, w, w, [torch.ones(())] * len(w), [0.0] * len(w), copies, momentum=0.9,
                                 lr_in_velocity=True, nesterov=False)
for side in (1, 9):
    triton_crops.resized_crop_normalize(TensorPixels(torch.zeros(2, side, side, 3, dtype=torch.uint8)), torch.ones(3),
                                        torch.ones(3), torch.ones(2, 4), None, None, 7, bgr=True, dtype=torch.bfloat16)
for shape, numbers in (((1, 8, 3, 3), dict(k=2.0, alpha=1.0, beta=0.5, n=5, towers=1)),
                       ((2, 16, 9, 2), dict(k=1.0, alpha=0.0, beta=0.75, n=0, towers=1))):
    maps = torch.zeros(shape).contiguous(memory_format=torch.channels_last)
    sides = (shape[2] - 1) // 2, (shape[3] - 1) // 2 or 1
    pooled, offsets = triton_norm_pool.norm_pool_forward(maps, torch.zeros(shape[1]), 3, 2, sides, **numbers)
    triton_norm_pool.norm_pool_backward(maps, torch.zeros(shape[1]), offsets, pooled, 3, 2, **numbers)
"""


@pytest.mark.slow
@pytest.mark.needs("triton", "pip install -c constraints.txt '.[ci]' on Linux x86_64")
def test_what_triton_makes_of_the_arguments_of_a_launch_compiles(tmp_path):
    """It makes a number that is 1 a constant, in a tuple too. Triton's interpreter does not."""
    ran = subprocess.run([sys.executable, "-c", LAUNCHES], capture_output=True, text=True,
                         env={**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"})
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["_update True"] * 6 + ["_boxes True"] * 2 + [
        "_norm_pool_forward True", "_norm_pool_backward True"] * 2


def launched() -> set[str]:
    """The functions for Triton that no other one calls."""
    jitted, called = set(), set()
    for file in Path(kernels.__file__).parent.glob("triton_*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.decorator_list:
                jitted.add(node.name)
                called |= {call.func.id for call in ast.walk(node)
                           if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)}
    return jitted - called


@pytest.mark.slow
@pytest.mark.needs("triton", "pip install -c constraints.txt '.[ci]' on Linux x86_64")
def test_every_kernel_compiles_for_sm_90_without_spilling(tmp_path):
    figures = tmp_path / "kernels.json"
    ran = subprocess.run([sys.executable, ROOT / "benchmarks" / "triton_aot.py", "--json", figures],
                         capture_output=True, text=True, env={**os.environ, "TRITON_CACHE_DIR": str(tmp_path)})
    assert ran.returncode == 0, ran.stderr
    print(ran.stdout)
    rows = json.loads(figures.read_text())
    assert {row["kernel"].split(",")[0] for row in rows} == launched()
    for row in rows:
        assert row["spilled"] == 0, row
        assert 0 < row["registers"] <= 128, row
    for row in (row for row in rows if row["kernel"].startswith("_update")):
        copies, aligned = "copies" in row["kernel"], "aligned" in row["kernel"]
        # 8 elements a thread: at once in whole blocks, one by one in the last block of a tensor.
        assert row["accesses"]["LDG 32"] - (24 if aligned else 48) in (1, 2), "one or two loads of the learning rate"
        one_by_one = Counter({"STG 32": 16, "STG 16": 8 * copies})
        whole = Counter({"LDG 128": 6, "STG 128": 4, "STG 64": 2 * copies}) if aligned else one_by_one
        others = {name: count for name, count in row["accesses"].items() if name != "LDG 32"}
        assert others == one_by_one + whole, row
        assert row["registers"] <= (48 if aligned else 80), row
        assert row["shared"] == 0, row
    # 9 values of x and 5 of dy for each of a thread's four elements.
    gradient = next(row for row in rows if row["kernel"] == "_norm_backward, 96 maps, n 5, fp32")
    assert sum(int(name.split()[1]) * count for name, count in gradient["accesses"].items()
               if name.startswith("LDG")) == 14 * 4 * 32
    # Of each block of four pixels, the own group: the maps, the gradients of four windows, and twice the biases in
    # fp32; of the groups on both sides four maps of each pixel, whose biases are as long, and two gradients.
    after = next(row for row in rows if row["kernel"] == "_norm_pool_backward, 96 maps, n 5, bf16")
    assert after["accesses"] == {"LDG 128": 4 + 4 + 8 + 8, "LDG 64": 4 + 8, "LDG 32": 8 + 8, "STG 128": 4, "STG 32": 1}
    assert after["instructions"] < 70 * 32, "of a thread, which computes 8 maps of 4 pixels"
