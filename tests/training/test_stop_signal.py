"""A process that a launcher stops while it fails still reports why it failed."""

import signal
import subprocess
import sys

import pytest

FAILING = """
import os, signal
from alexnet.training.stop_signal import StopSignal

try:
    with StopSignal().caught(repeatedly={repeatedly}):
        raise RuntimeError("another process is lost")
except RuntimeError as error:
    os.kill(os.getpid(), signal.SIGTERM)
    print(error)
"""


@pytest.mark.parametrize(("repeatedly", "status", "output"), [
    (True, 0, "another process is lost\n"), (False, -signal.SIGTERM, "")])
def test_sigterm_after_an_error_ends_a_process_only_without_a_launcher(repeatedly, status, output):
    ended = subprocess.run(
        [sys.executable, "-c", FAILING.format(repeatedly=repeatedly)], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (status, output)
