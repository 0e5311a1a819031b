"""Notes for the user on standard error. Under torchrun only rank 0 prints them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable


def say(line: str) -> None:
    """Print a line on standard error, except on ranks other than 0: they would repeat it."""
    if is_rank0():
        print(line, file=sys.stderr, flush=True)


def unless_closed(say: Callable[[str], object]) -> Callable[[str], None]:
    """A function that prints a line by `say`, or does nothing where the terminal or the pipe has been closed.

    For a server: it continues without its terminal.
    """
    def say_unless_closed(line: str) -> None:
        with contextlib.suppress(OSError):
            say(line)

    return say_unless_closed


def silent(line: object) -> None:
    """Print nothing: what a function calls instead of `say` where the user wants no notes."""


def is_launched() -> bool:
    """Whether torchrun, or another launcher that sets its variables, started this process as one of several."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def launcher() -> list[str]:
    """The words before `alexnet` that start as many processes on one machine; none for a single process."""
    return ["torchrun", "--nproc-per-node", os.environ["WORLD_SIZE"], "-m"] if is_launched() else []


def is_rank0() -> bool:
    """Whether this process is the only one, or rank 0 of the processes that torchrun started."""
    return not is_launched() or os.environ.get("RANK", "0") == "0"
