"""`build`: a RunSpec -> a Trainer with its network, optimizer and data, restored where a run is resumed."""

from __future__ import annotations

from collections.abc import Callable

from alexnet.training.parallel.process_group import ALONE, ProcessGroup
from alexnet.training.spec import RunSpec
from alexnet.training.trainer import Event, Trainer


def build(spec: RunSpec, processes: ProcessGroup | None = None, on_event: Callable[[Event], None] = lambda event: None) -> Trainer:
    """Make what a run needs."""
    return Trainer(
        spec.data, spec.arch, spec.recipe, spec.out, seed=spec.seed, device=spec.device, precision=spec.precision,
        resume=spec.resume, workers=spec.workers, save_minutes=spec.save_minutes, init=spec.init, on_event=on_event,
        about=dict(spec.about), world=processes or ALONE, parallel=spec.parallel, micro_batch=spec.micro_batch)
