"""Forward hooks: run a network and capture the outputs (activations) of named layers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from alexnet.models.alexnet import AlexNet


@contextmanager
def uncompiled() -> Iterator[None]:
    """Within the block, networks that `torch.compile` has compiled run uncompiled.

    Compiled code skips hooks that were set later, without a word.
    """
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and the import takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def on_outputs(network: AlexNet, layers: Iterable[str], handle: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Within the block, call `handle(name, output)` whenever one of the layers has computed its output.

    A compiled network runs uncompiled in the block.

    Raises:
        UserError: the network has no layer of that name.
    """
    def hook_of(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            handle(name, output)

        return hook

    with ExitStack() as hooks:
        hooks.enter_context(uncompiled())
        for name in layers:
            hooks.callback(network.named_layer(name).register_forward_hook(hook_of(name)).remove)
        yield


@contextmanager
def captured_outputs(
    network: AlexNet, layers: Iterable[str], *, retain_grad: bool = False,
) -> Iterator[dict[str, Tensor]]:
    """Within the block, a dictionary holds each layer's output of the latest forward pass.

    Args:
        network: the network to run in the block.
        layers: any of `network.layer_names()`.
        retain_grad: let the outputs keep their gradient after a backward pass.
    """
    outputs: dict[str, Tensor] = {}

    def capture(name: str, output: Tensor) -> None:
        if retain_grad:
            output.retain_grad()
        outputs[name] = output

    with on_outputs(network, layers, capture):
        yield outputs
