"""Row 5: flipped bits and truncated files, in checkpoints and packed folders, are detected and the file is named.

Half of the damage is done to the checkpoints of a run, half to packed folders of both codecs. For some of it the
commands run too: `train --resume` must end with the same bits as the undamaged run.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ledger
import torch
from commands import SMALL, Commands
from ledger import Finding
from pictures import class_folders

from alexnet.data.packed import open_packed
from alexnet.models import checkpoint
from alexnet.models.checkpoint import Checkpoint

ASK_EVERY = 25
"""Of so many damaged checkpoints, one is given to the commands."""


@contextmanager
def spoilt(path: Path, cut: bool, rng: random.Random) -> Iterator[None]:
    """Within, the file has another bit somewhere, or ends too soon."""
    data = path.read_bytes()
    broken = bytearray(data)
    if cut:
        del broken[rng.randrange(len(data)) :]
    else:
        broken[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(broken)
    try:
        yield
    finally:
        path.write_bytes(data)


def same(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two hold the same network at the same step, with the same way to go on."""
    return one.training == other.training and all(
        mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)
        for mine, theirs in ((one.weights, other.weights), (one.velocity, other.velocity)))


class Trainer:
    """A run of three epochs; it as it was after two of them; and what stands in for each checkpoint of that."""

    def __init__(self, alexnet: Commands, work: Path) -> None:
        self.alexnet, self.work = alexnet, work
        self.images = class_folders(work / "images")
        self.data, self.jpeg = work / "raw", work / "jpeg"
        for codec, folder in (("raw", self.data), ("jpeg", self.jpeg)):
            assert alexnet("pack", self.images, folder, "--codec", codec, "--side", 32).code == 0
        self.folder, self.whole = work / "run", work / "whole"
        assert self.train(self.folder, 1) == 0  # so that the second epoch finds a state before
        assert self.train(self.folder, 2) == 0
        shutil.copytree(self.folder, self.whole)
        assert self.train(self.whole, 3) == 0
        self.end = checkpoint.load(self.whole / "last", with_velocity=True)
        self.former = checkpoint._read(self.folder / "last" / checkpoint.PREVIOUS_JSON_FILE, True)
        self.last = checkpoint.load(self.folder / "last", with_velocity=True)
        assert (self.former.training["epoch"], self.last.training["epoch"]) == (1, 2)

    def train(self, folder: Path, epochs: int) -> int:
        # The paper's rate does not depend on how many epochs there will be.
        return self.alexnet("train", self.data, *SMALL, "--recipe", "paper", "--epochs", epochs, "--resume",
                            "--out", folder).code

    def parts(self, name: str) -> list[Path]:
        """The files that a checkpoint is made of, checkpoint.json among them."""
        folder = self.folder / name
        named = checkpoint.read_checkpoint_json(folder / checkpoint.JSON_FILE)["files"]
        roles = ("weights", "velocity") if name == "last" else ("weights",)
        return [folder / checkpoint.JSON_FILE, *(folder / named[role]["file"] for role in roles)]

    def is_found(self, name: str, path: Path) -> bool:
        """Whether damage to a file of that checkpoint is reported by name, and the right other one taken."""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            if name == "last":
                used, expected = checkpoint.load(self.folder / "last", with_velocity=True), self.former
            else:
                used, expected = checkpoint.load(self.folder), self.last
                used.velocity = expected.velocity
        return len(said) == 1 and str(path) in str(said[0].message) and same(used, expected)

    def commands_go_on(self, name: str, path: Path) -> bool:
        """Whether resuming, measuring and asking say the same, and resuming ends where the sound run ended."""
        copy = self.work / "copy"
        shutil.copytree(self.folder, copy)
        place = copy / path.relative_to(self.folder)
        photo = next(self.images.glob("val/*/*.png"))
        asked = [["evaluate", copy, self.data], ["predict", copy, photo]]
        if name == "last":
            asked = [["evaluate", copy / name, self.data], ["predict", copy / name, photo],
                     ["train", self.data, "--epochs", 3, "--resume", "--out", copy]]
        done = [self.alexnet(*arguments) for arguments in asked]
        # A spoilt velocity matters to who goes on, and to nobody else.
        told = [f"note: {place} is damaged" in outcome.err for outcome in done
                if "velocity" not in path.name or outcome is done[-1]]
        ended = same(checkpoint.load(copy / "last", with_velocity=True), self.end) if name == "last" else True
        shutil.rmtree(copy)
        return all(outcome.code == 0 for outcome in done) and all(told) and ended


def is_named(folder: Path, name: str) -> bool:
    """Whether opening or verifying a damaged packed folder names the damaged file."""
    try:
        open_packed(folder).verify()
    except ValueError as error:
        return name in str(error)
    return False


def measure(flips: int, truncations: int) -> Finding:
    """Flip bits and truncate files, one at a time; count detections, fallbacks, and correct commands."""
    rng = random.Random(0)
    found = stood_in = asked = went_on = 0
    with tempfile.TemporaryDirectory() as work, Commands() as alexnet:
        run = Trainer(alexnet, Path(work))
        total = flips + truncations
        for number in range(total):
            cut = number >= flips
            if number % 2:
                folder = rng.choice((run.data, run.jpeg))
                path = rng.choice(sorted(folder.iterdir()))
                with spoilt(path, cut, rng):
                    found += is_named(folder, path.name)
                    if number % (2 * ASK_EVERY) == 1:
                        asked += 1
                        went_on += alexnet("verify", folder).refuses(path.name)
                continue
            name = rng.choice(("last", "last", "best"))
            path = rng.choice(run.parts(name))
            with spoilt(path, cut, rng):
                good = run.is_found(name, path)
                found, stood_in = found + good, stood_in + good
                if number % (2 * ASK_EVERY) == 0:
                    asked += 1
                    went_on += run.commands_go_on(name, path)
        sound = run.train(run.folder, 3) == 0 and same(
            checkpoint.load(run.folder / "last", with_velocity=True), run.end)
    return Finding(
        "5", f"{flips} bits flipped and {truncations} files cut off in a run's checkpoints and in packed folders",
        "all reported by name, the previous checkpoint used, resuming ends with the same bits",
        f"{found} of {total} reported by name (raw images by `alexnet verify`), {stood_in} of {-(-total // 2)} times "
        f"the previous checkpoint or the run's other one used; {went_on} of {asked} times the commands did right",
        found == total and stood_in == -(-total // 2) and went_on == asked and sound)


if __name__ == "__main__":
    ledger.main(measure, flips=500, truncations=100)
