"""What saving a checkpoint costs training: no save, a save in a thread as `train` does it, and a save that blocks.

    python benchmarks/saving.py [--arch paper] [--batch 16] [--steps 14] [--rounds 3] [--slow 2] [--page FILE]

Each method is a training run in this process. The methods take turns in every round, so that all see the same state of
the machine. A step's time is measured from its end to the end of the next, with reading and all waits; the first two
steps are left out. A run that saves does so once, after the fourth step. A slow disk is simulated by an os.fsync that
takes `--slow` seconds longer; a save calls it five times (weights, velocity, seen images, checkpoint.json, folder). The
figures are medians over the rounds, with the lowest and highest: of a run's median step, 90th percentile and longest
step, and of the time for which the call to save blocked training.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench import noise, spread
from scaling import between

from alexnet._runtime.devices import describe_machine
from alexnet.architecture.network_presets import arch
from alexnet.architecture.recipe_presets import recipe
from alexnet.data.packed import PackedDataset
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.models import checkpoint, saver
from alexnet.training.build import build
from alexnet.training.events import Event
from alexnet.training.spec import RunSpec

WARM, SAVED = 2, 4
"""Steps that are left out, and the step after which the save begins."""

METHODS = {
    "no save": (False, False, False), "in a thread": (True, False, False), "blocking": (True, True, False),
    "in a thread, slow disk": (True, False, True), "blocking, slow disk": (True, True, True)}
"""Whether the run saves, waits for the save, and has a slow disk."""


class StepsDone(Exception):
    """Ends a run after `--steps` steps."""


class TimedSaver(saver.Saver):
    """A saver that measures how long it blocked training."""

    waits = False
    blocked = 0.0

    def save(self, saved: checkpoint.Checkpoint, folder: Path) -> None:
        began = time.perf_counter()
        super().save(saved, folder)
        if TimedSaver.waits:
            self.wait()
        TimedSaver.blocked = time.perf_counter() - began


def steps(packed: PackedDataset, options: argparse.Namespace, method: str, out: Path) -> dict[str, float]:
    """One run: statistics of its steps in seconds, and how long the save blocked it."""
    saves, waits, slow = METHODS[method]
    ends: list[float] = []

    def on_event(event: Event) -> None:
        if event["event"] == "step":
            ends.append(time.perf_counter())
            # The next step finds that a save is due, and saves after it.
            run.spec = replace(run.spec, save_minutes=0 if saves and event["step"] == SAVED - 1 else math.inf)
            if event["step"] == options.steps:
                raise StepsDone

    def fsync(handle: int, original: Any = os.fsync) -> None:
        original(handle)
        time.sleep(options.slow if slow else 0)

    TimedSaver.waits, TimedSaver.blocked = waits, 0.0
    with patch.object(saver, "Saver", TimedSaver), patch.object(os, "fsync", fsync):
        run = build(RunSpec(packed, arch(options.arch), replace(recipe("paper"), batch_size=options.batch), out,
            save_minutes=math.inf), on_event=on_event)
        try:
            run.fit()
        except StepsDone:
            taken = sorted(after - before for before, after in pairwise(ends[WARM:]))
    if saves != (out / "last" / checkpoint.JSON_FILE).is_file():
        raise SystemExit(f"{method}: a checkpoint is missing, or was written without a save")
    return {"median": statistics.median(taken), "p90": statistics.quantiles(taken, n=10, method="inclusive")[-1],
            "longest": taken[-1], "blocked": TimedSaver.blocked}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All methods, in all rounds."""
    found: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        images = Path(folder) / "images"
        for number in range(options.batch * (options.steps + 1)):
            path = images / ("val" if number < 4 else "train") / f"class{number % 4}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(noise(number))
        packed = pack(open_dataset(str(images)), Path(folder) / "packed", side=arch(options.arch).input.side)
        for turn in range(options.rounds):
            for number, method in enumerate(METHODS):
                found[method].append(steps(packed, options, method, Path(folder) / f"{turn}-{number}"))
                print(f"round {turn + 1}: {method}: {found[method][-1]}", file=sys.stderr)
        last = checkpoint.load(next(Path(folder).glob("*/last")), with_velocity=True)
        size = sum(tensor.nbytes for tensors in (last.weights, last.velocity) for tensor in tensors.values())
    return {"arch": options.arch, "batch": options.batch, "rounds": options.rounds, "slow": options.slow,
            "steps": options.steps, "bytes": size, "machine": describe_machine("cpu"),
            "command": "python benchmarks/saving.py " + " ".join(sys.argv[1:]),
            "rows": [{"method": method, **{name: spread([one[name] for one in rounds]) for name in rounds[0]}}
                     for method, rounds in found.items()]}


def page(measured: dict[str, Any]) -> str:
    """The measurements as a Markdown table."""
    lines = ["| checkpoint | median step | 90th percentile | longest step | training blocked |",
             "|---|---|---|---|---|"]
    for row in measured["rows"]:
        cells = [f"{row[name]['median']:.2f} s ({row[name]['low']:.2f} to {row[name]['high']:.2f})"
                 for name in ("median", "p90", "longest", "blocked")]
        lines.append(f"| {' | '.join([row['method'], *cells])} |")
    return "\n".join([
        *lines, "", f"`{measured['command']}`; {measured['machine']}; `{measured['arch']}`, batches of "
        f"{measured['batch']}, fp32, a save of {measured['bytes'] / 1e6:,.0f} MB after step {SAVED} of "
        f"{measured['steps']}; slow disk: {measured['slow']:g} s more for each of four fsyncs; medians of "
        f"{measured['rounds']} rounds (lowest to highest)."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="paper")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slow", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, help="where the runs are written (default: the temporary folder)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="replace the table in this Markdown file")
    options = parser.parse_args()
    if options.steps < SAVED + 2:
        parser.error(f"--steps {options.steps} must be at least {SAVED + 2}, to see the step after a save")
    measured = measure(options)
    text = page(measured)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1) + "\n")
    if options.page:
        between(options.page, "saving", text)
    print(text)


if __name__ == "__main__":
    main()
