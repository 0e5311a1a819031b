"""What bounds a training step: the rate of each convolution, forward and backward, and its share of the limit.

    python benchmarks/convolutions.py [--arch medium] [--precision bf16]

Each convolution of a preset runs alone, as torch runs it on a CPU (oneDNN, channels_last, batch 128): the forward pass,
the gradient of the inputs and that of the weights. The limit is the rate of a 3x3 convolution of conv4's shape in
`paper`, as in bench.py. The last line compares the sum with a whole training step: what a faster kernel for everything
else could gain at most.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from implementations import BATCH
from implementations.training_step import limit, ours_step

from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import arch

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The median time of a call, after one to warm up."""
    work()
    measured = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        measured.append(time.perf_counter() - began)
    return statistics.median(measured)


def of_layer(name: str, number: int, dtype: torch.dtype, rounds: int) -> dict[str, float]:
    """Seconds of forward pass, gradient of the inputs (0 for conv1, which needs none) and gradient of the weights."""
    layout, layers = arch(name), explain(arch(name)).layers
    conv, groups = layout.conv[number - 1], layout.groups(number)
    at = next(place for place, layer in enumerate(layers) if layer.name == f"conv{number}")
    maps, height, width = (3, layout.input.crop, layout.input.crop) if number == 1 else layers[at - 1].output_shape
    inputs = torch.randn(BATCH, maps, height, width).to(dtype, memory_format=torch.channels_last)
    weights = torch.randn(conv.width, maps // groups, conv.kernel, conv.kernel).to(
        dtype, memory_format=torch.channels_last)

    def forward() -> torch.Tensor:
        return torch.conv2d(inputs, weights, None, conv.stride, conv.padding, 1, groups)

    above = torch.randn_like(forward())

    def backward(of_inputs: bool, of_weights: bool) -> object:
        return torch.ops.aten.convolution_backward(
            above, inputs, weights, None, [conv.stride] * 2, [conv.padding] * 2, [1, 1], False, [0, 0], groups,
            [of_inputs, of_weights, False])

    with torch.no_grad():
        return {"forward": seconds(forward, rounds),
                "inputs": seconds(lambda: backward(True, False), rounds) if number > 1 else 0.0,
                "weights": seconds(lambda: backward(False, True), rounds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="medium")
    parser.add_argument("--precision", choices=DTYPES, default="bf16")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    layers = {layer.name: layer for layer in explain(arch(options.arch)).layers}
    work, mflop = limit({"bf16": "bfloat16", "fp32": "float32"}[options.precision])
    best = mflop / 1e3 / seconds(work, options.rounds)
    print(f"limit: {best:,.0f} GFLOP/s on {torch.get_num_threads()} threads; batch {BATCH}, {options.precision}")
    total = least = 0.0
    for number in range(1, len(arch(options.arch).conv) + 1):
        gflop = 2e-9 * BATCH * layers[f"conv{number}"].multiply_adds
        cells = []
        for what, taken in of_layer(options.arch, number, DTYPES[options.precision], options.rounds).items():
            if taken:
                total, least = total + taken, least + gflop / best
                cells.append(f"{what} {1e3 * taken:.1f} ms, {gflop / taken:,.0f} GFLOP/s ({gflop / taken / best:.0%})")
        print(f"conv{number}: {'; '.join(cells)}")
    step, images = ours_step(options.arch, options.precision)
    whole = seconds(step, options.rounds) * BATCH / images
    print(f"all convolutions: {1e3 * total:.0f} ms, {least / total:.0%} of the limit; a training step: "
          f"{1e3 * whole:.0f} ms, of which they take {total / whole:.0%}")


if __name__ == "__main__":
    main()
