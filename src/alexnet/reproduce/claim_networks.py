"""The small networks that claims are tested with: a small form of the paper's, and one of Figure 1's kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from alexnet.architecture.network_presets import CIFAR
from alexnet.architecture.overrides import configure
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import recipe
from alexnet.architecture.spec import LRN, Arch, Conv, Dense, InputSpec

CROP = 7 / 8
"""Side of the common networks' input, as a fraction of the stored image's: §4.1's 224 of 256."""

PAPER_SMALL = Arch(
    "paper-small",
    (Conv(32, 5, padding=2, post_ops="act norm pool"),
     Conv(64, 5, padding=2, grouped=True, post_ops="act norm pool"),
     Conv(96, 3, padding=1),
     Conv(96, 3, padding=1, grouped=True),
     Conv(64, 3, padding=1, grouped=True, post_ops="act pool")),
    dense=(Dense(256, init_bias=0.0), Dense(256, init_bias=0.0)), classes=10, towers=2, lrn=LRN(within_tower=True),
    pool_rounding="ceil", initialization="kaiming",
    input=InputSpec(side=32, crop=28, mean="channel", scale=(58.0, 58.0, 58.0)))
"""The paper's layers, towers, normalization, pooling and dropout for images of 32 pixels: conv1 has a third of the
paper's maps and a kernel of 5 for 11, conv2 to conv5 a quarter of its maps, the hidden layers a sixteenth of its units.
"""


def describe_widths(arch: Arch) -> str:
    """Maps of the convolutions and units of the hidden layers: "convolutions of 32 and 64 maps and hidden ..."."""
    *first, last = (str(conv.width) for conv in arch.conv)
    units = " and ".join(dict.fromkeys(str(dense.width) for dense in arch.dense))
    return f"convolutions of {', '.join(first)} and {last} maps and hidden layers of {units} units"


def common_setup(
    side: int, epochs: int, network: Literal["paper-small", "cifar"] = "paper-small", settings: Iterable[str] = (),
    crop: float = CROP,
) -> tuple[Arch, Recipe]:
    """The network and the recipe that all variants of a claim start from, for images of 32 or 64 pixels.

    `paper-small` is `PAPER_SMALL`, at 64 pixels with a stride of 2 in conv1, with §5's recipe and a learning rate that
    falls linearly to zero over the epochs. `cifar` is Figure 1's network: the preset without regularization.
    """
    if network == "cifar":
        arch = replace(CIFAR, input=replace(CIFAR.input, side=side, crop=round(crop * side)))
        base = replace(recipe("cifar"), schedule="constant", weight_decay=0.0, crop="center", mirror=False,
                       lighting=0.0, epochs=epochs, drop_epochs=())
    else:
        conv1 = replace(PAPER_SMALL.conv[0], stride=max(1, side // 32))
        arch = replace(PAPER_SMALL, conv=(conv1, *PAPER_SMALL.conv[1:]),
                       input=replace(PAPER_SMALL.input, side=side, crop=round(crop * side)))
        base = replace(recipe("paper"), schedule="linear", epochs=epochs)
    return configure(arch, base, settings)


def remove_conv(arch: Arch, layer: str) -> Arch:
    """The network without one convolution ("conv3"); pooling after it moves to the convolution before."""
    place = int(layer.removeprefix("conv")) - 1
    conv = list(arch.conv)
    removed = conv.pop(place)
    if "pool" in removed.post_ops.split():
        conv[place - 1] = replace(conv[place - 1], post_ops=removed.post_ops)
    return replace(arch, name=f"{arch.name} without {layer}", conv=tuple(conv))
