"""Local files and folders: refuse a URL where one is needed, and name a folder that this user may not enter."""

from __future__ import annotations

import os
import re
from pathlib import Path

from alexnet.errors import UserError


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


def closed_folder(path: Path) -> Path | None:
    """The outermost folder on the way to a path that this process may not enter; None if there is none.

    Args:
        path: of a file in the folder, which need not exist. Whether it does cannot be known then.
    """
    return next((folder for folder in reversed(path.absolute().parents)
                 if folder.is_dir() and not os.access(folder, os.X_OK)), None)
