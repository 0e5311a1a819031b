"""List the files under a folder or in an archive (`FileTree`), each once: junk, dangling links and loops are named.

`FolderTree` is a folder on disk; archives have trees of their own. layout.py understands the list and opens no file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from alexnet.data.dataset import FileImage, SourceImage
from alexnet.errors import UserError, require

_JUNK_FOLDERS = {
    "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "recycler",
    "@tmp", "@__thumb", "@synoresource", "_gsdata_", "system volume information", "lost+found", "found.000",
    "network trash folder", "temporary items", "ipod photo cache", "node_modules", "site-packages", "venv", "wandb",
    "mlruns", "lightning_logs"}
"""Names in lower case: folders that Synology, QNAP and GoodSync, Windows, macOS, Linux, package managers and experiment
trackers make."""

_JUNK_ENDINGS = (".photoslibrary", ".photolibrary", ".aplibrary", ".lrdata")
"""Of folders in which Apple Photos, iPhoto, Aperture and Lightroom keep images and previews."""

_JUNK_FILES = {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "picasa.ini"}
"""Names in lower case: files that Windows, macOS and Picasa make."""


class FileTree(Protocol):
    """Files under a root: a folder or an archive, listed once. Its files are opened in place when they are needed."""

    @property
    def name(self) -> str:
        """Name of the root, which becomes the name of the data set."""

    @property
    def source(self) -> str:
        """The root as a user knows it, such as an absolute path."""

    @property
    def files(self) -> tuple[str, ...]:
        """All files, hidden ones included, as sorted posix paths relative to the root."""

    @property
    def folders(self) -> tuple[str, ...]:
        """All folders below the root, empty ones included, as sorted posix paths relative to it."""

    @property
    def skipped(self) -> Mapping[str, str]:
        """Entries that are not listed, such as dangling links and unreadable folders: relative path -> the reason.

        Paths of folders end in a slash.
        """

    def read(self, file: str) -> bytes:
        """The contents of one of `files`."""

    def image(self, file: str, label: int) -> SourceImage:
        """One of `files` as an image of the class with this label; its `name` is `file`."""


class FolderTree:
    """A folder on disk. Links are followed; hidden and system folders are listed in `folders` and not entered."""

    def __init__(self, root: str | Path) -> None:
        """List the folder. Raises UserError if it cannot be read."""
        self.root = Path(root)
        resolved = self.root.resolve()
        self.name, self.source = resolved.name, str(resolved)
        files: list[str] = []
        folders: list[str] = []
        self.skipped: dict[str, str] = {}
        for relative in _walk(self.root, files, self.skipped):
            folders.append(relative)
        self.files, self.folders = tuple(sorted(files)), tuple(sorted(folders))

    def read(self, file: str) -> bytes:
        return (self.root / file).read_bytes()

    def image(self, file: str, label: int) -> FileImage:
        return FileImage(file, label, self.root)


def _walk(root: Path, files: list[str], skipped: dict[str, str]) -> Iterator[str]:
    """Yield the folders below `root`; append its files to `files`, and what cannot be listed to `skipped`."""
    pending = [""]
    while pending:
        folder = pending.pop()
        prefix = f"{folder}/" if folder else ""
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    path = f"{prefix}{entry.name}"
                    if reason := _reason_to_skip(entry, root, path):
                        skipped[path] = reason
                    elif entry.is_file():
                        files.append(path)
                    else:
                        yield path
                        if not is_junk_folder(entry.name):
                            pending.append(path)
        except OSError as error:
            if not folder:
                raise UserError(f"{root} cannot be listed: {error.strerror or error}",
                                "check the name and its permissions") from error
            skipped[f"{folder}/"] = f"cannot be listed: {error.strerror or error}"


def _reason_to_skip(entry: os.DirEntry[str], root: Path, path: str) -> str | None:
    """Why an entry is neither a file nor a folder to enter; None for files and folders."""
    try:
        if entry.is_file():
            return None
        if not entry.is_dir():
            return "link to nothing" if entry.is_symlink() else "neither a file nor a folder"
    except OSError as error:  # two links that point to each other
        return f"link that cannot be followed: {error.strerror or error}"
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        above = [root, *((root / path).parents[: path.count("/")])]
        if target in {os.path.realpath(folder) for folder in above}:
            return "link to a folder that contains it"
    return None


def is_junk_folder(name: str) -> bool:
    """Whether a folder of this name is hidden, or made by a system or a program: its images belong to no class."""
    lower = name.lower()
    return name.startswith((".", "__")) or lower in _JUNK_FOLDERS or lower.endswith(_JUNK_ENDINGS)


def is_junk_file(name: str) -> bool:
    """Whether a file of this name is hidden, or made by an operating system."""
    return name.startswith(".") or name.lower() in _JUNK_FILES


# --- The list as nested folders ---------------------------------------------------------------------------------------


DEEPEST = 200
"""Folders inside each other. Deeper paths are refused: only a damaged or hostile archive has them."""


@dataclass(slots=True)
class Folder:
    """A folder of a tree, with the folders in it."""

    path: str
    """Relative to the root of the tree; "" for the root itself."""
    folders: dict[str, Folder] = field(default_factory=dict)
    """By name, in sorted order."""
    files: list[str] = field(default_factory=list)
    """The files directly inside, as paths relative to the root of the tree, sorted."""

    @property
    def name(self) -> str:
        """Last part of the path; "" for the root."""
        return self.path.rpartition("/")[2]

    def all_files(self) -> Iterator[str]:
        """The files inside, at any depth: those directly inside first, then those of each folder."""
        yield from self.files
        for folder in self.folders.values():
            yield from folder.all_files()


def nest(tree: FileTree) -> Folder:
    """The root of the tree with everything below it. Raises UserError for more than DEEPEST levels."""
    root = Folder("")
    known = {"": root}

    def add(path: str) -> Folder:
        if path not in known:
            require(path.count("/") < DEEPEST, f"{tree.source} has more than {DEEPEST} folders inside each other",
                    "move the images into fewer levels of folders")
            above, _, name = path.rpartition("/")
            known[path] = add(above).folders[name] = Folder(path)
        return known[path]

    for path in tree.folders:
        add(path)
    for file in tree.files:
        add(file.rpartition("/")[0]).files.append(file)
    for folder in known.values():
        folder.folders = dict(sorted(folder.folders.items()))
    return root
