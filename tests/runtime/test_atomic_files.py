"""A file is replaced as a whole or not at all, and nothing but a file is replaced."""

import os
from pathlib import Path

import pytest

from alexnet._runtime.atomic_files import replace_durably, replace_file, require_text_name
from alexnet.errors import UserError


def test_a_file_is_replaced_and_a_failed_write_leaves_it(tmp_path: Path):
    path = tmp_path / "new" / "file"
    replace_durably(path, b"one")
    assert path.read_bytes() == b"one"

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space") as failure:
        replace_file(path, fail)
    assert failure.value.filename == str(path)
    assert (path.read_bytes(), list(path.parent.iterdir())) == (b"one", [path])


def test_a_pipe_a_folder_and_a_device_are_not_replaced(tmp_path: Path):
    """A rename would put a file in the place of /dev/null, for every program of the machine."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(os.devnull)  # renaming over a link leaves the device alone, should this test ever fail
    for path in (pipe, link, tmp_path):
        with pytest.raises(UserError, match="exists and is not a file; name another file to write"):
            replace_durably(path, b"x")
    assert pipe.is_fifo()
    assert link.is_char_device()


def test_a_name_that_is_not_utf_8_is_refused():
    require_text_name(Path("café"))
    with pytest.raises(UserError, match="is not UTF-8"):
        require_text_name(Path(os.fsdecode(b"caf\xe9")))
