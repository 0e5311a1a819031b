"""Training steps: torch's own layers, torchvision's AlexNet, and ours; and the limit that a convolution sets."""

from __future__ import annotations

from functools import partial
from typing import Any

from implementations import BATCH, Implementation, Work
from implementations.common import batch, classes_of, crop_of, fast_dtype, keep_pages, prepare_process, torchvision


def plain_network(name: str) -> Any:
    """The network of a preset, in torch's own layers, as a tutorial would write it."""
    from torch import nn

    def conv(number: int, *shape: int, groups: int = 1, norm: bool = False, pool: bool = False) -> list[nn.Module]:
        layers: list[nn.Module] = [nn.Conv2d(*shape, groups=groups), nn.ReLU(inplace=True)]
        layers += [nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)] if norm else []
        return layers + ([nn.MaxPool2d(3, 2)] if pool else [])

    if name == "torchvision":
        return torchvision().models.alexnet(num_classes=1000)
    if name == "paper":
        features = [*conv(1, 3, 96, 11, 4, 2, norm=True, pool=True),
                    *conv(2, 96, 256, 5, 1, 2, groups=2, norm=True, pool=True),
                    *conv(3, 256, 384, 3, 1, 1), *conv(4, 384, 384, 3, 1, 1, groups=2),
                    *conv(5, 384, 256, 3, 1, 1, groups=2, pool=True)]
        return nn.Sequential(*features, nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(inplace=True), nn.Dropout(),
                             nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4096, 1000))
    return plain_layers(name)


def plain_layers(name: str) -> Any:
    """A preset, in torch's own layers, in the order that the preset says."""
    from torch import nn

    from alexnet.architecture.network_presets import arch

    layout = arch(name)
    lrn = layout.lrn
    maps, layers = 3, []
    for number, one in enumerate(layout.conv, 1):
        layers.append(nn.Conv2d(maps, one.width, one.kernel, one.stride, one.padding, groups=layout.groups(number)))
        maps = one.width
        make = {"act": nn.ReLU, "norm": partial(nn.BatchNorm2d, maps) if layout.norm == "batch" else partial(
                    nn.LocalResponseNorm, lrn.n, lrn.alpha * (1 if lrn.divide_by_n else lrn.n), lrn.beta, lrn.k),
                "pool": partial(nn.MaxPool2d, layout.pool_kernel, layout.pool_stride,
                                ceil_mode=layout.pool_rounding == "ceil")}
        layers += [make[step]() for step in layout.post_ops(number)]
    layers += [nn.AdaptiveAvgPool2d(layout.average_pool)] if layout.average_pool else []
    layers.append(nn.Flatten())
    for dense in layout.dense:
        layers += [nn.LazyLinear(dense.width), *([nn.BatchNorm1d(dense.width)] if layout.dense_norm else []),
                   nn.ReLU(), nn.Dropout(layout.dropout)]
    network = nn.Sequential(*layers, nn.LazyLinear(layout.classes))
    network.eval()(batch(layout.input.crop, 2, 2)[0])  # sets the sizes of the lazy layers
    return network


def peer_step(
    name: str, tuned: bool = False, times: int = 1, bf16: bool = True, compiled: bool = False
) -> Work:
    """Eager fp32; or tuned by PyTorch's performance guide: channels_last, bf16 autocast, fused SGD, torch.compile.

    Without bf16 instructions autocast stays off: it would be slower.
    """
    import torch
    import torch.nn.functional as F

    network = plain_network(name).train()
    layout = torch.channels_last if tuned else torch.contiguous_format
    network = network.to(memory_format=layout)
    forward = torch.compile(network) if compiled else network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=tuned or None)
    views, labels = batch(crop_of(name), classes_of(name))
    views = views.contiguous(memory_format=layout)

    def step() -> None:
        for _ in range(times):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=tuned and bf16 and fast_dtype() == torch.bfloat16):
                loss = F.cross_entropy(forward(views).float(), labels)
            loss.backward()
            optimizer.step()

    return step, BATCH * times


def ours_step(name: str, precision: str, times: int = 1) -> Work:
    prepare_process()
    import torch

    from alexnet._runtime.devices import choose_precision
    from alexnet.architecture.network_presets import arch
    from alexnet.architecture.recipe_presets import default_recipe
    from alexnet.models.alexnet import AlexNet
    from alexnet.training.optimizer import SGD
    from alexnet.training.precision import MixedPrecision
    from alexnet.training.step import train_step

    layout = arch(name)
    mixed_precision = MixedPrecision(choose_precision(precision, "cpu"), torch.device("cpu"))
    network = AlexNet(layout).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = SGD(network, default_recipe(layout))
    views, labels = batch(layout.input.crop, layout.classes)
    views = views.to(mixed_precision.input_dtype, memory_format=torch.channels_last)

    def step() -> None:
        for _ in range(times):
            train_step(network, optimizer, views, labels, 0.01, mixed_precision)

    return step, BATCH * times


def tuned_forward(name: str, times: int = 1) -> Work:
    """The forward pass of torch's own layers in evaluation mode, fp32 and channels_last, whose outputs are exact."""
    import torch

    network = plain_network(name).eval().to(memory_format=torch.channels_last)
    views = batch(crop_of(name), classes_of(name))[0].contiguous(memory_format=torch.channels_last)

    def work() -> None:
        with torch.inference_mode():
            for _ in range(times):
                network(views)

    return work, BATCH * times


def ours_evaluate(name: str, times: int = 1) -> Work:
    """What `alexnet evaluate` computes of stored images: views, logits, probabilities."""
    keep_pages()
    import torch

    from alexnet.architecture.network_presets import arch
    from alexnet.data.preprocessing import Preprocess
    from alexnet.inference.evaluate import probabilities
    from alexnet.models.alexnet import AlexNet

    spec = arch(name).input
    member = (AlexNet(arch(name)).eval(), Preprocess(spec, torch.zeros(1, 1, 3)))
    pixels = torch.randint(0, 256, (BATCH, spec.side, spec.side, 3), dtype=torch.uint8)

    def work() -> None:
        with torch.inference_mode():
            for _ in range(times):
                probabilities([member], pixels)

    return work, BATCH * times


def limit(precision: str) -> Work:
    """A 3x3 convolution of conv4's shape, as the upper limit of a step's speed. Its "images" are MFLOP."""
    import torch
    import torch.nn.functional as F

    dtype = torch.float32 if precision == "fp32" else fast_dtype()
    maps = torch.randn(BATCH, 256, 13, 13).to(dtype, memory_format=torch.channels_last)
    kernels = torch.randn(384, 256, 3, 3).to(dtype, memory_format=torch.channels_last)
    with torch.no_grad():
        F.conv2d(maps, kernels, padding=1)

    def work() -> None:
        with torch.no_grad():
            for _ in range(4):
                F.conv2d(maps, kernels, padding=1)

    return work, 4 * 2 * BATCH * 13 * 13 * 384 * 256 * 9 // 10**6


STEPS = {"paper": 1, "torchvision": 1, "cifar": 10, "small": 10, "medium": 2}
"""The presets whose training step is measured, and how many steps a measurement takes."""

EVALUATED = ("small", "medium")
"""The presets whose evaluation is measured."""

IMPLEMENTATIONS: dict[str, Implementation] = {
    "limit": lambda folder: limit("auto"),
    "limit-fp32": lambda folder: limit("fp32"),
    **{f"peer-step-{name}": lambda folder, name=name, times=times: peer_step(name, times=times)
       for name, times in STEPS.items()},
    **{f"tuned-step-{name}": lambda folder, name=name, times=times: peer_step(name, tuned=True, times=times)
       for name, times in STEPS.items()},
    **{f"compiled-step-{name}": lambda folder, name=name, times=times: peer_step(
        name, tuned=True, times=times, compiled=True) for name, times in STEPS.items() if name != "paper"},
    **{f"ours-step-{name}": lambda folder, name=name, times=times: ours_step(name, "auto", times)
       for name, times in STEPS.items()},
    **{f"tuned-forward-{name}": lambda folder, name=name: tuned_forward(name, 2 * STEPS[name])
       for name in EVALUATED},
    **{f"ours-evaluate-{name}": lambda folder, name=name: ours_evaluate(name, 2 * STEPS[name]) for name in EVALUATED},
    "tuned-step-torchvision-fp32": lambda folder: peer_step("torchvision", tuned=True, bf16=False),
    "compiled-step-torchvision-fp32": lambda folder: peer_step("torchvision", tuned=True, bf16=False, compiled=True),
    "ours-step-torchvision-fp32": lambda folder: ours_step("torchvision", "fp32"),
}
