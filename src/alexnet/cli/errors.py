"""Exceptions -> one sentence and an exit code: 2 for a user's mistake, 128 + N for signal N, 1 for a lost process."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclopts import CoercionError, CycloptsError, UnknownOptionError, UnusedCliTokensError

from alexnet._runtime.local_files import closed_folder
from alexnet.cli.argument_words import words_problem
from alexnet.errors import UserError, closest_match

BROKEN_PIPE = 141
"""Exit code where the reader of standard output has closed it, as `| head` does: 128 + SIGPIPE."""

_SAME_AS = {
    "--learning-rate": "--lr", "--rate": "--lr", "--bs": "--batch-size", "--wd": "--weight-decay",
    "--network": "--arch", "--model": "--arch", "--output": "--out", "--gpu": "--device cuda",
    "--cuda": "--device cuda",
    "--checkpoint": "--init", "--pretrained": "--init torchvision",
}
"""Options as other programs call them, where ours have another name."""

_OTHER_COMMAND = {
    ("train", "--held-out"): "alexnet pack DATA PACKED --held-out 0.2, then alexnet train PACKED",
}
"""Options that only another command has: command and option -> the lines that do what is meant."""


_NUMBERS: dict[type | None, str] = {int: "a whole number, such as 20", float: "a number, such as 0.5"}
"""What an option of each type takes."""


@dataclass(frozen=True)
class Failure:
    """What the command prints on standard error, and its exit code."""

    sentence: str
    exit_code: int
    every_rank: bool = True
    """Under torchrun: whether each process prints it, or rank 0 alone."""


def failure(error: BaseException, arguments: Sequence[str] = ()) -> Failure | None:
    """The sentence and exit code for an exception that a user can cause; None for a fault of the program.

    Args:
        error: what the command raised.
        arguments: of the command line, the command first.
    """
    if isinstance(error, UserError | UnusedCliTokensError) and (sentence := words_problem(arguments)):
        return Failure(sentence, 2)
    if isinstance(error, CycloptsError):
        return Failure(_usage(error), 2)
    if isinstance(error, OSError):
        return Failure(_file_problem(error), 2)
    if isinstance(error, ValueError):  # UserError, and what libraries raise about a user's input
        return Failure(_one_line(error), 2)
    # The trainer's Interrupted and the process group's PeerLostError: recognized by their attribute, because importing
    # them would import torch.
    exit_code = getattr(error, "exit_code", None)
    return None if exit_code is None else Failure(_one_line(error), exit_code, every_rank=exit_code == 1)


def _usage(error: CycloptsError) -> str:
    command = " ".join(("alexnet", *(error.command_chain or ())))
    sentence = _plain_usage(error, command) or _one_line(error)
    option = error.token.keyword or error.token.value if isinstance(error, UnknownOptionError) else ""
    other = _OTHER_COMMAND.get(((error.command_chain or ("",))[-1], option.partition("=")[0]))
    if other:
        sentence = f"{sentence.partition(' Did you mean')[0]} Did you mean {other}?"
    elif isinstance(error, UnknownOptionError) and "Did you mean" not in sentence:
        known = {name for argument in error.argument_collection for name in argument.names}
        meant = _SAME_AS.get(option, "")
        if meant.split(" ")[0] in known or (meant := closest_match(option, known) or ""):
            sentence = f"{sentence} Did you mean {meant}?"
    return f"{sentence}  ({command} --help lists what there is)"


def _plain_usage(error: CycloptsError, command: str) -> str:
    """A sentence for an error whose own one names types of Python or tokens; "" for the others."""
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return (f"{command} takes no further argument, and got {' '.join(error.unused_tokens)}; leave that out, or put "
                "a name that has spaces in quotes")
    if isinstance(error, CoercionError) and error.token and error.msg is None and error.target_type in _NUMBERS:
        name = error.token.keyword or (error.argument.name.upper() if error.argument else "")
        return f"{name} must be {_NUMBERS[error.target_type]}, and is {error.token.value!r}".lstrip()
    return ""


def _file_problem(error: OSError) -> str:
    """The operating system's message with the file and a remedy."""
    if error.strerror is None:
        return _one_line(error)
    remedy = "make room on the disk" if error.errno == errno.ENOSPC else "check the name and its permissions"
    if error.filename is None:
        return f"{error.strerror.lower()}; {remedy}"
    if isinstance(error, PermissionError) and (closed := closed_folder(Path(os.fsdecode(error.filename)))):
        return (f"this user may not enter the folder {closed} ({error.strerror.lower()}); its owner can allow it: "
                f"chmod a+rX {shlex.quote(str(closed))}, with -R for all that is in it")
    return f"{error.filename} cannot be read or written ({error.strerror.lower()}); {remedy}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
