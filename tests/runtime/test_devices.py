"""A device that does not exist, or that this machine lacks, is refused in one sentence."""

import re

import pytest
import torch

from alexnet._runtime.devices import choose_device
from alexnet.errors import UserError


@pytest.mark.parametrize("name", ["", "x", "0", "tpu", "cpu:", "cuda:x", "cuda:-1", "mps:1.5"])
def test_a_device_that_does_not_exist_is_refused(name: str):
    with pytest.raises(UserError, match=rf"there is no device '{name}'; use auto, cpu, cuda, cuda:1"):
        choose_device(name)


@pytest.mark.parametrize(("name", "gpus", "problem"), [
    ("mps", 0, "device mps is not available: torch finds no Apple GPU"), ("cuda", 0, "torch finds no CUDA GPU"),
    ("cuda:2", 2, "device cuda:2 is not available: there are 2 GPUs, numbered from 0")])
def test_an_absent_device_is_refused(name: str, gpus: int, problem: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=re.escape(problem)):
        choose_device(name)


def test_a_device_that_is_there_is_chosen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert [choose_device(name) for name in ("auto", "cuda", "cuda:1", "cpu", "mps")] == [
        "cuda", "cuda", "cuda:1", "cpu", "mps"]
