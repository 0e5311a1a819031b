"""The paper's claims: for each its section, the variants it compares, the measure, and the paper's number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from alexnet.architecture.overrides import configure
from alexnet.architecture.presets import CIFAR, recipe
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import LRN, Arch, Conv, Dense, InputSpec

TARGET_ERROR = 0.25
"""The training error at which Figure 1 compares ReLU with tanh."""


@dataclass(frozen=True)
class Variant:
    """One of the networks that a claim compares: its changes to the claim's common network and recipe."""

    name: str
    settings: tuple[str, ...] = ()
    """As the option `--set` takes them: `arch.norm=none`, `recipe.mirror=false`."""
    removed_layer: str = ""
    """A convolution to remove: "conv3"."""
    epochs_factor: float = 1.0
    """Multiplies the number of epochs."""

    def apply(self, arch: Arch, recipe: Recipe) -> tuple[Arch, Recipe]:
        """Make the variant's network and recipe from the claim's."""
        if self.removed_layer:
            arch = remove_conv(arch, self.removed_layer)
        arch, recipe = configure(arch, recipe, self.settings)
        return arch, replace(recipe, epochs=max(1, round(recipe.epochs * self.epochs_factor)))


Measure = Literal["error", "saturation", "views", "ensemble", "epochs"]
"""What `measures` takes of each variant; see there."""


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, and the runs that test it."""

    name: str
    section: str
    statement: str
    """The claim in our words, with the paper's number."""
    variants: tuple[Variant, ...]
    """The first is the reference that the others are compared with."""
    paper: float | None = None
    """The paper's difference between the second variant and the first: points of top-1 error (negative: fewer errors),
    or for the measure "epochs" the factor of epochs. None: the paper gives no number."""
    sign: int = 0
    """Expected sign of that difference, +1 or -1, also where the paper gives no number."""
    measure: Measure = "error"


PAPER_VARIANT = Variant("as in the paper")

BATCH_NORM = ("arch.norm=batch", "arch.dense_norm=true")
BATCH_NORM_BEFORE_RELU = (*BATCH_NORM, "arch.conv1.post_ops=norm act pool", "arch.conv2.post_ops=norm act pool")
HALF_WIDTH = ("arch.towers=1", "arch.conv1.width=16", "arch.conv2.width=32", "arch.conv3.width=48",
              "arch.conv4.width=48")

CLAIMS = {claim.name: claim for claim in (
    Claim("figure1", "§3.1, Figure 1", "a four-layer network of ReLUs reaches 25% training error on CIFAR-10 in a "
          "sixth of the epochs that one of tanh needs, without regularization, each with its best learning rate",
          (Variant("ReLU"), Variant("tanh", ("arch.activation=tanh",))), 6.0, 1, "epochs"),
    Claim("lrn", "§3.3", "response normalization lowers the top-1 error by 1.4 points (top-5 by 1.2; from 13% to 11% "
          "on CIFAR-10)",
          (Variant("no normalization", ("arch.norm=none",)), Variant("response normalization")), -1.4, -1),
    Claim("overlap", "§3.4", "overlapping pooling (3x3, stride 2) lowers the top-1 error by 0.4 points against 2x2, "
          "stride 2",
          (Variant("pooling 2x2", ("arch.pool_kernel=2",)), Variant("pooling 3x3")), -0.4, -1),
    Claim("dropout", "§4.2", "without dropout the network overfits substantially; dropout about doubles the epochs to "
          "converge",
          (Variant("no dropout", ("arch.dropout=0",)), Variant("dropout"),
           Variant("dropout, twice the epochs", epochs_factor=2.0)), None, -1),
    Claim("augmentation", "§4.1", "without random crops and mirroring the network overfits substantially",
          (Variant("center crop only", ("recipe.crop=center", "recipe.mirror=false")),
           Variant("random crops and mirroring"), Variant("random crops", ("recipe.mirror=false",)),
           Variant("mirroring", ("recipe.crop=center",))), None, -1),
    Claim("lighting", "§4.1", "color noise along the principal components lowers the top-1 error by over 1 point",
          (Variant("no color noise", ("recipe.lighting=0",)), Variant("color noise")), -1.0, -1),
    Claim("two-gpu", "§3.2", "two towers have 1.7 points less top-1 error than one tower with half as many kernels in "
          "conv1 to conv4",
          (Variant("one tower, half the kernels", HALF_WIDTH), Variant("two towers")), -1.7, -1),
    Claim("towers", "§3.2; the author's log", "towers that do not communicate before the classifier have 1.2 points "
          "more top-1 error; the paper's communicate in conv3",
          (Variant("towers joined in conv3"), Variant("towers not joined", ("arch.conv3.grouped=true",)),
           Variant("one tower", ("arch.towers=1",))), 1.2, 1),
    Claim("depth", "§7", "removing any of the middle layers costs about 2 points of top-1 error",
          (Variant("five convolutions"), Variant("no conv3", removed_layer="conv3"),
           Variant("no conv4", removed_layer="conv4"), Variant("no conv5", removed_layer="conv5")), 2.0, 1),
    Claim("ten-views", "§4.1, §6", "averaging over ten views lowers the top-1 error by 1.5 points", (PAPER_VARIANT,),
          -1.5, -1, "views"),
    Claim("ensemble", "§6, Table 2", "averaging five networks lowers the top-1 error by 2.6 points", (PAPER_VARIANT,),
          -2.6, -1, "ensemble"),
    Claim("batch-norm", "after the paper", "batch normalization has replaced response normalization; elsewhere, at 128 "
          "pixels, it has 0.3 points less top-1 error before the ReLU and 2.8 less after it",
          (Variant("response normalization"), Variant("batch norm after ReLU", BATCH_NORM),
           Variant("batch norm before ReLU", BATCH_NORM_BEFORE_RELU),
           Variant("after ReLU, no dropout", (*BATCH_NORM, "arch.dropout=0")),
           Variant("before ReLU, no dropout", (*BATCH_NORM_BEFORE_RELU, "arch.dropout=0"))), None, -1),
    Claim("saturation", "§3.1", "networks with saturating units learn several times slower than those with ReLUs",
          (Variant("ReLU"), Variant("tanh", ("arch.activation=tanh",)),
           Variant("sigmoid", ("arch.activation=sigmoid",))), None, 1, "saturation"),
)}

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


def common_setup(claim: Claim, side: int, epochs: int) -> tuple[Arch, Recipe]:
    """The network and the recipe that all variants of a claim start from, for images of 32 or 64 pixels.

    Figure 1's is `cifar` without regularization. The others' is `PAPER_SMALL`, at 64 pixels with a stride of 2 in
    conv1, with §5's recipe and a learning rate that falls linearly to zero over the epochs.
    """
    if claim.measure == "epochs":
        arch = replace(CIFAR, input=replace(CIFAR.input, side=side, crop=side - side // 8))
        return arch, replace(recipe("cifar"), schedule="constant", weight_decay=0.0, crop="center", mirror=False,
                             epochs=epochs, drop_epochs=())
    conv1 = replace(PAPER_SMALL.conv[0], stride=max(1, side // 32))
    arch = replace(PAPER_SMALL, conv=(conv1, *PAPER_SMALL.conv[1:]),
                   input=replace(PAPER_SMALL.input, side=side, crop=side - side // 8))
    return arch, replace(recipe("paper"), schedule="linear", epochs=epochs)


def remove_conv(arch: Arch, layer: str) -> Arch:
    """The network without one convolution ("conv3"); pooling after it moves to the convolution before."""
    place = int(layer.removeprefix("conv")) - 1
    conv = list(arch.conv)
    removed = conv.pop(place)
    if "pool" in removed.post_ops.split():
        conv[place - 1] = replace(conv[place - 1], post_ops=removed.post_ops)
    return replace(arch, name=f"{arch.name} without {layer}", conv=tuple(conv))
