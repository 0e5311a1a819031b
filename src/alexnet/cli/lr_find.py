"""The `lr-find` command: a short sweep of the learning rate, and the rate that it suggests."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import set_openmp_defaults
from alexnet._runtime.notes import say
from alexnet.cli.app import (
    IMAGE_FILE,
    TRAIN_AND_EVALUATE,
    ArchName,
    BatchSize,
    ConfigFile,
    Device,
    Freeze,
    Init,
    Json,
    Labels,
    LikeRun,
    Overwrite,
    PrecisionName,
    RecipeName,
    Settings,
    app,
    check_output,
)
from alexnet.cli.render_training import sweep_table
from alexnet.errors import require

if TYPE_CHECKING:  # these import torch
    from alexnet.training.request import TrainRequest
    from alexnet.training.trainer import Trainer


@app.command(name="lr-find", group=TRAIN_AND_EVALUATE, sort_key=2)
def lr_find(
    data: str, /, *, labels: Labels = None, arch: ArchName = None, recipe: RecipeName = None,
    batch_size: BatchSize = None, settings: Settings = None, config: ConfigFile = None, like: LikeRun = None,
    init: Init = None, freeze: Freeze = None, low: Annotated[float, Parameter(name="--from")] = 1e-5,
    high: Annotated[float, Parameter(name="--to")] = 10.0, steps: int = 100, seed: int = 0, device: Device = "auto",
    precision: PrecisionName = "auto", out: Path | None = None, overwrite: Overwrite = False, json_: Json = False,
) -> None:
    """Suggest a learning rate: train batch after batch at a rising rate, and find where the loss falls fastest.

    Writes no run; the options mean what they mean for `alexnet train`.

    Args:
        data: As for `alexnet train`.
        low: The first learning rate.
        high: The last learning rate. The sweep ends before it where the loss diverges.
        steps: Batches to train on.
        seed: Seed of the initial weights and the order of the images.
        out: Also write the curve as a figure: a .png or .svg file, or a name without ending for both.
    """
    if out is not None:
        check_output(out, IMAGE_FILE, overwrite=overwrite)
    set_allocator()
    set_openmp_defaults()

    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.training.lr_find import check_range, sweep
    from alexnet.training.request import TrainRequest

    check_range(low, high, steps)
    request = TrainRequest(
        data=data, labels=labels, arch=arch, recipe=recipe, settings=settings or (), short={"batch_size": batch_size},
        config=config, like=like, out=Path(), seed=seed, init=init, freeze=freeze, precision=precision,
        options={"workers": 2, "save_minutes": 10.0, "micro_batch": None, "parallel": "data", "log": (),
                 "about": {}})
    trainer = _unstarted_run(request, choose_device(device))
    require(trainer.spec.recipe.optimizer == "sgd", "the recipe head has no learning rate to find",
            "leave out --recipe head")

    with Bar("sweeping the learning rate", "steps") as bar:
        measured = sweep(trainer, low, high, steps, on_progress=bar)
    for finding in measured.findings:
        say(f"warning: {finding}")
    print(json.dumps(asdict(measured), indent=2) if json_ else sweep_table(measured, trainer.spec.recipe))
    if out is not None:
        from alexnet.reproduce.figures.rate_sweep import rate_sweep
        from alexnet.reproduce.figures.style import save_figure

        for path in save_figure(rate_sweep(measured), out):
            say(str(path))


def _unstarted_run(request: TrainRequest, device: str) -> Trainer:
    """The run that is asked for, built and not started. It has no folder."""
    from alexnet.api.opening import open_data
    from alexnet.models.formats.open_weights import open_weights
    from alexnet.training.build import build
    from alexnet.training.request import make_spec

    with TemporaryDirectory() as nowhere:  # `build` looks for a run to resume, and writes nothing
        weights = open_weights(request.init) if request.init else None
        spec = make_spec(replace(request, out=Path(nowhere)), None, weights, lambda side, check: open_data(
            request.data, side, labels=request.labels, check=check), device, resume=False)
        # The rate of biases rises with that of the weights, also where the recipe keeps it constant.
        return build(replace(spec, recipe=replace(spec.recipe, bias_lr_schedule=True)))
