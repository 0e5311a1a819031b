"""A recorded step, replayed with other inputs, rates and dropout, is the step that is taken without recording.

`Recordings` records the operators of a step on a CPU and runs them again with the arguments of the recording, as a CUDA
graph does. `fake_gpu_graph.py` compares the arguments of two steps on a GPU that is not there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from alexnet._runtime import kernels, native
from alexnet.architecture.recipe_presets import recipe
from alexnet.errors import UserError
from alexnet.training import step_graph
from alexnet.training.bf16_weights import Bf16Weights
from alexnet.training.build import build
from alexnet.training.optimizer import SGD
from alexnet.training.spec import RunSpec
from fake_gpu_library import TESTS, compiled

CPU = torch.device("cpu")


class Recordings(TorchDispatchMode):
    """Recordings of operators on a CPU. `state` gives the tensors that recording must leave as they are."""

    def __init__(self, state):
        super().__init__()
        self.state, self.replays = state, 0

    def warm_up(self, work):
        return work()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operators.append((func, args, kwargs or {}, result))
        return result

    def record(self, work):
        self.operators = operators = []
        before = [tensor.clone() for tensor in self.state()]
        with self:
            outputs = work()
        for tensor, value in zip(self.state(), before, strict=True):
            tensor.detach().copy_(value)

        @torch.no_grad()
        def replay():
            self.replays += 1
            for func, args, kwargs, result in operators:
                for old, new in zip(tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)
            return outputs

        return replay


def run(packed, arch, folder, train="paper", *, graph, epochs=1, recordings=False, **options):
    """Train 18 steps an epoch, of 6 and of 7 images; the trainer."""
    trainer = build(RunSpec(packed, arch, replace(recipe(train), batch_size=7, epochs=epochs, **options), folder,
                            cuda_graph=graph, precision="bf16", save_minutes=1e9, resume=True))
    if recordings:
        copies = trainer.optimizer._bf16_weights
        trainer.graph.recorder = Recordings(lambda: [
            *trainer.network.state_dict().values(), *trainer.optimizer.velocity.values(),
            *(copies.of(trainer.network.parameters()) if copies else [])])
    trainer.fit()
    return trainer


def tensors(trainer):
    return {**trainer.network.state_dict(), **{f"velocity {name}": v for name, v in trainer.optimizer.velocity.items()}}


def equal(a, b):
    assert tensors(a).keys() == tensors(b).keys()
    return all(torch.equal(tensor, tensors(b)[name]) for name, tensor in tensors(a).items())


def test_on_a_cpu_the_option_changes_no_bit_also_of_a_run_that_is_resumed(packed, tiny, tmp_path):
    plain = run(packed, tiny, tmp_path / "plain", graph=False, epochs=2)
    run(packed, tiny, tmp_path / "graph", graph=True)
    resumed = run(packed, tiny, tmp_path / "graph", graph=True, epochs=2)
    assert resumed.state.step == 36
    assert [json.loads((tmp_path / name / "config.json").read_text()).get("cuda_graph") for name in (
        "plain", "graph")] == [None, True]
    assert equal(plain, resumed)


MIXED = {"mixup_alpha": 0.2, "label_smoothing": 0.1, "ema_decay": 0.9, "clip_norm": 1.0}
needs_kernels = pytest.mark.skipif(not native.level(), reason="no compiled kernels")


@needs_kernels
@pytest.mark.parametrize(("train", "options"), [
    ("paper", {}), ("modern", MIXED), ("lars", {"warmup_epochs": 1}),
    ("paper", {"conv1_stop_epoch": 1, "epochs": 2})])
def test_replayed_steps_are_those_of_a_run_without_recordings(
    packed, tiny, tmp_path, monkeypatch, train, options,
):
    """With rates that change in every step, dropout, mixup, LARS, and a layer that stops in the second epoch."""
    plain = run(packed, tiny, tmp_path / "plain", train, graph=False, **options)
    monkeypatch.setattr(kernels, "_is_plain", lambda tensor: False)  # through the operators, which can be recorded
    replayed = run(packed, tiny, tmp_path / "graph", train, graph=True, recordings=True, **options)
    # Of 18 steps an epoch, 3 of each of the two sizes run as they are, and one measures the units.
    assert replayed.graph.recorder.replays >= 11
    assert equal(plain, replayed)


@needs_kernels
def test_replayed_steps_write_the_weights_in_bf16_and_read_them(packed, tiny, tmp_path, monkeypatch):
    """Averaged weights are swapped in between two replays, and out again."""
    options = {"ema_decay": 0.9, "epochs": 2}
    plain = run(packed, tiny, tmp_path / "plain", "modern", graph=False, **options)
    monkeypatch.setattr(kernels, "_is_plain", lambda tensor: False)
    monkeypatch.setattr("alexnet.training.build.bf16_weights", lambda network, precision: Bf16Weights(network))
    replayed = run(packed, tiny, tmp_path / "graph", "modern", graph=True, recordings=True, **options)
    assert replayed.graph.recorder.replays >= 11
    assert equal(plain, replayed)


@needs_kernels
@pytest.mark.parametrize("forgotten", ["views_NCHW", "labels_N", "counter", "rates"])
def test_a_recording_that_forgets_what_changes_is_found(packed, tiny, tmp_path, monkeypatch, forgotten):
    """The test above can fail: here the recording keeps a tensor of its own, which nothing is copied into."""
    plain = run(packed, tiny, tmp_path / "plain", "modern", graph=False)
    monkeypatch.setattr(kernels, "_is_plain", lambda tensor: False)
    real = step_graph.StepGraph._compute

    def compute(graph, inputs):
        if graph._steps.total() > 6:  # not in the first steps, which are not recorded
            if forgotten == "rates":
                graph.optimizer._rate_tensors = [tuple(row) for row in graph.optimizer._rates_G2.clone()]
            else:
                inputs = {**inputs, forgotten: inputs[forgotten].clone()}
        return real(graph, inputs)

    class Forgetful(Recordings):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if func is not torch.ops.aten.clone.default:
                self.operators.append((func, args, kwargs or {}, result))
            return result

    monkeypatch.setattr(step_graph.StepGraph, "_compute", compute)
    monkeypatch.setitem(globals(), "Recordings", Forgetful)
    assert not equal(plain, run(packed, tiny, tmp_path / "graph", "modern", graph=True, recordings=True))


def test_on_a_gpu_nothing_that_changes_by_step_is_an_argument(tmp_path):
    """Two replayed steps call the same operators with the same numbers and the same tensors from outside; no tensor of
    the CPU is among these, and nothing waits."""
    ran = subprocess.run([sys.executable, TESTS / "fake_gpu.py", compiled(tmp_path), tmp_path, "graph"],
                         capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr[-4000:]
    fused = {"alexnet.norm_pool.default", "alexnet.norm_pool_backward.default"}
    for name, found in json.loads(ran.stdout).items():
        own = set(found["own"])  # the layers after a convolution are one kernel, but for batch normalization
        assert (own >= fused) == (name != "paper-bn"), name
        assert not own & {"alexnet.norm_forward.default", "alexnet.norm_backward.default"}, name
        assert found["steps"] == 6, name
        assert found["warm_ups"] == 3, name
        assert found["operators"] > 50, name
        assert found["differences"] == [], name
        assert found["on_the_cpu"] == [], name
        assert found["own"]["alexnet.dropout.default"] >= 2, name
        assert found["own"]["alexnet.sgd_update.default"] == 1, f"{name}: one launch updates all weights"


def test_a_cuda_graph_is_recorded_beside_other_threads_in_the_stream_that_was_warmed_up(monkeypatch):
    calls = []

    class Stream:
        def __init__(self, name):
            self.name = name

        def wait_stream(self, other):
            calls.append(f"{self.name} waits for {other.name}")

    current, side = Stream("current"), Stream("side")

    def graph(made, **options):
        calls.append(options)
        return nullcontext()

    output = SimpleNamespace(record_stream=lambda stream: calls.append(f"kept for {stream.name}"))
    for name, fake in (("Stream", lambda device: side), ("graph_pool_handle", lambda: (0, 1)), ("graph", graph),
                       ("device", lambda device: nullcontext()), ("current_stream", lambda device: current),
                       ("stream", lambda stream: nullcontext()),
                       ("CUDAGraph", lambda: SimpleNamespace(replay=lambda: calls.append("replay")))):
        monkeypatch.setattr(torch.cuda, name, fake)
    recorder = step_graph.recorder_on(torch.device("cuda", 0))

    def work():
        calls.append("work")
        return output, output

    assert recorder.warm_up(work) == (output, output)
    assert calls == ["side waits for current", "work", "current waits for side", *["kept for current"] * 2]
    calls.clear()
    replay = recorder.record(work)
    assert calls == [{"pool": (0, 1), "stream": side, "capture_error_mode": "thread_local"}, "work"]
    calls.clear()
    assert replay() == (output, output)
    assert calls == ["replay"], "nothing is computed again"


@pytest.mark.parametrize(("options", "problem"), [
    ({"precision": "fp16"}, "does not work with fp16"), ({"micro_batch": 4}, "--micro-batch cannot be combined"),
    ({"processes": 2}, "trains in one process, and there are 2"),
    ({"device": torch.device("cuda", 0)}, "needs Triton")])
def test_what_cannot_be_recorded_is_refused(monkeypatch, options, problem):
    monkeypatch.setattr(kernels, "_has_triton", lambda: False)
    with pytest.raises(UserError, match=problem):
        step_graph.check_recordable(
            **{"precision": "bf16", "micro_batch": None, "processes": 1, "device": CPU, **options})
    step_graph.check_recordable("bf16", None, 1, CPU)


def test_an_update_whose_rate_is_a_number_is_never_recorded(monkeypatch):
    """Without a kernel, torch's operators take the rate as a number: each replay would repeat it without a word."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    optimizer, weight = SGD(torch.nn.Linear(3, 2), recipe("paper")), torch.ones(2)
    optimizer._update_in_torch([weight], [torch.zeros(2)], [torch.ones(2)], 0.5, 0.0)
    assert weight.tolist() == [0.5, 0.5]
    with pytest.raises(RuntimeError, match="would replay the learning rate"):
        optimizer._update_in_torch([SimpleNamespace(is_cuda=True)], [], [], 0.5, 0.0)


def test_a_run_with_micro_batches_is_refused_before_anything_is_written(packed, tiny, tmp_path):
    with pytest.raises(UserError, match="leave out --cuda-graph, or leave out --micro-batch"):
        build(RunSpec(packed, tiny, recipe("paper"), tmp_path / "run", cuda_graph=True, micro_batch=4))
    assert not (tmp_path / "run").exists()
