"""Networks on the Hugging Face Hub: read hf://USER/NAME as a checkpoint, and upload a checkpoint there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from alexnet._runtime.download import ChecksumError
from alexnet._runtime.hub import (
    Commit,
    Repository,
    find_repository,
    open_repository,
    require_token,
    upload,
)
from alexnet._runtime.hub_address import HubAddress, parse_hub_address
from alexnet.errors import UserError, require
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.huggingface import DamagedConfigError, huggingface_files, parse_config, read_huggingface
from alexnet.models.formats.model_card import LIBRARY
from alexnet.models.formats.recognize import CONFIG, MEAN, WEIGHTS
from alexnet.models.provenance import license_note

_OF_ANY_REPOSITORY = (".gitattributes", ".gitignore", "README.md", "LICENSE", "LICENSE.md", "LICENSE.txt")
"""Files of a repository that was created and holds no model yet."""


MOST_BYTES = {CONFIG: 64_000_000, WEIGHTS: 4_000_000_000, MEAN: 1_000_000_000}
"""Bytes of each file, which are read into memory. The paper's network has 244 MB, with 21,841 classes 585 MB; the file
of the mean has 24 bytes for each training image, 341 MB for ImageNet's 14.2 million."""


def read_hub(name: str | Path) -> Checkpoint:
    """Download a network that `upload_to_hub` wrote, and verify its checksums. Only JSON and safetensors are read.

    Args:
        name: hf://USER/NAME, or hf://USER/NAME@REVISION.

    Raises:
        UserError: there is no such repository, it may not be read, it holds another model, or a file is damaged or
            has more than MOST_BYTES.
    """
    repository = open_repository(parse_hub_address(name), MOST_BYTES)
    checksums = _checksums(repository)  # before the large files
    for file, checksum in checksums.items():
        try:
            _fetch_verified(repository, file, checksum)
        except ChecksumError as error:
            raise UserError(
                f"{file} of {repository.address} at commit {repository.commit[:12]} is damaged: its SHA-256 is "
                f"{error.found}, and {CONFIG} says {checksum}", "tell its owner, or name another revision") from error
    folder = repository.fetch(CONFIG, MOST_BYTES[CONFIG]).parent
    repository.remember()
    return read_huggingface(folder)


def _fetch_verified(repository: Repository, file: str, checksum: str) -> None:
    """Download a file. A damaged one in the cache is downloaded again."""
    path = repository.fetch(file, MOST_BYTES[file], checksum)
    found = _sha256(path)
    if found != checksum:
        require(repository.is_reachable, f"{path} is damaged: its SHA-256 is {found}, and {CONFIG} says {checksum}",
                "run the command again with a connection")
        repository.fetch(file, MOST_BYTES[file], checksum, again=True)


def _checksums(repository: Repository) -> dict[str, str]:
    """The SHA-256 of each file with tensors, by the config. A damaged config in the cache is downloaded again."""
    where = f"{repository.address}/{CONFIG}"
    try:
        return parse_config(repository.fetch(CONFIG, MOST_BYTES[CONFIG]).read_bytes(), where)[1]
    except DamagedConfigError:
        if not repository.is_reachable:
            raise
        return parse_config(repository.fetch(CONFIG, MOST_BYTES[CONFIG], again=True).read_bytes(), where)[1]


@dataclass(frozen=True)
class UploadTarget:
    """A repository that may receive a network.

    Attributes:
        existing: as it is on the hub; None: it is to be created.
        private: whether it is to be created as a private one.
    """

    address: HubAddress
    existing: Repository | None
    private: bool


def check_upload_target(name: str, private: bool) -> UploadTarget:
    """Refuse an upload that cannot succeed, or that would replace another model, before weights are read.

    Raises:
        UserError: the address has a revision, there is no token, the repository holds another model, or it is public
            and should be private.
    """
    address = parse_hub_address(name)
    require(address.revision == "main", f"{name} names a revision, and an upload is a new commit of the branch main",
            f"name hf://{address.repository}")
    require_token()
    existing = find_repository(address)
    if existing:
        require(existing.is_private or not private, f"{address} exists and is public",
                "make it private in its settings on the hub, or leave out --private")
        _require_own(existing)
    return UploadTarget(address, existing, private)


def _require_own(repository: Repository) -> None:
    """Raise UserError if a repository holds another model, or anything else."""
    names = set(repository.sizes) - {*_OF_ANY_REPOSITORY}
    is_own = CONFIG in names and _is_own(repository.fetch(CONFIG, MOST_BYTES[CONFIG]).read_bytes())
    require(is_own or not names, f"{repository.address} holds another model, or other files: "
            f"{', '.join(sorted(names)[:3])}", "name a new repository")


def _is_own(config: bytes) -> bool:
    """Whether a config.json is of this package, in whichever version."""
    try:
        tree = json.loads(config)
    except (ValueError, RecursionError):
        return False
    return isinstance(tree, dict) and tree.get("library_name") == LIBRARY


@dataclass(frozen=True)
class UploadResult:
    """What `upload_to_hub` did."""

    target: UploadTarget
    commit: Commit
    sizes: dict[str, int]
    """File -> bytes."""
    license: str
    """The license note of the weights; empty if none is recorded."""

    def describe(self) -> str:
        """In sentences: the commit, who can see it, the files, what they replaced, how to load it, the license note."""
        address, existing = self.target.address, self.target.existing
        visible = "private" if self.commit.is_private else "public: everyone can download it"
        if existing is None:
            state = f"a new repository, {visible}"
        elif existing.commit == self.commit.sha:
            state = f"{visible}; it has these files already, and nothing was changed"
        else:
            state = f"{visible}; the files before remain in its history, at commit {existing.commit[:12]}"
        license_ = f" License note of the weights, which the card carries: {self.license}." if self.license else ""
        return (f"{address}: {self.commit.url} ({state}). Files: {', '.join(self.sizes)}, "
                f"{sum(self.sizes.values()) / 1e6:.1f} MB. Load it with alexnet.load(\"{address}\").{license_}")


def upload_to_hub(saved: Checkpoint, target: UploadTarget) -> UploadResult:
    """Upload a network with its config, model card and checksums in one commit.

    Raises:
        UserError: the hub refuses, or does not answer; the error says what is then on the hub.
    """
    address = target.address
    files = huggingface_files(saved, address.repository.partition("/")[2], str(address))
    message = f"AlexNet ({saved.arch.name}, {len(saved.classes):,} classes), weights {saved.describe()['sha256'][:12]}"
    commit = upload(address, files, message, target.existing, target.private)
    return UploadResult(target, commit, {name: len(data) for name, data in files.items()},
                        license_note(saved.provenance))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
