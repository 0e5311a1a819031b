"""Row 1: training killed with SIGKILL at random moments and during saves, and resumed, ends with the same bits.

    python benchmarks/reliability/kills.py [--kills 140] [--kills-of-two 60] [--kills-under-torchrun 10]

A run is started, killed, resumed and killed again until it finishes; then the next run starts, until there were enough
kills. Half of the kills come at a random moment of the process's life, half as soon as a file of an unfinished save
appears. Of two processes one or both are killed, and the other is ended as torchrun does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import ledger
import numpy as np
import victims
from ledger import Finding


class Toll:
    """Counts of kills and of their consequences, over all runs."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.kills = self.in_saves = self.unreadable = self.lost_steps = self.runs = self.differ = self.bits = 0
        self.different: list[str] = []
        """What differs in runs that should be equal."""
        self.failed: list[str] = []
        """Output of runs that could not be resumed."""

    def count(self, out: Path, before: int) -> int:
        """Count a kill and inspect what it left.

        Args:
            before: The step of the checkpoint before the kill.

        Returns:
            The step of the checkpoint now.
        """
        self.kills += 1
        self.in_saves += victims.half_saved(out)
        try:
            step = victims.step_of(out)
        except ValueError:
            self.unreadable += 1
            return before
        self.lost_steps += step < before
        return step

    def compare(self, whole: Path, out: Path, codes: list[int | None]) -> None:
        """Compare a finished run with the uninterrupted one, or record that it failed."""
        if any(codes):
            self.failed.append(out.with_suffix(".said").read_text()[-300:])
            return
        differ, bits = victims.differing_bits(whole, out)
        self.runs, self.differ, self.bits = self.runs + 1, self.differ + differ, self.bits + bits
        if differ:
            self.different.append(f"{out.name}: {victims.differences(whole, out)}")


def measure(kills: int, kills_of_two: int, kills_under_torchrun: int, in_saves: int, epochs: int = 20,
            seconds: float = 1.5, seed: int = 0) -> Finding:
    """Kill runs and compare them with an uninterrupted one.

    Args:
        in_saves: How many kills must leave an unfinished save.
        epochs: Of each run.
        seconds: The longest that a process lives before it is killed, or before its next save is awaited.
    """
    toll = Toll(seed)
    with victims.folder() as folder:
        data = victims.packed(folder)
        for size, wanted in ((1, kills), (2, kills_of_two)):
            if wanted or (kills_under_torchrun and size == 2):
                whole = victims.whole(data, folder / f"whole-{size}", epochs, size=size)
                until, number = toll.kills + wanted, 0
                while toll.kills < until:
                    out = folder / f"killed-{size}-{number}"
                    toll.compare(whole, out, _to_its_end(toll, data, out, size, epochs, until, seconds))
                    number += 1
        if kills_under_torchrun:
            out = folder / "torchrun"
            toll.compare(whole, out, [_under_torchrun(toll, data, out, epochs, kills_under_torchrun)])
    return Finding(
        "1", f"training killed {toll.kills} times with SIGKILL ({kills} of one process, {kills_of_two} of two, "
             f"{kills_under_torchrun} of one of two under torchrun, which restarts both), and resumed",
        "0 bits differ from the uninterrupted run in weights, velocity, state and log; 0 unreadable checkpoints",
        f"{toll.differ} of {toll.bits:,} bits differ in {toll.runs} runs"
        + "".join(f" ({one})" for one in toll.different[:2]) + f"; {toll.unreadable} unreadable checkpoints, "
        f"{toll.lost_steps} that went back; {toll.in_saves} kills left a save half done"
        + "".join(f"; one could not be resumed ({said})" for said in toll.failed[:1]),
        toll.differ == toll.unreadable == toll.lost_steps == 0 < toll.bits and not toll.failed
        and toll.in_saves >= in_saves)


def _to_its_end(toll: Toll, data: Path, out: Path, size: int, epochs: int, until: int, seconds: float,
                ) -> list[int | None]:
    """One run, killed again and again while there are kills to be done, and left alone then. Its exit codes."""
    step = 0
    while True:
        processes = victims.train(data, out, epochs, size=size)
        if toll.kills < until and _killed(toll, processes, out, step, seconds):
            step = toll.count(out, step)
            continue
        for one in processes:
            one.join(300)
        return [one.exitcode for one in processes]


def _killed(toll: Toll, processes: list[BaseProcess], out: Path, step: int, seconds: float) -> bool:
    """Wait for the moment, and kill. Whether there was anything left to kill.

    One in four is killed at any moment, the others when they have saved more than the `step` that they began at.
    """
    end = time.monotonic() + 60
    while toll.kills % 4 and victims.counting(out / "last") <= step and processes[0].is_alive() and (
            time.monotonic() < end):
        time.sleep(0.005)
    processes[0].join(toll.rng.uniform(0, seconds))
    if toll.kills % 2:
        while not victims.half_saved(out) and processes[0].is_alive() and time.monotonic() < end:
            pass
    alive = [one for one in processes if one.is_alive()]
    if len(alive) < len(processes):  # it has come to its end, or one of them just before the other
        return False
    doomed = alive if len(alive) == 1 or toll.rng.random() < 0.5 else [alive[toll.rng.integers(len(alive))]]
    for one in doomed:
        one.kill()
    for one in doomed:
        one.join()
    for one in alive:  # as torchrun does to those that are left
        one.terminate()
        one.join(30)
        one.kill()
        one.join()
    return any(one.exitcode == -signal.SIGKILL for one in doomed)


def _under_torchrun(toll: Toll, data: Path, out: Path, epochs: int, kills: int) -> int | None:
    """One of the two processes is killed, again and again; torchrun notices and starts both anew. Its exit code."""
    with out.with_suffix(".said").open("wb") as file:
        launcher = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", str(kills),
             "--monitor-interval", "0.1", "--standalone", "-m", "alexnet", *victims.command(data, out, epochs)],
            stdout=file, stderr=file, env=os.environ | {"OMP_NUM_THREADS": "1"})
    step = 0
    for _ in range(kills):
        began = time.monotonic()
        while victims.counting(out / "last") <= step and launcher.poll() is None and time.monotonic() < began + 120:
            time.sleep(0.05)
        time.sleep(toll.rng.uniform(0, 0.5))
        if not (workers := _children(launcher.pid)):
            break  # it was quicker
        os.kill(workers[toll.rng.integers(len(workers))], signal.SIGKILL)
        time.sleep(1)  # until torchrun has ended the other
        step = toll.count(out, step)
    with suppress(subprocess.TimeoutExpired):
        launcher.wait(300)
    launcher.kill()
    return launcher.wait()


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


if __name__ == "__main__":
    ledger.main(measure, kills=140, kills_of_two=60, kills_under_torchrun=10, in_saves=30)
