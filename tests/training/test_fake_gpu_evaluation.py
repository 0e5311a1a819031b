"""Validation on a GPU: counts stay there, and are read while later batches are computed; nothing waits at a save."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from alexnet.architecture.recipe_presets import recipe
from alexnet.inference.metrics import Errors, error_counts
from alexnet.training.build import build
from alexnet.training.spec import RunSpec
from fake_gpu_library import TESTS, compiled


def test_validation_on_a_gpu_waits_for_no_batch(tmp_path):
    """A run in bf16: validated in fp32; of 9 batches, at most 4 are queued, and all are read in order."""
    ran = subprocess.run([sys.executable, TESTS / "fake_gpu.py", compiled(tmp_path), tmp_path, "evaluation"],
                         capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr[-4000:]
    assert json.loads(ran.stdout) == {
        # Of runs in batches of 6, of 256, of 1024, and of 1024 in micro-batches, for which memory is short.
        "asked": [128, 256, 512, 128],
        "logits": ["torch.float32"] * 9,
        "tf32": False,
        "read_after": [5, 6, 7, 8, 9, 9, 9, 9, 9],
        "saved": ["cpu"]}


def test_counts_of_a_batch_by_hand():
    """Three images of seven classes: right; true class sixth; true class tied for first, which counts as wrong."""
    probabilities = torch.tensor([[0.5, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05], [0.3, 0.2, 0.15, 0.13, 0.12, 0.08, 0.02],
                                  [0.4, 0.4, 0.2, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([0, 5, 1])
    loss_sum, top1, top5 = error_counts(probabilities, labels).tolist()
    assert (top1, top5) == (2, 1)
    assert abs(loss_sum - 4.135166556742356) < 1e-12  # ln 2 + ln 12.5 + ln 2.5, by a calculator
    assert Errors.from_counts(3, [loss_sum, top1, top5]) == Errors(3, loss_sum, 2, 1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_validation_on_a_cpu_stays_in_full_precision(packed, tiny, tmp_path, precision):
    trainer, types = build(RunSpec(packed, tiny, recipe("paper"), tmp_path / "run", precision=precision)), set()
    for layer in trainer.network.modules():
        layer.register_forward_hook(lambda module, inputs, output: types.add(output.dtype))
    trainer.validate()
    assert types == {torch.float32}
