"""A file lock between processes and threads, on every operating system, by the library filelock.

The operating system releases the lock when its process ends, however it ends. A lock file that a killed process
leaves behind therefore blocks no other process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_POLL_SECONDS = 0.05
"""How often a waiting process tries again."""

_ATTEMPTS = 20
"""To lock a file whose folder others remove."""


@contextlib.contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock for the `with` block; the lock file is created for it and removed afterwards.

    Args:
        path: the lock file. Nothing else may be stored under this name.
        wait: whether to wait for another holder to finish.

    Yields:
        False if `wait` is False and another process or thread holds the lock, else True. Also True, without a lock,
        where the file system has no locks (some network file systems) or is read-only. If the folder is removed
        while this process waits, it is made again, and the lock is held in the new one.
    """
    lock = FileLock(path, fallback_to_soft=False)  # a soft lock would outlive a killed process
    try:
        _acquire(lock, -1 if wait else 0)
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError):
        yield True
        return
    held = None
    with contextlib.suppress(OSError):
        held = path.stat()
    try:
        yield True
    finally:
        # Removed while it is locked: a process that waits for this file notices, and makes a new one. Where the folder
        # was renamed or removed meanwhile, a file of this name may be the lock of another process.
        with contextlib.suppress(OSError):
            if held is not None and os.path.samestat(held, path.stat()):
                path.unlink()
        lock.release()  # Windows removes no open file; there, filelock removes it now


def _acquire(lock: FileLock, timeout: float) -> None:
    """Acquire the lock; makes its folder.

    The folder may be removed after it was made and before the file is: that must not count as a file system without
    locks, so it is tried again.
    """
    for attempt in range(_ATTEMPTS):
        try:
            lock.acquire(timeout=timeout, poll_interval=_POLL_SECONDS)
            return
        except FileNotFoundError:
            if attempt == _ATTEMPTS - 1:
                raise
