"""Atomic file writes: write a temporary file beside the target, then rename it over the target."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from alexnet.errors import require


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Replace `path` by the file that `write` makes; a failed or interrupted write leaves `path` unchanged.

    Args:
        path: the target. Its folder is created if necessary.
        write: called with the path of the temporary file, `path`.new.

    Raises:
        UserError: `path` is a folder, a pipe or a device. A rename would replace /dev/null for the whole machine.
        OSError: with the file's name, where the disk is full or read-only. The temporary file is deleted.
    """
    require(path.is_file() or not path.exists(), f"{path} exists and is not a file", "name another file to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    try:
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        # A failed write() names no file, a failed open() names the temporary one.
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def require_text_name(path: Path) -> None:
    """Raise UserError for a name that is not UTF-8, where a library that takes names as text writes the file."""
    require(not any("\udc80" <= character <= "\udcff" for character in str(path)),
            f"the name {path} is not UTF-8, so it cannot be written", "choose another name")


def replace_durably(path: Path, data: bytes) -> None:
    """Replace `path` by a file with these bytes, which are flushed to the disk before the rename."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    replace_file(path, write)
