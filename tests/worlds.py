"""What each process does in test_parallel.py: `python worlds.py DEED FOLDER`.

FOLDER/jobs.json says what; each process finds its own number in torchrun's variables.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import torch

from alexnet.architecture.overrides import from_json
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.packed import open_packed
from alexnet.data.remote import open_stream
from alexnet.inference import evaluate as evaluation
from alexnet.models import checkpoint, saver
from alexnet.training import trainer
from alexnet.training.build import build
from alexnet.training.parallel import collectives
from alexnet.training.parallel.process_group import init_distributed
from alexnet.training.run_folder import RunLog
from alexnet.training.spec import RunSpec

T = TypeVar("T")


@contextmanager
def precise_batch_norm() -> Iterator[None]:
    """torch's batch norm on a CPU errs in the third digit where channels come last: it sums one by one, in fp32."""
    former = torch.nn.functional.batch_norm
    torch.nn.functional.batch_norm = lambda maps, *rest: former(maps.contiguous(), *rest)
    try:
        yield
    finally:
        torch.nn.functional.batch_norm = former


def train(folder: Path) -> None:
    """Each of the jobs, one after the other, in one world; beside each run, what each process has sent."""
    with init_distributed("cpu") as processes:
        for job in json.loads((folder / "jobs.json").read_text()):
            processes.sent.clear()
            arch, recipe = from_json(Arch, job["arch"]), from_json(Recipe, job["recipe"])
            out = folder / job["out"]
            data = (open_stream if job.get("streamed") else open_packed)(Path(job["packed"]))
            build(RunSpec(data, arch, recipe, out, seed=job["seed"],
                resume=job.get("resume", False), parallel=job["parallel"], micro_batch=job.get("micro_batch")),
                processes=processes).fit()
            (folder / f"{job['out']}.sent-{processes.rank}.json").write_text(json.dumps(processes.sent))


def delayed(function: Callable[..., T], seconds: float) -> Callable[..., T]:
    def late(*arguments: object, **options: object) -> T:
        time.sleep(seconds)
        return function(*arguments, **options)

    return late


def slow(folder: Path) -> None:
    """Train with a timeout of 3 seconds, while rank 0's disk takes 5 for a save and, after the first step, for a line
    of the log, and rank 1 takes 5 to evaluate."""
    append = RunLog._append
    with init_distributed("cpu", 3.0) as processes:
        if processes.first:
            saver.save = delayed(saver.save, 5.0)
            RunLog._append = lambda log, line: (delayed(append, 5.0) if '"signals"' in line else append)(log, line)
        else:
            evaluation.error_counts = delayed(evaluation.error_counts, 5.0)
        job, = json.loads((folder / "jobs.json").read_text())
        run = build(RunSpec(open_packed(Path(job["packed"])), from_json(Arch, job["arch"]),
            from_json(Recipe, job["recipe"]), folder / job["out"], seed=job["seed"]), processes=processes)
        run.fit()


def straggle(folder: Path) -> None:
    """Train while the last process takes 50 ms longer for its part of every batch."""
    with init_distributed("cpu") as processes:
        if processes.rank == processes.size - 1:
            trainer.train_step = delayed(trainer.train_step, 0.05)
        job, = json.loads((folder / "jobs.json").read_text())
        build(RunSpec(open_packed(Path(job["packed"])), from_json(Arch, job["arch"]), from_json(Recipe, job["recipe"]),
                      folder / job["out"], seed=job["seed"], parallel=job["parallel"]), processes=processes).fit()


def collect(folder: Path) -> None:
    """Whether the operations that GPUs use give what all-to-all gives, for blocks of these lengths."""
    with init_distributed("cpu") as processes:
        equal = []
        for job in json.loads((folder / "jobs.json").read_text()):
            lengths, rank = job["lengths"], processes.rank
            blocks = [torch.arange(length * 6.0).view(length, 2, 3) + 100 * number
                      for number, length in enumerate(lengths)]
            whole = torch.cat(blocks)
            gathered = collectives.all_gather(blocks[rank], lengths)
            summed = collectives.reduce_scatter(whole * (rank + 1), processes, lengths)
            equal.append([
                torch.equal(gathered, whole) and torch.equal(collectives.gather_rows(blocks[rank], processes, lengths),
                                                             whole),
                torch.equal(summed, 6 * blocks[rank])])  # 1 + 2 + 3
        (folder / f"equal-{processes.rank}.json").write_text(json.dumps(equal))


def hold(folder: Path) -> None:
    """Take up a run in each process, and save at once what they hold."""
    with init_distributed("cpu") as processes:
        job, = json.loads((folder / "jobs.json").read_text())
        run = build(RunSpec(open_packed(Path(job["packed"])), from_json(Arch, job["arch"]),
            from_json(Recipe, job["recipe"]), folder / job["out"], seed=job["seed"], resume=True,
            parallel=job["parallel"]), processes=processes)
        weights = run.strategy.split_network.gather(run.network.state_dict())
        velocity = run.strategy.split_network.gather(run.optimizer.velocity)
        if processes.first:
            checkpoint.save(checkpoint.Checkpoint(
                run.spec.arch, run.spec.data.classes, weights, run.preprocess.mean_HWC, run.spec.recipe,
                velocity=velocity, training=asdict(run.state)), folder / "held")


def disagree(folder: Path) -> None:
    """Begin a run that differs in one thing in the last process; write what each is told."""
    with init_distributed("cpu") as processes:
        for number, job in enumerate(json.loads((folder / "jobs.json").read_text())):
            mine = job["last"] if processes.rank == processes.size - 1 else job["others"]
            said = "nothing"
            try:
                with processes.error_barrier():
                    build(RunSpec(open_packed(Path(mine["packed"])), from_json(Arch, mine["arch"]),
                        from_json(Recipe, mine["recipe"]), folder / f"{number}", seed=mine["seed"],
                        parallel=mine["parallel"]), processes=processes)
            except (ValueError, SystemExit) as error:
                said = f"{type(error).__name__} {error}"
            (folder / f"{number}.said-{processes.rank}").write_text(said)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with precise_batch_norm():
        {"train": train, "hold": hold, "slow": slow, "straggle": straggle, "disagree": disagree, "collect": collect}[
            sys.argv[1]](Path(sys.argv[2]))
