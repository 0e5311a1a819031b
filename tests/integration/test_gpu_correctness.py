"""The GPU benchmark's check of CUDA graphs finds a graph that keeps the learning rate with which it was recorded."""

from __future__ import annotations

import json

import pytest
from gpu_bench import Bench
from gpu_correctness import _graph_error

from alexnet.training.step_graph import WARM_UP_STEPS, StepGraph


@pytest.mark.parametrize("stale", [False, True])
def test_the_check_of_cuda_graphs_finds_a_stale_learning_rate(tmp_path, monkeypatch, stale):
    step, rates = StepGraph.__call__, []

    def with_rate_of_recording(self, views, labels, rate, *others):
        rates.append(rate)
        return step(self, views, labels, rates[:WARM_UP_STEPS + 1][-1], *others)

    if stale:
        monkeypatch.setattr(StepGraph, "__call__", with_rate_of_recording)
    _graph_error(Bench(dry=True, out=tmp_path, shards=tmp_path / "shards", images=64, workers=1, seconds=0.1))
    (row,) = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert row["holds"] is not stale
