"""The paper's claims, each as variants to train and a measure to compare."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from alexnet.architecture.overrides import configure
from alexnet.architecture.presets import CIFAR, recipe
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import LRN, Arch, Conv, Dense, InputSpec

if TYPE_CHECKING:
    pass


TARGET = 0.25
"""Figure 1's training error."""

# --- What is compared -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """One side of a comparison: what it changes in the ground that all stand on."""

    name: str
    settings: tuple[str, ...] = ()
    """As `--set` takes them."""
    without: str = ""
    """A layer that is taken out: conv3."""
    epochs: float = 1.0
    """Factor on the number of epochs."""

    def of(self, arch: Arch, way: Recipe) -> tuple[Arch, Recipe]:
        if self.without:
            arch = without(arch, self.without)
        arch, way = configure(arch, way, self.settings)
        return arch, replace(way, epochs=max(1, round(way.epochs * self.epochs)))


Measure = Literal["error", "saturation", "views", "ensemble", "epochs"]


@dataclass(frozen=True)
class Claim:
    """What the paper says, and the runs that would show it."""

    name: str
    where: str
    says: str
    """In our words, with the paper's number."""
    variants: tuple[Variant, ...]
    """The first is what the others are compared with."""
    paper: float | None = None
    """Points of top-1 error that the second has less (negative) or more than the first, or for `epochs` how many times
    as many epochs it takes; None where the paper gives no number."""
    sign: int = 0
    """Of that difference; the paper may give a direction and no number."""
    measure: Measure = "error"


_PAPERS = Variant("as the paper's")

_BATCH = ("arch.norm=batch", "arch.dense_norm=true")
_BEFORE = (*_BATCH, "arch.conv1.post_ops=norm act pool", "arch.conv2.post_ops=norm act pool")
_HALF = ("arch.towers=1", "arch.conv1.width=16", "arch.conv2.width=32", "arch.conv3.width=48", "arch.conv4.width=48")

CLAIMS = {claim.name: claim for claim in (
    Claim("figure1", "§3.1, Figure 1", "a four-layer network of ReLUs reaches 25% training error on CIFAR-10 six times "
          "as fast as one of tanh, without regularisation, each with its own best rate",
          (Variant("ReLU"), Variant("tanh", ("arch.activation=tanh",))), 6.0, 1, "epochs"),
    Claim("lrn", "§3.3", "response normalization takes 1.4 points off the top-1 error (1.2 off top-5; 13% to 11% on "
          "CIFAR-10)",
          (Variant("without norm", ("arch.norm=none",)), Variant("response normalization")), -1.4, -1),
    Claim("overlap", "§3.4", "overlapping pooling, 3/2 for 2/2, takes off 0.4 points",
          (Variant("2/2", ("arch.pool_kernel=2",)), Variant("3/2")), -0.4, -1),
    Claim("dropout", "§4.2", "without dropout the network overfits substantially; with it, it takes about twice the "
          "epochs",
          (Variant("without dropout", ("arch.dropout=0",)), Variant("dropout"),
           Variant("dropout, twice the epochs", epochs=2.0)), None, -1),
    Claim("augmentation", "§4.1", "without crops and mirrors the network suffers from substantial overfitting",
          (Variant("central view alone", ("recipe.crop=center", "recipe.mirror=false")), Variant("crops and mirrors"),
           Variant("crops alone", ("recipe.mirror=false",)),
           Variant("mirrors alone", ("recipe.crop=center",))), None, -1),
    Claim("lighting", "§4.1", "color noise along the principal components takes off more than 1 point",
          (Variant("without", ("recipe.lighting=0",)), Variant("color noise")), -1.0, -1),
    Claim("two-gpu", "§3.2", "two towers have 1.7 points less than one with half as many kernels in conv1 to conv4",
          (Variant("one tower, half the kernels", _HALF), Variant("two towers")), -1.7, -1),
    Claim("towers", "§3.2; the author's log", "towers that do not meet before the classifier have 1.2 points more; the "
          "paper's meet in conv3",
          (Variant("meeting in conv3"), Variant("not meeting", ("arch.conv3.grouped=true",)),
           Variant("every map from every map", ("arch.towers=1",))), 1.2, 1),
    Claim("depth", "§7", "taking out any of the middle layers costs about 2 points",
          (Variant("five convolutions"), Variant("without conv3", without="conv3"),
           Variant("without conv4", without="conv4"), Variant("without conv5", without="conv5")), 2.0, 1),
    Claim("ten-views", "§4.1, §6", "averaging over ten views takes off 1.5 points", (_PAPERS,), -1.5, -1, "views"),
    Claim("ensemble", "§6, Table 2", "averaging five networks takes off 2.6 points", (_PAPERS,), -2.6, -1, "ensemble"),
    Claim("batch-norm", "after the paper", "batch normalization has replaced response normalization; elsewhere, at 128 "
          "pixels, it has 0.3 points less error before the ReLU and 2.8 less after it",
          (Variant("response normalization"), Variant("batch norm after ReLU", _BATCH),
           Variant("batch norm before ReLU", _BEFORE),
           Variant("after, without dropout", (*_BATCH, "arch.dropout=0")),
           Variant("before, without dropout", (*_BEFORE, "arch.dropout=0"))), None, -1),
    Claim("saturation", "§3.1", "networks of units that saturate learn several times slower than those of ReLUs",
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
"""The paper's layers, towers, norms, pools and dropout at a third of its widths, with kernels for 32 pixels."""


COMPARED = (
    Variant("ReLU, response norm"),
    Variant("ReLU", ("arch.norm=none",)),
    Variant("ReLU, batch norm", _BATCH),
    Variant("tanh", ("arch.norm=none", "arch.activation=tanh")),
    Variant("sigmoid", ("arch.norm=none", "arch.activation=sigmoid")),
    Variant("sigmoid, batch norm", (*_BEFORE, "arch.activation=sigmoid")),
    Variant("tanh, pixels of 0 to 255", ("arch.norm=none", "arch.activation=tanh", "arch.input.mean=0,0,0",
                                        "arch.input.scale=1,1,1")),
    Variant("ReLU, pixels of 0 to 255", ("arch.norm=none", "arch.input.mean=0,0,0", "arch.input.scale=1,1,1")),
)
"""What `diagnose` shows side by side: why ReLU, and why inputs are normalized (§3.1, §2)."""


def ground(claim: Claim, side: int, epochs: int) -> tuple[Arch, Recipe]:
    """What all of a claim's networks have in common, for images of 32 or 64 pixels.

    Figure 1's is `cifar` with nothing that regularises. The others' is `PAPER_SMALL`, at 64 pixels with a stride of 2
    in conv1, and §5's recipe with a rate that falls to nothing in the epochs there are.
    """
    if claim.measure == "epochs":
        arch = replace(CIFAR, input=replace(CIFAR.input, side=side, crop=side - side // 8))
        return arch, replace(recipe("cifar"), schedule="constant", weight_decay=0.0, crop="center", mirror=False,
                             epochs=epochs, drop_epochs=())
    conv1 = replace(PAPER_SMALL.conv[0], stride=max(1, side // 32))
    arch = replace(PAPER_SMALL, conv=(conv1, *PAPER_SMALL.conv[1:]),
                   input=replace(PAPER_SMALL.input, side=side, crop=side - side // 8))
    return arch, replace(recipe("paper"), schedule="linear", epochs=epochs)


def without(arch: Arch, layer: str) -> Arch:
    """The network less one convolution; a pooling that followed it follows the one before."""
    place = int(layer.removeprefix("conv")) - 1
    conv = list(arch.conv)
    gone = conv.pop(place)
    if "pool" in gone.post_ops.split():
        conv[place - 1] = replace(conv[place - 1], post_ops=gone.post_ops)
    return replace(arch, name=f"{arch.name} without {layer}", conv=tuple(conv))
