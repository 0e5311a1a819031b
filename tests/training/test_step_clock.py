"""Which process is the slowest, how long it works in a step, and how long the others wait for it."""

import io
import json
import time
from collections import deque
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from test_parallel import RECIPE, job, launch
from test_progress_bar import START, STEP

from alexnet.training.parallel.process_group import ProcessGroup
from alexnet.training.parallel.step_clock import StepClock, own_times, slowest_rank
from alexnet.training.progress_bar import TrainingBar

CPU = torch.device("cpu")


@pytest.fixture
def now(monkeypatch):
    """The time, which a test sets."""
    moment = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: moment[0])
    return moment


def a_step(clock, now, working, waiting, summing=0.0):
    now[0] += working
    if summing:
        clock.gradients_ready()
        now[0] += summing / 2
        clock.gradients_summed()
        now[0] += summing / 2
        clock.gradients_summed()
    with clock.waiting():
        now[0] += waiting
    clock.end_step()


def test_a_step_is_work_and_waiting(now):
    clock = StepClock(CPU)
    with clock.running():
        a_step(clock, now, 0.2, 0.05, summing=0.03)
        a_step(clock, now, 0.4, 0.01, summing=0.01)
        assert clock.take() == pytest.approx((0.3, 0.05))
        assert clock.take() == (0.0, 0.0)


def test_what_is_between_two_epochs_and_a_save_belongs_to_no_step(now):
    clock = StepClock(CPU)
    with clock.waiting():
        now[0] += 100.0
    with clock.running():
        a_step(clock, now, 1.0, 0.5)
        now[0] += 100.0
        clock.restart()
        a_step(clock, now, 2.0, 0.5)
    with clock.waiting():
        now[0] += 100.0
    clock.end_step()
    assert clock.take() == pytest.approx((1.5, 0.5))


def test_a_single_process_keeps_no_times(now):
    clock = ProcessGroup(0, 1).clock
    with clock.running():
        a_step(clock, now, 1.0, 0.5)
        clock.restart()
        a_step(clock, now, 1.0, 0.5)
        assert clock.take() == (0.0, 0.0)


class Queue:
    """A GPU's queue of events: those that it has reached have a time."""

    def __init__(self):
        self.events = deque()

    def reach(self, *times):
        for moment in times:
            self.events.popleft().moment = moment


@pytest.fixture
def queue(monkeypatch):
    made = Queue()

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing
            self.moment = None

        def record(self):
            made.events.append(self)

        def query(self):
            return self.moment is not None

        def elapsed_time(self, end):
            return end.moment - self.moment  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    return made


def test_on_a_gpu_only_steps_that_are_over_are_read_and_nothing_waits(queue):
    clock = StepClock(torch.device("cuda", 0))
    with clock.running():
        for _ in range(2):
            with clock.waiting():
                pass
            clock.end_step()
    assert clock.take() == (0.0, 0.0)
    queue.reach(0, 200, 230, 240)
    assert clock.take() == pytest.approx((0.21, 0.03))
    queue.reach(300, 400, 450)
    assert clock.take() == pytest.approx((0.11, 0.1))


def test_the_slowest_of_three_by_the_sum_of_what_each_adds(now):
    """Worked out by hand: ranks work 175, 210 and 180 ms in steps of 215 ms."""
    summed = torch.zeros(6)
    for rank, working in enumerate((0.175, 0.210, 0.180)):
        clock = StepClock(CPU)
        with clock.running():
            a_step(clock, now, working, 0.215 - working)
        summed += own_times(clock, rank, 3)
    found = slowest_rank(summed.tolist())
    assert found["slowest_rank"] == 1
    assert found["slowest_rank_seconds"] == pytest.approx(0.210)
    assert found["slowest_rank_waiting"] == pytest.approx(0.005)
    assert found["others_waiting"] == pytest.approx(0.0375)
    assert slowest_rank([0.0] * 6) == slowest_rank([]) == {}


SLOWEST = {"slowest_rank": 3, "slowest_rank_seconds": 0.21, "slowest_rank_waiting": 0.005, "others_waiting": 0.04}
SENTENCE = "rank 3 is the slowest: 210 ms a step, the others wait 35 ms"


def test_the_progress_line_names_the_slowest_until_the_next_report(capsys):
    bar = TrainingBar(100)
    bar.plain_seconds = 0
    bar.show(START)
    bar.show(STEP)
    bar.show(STEP | SLOWEST)
    bar.show(STEP)
    first, *others = capsys.readouterr().err.splitlines()
    assert "slowest" not in first
    assert all(line.endswith(f"limit: compute; {SENTENCE}") for line in others)
    assert len(others) == 2


def test_a_step_that_even_the_slowest_waits_in_longer_than_it_works_is_limited_by_sending(capsys):
    bar = TrainingBar(100)
    bar.plain_seconds = 0
    bar.show(START)
    for waiting in (0.2, 0.22):
        bar.show(STEP | SLOWEST | {"slowest_rank_waiting": waiting, "others_waiting": 0.25})
    first, second = capsys.readouterr().err.splitlines()
    assert "limit: compute; rank 3 is the slowest: 210 ms a step, the others wait 50 ms" in first
    assert "limit: sending; rank 3 is the slowest: 210 ms a step, the others wait 30 ms" in second


def test_on_a_terminal_it_has_a_line_of_its_own():
    file = io.StringIO()
    bar = TrainingBar(100)
    bar.console = Console(file=file, force_terminal=True, width=80, color_system=None)
    with bar:
        bar.show(START)
        bar.show(STEP | SLOWEST)
        bar.progress.refresh()
    assert any(line.strip().endswith(SENTENCE) for line in file.getvalue().splitlines())


@pytest.mark.parametrize("parallel", ["data", pytest.param("hybrid", marks=pytest.mark.slow)])
def test_a_process_that_is_slow_is_found(packed, tmp_path, parallel):
    """Rank 1 of 2 sleeps 50 ms in each of 12 steps; the other one waits for it."""
    launch("straggle", tmp_path, [job(packed, "run", "norm", parallel, recipe=replace(RECIPE, batch_size=10))], 2)
    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    assert [step["step"] for step in steps] == [10]
    assert steps[0]["slowest_rank"] == 1
    assert steps[0]["slowest_rank_seconds"] > 0.05
    assert steps[0]["others_waiting"] - steps[0]["slowest_rank_waiting"] > 0.02
