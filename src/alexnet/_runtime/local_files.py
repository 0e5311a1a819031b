"""Refuse a URL where a local file or folder is needed, such as a checkpoint, and say how to download it."""

from __future__ import annotations

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
