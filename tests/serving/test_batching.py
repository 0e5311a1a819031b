"""Who is let in to a network that is asked by many, by what is inside and how long each kind of work takes."""

import time

import pytest

from alexnet.serving.batching import DynamicBatcher, Overloaded, Work


def gatherer(**seconds_each: float) -> DynamicBatcher:
    made = DynamicBatcher(lambda pixels, views: [], patience=1.0)
    for kind, seconds in seconds_each.items():
        getattr(made, kind).seconds_each = seconds
    return made


@pytest.mark.parametrize(("seconds_each", "more", "let_in"), [
    ({"views": 0.1}, (1, 9), True), ({"views": 0.1}, (1, 10), False),  # ten views are ten times the work
    ({"decodes": 0.3, "views": 0.01}, (2, 2), True), ({"decodes": 0.3, "views": 0.01}, (3, 3), False),
    ({"others": 0.6}, (1, 0, 1), True), ({"others": 1.2}, (1, 0, 1), False)])
def test_each_kind_of_work_counts_by_what_it_takes(seconds_each, more, let_in):
    crowd = gatherer(**seconds_each)
    with crowd.admitted(1, 1):
        if let_in:
            with crowd.admitted(*more):
                assert crowd.decodes.inside == 1 + more[0]
        else:
            with pytest.raises(Overloaded), crowd.admitted(*more):
                pass
        assert crowd.decodes.inside == 1
    with crowd.admitted(*more):  # an empty house lets anybody in
        pass
    assert (crowd.decodes.inside, crowd.views.inside, crowd.others.inside) == (0, 0, 0)


def test_one_slow_piece_moves_the_average_little_and_many_move_it_all_the_way(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    work = Work()

    def take(seconds: float) -> float:
        with work.timed(2):
            now[0] += 2 * seconds
        return work.seconds_each

    assert take(0.01) == pytest.approx(0.01)
    assert take(5.0) == pytest.approx(0.016)
    for _ in range(40):
        take(5.0)
    assert work.seconds_each == pytest.approx(5.0, rel=0.01)
