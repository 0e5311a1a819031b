"""What a finished run of a claim has recorded in its folder (`FinishedRun`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypedDict

from alexnet.errors import plural
from alexnet.training.events import EpochEvent
from alexnet.training.run_folder import logged

CURVE, ENDED = "clean.jsonl", "ended.json"
"""In a run's folder: the clean training errors, and how the run ended. Without the second it is not finished."""

Ended = Literal["last epoch", "stopped", "diverged"]
"""How a run ended. `stopped`: at its target, or at chance level."""


class CleanPoint(TypedDict):
    """Errors of the training images after an epoch, of their center crops in evaluation mode."""

    epoch: int
    train_error: float
    train_loss: float


@dataclass(frozen=True)
class FinishedRun:
    """What a finished run has recorded."""

    folder: Path
    curve: tuple[CleanPoint, ...]
    """Clean training errors, the last one at the last weights."""
    validated: EpochEvent | None
    """The last epoch. None if the run diverged or ended at its target."""
    chance: float
    """Error of a network that has learned nothing."""
    ended: Ended
    title: str
    """Claim, variant, learning rate and seed that it was first trained for."""
    machine: str
    """Where it was trained, with the version of torch."""
    precision: str = ""

    @classmethod
    def read(cls, folder: Path, chance: float) -> FinishedRun:
        """Read the folder of a finished run."""
        record = json.loads((folder / ENDED).read_text(encoding="utf-8"))
        points = {point["epoch"]: point for point in read_curve(folder / CURVE)}
        epochs = [event for event in logged(folder) if event["event"] == "epoch"]
        return cls(folder, tuple(points[epoch] for epoch in sorted(points)),
                   epochs[-1] if record["ended"] == "last epoch" else None, chance, record["ended"],
                   record.get("title", ""), record.get("machine", ""), record.get("precision", ""))

    @property
    def diverged(self) -> bool:
        return self.ended == "diverged"

    @property
    def has_weights(self) -> bool:
        return (self.folder / "last").is_dir()

    def epochs_to(self, target: float) -> float | None:
        """Epochs to a clean training error, by a straight line between two measurements; None: not reached."""
        points = [(0, self.chance), *((point["epoch"], point["train_error"]) for point in self.curve)]
        for (before, high), (after, low) in pairwise(points):
            if low <= target:
                return before + (after - before) * (high - target) / (high - low)
        return None

    def describe(self) -> str:
        """The last errors in a line."""
        if self.diverged:
            return "diverged"
        last = self.curve[-1]
        clean = f"clean training error {last['train_error']:.1%} after {plural(last['epoch'], 'epoch')}"
        return f"top-1 error {self.validated['val_top1_error']:.1%}, {clean}" if self.validated else clean


def read_curve(path: Path) -> list[CleanPoint]:
    """The measurements in a file; of one in which a killed run left half a line, the whole lines."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]
