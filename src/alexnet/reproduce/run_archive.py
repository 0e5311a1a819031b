"""Finished runs of claims in one file, without their weights (`reproduce --archive`).

A claim may take longer than a machine is available. Its finished runs, a line each, are small enough to be kept beside
the results. A command that reads the file trains only what is not in it, and calculates a verdict from it in seconds.

A line stands for its run at any precision, on any machine and with any version of torch, since a claim is about the
network, its recipe and its data. The result says where its runs were trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from alexnet._runtime.atomic_files import replace_file
from alexnet._runtime.locks import file_lock
from alexnet.errors import UserError, require
from alexnet.reproduce.finished_run import CURVE, ENDED, CleanPoint, Ended, FinishedRun
from alexnet.reproduce.weight_measures import MEASURES_VERSION, measured, write_measured
from alexnet.training.events import EpochEvent

_REMEDY = "delete the line: its run is then trained again"


class ArchivedRun(TypedDict):
    """A finished run."""

    key: str
    """Identifies network, recipe, seed, data and what is measured meanwhile."""
    title: str
    """Claim, variant, learning rate and seed that it was first trained for."""
    ended: Ended
    machine: str
    precision: str
    validated: EpochEvent | None
    """The last epoch, if the run was validated after it."""
    clean: list[CleanPoint]
    measures_version: int
    measured: dict[str, float]
    """What was measured of the weights of the last epoch, by `WeightMeasure`."""


@dataclass
class RunArchive:
    """The runs of a file, which need not exist yet."""

    path: Path
    runs: dict[str, ArchivedRun] = field(default_factory=dict)
    """By key."""

    @classmethod
    def open(cls, path: Path) -> RunArchive:
        """Read an archive.

        Raises:
            UserError: a line is not an archived run.
        """
        archive = cls(path)
        archive._read()
        return archive

    def add(self, key: str, run: FinishedRun) -> None:
        """Append a run that is not in the archive, or that has other measures there. The last line of a run counts."""
        archived: ArchivedRun = {
            "key": key, "title": run.title, "ended": run.ended, "machine": run.machine, "precision": run.precision,
            "validated": run.validated, "clean": list(run.curve), "measures_version": MEASURES_VERSION,
            "measured": measured(run.folder)}
        if self._has(archived):
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(self.path.with_name(f"{self.path.name}.lock")):
            self._read()  # another command may have added it
            if not self._has(archived):
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(archived) + "\n")
                self.runs[key] = archived

    def _has(self, run: ArchivedRun) -> bool:
        """Whether the archive has the run with these measures or more."""
        known = self.runs.get(run["key"])
        return known is not None and run["measured"].keys() <= known["measured"].keys()

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        for number, line in enumerate(text.splitlines(), 1):
            run = _parse(line, f"line {number} of {self.path}")
            self.runs[run["key"]] = run


def restore(run: ArchivedRun, folder: Path) -> None:
    """Write the folder of an archived run, which has then finished there, without its weights."""
    folder.mkdir(exist_ok=True)
    (folder / "log.jsonl").write_text(json.dumps(run["validated"]) + "\n" if run["validated"] else "")
    (folder / CURVE).write_text("".join(json.dumps(point) + "\n" for point in run["clean"]))
    write_measured(folder, run["measured"])
    record = json.dumps({name: run[name] for name in ("ended", "title", "machine", "precision")})
    replace_file(folder / ENDED, lambda path: path.write_text(record))


def _parse(line: str, place: str) -> ArchivedRun:
    try:
        run = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place} is not JSON ({error})", _REMEDY) from error
    missing = ArchivedRun.__required_keys__ - (run.keys() if isinstance(run, Mapping) else set())
    require(not missing, f"{place} is not an archived run: it lacks {', '.join(sorted(missing))}", _REMEDY)
    archived: ArchivedRun = run
    return archived if run["measures_version"] == MEASURES_VERSION else {**archived, "measured": {}}
