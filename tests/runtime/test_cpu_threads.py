"""OpenMP's threads sleep soon after their work: processor time of a process that waits."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet._runtime.cpu_threads import shorten_time_slices

WORK_AND_WAIT = """
import os, sys, time
from alexnet._runtime.cpu_threads import set_openmp_defaults
if sys.argv[1] == "limited":
    set_openmp_defaults()
import torch
torch.set_num_threads(2)
numbers = torch.ones(100_000)
numbers.add_(1)
before = time.process_time()
for _ in range(100):
    numbers.add_(1)
    time.sleep(0.01)
print(time.process_time() - before)
"""


def processor_seconds(setting: str) -> float:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    finished = subprocess.run([sys.executable, "-c", WORK_AND_WAIT, setting], capture_output=True, text=True,
                              check=True, env=environment)
    return float(finished.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or (os.cpu_count() or 1) < 2, reason="torch brings GNU's OpenMP on Linux")
def test_a_waiting_thread_does_not_keep_a_core_busy():
    assert processor_seconds("limited") < processor_seconds("default") / 2


def test_environment_variables_take_precedence(monkeypatch):
    from alexnet._runtime.cpu_threads import set_openmp_defaults

    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    set_openmp_defaults()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    set_openmp_defaults()
    assert "GOMP_SPINCOUNT" not in os.environ


SLICES = """
import os, threading
from alexnet._runtime.cpu_threads import lower_thread_priority, shorten_time_slices

def state():
    lines = open("/proc/thread-self/sched").read().splitlines()
    slices = [line.split()[-1] for line in lines if line.startswith("se.slice")]
    return [*slices, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())]

def in_a_thread():
    print(state())
    lower_thread_priority(5)
    print(state())

os.nice(3)
print(shorten_time_slices())
print(state())
thread = threading.Thread(target=in_a_thread)
thread.start()
thread.join()
"""


def test_threads_have_the_shortest_time_slices_and_the_priority_of_before():
    release = tuple(map(int, re.findall(r"\d+", platform.release())[:2])) if sys.platform == "linux" else (0, 0)
    if release < (6, 12) or "se.slice" not in Path("/proc/self/sched").read_text():
        assert not shorten_time_slices() or release >= (3, 14)  # ignored, and no error
        return
    output = subprocess.run([sys.executable, "-c", SLICES], capture_output=True, text=True, check=True).stdout
    before = os.nice(0)
    assert output.splitlines() == [
        "True", f"['100000', {before + 3}]", f"['100000', {before + 3}]", f"['100000', {before + 8}]"]
