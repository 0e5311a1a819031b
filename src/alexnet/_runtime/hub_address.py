"""Addresses of networks on the Hugging Face Hub: hf://USER/NAME, or hf://USER/NAME@REVISION."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from alexnet.errors import UserError

_ADDRESS = re.compile(r"hf:/+([\w.-]+/[\w.-]+)(?:@(\S+))?", re.ASCII)
"""A `Path` of an address has lost one of its slashes."""


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
