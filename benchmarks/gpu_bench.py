"""What the phases of gpu.py share: device, shapes, rows, random images in shards, and how a rate is measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import default_recipe
from alexnet.architecture.spec import Arch
from alexnet.data.dataset import Dataset
from alexnet.data.packed import PackedDataset, is_packed, open_packed
from alexnet.data.packing import pack
from alexnet.models.alexnet import AlexNet
from alexnet.training.bf16_weights import bf16_weights
from alexnet.training.build import build
from alexnet.training.optimizer import SGD
from alexnet.training.parallel.process_group import single_process
from alexnet.training.parallel.strategies import parallelize
from alexnet.training.precision import MixedPrecision
from alexnet.training.spec import RunSpec
from alexnet.training.step import train_step
from alexnet.training.step_graph import StepGraph, recorder_on
from alexnet.training.trainer import Trainer


@dataclass
class Bench:
    """What all phases share: the device, the folders, how large the shapes are and how long each thing is measured."""

    dry: bool
    out: Path
    shards: Path
    """A folder for the packed images, which the first phase that needs them makes."""
    images: int
    workers: int
    seconds: float
    phase: str = ""

    def __post_init__(self) -> None:
        self.device = torch.device("cpu" if self.dry else "cuda:0")
        self.batches = (4,) if self.dry else (128, 512)
        self.precision = MixedPrecision("bf16", self.device)

    def row(self, name: str, **values: Any) -> None:
        """Append a row to the file, and print it."""
        row = {"phase": self.phase, "name": name, **values}
        with (self.out / "rows.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        shown = {key: f"{value:,.0f}" if isinstance(value, float) and value >= 1_000
                 else f"{value:.4g}" if isinstance(value, float) else value
                 for key, value in row.items() if not isinstance(value, list)}
        print("  ".join(map(str, shown.values())), flush=True)

    def network(self, name: str) -> Arch:
        """A preset, or a tiny network with the same layers."""
        tiny = ["input.side=72", "input.crop=67", "conv.width=16", "dense.width=16", "classes=8"] if self.dry else []
        return override(arch(name), tiny)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def rate(self, work: Callable[[], float]) -> float:
        """Units per second of `work`, which returns how many it did. Several calls are queued between two waits."""
        for _ in range(1 if self.dry else 5):
            work()
        self.wait()
        began, done = time.perf_counter(), 0.0
        while not done or time.perf_counter() - began < self.seconds:
            done += sum(work() for _ in range(1 if self.dry else 10))
            self.wait()
        return done / (time.perf_counter() - began)

    def step(self, layout: Arch, *, graph: bool = False, copies: bool = True) -> Callable[..., Any]:
        """The trainer's step on a fresh network, from views and labels on the device.

        graph: as a CUDA graph. copies: with weights in bf16 that the update writes, and not autocast's casts.
        """
        strategy, numbers = parallelize(AlexNet(layout), "data", single_process(self.device), self.device), count()
        strategy.module.train()
        optimizer = SGD(strategy.network, default_recipe(layout),
                        bf16_weights=bf16_weights(strategy.network, self.precision) if copies else None)
        recorded = StepGraph(strategy.module, optimizer, self.precision, strategy.batch, None, recorder_on(self.device))

        def take(views: torch.Tensor, labels: torch.Tensor) -> object:
            number = next(numbers)
            strategy.start_micro_batch(len(views), number)
            rate = 1e-3 / (1 + number)  # another one in each step, as with most schedules
            if graph:
                return recorded(views, labels, rate)
            return train_step(strategy.module, optimizer, views, labels, rate, self.precision)

        return take

    def compiled_step(self, layout: Arch, backend: str) -> Callable[..., Any]:
        """A step of a network that `torch.compile` has compiled, with torch's dropout."""
        network = AlexNet(layout).to(self.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        module, optimizer = torch.compile(network, backend=backend), SGD(network, default_recipe(layout))
        return lambda views, labels: train_step(module, optimizer, views, labels, 1e-3, self.precision)

    def views(self, layout: Arch, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        crop = layout.input.crop
        views = torch.randn(batch, 3, crop, crop, device=self.device).to(
            self.precision.input_dtype, memory_format=torch.channels_last)
        return views, torch.randint(0, layout.classes, (batch,), device=self.device)

    def packed(self, layout: Arch) -> PackedDataset:
        """Shards of random images, of the side that the network takes."""
        folder = self.shards / str(layout.input.side)
        if not is_packed(folder):
            names = tuple(f"class {number}" for number in range(8))
            held = max(8, self.images // 16)
            splits = {split: [Noise(f"{split}/{number}", number % 8, number, layout.input.side) for number in numbers]
                      for split, numbers in (("train", range(self.images)), ("val", range(10**6, 10**6 + held)))}
            pack(Dataset("noise", names, splits, "random numbers"), folder, side=layout.input.side)
        return open_packed(folder)


    def trainer(
        self, layout: Arch, batch: int, epochs: int, folder: str, on_event: Callable[[Any], None] = lambda event: None,
        *, graph: bool = False, train: Recipe | None = None,
    ) -> Trainer:
        """The real trainer, on the shards, with the recipe `train` or else the network's own."""
        recipe = replace(train or default_recipe(layout), epochs=epochs, batch_size=batch)
        return build(RunSpec(self.packed(layout), layout, recipe, Path(folder), device=str(self.device),
                             precision="bf16", workers=self.workers, cuda_graph=graph), on_event=on_event)

    def peak(self) -> float:
        """FLOP/s of the fastest matrix product that phase `ceilings` has measured; 0 without."""
        rows = [json.loads(line) for line in (self.out / "rows.jsonl").read_text().splitlines()]
        return max((row.get("flops_per_second", 0.0) for row in rows if row["phase"] == "ceilings"), default=0.0)


@dataclass(frozen=True)
class Noise:
    """A random image, by its number."""

    name: str
    label: int
    number: int
    side: int

    def content(self) -> NDArray[np.uint8]:
        return np.random.default_rng(self.number).integers(0, 256, (self.side, self.side, 3), np.uint8)

    def pixels(self) -> NDArray[np.uint8]:
        return self.content()

    def stamp(self) -> str:
        return str(self.number)


def step_flops(layout: Arch) -> float:
    """FLOP of a training step for one image: forward, and two products backward; conv1 needs no input gradient."""
    multiply_adds = [layer.multiply_adds for layer in explain(layout).layers if layer.multiply_adds]
    return 6.0 * sum(multiply_adds) - 2.0 * multiply_adds[0]
