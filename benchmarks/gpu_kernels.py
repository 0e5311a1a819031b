"""Phase `kernels` of gpu.py: the update, its copies in bf16, random resized crops, each against what it replaces."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from unittest.mock import patch

import numpy as np
import torch
from gpu_bench import Bench

from alexnet._runtime import kernels as fused
from alexnet.data.augmentation import resized_crop_boxes, uniform
from alexnet.data.preprocessing import Preprocess
from alexnet.models.alexnet import AlexNet
from alexnet.training.step_graph import recorder_on


def kernels(bench: Bench) -> None:
    """The update of all weights by one launch and by one for each tensor; views by boxes; the step with copies."""
    _updates(bench)
    for batch in bench.batches:
        _resized_crops(bench, batch)
    layout, batch = bench.network("paper"), bench.batches[0]
    views, labels = bench.views(layout, batch)
    for copies in (True, False):
        step = bench.step(layout, graph=True, copies=copies)
        rate = bench.rate(lambda: [step(views, labels), float(batch)][1])  # type: ignore[list-item,return-value]  # noqa: B023
        bench.row(f"paper, graphed, {'copies in bf16' if copies else 'casts by autocast'}", batch=batch,
                  images_per_second=rate)


def _updates(bench: Bench) -> None:
    """Microseconds of an update, called and in a CUDA graph, with what gives the forward pass its weights in bf16."""
    network = AlexNet(bench.network("paper")).to(bench.device)
    w = [parameter.detach() for parameter in network.parameters()]
    v, g = [torch.zeros_like(weight) for weight in w], [torch.randn_like(weight) for weight in w]
    copies = [weight.bfloat16() for weight in w]
    rates, decays = [torch.tensor(1e-6, device=bench.device)] * len(w), [0.0005] * len(w)
    rule = {"momentum": 0.9, "lr_in_velocity": True, "nesterov": False}

    def one(copies: list[torch.Tensor]) -> None:
        fused.sgd_update(w, v, g, rates, decays, copies, **rule)

    def for_each_tensor() -> None:
        for tensors in zip(w, v, g, rates, decays, strict=True):
            fused.sgd_update(*([given] for given in tensors), **rule)  # type: ignore[arg-type]

    numbers = sum(weight.numel() for weight in w)
    for name, bytes_each, work in (
        ("a launch for each tensor", 20, for_each_tensor),
        ("one launch", 20, lambda: one([])),
        ("a launch for each tensor, and autocast's casts", 26, lambda: [for_each_tensor(), *(
            weight.to(torch.bfloat16) for weight in w)]),
        ("one launch that writes the copies in bf16", 22, lambda: one(copies)),
    ):
        for graphed in (False, True):
            seconds = 1 / bench.rate(_once(bench, work, graphed))
            bench.row(f"update by {name}{', graphed' * graphed}", microseconds=1e6 * seconds,
                      bytes_per_second=bytes_each * numbers / seconds)


def _once(bench: Bench, work: Callable[[], object], graphed: bool) -> Callable[[], float]:
    """The work as `Bench.rate` takes it; in a CUDA graph if asked for."""
    def outputs() -> tuple[()]:
        work()
        return ()

    run: Callable[[], object] = outputs
    if graphed:
        recorder = recorder_on(bench.device)
        recorder.warm_up(outputs)  # type: ignore[arg-type]
        run = recorder.record(outputs)  # type: ignore[arg-type]
    return lambda: [run(), 1.0][1]  # type: ignore[return-value]


def _resized_crops(bench: Bench, batch: int) -> None:
    """Views of `torchvision`'s recipe a second, without drawing them."""
    layout, numbers = bench.network("torchvision"), count()
    side = layout.input.side
    preprocess = Preprocess.from_data(layout.input, np.full((side, side, 3), 120, np.float32)).to(bench.device)
    pixels = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8, device=bench.device)
    mirrored = torch.rand(batch, device=bench.device) < 0.5
    boxes = [torch.from_numpy(resized_crop_boxes(uniform(0, epoch, np.arange(batch), 22), side, (0.08, 1.0)))
             for epoch in range(8)]

    def views() -> float:
        preprocess.random_resized_crop(pixels, boxes[next(numbers) % len(boxes)], layout.input.crop, mirrored,
                                       dtype=torch.bfloat16)
        return float(batch)

    bench.row("random resized crops", batch=batch, images_per_second=bench.rate(views))
    with patch.object(fused, "supports_crop", lambda pixels, dtype: False):
        bench.row("random resized crops in torch", batch=batch, images_per_second=bench.rate(views))
