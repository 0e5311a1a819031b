"""CUDA graphs: a training step is recorded once for each batch size, and then replayed by one launch (`--cuda-graph`).

A replay runs the recorded kernels with the arguments of the recording: the same memory, the same Python numbers. So all
that changes from step to step is read from tensors that stay where they are. The inputs are copied into static ones,
and with them the counter by which dropout draws; `SGD.begin_step` writes the learning rates to the device. The rest
(network, batch size, momentum, weight decay, which rates are 0) is the same in all steps with one recording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from alexnet._runtime import kernels
from alexnet._runtime.devices import Precision
from alexnet.data.mixing import MixedLabels
from alexnet.errors import require
from alexnet.training.optimizer import SGD
from alexnet.training.parallel.layers import BatchSlice
from alexnet.training.precision import MixedPrecision
from alexnet.training.step import compute_step

WARM_UP_STEPS = 3
"""Steps of each kind that run before one is recorded: they choose cuDNN's algorithms and compile Triton's kernels."""

Outputs = tuple[Tensor, Tensor]
Work = Callable[[], Outputs]


class Recorder(Protocol):
    """Records work on a device, to replay it."""

    def warm_up(self, work: Work) -> Outputs:
        """Run the work as it will be recorded."""

    def record(self, work: Work) -> Work:
        """Record the work without running it. The function returned replays it; its results stay until the next one."""


class Calls:
    """No recording: a replay is a call. For a CPU, and for tests of the code around it."""

    def warm_up(self, work: Work) -> Outputs:
        return work()

    def record(self, work: Work) -> Work:
        return work


class CudaGraphs:
    """Recordings as CUDA graphs, which share their memory: only one runs at a time, and its results are read first.

    Warm-up and recording use one stream, since some libraries allocate memory for each stream that they see. Unsafe
    calls of other threads are allowed while a step is recorded: the loader's threads allocate pinned memory.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        with torch.cuda.device(device):
            self.stream, self.pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work) -> Outputs:
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            outputs = work()
        current.wait_stream(self.stream)
        for output in outputs:
            output.record_stream(current)
        return outputs

    def record(self, work: Work) -> Work:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device), torch.cuda.graph(
                graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            outputs = work()

        def replay() -> Outputs:
            graph.replay()
            return outputs

        return replay


def recorder_on(device: torch.device) -> Recorder:
    """CUDA graphs on CUDA; calls elsewhere."""
    return CudaGraphs(device) if device.type == "cuda" else Calls()


def check_recordable(precision: Precision, micro_batch: int | None, processes: int, device: torch.device) -> None:
    """Raise UserError for a run whose steps are no recordings of one kind."""
    remedy = "leave out --cuda-graph, or "
    require(precision != "fp16", "--cuda-graph does not work with fp16, whose loss scaling skips some updates",
            remedy + "give --precision bf16")
    require(micro_batch is None, "--cuda-graph and --micro-batch cannot be combined",
            remedy + "leave out --micro-batch")
    require(processes == 1, f"--cuda-graph trains in one process, and there are {processes}",
            remedy + "start it without torchrun")
    require(device.type != "cuda" or kernels.available("cuda"), "--cuda-graph needs Triton, whose kernels read the "
            "learning rates and dropout's counter on the GPU", remedy + "install triton")


@dataclass
class StepGraph:
    """Takes training steps of one process, each on a whole batch, by `compute_step` in recordings.

    The first steps of each kind run as they are, so that nothing is computed that the run would not compute. Autocast
    begins and ends within a recording, and so does its cache of casts.
    """

    module: nn.Module
    optimizer: SGD
    precision: MixedPrecision
    batch: BatchSlice
    """What the dropout layers of the module read; the strategy sets it before each step."""
    class_weights_K: Tensor | None
    recorder: Recorder
    _steps: Counter[Hashable] = field(default_factory=Counter)
    _recordings: dict[Hashable, tuple[dict[str, Tensor], Work]] = field(default_factory=dict)

    def __call__(
        self, views_NCHW: Tensor, labels_N: Tensor, rate: float, conv1_rate: float | None = None,
        mixed: MixedLabels | None = None,
    ) -> Outputs:
        """Take a step. Arguments and results as for `train_step`; the results stay until the next step."""
        self.optimizer.begin_step(rate, conv1_rate)
        assert self.batch.counter is not None, "the strategy has not been told of this batch"
        inputs = {"views_NCHW": views_NCHW, "labels_N": labels_N, "counter": self.batch.counter}
        if mixed:
            inputs |= {"partner_labels_N": mixed.partner_labels_N, "weight_N": mixed.weight_N}
        kind = self.optimizer.frozen_groups, *((name, given.shape, given.dtype) for name, given in inputs.items())
        self._steps[kind] += 1
        if self._steps[kind] <= WARM_UP_STEPS:
            return self.recorder.warm_up(lambda: self._compute(inputs))
        if kind not in self._recordings:
            static = {name: given.clone() for name, given in inputs.items()}
            self._recordings[kind] = static, self.recorder.record(lambda: self._compute(static))
        static, replay = self._recordings[kind]
        for name, given in inputs.items():
            static[name].copy_(given)
        return replay()

    def _compute(self, inputs: Mapping[str, Tensor]) -> Outputs:
        self.batch.counter = inputs["counter"]
        mixed = MixedLabels(inputs["partner_labels_N"], inputs["weight_N"]) if "weight_N" in inputs else None
        return compute_step(self.module, self.optimizer, inputs["views_NCHW"], inputs["labels_N"], self.precision,
                            class_weights_K=self.class_weights_K, mixed=mixed)
