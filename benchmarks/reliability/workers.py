"""Row 13: reader threads that fail, shards that are truncated or vanish, packing that is killed, a small /dev/shm.

    python benchmarks/reliability/workers.py [--readers 30] [--packings 20] [--processes 2]

The loader and `pack` read with threads, which cannot be killed one by one. Instead of a worker's death, a thread's read
fails, a shard is truncated or the data vanishes while a run trains; and the process that packs is killed. The package
does not use /dev/shm; a run with one of 16 MB shows it.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ledger
import numpy as np
import victims
from ledger import Finding

from alexnet.data import packed
from alexnet.data import packing as packing_module

SECONDS = 10.0
SMALL_SHM = ["unshare", "--mount", "--map-root-user", "sh", "-c",
             'mount -t tmpfs -o size=16m tmpfs /dev/shm && exec "$@"', "sh"]
"""A command in a mount namespace of its own, whose /dev/shm has 16 MB."""


@dataclass(frozen=True)
class ReadFails:
    """Makes the reader threads fail with an I/O error from the n-th read on, and records when."""

    after: int
    mark: Path

    def __call__(self) -> None:
        real, reads = packed.PackedSplit._require_indices, iter(range(10**9))

        def lying(split: packed.PackedSplit, indices):  # type: ignore[no-untyped-def]
            if next(reads) >= self.after:
                self.mark.touch()
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(split.folder / split.shards[0].file))
            real(split, indices)

        packed.PackedSplit._require_indices = lying  # type: ignore[method-assign]


def small_shards() -> None:
    """Make `alexnet pack` write shards of 8 images, so that a kill finds some of them finished."""
    packing_module.pack_with_bar = partial(packing_module.pack_with_bar, shard_images=8)


def measure(readers: int, packings: int, processes: int, epochs: int = 20, seed: int = 0) -> Finding:
    """Break what runs read, kill packing, and train with a small /dev/shm.

    Args:
        readers: Runs, of `epochs` epochs, whose data fails.
        packings: Kills of a pack.
        processes: Processes that train with a small /dev/shm.
    """
    rng = np.random.default_rng(seed)
    with victims.folder() as folder:
        broken, recovered, slowest, faults = _readers(folder, rng, readers, epochs)
        killed, alike = _packings(folder, rng, packings)
        shm = _with_small_shm(folder, processes)
    return Finding(
        "13", f"reading uses threads, not processes: {readers} times in training a thread's read failed, a shard was "
              f"cut short, or the data vanished; packing was killed {killed} times with SIGKILL; /dev/shm of 16 MB",
        f"recovers, or one sentence within {SECONDS:.0f} s; resumed, the bits of the undisturbed run",
        f"{broken} of {readers} ended with one sentence, the slowest after {slowest:.1f} s, {recovered} trained on; "
        f"{len(faults)} otherwise{''.join(f' ({one})' for one in faults[:3])}; packs that were killed "
        f"{'have the same bytes' if alike else 'DIFFER'}; {shm}",
        not faults and broken > 0 and alike and killed == packings and "failed" not in shm)


def _readers(folder: Path, rng: np.random.Generator, times: int, epochs: int) -> tuple[int, int, float, list[str]]:
    """Number of runs that ended with one sentence, number that finished, seconds of the slowest, and faults."""
    broken = recovered = 0
    slowest, faults = 0.0, []
    whole = victims.whole(victims.packed(folder), folder / "whole", epochs)
    for number in range(times):
        data, out = folder / f"data-{number}", folder / f"run-{number}"
        shutil.copytree(folder / "raw", data)
        how, mark = ("fails", "cut", "gone")[number % 3], folder / f"mark-{number}"
        victim, = victims.train(data, out, epochs, before=ReadFails(
            int(rng.integers(8, victims.STEPS * epochs)), mark) if how == "fails" else None)
        while not (out / "last").exists() and victim.is_alive():
            time.sleep(0.01)
        victim.join(rng.uniform(0, 1))
        shard = data / "train-00000.npy"
        if how == "cut":
            os.truncate(shard, int(rng.integers(shard.stat().st_size)))
        elif how == "gone":
            shutil.rmtree(data)
        if how != "fails":
            mark.touch()
        victim.join(120)
        said = out.with_suffix(".said").read_text()
        if victim.exitcode == 2 and said.count("alexnet: ") == 1 and "Traceback" not in said:
            took = time.time() - mark.stat().st_mtime
            broken, slowest = broken + 1, max(slowest, took)
            if took > SECONDS:
                faults.append(f"{how}: {took:.0f} s")
        elif victim.exitcode == 0 and how != "fails":
            recovered += 1
        else:
            faults.append(f"{how}: exit code {victim.exitcode}, {said[-200:]!r}")
        victims.whole(folder / "raw", out, epochs)
        if (differ := victims.differing_bits(whole, out)[0]):
            faults.append(f"{how}: {differ} bits differ")
    return broken, recovered, slowest, faults


def _packings(folder: Path, rng: np.random.Generator, kills: int) -> tuple[int, bool]:
    """Kill packing at random moments. Returns the kills, and whether all packs equal an undisturbed one."""
    source, killed, alike, number = folder / "images", 0, True, 0

    def packing(dest: Path) -> int | None:
        """Run `alexnet pack`, perhaps killing it; returns the exit code."""
        nonlocal killed
        one = victims.begin(["pack", source, dest, "--side", "32", "--workers", "4"], folder / "said",
                            before=small_shards)
        one.join(rng.uniform(0, 0.3) if killed < kills and dest.name != "whole" else 120)
        one.kill()
        one.join()
        killed += one.exitcode == -signal.SIGKILL
        return one.exitcode

    assert packing(folder / "whole-pack" / "whole") == 0, (folder / "said").read_text()
    while killed < kills:
        dest = folder / f"pack-{number}"
        while packing(dest) == -signal.SIGKILL:
            pass
        alike = alike and _bytes(dest) == _bytes(folder / "whole-pack" / "whole")
        number += 1
    return killed, alike


def _bytes(dest: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dest.iterdir()}


def _with_small_shm(folder: Path, processes: int) -> str:
    """Train with a small /dev/shm; returns the outcome in words."""
    if subprocess.run([*SMALL_SHM, "true"], capture_output=True).returncode:
        return "no mount namespaces here, so no small /dev/shm"
    out = folder / "small-shm"
    command = [*SMALL_SHM, sys.executable, "-m", "alexnet", *victims.command(folder / "raw", out, 2)]
    runs = [subprocess.Popen(command, env=os.environ | environment | {"OMP_NUM_THREADS": "1"},
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for environment in victims.world(processes)]
    codes = [run.wait(300) for run in runs]
    return f"with /dev/shm of 16 MB {processes} processes {'failed' if any(codes) else 'trained to the end'}"


if __name__ == "__main__":
    ledger.main(measure, readers=30, packings=20, processes=2)
