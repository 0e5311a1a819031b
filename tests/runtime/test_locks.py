"""One holder at a time, over processes and threads; a killed holder blocks nobody."""

import subprocess
import sys
import threading
from pathlib import Path

from filelock import FileLock

from alexnet._runtime.locks import file_lock


def test_a_second_holder_is_refused_if_it_does_not_wait(tmp_path: Path):
    with file_lock(tmp_path / "lock", wait=False) as first, file_lock(tmp_path / "lock", wait=False) as second:
        assert (first, second) == (True, False)
    with file_lock(tmp_path / "lock", wait=False) as again:
        assert again


def test_the_lock_file_is_removed_afterwards(tmp_path: Path):
    with file_lock(tmp_path / "lock"):
        assert (tmp_path / "lock").is_file()
    assert list(tmp_path.iterdir()) == []


def test_waiting_threads_hold_the_lock_one_after_another(tmp_path: Path):
    holders, most = 0, 0

    def work() -> None:
        nonlocal holders, most
        for _ in range(50):
            with file_lock(tmp_path / "lock"):
                holders += 1
                most = max(most, holders)
                holders -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_releases_the_lock(tmp_path: Path):
    code = ("import sys, pathlib; from alexnet._runtime.locks import file_lock\n"
            "with file_lock(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with file_lock(tmp_path / "lock", wait=False) as acquired:
            assert not acquired
        process.kill()
        process.wait()
        with file_lock(tmp_path / "lock", wait=False) as acquired:
            assert acquired


def test_a_folder_that_cannot_be_written_needs_no_lock(tmp_path: Path):
    with file_lock(tmp_path / "absent" / "lock") as acquired:
        assert acquired


def test_a_process_that_waits_in_a_folder_that_is_removed_holds_the_lock_in_a_new_one(tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    waits, exclusive = threading.Event(), []

    def wait_for_it() -> None:
        waits.set()
        with file_lock(folder / "lock"), file_lock(folder / "lock", wait=False) as second:
            exclusive.append(not second)

    with file_lock(folder / "lock"):
        thread = threading.Thread(target=wait_for_it)
        thread.start()
        waits.wait()
        (folder / "lock").unlink()
        folder.rmdir()
    thread.join()
    assert exclusive == [True]


def test_a_folder_that_is_removed_before_the_lock_file_is_made_is_made_again(tmp_path: Path, monkeypatch):
    """It would count as a file system without locks, and two would hold the lock."""
    real, calls = FileLock.acquire, []

    def acquire(self, *args, **kwargs):
        calls.append(self)
        if len(calls) == 1:
            raise FileNotFoundError(self.lock_file)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with file_lock(tmp_path / "folder" / "lock"), file_lock(tmp_path / "folder" / "lock", wait=False) as second:
        assert not second
