"""What a claim of the paper is here: variants to train, comparisons between them, and their common network and recipe.

claim_designs.py has the claims themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from alexnet.architecture.overrides import configure
from alexnet.architecture.presets import CIFAR, recipe
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import LRN, Arch, Conv, Dense, InputSpec

TARGET_ERROR = 0.25
"""The training error at which Figure 1 compares ReLU with tanh."""

Quantity = Literal["top1", "train", "epochs", "recolored", "norm"]
"""What is measured of a run, at the weights of its last epoch:

top1: top-1 error on the validation split, with the variant's number of views
train: clean training error, of the training images' center crops in evaluation mode
epochs: epochs until the clean training error falls to the claim's target
recolored: top-1 error on validation images with color noise
norm: alpha * sum / k, the relative weight of response normalization's sum, mean over all maps
"""


@dataclass(frozen=True)
class Variant:
    """One of the networks that a claim compares: its changes to the claim's common network and recipe."""

    name: str
    settings: tuple[str, ...] = ()
    """As the option `--set` takes them: `arch.norm=none`, `recipe.mirror=false`."""
    removed_layer: str = ""
    """A convolution to remove: "conv3"."""
    images_factor: float = 1.0
    """Multiplies the claim's number of images per class."""
    views: int = 1
    """Views of each validation image: 1 or 10."""
    averaged: int = 1
    """Networks whose outputs are averaged: an ensemble."""

    def apply(self, arch: Arch, recipe: Recipe) -> tuple[Arch, Recipe]:
        """Make the variant's network and recipe from the claim's."""
        if self.removed_layer:
            arch = remove_conv(arch, self.removed_layer)
        return configure(arch, recipe, self.settings)

    @property
    def differs(self) -> tuple[str, ...]:
        """Everything that differs from the common setup, in words."""
        return (*self.settings, *(f"without {layer}" for layer in [self.removed_layer] if layer),
                *(f"{self.images_factor:g} times the images" for _ in range(self.images_factor != 1)),
                *(f"{self.views} views" for _ in range(self.views != 1)),
                *(f"{self.averaged} networks averaged" for _ in range(self.averaged != 1)))


@dataclass(frozen=True)
class Comparison:
    """A variant against a reference, paired by seed."""

    variant: str
    reference: str
    sign: int
    """Expected sign of the variant's value less the reference's (of the logarithm of their ratio): +1 or -1."""
    paper: float | None = None
    """The paper's number: points of error (negative: fewer errors), or the ratio of epochs. None: it gives none."""
    quantity: Quantity = "top1"
    name: str = ""
    """Default: "VARIANT against REFERENCE"."""

    @property
    def title(self) -> str:
        return self.name or f"{self.variant} against {self.reference}"


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, and the runs that can speak for or against it."""

    name: str
    section: str
    statement: str
    """The claim in our words, with the paper's number."""
    against: str
    """One sentence: the outcome that would speak against the claim."""
    variants: tuple[Variant, ...]
    comparisons: tuple[Comparison, ...]
    epochs: int
    """Of each run; with `stops_at_target`, at most."""
    images_per_class: int | None = None
    """Of the training images; None for all."""
    common: tuple[str, ...] = ()
    """Settings of all variants."""
    network: Literal["paper-small", "cifar"] = "paper-small"
    """The common network; see `common_setup`."""
    target: float | None = None
    """Clean training error for the quantity "epochs"."""
    stops_at_target: bool = False
    """Whether runs end at the target. They are then not validated, and their rate is chosen by the epochs."""
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)
    """The learning rates that each variant is tried with first."""
    seeds: int = 8
    """Fresh seeds, whose runs are compared; of an ensemble, disjoint ensembles."""
    tuning_seeds: int = 2
    """Other seeds, whose runs choose the learning rate."""
    equal_maps: bool = False
    """Whether all variants' feature maps must have equal sizes."""
    least_norm: float | None = None
    """Refuse a verdict where "norm" is below this in the variant that has response normalization."""

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What is measured, the main quantity first."""
        norm: tuple[Quantity, ...] = ("norm",) if self.least_norm else ()
        return tuple(dict.fromkeys((*(comparison.quantity for comparison in self.comparisons), *norm)))

    def curve_epochs(self, epochs: int) -> int:
        """Epochs between two measurements of the clean training error; 0: only after the last."""
        if self.stops_at_target:
            return 1
        return max(1, epochs // 50) if self.images_per_class else 0


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
"""The paper's layers, towers, normalization, pooling and dropout at a third of its widths, for images of 32 pixels."""


def common_setup(
    side: int, epochs: int, network: Literal["paper-small", "cifar"] = "paper-small", settings: Iterable[str] = (),
) -> tuple[Arch, Recipe]:
    """The network and the recipe that all variants of a claim start from, for images of 32 or 64 pixels.

    `paper-small` is `PAPER_SMALL`, at 64 pixels with a stride of 2 in conv1, with §5's recipe and a learning rate that
    falls linearly to zero over the epochs. `cifar` is Figure 1's network: the preset without regularization.
    """
    if network == "cifar":
        arch = replace(CIFAR, input=replace(CIFAR.input, side=side, crop=side - side // 8))
        base = replace(recipe("cifar"), schedule="constant", weight_decay=0.0, crop="center", mirror=False,
                       lighting=0.0, epochs=epochs, drop_epochs=())
    else:
        conv1 = replace(PAPER_SMALL.conv[0], stride=max(1, side // 32))
        arch = replace(PAPER_SMALL, conv=(conv1, *PAPER_SMALL.conv[1:]),
                       input=replace(PAPER_SMALL.input, side=side, crop=side - side // 8))
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
