"""The user's cache folder, where downloads, packed data sets, streamed shards and computed features are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/alexnet, or ~/.cache/alexnet. It may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alexnet"


def is_writable(folder: Path) -> bool:
    """Whether files can be written into a folder, or into the folder that exists and that it would be made in."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    return existing.is_dir() and os.access(existing, os.W_OK)


def size_text(size: int) -> str:
    """Bytes as "1.8 GB", "12 MB" or "4 kB"."""
    if size >= 1e9:
        return f"{size / 1e9:,.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{-(-size // 1000)} kB"
