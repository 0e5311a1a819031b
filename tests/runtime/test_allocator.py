"""Page faults of a process that allocates memory again which it has freed, with and without the setting."""

from __future__ import annotations

import subprocess
import sys

import pytest

from alexnet._runtime.allocator import set_allocator

FAULTS = """
import ctypes, resource, sys
from alexnet._runtime.allocator import set_allocator
print(set_allocator(sys.argv[1]))
import torch
def work():
    torch.ones(30_000_000).add_(1)
for _ in range(8):  # until there is a gap large enough for an aligned block
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def measure(choice: str) -> tuple[str, int]:
    """What `set_allocator` returns, and the page faults of one more allocation."""
    result, faults = subprocess.run([sys.executable, "-c", FAULTS, choice], capture_output=True, text=True,
                                   check=True).stdout.splitlines()
    return result, int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is of Linux's C library")
def test_kept_memory_is_allocated_again_without_page_faults():
    result, faults = measure("keep")
    assert result == "glibc, keeping freed pages"
    assert faults < 100
    result, faults = measure("system")
    assert result == "the system's own"
    assert faults > 1000  # 120 MB, mapped anew


def test_without_glibc_nothing_is_set(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert set_allocator() == "the system's own (no glibc on darwin)"
