"""What a run wrote of itself, read back: the events of log.jsonl, and config.json. The only reader of either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Event = dict[str, Any]


def whole_lines(run: Path) -> list[str]:
    """The log's lines with their ends; none where there is no log."""
    path = run / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    # The last may be half a line, where the run was killed or is being written this moment.
    return [line for line in lines if line.endswith("}\n")]


def logged(run: Path) -> list[Event]:
    """The log's events in order; none where there is no log."""
    return [json.loads(line) for line in whole_lines(run)]


def read_log(run: Path) -> list[Event]:
    """The same for a user's folder. Raises ValueError where it is no run's, or its log is damaged."""
    path = run / "log.jsonl"
    if not path.is_file():
        raise ValueError(_no_run(run))
    try:
        return logged(run)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: a line of it is not JSON; remove that line") from error


def read_config(run: Path) -> dict[str, Any]:
    """config.json. Raises ValueError where the folder is no run's, or it is missing or damaged, with the remedy."""
    path = run / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        missing = {"arch", "recipe", "data"} - config.keys()
    except (OSError, ValueError, AttributeError) as error:
        if not (run / "log.jsonl").is_file():
            raise ValueError(_no_run(run)) from error
        raise ValueError(f"{path} is missing or damaged; `alexnet train --resume` writes it anew") from error
    if missing:
        raise ValueError(f"{path} says nothing of {min(missing)}; `alexnet train --resume` writes it anew")
    return config


def _no_run(run: Path) -> str:
    return f"{run} is no run; give a folder that `alexnet train` made"
