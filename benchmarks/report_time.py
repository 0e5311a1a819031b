"""Seconds of `alexnet report` and of `alexnet neighbors`, at first and again, for a run of 430 images of 256 pixels.

    python benchmarks/report_time.py [--rounds 3] [--images 430] [--arch paper]

Ten classes of smooth random images are drawn and packed, and the network is trained for one epoch: how well does not
matter here. Then the four commands take turns, each in a process of its own. Before the first of each pair the computed
features are removed from the cache. A first round, which compiles the bytecode and fills the file cache, is left out.
The figures are medians over the rounds, with the lowest and highest.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from cold_start import Row, table
from PIL import Image

from alexnet._runtime.cache import cache_folder
from alexnet._runtime.devices import describe_machine
from alexnet.architecture.network_presets import arch

CLASSES = 10


def draw_images(folder: Path, count: int, side: int) -> None:
    """Write `count` JPEG files of `side` pixels into folders of CLASSES classes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"class{number % CLASSES}" / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        colors = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(colors).resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)


def prepare(folder: Path, count: int, name: str) -> None:
    """Draw and pack the images, and train a network on them: `folder`/images, data and run."""
    side = arch(name).input.side
    draw_images(folder / "images", count, side)
    for arguments in (["pack", "images", "data", "--side", str(side)],
                      ["train", "data", "--arch", name, "--epochs", "1", "--out", "run"]):
        done = subprocess.run([sys.executable, "-m", "alexnet", *arguments], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)


def measure(folder: Path, rounds: int) -> list[Row]:
    """Run the commands in turns, in the folder that `prepare` filled."""
    neighbors = ["neighbors", "run", "images/class0/0000.jpg", "--reference-set", "data", "--out", "neighbors.png",
                 "--overwrite"]
    commands = {"report": ["report", "run"], "neighbors": neighbors}
    rows = [Row(f"{name} {text}", words) for name, words in commands.items() for text in ("at first", "again")]
    for number in range(rounds + 1):
        for row in rows:
            if row.name.endswith("at first"):
                shutil.rmtree(cache_folder() / "features", ignore_errors=True)
            row.run(folder)
            if number == 0:
                row.seconds.clear()
                row.cpu_seconds.clear()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=430)
    parser.add_argument("--arch", default="paper", help="name of a network; its input gives the side of the images")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        os.environ["XDG_CACHE_HOME"] = str(Path(work) / "cache")  # not the user's
        prepare(Path(work), options.images, options.arch)
        rows = measure(Path(work), options.rounds)
    print(f"{table(rows)}\n\n{options.images} images, `{options.arch}`; {describe_machine('cpu')}; medians of "
          f"{options.rounds} rounds (lowest to highest).")


if __name__ == "__main__":
    main()
