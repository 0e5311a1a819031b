"""What the tests of the commands share: a cache of their own, and a trained run."""

import pytest

from command_line import SMALL, alexnet


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def run(class_folders, tmp_path_factory):
    """A run folder that the `train` command wrote."""
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert alexnet("train", class_folders, *SMALL, "--epochs", 6, "--out", folder / "run") == 0
    return folder / "run"
