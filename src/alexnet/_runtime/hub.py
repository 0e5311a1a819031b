"""Hugging Face Hub: download of a model's files into the cache of huggingface_hub, and upload by this library.

The library finds the access token (HF_TOKEN, or what `hf auth login` stored), the host (HF_ENDPOINT) and its cache
(HF_HUB_CACHE).
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.download import STALL_SECONDS, Download, fetch
from alexnet._runtime.extras import install_line
from alexnet._runtime.hub_address import HubAddress
from alexnet._runtime.hub_errors import LOG_IN, HubUnreachableError, NoRepositoryError, user_errors
from alexnet._runtime.hub_requests import open_hub_url
from alexnet._runtime.notes import say
from alexnet._runtime.progress import Bar
from alexnet._runtime.transfer import Answer, Pace, read_all, receiving
from alexnet.errors import UserError, require

if TYPE_CHECKING:
    from huggingface_hub import HfApi


_INFO_BYTES = 64_000_000
"""Of what the hub says about a repository: one of 100,000 files takes 30 MB."""

_SHOWN_BYTES = 10_000_000
"""A larger download has a progress bar."""


@dataclass(frozen=True)
class Repository:
    """A model repository at one commit.

    Attributes:
        sizes: bytes of its files, by name.
        is_reachable: False: the hub did not answer, and this is what the cache has.
    """

    address: HubAddress
    commit: str
    sizes: Mapping[str, int]
    is_private: bool
    is_reachable: bool

    def require_size(self, file: str, limit: int) -> None:
        """Raise UserError if the hub states more than `limit` bytes for a file, before it is downloaded."""
        size = self.sizes.get(file, 0)
        require(size <= limit, f"{file} of {self.address} has {size:,} bytes, more than {limit:,}",
                "name a repository that `alexnet export RUN hf://USER/NAME` wrote")

    def fetch(self, file: str, limit: int, checksum: str = "", *, again: bool = False) -> Path:
        """Download a file into the library's cache, unless it is there.

        The library is not asked to do it: it would write all that a server sends to the disk before it compares sizes.

        Args:
            limit: bytes that it may have. No more than these, or than the hub states, are received.
            checksum: its SHA-256 in hexadecimal digits, which a download must have; "": unknown.
            again: download it although it is there.

        Returns:
            The path in the cache.

        Raises:
            UserError: it is not there, it is too large, or the download fails.
            ChecksumError: the downloaded file has another checksum.
        """
        self.require_size(file, limit)
        path = self._snapshot / file
        if again:
            with _place_errors(self._folder):
                for damaged in (path.resolve(), path):
                    damaged.unlink(missing_ok=True)
        elif path.is_file():
            size = path.stat().st_size
            require(size <= limit, f"{path} has {size:,} bytes, more than {limit:,}", "delete it")
            return path
        stated = self.sizes.get(file) or None
        source = Download(
            f"{hub_api().endpoint}/{self.address.repository}/resolve/{self.commit}/{file}",
            f"sha256:{checksum}" if checksum else "", stated or limit, size=stated,
            remedy="run the command again; what arrived is used", folder_variable="HF_HUB_CACHE")
        # As the library does it: blobs have the names of their checksums, and several commits may share one.
        blob = self._folder / "blobs" / (checksum or f"{self.commit}-{file}")
        shown = Bar(f"fetching {file} of {self.address}", "bytes") if source.limit > _SHOWN_BYTES else nullcontext()
        with shown as bar:
            fetch(source, blob, bar, partial(_open, self.address, source.url))
        with _place_errors(self._folder):
            _link(path, blob)
        return path

    def remember(self) -> None:
        """Note that the cache has all files of this commit, for commands without a connection."""
        revision = PurePosixPath(self.address.revision)
        if revision.is_absolute() or ".." in revision.parts or str(revision) == self.commit:
            return
        with suppress(OSError, UserError):  # a cache that is read-only and complete is used all the same
            replace_file(self._folder / "refs" / revision, lambda path: path.write_text(self.commit, "utf-8"))

    @property
    def _folder(self) -> Path:
        return Path(_cache_folder(), f"models--{self.address.repository.replace('/', '--')}")

    @property
    def _snapshot(self) -> Path:
        return self._folder / "snapshots" / self.commit


def _link(path: Path, blob: Path) -> None:
    """Make `path` a symbolic link to a file in the folder blobs. Other processes may do so at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    link = blob.with_name(f"{blob.name}.{uuid.uuid4().hex[:8]}.link")
    try:
        link.symlink_to(Path("..", "..", "blobs", blob.name))  # from where it is moved to
        link.replace(path)
    except OSError:  # a file system, or a user of Windows, without symbolic links
        link.unlink(missing_ok=True)
        if not path.is_file():
            blob.replace(path)


@contextmanager
def _place_errors(folder: Path) -> Iterator[None]:
    """Say in a sentence that the cache cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({str(error.strerror).lower()})",
                        "make it writable, or set HF_HUB_CACHE to a folder that is") from error


@contextmanager
def _open(address: HubAddress, url: str, start: int) -> Iterator[Answer]:
    """Request a URL of the hub; errors, also of the blocks, are of this package."""
    with user_errors(address), open_hub_url(url, start) as answer:
        yield answer


def hub_api() -> HfApi:
    """The library's client.

    Raises:
        UserError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise UserError("the Hugging Face Hub needs huggingface_hub", install_line("hub")) from error
    return HfApi(library_name="alexnet")


def find_repository(address: HubAddress) -> Repository | None:
    """The repository as the hub has it; None if there is none, or the token may not see it.

    Raises:
        HubUnreachableError, UserError: the hub does not answer, or refuses.
    """
    api = hub_api()
    url = f"{api.endpoint}/api/models/{address.repository}/revision/{quote(address.revision, safe='')}?blobs=true"
    try:
        with user_errors(address), receiving(partial(_open, address, url, 0)) as answer:
            content = read_all(answer, _INFO_BYTES, Pace(STALL_SECONDS))
    except NoRepositoryError:
        return None
    require(content is not None, f"the hub at {api.endpoint} sends more than {_INFO_BYTES:,} bytes about {address}",
            "name another repository")
    try:
        info = json.loads(content or b"")
        sizes = {str(file["rfilename"]): max(0, int(file.get("size") or 0)) for file in info.get("siblings") or ()}
        commit = str(info["sha"])
        if not re.fullmatch("[0-9a-f]{40,64}", commit):  # it becomes the name of a folder
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{api.endpoint} does not answer as a hub does about {address}", "check HF_ENDPOINT") from error
    return Repository(address, commit, sizes, bool(info.get("private")), is_reachable=True)


def open_repository(address: HubAddress, files: Mapping[str, int]) -> Repository:
    """A repository to download from. Says on standard error which commit it is, and where its files are.

    If the hub does not answer, the files in the cache are used, and the reason is printed.

    Args:
        files: that are needed, and the bytes that each may have.

    Raises:
        UserError: there is no such repository or revision, or it lacks one of `files`, or one is too large.
    """
    api, cache = hub_api(), _cache_folder()
    try:
        found = find_repository(address)
    except HubUnreachableError as error:
        found = _cached_repository(address, list(files))
        if found is None:
            raise
        say(f"note: {error.problem}; using commit {found.commit[:12]} of the cache, {cache}")
        return found
    if found is None:
        raise UserError(f"the hub at {api.endpoint} has no {address}, or it is private and you may not read it",
                        f"check the name; for a private one, {LOG_IN}")
    missing = [file for file in files if file not in found.sizes]
    require(not missing, f"{address} holds no network of this package: it lacks {', '.join(missing)}",
            "name a repository that `alexnet export RUN hf://USER/NAME` wrote")
    for file, limit in files.items():
        found.require_size(file, limit)
    size = sum(found.sizes[file] for file in files) / 1e6
    is_cached = _cached_repository(HubAddress(address.repository, found.commit), list(files)) is not None
    say(f"{address}: commit {found.commit[:12]}, {'in the cache' if is_cached else f'downloading {size:.1f} MB to'} "
        f"{cache}")
    return found


def _cache_folder() -> str:
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


def _cached_repository(address: HubAddress, files: Sequence[str]) -> Repository | None:
    """What the library's cache has of a repository; None unless all files are there."""
    from huggingface_hub import try_to_load_from_cache

    paths = [try_to_load_from_cache(address.repository, file, revision=address.revision) for file in files]
    found = [Path(path) for path in paths if isinstance(path, str)]
    if len(found) < len(files):
        return None
    sizes = {path.name: path.stat().st_size for path in found}
    return Repository(address, found[0].parent.name, sizes, is_private=False, is_reachable=False)


# --- Upload -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Commit:
    """A commit on the hub that has the uploaded files."""

    sha: str
    url: str
    is_private: bool


def require_token() -> None:
    """Raise UserError where no access token is stored, without a request."""
    hub_api()
    from huggingface_hub import get_token

    require(get_token() is not None, "an upload to the Hugging Face Hub needs an access token",
            f"make one with write permission at https://huggingface.co/settings/tokens, then {LOG_IN}")


def upload(
    address: HubAddress, files: Mapping[str, bytes], message: str, existing: Repository | None, private: bool,
) -> Commit:
    """Upload files in one commit, to a new repository or on top of the commit of `existing`.

    Args:
        message: the commit's first line.
        private: make a new repository private; default: as the owner's account does.

    Raises:
        UserError: the hub refuses, or does not answer. It says what is then on the hub.
    """
    api = hub_api()
    from huggingface_hub import CommitOperationAdd

    state = f"nothing of {address} changed"
    if existing is None:
        with user_errors(address):
            api.create_repo(address.repository, private=private or None)
        existing, state = find_repository(address), f"{address} was created, and is empty"
        require(existing is not None, f"{address} was created, but the hub does not show it", "run the command again")
    assert existing is not None
    with user_errors(address, f"{state}, unless {api.endpoint}/{address.repository}/commits/main says otherwise"):
        commit = api.create_commit(
            address.repository, [CommitOperationAdd(name, data) for name, data in files.items()],
            commit_message=message, parent_commit=existing.commit)
    return Commit(commit.oid, commit.commit_url, existing.is_private)
