"""The short form of row 24 of docs/reliability.md: both servers answer all requests. No test judges a speed."""

import os
import re

import processes
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="--processes needs fork")]


def test_both_servers_answer_and_the_ratio_is_that_of_their_rates(monkeypatch):
    monkeypatch.setattr(processes, "NETWORKS", {"small": processes.NETWORKS["small at 56 pixels"]})
    found = processes.measure(processes=2, rounds=1, seconds=1.0).found
    one, several, ratio = (float(number) for number in re.fullmatch(
        r"small: (\d+) \(\d+ to \d+\) and (\d+) \(.*\) requests/s, ratio (\d+\.\d\d) \(.*\)", found).groups())
    assert one > 0
    assert several > 0
    assert abs(ratio - several / one) < 0.02 + ratio / min(one, several)
