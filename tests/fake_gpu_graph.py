"""Recorded steps on fake_gpu.py's GPU: whether an argument of any operator differs between two replayed steps."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from alexnet._runtime.pixels import TensorPixels
from alexnet.data.packed import PackedDataset
from alexnet.training import step_graph
from alexnet.training.build import build
from fake_gpu import CUDA, SIDE, Waits, spec_of

STEPS = 6


class Watch(TorchDispatchMode):
    """A recorder that takes the steps, and notes each operator: its numbers, and which tensors are from outside."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.warm_ups, self.notes, self.steps, self.kept = 0, [], [], []  # type: ignore[var-annotated]
        self.on_the_cpu: list[str] = []

    def warm_up(self, work: step_graph.Work) -> step_graph.Outputs:
        self.warm_ups += 1
        return work()

    def record(self, work: step_graph.Work) -> step_graph.Work:
        def replay() -> step_graph.Outputs:
            self.notes, self.made = [], set()
            with self:
                outputs = work()
            self.steps.append(self.notes)
            return outputs

        return replay

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.prim.device.default:  # a question, and no work
            return result
        given = tree_leaves((args, kwargs or {}))
        tensors = [leaf for leaf in given if isinstance(leaf, torch.Tensor)]
        self.on_the_cpu += [str(func) for tensor in tensors if tensor.device.type == "cpu"]
        outside = [id(tensor) for tensor in tensors if id(tensor) not in self.made]
        numbers = [str(leaf) for leaf in given if not isinstance(leaf, torch.Tensor)]
        self.notes.append((str(func), numbers, outside))
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.kept += [tensors, results]  # so that no id is given twice
        self.made |= {id(tensor) for tensor in results} - set(map(id, tensors))
        return result


def found(packed: PackedDataset, folder: Path) -> dict[str, Any]:
    step_graph.CudaGraphs = Watch  # type: ignore[misc,assignment]
    every = {"mixup_alpha": 0.2, "clip_norm": 1.0, "label_smoothing": 0.1, "schedule": "cosine", "epochs": 9}
    return {name: watched(packed, folder, *of_run) for name, *of_run in (
        ("paper", "paper", "paper", "bf16", {"schedule": "cosine"}), ("paper-bn", "paper-bn", "modern", "bf16", {}),
        ("fp32", "paper", "paper", "fp32", every), ("lars", "paper", "lars", "bf16", {"warmup_epochs": 2}))}


def watched(
    packed: PackedDataset, folder: Path, network: str, train: str, precision: str, settings: dict[str, Any],
) -> dict[str, Any]:
    spec = spec_of(packed, folder, network, train, precision, **settings)
    with closing(build(spec).epoch_batches()) as source:
        batches = list(islice(source, 1)) * STEPS
    with FakeTensorMode(allow_non_fake_inputs=True):
        trainer = build(replace(spec, device=str(CUDA), cuda_graph=True))
        trainer.network.train()
        trainer._lighting = torch.empty(3, 3, device=CUDA)  # type: ignore[attr-defined]
        trainer.state.step = 1  # every hundredth step measures the units, and waits
        for batch in batches:
            count = len(batch.indices)
            batch = replace(batch, labels_N=torch.empty(count, dtype=torch.int64, device=CUDA), pixels=TensorPixels(
                torch.empty((count, SIDE, SIDE, 3), dtype=torch.uint8, device=CUDA)))
            with Waits():
                trainer._queue_step(batch, 0.0, 0.0, None)
        assert trainer.graph is not None
        watch: Any = trainer.graph.recorder
    first, *others = watch.steps
    differences = [f"{a} and {b}" for other in others for a, b in zip_longest(first, other) if a != b]
    return {"steps": trainer.state.step - 1, "warm_ups": watch.warm_ups, "operators": len(first),
            "differences": differences[:3], "on_the_cpu": watch.on_the_cpu[:3],
            "own": Counter(name for name, _, _ in first if name.startswith("alexnet"))}
