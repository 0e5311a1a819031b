"""A folder that this user may not enter is named, and not the file in it; a place is tried before it is written to."""

import os
import sys
from pathlib import Path

import pytest

from alexnet._runtime import local_files
from alexnet.cli.errors import failure
from alexnet.errors import UserError


@pytest.fixture
def closed(tmp_path, monkeypatch):
    """A folder that only its owner may enter, where the tests run as root, too."""
    folder = tmp_path / "their run"
    folder.mkdir(mode=0o700)
    access = os.access
    monkeypatch.setattr(local_files.os, "access", lambda path, mode: Path(path) != folder and access(path, mode))
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permission")
def test_the_folder_is_named_with_what_its_owner_can_do(closed):
    error = PermissionError(13, "Permission denied", str(closed / "model.safetensors"))
    assert failure(error).sentence == (
        f"this user may not enter the folder {closed} (permission denied); its owner can allow it: "
        f"chmod a+rX '{closed}', with -R for all that is in it")


def test_a_file_in_a_folder_that_may_be_entered_is_named_itself(tmp_path):
    error = PermissionError(13, "Permission denied", str(tmp_path / "a.jpg"))
    assert failure(error).sentence.startswith(f"{tmp_path / 'a.jpg'} cannot be read or written (permission denied); ")


def test_the_outermost_folder_is_found(closed):
    assert local_files.closed_folder(closed / "best" / "checkpoint.json") == closed
    assert local_files.closed_folder(closed) is None


def test_a_place_to_write_to_is_tried_and_left_as_it_was(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "broken").symlink_to("nowhere")
    before = sorted(tmp_path.iterdir())
    assert local_files.is_writable(tmp_path)
    assert local_files.is_writable(tmp_path / "a" / "b")
    assert not local_files.is_writable(tmp_path / "file")
    assert not local_files.is_writable(tmp_path / "file" / "a" / "b")
    assert not local_files.is_writable(tmp_path / "broken" / "a"), "a folder cannot be made in place of the link"
    assert sorted(tmp_path.iterdir()) == before


def test_the_refusal_names_what_stands_in_the_way(tmp_path):
    (tmp_path / "photo.jpg").touch()
    out = tmp_path / "photo.jpg" / "runs" / "a"
    with pytest.raises(UserError, match=f"{out} cannot be written, as {tmp_path / 'photo.jpg'} is not a folder that "):
        local_files.require_writable(out, is_folder=True)
    local_files.require_writable(tmp_path / "photo.jpg", is_folder=False)  # a file in a folder
    with pytest.raises(UserError, match="cannot be written"):
        local_files.require_writable(tmp_path / "photo.jpg", is_folder=True)
