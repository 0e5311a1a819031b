"""Optional packages and programs that tests need: a test skips without them, or fails with `--require-extras`."""

from __future__ import annotations

import importlib.util
from typing import NoReturn

import pytest

required = False
"""Whether a missing requirement fails the test. conftest.py sets it from the command line."""


def missing(reason: str) -> NoReturn:
    """Skip the current test, or fail it with `--require-extras`.

    Args:
        reason: What is missing, and how to install it.
    """
    if required:
        pytest.fail(f"{reason} (--require-extras)", pytrace=False)
    pytest.skip(reason)


def require_module(name: str, remedy: str) -> None:
    """Skip or fail the current test if a module is not installed."""
    if importlib.util.find_spec(name) is None:
        missing(f"{name} is not installed; {remedy}")
