"""Training speed on one GPU, in a few minutes: images per second, share of the peak, time by kind of kernel.

    python benchmarks/gpu.py [--seconds 4] [--images 4096] [--json FILE]

Measures `paper`, `torchvision` and `cifar`: the training step on views that are on the device already, eager and
compiled, at several batch sizes; training from raw and from jpeg shards; the loader alone. The peak is a bf16 matrix
product measured in the same run. The images are random. `--device cpu --quick` is a test of this script that takes a
minute; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from bench import prepare

from alexnet._runtime.devices import choose_precision
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.presets import arch, default_recipe
from alexnet.architecture.spec import Arch
from alexnet.data.augmentation import lighting_basis
from alexnet.data.loader import batches
from alexnet.data.packed import PackedDataset, open_packed
from alexnet.data.preprocessing import Preprocess
from alexnet.models.alexnet import AlexNet
from alexnet.training.optimizer import SGD
from alexnet.training.precision import MixedPrecision
from alexnet.training.step import train_step

KERNEL_KINDS = (
    ("matrix products and convolutions", r"gemm|conv|cutlass|xmma|cudnn|mm_|wgrad|dgrad|implicit|nvjet"),
    ("response normalization", r"_norm_(forward|backward)|normali"),
    ("views", r"_views"), ("update", r"_update|foreach|multi_tensor"), ("pooling", r"pool"),
    ("copies between host and device", r"[mM]emcpy"),
    ("dropout and elementwise", r"elementwise|dropout|relu|clamp|copy"),
)


class Bench:
    """A device, its peak, and how long to measure each thing."""

    def __init__(self, device: torch.device, seconds: float, quick: bool) -> None:
        self.device, self.seconds = device, seconds
        self.warm_up, self.calls = (1, 1) if quick else (3, 5)
        self.mixed_precision = MixedPrecision(choose_precision("auto", device), device)
        self.peak = self.matrix_product()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def rate(self, work: Callable[[], int]) -> float:
        """Units per second of `work`, which returns how many units it did; the first calls warm up."""
        for _ in range(self.warm_up):
            work()
        self.wait()
        began, done = time.perf_counter(), 0
        while not done or time.perf_counter() - began < self.seconds:
            for _ in range(self.calls):  # several, or the GPU's queue would run empty while the clock is read
                done += work()
        self.wait()
        return done / (time.perf_counter() - began)

    def matrix_product(self) -> float:
        """FLOP/s of a square bf16 matrix product."""
        side = 8192 if self.device.type == "cuda" else 1024
        a, b = (torch.randn(side, side, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        return self.rate(lambda: [torch.mm(a, b), 2 * side**3][1])

    def step(self, layout: Arch, compiled: bool = False) -> Callable[[torch.Tensor, torch.Tensor], Any]:
        """A training step of a fresh network, on views and labels."""
        network = AlexNet(layout).to(self.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        optimizer = SGD(network, default_recipe(layout))
        module = torch.compile(network) if compiled else network
        return lambda views, labels: train_step(module, optimizer, views, labels, 1e-3, self.mixed_precision)

    def views(self, layout: Arch, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        crop = layout.input.crop
        views = torch.randn(batch, 3, crop, crop, device=self.device).to(
            self.mixed_precision.input_dtype, memory_format=torch.channels_last)
        return views, torch.randint(0, layout.classes, (batch,), device=self.device)


def flops(layout: Arch) -> float:
    """FLOP of a training step for one image: forward, and two products backward; conv1 needs no input gradient."""
    layers = explain(layout).layers
    multiply_adds = [layer.multiply_adds for layer in layers if layer.multiply_adds]
    return 6.0 * sum(multiply_adds) - 2.0 * multiply_adds[0]


def training_batches(
    packed: PackedDataset, layout: Arch, batch: int, device: torch.device, workers: int,
) -> Iterator[tuple[Any, Any]]:
    """(views, labels) from shards, epoch after epoch, as the trainer makes them."""
    split, recipe = packed.split("train"), default_recipe(layout)
    preprocess = Preprocess.from_data(layout.input, packed.mean_HWC).to(device)
    lighting = lighting_basis(packed.rgb_covariance, recipe.lighting_scale).to(device)
    epoch = 0
    while True:
        for loaded in batches(split, batch, shuffle=(0, epoch), workers=workers, device=device):
            yield preprocess.training_views(loaded.pixels, loaded.indices, recipe, 0, epoch, lighting,
                                            torch.bfloat16), loaded.labels_N
        epoch += 1


def time_by_kernel_kind(bench: Bench, work: Callable[[], object]) -> dict[str, float]:
    """Fractions of the device's time by kind of kernel."""
    cuda = bench.device.type == "cuda"
    activity = torch.profiler.ProfilerActivity.CUDA if cuda else torch.profiler.ProfilerActivity.CPU
    work()
    bench.wait()
    with torch.profiler.profile(activities=[activity]) as profile:
        for _ in range(2 * bench.calls):
            work()
        bench.wait()
    spent: Counter[str] = Counter()
    for event in profile.key_averages():
        name = next((name for name, pattern in KERNEL_KINDS if re.search(pattern, event.key)), "other")
        spent[name] += event.self_device_time_total if cuda else event.self_cpu_time_total
    return {name: round(microseconds / max(1, sum(spent.values())), 4) for name, microseconds in spent.most_common()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long to measure each thing")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no CUDA device; --device cpu --quick tests this script without one")
    if options.quick:
        options.seconds, options.images = 0.0, 32
    sizes = (4,) if options.quick else (128, 512, 2048)
    bench = Bench(device, options.seconds, options.quick)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    results: dict[str, Any] = {"device": name, "torch": torch.__version__, "gemm_tflops": bench.peak / 1e12, "rows": []}
    print(f"{name}, torch {torch.__version__}: bf16 matrix product {bench.peak / 1e12:,.1f} TFLOP/s", flush=True)

    def add_row(network: str, source: str, batch: int, rate: float, layout: Arch | None = None) -> None:
        share = rate * flops(layout) / bench.peak if layout else None
        results["rows"].append({"network": network, "source": source, "batch": batch, "rate": rate, "share": share})
        of_peak = f", {share:.1%} of the matrix product" if share is not None else ""
        print(f"{network:12} {source:22} batch {batch:5}: {rate:12,.0f} images/s{of_peak}", flush=True)

    for network in ("paper", "torchvision", "cifar"):
        layout = arch(network)
        for batch in sizes:
            for compiled in (False, True) if device.type == "cuda" else (False,):
                step, (views, labels) = bench.step(layout, compiled), bench.views(layout, batch)
                rate = bench.rate(lambda: [step(views, labels), len(labels)][1])  # noqa: B023
                add_row(network, "on the device" + ", compiled" * compiled, batch, rate, layout)
        kinds = time_by_kernel_kind(bench, lambda: step(views, labels))  # noqa: B023
        results["rows"][-1]["kernel_kinds"] = kinds
        print("             " + ", ".join(f"{name} {share:.0%}" for name, share in kinds.items()), flush=True)

    folder = Path(tempfile.mkdtemp(prefix="alexnet-gpu-"))
    try:
        print(f"packing {options.images:,} random images ...", file=sys.stderr, flush=True)
        prepare(None, folder, options.images)
        for codec in ("raw", "jpeg"):
            packed = open_packed(folder / codec)
            for network in ("paper", "torchvision"):
                layout = arch(network)
                batch = sizes[len(sizes) // 2]
                source = training_batches(packed, layout, batch, device, options.workers)
                add_row(network, f"loader alone, {codec}", batch, bench.rate(lambda: len(next(source)[1])))  # noqa: B023
                step = bench.step(layout)
                rate = bench.rate(lambda: [step(*(pair := next(source))), len(pair[1])][1])  # noqa: B023
                add_row(network, f"from {codec} shards", batch, rate, layout)
    finally:
        shutil.rmtree(folder)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
