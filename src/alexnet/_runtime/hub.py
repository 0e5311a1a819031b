"""Hugging Face Hub: addresses (hf://USER/NAME), and download and upload of a model's files, by huggingface_hub.

The library finds the access token (HF_TOKEN, or what `hf auth login` stored), the host (HF_ENDPOINT) and its cache
(HF_HUB_CACHE). The token is not read here, except to keep it out of messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet._runtime.extras import install_line
from alexnet._runtime.notes import say
from alexnet.errors import UserError, require

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_ADDRESS = re.compile(r"hf:/+([\w.-]+/[\w.-]+)(?:@(\S+))?", re.ASCII)
"""A `Path` of an address has lost one of its slashes."""

_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


class HubUnreachableError(UserError):
    """The hub does not answer, or fails: the same request may succeed later."""


@dataclass(frozen=True)
class HubAddress:
    """A model repository, and one revision of it."""

    repository: str
    """USER/NAME, or ORGANIZATION/NAME."""
    revision: str = "main"
    """A branch, a tag or a commit."""

    def __str__(self) -> str:
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision != "main" else "")


def is_hub_address(name: str | Path) -> bool:
    return str(name).startswith("hf:/")


def parse_hub_address(name: str | Path) -> HubAddress:
    """The address in a text such as hf://USER/NAME@REVISION.

    Raises:
        UserError: the text has another form.
    """
    found = _ADDRESS.fullmatch(str(name))
    if not found:
        raise UserError(f"{name} does not name a model on the Hugging Face Hub",
                        "write hf://USER/NAME, or hf://USER/NAME@REVISION")
    return HubAddress(found[1], found[2] or "main")


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

    def fetch(self, file: str, *, again: bool = False) -> Path:
        """Download a file into the library's cache, unless it is there.

        Args:
            again: download it although it is there.

        Returns:
            The path in the cache.

        Raises:
            UserError: it is not there, or the download fails.
        """
        with _user_errors(self.address):
            path = Path(hub_api().hf_hub_download(
                self.address.repository, file, revision=self.address.revision, force_download=again,
                local_files_only=not self.is_reachable))
        require(path.parent.name == self.commit, f"{self.address} got a new commit during the download",
                "run the command again")
        return path


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
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    with _user_errors(address):
        try:
            info = api.model_info(address.repository, revision=address.revision, files_metadata=True)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return None
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    return Repository(address, str(info.sha), sizes, bool(info.private), is_reachable=True)


def open_repository(address: HubAddress, files: Sequence[str]) -> Repository:
    """A repository to download from. Says on standard error which commit it is, and where its files are.

    If the hub does not answer, the files in the cache are used, and the reason is printed.

    Raises:
        UserError: there is no such repository or revision, or it lacks one of `files`.
    """
    api, cache = hub_api(), _cache_folder()
    try:
        found = find_repository(address)
    except HubUnreachableError as error:
        found = _cached_repository(address, files)
        if found is None:
            raise
        say(f"note: {error.problem}; using commit {found.commit[:12]} of the cache, {cache}")
        return found
    if found is None:
        raise UserError(f"the hub at {api.endpoint} has no {address}, or it is private and you may not read it",
                        f"check the name; for a private one, {_LOG_IN}")
    missing = [file for file in files if file not in found.sizes]
    require(not missing, f"{address} holds no network of this package: it lacks {', '.join(missing)}",
            "name a repository that `alexnet export RUN hf://USER/NAME` wrote")
    size = sum(found.sizes[file] for file in files) / 1e6
    is_cached = _cached_repository(HubAddress(address.repository, found.commit), files) is not None
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
            f"make one with write permission at https://huggingface.co/settings/tokens, then {_LOG_IN}")


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
        with _user_errors(address):
            api.create_repo(address.repository, private=private or None)
        existing, state = find_repository(address), f"{address} was created, and is empty"
        require(existing is not None, f"{address} was created, but the hub does not show it", "run the command again")
    assert existing is not None
    with _user_errors(address, f"{state}, unless {api.endpoint}/{address.repository}/commits/main says otherwise"):
        commit = api.create_commit(
            address.repository, [CommitOperationAdd(name, data) for name, data in files.items()],
            commit_message=message, parent_commit=existing.commit)
    return Commit(commit.oid, commit.commit_url, existing.is_private)


# --- Errors -----------------------------------------------------------------------------------------------------------


@contextmanager
def _user_errors(address: HubAddress, state: str = "") -> Iterator[None]:
    """Raise what huggingface_hub raises as a UserError.

    Args:
        state: what is on the hub if the block fails; default: what was there before.
    """
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.errno is not None:  # of a file here, such as a full disk
            raise
        raise _user_error(error, address, state) from error
    except Exception as error:  # httpx's, those of hf_xet, and what the library raises about an answer
        raise _user_error(error, address, state) from error


def _user_error(error: Exception, address: HubAddress, state: str) -> UserError:
    from huggingface_hub import constants, errors

    # The library wraps errors of its threads, and those for which it looked into its cache.
    while isinstance(error, RuntimeError | errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    kind, hub, again = UserError, f"the hub at {constants.ENDPOINT}", "try again later"
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
    match error:
        case errors.GatedRepoError():
            problem, remedy = f"{address} is gated", f"ask for access on its page, and {_LOG_IN}"
        case errors.RepositoryNotFoundError():
            problem, remedy = f"{hub} has no {address}, or it is private and you may not read it", _LOG_IN
        case errors.RevisionNotFoundError():
            problem, remedy = f"{address} does not exist: the repository has no such revision", (
                "name a branch, a tag or a commit of it")
        case errors.OfflineModeIsEnabled():
            kind, problem, remedy = HubUnreachableError, f"{address} needs a connection, and HF_HUB_OFFLINE is set", (
                "unset it")
        case errors.HfHubHTTPError() if status == 401:
            problem, remedy = f"{hub} rejects your access token", f"make a new one, and {_LOG_IN}"
        case errors.HfHubHTTPError() if status == 403:
            problem = f"{hub} does not permit this for {address}{_answer(error)}"
            remedy = "check the user name, and use a token with write permission for it"
        case errors.HfHubHTTPError() if status in (409, 412):
            problem, remedy = f"{address} was changed at the same time{_answer(error)}", "run the command again"
        case errors.HfHubHTTPError():
            kind = HubUnreachableError if status == 429 or status >= 500 else UserError
            problem, remedy = f"{hub} answers {status} about {address}{_answer(error)}", again
        case errors.HTTPError():  # of httpx, or httpx2 from huggingface_hub 2 on: no connection, or it was cut
            kind, problem = HubUnreachableError, f"{hub} cannot be reached for {address} ({_text(error)})"
            remedy = "check the connection, and try again"
        case _:
            problem, remedy = f"{address} could not be transferred ({_text(error)})", again
    return kind(f"{problem}; {state}" if state else problem, remedy)


def _answer(error: Exception) -> str:
    """What the server says about an error, in parentheses; "" for nothing."""
    message = getattr(error, "server_message", None)
    said = _text(message) if message else ""
    return f" ({said})" if said else ""


def _text(said: object) -> str:
    """A message of the library or the server in one line, without the access token."""
    from huggingface_hub import get_token

    text = " ".join(str(said).split()) or type(said).__name__
    token = None
    with suppress(Exception):  # the library may ask a server for a short-lived one
        token = get_token()
    if token:
        text = text.replace(token, "...")
    return text[:200]
