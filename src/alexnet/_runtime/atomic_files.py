"""A file is there whole, or as it was before: written beside its place, and put there in one step."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make the file beside `path`, and put it there when it is whole.

    Raises OSError with the file's name and nothing left of it, where the disk is full or may not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.new")
    try:
        write(unfinished)
        unfinished.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a write does not say to which file
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def replace_durably(path: Path, data: bytes) -> None:
    """As `replace_file`, with these bytes, and flushed to the disk before they get their name."""

    def write(unfinished: Path) -> None:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    replace_file(path, write)
