"""Phase `correctness` of gpu.py: kernels and networks against float64, and a step in which nothing may wait."""

from __future__ import annotations

import copy
import tempfile
from contextlib import closing
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from gpu_bench import Bench
from gpu_norm_pool import norm_pool_error, pooled_layers

from alexnet._runtime import kernels
from alexnet._runtime.philox import Draw, keep_mask
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import default_recipe, recipe
from alexnet.architecture.spec import LRN
from alexnet.data.augmentation import lighting_basis
from alexnet.data.preprocessing import Preprocess
from alexnet.inference.metrics import error_counts
from alexnet.models.alexnet import AlexNet
from alexnet.models.response_norm import ResponseNorm
from alexnet.training.parallel.layers import dropped


def correctness(bench: Bench) -> None:
    """Kernels and network against float64 at the shapes of training, and a step in which nothing may wait."""
    shapes = ((2, 16, 7, 7),) if bench.dry else ((128, 96, 55, 55), (128, 256, 27, 27))
    for shape in shapes:
        for dtype in (torch.float32, torch.bfloat16):
            _norm_error(bench, shape, dtype)
    for number in pooled_layers(bench.network("paper")):
        for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 1e-2)):
            for what, result, exact in norm_pool_error(bench, number, 2 if bench.dry else 128, dtype):
                _report(bench, f"after conv{number}: {what} in {dtype}", result, exact, bound)
    draw, rows = Draw(0.5, 5 << 32 | 7, 11, 4), np.arange(4 if bench.dry else 512)
    ones = torch.ones(len(rows), 4096, device=bench.device)
    keep = torch.from_numpy(keep_mask(rows, range(4096), draw)).to(bench.device)
    wrong = int(((dropped(ones, rows, draw, 0) != 0) != keep).sum())
    bench.row("dropout: units that NumPy keeps and the kernel drops, or vice versa", error=float(wrong), bound=0.0,
              holds=wrong == 0)
    _views_error(bench, "paper", "training views", 1e-5)
    _views_error(bench, "torchvision", "random resized crops", 1e-4)  # positions differ by their last digits
    _update_error(bench)
    _counts_error(bench)
    for name in ("paper", "torchvision"):
        _network_error(bench, name, torch.float32, 1e-4, 1e-4)
        _network_error(bench, name, torch.bfloat16, 0.1, None)
    _step_without_waiting(bench)
    _graph_error(bench)


def _report(bench: Bench, name: str, result: torch.Tensor, exact: torch.Tensor, bound: float) -> None:
    """A row: the largest error, as a fraction of the largest value."""
    error = float((result.double() - exact.double()).abs().max() / exact.double().abs().max())
    bench.row(name, error=error, bound=bound, holds=error <= bound)


def _norm_error(bench: Bench, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    norm = ResponseNorm(LRN(), shape[1], 2).to(bench.device)
    maps, above = (torch.randn(shape, device=bench.device).to(dtype).contiguous(memory_format=torch.channels_last)
                   for _ in range(2))
    maps = (maps * 30).requires_grad_()
    exact = maps.detach().double().requires_grad_()
    result, expected = norm(maps), copy.deepcopy(norm).double().banded(exact)
    result.backward(above)
    expected.backward(above.double())
    assert maps.grad is not None
    assert exact.grad is not None
    bound = 1e-5 if dtype == torch.float32 else 1e-2
    _report(bench, f"response normalization {shape} {dtype}", result, expected, bound)
    _report(bench, f"its gradient {shape} {dtype}", maps.grad, exact.grad, bound)


def _views_error(bench: Bench, network: str, name: str, bound: float) -> None:
    layout = bench.network(network)
    side, train, indices = layout.input.side, default_recipe(layout), np.arange(4 if bench.dry else 512)
    pixels = torch.randint(0, 256, (len(indices), side, side, 3), dtype=torch.uint8)
    preprocess = Preprocess.from_data(layout.input, np.full((side, side, 3), 120, np.float32))
    lighting = lighting_basis(np.eye(3) * 900, train.lighting_scale)
    expected = preprocess.training_views(pixels, indices, train, 3, 1, lighting)
    result = preprocess.to(bench.device).training_views(
        pixels.to(bench.device), indices, train, 3, 1, lighting.to(bench.device))
    _report(bench, f"{name} against those of the CPU", result.cpu(), expected, bound)


def _update_error(bench: Bench) -> None:
    """An update of all weights of `paper` against float64, and the copies in bf16 against the weights."""
    network = AlexNet(bench.network("paper")).to(bench.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    w = [parameter.detach() for parameter in network.parameters()]
    v, g = ([torch.randn_like(weight) for weight in w] for _ in range(2))
    rates, copies = torch.linspace(0.01, 0.1, len(w), device=bench.device), [weight.bfloat16() for weight in w]
    velocity = [0.9 * b.double() - rate.double() * (0.01 * a.double() + c.double())
                for a, b, c, rate in zip(w, v, g, rates, strict=True)]
    exact = torch.cat([(a.double() + new).flatten() for a, new in zip(w, velocity, strict=True)])
    kernels.sgd_update(w, v, g, list(rates), [0.01] * len(w), copies, momentum=0.9, lr_in_velocity=True, nesterov=False)
    _report(bench, "update of all weights", torch.cat([weight.flatten() for weight in w]), exact, 1e-6)
    wrong = sum(int((copy != weight.bfloat16()).sum()) for copy, weight in zip(copies, w, strict=True))
    bench.row("weights in bf16 that are not the updated weights, rounded", error=float(wrong), bound=0.0,
              holds=wrong == 0)


def _counts_error(bench: Bench) -> None:
    """Errors that validation counts on the device against those counted on the CPU, with ties and NaN."""
    probabilities = torch.rand(512, 1000).softmax(1).round(decimals=5)  # so that some are equal
    probabilities[3] = torch.nan
    labels = torch.arange(512)
    expected, result = error_counts(probabilities, labels), error_counts(
        probabilities.to(bench.device), labels.to(bench.device)).cpu()
    bench.row("top-1 and top-5 errors counted on the device that the CPU does not count, or vice versa",
              error=float((result[1:] - expected[1:]).abs().sum()), bound=0.0,
              holds=torch.equal(result[1:], expected[1:]))


def _network_error(
    bench: Bench, name: str, dtype: torch.dtype, bound: float, gradient_bound: float | None,
) -> None:
    """Logits and gradients of a network without dropout against the same in float64.

    The gradients of the convolutions in bf16 have no bound: rounding opens other ReLUs and chooses other maxima.
    """
    layout = override(bench.network(name), ["dropout=0"])
    network = AlexNet(layout).to(bench.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    exact = copy.deepcopy(network).double()
    views, labels = bench.views(layout, 2 if bench.dry else 64)
    with torch.autocast(bench.device.type, dtype, enabled=dtype == torch.bfloat16):
        logits = network(views.to(dtype))
    F.cross_entropy(logits.float(), labels).backward()
    expected = exact(views.double())
    F.cross_entropy(expected, labels).backward()
    _report(bench, f"{name}: logits in {dtype}", logits, expected, bound)
    for (key, ours), theirs in zip(network.named_parameters(), exact.parameters(), strict=True):
        if key.endswith("weight"):
            assert ours.grad is not None
            assert theirs.grad is not None
            distance = float((ours.grad.double() - theirs.grad).norm() / theirs.grad.norm())
            bench.row(f"{name}: gradient of {key} in {dtype}", error=distance, bound=gradient_bound,
                      holds=None if gradient_bound is None else distance <= gradient_bound)


def _step_without_waiting(bench: Bench) -> None:
    """The real trainer's steps, with torch raising at every wait."""
    small, problem = replace(bench, images=64 if bench.dry else 512, shards=bench.shards / "few"), ""
    layout = bench.network("paper")
    with tempfile.TemporaryDirectory() as folder:
        trainer = small.trainer(layout, small.images // 8, 1, folder)
        trainer.network.train()
        with closing(trainer.epoch_batches()) as source:
            for number, batch in enumerate(islice(source, 6)):
                if number == 3 and not bench.dry:
                    torch.cuda.set_sync_debug_mode("error")
                try:
                    trainer._queue_step(batch, 0.0, 0.0, None)
                except RuntimeError as error:
                    problem = str(error).splitlines()[0]
                    break
                finally:
                    if not bench.dry:
                        torch.cuda.set_sync_debug_mode("default")
    bench.row("a step in which nothing may wait for the device", holds=not problem, problem=problem)


def _graph_error(bench: Bench) -> None:
    """The weights after 12 steps of the trainer with CUDA graphs against those without: other masks or rates show.

    The rate rises in each of the steps, so that one which stays as it was recorded shows. The bound leaves room for
    cuDNN's sums in any order, in bf16.
    """
    small = replace(bench, images=64 if bench.dry else 512, shards=bench.shards / "few")
    warm_up = replace(recipe("modern"), learning_rate=0.01)  # 0.1 is for networks with batch normalization
    layout, weights = bench.network("paper"), []
    for graph in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            trainer = small.trainer(layout, small.images // 16, 30, folder, graph=graph, train=warm_up)
            before = torch.cat([parameter.detach().flatten() for parameter in trainer.optimizer.parameters])
            trainer.network.train()
            with closing(trainer.epoch_batches()) as source:
                for batch in islice(source, 12):
                    trainer._queue_step(batch, 0.0, 0.0, None)
            after = torch.cat([parameter.detach().flatten() for parameter in trainer.optimizer.parameters])
            weights.append((after - before).double())
    distance = float((weights[1] - weights[0]).norm() / weights[0].norm())
    bench.row("12 steps with CUDA graphs against 12 without: change of the weights", error=distance, bound=0.05,
              holds=distance <= 0.05)
