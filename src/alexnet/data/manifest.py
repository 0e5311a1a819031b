"""manifest.json of a packed folder: written last and with a checksum of itself, read and validated."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_SHARD = {"file": str, "labels": str, "names": str, "images": int}
_THREE = (float, float, float)

#: A type; {name: form} of fields that must be there, others being allowed; {str: form} and [form] of any number; a
#: tuple of as many. What may be missing or null is checked where it is used.
_FORM = {
    "plan": {"dataset": str, "side": int, "codec": str, "shard_images": int},
    "source": str, "credits": str, "notes": [str], "classes": [str],
    "rgb_mean": _THREE, "rgb_covariance": (_THREE, _THREE, _THREE),
    "splits": {str: {"images": int, "shards": [_SHARD], "quarantined": [{"name": str, "reason": str}]}},
    "files": {str: {"bytes": int, "sha256": str}},
}


def fault(manifest: dict[str, Any]) -> str:
    """What of the manifest cannot be, in words; nothing where all of it can."""
    if wrong := _unlike(manifest, _FORM, "it"):
        return wrong
    plan, wnids, files = manifest["plan"], manifest.get("wnids"), manifest["files"]
    if plan["side"] < 1:
        return f"its side is {plan['side']}"
    if plan["codec"] not in ("raw", "jpeg"):
        return f"its codec is {plan['codec']!r}"
    if wnids is not None and (_unlike(wnids, [str], "wnids") or len(wnids) != len(manifest["classes"])):
        return "its wnids are not one for each class"
    for name, record in manifest["splits"].items():
        if record["images"] != sum(shard["images"] for shard in record["shards"]):
            return f"its split {name} has another number of images than its shards"
        for shard in record["shards"]:
            if plan["codec"] == "jpeg" and not isinstance(shard.get("index"), str):
                return f"its shard {shard['file']} has no index"
            least = shard["images"] * plan["side"] ** 2 * 3
            if plan["codec"] == "raw" and files.get(shard["file"], {"bytes": least})["bytes"] < least:
                return f"its shard {shard['file']} is too short for {shard['images']} images"
    return ""


def _unlike(value: Any, form: Any, name: str) -> str:
    """What of a value is not of that form."""
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return f"{name} is no object"
        inner = dict.fromkeys(value, form[str]) if str in form else form
        parts = [(f"{key!r}", value.get(key), part) for key, part in inner.items()]
    elif isinstance(form, list | tuple):
        if not isinstance(value, list) or (isinstance(form, tuple) and len(value) != len(form)):
            return f"{name} is no list" + (f" of {len(form)}" if isinstance(form, tuple) else "")
        parts = [(f"{name}, number {place}", item, form[place if isinstance(form, tuple) else 0])
                 for place, item in enumerate(value)]
    elif form is float:
        sound = type(value) in (int, float) and abs(value) < math.inf
        return "" if sound else f"{name} is no number"
    elif form is int:
        return "" if type(value) is int and value >= 0 else f"{name} is no whole number of 0 or more"
    else:
        return "" if type(value) is form else f"{name} is no text"
    return next(filter(None, (_unlike(item, part, what) for what, item, part in parts)), "")

FORMAT = 1
MANIFEST, MEAN, QUARANTINE = "manifest.json", "mean.npy", "quarantine.txt"
JOURNAL = "unfinished.json"
"""What `pack` has finished so far; a folder with this and no manifest is an unfinished pack."""
_REMEDY = "restore it from a copy, or pack again into an empty folder"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """All of it or nothing, with a checksum of itself."""
    draft = path.with_suffix(".draft")
    with draft.open("w", encoding="utf-8") as file:
        json.dump({"checksum": _digest(content)} | content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote. Raises ValueError where it is damaged or of another format."""
    return parse_json(path.read_bytes(), path)


def parse_json(written: bytes, path: Path | str) -> dict[str, Any]:
    """The same of what lies at `path`, a file or an address."""
    damaged = ValueError(f"{path} is damaged or not of a packed folder: its checksum does not match; {_REMEDY}")
    try:
        content = json.loads(written.decode())
        checksum, version = content.pop("checksum"), content["format"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged from None
    if checksum != _digest(content):
        raise damaged
    if version != FORMAT:
        raise ValueError(f"{path} has format {version} and this alexnet reads {FORMAT}; pack it again")
    return content


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def files_of(shard: dict[str, Any]) -> list[str]:
    """The names of a shard's own file and its companions."""
    return [shard[role] for role in ("file", "index", "labels", "names") if role in shard]


# --- Checking ---------------------------------------------------------------------------------------------------------


def check_names(manifest: Path | str, files: Iterable[str]) -> None:
    """Raises ValueError naming the file that would lie outside the manifest's folder."""
    for name in files:
        if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
            raise ValueError(f"{manifest} names the file {name!r}, which is no plain name within the folder; "
                             "do not use this folder")


def check_manifest(manifest: dict[str, Any], path: Path | str) -> None:
    """Raises ValueError saying what of it cannot be, or naming a file that it knows nothing of, or that would lie
    outside its folder."""
    if wrong := fault(manifest):
        raise ValueError(f"{path} is of no packed folder: {wrong}; {_REMEDY}")
    check_names(path, manifest["files"])
    named = {name for record in manifest["splits"].values() for shard in record["shards"] for name in files_of(shard)}
    if unknown := named - manifest["files"].keys():
        raise ValueError(f"{path} lists {min(unknown)!r} without a checksum; {_REMEDY}")


def check_sizes(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    """Raises ValueError naming the file that is missing, truncated, or named outside the folder."""
    check_names(folder / MANIFEST, files)
    for name, known in files.items():
        if fault := _wrong_size(folder / name, known["bytes"]):
            raise ValueError(f"{folder / name} {fault}; {_REMEDY}")


def _wrong_size(path: Path, size: int) -> str:
    if not path.is_file():
        return "is missing"
    there = path.stat().st_size
    return "" if there == size else f"is {'truncated' if there < size else 'too long'}: {there:,} bytes of {size:,}"
