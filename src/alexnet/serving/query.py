"""Query parameters: parsing and checks. An unknown parameter is an error, so that no misspelling is ignored."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from alexnet.errors import closest_match
from alexnet.serving.responses import RequestError

LARGEST = 99_999_999
"""Of a whole number: eight digits, as /openapi.json says."""


def check_names(request: Request, *known: str) -> None:
    """Raise RequestError for an unknown or repeated parameter."""
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in known:
            close = closest_match(name[:40], known)
            raise RequestError(f"there is no parameter {name[:40]!r}",
                               f"did you mean {close}?" if close else f"known are {', '.join(known)}")
        if given.count(name) > 1:
            raise RequestError(f"parameter {name} occurs {given.count(name)} times", "send it once")


def get_number(request: Request, name: str, default: int, allowed: Sequence[int] = ()) -> int:
    """A whole number from 1 to LARGEST, or one of those allowed. Raises RequestError otherwise."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not is_whole_number(text) or int(text) not in (allowed or range(1, LARGEST + 1)):
        rule = " or ".join(map(str, allowed)) or f"a whole number from 1 to {LARGEST:,}"
        raise RequestError(f"{name} {text[:40]!r} must be {rule}", f"send {name}={default}, or leave it out")
    return int(text)


def get_flag(request: Request, name: str) -> bool:
    """True or false; default: false. Raises RequestError otherwise."""
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise RequestError(f"{name} {text[:40]!r} must be true or false", f"send {name}=true, or leave it out")
    return text == "true"


def is_whole_number(text: str) -> bool:
    """Whether the text is one to eight ASCII digits: int() also accepts underscores, spaces and other digits."""
    return text.isascii() and text.isdigit() and len(text) < 9
