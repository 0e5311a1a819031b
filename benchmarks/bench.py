"""Compare our speed with other libraries': a table of rates, and of ratios, which vary less than absolute times.

    python benchmarks/bench.py [--images FOLDER] [--only step] [--rounds 7] [--json FILE] [--page FILE]

Each implementation runs in a process of its own (worker.py). The implementations of a row take turns, round by round,
so that all see the same state of the machine. A ratio is the median over the rounds of our rate / the peer's, with its
lowest and highest value. Without --images (a folder of JPEG files), random images of ImageNet's usual size are
generated; they decode slower than real ones, which flatters fast decoders. --json keeps the figures of each processor,
of which it replaces the rows that were measured; --page writes a table for each of them into a Markdown file: `make
bench` updates docs/performance.json and docs/performance.md.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alexnet._runtime.devices import choose_precision
from alexnet._runtime.native import level
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import arch
from alexnet.data.images import decode
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.data.square import square

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    """Another library's way."""

    label: str
    """In the table."""
    implementation: str
    goal: float | None = None
    """How many times as fast ours shall be."""


@dataclass(frozen=True)
class Row:
    """One comparison."""

    title: str
    ours: str
    peers: tuple[Peer, ...]
    step_of: str = ""
    """The preset whose training step this is, of which the share of the limit is computed."""
    limit: str = "limit"
    """What is measured in the same rounds as the upper limit of a step."""
    share_goal: float | None = None
    """The share of the limit that the step shall reach."""

    @property
    def name(self) -> str:
        """What --only matches."""
        return self.ours.removeprefix("ours-")


TUNED, COMPILED = "tuned", "tuned, torch.compile"
TORCHVISION, LOADER = "torchvision, eager fp32", "torchvision on DataLoader, 2 workers"

ROWS = (
    Row("training step, `paper`, batch 128", "ours-step-paper", (  # torch.compile: 36 s a step on one core
        Peer("eager fp32, `F.local_response_norm`", "peer-step-paper", 10), Peer(TUNED, "tuned-step-paper", 8)),
        "paper", share_goal=0.75),
    Row("training step, `torchvision`, batch 128", "ours-step-torchvision", (
        Peer(TORCHVISION, "peer-step-torchvision"), Peer(TUNED, "tuned-step-torchvision", 2.5),
        Peer(COMPILED, "compiled-step-torchvision", 2.5)), "torchvision", share_goal=0.85),  # with AMX: 0.75
    Row("training step, `torchvision`, batch 128, in pure fp32", "ours-step-torchvision-fp32", (
        Peer(TORCHVISION, "peer-step-torchvision"), Peer(f"{TUNED}, in fp32", "tuned-step-torchvision-fp32", 1.2),
        Peer(f"{COMPILED}, in fp32", "compiled-step-torchvision-fp32", 1.2)), "torchvision", "limit-fp32", 0.9),
    Row("LRN after conv1 of `paper`, batch 128, forward + backward, fp32", "ours-norm", (
        Peer("`F.local_response_norm`", "peer-norm", 25), Peer(f"{TUNED}: our allocator setting", "tuned-norm", 1.2))),
    Row("training step, `cifar`, batch 128", "ours-step-cifar", (
        Peer("eager fp32", "peer-step-cifar", 3.2), Peer(TUNED, "tuned-step-cifar", 1.2),
        Peer(COMPILED, "compiled-step-cifar", 1.2)), "cifar"),
    Row("training step, `small`, batch 128", "ours-step-small", (
        Peer("eager fp32", "peer-step-small"), Peer(TUNED, "tuned-step-small", 2.5),
        Peer(COMPILED, "compiled-step-small", 2.5)), "small"),
    Row("training step, `medium`, batch 128", "ours-step-medium", (
        Peer("eager fp32", "peer-step-medium"), Peer(TUNED, "tuned-step-medium", 2.5),
        Peer(COMPILED, "compiled-step-medium", 2.5)), "medium"),
    Row("evaluation, `small`, batch 128", "ours-evaluate-small", (
        Peer(f"{TUNED} forward pass, fp32", "tuned-forward-small", 1.2),
        Peer("our training step", "ours-step-small", 3.5))),
    Row("evaluation, `medium`, batch 128", "ours-evaluate-medium", (
        Peer(f"{TUNED} forward pass, fp32", "tuned-forward-medium", 1.2),
        Peer("our training step", "ours-step-medium", 3.5))),
    Row("packing full-size JPEG, one core", "ours-packing", (Peer("Pillow", "peer-packing", 2.5),)),
    Row("loader: raw shards to float batches", "ours-loader-raw", (
        Peer(LOADER, "peer-loader", 30), Peer(TUNED, "tuned-loader", 1.2))),
    Row("loader: raw shards to bf16 batches", "ours-loader-raw-bf16", (Peer(LOADER, "peer-loader"),)),
    Row("loader: jpeg shards to float batches", "ours-loader-jpeg", (
        Peer(LOADER, "peer-loader", 8), Peer("WebDataset's reader, 2 workers", "peer-webdataset", 1.2))),
    Row("images to trained step, `torchvision`", "ours-end-to-end", (
        Peer("torchvision's reference pipeline", "peer-end-to-end"), Peer(TUNED, "tuned-end-to-end", 3))),
    Row("inference, `torchvision`, batch 1", "ours-predict-1", (
        Peer(TORCHVISION, "peer-predict-1"), Peer(TUNED, "tuned-predict-1", 3),
        Peer(COMPILED, "compiled-predict-1", 3), Peer("ONNX Runtime", "onnx-predict-1", 3),
        Peer("OpenVINO", "openvino-predict-1", 3))),
    Row("inference, `torchvision`, batch 64", "ours-predict-64", (
        Peer(TORCHVISION, "peer-predict-64"), Peer(TUNED, "tuned-predict-64", 1.5),
        Peer(COMPILED, "compiled-predict-64", 1.5), Peer("ONNX Runtime", "onnx-predict-64", 1.5),
        Peer("OpenVINO", "openvino-predict-64", 1.5))),
    Row("ten-view evaluation, `torchvision`", "ours-ten-views", (
        Peer("ten eager fp32 forwards", "peer-ten-views"), Peer(TUNED, "tuned-ten-views", 2.5),
        Peer(COMPILED, "compiled-ten-views", 2.5))),
)

GOALS = {(row.title, peer.label): peer.goal for row in ROWS for peer in row.peers}

SHARE_GOALS = {row.title: row.share_goal for row in ROWS}

MEMORY_GOAL = 0.6
"""Of the tuned peer's peak memory, in a training step."""


class Worker:
    """A process that runs one implementation on request."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, HERE / "worker.py", name, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True)
        self.seconds: list[float] = []
        self.peak_bytes = 0
        self.images = self._read()["images"]

    def run(self) -> None:
        """Run the implementation once, and keep how long it took."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        measured = self._read()
        self.seconds.append(measured["seconds"])
        self.peak_bytes = measured["peak_bytes"]

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{self.name} stopped; run it alone: python benchmarks/worker.py {self.name} FOLDER")

    @property
    def rates(self) -> list[float]:
        """Images per second of each run."""
        return [self.images / seconds for seconds in self.seconds]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(row: Row, folder: Path, rounds: int) -> dict[str, Any]:
    """The rates of a row's implementations in images per second, and their ratios."""
    names = [*(peer.implementation for peer in row.peers), row.ours, *([row.limit] if row.step_of else [])]
    workers = {name: Worker(name, folder) for name in names}
    try:
        for _ in range(rounds):
            for worker in workers.values():
                worker.run()
    finally:
        for worker in workers.values():
            worker.close()
    ours = workers[row.ours]
    figures: dict[str, Any] = {"title": row.title, "rounds": rounds, "ours": spread(ours.rates), "peers": [],
                               "ours_peak_bytes": ours.peak_bytes}
    for peer in row.peers:
        worker = workers[peer.implementation]
        ratios = [o / p for o, p in zip(ours.rates, worker.rates, strict=True)]
        figures["peers"].append({"name": peer.label, "rate": spread(worker.rates), "ratio": spread(ratios),
                                 "peak_bytes": worker.peak_bytes})
    if row.step_of:
        limit, mflop = workers[row.limit], step_mflop(row.step_of)  # the limit's "images" are MFLOP
        figures["limit_gflops"] = spread([rate / 1e3 for rate in limit.rates])
        figures["share_of_limit"] = spread([mflop * o / b for o, b in zip(ours.rates, limit.rates, strict=True)])
    return figures


def step_mflop(preset: str) -> float:
    """MFLOP of one image in a training step: forward, gradient of the weights, and of the inputs of all but conv1."""
    explained = explain(arch(preset))
    conv1 = next(layer.multiply_adds for layer in explained.layers if layer.name == "conv1")
    return 2 * (3 * explained.multiply_adds - conv1) / 1e6


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


# --- The images ----------------------------------------------------------------------------------------------------


def prepare(images: Path | None, folder: Path, count: int) -> None:
    """Write images/, small/, raw/ and jpeg/ (see worker.py) from JPEG files, or from random images."""
    files = jpegs(images) if images else []
    for number in range(count):
        name = f"class{number % 4}/{number:05d}.JPEG"
        for kind in ("images", "small"):
            (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
        data = files[number * len(files) // count].read_bytes() if files else noise(number)
        (folder / "images" / name).write_bytes(data)
        pixels_HWC = square(decode(data, name), 256)
        Image.fromarray(pixels_HWC).save(folder / "small" / name, "JPEG", quality=90)
    for codec in ("raw", "jpeg"):
        pack(open_dataset(str(folder / "images"), held_out=0.03), folder / codec, side=256, codec=codec)


def jpegs(images: Path) -> list[Path]:
    files = sorted(images.rglob("*.[jJ][pP]*[gG]"))
    if not files:
        raise SystemExit(f"{images} holds no JPEG files")
    return files


def noise(seed: int) -> bytes:
    """A random JPEG file of 500 x 375 pixels, about as large as a photo's."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (47, 63, 3), dtype=np.uint8))
    file = io.BytesIO()
    coarse.resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=92)
    return file.getvalue()


# --- The table --------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.processor()) if Path("/proc/cpuinfo").exists() else ""
    names = ("torch", "torchvision", "pillow", "simplejpeg", "webdataset", "onnxruntime", "openvino")
    installed = {one.name.lower(): one.version for one in distributions()}  # some are optional
    return {"processor": model, "cores": os.cpu_count(), "kernels": level(),
            "precision": choose_precision("auto", "cpu"), "python": platform.python_version(),
            **{name: installed[name] for name in names if name in installed}}


def line(figures: dict[str, Any]) -> list[list[str]]:
    """A row's cells, one list for each peer; HEAD names them."""
    cells = []
    for number, peer in enumerate(figures["peers"]):
        ratio = peer["ratio"]
        slower = "**slower**: " if ratio["median"] < 1 else ""
        goal = GOALS.get((figures["title"], peer["name"]))
        cells.append([figures["title"] if number == 0 else "", peer["name"], shown(peer["rate"]["median"]),
                      shown(figures["ours"]["median"]),
                      f"{slower}{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})",
                      reached(ratio["median"], goal) if goal else ""])
    return cells


def reached(value: float, goal: float) -> str:
    """A goal, and whether it is met."""
    return f"{goal:g}: {'met' if value >= goal else '**missed**'}"


def shown(rate: float) -> str:
    """A rate with three digits, and from 100 on as a whole number."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def merged(known: Sequence[dict[str, Any]], results: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures of all processors. Of this one the rows that were measured now replace those of before."""
    others = [one for one in known if identity(one) != identity(results)]
    before = {row["title"]: row for one in known if identity(one) == identity(results) for row in one["rows"]}
    rows = before | {row["title"]: row for row in results["rows"]}
    order = [row.title for row in ROWS]
    return [*others, results | {"rows": sorted(rows.values(), key=lambda row: order.index(row["title"]))}]


def identity(results: dict[str, Any]) -> tuple[Any, ...]:
    """What makes a processor another one: its model, its cores and its instruction set."""
    return tuple(results["machine"][key] for key in ("processor", "cores", "kernels"))


def tables(known: Sequence[dict[str, Any]]) -> str:
    """The tables of all processors, with a heading each."""
    return "\n\n".join(f"### {one['machine']['processor']}, {one['machine']['cores']} cores, "
                       f"{INSTRUCTION_SETS[one['machine']['kernels']]}\n\n{table(one)}" for one in known)


INSTRUCTION_SETS = {"": "no kernels", "generic": "SSE2 or NEON", "avx2": "AVX2", "avx512": "AVX-512"}

RED, PLAIN = "\033[31m", "\033[0m"
"""Of a terminal: a row that is slower than a peer."""

HEAD = ["what", "peer", "peer, images/s", "ours, images/s", "ratio (lowest to highest)", "goal"]


def table(results: dict[str, Any]) -> str:
    """All rows as Markdown, with the machine and peak memory below."""
    rows = [HEAD, ["---"] * len(HEAD), *(cells for figures in results["rows"] for cells in line(figures))]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    for figures in results["rows"]:
        if "share_of_limit" in figures:
            share, limit, goal = figures["share_of_limit"], figures["limit_gflops"], SHARE_GOALS[figures["title"]]
            text += (f"\n\n{figures['title']}: {share['median']:.0%} ({share['low']:.0%} to {share['high']:.0%}) of "
                     f"what a bare 3x3 convolution reached in the same rounds, {limit['median']:,.0f} GFLOP/s"
                     + (f"; goal {goal:.0%}: {'met' if share['median'] >= goal else '**missed**'}." if goal else "."))
    for figures in results["rows"]:
        tuned = [peer for peer in figures["peers"] if peer["name"] in (TUNED, f"{TUNED}, in fp32")]
        if figures["title"].startswith("training step") and tuned:
            ours, peer_bytes = figures["ours_peak_bytes"], tuned[0]["peak_bytes"]
            text += (f"\n\nPeak memory, {figures['title']}: {ours / 1e6:,.0f} MB against {peer_bytes / 1e6:,.0f} MB of "
                     f"the tuned peer, {ours / peer_bytes:.2f} of it; goal at most {MEMORY_GOAL:g}: "
                     f"{'met' if ours <= MEMORY_GOAL * peer_bytes else '**missed**'}.")
    about = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
    counts = sorted({row["rounds"] for row in results["rows"]})
    rounds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return f"{text}\n\nMachine: {about}. {rounds} rounds. Images: {results['images']}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--only", default="",
                        help=f"only rows whose name contains this: {', '.join(row.name for row in ROWS)}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=1024,
                        help="how many images to measure on; a smaller folder is repeated")
    parser.add_argument("--json", type=Path, help="file of all figures; those of other processors stay")
    parser.add_argument("--page", type=Path, help="replace the tables in this Markdown file")
    options = parser.parse_args()
    rows = [row for row in ROWS if options.only in row.name]
    if not rows:
        parser.error(f"--only {options.only} matches no row; the rows are {', '.join(row.name for row in ROWS)}")

    folder = Path(tempfile.mkdtemp(prefix="alexnet-bench-"))
    results: dict[str, Any] = {"machine": machine(), "rows": [], "images": f"{options.count} random, 500 x 375"}
    try:
        if options.images:
            found = len(jpegs(options.images))
            results["images"] = f"{options.count}, made from {found:,} in a folder"
        prepare(options.images, folder, options.count)
        for row in rows:
            began = time.monotonic()
            results["rows"].append(measure(row, folder, options.rounds))
            for cells in line(results["rows"][-1]):
                red = sys.stderr.isatty() and "slower" in cells[4]
                print(f"{RED if red else ''}{'  '.join(cells)}{PLAIN if red else ''}", file=sys.stderr, flush=True)
            print(f"  [{time.monotonic() - began:.0f} s]", file=sys.stderr)
    finally:
        shutil.rmtree(folder)
    print(table(results))
    known = merged(json.loads(options.json.read_text()) if options.json and options.json.exists() else [], results)
    if options.json:
        options.json.write_text(json.dumps(known, indent=1) + "\n")
    if options.page:
        before, mark, rest = options.page.read_text().partition("<!-- table -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not mark or not end:
            raise SystemExit(f"{options.page} has no <!-- table --> and <!-- end --> to write between")
        options.page.write_text(f"{before}{mark}{tables(known)}\n{end}{after}")


if __name__ == "__main__":
    main()
