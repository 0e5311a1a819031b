"""The allocator's one setting, seen from outside: page faults of a process that allocates what it has freed."""

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
for _ in range(8):  # until there is a gap that an aligned block fits into
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def said(choice: str) -> tuple[str, int]:
    words, faults = subprocess.run([sys.executable, "-c", FAULTS, choice], capture_output=True, text=True,
                                   check=True).stdout.splitlines()
    return words, int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is of Linux's C library")
def test_memory_that_was_freed_is_handed_out_again_without_a_page_fault():
    words, faults = said("keep")
    assert words == "glibc, keeping freed pages"
    assert faults < 100
    words, faults = said("system")
    assert words == "the system's own"
    assert faults > 1000  # 120 MB, mapped anew


def test_where_there_is_no_glibc_it_says_so(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert set_allocator() == "the system's own (no glibc on darwin)"
