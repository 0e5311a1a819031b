"""Row 12: a NaN, from the data or from a high learning rate, stops a run at once and gets into no checkpoint.

    python benchmarks/reliability/notanumber.py [--rates 8]

From the data: an image's view contains a NaN from the second epoch on. From the learning rate: it is far too high, with
and without batch normalization. With one process and with two.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import ledger
import numpy as np
import victims
from ledger import Finding

from alexnet.data.order import epoch_order
from alexnet.data.packed import open_packed
from alexnet.data.preprocessing import Preprocess
from alexnet.models import checkpoint
from alexnet.training.run_folder import logged

EPOCHS, BATCH = 20, 8
SENTENCE = re.compile(r"alexnet: the loss is \S+ after (?:step )?(\d+).*; the images were (\S+)")


@dataclass(frozen=True)
class SpoilView:
    """Makes the view of one training image contain a NaN, from an epoch on."""

    index: int
    epoch: int

    def __call__(self) -> None:
        real = Preprocess.training_views

        def views(self_: Preprocess, pixels, indices, recipe, seed, epoch, *rest):  # type: ignore[no-untyped-def]
            made = real(self_, pixels, indices, recipe, seed, epoch, *rest)
            if epoch >= self.epoch:
                made[indices == self.index, 0, 3, 3] = math.nan
            return made

        Preprocess.training_views = views  # type: ignore[method-assign]


def measure(rates: int, sizes: int = 2, seed: int = 0) -> Finding:
    """Train with NaN in the data, and with `rates` learning rates that are too high, in 1 to `sizes` processes."""
    rng = np.random.default_rng(seed)
    by_data: list[str | None] = []
    by_rate: list[str | None] = []
    with victims.folder() as folder:
        data = victims.packed(folder)
        names = open_packed(data).split("train").names
        for size in range(1, sizes + 1):
            index = int(rng.integers(victims.TRAINING))
            at = victims.STEPS + 1 + int(np.flatnonzero(epoch_order(victims.TRAINING, 0, 1) == index)[0]) // BATCH
            by_data.append(
                _fault(data, folder / f"view-{size}", size, named=names[index], at=at, before=SpoilView(index, 1)))
            for number in range(rates):
                rate, norm = 10 ** rng.uniform(0, 30), ("batch", "none")[number % 2]
                by_rate.append(_fault(
                    data, folder / f"rate-{size}-{number}", size, "--set", f"recipe.learning_rate={rate:.3g}",
                    "--set", f"arch.norm={norm}", "--set", "recipe.warmup_epochs=0"))
    faults = [fault for fault in by_data + by_rate if fault]
    return Finding(
        "12", f"NaN by an image {len(by_data)} times, rates of 1 to 1e30 {len(by_rate)} times with "
              f"batch normalization and without, in {' and '.join(['one process', 'two'][:sizes])}",
        "stops within one step, keeps the last good checkpoint, names the images of the batch",
        f"by data {by_data.count('')} of {len(by_data)} stopped at that step and named the image; by rate "
        f"{by_rate.count('')} stopped at the step after the last finite weights, or sooner, and named the batch's, "
        f"{by_rate.count(None)} came to their end with finite weights; {len(faults)} otherwise"
        + "".join(f" ({one})" for one in faults[:3]),
        not faults and "" in by_rate)


def _fault(data: Path, out: Path, size: int, *options: str, named: str = "", at: int = 0,
           before: SpoilView | None = None) -> str | None:
    """Train, and return what was wrong when the run stopped; "" if nothing was, None if the run finished.

    Args:
        named: An image that the message must name.
        at: The step that the message must name.
    """
    processes = victims.train(data, out, EPOCHS, *options, size=size, before=before)
    for one in processes:
        one.join(120)
    codes = [one.exitcode for one in processes]
    tensors = [tensor for name in ("last", "best") if (out / name / checkpoint.JSON_FILE).exists()
               for kept in (checkpoint.load(out / name, with_velocity=True),)
               for tensor in (*kept.weights.values(), *kept.velocity.values())]
    if not all(tensor.isfinite().all() for tensor in tensors):
        return f"{out.name}: a checkpoint is not finite"
    if codes == [0] * size and not named:
        return None
    said = out.with_suffix(".said").read_text()
    sentence = SENTENCE.search(said)
    if codes != [2] * size or not sentence or said.count("alexnet: ") != 1:
        return f"{out.name}: exit codes {codes}, said {said[-300:]!r}"
    step, image = int(sentence[1]), sentence[2].rstrip(",")
    warning = [event for event in logged(out) if event["event"] == "warning"][-1]
    if (named and named not in warning["images"]) or (at and step != at):
        return f"{out.name}: step {step} and not {at}, {image} and not {named}"
    if not 0 <= step - victims.step_of(out) <= 1:
        return f"{out.name}: stopped after step {step}, and the checkpoint is of {victims.step_of(out)}"
    return ""


if __name__ == "__main__":
    ledger.main(measure, rates=8)
