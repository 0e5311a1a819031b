"""The user's cache folder, where downloads, packed data sets, streamed shards and computed features are kept."""

from __future__ import annotations

import os
from pathlib import Path

from alexnet.errors import UserError


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/alexnet, or ~/.cache/alexnet. It may not exist yet.

    Raises:
        UserError: neither XDG_CACHE_HOME nor a home folder is known.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alexnet"
    except RuntimeError as error:  # such as in a container, for a user without an entry in /etc/passwd
        raise UserError("this user has no home folder for the cache", "set XDG_CACHE_HOME to a folder") from error


def size_text(size: int) -> str:
    """Bytes as "1.8 GB", "12 MB" or "4 kB"."""
    if size >= 1e9:
        return f"{size / 1e9:,.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{-(-size // 1000)} kB"
