"""Reload the checkpoints of a running server (SIGHUP): load and rehearse in a thread, then replace the served model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from alexnet._runtime.cpu_threads import lower_thread_priority
from alexnet._runtime.notes import unless_closed
from alexnet.errors import UserError, require
from alexnet.serving.metrics import Outcome
from alexnet.serving.served_model import ServedModel


class Reloader:
    """Reloads the models of a server, one at a time.

    Requests that have begun keep the model that they began with; those that begin after the replacement use the new
    one. A checkpoint that cannot be loaded, or does not fit, changes nothing.

    Attributes:
        models: the served models by name, where the new one replaces the old one.
        on_outcome: called with each model, as it is after the reload, and the outcome.
        say: prints a line about it.
        is_loading: whether the thread loads a checkpoint.
    """

    def __init__(self, models: MutableMapping[str, ServedModel],
                 on_outcome: Callable[[ServedModel, Outcome], object], say: Callable[[str], object]) -> None:
        self.models, self.on_outcome, self.say = models, on_outcome, unless_closed(say)
        self._thread = ThreadPoolExecutor(1, "reload", lower_thread_priority, (10,))
        self._wanted = False
        self._task: asyncio.Task[None] | None = None
        self.is_loading = False

    def request(self) -> None:
        """Reload all models. A request during a reload makes another one follow it: the files may have changed."""
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def shutdown(self) -> None:
        """Drop what has not begun. A reload that runs is not awaited.

        Python waits for its threads when it exits. A process that ends while `is_loading` must end by `os._exit`.
        """
        if self._task:
            self._task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _load(self, old: ServedModel) -> ServedModel:
        self.is_loading = True
        try:
            return _load_again(old)
        finally:
            self.is_loading = False

    async def _run(self) -> None:
        while self._wanted:
            self._wanted = False
            for name in list(self.models):
                await self._reload(name)

    async def _reload(self, name: str) -> None:
        old = self.models[name]
        try:
            new = await asyncio.get_running_loop().run_in_executor(self._thread, lambda: self._load(old))
        except Exception as error:  # whatever it is: the server goes on with the old model
            self.on_outcome(old, "failed")
            reason = str(error) if isinstance(error, UserError) else repr(error)
            self.say(f"reload failed, {name} keeps its weights {old.sha256[:12]}: {reason}")
        else:
            self.models[name] = new
            self.on_outcome(new, "loaded")
            change = "unchanged" if new.sha256 == old.sha256 else f"before: {old.sha256[:12]}"
            self.say(f"reloaded {name}: weights {new.sha256[:12]} ({change})")


def require_same_place(first: Path | None, again: Path | None) -> None:
    """Raise UserError if a reload has found another checkpoint of the run than the start: last/ where best/ is gone.

    Args:
        first: `Checkpoint.path` of the start.
        again: that of the reload.
    """
    if first and again and again.name == "last":
        best = again.with_name("best")
        require(best not in (first, first.parent), f"{best} has gone, and {again} is another checkpoint of the run",
                "restore it, or start the server again to serve the other")


def _load_again(old: ServedModel) -> ServedModel:
    """Load the checkpoint and rehearse: process one image as /predict and /explain do."""
    new = old.reloaded()
    pixels_HWC = np.zeros((new.side, new.side, 3), np.uint8)
    [output] = new.forward(pixels_HWC[None], None)
    require(bool(np.isfinite(output.probabilities_K).all()), "the checkpoint's output for one image is not finite",
            "use an earlier checkpoint")
    new.explain(pixels_HWC)
    return new
