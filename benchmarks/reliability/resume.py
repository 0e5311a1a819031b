"""Row 2: a run killed ten times at chosen points, and resumed with other reader threads, ends with the same bits.

    python benchmarks/reliability/resume.py [--chains 6]

The run kills itself within an epoch, at the end of an epoch before its save, just after the save, and during
validation. The number of reader threads (`--workers` 0, 2 and 4) changes at every resume; raw and jpeg shards
alternate.
"""

from __future__ import annotations

import signal

import ledger
import victims
from ledger import Finding
from victims import DieAt

WORKERS = 0, 2, 4
MOMENTS = (
    DieAt("step", 5), DieAt("validating", 0), DieAt("epoch", 12), DieAt("step", 13), DieAt("step", 24),
    DieAt("epoch", 24), DieAt("validating", 0), DieAt("step", 31), DieAt("step", 47), DieAt("epoch", 48),
)
"""In the order of their coming: twelve steps are an epoch."""


def measure(chains: int, kills: int = len(MOMENTS), epochs: int = 20) -> Finding:
    """kills: of each chain. epochs: of each run."""
    differ = bits = dead = 0
    with victims.folder() as folder:
        for chain in range(chains):
            codec = ("raw", "jpeg")[chain % 2]
            data = folder / codec if (folder / codec).exists() else victims.packed(folder, codec)  # type: ignore[arg-type]
            whole, out = folder / f"whole-{codec}", folder / f"chain-{chain}"
            if not whole.exists():
                victims.whole(data, whole, epochs)
            for number, moment in enumerate(MOMENTS[:kills]):
                workers = WORKERS[(chain // 2 + number) % 3]
                victim, = victims.train(data, out, epochs, "--workers", f"{workers}", before=moment)
                victim.join(120)
                dead += victim.exitcode == -signal.SIGKILL
            victims.whole(data, out, epochs, "--workers", f"{WORKERS[chain % 3]}")
            wrong, total = victims.differing_bits(whole, out)
            differ, bits = differ + wrong, bits + total
    return Finding(
        "2", f"{chains} runs of raw and jpeg shards in turn, each killed {kills} times in a row: within an epoch, at "
             "its end before and after its save, while it validates; 0, 2 or 4 reading threads, changed at each resume",
        "the same bits as the uninterrupted run",
        f"{dead} of {chains * kills} kills came at the chosen point; {differ} of {bits:,} bits differ",
        dead == chains * kills and differ == 0 < bits)


if __name__ == "__main__":
    ledger.main(measure, chains=6)
