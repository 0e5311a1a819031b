"""Validation and saves on fake_gpu.py's GPU: how large the batches are, and after how many of them counts are read."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from alexnet._runtime.pixels import TensorPixels
from alexnet._runtime.readback import Readback
from alexnet.data.loader import Batch
from alexnet.data.packed import PackedDataset
from alexnet.models import saver
from alexnet.models.checkpoint import Checkpoint
from alexnet.training.build import build
from alexnet.training.trainer import Trainer
from fake_gpu import CUDA, SIDE, Waits, spec_of

BATCHES, IMAGES = 9, 4


def found(packed: PackedDataset, folder: Path) -> dict[str, Any]:
    evaluation = importlib.import_module("alexnet.inference.evaluate")
    results: dict[str, Any] = {"asked": [], "logits": [], "read_after": [], "saved": []}
    indices = np.arange(IMAGES)

    def fake_batches(split: object, batch_size: int, **options: object) -> Iterator[Batch]:
        results["asked"].append(batch_size)
        for _ in range(BATCHES):
            yield Batch(TensorPixels(torch.empty((IMAGES, SIDE, SIDE, 3), dtype=torch.uint8, device=CUDA)),
                        torch.empty(IMAGES, dtype=torch.int64, device=CUDA), indices, indices, indices)

    def read(readback: Readback) -> list[float]:
        results["read_after"].append(len(results["logits"]))
        return [0.0] * readback._values.numel()

    evaluation.batches = fake_batches
    evaluation.rank_batches = lambda images, batch_size, world: np.array([0, BATCHES])
    evaluation.batch_bounds = lambda images, batch_size: np.arange(BATCHES + 1) * IMAGES
    Readback.read = read  # type: ignore[method-assign]
    spec = spec_of(packed, folder, "paper", "paper")
    with FakeTensorMode(allow_non_fake_inputs=True):
        for batch_size, micro_batch in ((6, None), (256, None), (1024, None), (1024, 3)):
            trainer = build(replace(spec, device=str(CUDA), micro_batch=micro_batch,
                                    recipe=replace(spec.recipe, batch_size=batch_size)))
            if batch_size == 6:
                trainer.network.register_forward_hook(
                    lambda module, inputs, output: results["logits"].append(str(output.dtype)))
            with Waits():
                trainer.validate()
        results["tf32"] = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
        results["saved"] = queued_save(trainer, folder)
    results["read_after"] = results["read_after"][:BATCHES]
    return results


def queued_save(trainer: Trainer, folder: Path) -> list[str]:
    """The devices of the tensors that the saver's thread gets, from a save during which nothing may wait."""
    devices: set[str] = set()
    saver.save = lambda checkpoint, folder: devices.update(  # type: ignore[assignment]
        str(tensor.device) for tensor in (*checkpoint.weights.values(), *checkpoint.velocity.values()))
    checkpoint = Checkpoint(trainer.spec.arch, ("a",), dict(trainer.network.state_dict()),
                            trainer.preprocess.mean_HWC, velocity=trainer.optimizer.velocity)
    Readback.tensor = lambda readback: readback._values  # type: ignore[method-assign]
    saves = saver.Saver()
    with Waits():
        saves.save(checkpoint, folder)
    saves.wait()
    return sorted(devices)
