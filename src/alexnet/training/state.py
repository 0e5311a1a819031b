"""`State`: step, epoch, plateau, sums and early stopping of a run, as a checkpoint saves it; its errors."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import cast

from alexnet.architecture.recipe import Recipe
from alexnet.errors import Finding, UserError
from alexnet.models.checkpoint_json import StateJson
from alexnet.training.schedule import Plateau

RECENT_LOSSES = 200
"""Steps whose losses a run keeps, for findings about their mean."""


@dataclass
class State:
    """What a run is between two steps, beside weights and velocity. Plain values: the checkpoint's `training`."""

    seed: int
    data: str
    """Fingerprint of the packed data."""
    precision: str
    transform: str = ""
    """Name of the user's own augmentation (`transform_name`); "" without one."""
    step: int = 0
    """Steps taken."""
    epoch: int = 0
    """Epochs that are closed: trained, evaluated and logged."""
    lanes: int = 0
    """Lanes of the order of the epoch under way (`PackedSplit.lanes`); 0 before the first one."""
    plateau: Plateau = field(default_factory=Plateau)
    best_error: float = math.inf
    """The lowest top-1 error on the validation set so far."""
    best_loss: float = math.inf
    """The lowest validation loss of the epochs with that error: few images often give two epochs the same error."""
    epochs_without_gain: int = 0
    """Epochs since that error was reached."""
    epoch_images: int = 0
    """Images trained on in the present epoch."""
    epoch_loss_sum: float = 0.0
    """Sum of their losses."""
    epoch_wrong: int = 0
    """How many of them were classified wrongly."""
    recent_losses: list[float] = field(default_factory=list)
    """Losses of the latest steps, at most RECENT_LOSSES: a resumed run makes the findings of an uninterrupted one."""
    loss_scale: float = 1.0
    steps_since_overflow: int = 0

    @classmethod
    def from_json(cls, tree: StateJson) -> State:
        """The state that `to_json` gave."""
        return replace(cls(**tree), plateau=Plateau(**tree["plateau"]))  # type: ignore[arg-type]

    def to_json(self) -> StateJson:
        return cast(StateJson, asdict(self))

    def count(self, images: int, loss: float, wrong: int) -> None:
        """Add a batch to the epoch's sums."""
        self.epoch_images += images
        self.epoch_loss_sum += loss * images
        self.epoch_wrong += wrong
        self.recent_losses = [*self.recent_losses, loss][-RECENT_LOSSES:]

    def close_epoch(self, error: float, loss: float) -> bool:
        """Record the validation of an epoch, and begin the next one.

        Args:
            error: top-1 error on the validation set.
            loss: loss on it.

        Returns:
            Whether the epoch is the best so far: by the error, then by the loss.
        """
        self.next_epoch()
        is_best = (error, loss) < (self.best_error, self.best_loss)
        self.epochs_without_gain = 0 if error < self.best_error else self.epochs_without_gain + 1
        if is_best:
            self.best_error, self.best_loss = error, loss
        return is_best

    def next_epoch(self) -> None:
        """Begin the next epoch's sums, also where the epoch is not validated."""
        self.epoch += 1
        self.epoch_images, self.epoch_loss_sum, self.epoch_wrong = 0, 0.0, 0

    def is_finished(self, recipe: Recipe) -> bool:
        """Whether all epochs are trained, or the run has stopped early."""
        return self.epoch >= recipe.epochs or self.stops_early(recipe)

    def stops_early(self, recipe: Recipe) -> bool:
        """Whether the run ends before its last epoch, as the error has not fallen for `Recipe.early_stop_epochs`."""
        return 0 < recipe.early_stop_epochs <= self.epochs_without_gain and self.epoch < recipe.epochs


class Interrupted(Exception):
    """A signal has stopped the run, and its checkpoint is written.

    Attributes:
        exit_code: what a shell expects of a process that the signal ended.
    """

    def __init__(self, number: int, folder: Path, resume: str = "resume with --resume") -> None:
        """Say which signal, which checkpoint, and how the user resumes, which differs between commands."""
        super().__init__(f"stopped by {signal.Signals(number).name}; {folder} is saved; {resume}")
        self.number, self.folder, self.exit_code = number, folder, 128 + number


class Diverged(UserError):
    """The loss or a weight is not finite any more. The checkpoints, if there are any, are from before.

    Attributes:
        finding: the likely cause.
        images: names of the images of the step, or of those whose views are not finite.
        log: log.jsonl, which names all of them.
        saved_step: the step of the latest checkpoint; None if none was written.
    """

    def __init__(self, finding: Finding, images: Sequence[str], log: Path, saved_step: int | None = None) -> None:
        more = f" and {len(images) - 3} more, all of them in {log}" if len(images) > 3 else ""
        named = f"; the images were {', '.join(images[:3])}{more}" if images else ""
        saved = (f"no checkpoint was written, so {log.parent} cannot be resumed" if saved_step is None else
                 f"{log.parent / 'last'} is of step {saved_step:,}, before that; another learning rate "
                 "needs another --out")
        super().__init__(f"{finding.problem} ({saved})", finding.remedy + named)
        self.finding, self.images, self.log, self.saved_step = finding, list(images), log, saved_step

    def __reduce__(self) -> tuple[type[Diverged], tuple[Finding, list[str], Path, int | None]]:  # type: ignore[override]
        return type(self), (self.finding, self.images, self.log, self.saved_step)
