"""Row 23: a rehearsal with as many images as ImageNet has: pack, verify, train, kill, resume and evaluate.

    TMPDIR=/large/disk python benchmarks/reliability/imagenet_count.py [--count 20000] [--data FOLDER] [--no-record]

1,281,167 training and 50,000 validation images of 64 pixels in 1,000 classes, which are crops of the images in DATA
(default: the photographs of the package). Each has its number in the first pixel, so that no two are equal. They are
packed from memory into raw shards of 16.4 GB in a temporary folder, so that no million files are needed. Everything is
deleted at the end, and nothing begins on a disk that is too small. memory.py says when memory is flat.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ledger
import numpy as np
import victims
from crops import SIDE, TRAINING, crops, large_images, sizes
from ledger import Finding
from memory import GROWTH, Memory, watched

from alexnet._runtime.ranks import OneProcess
from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import default_recipe
from alexnet.data.packed import open_packed
from alexnet.data.packing import pack, packed_size_bytes
from alexnet.training.build import build
from alexnet.training.parallel.shared_job import shared_job
from alexnet.training.progress_bar import TrainingBar
from alexnet.training.run_folder import logged
from alexnet.training.spec import RunSpec

BATCH = 128

ARCH = (f"input.side={SIDE}", "input.crop=56", "conv.width=16", "dense.width=64")

NETWORK = ("--arch", "small", *(word for setting in ARCH for word in ("--set", f"arch.{setting}")), "--set",
           f"recipe.batch_size={BATCH}", "--device", "cpu", "--precision", "fp32", "--epochs", "1", "--resume")

FIRST_BATCH_SECONDS = 1.0

MARK_SECONDS = 0.1
"""Between two records of how many images are packed."""


# --- Processes --------------------------------------------------------------------------------------------------------


def run(
    said: Path, *arguments: str | Path, size: int = 1, before: Any = None,
) -> tuple[float, Memory, list[int | None]]:
    """Run `alexnet ARGUMENTS` in so many processes. Returns the seconds, the memory and the exit codes."""
    began = time.monotonic()
    processes = [victims.begin(arguments, said, environment, before) for environment in victims.world(size)]
    with watched(processes) as memory:
        while any(process.is_alive() for process in processes):
            time.sleep(0.05)
            if any(process.exitcode == -signal.SIGKILL for process in processes):  # then torchrun ends the others
                for process in processes:
                    process.terminate()
    return time.monotonic() - began, memory, [process.exitcode for process in processes]


def succeeded(said: Path, codes: Sequence[int | None], wanted: int = 0) -> str:
    """"" if all processes have ended with the code; else what they printed last."""
    return "" if set(codes) == {wanted} else f"; FAILED with {codes}: {said.read_text()[-300:]!r}"


@dataclass(frozen=True)
class SignalAt:
    """Makes a training run send itself a signal after a step; SIGKILL only when a checkpoint has been saved."""

    number: int
    step: int
    saved: Path

    def __call__(self) -> None:
        show = TrainingBar.show

        def watch(bar: TrainingBar, event: Any) -> None:
            if event["event"] == "step" and event["step"] >= self.step and (
                    self.number != signal.SIGKILL or victims.counting(self.saved) > 0):
                signal.raise_signal(self.number)  # in this thread, so that the run stops at this step
            show(bar, event)

        TrainingBar.show = watch  # type: ignore[method-assign]


# --- The rehearsal ----------------------------------------------------------------------------------------------------


def measure(
    count: int, steps: int, data: str = "embedded", shard_images: int = 5_000, slack_mb: int = 32,
) -> Iterator[Finding]:
    """Rehearse, and yield a finding for each part.

    Args:
        count: training images.
        steps: of training, in each run.
        data: images to crop, anything that `alexnet pack` takes.
        shard_images: of a shard.
        slack_mb: by how many megabytes memory may grow, besides a share of it. Short runs are still growing.
    """
    with victims.folder() as folder:
        needed, free = 1.05 * packed_size_bytes(count + sizes(count)[1], SIDE) + 1e9, shutil.disk_usage(folder).free
        if free < needed:
            raise SystemExit(f"{folder} has {free / 1e9:.1f} GB free and {needed / 1e9:.1f} are needed; set TMPDIR")
        np.save(folder / "large.npy", large_images(data))
        yield packing(folder, count, shard_images, slack_mb)
        yield verification(folder, slack_mb)
        yield first_batch(folder)
        yield training(folder, count, steps, slack_mb)
        yield resumption(folder, steps)
        yield evaluation(folder, count, slack_mb)


def packing(folder: Path, count: int, shard_images: int, slack_mb: int) -> Finding:
    """Pack in one process, which is killed halfway, and go on in two."""
    rates, memories, codes = [], [], []
    for size in (1, 2):
        progress = folder / f"progress-{size}"
        processes = [multiprocessing.get_context("spawn").Process(
            target=pack_crops, args=(folder, count, shard_images, progress, environment, size))
            for environment in victims.world(size)]
        for process in processes:
            process.start()
        with watched(processes) as memory:
            for process in processes:
                process.join()
        (began, first), (ended, last) = marks(progress)[0], marks(progress)[-1]
        rates.append((last - first) / max(ended - began, 1e-9))
        memories.append(memory)
        codes += [process.exitcode for process in processes]
    packed = open_packed(folder / "packed")
    return Finding(
        "23a", f"{packed.counts['train']:,} training and {packed.counts['val']:,} validation images of {SIDE} pixels, "
        f"of {len(packed.classes):,} classes, packed; by one process until SIGKILL at half of them, then by two",
        "all images are packed; flat memory",
        f"{rates[0]:,.0f} images/s in one process, {rates[1]:,.0f} in two; {memories[0]} in one, {memories[1]} in two; "
        f"exit codes {codes}",
        sum(packed.counts.values()) == count + sizes(count)[1] and all(memory.is_flat(slack_mb) for memory in memories)
        and codes == [-signal.SIGKILL, 0, 0])


def pack_crops(
    folder: Path, count: int, shard_images: int, progress: Path, environment: dict[str, str], size: int,
) -> None:
    """Pack as one of two processes, or alone until half of the images are packed, then by SIGKILL to the end.

    Args:
        progress: file to which times and numbers of images are appended.
    """
    os.environ.update(environment | {"LOCAL_WORLD_SIZE": str(size)})
    written = 0.0

    def on_progress(done: int, total: int) -> None:
        nonlocal written
        now = time.monotonic()
        if now - written > MARK_SECONDS or done == total:
            written = now
            with progress.open("a") as file:
                file.write(f"{now} {done}\n")
        if size == 1 and done > total / 2:
            os.kill(os.getpid(), signal.SIGKILL)

    with shared_job("cpu") if size > 1 else nullcontext(OneProcess()) as ranks:
        pack(crops(folder, count), folder / "packed", side=SIDE, shard_images=shard_images, ranks=ranks,
             on_progress=None if ranks.rank else on_progress)


def marks(progress: Path) -> list[tuple[float, int]]:
    """The times and numbers of images in the file."""
    return [(float(line.split()[0]), int(line.split()[1])) for line in progress.read_text().splitlines()]


def verification(folder: Path, slack_mb: int) -> Finding:
    said = folder / "verify.said"
    seconds, memory, codes = run(said, "verify", folder / "packed")
    size = sum(path.stat().st_size for path in (folder / "packed").iterdir())
    failed = succeeded(said, codes)
    return Finding("23b", f"`alexnet verify` of its {size / 1e9:.2f} GB", "all checksums right; flat memory",
                   f"{size / 1e6 / seconds:,.0f} MB/s; {memory}{failed}", not failed and memory.is_flat(slack_mb))


def first_batch(folder: Path) -> Finding:
    """Seconds in which the folder is opened, and in which the trainer's own loader reads the first batch.

    Its files leave the page cache before both. Between them the trainer is built, which has no limit: most of
    that time compares the perceptual hashes of all validation images with those of all training images
    (data/near_duplicates.py), so that a validation error that would be too low is noticed before training. No image is
    read for that. The batches of an epoch are as equal as possible, none above 128 images: of 1,281,167 the first has
    127.
    """
    forget(folder / "packed")
    began = time.monotonic()
    packed = open_packed(folder / "packed")
    opened, began = time.monotonic() - began, time.monotonic()
    arch = override(ARCHS["small"], ARCH)
    trainer = build(RunSpec(packed, arch, replace(default_recipe(arch), batch_size=BATCH), folder / "not written"))
    built = time.monotonic() - began
    forget(folder / "packed")
    began = time.monotonic()
    with closing(trainer.epoch_batches()) as source:
        pixels_NHWC = next(source).pixels_NHWC
    read, images = time.monotonic() - began, len(trainer.training)
    wanted = images // -(-images // BATCH)
    return Finding("23c", f"the packed folder opened, and the first batch of an epoch read by the trainer's loader, "
                   f"{wanted} random images of {images:,}, with cold files",
                   f"together within {FIRST_BATCH_SECONDS:g} s, without building the trainer between them, which "
                   "compares the validation images with those of training",
                   f"opened in {opened:.2f} s, {len(pixels_NHWC)} images read in {read:.2f} s: {opened + read:.2f} s "
                   f"together; the trainer was built in {built:.2f} s",
                   opened + read < FIRST_BATCH_SECONDS and len(pixels_NHWC) == wanted)


def forget(folder: Path) -> None:
    """Drop a folder's files from the page cache."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def training(folder: Path, count: int, steps: int, slack_mb: int) -> Finding:
    """Train part of an epoch in one process and in two."""
    found, holds = [], True
    for size in (1, 2):
        out, said = folder / f"run-{size}", folder / f"run-{size}.said"
        _, memory, codes = run(said, "train", folder / "packed", *NETWORK, "--out", out, size=size,
                               before=SignalAt(signal.SIGTERM, steps, out / "last"))
        failed = succeeded(said, codes, 128 + signal.SIGTERM)
        steps_logged = [event for event in logged(out) if event["event"] == "step"]

        def median(key: str, events: list[dict[str, Any]] = steps_logged) -> float:
            return statistics.median(event[key] for event in events)

        # The images of a step are those of all processes. Two on one machine exchange 26 times a step, mostly the few
        # sums of batch normalization (two forward and two backward for each layer), and wait each time until the system
        # has woken both.
        exchanged = "" if size == 1 else (
            f", each step {1000 * median('slowest_rank_seconds'):.0f} ms of work and "
            f"{1000 * median('slowest_rank_waiting'):.0f} ms of exchanges")
        found.append(f"{median('images_per_second'):,.0f} images/s of {size} process{'es together' * (size > 1)}, "
                     f"waiting for data {median('waiting'):.0%}{exchanged}, {memory}{failed}")
        holds = holds and not failed and memory.is_flat(slack_mb)
    return Finding("23d", f"{steps:,} steps of {BATCH} images ({BATCH * steps / count:.0%} of an epoch) trained until "
                   "SIGTERM, one thread in each process", "a checkpoint; flat memory", "; ".join(found), holds)


def resumption(folder: Path, steps: int) -> Finding:
    """Kill both runs in their middle, and resume them."""
    found, differing, bits = [], 0, 0
    for size in (1, 2):
        whole, out, said = folder / f"run-{size}", folder / f"killed-{size}", folder / f"killed-{size}.said"
        for number, step in ((signal.SIGKILL, steps // 2), (signal.SIGTERM, steps)):
            _, _, codes = run(said, "train", folder / "packed", *NETWORK, "--out", out, "--save-minutes", "0",
                              size=size, before=SignalAt(number, step, out / "last"))
        differ, total = victims.differing_bits(whole, out)
        differing, bits = differing + differ, bits + total
        resumed = sum(event["event"] == "start" and event["step"] > 0 for event in logged(out))
        found.append(f"{size}: {resumed} resumed{succeeded(said, codes, 128 + signal.SIGTERM)}")
    return Finding("23e", "the same training killed by SIGKILL at half of its steps and resumed, in 1 process and in 2",
                   "the bits of the uninterrupted runs in weights, velocity, state and log",
                   f"{differing} of {bits:,} bits differ ({', '.join(found)})",
                   differing == 0 < bits and all("1 resumed" in one and "FAILED" not in one for one in found))


def evaluation(folder: Path, count: int, slack_mb: int) -> Finding:
    """Evaluate in one process and in two, with ten views: more than half of the time is then the network's."""
    results, found, flat = [], [], True
    for size in (1, 2):
        said = folder / f"evaluate-{size}.said"
        seconds, memory, codes = run(said, "evaluate", folder / "run-1", folder / "packed", "--views", "10", "--json",
                                    size=size)
        failed = succeeded(said, codes)
        text = said.read_text()
        results.append({} if failed else json.loads(text[text.index("{\n") : text.rindex("}") + 1]))
        grown = f": grew by more than {GROWTH:.0%} and {slack_mb} MB" * (not memory.is_flat(slack_mb))
        found.append(f"{seconds:.1f} s in {size} process{'es' * (size > 1)}, {memory}{grown}{failed}")
        flat = flat and not grown
    measured = results[0].get("images", 0)
    return Finding("23f", "the validation images evaluated with ten views in one process and in two, none of them "
                   f"among the {count:,} training images by content", "all images counted; equal results; flat memory",
                   f"{measured:,} images, results {'equal' if results[0] == results[1] else 'DIFFER'}; "
                   f"{'; '.join(found)}", results[0] == results[1] and measured == sizes(count)[1] and flat)


if __name__ == "__main__":
    ledger.main(measure, count=TRAINING, steps=1_500, data="embedded", slack_mb=32)
