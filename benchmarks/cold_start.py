"""Seconds of a command from its start to its end: `alexnet predict` with torch and without, and other short commands.

    python benchmarks/cold_start.py [--rounds 7] [--images 50 200 500] [--only TEXT] [--json FILE] [--page FILE]

Each run is a process of its own. All commands take turns in every round, so that all see the same state of the machine.
A first round, which compiles the bytecode and fills the file cache, is left out. The figures are medians over the
rounds, with the lowest and highest: seconds by the clock, and CPU seconds of the process, which other processes on the
machine change less. `predict` runs once as it is, but without the limit on the number of images, and once with
`quick_start.load_quickly` switched off, so that torch computes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from bench import spread
from PIL import Image
from scaling import between

from alexnet._runtime.devices import describe_machine
from alexnet.architecture.network_presets import arch
from alexnet.data.sources.embedded import PHOTOGRAPHS
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet

_CODE = """
import sys
from alexnet.cli.main import main
engine, report = sys.argv[1:3]
if engine:
    import alexnet.inference.quick_start as quick_start
    quick_start.MOST_MULTIPLY_ADDS = float("inf")
    if engine == "torch":
        quick_start.load_quickly = lambda path: None
try:
    main(sys.argv[3:])
finally:
    with open(report, "w") as file:
        file.write(str("torch" in sys.modules))
"""

OTHERS = ("--help", "list", "list weights", "explain paper", "explain pretrained", "cache", "results FILE",
          "check images", "doctor")
"""Other commands. `images` is a folder of 64-pixel images, FILE the results in docs/."""

RESULTS = Path(__file__).parents[1] / "docs" / "results.jsonl"


@dataclass
class Row:
    """A command, and what was measured of it in each round."""

    name: str
    arguments: list[str]
    engine: str = ""
    """Of `predict`: numpy (or onnxruntime), or torch."""
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    imports_torch: bool = False

    def run(self, folder: Path) -> None:
        """Run the command once, and add its seconds."""
        report = folder / "report.txt"
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        before, began = os.times(), time.perf_counter()
        done = subprocess.run([sys.executable, "-c", _CODE, self.engine, report, *self.arguments], cwd=folder,
                              env=environment | {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")}, capture_output=True)
        self.seconds.append(time.perf_counter() - began)
        after = os.times()
        self.cpu_seconds.append(
            after.children_user - before.children_user + after.children_system - before.children_system)
        if done.returncode not in (0, 1):  # 1: `doctor` has found something
            sys.exit(f"{self.name}: {done.stderr.decode()}")
        self.imports_torch = report.read_text() == "True"


def predictions(folder: Path, counts: Sequence[int]) -> list[Row]:
    """`predict` of one photo by the packaged network, an ONNX file of it and `paper`; of many images by the first."""
    photo, paper = str(PHOTOGRAPHS / "rocket.jpg"), arch("paper")
    checkpoint.save(checkpoint.Checkpoint(
        paper, tuple(map(str, range(paper.classes))), AlexNet(paper).state_dict(), torch.full((1, 1, 3), 120.0)),
        folder / "paper")
    rows = {"predict PHOTO": [photo], "predict RUN PHOTO, `paper` at 224 pixels": [str(folder / "paper"), photo]}
    if find_spec("onnxruntime") and find_spec("onnxscript"):
        network = str(folder / "pretrained.onnx")
        subprocess.run([sys.executable, "-m", "alexnet", "export", "pretrained", network], check=True,
                       capture_output=True)
        rows["predict FILE.onnx PHOTO"] = [network, photo]
    paths = [folder / "images" / f"class{number % 2}" / f"{number:05d}.png" for number in range(max(counts))]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    rows |= {f"predict {count:,} images of 64 pixels": [*map(str, paths[:count])] for count in counts}
    return [Row(name, ["predict", *arguments], engine) for name, arguments in rows.items()
            for engine in ("numpy", "torch")]


def table(rows: Sequence[Row]) -> str:
    """The Markdown table."""
    lines = ["| command | imports torch | CPU seconds | seconds |", "| --- | --- | --- | --- |"]
    for row in rows:
        cpu, wall = (f"{each['median']:.2f} ({each['low']:.2f} to {each['high']:.2f})" for each in (
            spread(row.cpu_seconds), spread(row.seconds)))
        lines.append(
            f"| `alexnet {row.name.replace('`', '')}` | {'yes' if row.imports_torch else 'no'} | {cpu} | {wall} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, nargs="+", default=[50, 200, 500], help="counts of images to predict")
    parser.add_argument("--only", default="", metavar="TEXT", help="measure the commands that contain this text")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="replace the table in this Markdown file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        rows = predictions(folder, options.images) + [
            Row(name, name.replace("FILE", str(RESULTS)).split()) for name in OTHERS]
        rows = [row for row in rows if options.only in row.name]
        for number in range(options.rounds + 1):
            for row in rows:
                row.run(folder)
                if number == 0:
                    row.seconds.clear()
                    row.cpu_seconds.clear()
    text = f"{table(rows)}\n\n{describe_machine('cpu')}; medians of {options.rounds} rounds (lowest to highest)."
    print(text)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    if options.page:
        between(options.page, "cold start", text)


if __name__ == "__main__":
    main()
