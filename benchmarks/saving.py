"""What a save costs the steps around it: none, one beside the steps as `train` does it, one that the loop waits for.

    python benchmarks/saving.py [--arch paper] [--batch 16] [--steps 14] [--rounds 3] [--slow 2] [--page FILE]

Every way is a run of its own in this process, in every round one after another, so that a machine's moods fall on all
of them. A step's time is that from its end to the next one's, with reading and whatever the loop waits for; the first
two are left out. In a run that saves, one save follows the fourth step. A slow disk is os.fsync made slower by `--slow`
seconds, which a save calls four times: for weights, velocity, the head and the folder. Figures are medians over rounds
with the lowest and highest, of a run's median step, its 90th percentile and its longest, and of the time for which the
call that saves held the loop.
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

from alexnet._runtime.devices import machine
from alexnet.architecture.presets import arch, recipe
from alexnet.data.packed import PackedDataset
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.models import checkpoint
from alexnet.training.build import build
from alexnet.training.run_folder import Event
from alexnet.training.spec import RunSpec

WARM, SAVED = 2, 4
"""Steps that are left out, and the one after which a save begins."""

WAYS = {
    "no save": (False, False, False), "beside the steps": (True, False, False), "in the loop": (True, True, False),
    "beside the steps, slow disk": (True, False, True), "in the loop, slow disk": (True, True, True)}
"""Whether it saves, waits for the save, and has a slow disk."""


class Enough(Exception):
    """The steps that were asked for are done."""


class Timed(checkpoint.Saver):
    """The saver, which remembers how long it held the loop."""

    waits = False
    held = 0.0

    def save(self, saved: checkpoint.Checkpoint, folder: Path) -> None:
        began = time.perf_counter()
        super().save(saved, folder)
        if Timed.waits:
            self.wait()
        Timed.held = time.perf_counter() - began


def steps(packed: PackedDataset, options: argparse.Namespace, way: str, out: Path) -> dict[str, float]:
    """One run of one way: its steps' times, and how long its save held it."""
    saves, waits, slow = WAYS[way]
    done: list[float] = []

    def see(event: Event) -> None:
        if event["event"] == "step":
            done.append(time.perf_counter())
            # Asked here, the next step tells that it is time, and the save follows it.
            run.save_minutes = 0 if saves and event["step"] == SAVED - 1 else math.inf
            if event["step"] == options.steps:
                raise Enough

    def fsync(handle: int, really: Any = os.fsync) -> None:
        really(handle)
        time.sleep(options.slow if slow else 0)

    Timed.waits, Timed.held = waits, 0.0
    with patch.object(checkpoint, "Saver", Timed), patch.object(os, "fsync", fsync):
        run = build(RunSpec(packed, arch(options.arch), replace(recipe("paper"), batch_size=options.batch), out,
            save_minutes=math.inf), on_event=see)
        try:
            run.fit()
        except Enough:
            taken = sorted(after - before for before, after in pairwise(done[WARM:]))
    if saves != (out / "last" / checkpoint.HEAD).is_file():
        raise SystemExit(f"{way}: the save did not go as it should")
    return {"median": statistics.median(taken), "p90": statistics.quantiles(taken, n=10, method="inclusive")[-1],
            "longest": taken[-1], "held": Timed.held}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All ways, all rounds."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        images = Path(folder) / "images"
        for number in range(options.batch * (options.steps + 1)):
            path = images / ("val" if number < 4 else "train") / f"class{number % 4}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(noise(number))
        packed = pack(open_dataset(str(images)), Path(folder) / "packed", side=arch(options.arch).input.side)
        for turn in range(options.rounds):
            for number, way in enumerate(WAYS):
                found[way].append(steps(packed, options, way, Path(folder) / f"{turn}-{number}"))
                print(f"round {turn + 1}: {way}: {found[way][-1]}", file=sys.stderr)
        last = checkpoint.load(next(Path(folder).glob("*/last")), with_velocity=True)
        size = sum(tensor.nbytes for tensors in (last.weights, last.velocity) for tensor in tensors.values())
    return {"arch": options.arch, "batch": options.batch, "rounds": options.rounds, "slow": options.slow,
            "steps": options.steps, "bytes": size, "machine": machine("cpu"),
            "command": "python benchmarks/saving.py " + " ".join(sys.argv[1:]),
            "rows": [{"way": way, **{name: spread([one[name] for one in rounds]) for name in rounds[0]}}
                     for way, rounds in found.items()]}


def page(measured: dict[str, Any]) -> str:
    """The measurements as a Markdown table."""
    lines = ["| a save | median step | 90th percentile | longest step | the loop is held |", "|---|---|---|---|---|"]
    for row in measured["rows"]:
        cells = [f"{row[name]['median']:.2f} s ({row[name]['low']:.2f} to {row[name]['high']:.2f})"
                 for name in ("median", "p90", "longest", "held")]
        lines.append(f"| {' | '.join([row['way'], *cells])} |")
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
    parser.add_argument("--folder", type=Path, help="where the runs are written, and thus the disk; else the system's")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="a Markdown file between whose marks the table is written")
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
