"""Admission control: each kind of work counts by its measured time."""

import time

import pytest

from alexnet.serving.admission import AdmissionControl, Overloaded, WorkEstimate


@pytest.mark.parametrize(("seconds_per_item", "request_", "is_admitted"), [
    ({"views": 0.1}, (1, 9), True), ({"views": 0.1}, (1, 10), False),  # ten views are ten times the work
    ({"decodes": 0.3, "views": 0.01}, (2, 2), True), ({"decodes": 0.3, "views": 0.01}, (3, 3), False),
    ({"explanations": 0.6}, (1, 0, 1), True), ({"explanations": 1.2}, (1, 0, 1), False)])
def test_each_kind_of_work_counts_by_its_time(seconds_per_item, request_, is_admitted):
    admission = AdmissionControl(max_queue_seconds=1.0)
    for kind, seconds in seconds_per_item.items():
        work = getattr(admission, kind)
        (work if kind == "decodes" else work["model"]).seconds_per_item = seconds
    with admission.admit("a", "model", 1, 1):
        if is_admitted:
            with admission.admit("a", "model", *request_):
                assert admission.decodes.pending == {"a": 1 + request_[0]}
        else:
            with pytest.raises(Overloaded), admission.admit("a", "model", *request_):
                pass
        assert admission.decodes.pending == {"a": 1}
    with admission.admit("a", "model", *request_):  # with nothing pending, every request is admitted
        pass
    assert not any(kind.pending for kind in admission._kinds())


def test_with_nothing_pending_a_slow_network_admits_one_request():
    admission = AdmissionControl(max_queue_seconds=0.1)
    admission.decodes.seconds_per_item = 100
    with admission.admit("a", "model", 1), pytest.raises(Overloaded):
        admission.check("a", "model", 1)
    assert not admission.decodes.pending


def test_one_slow_item_moves_the_average_little_and_many_move_it_fully(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    work = WorkEstimate()

    def take(seconds: float) -> float:
        with work.timed(2):
            now[0] += 2 * seconds
        return work.seconds_per_item

    assert take(0.01) == pytest.approx(0.01)
    assert take(5.0) == pytest.approx(0.016)
    for _ in range(40):
        take(5.0)
    assert work.seconds_per_item == pytest.approx(5.0, rel=0.01)


@pytest.mark.parametrize("every", [2, 3])
def test_slow_items_among_quick_ones_raise_the_average(every, monkeypatch):
    """With samples of at most 4 times the average, it stayed at a hundredth of the true mean."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    work = WorkEstimate(seconds_per_item=0.01)
    seen = []
    for number in range(60):
        with work.timed():
            now[0] += 5.0 if number % every == 0 else 0.01
        seen.append(work.seconds_per_item)
    assert sum(seen[30:]) / 30 > 5.0 / every / 2


def test_seconds_before_the_measurement_count(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    work = WorkEstimate()
    with work.timed(2, before=3.0):
        pass
    assert work.seconds_per_item == 1.5


def test_a_client_waits_for_as_many_items_of_another_as_it_has_itself():
    """Clients take turns. Of 50 pending images, 0.1 seconds each, one comes before the other client's only one."""
    admission = AdmissionControl(max_queue_seconds=1.0)
    admission.decodes.seconds_per_item = 0.1
    with admission.admit("many", "model", 50):
        assert admission.decodes.waiting_seconds("one", 1) == pytest.approx(0.2)
        with admission.admit("one", "model", 5), pytest.raises(Overloaded), admission.admit("one", "model", 1):
            pass
        with pytest.raises(Overloaded):
            admission.check("many", "model", 1)
        with admission.admit("one", "model", 1), admission.admit("two", "model", 1):
            assert admission.decodes.waiting_seconds("three", 1) == pytest.approx(0.4)
    assert not admission.decodes.pending


def test_a_request_waits_for_the_work_of_all_models_and_each_counts_by_its_own_time():
    """Ten views of the slow model take 10 seconds; the fast one's take none of it, but wait for one item of it."""
    admission = AdmissionControl(max_queue_seconds=2.0)
    admission.views["slow"].seconds_per_item = 1.0
    admission.views["fast"].seconds_per_item = 0.01
    with admission.admit("a", "slow", 1, 10):
        admission.check("b", "fast", 1, 10)
        with pytest.raises(Overloaded):
            admission.check("b", "slow", 1, 2)
        with pytest.raises(Overloaded):  # behind its own images
            admission.check("a", "fast", 1, 1)
