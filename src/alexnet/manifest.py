"""The form of a packed folder's manifest: what must be there before anything in it is believed. Reads no file.

A checksum finds damage, and no malice: whoever writes a manifest can write its checksum too.
"""

from __future__ import annotations

import math
from typing import Any

_SHARD = {"file": str, "labels": str, "names": str, "photographs": int}
_THREE = (float, float, float)

#: A type; {name: form} of fields that must be there, others being allowed; {str: form} and [form] of any number; a
#: tuple of as many. What may be missing or null is checked where it is used.
_FORM = {
    "plan": {"dataset": str, "side": int, "codec": str, "shard_photographs": int},
    "source": str, "credits": str, "notes": [str], "classes": [str],
    "rgb_mean": _THREE, "rgb_covariance": (_THREE, _THREE, _THREE),
    "splits": {str: {"photographs": int, "shards": [_SHARD], "quarantined": [{"name": str, "reason": str}]}},
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
        if record["photographs"] != sum(shard["photographs"] for shard in record["shards"]):
            return f"its split {name} has another number of photographs than its shards"
        for shard in record["shards"]:
            if plan["codec"] == "jpeg" and not isinstance(shard.get("index"), str):
                return f"its shard {shard['file']} has no index"
            least = shard["photographs"] * plan["side"] ** 2 * 3
            if plan["codec"] == "raw" and files.get(shard["file"], {"bytes": least})["bytes"] < least:
                return f"its shard {shard['file']} is too short for {shard['photographs']} photographs"
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
