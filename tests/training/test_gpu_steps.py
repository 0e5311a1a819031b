"""A training step on a GPU waits for nothing: torch raises at whatever would. Without a GPU: test_fake_gpu.py."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest
import torch

from alexnet.architecture.presets import recipe
from alexnet.training.build import build
from alexnet.training.spec import RunSpec


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["paper", "modern"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_waits_for_nothing_on_the_gpu(packed, tiny, tmp_path, name, precision):
    trainer = build(RunSpec(packed, tiny, replace(recipe(name), batch_size=20), tmp_path, device="cuda",
                            precision=precision))
    trainer.network.train()
    with closing(trainer.epoch_batches()) as source:
        for number, batch in enumerate(source):
            if number == 2:  # the first ones compile the kernels, fill the allocators and measure the units
                torch.cuda.set_sync_debug_mode("error")
            try:
                step = trainer._queue_step(batch, 0.0, 0.0, None)
            finally:
                torch.cuda.set_sync_debug_mode("default")
    assert all(map(torch.isfinite, torch.tensor(step.results.read())))
