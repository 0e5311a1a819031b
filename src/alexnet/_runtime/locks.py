"""A file lock between processes and threads: fcntl on Linux and macOS, msvcrt on Windows.

The operating system releases the lock when its process ends, however it ends. A lock file that a killed process
leaves behind therefore blocks no other process.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_POLL_SECONDS = 0.1
"""Windows: how often a waiting process tries again."""


@contextlib.contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock for the `with` block; the lock file is created for it and removed afterwards.

    Args:
        path: the lock file. Nothing else may be stored under this name.
        wait: whether to wait for another holder to finish.

    Yields:
        False if `wait` is False and another process or thread holds the lock, else True. Also True, without a lock,
        where the file system has no locks (some network file systems) or is read-only.
    """
    while True:
        if (file := _open(path)) is None:
            yield True
            return
        with file:
            if not _acquire(file, wait):
                yield False
                return
            if not _has_name(file, path):  # the previous holder has removed this file
                continue
            try:
                yield True
            finally:
                with contextlib.suppress(OSError):
                    path.unlink()
        if sys.platform == "win32":  # where an open file cannot be removed
            with contextlib.suppress(OSError):
                path.unlink()
        return


def _open(path: Path) -> IO[bytes] | None:
    """The lock file, created if necessary; None where the folder cannot be written."""
    try:
        return path.open("ab")
    except OSError:
        return None


def _acquire(file: IO[bytes], wait: bool) -> bool:
    """Lock the open file. Returns False if it is locked already and `wait` is False."""
    if sys.platform == "win32":
        import msvcrt

        while True:
            file.seek(0)
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                return True
            except OSError:
                if not wait:
                    return False
                time.sleep(_POLL_SECONDS)
    else:
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError:  # no locks on this file system
            pass
        return True


def _has_name(file: IO[bytes], path: Path) -> bool:
    """Whether the open file is still the one that `path` names."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
