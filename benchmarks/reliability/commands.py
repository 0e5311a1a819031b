"""Run the `alexnet` command hundreds of times, each in a fork of a process that has already imported torch.

A crash or a forbidden read stays in the fork, and a command takes a tenth of a second.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

SMALL = ["--arch", "small", "--set", "arch.input.side=32", "--set", "arch.input.crop=28", "--set", "arch.conv.width=8",
         "--set", "arch.dense.width=16", "--set", "recipe.batch_size=16", "--device", "cpu", "--precision", "fp32"]
"""Options of `train` for a network that takes an epoch of 40 images in no time."""

SECONDS = 120
"""After which a command is taken to hang, and killed."""


@dataclass(frozen=True)
class Outcome:
    """What became of a command."""

    code: int
    """Its exit code; below 0, the signal that ended it."""
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        """The sentences that it ended with."""
        return [line for line in self.err.splitlines() if line.startswith("alexnet: ")]

    def refuses(self, *words: object) -> bool:
        """Whether it is a refusal as it should be: exit code 2, one sentence with those words, no traceback."""
        return (self.code == 2 and len(self.said) == 1 and "Traceback" not in self.err
                and all(str(word) in self.said[0] for word in words))


class Commands:
    """`with Commands() as alexnet: alexnet("predict", run, photo)`."""

    def __init__(self, prefix: Sequence[str] = (), environment: dict[str, str] | None = None) -> None:
        self.start = [*prefix, sys.executable, __file__]
        self.environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | (environment or {})

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(self.start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=self.environment)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]

    def __call__(self, *arguments: object, first: str = "") -> Outcome:
        """Run a command. first: Python to run before it, in its own process, such as a limit."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([[*map(str, arguments)], first]) + "\n")
        self.process.stdin.flush()
        return Outcome(**json.loads(self.process.stdout.readline()))


def _serve(run: Callable[[list[str]], None]) -> None:
    for line in sys.stdin:
        arguments, first = json.loads(line)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            if (child := os.fork()) == 0:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                exec(first, {})
                sys.argv[1:] = arguments
                run(arguments)
                sys.exit(0)
            code = _ended(child)
            texts = [file.seek(0) or file.read().decode(errors="replace") for file in (out, err)]
        print(json.dumps({"code": code, "out": texts[0], "err": texts[1]}), flush=True)


def _ended(child: int) -> int:
    deadline = time.monotonic() + SECONDS
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


if __name__ == "__main__":
    import alexnet.training.trainer  # noqa: F401  # torch, and all else that a command would import anew each time
    from alexnet.cli.main import main

    _serve(main)
