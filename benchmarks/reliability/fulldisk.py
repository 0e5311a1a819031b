"""Row 4: a disk that becomes full during a save or a pack, and a folder without write permission.

The disk is a tmpfs in a mount namespace of the script (`unshare`), which a ballast file fills but for a number of
bytes. A run of one epoch on it is resumed; or a pack starts on it, which is made to believe that there is room, as when
another program fills the disk later. The command must end with one sentence and exit code 2, leave the previous
checkpoint as it was and no half-written file that counts; and with the ballast removed, the same command must succeed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import ledger
from commands import SMALL, Commands, Outcome
from ledger import Finding
from pictures import class_folders

from alexnet.data import packed
from alexnet.models import checkpoint

DISK_BYTES = 64_000_000
GO_ON_EVERY = 5
"""Of so many full disks, one is given room again, and the command once more."""

PAGE = os.sysconf("SC_PAGE_SIZE")

LARGER = [*SMALL, "--recipe", "paper", "--set", "arch.dense.width=256"]
"""A network of enough pages for a disk to be full at many places; and a rate that does not depend on the epochs."""

#: What stands before `pack` in its process: the room that it looks for is there when it looks.
ROOM = "import shutil; shutil.disk_usage = lambda path: shutil._ntuple_diskusage(10**12, 0, 10**12)"


@contextmanager
def mounted(place: Path, *how: str) -> Iterator[None]:
    """Within, something is mounted there: `-t tmpfs none`, or a folder bound to itself."""
    subprocess.run(["mount", *how, str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


class Disk:
    """A disk of its own, with as much room as is wanted."""

    def __init__(self, place: Path) -> None:
        self.place, self.ballast = place, place / "ballast"

    def free(self) -> int:
        found = os.statvfs(self.place)
        return found.f_bavail * found.f_frsize

    @contextmanager
    def left(self, size: int) -> Iterator[None]:
        """Within, so many bytes are free."""
        with self.ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(PAGE, self.free() - size))
        try:
            yield
        finally:
            self.ballast.unlink()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class Case:
    """A command that writes, on a disk of its own; `begin` lays out what is there before."""

    def __init__(self, alexnet: Commands, disk: Disk, data: Path, images: Path, run: Path) -> None:
        self.alexnet, self.disk, self.data, self.images, self.sound_run = alexnet, disk, data, images, run
        self.run, self.packed = disk.place / "run", disk.place / "packed"

    def train(self) -> Outcome:
        return self.alexnet("train", self.data, *LARGER, "--epochs", 2, "--resume", "--out", self.run)

    def pack(self) -> Outcome:
        return self.alexnet("pack", self.images, self.packed, "--side", 32, first=ROOM)

    def clean(self) -> None:
        for folder in (self.run, self.packed):
            shutil.rmtree(folder, ignore_errors=True)

    def save_survives(self, size: int, end: dict[str, bytes]) -> str:
        """Nothing where a run with that much room left does as it must; else what it did."""
        self.clean()
        shutil.copytree(self.sound_run, self.run)
        before = checkpoint.load(self.run / "last", with_velocity=True)
        with self.disk.left(size):
            done = self.train()
            after = checkpoint.load(self.run / "last", with_velocity=True)  # which checks every byte
            checkpoint.load(self.run / "best")
            half = [path.name for path in self.run.rglob("*.new")]
        kept = after.training["step"] in (before.training["step"], 2 * before.training["step"])
        if not (done.refuses(self.disk.place) and kept and not half):
            return f"{done}, {after.training['step']}, {half}"
        again = self.train() if end else None
        return "" if not again or (again.code == 0 and contents(self.run / "last") == end) else f"afterwards {again}"

    def pack_survives(self, size: int, end: dict[str, bytes]) -> str:
        """The same of a pack."""
        self.clean()
        with self.disk.left(size):
            done = self.pack()
        if not done.refuses(self.packed) or packed.is_packed(self.packed):
            return f"{done}"
        again = self.pack() if end else None
        return "" if not again or (again.code == 0 and contents(self.packed) == end) else f"afterwards {again}"


def full(case: Case, offsets: int, bisections: int) -> list[str]:
    """What went wrong at that many places, half in saves and half in packs: evenly spaced over what each needs.

    What it needs is found by halving, from a quarter of what lies there in the end, which is surely too little.
    """
    wrong = []
    for write, lay_out, folder, survives in (
        (case.train, lambda: shutil.copytree(case.sound_run, case.run), case.run / "last", case.save_survives),
        (case.pack, lambda: None, case.packed, case.pack_survives),
    ):
        case.clean()
        lay_out()
        assert write().code == 0
        end = contents(folder)
        too_little, enough = sum(map(len, end.values())) // 4 // PAGE, sum(
            2 + path.stat().st_size // PAGE for path in folder.parent.rglob("*") if path != case.disk.ballast)
        for _ in range(bisections):
            middle = (enough + too_little) // 2
            case.clean()
            lay_out()
            with case.disk.left(middle * PAGE):
                enough, too_little = (middle, too_little) if write().code == 0 else (enough, middle)
        for place in range(offsets // 2):
            size = too_little * place // (offsets // 2) * PAGE
            if did := survives(size, end if place % GO_ON_EVERY == 0 else {}):
                wrong.append(f"{write.__name__} with {size:,} bytes left: {did}")
    return wrong


def read_only(case: Case, work: Path) -> list[str]:
    """What went wrong with commands that would write to a folder where nobody may, and with those that need not."""
    place = work / "fixed"
    place.mkdir()
    shutil.copytree(case.sound_run, place / "run")
    photo = next(case.images.glob("val/*/*.png"))
    wrong = []
    with mounted(place, "--bind", str(place)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        before = contents(place / "run" / "last")
        for arguments in (
            ["train", case.data, *LARGER, "--out", place / "new"],
            ["train", case.data, *LARGER, "--epochs", 2, "--resume", "--out", place / "run"],
            ["pack", case.images, place / "packed", "--side", 32], ["import", work / "hub", place / "out"],
            ["export", case.sound_run, place / "hub"], ["report", place / "run"],
            ["explain", "paper", "--html", place / "page.html"], ["figure", "2", "paper", "--out", place / "a.png"],
        ):
            if not (done := case.alexnet(*arguments)).refuses(place):
                wrong.append(f"{arguments[0]} where nothing may be written: {done}")
        for arguments in (["evaluate", place / "run", case.data], ["predict", place / "run", photo],
                          ["export", place / "run", work / "exported"]):
            if (done := case.alexnet(*arguments)).code:
                wrong.append(f"{arguments[0]} of what may only be read: {done}")
        if contents(place / "run" / "last") != before:
            wrong.append("the checkpoint has changed")
    return wrong


def inside(offsets: int, bisections: int) -> Finding:
    """The measurement, in a mount namespace that the script may do with as it likes."""
    with tempfile.TemporaryDirectory() as name, Commands() as alexnet:
        work, disk = Path(name), Disk(Path(name) / "disk")
        images, data, run = class_folders(work / "images"), work / "data", work / "run"
        assert alexnet("pack", images, data, "--side", 32).code == 0
        assert alexnet("train", data, *LARGER, "--epochs", 1, "--out", run).code == 0
        assert alexnet("export", run, work / "hub").code == 0
        disk.place.mkdir()
        with mounted(disk.place, "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none"):
            case = Case(alexnet, disk, data, images, run)
            wrong = full(case, offsets, bisections)
        wrong_here = read_only(case, work)
    for line in (*wrong, *wrong_here):
        print(line, file=sys.stderr)
    return Finding(
        "4", f"a disk full at {offsets // 2} places of a run's writes, {offsets // 2} of a pack's; a read-only folder",
        "previous checkpoint and shards intact, one sentence, exit code 2, nothing half-written taken for whole",
        f"{offsets // 2 * 2 - len(wrong)} of {offsets // 2 * 2} full disks and {11 - len(wrong_here)} of 11 commands "
        "on the read-only folder as expected; with room again, every fifth ended byte for byte as undisturbed",
        not wrong and not wrong_here)


def measure(offsets: int, bisections: int) -> Finding:
    """`inside`, in a mount namespace of its own."""
    command = ["unshare", "--map-root-user", "--mount", sys.executable, __file__, "--inside", str(offsets),
               str(bisections)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Finding(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        print(json.dumps(asdict(inside(*map(int, sys.argv[2:])))))
    else:
        ledger.main(measure, offsets=50, bisections=6)
