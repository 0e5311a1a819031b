"""Row 3: SIGINT and SIGTERM at random moments leave a checkpoint, one sentence and an exit code, and change no bit.

    python benchmarks/reliability/signals.py [--each 20]

The command is started as a shell starts it, so the signal may come during imports, set-up, a step, a save, validation
or the report; but not in the first half second, before Python has loaded the package.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import ledger
import numpy as np
import victims
from ledger import Finding

SENTENCE = r"alexnet: stopped by {}; \S+/last is saved; resume with --resume\n"
REMARKS = re.compile(
    r"note: |warning: |network small, |device cpu|resuming after|the run has already trained|epoch +\d+/|"
    r"(best )?top-1 error|report: |next:|  ")
"""The lines that a run prints as it goes, and at its end, after which a signal may still come."""
CODES = {signal.SIGINT: (130, -2), signal.SIGTERM: (143, -15)}
"""What a shell reports; a process that dies of the signal itself, before there is anything to save, has it negative."""
SECONDS = 10.0


@dataclass
class Tally:
    """What came of the signals."""

    sent: int = 0
    training: int = 0
    """That found the run training, so that it saved."""
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)
    """What was not as it should be."""


def measure(each: int, epochs: int = 20, seconds: float = 8.0, seed: int = 0) -> Finding:
    """Send signals to runs.

    Args:
        each: Signals of each kind, half of them during training.
        epochs: Of each run.
        seconds: The latest moment of a signal of the other half.
    """
    rng, tally = np.random.default_rng(seed), Tally()
    with victims.folder() as folder:
        data = victims.packed(folder)
        whole = victims.whole(data, folder / "whole", epochs)
        runs, differ, bits, number = 0, 0, 0, 0
        while tally.sent < 2 * each:
            out = folder / f"run-{number}"
            while tally.sent < 2 * each and _stopped(tally, data, out, epochs, rng, seconds):
                pass
            victims.whole(data, out, epochs)
            wrong, total = victims.differing_bits(whole, out)
            runs, differ, bits, number = runs + 1, differ + wrong, bits + total, number + 1
    return Finding(
        "3", f"SIGINT and SIGTERM, {each} of each, half at random moments of a command's life and half while it trains",
        f"a checkpoint within {SECONDS:.0f} s, exit code 130 or 143, nothing printed but one sentence, and the bits of "
        "the uninterrupted run",
        f"{tally.training} of {tally.sent} came during training; the run had saved and ended after "
        f"{tally.slowest:.1f} s at most; {len(tally.wrong)} ended otherwise"
        f"{''.join(f' ({one})' for one in tally.wrong[:3])}; {differ} of {bits:,} bits differ in {runs} runs",
        not tally.wrong and differ == 0 < bits and tally.training > 0 and tally.slowest < SECONDS)


def _stopped(tally: Tally, data: Path, out: Path, epochs: int, rng: np.random.Generator, seconds: float) -> bool:
    """Start or resume the run, and send it a signal. Returns whether the run has not finished."""
    number = (signal.SIGINT, signal.SIGTERM)[tally.sent % 2]
    running = subprocess.Popen(
        [sys.executable, "-m", "alexnet", *victims.command(data, out, epochs)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    before, moment = victims.counting(out / "last"), rng.uniform(0.5, seconds)
    if tally.sent // 2 % 2 == 0:
        while running.poll() is None and victims.counting(out / "last") <= before:
            time.sleep(0.02)
        moment /= 20
    try:
        said, _ = running.communicate(timeout=moment)
        assert running.returncode == 0, said
        return False
    except subprocess.TimeoutExpired:
        pass
    running.send_signal(number)
    sent = time.monotonic()
    said, _ = running.communicate(timeout=120)
    if running.returncode == 0:  # the signal came after the end of the run
        return False
    tally.sent += 1
    took = time.monotonic() - sent
    rest = "".join(line for line in said.splitlines(keepends=True) if not REMARKS.match(line))
    saved = re.fullmatch(SENTENCE.format(number.name), rest)
    if saved:
        tally.training += 1
        tally.slowest = max(tally.slowest, took)
        victims.step_of(out)
    if running.returncode not in CODES[number] or (rest and not saved):
        tally.wrong.append(f"{number.name}: {running.returncode}, {rest[-300:]!r}")
    return True


if __name__ == "__main__":
    ledger.main(measure, each=20)
