"""uvicorn's undocumented classes are as serving/server.py uses them, and its version has an upper bound."""

import inspect
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

ROOT = Path(__file__).parents[2]
PROTOCOL_METHODS = ("connection_made", "data_received", "eof_received", "send_400_response", "on_response_complete",
                    "pause_writing", "resume_writing", "connection_lost", "shutdown")
"""Of H11Protocol, which TimeoutProtocol overrides or calls."""
PROTOCOL_ATTRIBUTES = ("connections", "client", "app_state", "cycle", "conn", "loop", "transport")
"""Which H11Protocol sets on itself."""
SERVER_METHODS = ("startup", "shutdown", "_wait_tasks_to_complete")
"""Of uvicorn.Server, which GracefulServer overrides and calls."""
SERVER_ATTRIBUTES = ("servers", "server_state", "force_exit", "should_exit", "lifespan", "config")
"""Which uvicorn.Server sets on itself."""


def assigned(cls):
    """The attributes that a class's methods assign on self."""
    return set(re.findall(r"self\.(\w+)(?:: [^=\n]+)? = ", inspect.getsource(cls)))


def test_the_methods_that_are_overridden_exist():
    for name in PROTOCOL_METHODS:
        assert callable(getattr(H11Protocol, name)), name
    for name in SERVER_METHODS:
        assert callable(getattr(uvicorn.Server, name)), name
    assert "self._wait_tasks_to_complete()" in inspect.getsource(uvicorn.Server.shutdown)
    assert list(inspect.signature(uvicorn.Server.startup).parameters) == ["self", "sockets"]
    assert list(inspect.signature(uvicorn.Server.shutdown).parameters) == ["self", "sockets"]
    assert list(inspect.signature(H11Protocol).parameters)[:4] == ["config", "server_state", "app_state", "_loop"]


def test_the_attributes_that_are_read_exist():
    assert set(PROTOCOL_ATTRIBUTES) <= assigned(H11Protocol)
    assert set(SERVER_ATTRIBUTES) <= assigned(uvicorn.Server)


def test_the_lists_are_complete():
    """A name of the base class that server.py uses and these lists lack is not tested."""
    source = (ROOT / "src" / "alexnet" / "serving" / "server.py").read_text()
    used = set(re.findall(r"(?:self|super\(\))\.(\w+)", source))
    of_uvicorn = {name for name in used if hasattr(H11Protocol, name) or hasattr(uvicorn.Server, name)} | (used & (
        assigned(H11Protocol) | assigned(uvicorn.Server)))
    known = {*PROTOCOL_METHODS, *PROTOCOL_ATTRIBUTES, *SERVER_ATTRIBUTES, *SERVER_METHODS, "__init__"}
    assert of_uvicorn <= known


def test_the_installed_version_is_within_the_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (requirement,) = [each for each in project["project"]["optional-dependencies"]["serve"] if "uvicorn" in each]
    low, high = (tuple(map(int, text.split("."))) for text in re.fullmatch(
        r"uvicorn>=([\d.]+),<([\d.]+)", requirement).groups())
    assert low <= tuple(map(int, version("uvicorn").split(".")))[:2] < high


@pytest.mark.parametrize("name", ["on_response_complete", "shutdown"])
def test_the_missing_method_would_be_found(name, monkeypatch):
    monkeypatch.delattr(H11Protocol, name)
    with pytest.raises(AttributeError):
        test_the_methods_that_are_overridden_exist()
