"""Training runs to be killed: started in milliseconds, inspected after the kill, and compared bit for bit.

`alexnet train` is started by forking a process that has only imported torch, so that hundreds of kills take minutes.
All runs train on the same few generated images, and save after every step.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alexnet.cli.main import main
from alexnet.data.manifest import Codec
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.models import checkpoint
from alexnet.training.events import StepTiming
from alexnet.training.progress_bar import TrainingBar
from alexnet.training.run_folder import logged

SIDE = 32
SMALL = ("--arch", "small", "--set", f"arch.input.side={SIDE}", "--set", "arch.input.crop=28", "--set",
         "arch.conv.width=16", "--set", "arch.dense.width=32", "--device", "cpu", "--precision", "fp32")
FREQUENT = (*SMALL, "--set", "recipe.batch_size=8", "--save-minutes", "0", "--resume")
"""Options of `train`: save after every step, and resume if there is a checkpoint."""

TRAINING, VALIDATION, STEPS = 96, 40, 12
"""Images, and steps an epoch."""

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([
    "victims", "alexnet.training.trainer", "alexnet.reproduce.report.page", "torch._dynamo"])
"""The last is what DistributedDataParallel imports."""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder for a measurement."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        yield Path(name)


def draw(images: Path, training: int = TRAINING, validation: int = VALIDATION) -> Path:
    """Write class folders of random PNG images whose brightness depends on the class; returns the folder."""
    rng = np.random.default_rng(0)
    for split, count in (("train", training), ("val", validation)):
        for number in range(count):
            place = images / split / ("ash", "birch", "cedar", "date")[number % 4]
            place.mkdir(parents=True, exist_ok=True)
            pixels_HWC = rng.normal(60 + 45 * (number % 4), 60, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels_HWC).save(place / f"{number:03}.png")
    return images


def packed(where: Path, codec: Codec = "raw") -> Path:
    """Draw and pack the images; returns the packed folder."""
    return pack(open_dataset(draw(where / "images")), where / codec, side=SIDE, codec=codec).path


# --- Beginning --------------------------------------------------------------------------------------------------------


def begin(
    arguments: Sequence[str | Path], said: Path, environment: dict[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> BaseProcess:
    """Start `alexnet ARGUMENTS` in a process of its own that prints into the file `said` and first calls `before`."""
    victim = _FORKS.Process(target=_live, args=([*map(str, arguments)], said, environment or {}, before))
    victim.start()
    return victim


def _live(arguments: list[str], said: Path, environment: dict[str, str], before: Callable[[], None] | None) -> None:
    import torch

    from alexnet.reproduce.report import page

    page.write_report = lambda run, *_, **__: run  # the report takes seconds and changes nothing of the run
    os.environ.update(environment)
    torch.set_num_threads(1)
    with said.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if before:
        before()
    main(arguments)


def world(size: int) -> list[dict[str, str]]:
    """The environment variables that torchrun sets in each process; none for a single process."""
    if size == 1:
        return [{}]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
             "MASTER_PORT": str(port)} for rank in range(size)]


def command(data: Path, out: Path, epochs: int, *options: str) -> list[str | Path]:
    """The arguments of `alexnet` for a training run."""
    return ["train", data, *FREQUENT, "--out", out, "--epochs", f"{epochs}", *options]


def train(data: Path, out: Path, epochs: int, *options: str, size: int = 1, before: Callable[[], None] | None = None,
          ) -> list[BaseProcess]:
    """Start or resume a run; returns its processes."""
    return [begin(command(data, out, epochs, *options), out.with_suffix(".said"), environment, before)
            for environment in world(size)]


def whole(
    data: Path, out: Path, epochs: int, *options: str, size: int = 1, before: Callable[[], None] | None = None,
) -> Path:
    """Train without interruption; returns the folder of the run."""
    for one in train(data, out, epochs, *options, size=size, before=before):
        one.join(600)
        assert one.exitcode == 0, out.with_suffix(".said").read_text()
    return out


class DieAt:
    """Makes a run kill itself at the first event of a kind, from a step (or number of images validated) on."""

    def __init__(self, kind: str, least: int) -> None:
        self.kind, self.least = kind, least

    def __call__(self) -> None:
        show = TrainingBar.show

        def watch(bar: TrainingBar, event: dict[str, Any]) -> None:
            if event["event"] == self.kind and event.get("step", event.get("done", 0)) >= self.least:
                os.kill(os.getpid(), signal.SIGKILL)
            show(bar, event)

        TrainingBar.show = watch  # type: ignore[method-assign]


class CountExchanges:
    """Makes a process write a line for each exchange of texts, and for each training step, into a file of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> None:
        from alexnet.training.parallel.text_exchange import TextExchange
        from alexnet.training.trainer import Trainer

        path = self.path.with_name(f"{self.path.name}-{os.environ['RANK']}")

        def counted(function: Callable[..., Any], line: str) -> Callable[..., Any]:
            def call(*arguments: Any) -> Any:
                with path.open("a") as file:
                    file.write(f"{line}\n")
                return function(*arguments)

            return call

        TextExchange.exchange = counted(TextExchange.exchange, "exchange")  # type: ignore[method-assign]
        Trainer._queue_step = counted(Trainer._queue_step, "step")  # type: ignore[method-assign]


# --- Looking ----------------------------------------------------------------------------------------------------------


def step_of(run: Path) -> int:
    """The step of last/, after checking every byte of last/ and best/; 0 if nothing was saved yet.

    Raises:
        ValueError: One of them cannot be read.
    """
    saved = [checkpoint.load(run / name, with_velocity=True) for name in ("best", "last")
             if (run / name / checkpoint.JSON_FILE).exists()]
    return saved[-1].training["step"] if saved and (run / "last" / checkpoint.JSON_FILE).exists() else 0


def counting(saved: Path) -> int:
    """The step of the valid checkpoint in a folder, which may be replaced at any moment; -1 if there is none."""
    try:
        return json.loads((saved / checkpoint.JSON_FILE).read_bytes())["training"]["step"]
    except FileNotFoundError:
        return -1


def half_saved(run: Path) -> bool:
    """Whether there are files of an unfinished save, newer than the valid checkpoint."""
    for saved in (run / "last", run / "best"):
        newest = max((int(file.name.split("-")[1]) for file in saved.glob("weights-*.safetensors")), default=-1)
        if newest > counting(saved) or any(saved.glob("*.new")):
            return True
    return False


def remains(run: Path) -> dict[str, bytes]:
    """Everything that a finished run writes, except what depends on time, on restarts or on the path of its data."""
    kept = {}
    for name in ("last", "best"):
        if not (run / name / checkpoint.JSON_FILE).exists():  # it has not come to the end of an epoch
            continue
        saved = checkpoint.load(run / name, with_velocity=True)
        for kind in ("weights", "velocity"):
            kept |= {f"{name}/{kind}/{key}": one.numpy().tobytes() for key, one in getattr(saved, kind).items()}
        kept[f"{name}/training"] = json.dumps([saved.training, saved.errors]).encode()
    timing = StepTiming.__annotations__
    events = [{key: value for key, value in event.items() if key not in timing and key != "remedy"}
              for event in logged(run) if event["event"] != "start"]
    return kept | {"log": json.dumps(events).encode()}


def differences(one: Path, other: Path) -> str:
    """What two runs wrote differently, by name, with the first event of the log that only one of them has."""
    a, b = remains(one), remains(other)
    names = sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
    events, others = (json.loads(each["log"]) for each in (a, b))
    only = [*(event for event in events if event not in others), *(event for event in others if event not in events)]
    return ", ".join(names) + f"; {json.dumps(only[0])[:300]}" * bool(only)


def differing_bits(one: Path, other: Path) -> tuple[int, int]:
    """How many bits of what two runs wrote differ, and how many bits there are."""
    a, b = remains(one), remains(other)
    differ = total = 0
    for key in a.keys() | b.keys():
        x, y = (np.frombuffer(each.get(key, b""), np.uint8) for each in (a, b))
        both = min(len(x), len(y))
        differ += int(np.unpackbits(x[:both] ^ y[:both]).sum()) + 8 * (max(len(x), len(y)) - both)
        total += 8 * max(len(x), len(y))
    return differ, total
