"""Speed and bytes sent of 1, 2 and 4 processes in each kind of parallelism, beside the predictions of scaling_model.py.

    python benchmarks/scaling.py [--arch paper] [--batch 64] [--steps 5] [--rounds 3] [--json FILE] [--page FILE]

The layouts take turns in every round, so that all see the same state of the machine. The figures are medians over the
rounds, with the lowest and highest. The views are random and in memory. The model's rates are measured in the same run:
multiply-adds per second of one process, and bytes per second of an all-reduce over all processes of a layout.
`--only 2-hybrid` measures that layout, besides one process.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from scaling_model import Machine, sent, step

from alexnet._runtime.devices import describe_machine
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import arch
from alexnet.architecture.recipe_presets import recipe
from alexnet.models.alexnet import AlexNet
from alexnet.training.optimizer import SGD
from alexnet.training.parallel.plan import Parallel
from alexnet.training.parallel.process_group import init_distributed
from alexnet.training.parallel.strategies import parallelize
from alexnet.training.precision import MixedPrecision
from alexnet.training.step import train_step

ROOT = Path(__file__).parents[1]

LAYOUTS: tuple[tuple[int, Parallel], ...] = (
    (1, "data"), (2, "data"), (2, "towers"), (2, "hybrid"), (4, "data"), (4, "hybrid"))


def work(options: argparse.Namespace) -> None:
    """The steps of one process; rank 0 prints their times."""
    torch.set_num_threads(1)
    with init_distributed("cpu", timeout=300) as processes:
        network, device = AlexNet(arch(options.arch)), torch.device("cpu")
        strategy = parallelize(network, options.parallel, processes, device)
        optimizer, precision = SGD(network, recipe("paper")), MixedPrecision("fp32", device)
        rank, readers = strategy.batch_part
        own = len(range(rank, options.batch, readers))
        crop = network.arch.input.crop
        views = torch.randn(own, 3, crop, crop).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(network.arch.classes, (own,))
        network.train()
        seconds = []
        for number in range(options.steps + 1):
            processes.sent.clear()
            processes.wait()
            began = time.perf_counter()
            strategy.start_micro_batch(options.batch, number)
            train_step(strategy.module, optimizer, views, labels, 1e-4, precision, batch_fraction=own / options.batch)
            processes.wait()
            seconds.append(time.perf_counter() - began)
        rate = 0.0
        if processes.size > 1:
            payload = torch.zeros(16_000_000)
            dist.all_reduce(payload)
            began = time.perf_counter()
            for _ in range(3):
                dist.all_reduce(payload)
            rate = 3 * 2 * (processes.size - 1) / processes.size * 64e6 / (time.perf_counter() - began)
        if processes.first:
            print(json.dumps({"seconds": seconds[1:], "sent": dict(processes.sent), "bytes_a_second": rate}))


def launch(options: argparse.Namespace, size: int, parallel: Parallel) -> dict[str, Any]:
    """One round of one layout: what rank 0 printed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size),
                           "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, __file__, "--work", "--arch", options.arch, "--batch", str(options.batch), "--steps",
                 str(options.steps), "--parallel", parallel]
    processes = [subprocess.Popen(arguments, env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                                  stdout=subprocess.PIPE, text=True) for rank in range(size)]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{size} processes, {parallel}: a process failed")
    return json.loads(outputs[0])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All layouts, in all rounds."""
    found: dict[tuple[int, Parallel], list[dict[str, Any]]] = {
        layout: [] for layout in LAYOUTS
        if layout == LAYOUTS[0] or not options.only or "-".join(map(str, layout)) in options.only}
    for turn in range(options.rounds):
        for layout in found:
            found[layout].append(launch(options, *layout))
            print(f"round {turn + 1}: {layout[0]} processes, {layout[1]}: "
                  f"{statistics.median(found[layout][-1]['seconds']):.2f} s a step", file=sys.stderr)
    network = arch(options.arch)
    alone = statistics.median(statistics.median(one["seconds"]) for one in found[1, "data"])
    layers = explain(network).layers
    multiply_adds = options.batch * (3 * sum(layer.multiply_adds for layer in layers) - layers[0].multiply_adds)
    rows = []
    for (size, parallel), rounds in found.items():
        seconds = sorted(statistics.median(one["seconds"]) for one in rounds)
        bandwidth = statistics.median(one["bytes_a_second"] for one in rounds)
        cores = min(1.0, (os.cpu_count() or 1) / size)  # processes beyond the cores share them
        model = step(network, options.batch, size, parallel,
                     Machine("this", multiply_adds / alone * cores, bandwidth or 1e9))
        rows.append({
            "processes": size, "parallel": parallel, "seconds": statistics.median(seconds),
            "lowest": seconds[0], "highest": seconds[-1], "bandwidth": bandwidth,
            "counted": sum(rounds[0]["sent"].values()),
            "predicted": sum(sent(network, options.batch, size, parallel).values()),
            "sequential": model.sequential, "overlapped": model.overlapped})
    return {"arch": options.arch, "batch": options.batch, "steps": options.steps, "rounds": options.rounds,
            "machine": describe_machine("cpu"), "command": "python benchmarks/scaling.py " + " ".join(sys.argv[1:]),
            "multiply_adds_a_second": multiply_adds / alone, "rows": rows}


def page(measured: dict[str, Any]) -> str:
    """The measurements as a Markdown table."""
    lines = ["| processes | parallelism | images/s | speed-up | bytes sent per step: counted | predicted | "
             "step, measured | model: sequential to overlapped |", "|---|---|---|---|---|---|---|---|"]
    alone = measured["rows"][0]["seconds"]
    for row in measured["rows"]:
        lines.append(
            f"| {row['processes']} | {row['parallel']} | {measured['batch'] / row['seconds']:.1f} | "
            f"{alone / row['seconds']:.2f} | "
            f"{row['counted'] / 1e6:.1f} MB | {row['predicted'] / 1e6:.1f} MB | {row['seconds']:.2f} s "
            f"({row['lowest']:.2f} to {row['highest']:.2f}) | {row['sequential']:.2f} to {row['overlapped']:.2f} s |")
    return "\n".join([
        *lines, "", f"`{measured['command']}`; {measured['machine']}; `{measured['arch']}`, batches of "
        f"{measured['batch']} over all processes, one thread each, fp32, medians of {measured['rounds']} rounds of "
        f"{measured['steps']} steps (lowest to highest round). Rates measured in the same run: "
        f"{measured['multiply_adds_a_second'] / 1e9:.0f} G multiply-adds a second of one process, and "
        + ", ".join(sorted({f"{row['bandwidth'] / 1e9:.1f} GB/s between {row['processes']}" for row in measured["rows"]
                            if row["parallel"] == "data" and row["processes"] > 1})) + "."])


DEVICES = {
    1: Machine("1", 200e12, math.inf, 0.0),
    8: Machine("8 in one host, 300 GB/s each", 200e12, 300e9, 5e-6),
    64: Machine("64, 40 GB/s each", 200e12, 40e9, 10e-6),
    1024: Machine("1,024, 40 GB/s each", 200e12, 40e9, 10e-6),
}
"""GPUs at two fifths of an H100's bf16 peak, with most of the bandwidth of NVLink or of a 400-gigabit port each."""


def loader_rate() -> float:
    """Images a second of the loader from raw shards to views, on two cores: the first processor of performance.json."""
    rows = [row for one in json.loads((ROOT / "docs" / "performance.json").read_text()) for row in one["rows"]]
    ours = next(row["ours"] for row in rows if row["title"] == "loader: raw shards to float batches")
    return ours["median"]


def prediction(name: str, own: int = 128) -> str:
    """Predicted step times on DEVICES: `own` images and a loader of two cores for each, activations in bf16."""
    network, read = arch(name), loader_rate()
    lines = ["| devices | parallelism | sent by each | reading | computing | sending | "
             "step: sequential to overlapped | images/s of each | bound by | share of one device's computing speed |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    ways: tuple[Parallel, ...] = ("data", "hybrid")
    for count, device in DEVICES.items():
        for way in ways[: 1 if count == 1 else 2]:
            bytes_ = sum(sent(network, own * count, count, way, value_bytes=2).values())
            time_ = step(network, own * count, count, way, replace(device, images_per_second=read), value_bytes=2)
            both = time_.sequential, time_.overlapped
            share, rate = [time_.computing / one for one in both], [own / one for one in both]
            lines.append(
                f"| {device.name} | {way} | {bytes_ / 1e6:,.0f} MB | {1e3 * time_.reading:.1f} ms | "
                f"{1e3 * time_.computing:.1f} ms | {1e3 * time_.sending:.1f} ms | "
                f"{1e3 * both[0]:.1f} to {1e3 * both[1]:.1f} ms | {rate[0]:,.0f} to {rate[1]:,.0f} | {time_.bound} | "
                f"{share[0]:.0%} to {share[1]:.0%} |")
    return "\n".join(lines)


def between(page: Path, mark: str, text: str) -> None:
    """Write text between <!-- mark --> and the next <!-- end -->."""
    before, rest = page.read_text().split(f"<!-- {mark} -->\n")
    page.write_text(f"{before}<!-- {mark} -->\n{text}\n{rest[rest.index('<!-- end -->'):]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="paper")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="LAYOUT")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="replace the tables in this Markdown file")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--parallel", default="data", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options)
        return
    measured = measure(options)
    text = page(measured)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1) + "\n")
    if options.page:
        between(options.page, "measured", text)
        between(options.page, "predicted", prediction(options.arch))
    print(text)


if __name__ == "__main__":
    main()
