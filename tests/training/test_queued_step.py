"""Results of queued steps: what waits for the device, how long a step took, and what a single process does not send."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from alexnet.training.parallel.process_group import ProcessGroup
from alexnet.training.queued_step import QueuedStep, Readback, Requests, step_results
from alexnet.training.stop_signal import SIGNALS

CUDA = torch.device("cuda", 0)


class Device:
    """A GPU's queue: each recorded event waits in it until the device reaches it, at a time in milliseconds."""

    def __init__(self):
        self.queue = deque()

    def run_one(self, moment):
        self.queue.popleft().moment = moment


@pytest.fixture
def device(monkeypatch):
    made = Device()

    class Event:
        def __init__(self, enable_timing=False, blocking=False):
            assert enable_timing
            self.moment = None

        def record(self):
            made.queue.append(self)

        def synchronize(self):
            assert self.moment is not None, "the test would wait for ever"

        def elapsed_time(self, end):
            return end.moment - self.moment

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_exchange_device", lambda index: 0)
    monkeypatch.setattr(torch.cuda, "_maybe_exchange_device", lambda index: 0)
    return made


def queued(readback, after=None):
    return QueuedStep(1, SimpleNamespace(), 0.1, readback, False, began=0.0, waited=0.0, after=after)


def test_reading_a_step_does_not_wait_for_the_next_one(device, monkeypatch):
    """The values have no numbers here, so whatever copied them to the CPU again would raise."""
    with FakeTensorMode():
        first, second = (Readback(torch.empty(2, device=CUDA)) for _ in range(2))
    assert len(device.queue) == 2
    device.run_one(5.0)
    first._values = torch.tensor([1.5, 3.0])
    assert first.read() == [1.5, 3.0]
    with pytest.raises(AssertionError, match="wait for ever"):
        second.read()


def test_results_are_copied_to_memory_of_the_cpu_when_they_are_queued(device):
    with FakeTensorMode():
        assert Readback(torch.empty(2, device=CUDA))._values.device.type == "cpu"


def test_a_steps_time_is_one_steps_though_two_are_in_the_queue(device, monkeypatch):
    """Worked out by hand: steps end 40, 60 and 80 ms after the start; each is read when the next one is queued."""
    now = [0.0]
    monkeypatch.setattr("alexnet.training.queued_step.time.perf_counter", lambda: now[0])
    with FakeTensorMode():
        readbacks = [Readback(torch.empty(2, device=CUDA)) for _ in range(3)]
    steps = [queued(readbacks[0]), queued(readbacks[1], readbacks[0]), queued(readbacks[2], readbacks[1])]
    found = []
    for step, moment in zip(steps, (40.0, 60.0, 80.0), strict=True):
        device.run_one(moment)
        now[0] = moment / 1000
        found.append(step.seconds())
    assert found == pytest.approx([0.04, 0.02, 0.02])


def test_a_single_process_sends_no_requests_to_the_device():
    with FakeTensorMode():
        loss, wrong = torch.empty((), device=CUDA), torch.empty((), device=CUDA, dtype=torch.int64)
        results = step_results(loss, wrong, ProcessGroup(), signal=int(SIGNALS[0]), save=True, timed=True)
    assert (results.shape, results.device) == ((2,), CUDA)


def test_several_processes_sum_their_requests(monkeypatch):
    """Rank 1 of 2 got the second signal, rank 0 finds that a save is due. The fake group sums nothing: it is asked."""
    sums = []
    monkeypatch.setattr(ProcessGroup, "all_reduce_sum", lambda group, values: sums.append(values) or values)
    for rank, (signal, save) in enumerate(((0, True), (int(SIGNALS[1]), False))):
        step_results(torch.tensor(0.5), torch.tensor(3), ProcessGroup(rank, 2), signal=signal, save=save, timed=False)
    assert sums[0].tolist() == [0.5, 3, 0, 0, 1]
    assert sums[1].tolist() == [0.5, 3, 0, 1, 0]
    requests = Requests()
    requests.add((sums[0] + sums[1]).tolist()[2:])
    assert requests == Requests(int(SIGNALS[1]), True)
