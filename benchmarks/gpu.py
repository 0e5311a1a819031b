"""Training speed on one GPU, in at most ten minutes: ceilings, correctness, steps, layers, loader, trainer, and others.

    python benchmarks/gpu.py --out FOLDER [--only steps,layers] [--images 16000] [--workers 12]

Each phase runs in a process of its own, with a deadline, so that one that hangs or fails costs its own rows only. Every
row is appended to FOLDER/rows.jsonl as soon as it is measured; FOLDER/log.txt has everything that was printed. Nothing
is downloaded, and the images are random. `--dry` runs every phase on a CPU, in tiny shapes: a test of this script,
whose figures mean nothing. docs/gpu-queue.md says how to install the package without a network.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import torch
from conv1_blocks import BlockConv2d
from gpu_bench import Bench, step_flops
from gpu_correctness import correctness
from gpu_kernels import kernels
from gpu_norm_pool import fused

from alexnet._runtime.devices import device_name
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.recipe_presets import default_recipe
from alexnet.architecture.spec import Arch
from alexnet.data.augmentation import lighting_basis
from alexnet.data.loader import batches
from alexnet.data.preprocessing import Preprocess
from alexnet.models.alexnet import AlexNet

DEADLINES = {"ceilings": 40, "correctness": 90, "steps": 105, "layers": 50, "kernels": 60, "fused": 30, "loader": 85,
             "trainer": 80, "compiled": 60}
"""The phases in their order, and the seconds after which each is ended. Together they fit into ten minutes."""

TOP = 25
"""Kernels that a profile lists."""


# --- Ceilings ---------------------------------------------------------------------------------------------------------


def ceilings(bench: Bench) -> None:
    """What the device does at most: FLOP/s of a square matrix product, bytes/s of a copy in its memory and to it."""
    side = 128 if bench.dry else 8192
    for dtype in (torch.bfloat16, torch.float32):
        a, b = (torch.randn(side, side, device=bench.device, dtype=dtype) for _ in range(2))
        rate = bench.rate(lambda: [torch.mm(a, b), 2.0 * side**3][1])  # noqa: B023
        bench.row(f"matrix product {side}, {str(dtype).removeprefix('torch.')}", flops_per_second=rate)
    size = 2**16 if bench.dry else 2**32
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    bench.row("copy in the device's memory, bytes read and written",
              bytes_per_second=bench.rate(lambda: [target.copy_(source), 2.0 * size][1]))
    batch = 2**16 if bench.dry else 512 * 256 * 256 * 3
    host = torch.zeros(batch, dtype=torch.uint8, pin_memory=not bench.dry)
    bench.row("copy from pinned memory", bytes_per_second=bench.rate(
        lambda: [target[:batch].copy_(host, non_blocking=True), float(batch)][1]))


# --- Steps, layers ----------------------------------------------------------------------------------------------------


def steps(bench: Bench) -> None:
    """The training step on views that are on the device, eager and replayed as a CUDA graph, and its kernels."""
    peak = bench.peak()
    for name in ("paper", "torchvision"):
        layout = bench.network(name)
        for batch in bench.batches:
            views, labels = bench.views(layout, batch)
            step = bench.step(layout)
            _step_row(bench, f"{name}, eager", batch, lambda: step(views, labels), layout, peak)  # noqa: B023
            bench.row(f"{name}, eager, kernels", batch=batch,
                      kernels=kernels_of(bench, lambda: step(views, labels)))  # noqa: B023
            graphed = bench.step(layout, graph=True)
            _step_row(bench, f"{name}, graphed", batch, lambda: graphed(views, labels), layout, peak)  # noqa: B023


def _step_row(
    bench: Bench, name: str, batch: int, work: Callable[[], object], layout: Arch, peak: float,
) -> None:
    rate = bench.rate(lambda: [work(), float(batch)][1])  # type: ignore[list-item,return-value]
    bench.row(name, batch=batch, images_per_second=rate,
              share_of_peak=rate * step_flops(layout) / peak if peak else None,
              peak_bytes=0 if bench.dry else torch.cuda.max_memory_allocated(bench.device))


def kernels_of(bench: Bench, work: Callable[[], object]) -> list[dict[str, Any]]:
    """The kernels that take longest: name, calls in a step, microseconds in a step, share of all."""
    cuda, calls = bench.device.type == "cuda", 1 if bench.dry else 10
    activity = torch.profiler.ProfilerActivity.CUDA if cuda else torch.profiler.ProfilerActivity.CPU
    work()
    bench.wait()
    with torch.profiler.profile(activities=[activity]) as profile:
        for _ in range(calls):
            work()
        bench.wait()
    events = [(event.key, event.count, event.self_device_time_total if cuda else event.self_cpu_time_total)
              for event in profile.key_averages()]
    total = sum(spent for _, _, spent in events) or 1.0
    longest = sorted(events, key=lambda event: -event[2])[:TOP]
    return [{"kernel": key[:120], "calls": number / calls, "microseconds": spent / calls, "share": spent / total}
            for key, number, spent in longest]


def layers(bench: Bench) -> None:
    """Each layer alone, forward and backward, in bf16 as in training."""
    layout, batch = bench.network("paper"), bench.batches[-1]
    network = AlexNet(layout).to(bench.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    multiply_adds = {layer.name: layer.multiply_adds or 0 for layer in explain(layout).layers}
    inputs, _ = bench.views(layout, batch)
    first = network.named_layer("conv1")
    assert isinstance(first, torch.nn.Conv2d)
    if first.stride == (4, 4):
        bench.row("conv1 by space-to-depth", batch=batch, microseconds=1e6 / _layer_rate(
            bench, BlockConv2d(first), inputs))
    for name in network.layer_names():
        layer = network.named_layer(name)
        if isinstance(layer, torch.nn.Linear) and inputs.ndim == 4:
            inputs = inputs.flatten(1)
        rate = _layer_rate(bench, layer, inputs.detach().requires_grad_(name != "conv1"))
        flops = (4.0 if name == "conv1" else 6.0) * multiply_adds.get(name, 0) * batch
        bench.row(name, batch=batch, microseconds=1e6 / rate, flops_per_second=None if not flops else flops * rate)
        with torch.no_grad(), bench.precision.autocast():
            inputs = layer(inputs).detach()


def _layer_rate(bench: Bench, layer: torch.nn.Module, given: torch.Tensor) -> float:
    """Forward and backward passes a second."""
    def work() -> float:
        with bench.precision.autocast():
            outputs = layer(given)
        if outputs.requires_grad:
            outputs.backward(outputs.detach())
        layer.zero_grad()
        given.grad = None
        return 1.0

    return bench.rate(work)


# --- From shards ------------------------------------------------------------------------------------------------------


def loader(bench: Bench) -> None:
    """The loader alone, and with the views, from shards of random images."""
    layout = bench.network("paper")
    began = time.perf_counter()
    packed = bench.packed(layout)
    bench.row("packing", images_per_second=len(packed.split("train")) / (time.perf_counter() - began))
    recipe = default_recipe(layout)
    preprocess = Preprocess.from_data(layout.input, packed.mean_HWC).to(bench.device)
    lighting = lighting_basis(packed.rgb_covariance, recipe.lighting_scale).to(bench.device)
    for batch in bench.batches:
        for with_views in (False, True):
            def endless(batch: int = batch, with_views: bool = with_views) -> Iterator[int]:
                for epoch in count():
                    for loaded in batches(packed.split("train"), batch, shuffle=(0, epoch), workers=bench.workers,
                                          ahead=max(4, bench.workers), device=bench.device):
                        if with_views:
                            preprocess.training_views(loaded.pixels, loaded.indices, recipe, 0, epoch, lighting,
                                                      torch.bfloat16)
                        yield len(loaded.indices)

            with closing(endless()) as source:  # type: ignore[type-var]
                rate = bench.rate(lambda: float(next(source)))
            bench.row("loader and views" if with_views else "loader", batch=batch, images_per_second=rate)


def trainer(bench: Bench) -> None:
    """Two epochs of `Trainer.fit` by the wall clock, with its validation, log and checkpoints."""
    for name in ("paper", "torchvision"):
        for batch in bench.batches:
            _trainer_row(bench, name, batch)
    _trainer_row(bench, "paper", bench.batches[-1], graph=True)


def _trainer_row(bench: Bench, name: str, batch: int, *, graph: bool = False) -> None:
    moments: dict[tuple[str, int], list[float]] = {}

    def note(event: Any) -> None:
        moments.setdefault((event["event"], event.get("epoch", 0)), []).append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        run = bench.trainer(bench.network(name), batch, 2, folder, note, graph=graph)
        began = time.perf_counter()
        run.fit()
        ended = time.perf_counter()
    images, second = len(run.training), moments["step", 2]
    steps_seconds = (second[-1] - second[0]) / max(1, len(second) - 1) * len(second)
    bench.row(f"{name}, Trainer.fit{' with --cuda-graph' * graph}", batch=batch,
              images_per_second=images / steps_seconds if steps_seconds else None, two_epochs_seconds=ended - began,
              second_epoch_with_validation_and_save_seconds=ended - moments["epoch", 1][0])


def compiled(bench: Bench) -> None:
    """The step with `torch.compile`: last, since compiling may take longer than the deadline."""
    peak = bench.peak()
    for name in ("paper", "torchvision"):
        layout = bench.network(name)
        for batch in reversed(bench.batches):
            views, labels = bench.views(layout, batch)
            began = time.perf_counter()
            step = bench.compiled_step(layout, "eager" if bench.dry else "inductor")
            step(views, labels)
            bench.wait()
            bench.row(f"{name}, compiling", batch=batch, seconds=time.perf_counter() - began)
            _step_row(bench, f"{name}, compiled", batch, lambda: step(views, labels), layout, peak)  # noqa: B023


# --- The phases in turn -----------------------------------------------------------------------------------------------

PHASES: dict[str, Callable[[Bench], None]] = {
    phase.__name__: phase for phase in (
        ceilings, correctness, steps, layers, kernels, fused, loader, trainer, compiled)}


def run_phase(name: str, options: argparse.Namespace, deadline: float) -> dict[str, Any]:
    """Run a phase in a process, and end it at its deadline. Returns its row of how it ended."""
    began = time.perf_counter()
    command = [sys.executable, __file__, *sys.argv[1:], "--out", options.out, "--shards", options.shards,
               "--phase", name]
    with (options.out / "log.txt").open("a+") as log:
        start = log.tell()
        # A session of its own: at the deadline the compiler's processes end too.
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            code = process.wait(deadline)
            ended = "done" if code == 0 else f"failed with exit code {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            ended = f"ended at its deadline of {deadline:g} s"
        log.seek(start)
        sys.stdout.write(log.read())
    return {"phase": name, "name": "phase", "ended": ended, "seconds": round(time.perf_counter() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for rows.jsonl and log.txt")
    parser.add_argument("--only", default=",".join(PHASES), help="phases, separated by commas")
    parser.add_argument("--images", type=int, default=16_000)
    parser.add_argument("--workers", type=int, default=12, help="the loader's threads")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each thing is measured")
    parser.add_argument("--deadline", type=float, help="seconds for each phase, instead of its own")
    parser.add_argument("--dry", action="store_true", help="on a CPU, in tiny shapes")
    parser.add_argument("--shards", type=Path, help="folder for the packed images; default: a temporary one")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)  # this process runs it
    options = parser.parse_args()
    if not options.dry and not torch.cuda.is_available():
        parser.exit(2, "gpu.py: torch finds no CUDA device; --dry tests this script without one\n")
    if unknown := set(options.only.split(",")) - set(PHASES):
        parser.exit(2, f"gpu.py: --only {','.join(unknown)} is no phase; the phases are {', '.join(PHASES)}\n")
    if options.dry:
        options.images, options.workers, options.seconds = 32, 1, 0.0
        torch.set_num_threads(1)
    if options.phase:
        PHASES[options.phase](Bench(options.dry, options.out, options.shards, options.images, options.workers,
                                    options.seconds, options.phase))
        return
    run_phases(options)


def run_phases(options: argparse.Namespace) -> None:
    """Run the phases in turn, and add a row of how each has ended."""
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("rows.jsonl", "log.txt"):
        (options.out / name).unlink(missing_ok=True)
    device = torch.device("cpu" if options.dry else "cuda:0")
    about = {"phase": "machine", "name": device_name(device), "torch": torch.__version__, "cuda": torch.version.cuda,
             "python": platform.python_version(), "dry": options.dry, "images": options.images}
    with tempfile.TemporaryDirectory(prefix="alexnet-gpu-") as temporary:
        options.shards = options.shards or Path(temporary)
        with (options.out / "rows.jsonl").open("a") as file:
            file.write(json.dumps(about) + "\n")
        for name in options.only.split(","):
            ended = run_phase(name, options, options.deadline or DEADLINES[name])
            with (options.out / "rows.jsonl").open("a") as file:
                file.write(json.dumps(ended) + "\n")
            print(f"{name}: {ended['ended']}, {ended['seconds']:g} s", flush=True)


if __name__ == "__main__":
    main()
