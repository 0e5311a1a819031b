"""With several processes, no event of the log waits long for a slow disk, and none is lost or out of order."""

import csv
import json
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from alexnet.architecture.recipe_presets import recipe
from alexnet.models import saver
from alexnet.training import slow_disk, trackers, trainer
from alexnet.training.build import build
from alexnet.training.run_folder import RunLog
from alexnet.training.slow_disk import PatientWriter
from alexnet.training.spec import RunSpec
from alexnet.training.state import State

PATIENCE = 0.05


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(slow_disk, "PATIENCE", PATIENCE)


@pytest.fixture
def disk_is_back():
    """Set at the end in any case: a thread that still waited would keep the interpreter from its end."""
    event = threading.Event()
    yield event
    event.set()


def full_disk():
    raise OSError("no space left")


def test_a_fast_write_is_done_and_its_error_is_raised_at_once():
    writer, done = PatientWriter(), []
    slow_disk.PATIENCE = 60.0  # however busy the machine is
    writer.do(lambda: done.append(1))
    assert done == [1]
    with pytest.raises(OSError, match="no space left"):
        writer.do(full_disk)
    writer.do(lambda: done.append(2))
    assert done == [1, 2]


def test_a_late_write_is_not_waited_for_and_its_error_is_raised_later(disk_is_back):
    writer, done = PatientWriter(), []
    writer.do(disk_is_back.wait)
    began = time.monotonic()
    for number in range(100):
        writer.do(lambda number=number: done.append(number))
    writer.do(full_disk)
    assert time.monotonic() - began < 60 * PATIENCE, "each write waited"
    assert not done
    disk_is_back.set()
    with pytest.raises(OSError, match="no space left"):
        writer.wait()
    assert done == list(range(100))


def test_the_log_and_the_csv_files_have_all_events_after_a_slow_disk(tmp_path, monkeypatch, disk_is_back):
    def after_the_disk_is_back(write):
        def slow(*arguments):
            assert disk_is_back.wait(60)
            write(*arguments)

        return slow

    monkeypatch.setattr(RunLog, "_append", after_the_disk_is_back(RunLog._append))
    monkeypatch.setattr(trackers.CsvFiles, "log", after_the_disk_is_back(trackers.CsvFiles.log))
    monkeypatch.setattr("alexnet.training.run_folder.to_json", lambda tree: {})
    log = RunLog(tmp_path, State(0, "", "fp32"), is_shared=True)
    log.open_trackers(SimpleNamespace(log=("csv",), out=tmp_path, arch=None, recipe=None,
                                      data=SimpleNamespace(source="")), State(0, "", "fp32"))
    for step in range(10, 60, 10):
        log.write({"event": "step", "step": step, "epoch": 1, "loss": 0.5})
    assert not (tmp_path / "log.jsonl").read_text()
    disk_is_back.set()
    log.close()
    steps = [10, 20, 30, 40, 50]
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == steps
    with (tmp_path / "csv" / "step.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == steps


class SharedLog(RunLog):
    """The log of a run of several processes, in one."""

    def __init__(self, out, state, is_shared):
        super().__init__(out, state, is_shared=True)

    def _append(self, line):
        if '"signals"' in line:  # of the first step
            time.sleep(2)
        super()._append(line)


def test_a_checkpoint_waits_for_the_events_before_it(packed, tiny, tmp_path, monkeypatch):
    real, logs = saver.save, []

    def save(checkpoint, folder):
        logs.append((tmp_path / "run" / "log.jsonl").read_text())
        real(checkpoint, folder)

    monkeypatch.setattr(trainer, "RunLog", SharedLog)
    monkeypatch.setattr(saver, "save", save)
    build(RunSpec(packed, tiny, replace(recipe("paper"), batch_size=60, epochs=1), tmp_path / "run",
                  save_minutes=0.0)).fit()
    assert '"signals"' in logs[0]
