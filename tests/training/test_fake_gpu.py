"""A training step on a GPU waits for nothing, by tensors that have shapes and no values (fake_gpu.py says how)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from fake_gpu_library import TESTS, compiled


def test_no_step_waits_for_the_gpu_or_mixes_devices(tmp_path):
    """In fp32 and bf16, in micro-batches, with every augmentation, with each kind of normalization and pooling, and as
    the first of two processes, without what torch's DistributedDataParallel does. A kernel makes the views, those of
    `modern` by boxes, and one updates all weights, with the copies that the layers read in bf16."""
    ran = subprocess.run([sys.executable, TESTS / "fake_gpu.py", compiled(tmp_path), tmp_path], capture_output=True,
                         text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr[-4000:]
    raised, *steps = map(json.loads, ran.stdout.splitlines())
    assert all(raised.values()), raised  # the test can fail
    half = {"fp32": "torch.float32", "bf16": "torch.bfloat16"}
    assert steps == [
        {"network": network, "precision": precision, "parallel": parallel, "processes": size, "parts": parts,
         "logits": [half[precision]] * parts, "device": "cuda:0", "results": [2 if size == 1 else 5],
         "crops": [0, 1] if network == "paper-bn" else [parts, 0], "updates": 1, "casts": 0}
        for network, precision, parallel, size, parts in (
            ("paper", "fp32", "data", 1, 1), ("paper", "bf16", "data", 1, 1), ("paper", "bf16", "data", 1, 2),
            ("paper", "bf16", "data", 1, 1), ("paper-bn", "bf16", "data", 1, 1), ("code2012", "bf16", "data", 1, 1),
            ("paper", "bf16", "towers", 2, 1), ("paper", "bf16", "hybrid", 2, 1), ("paper", "bf16", "data", 2, 1))]
