"""The files of a checkpoint folder and their format number: find them, read the JSON and the tensors' bytes. No torch.

`checkpoint.py` says what the files are, writes them, and makes tensors of the bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from alexnet._runtime.local_files import require_no_url
from alexnet.architecture.overrides import Json
from alexnet.errors import UserError, closest_match, plural, some
from alexnet.models.checkpoint_json import CalibrationJson, ErrorsJson, StateJson
from alexnet.models.provenance import Provenance

CHECKPOINT_FORMAT = 6
"""Of checkpoint.json and the tensor files that it names."""

JSON_FILE, PREVIOUS_JSON_FILE = "checkpoint.json", "checkpoint.previous.json"

OTHER_CHECKPOINT = "use the run's other checkpoint (best/ or last/)"
"""The remedy for a damaged one."""


class DamagedCheckpointError(UserError):
    """A file of a checkpoint is missing, or its checksum is wrong."""


class TensorFile(TypedDict):
    file: str
    bytes: int
    sha256: str


class CheckpointJson(TypedDict):
    """checkpoint.json, without the SHA-256 of itself that the file also has."""

    format: int
    arch: Json
    classes: list[str]
    class_names_known: bool
    recipe: Json
    training: StateJson
    errors: ErrorsJson
    provenance: Provenance
    calibration: CalibrationJson
    trained_on_unknown: list[str]
    """`SeenImages.unknown`; its hashes are in the tensor file `seen`."""
    files: dict[str, TensorFile]
    versions: dict[str, str]
    """Of the software that wrote it: torch, alexnet and, of a clone, its commit (`written_by`)."""


def written_by(tree: Mapping[str, Any]) -> dict[str, str]:
    """The versions of the software that wrote a checkpoint or an exported file, by name; empty if it does not say.

    Args:
        tree: of its JSON.
    """
    versions = tree.get("versions")
    return {str(name): str(number) for name, number in versions.items()} if isinstance(versions, dict) else {}


def locate(path: Path) -> Path:
    """Find the checkpoint's folder: `path` itself, or a run's `best`, else its `last`.

    Raises:
        UserError: there is none.
    """
    for candidate in (path, path / "best", path / "last"):
        if (candidate / JSON_FILE).is_file():
            return candidate
    if path.name == JSON_FILE and path.is_file():
        return path.parent
    require_no_url(path, "checkpoints")
    require_single_run(path)
    other = f"give a run's folder or its best/ or last/, which hold a {JSON_FILE}"
    if path.exists():
        raise UserError(f"{path} is not a checkpoint", other)
    raise UserError(f"{path} does not exist", did_you_mean_weights(path) or other)


def did_you_mean_weights(path: Path, names: Sequence[str] = ()) -> str:
    """The remedy for a path that does not exist: the closest run or file beside it, or name of weights; "" if none is.

    Args:
        path: as the user typed it; a name of weights is a path without a folder.
        names: of weights.
    """
    siblings: list[str] = []
    with contextlib.suppress(OSError):  # there may be no such folder, or it may not be readable
        siblings = sorted(entry.name for entry in path.parent.iterdir())
    known = [*names, *siblings] if path.name == str(path) else siblings
    close = closest_match(path.name, known)
    return f"did you mean {close if close in names else path.with_name(close)}?" if close else ""


def require_single_run(path: Path) -> None:
    """Raise UserError, which names the runs, for a folder of several runs such as that of `train --folds`."""
    runs = runs_in(path)
    if not runs:
        return
    series = {"fold": " of `alexnet train --folds`", "seed": " of `alexnet train --seeds`"}
    kinds = {run.name.rpartition("-")[0] for run in runs}
    raise UserError(f"{path} is not a run itself: it holds {plural(len(runs), 'run')}"
                    f"{series.get(kinds.pop(), '') if len(kinds) == 1 else ''}",
                    f"name one of them: {some(map(str, runs))}")


def runs_in(path: Path) -> list[Path]:
    """The runs directly in a folder, such as those of `train --seeds`; none in a run's own folder."""
    return sorted({file.parents[1] for name in ("best", "last") for file in path.glob(f"*/{name}/{JSON_FILE}")})


def runs_without_checkpoint(path: Path) -> list[Path]:
    """The runs directly in a folder that ended before they had saved one, such as those that diverged at once."""
    return sorted({config.parent for config in path.glob("*/config.json")} - {*runs_in(path)})


def read_checkpoint_json(path: Path) -> CheckpointJson:
    """Read and verify checkpoint.json, or checkpoint.previous.json.

    Raises:
        DamagedCheckpointError: its checksum is wrong.
        UserError: it is of another version's format.
    """
    damaged = DamagedCheckpointError(f"{path} is damaged", OTHER_CHECKPOINT)
    try:
        tree = json.loads(path.read_bytes())
        digest, version = tree.pop("sha256"), int(tree["format"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise damaged from error
    if hashlib.sha256(json.dumps(tree, indent=1).encode()).hexdigest() != digest:
        raise damaged
    if version != CHECKPOINT_FORMAT:
        raise UserError(f"{path} has format {version}, and this version of alexnet reads format {CHECKPOINT_FORMAT}",
                        "upgrade alexnet" if version > CHECKPOINT_FORMAT else "load it with the version that wrote it")
    checkpoint: CheckpointJson = tree
    return checkpoint


def verify_files(folder: Path) -> int:
    """Verify the JSON files of a checkpoint's folder and every tensor file that they name; return their number.

    Raises:
        DamagedCheckpointError: one is missing or damaged; the error names it.
        UserError: it is of another version's format.
    """
    paths = [folder / JSON_FILE]
    if (previous := folder / PREVIOUS_JSON_FILE).is_file():
        paths.append(previous)
    entries = {entry["file"]: entry for path in paths for entry in read_checkpoint_json(path)["files"].values()}
    for entry in entries.values():
        read_verified(folder, entry)
    return len(paths) + len(entries)


def damage_of(data: bytes, size: int) -> str:
    """What differs in the content of a file whose checksum is wrong, and that had `size` bytes."""
    return "same size, other checksum" if len(data) == size else f"{len(data):,} bytes of {size:,}"


def read_verified(folder: Path, entry: TensorFile) -> bytes:
    """The bytes of a file that checkpoint.json names. Raises DamagedCheckpointError if it is missing or damaged."""
    path = folder / Path(entry["file"]).name
    if not path.is_file():
        raise DamagedCheckpointError(f"{path} is missing from the checkpoint", OTHER_CHECKPOINT)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise DamagedCheckpointError(f"{path} is damaged: {damage_of(data, entry['bytes'])}", OTHER_CHECKPOINT)
    return data
