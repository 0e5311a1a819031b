"""Local files and folders: refuse a URL in their place and a place that cannot be written, and name a closed folder."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from alexnet.errors import UserError, require


def require_no_url(path: Path | str, what: str) -> None:
    """Raise UserError for a URL, also for one that has lost a slash in a `Path`: `https:/host/file`.

    Args:
        what: the kind of file that is needed, in the plural.
    """
    if url := re.fullmatch(r"([a-z][a-z0-9]+):/+(.+)", str(path)):
        address = f"{url[1]}://{url[2]}"
        remedy = (f"download it as a checkpoint (alexnet import {address} OUT), and name OUT" if url[1] == "hf" else
                  f"download it (curl -LO {address}), and name the file")
        raise UserError(f"{address} is a URL, and {what} must be files or folders on this machine", remedy)


def is_writable(folder: Path) -> bool:
    """Whether files can be written into a folder, or it can be made: a file is made where it would be, and removed.

    The permissions alone do not tell: the superuser has them everywhere, in /proc too.
    """
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            return True
    except OSError:
        return False


def require_writable(out: Path, *, is_folder: bool) -> None:
    """Raise UserError for a file or folder that cannot be written where it is to be. Nothing is left there.

    To be called before anything that takes long.

    Args:
        out: what is to be written. It may exist.
        is_folder: whether this is a folder.
    """
    folder = out if is_folder else out.parent
    require(is_writable(folder), f"{out} cannot be written, as {_existing(folder)} is not a folder that you may write "
            "to", "name another place")


def _existing(folder: Path) -> Path:
    """The folder itself, or else the innermost of those around it that exists. It may be a file, or a broken link."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(each))


def closed_folder(path: Path) -> Path | None:
    """The outermost folder on the way to a path that this process may not enter; None if there is none.

    Args:
        path: of a file in the folder, which need not exist. Whether it does cannot be known then.
    """
    return next((folder for folder in reversed(path.absolute().parents)
                 if folder.is_dir() and not os.access(folder, os.X_OK)), None)
