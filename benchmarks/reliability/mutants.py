"""Row 7: damaged image files of five formats, decoded twice in subprocesses, give pixels or BadImage, nothing else.

A subprocess reports each image when it is done, so that a crash or a hang is a finding with the image's number, and the
next subprocess continues after it. The second pass runs backwards, in memory with other contents: a result that depends
on uninitialized bytes would differ.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

import ledger
from ledger import Finding
from pictures import FORMATS, VAST, damaged, seeds, vast

SECONDS, BYTES = 2.0, 1_000_000_000
"""What one picture may take: of the processor, since others share it, and of memory, the interpreter's included."""

HANGS = 120.0
"""Seconds by the clock after which a process is taken to hang."""


@dataclass(frozen=True)
class Verdict:
    """What became of one picture."""

    number: int
    said: str
    """A hash of the pixels, or why there are none; or, of what must not be, the exception."""
    seconds: float
    bytes: int
    """The most that the process had of memory meanwhile."""

    @property
    def kind(self) -> str:
        return self.said.split()[0]


def mutant(number: int) -> bytes:
    """The picture of that number, always the same: one in 500 whole, and as large as is read."""
    if number % 500 == 499:
        return vast(VAST[number // 500 % len(VAST)])
    rng, files = random.Random(number), seeds(FORMATS[number % len(FORMATS)])
    return damaged(rng.choice(files), rng, files)


def decode(numbers: Iterator[int]) -> None:
    """In a process of its own: a line of JSON for each picture."""
    from alexnet.data import images

    resource.setrlimit(resource.RLIMIT_AS, (6 * BYTES, 6 * BYTES))  # for the sake of the machine
    for number in numbers:
        data = mutant(number)
        with contextlib.suppress(OSError):  # without it, what was had before counts too
            Path("/proc/self/clear_refs").write_text("5")  # Linux's way to begin the peak anew
        began = time.process_time()
        try:
            pixels_HWC = images.decode(data, "mutant")
            seconds = time.process_time() - began
            said = f"pixels {pixels_HWC.shape} {hashlib.sha256(pixels_HWC.data).hexdigest()}"
        except images.BadImage as reason:
            seconds = time.process_time() - began
            said = f"refused {reason}"
        except BaseException as error:
            seconds, said = time.process_time() - began, f"error {type(error).__name__}: {error}"
        print(json.dumps([number, said, seconds, _peak()]), flush=True)


def _peak() -> int:
    """Of this process; getrusage would tell the most of the process that began it, too."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def verdicts(numbers: list[int]) -> Iterator[Verdict]:
    """Of each picture, in that order; one that ends its process has `died` or `hung` for a verdict."""
    while numbers:
        command = [sys.executable, __file__, "--decode", *map(str, numbers[:500])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
            assert process.stdout is not None
            done = 0
            while True:
                alarm = Timer(HANGS, process.kill)
                alarm.start()
                line = process.stdout.readline()
                hung = not alarm.is_alive()
                alarm.cancel()
                if not line.endswith("\n"):
                    break
                done += 1
                yield Verdict(*json.loads(line))
            process.kill()
        if done < min(500, len(numbers)) and not line.endswith("\n"):
            yield Verdict(numbers[done], "hung" if hung else f"died with {process.wait()}", HANGS * hung, 0)
            done += 1
        numbers = numbers[done:]


def measure(mutants: int) -> Finding:
    """Decode that many mutants, forwards and backwards, and count violations."""
    first = {verdict.number: verdict for verdict in verdicts([*range(mutants)])}
    again = {verdict.number: verdict for verdict in verdicts([*reversed(range(mutants))])}
    both = [*first.values(), *again.values()]
    kinds = Counter(verdict.kind for verdict in first.values())
    wrong = {
        "died, hung or raised another error": {v.number for v in both if v.kind not in ("pixels", "refused")},
        f"took more than {SECONDS:g} s": {v.number for v in both if v.seconds > SECONDS},
        f"took more than {BYTES / 1e9:g} GB": {v.number for v in both if v.bytes > BYTES},
        "got another verdict the second time": {n for n in first if first[n].said != again[n].said},
        "was refused in no sentence that names it": {
            v.number for v in both if v.kind == "refused" and (
                not v.said.startswith("refused mutant cannot be decoded: ") or "\n" in v.said)},
    }
    for what, numbers in wrong.items():
        for number in sorted(numbers)[:5]:
            print(f"mutant {number} {what}: {first[number]} {again[number]}",
                  file=sys.stderr)
    slowest, largest = max(v.seconds for v in both), max(v.bytes for v in both)
    return Finding(
        "7", f"{mutants:,} JPEG, PNG, GIF, TIFF and WebP files, damaged or vast, each decoded twice",
        "0 crashes, at most 2 s and 1 GB each, the same verdict twice",
        f"{kinds['pixels']:,} decoded, {kinds['refused']:,} refused by name; "
        + (", ".join(f"{len(numbers)} {what}" for what, numbers in wrong.items() if numbers) or "0 crashes, 0 others")
        + f"; slowest {slowest:.2f} s, most memory {largest / 1e6:.0f} MB",
        not any(wrong.values()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--decode"]:
        decode(map(int, sys.argv[2:]))
    else:
        ledger.main(measure, mutants=10_000)
