"""The default number of reading threads is the cores that the process may use, and not those of the machine."""

import os

import pytest

from alexnet._runtime import cpu_threads
from alexnet._runtime.cpu_threads import _cgroup_cores, loader_threads, set_openmp_defaults, usable_cores


@pytest.mark.parametrize(("name", "text", "cores"), [
    ("cpu.max", "400000 100000\n", 4), ("cpu.max", "50000 100000\n", 0.5), ("cpu.max", "max 100000\n", float("inf"))])
def test_the_quota_of_a_container_version_2(tmp_path, name, text, cores):
    (tmp_path / name).write_text(text)
    assert _cgroup_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("600000", 6), ("-1", float("inf"))])
def test_the_quota_of_a_container_version_1(tmp_path, quota, cores):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert _cgroup_cores(tmp_path) == cores


def test_without_a_quota_the_affinity_counts(tmp_path, monkeypatch):
    assert _cgroup_cores(tmp_path) == float("inf")
    monkeypatch.setattr(cpu_threads, "_cgroup_cores", lambda folder: float("inf"))
    if hasattr(os, "sched_getaffinity"):
        assert usable_cores() == len(os.sched_getaffinity(0))
    monkeypatch.setattr(cpu_threads, "_cgroup_cores", lambda folder: 0.5)
    assert usable_cores() == 1


@pytest.mark.parametrize(("quota", "processes", "given", "threads"), [
    (2, 1, None, "2"), (4, 2, None, "2"), (0.5, 1, None, "1"), (float("inf"), 1, None, None), (64, 1, None, None),
    (2, 1, "7", "7")])
def test_torch_gets_no_more_threads_than_the_quota_of_its_container(quota, processes, given, threads, monkeypatch):
    monkeypatch.setattr(cpu_threads, "_affinity_cores", lambda: 64)
    monkeypatch.setattr(cpu_threads, "_cgroup_cores", lambda folder: quota)
    monkeypatch.setenv("GOMP_SPINCOUNT", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", given or "")
    if not given:
        monkeypatch.delenv("OMP_NUM_THREADS")
    set_openmp_defaults(processes)
    assert os.environ.get("OMP_NUM_THREADS") == threads


@pytest.mark.parametrize(("cores", "processes", "threads"), [
    (1, 1, 2), (2, 1, 2), (12, 1, 12), (128, 1, 16), (128, 8, 16), (64, 8, 8), (8, 8, 2)])
def test_the_processes_of_a_host_share_its_cores(monkeypatch, cores, processes, threads):
    monkeypatch.setattr(cpu_threads, "usable_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert loader_threads() == threads
