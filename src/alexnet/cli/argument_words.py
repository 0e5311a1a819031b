"""What is wrong with the words of a command that failed: a name with spaces without quotes, or DATA before RUN."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

RUN_FIRST = ("calibrate", "compare", "diagnose", "evaluate", "features", "map", "top-patches")
"""Commands that take runs or checkpoints, and then data."""

RUN_THEN_IMAGES = ("attribute", "neighbors", "predict")
"""Commands that take a run or checkpoint, and then images."""

_LONGEST_NAME = 12
"""Words of a name that are joined, so that a command with thousands of files does not search for long."""


def words_problem(arguments: Sequence[str]) -> str | None:
    """The sentence for a command whose words explain why it failed; None if they do not.

    Args:
        arguments: as typed, the command first.
    """
    return _unquoted_name(arguments) or _data_before_run(arguments) or _images_before_run(arguments)


def _unquoted_name(arguments: Sequence[str]) -> str | None:
    """The sentence for a file or folder whose name has spaces and was given as several words."""
    for start in range(1, len(arguments)):
        if _exists(arguments[start]):
            continue
        for end in range(start + 2, min(start + _LONGEST_NAME, len(arguments)) + 1):
            name = " ".join(arguments[start:end])
            if _exists(name):
                return (f"{arguments[start]} does not exist, but {name} does; "
                        f"put its name in quotes: {shlex.quote(name)}")
    return None


def _data_before_run(arguments: Sequence[str]) -> str | None:
    """The sentence for data that stands before the runs, with the command the right way round."""
    command, *rest = arguments or [""]
    words = list(takewhile(lambda word: not word.startswith("-"), rest))
    if command not in RUN_FIRST or len(words) < 2:
        return None
    from alexnet.cli.default_checkpoint import means_run
    from alexnet.data.sources.detect import NAMES

    data, *others = words
    runs = list(takewhile(means_run, others))
    if means_run(data) or not runs or not (_exists(data) or data in NAMES):
        return None
    return (f"{command} takes the run first, and then the data; write: "
            + shlex.join(["alexnet", command, *runs, data, *rest[1 + len(runs):]]))


def _images_before_run(arguments: Sequence[str]) -> str | None:
    """The sentence for images that stand before the run, with the command the right way round."""
    command, *rest = arguments or [""]
    words = list(takewhile(lambda word: not word.startswith("-"), rest))
    if command not in RUN_THEN_IMAGES or len(words) < 2:
        return None
    from alexnet.cli.default_checkpoint import means_run

    *images, run = words
    if not means_run(run) or any(means_run(image) or not _exists(image) for image in images):
        return None
    return (f"{command} takes the run first, and then the images; write: "
            + shlex.join(["alexnet", command, run, *images, *rest[len(words):]]))


def _exists(name: str) -> bool:
    """Whether a file or folder exists. Words joined may be longer than a file system's names, which is an OSError."""
    try:
        return Path(name).exists()
    except OSError:
        return False
