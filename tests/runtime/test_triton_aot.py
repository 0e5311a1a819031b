"""Every Triton kernel compiles for an H100 or H200 without a GPU, and keeps its registers."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet._runtime import kernels

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.needs("triton", "pip install -c constraints.txt '.[ci]' on Linux x86_64")
def test_every_kernel_compiles_for_sm_90_without_spilling(tmp_path):
    figures = tmp_path / "kernels.json"
    ran = subprocess.run([sys.executable, ROOT / "benchmarks" / "triton_aot.py", "--json", figures],
                         capture_output=True, text=True, env={**os.environ, "TRITON_CACHE_DIR": str(tmp_path)})
    assert ran.returncode == 0, ran.stderr
    print(ran.stdout)
    rows = json.loads(figures.read_text())
    source = ast.parse((Path(kernels.__file__).parent / "triton_kernels.py").read_text(encoding="utf-8"))
    jitted = {node.name for node in source.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    assert {row["kernel"].split(",")[0] for row in rows} == jitted - {"_sums"}  # a part of two others
    for row in rows:
        assert row["spilled"] == 0, row
        assert 0 < row["registers"] <= 128, row
    update = next(row for row in rows if row["kernel"].startswith("_update"))
    assert update["accesses"].keys() == {"LDG 128", "LDG 32", "STG 128"}
    assert update["accesses"]["LDG 32"] == 1, "the learning rate"
    # 9 values of x and 5 of dy for each of a thread's four elements.
    gradient = next(row for row in rows if row["kernel"] == "_norm_backward, 96 maps, n 5, fp32")
    assert sum(int(name.split()[1]) * count for name, count in gradient["accesses"].items()
               if name.startswith("LDG")) == 14 * 4 * 32
