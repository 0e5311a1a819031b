"""A server's process may have as many files and connections open as its limits say, if the system allows."""

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")

SCRIPT = """
import resource
from alexnet._runtime.file_limit import raise_file_limit

resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))
raise_file_limit({wanted})
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("wanted", "hard", "soft"), [(200, 256, 200), (1000, 256, 256), (32, 256, 64)])
def test_the_soft_limit_is_raised_as_far_as_the_hard_one(wanted, hard, soft):
    """In a process of its own: a hard limit cannot be raised again."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(wanted=wanted, hard=hard)], capture_output=True, text=True, check=True)
    assert int(result.stdout) == soft
