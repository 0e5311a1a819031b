"""Networks as users leave them: inside wrappers (`unwrapped`), or in training mode (`evaluation_mode`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside `torch.compile`, DataParallel, DistributedDataParallel or AveragedModel; else itself.

    It has the attributes and layers of this package, and the state dict without the prefixes of the wrappers.
    """
    while True:
        # The names by which these wrappers hold it. Importing the class of torch.compile's takes seconds.
        held = [getattr(network, name, None) for name in ("_orig_mod", "module")]
        inner = next((each for each in held if isinstance(each, nn.Module)), None)
        if inner is None:
            return network
        network = inner


@contextmanager
def evaluation_mode(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Within the block, networks are in evaluation mode; after it each layer is in the mode that it was in.

    In training mode dropout would make predictions random, and batch normalization would learn from the images. A user
    may have left single layers in evaluation mode, such as the batch normalization of a network that is fine-tuned.
    """
    training = [module for network in networks for module in network.modules() if module.training]
    if not training:  # nothing to restore either, where other threads predict with the same network
        yield
        return
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for module in training:
            module.training = True
