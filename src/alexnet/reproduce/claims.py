"""The paper's claims (`CLAIMS`): for each its section, the variants to train, what is compared, the paper's number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from alexnet.architecture.overrides import configure
from alexnet.architecture.presets import CIFAR, recipe
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import LRN, Arch, Conv, Dense, InputSpec
from alexnet.data.order import batches_per_epoch

CROP = 7 / 8
"""Side of the common networks' input, as a fraction of the stored image's: §4.1's 224 of 256."""
TARGET_ERROR = 0.25
"""The training error at which Figure 1 compares ReLU with tanh."""

Quantity = Literal["top1", "train", "gap", "loss", "epochs", "recolored_rise", "norm"]
"""What is measured of a run, at the weights of its last epoch:

top1: top-1 error on the validation split, with the variant's number of views
train: clean training error, of the training images' center crops in evaluation mode
gap: overfitting, the validation split's top-1 error less the clean training error, both of center crops
loss: cross-entropy on the validation split, in nats; compared as a ratio
epochs: epochs until the clean training error falls to the claim's target; compared as a ratio
recolored_rise: top-1 error on validation images with color noise, less the error on the same images without it
norm: alpha * sum / k, the relative weight of response normalization's sum, mean over all maps
"""

RATIOS: frozenset[Quantity] = frozenset({"epochs", "loss"})
"""Quantities that are compared as ratios. The others are fractions, and are compared as differences in points."""

TuningQuantity = Literal["top1", "train", "epochs"]
"""What the search of a learning rate minimizes: that which the variant is compared by."""

_TUNED_BY = {"train": "clean training error", "epochs": "epochs to the target"}


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
    tuned_by: TuningQuantity = "top1"
    """What the learning rate is chosen by. Where runs end at a target it is always the epochs to it."""

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
                *(f"{self.averaged} networks averaged" for _ in range(self.averaged != 1)),
                *(f"learning rate chosen by {_TUNED_BY[self.tuned_by]}" for _ in range(self.tuned_by != "top1")))


@dataclass(frozen=True)
class Comparison:
    """A variant against a reference, paired by seed."""

    variant: str
    reference: str
    sign: int
    """Expected sign of the variant's value less the reference's, or of the logarithm of their ratio: +1 or -1."""
    paper: float | None = None
    """The paper's number: points of error (negative: fewer errors), or a ratio. None: it gives none."""
    quantity: Quantity = "top1"
    name: str = ""
    """Default: "VARIANT against REFERENCE"."""
    least: float | None = None
    """The smallest effect that counts where the paper gives no number, in the same unit and with its sign."""
    is_bound: bool = False
    """Whether the paper says that the effect is at least `paper`: "over 1%"."""
    source: str = "the paper"
    """Who gives the number."""

    @property
    def title(self) -> str:
        return self.name or f"{self.variant} against {self.reference}"


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, and the runs that test it."""

    name: str
    section: str
    statement: str
    """The claim in our words, with the paper's number."""
    against: str
    """One sentence: the outcomes that would contradict the claim, by the rules of `Verdict`."""
    variants: tuple[Variant, ...]
    comparisons: tuple[Comparison, ...]
    epochs: int = 0
    """Of each run. 0: as many as `steps` makes on the data."""
    steps: int = 0
    """Of runs that end at a target, at most. In steps, so that slow variants have the same time on small data sets."""
    images_per_class: int | None = None
    """Of the training images; None for all."""
    common: tuple[str, ...] = ()
    """Settings of all variants."""
    network: Literal["paper-small", "cifar"] = "paper-small"
    """The common network; see `common_setup`."""
    crop: float = CROP
    """Side of the network's input, as a fraction of the stored image's."""
    target: float | None = None
    """Clean training error for the quantity "epochs"."""
    stops_at_target: bool = False
    """Whether runs end at the target. They are then not validated, and their rate is chosen by the epochs to it."""
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)
    """The learning rates that each variant is tried with first."""
    seeds: int = 8
    """Fresh seeds, whose runs are compared; of an ensemble, disjoint ensembles."""
    tuning_seeds: int = 1
    """Other seeds, whose runs choose the learning rate."""
    equal_maps: bool = False
    """Whether all variants' feature maps must have equal sizes."""
    note: str = ""
    """What a reader must know of the comparison."""
    least_norm: float | None = None
    """Refuse a verdict where "norm" is below this in the variant that has response normalization."""

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What is measured, the main quantity first."""
        norm: tuple[Quantity, ...] = ("norm",) if self.least_norm else ()
        return tuple(dict.fromkeys((*(comparison.quantity for comparison in self.comparisons), *norm)))

    def tuned_by(self, variant: Variant) -> TuningQuantity:
        """What a variant's learning rate is chosen by."""
        return "epochs" if self.stops_at_target else variant.tuned_by

    def epochs_on(self, images: int) -> int:
        """Epochs of a run on so many training images."""
        _, recipe = common_setup(64, 1, self.network)
        return self.epochs or -(-self.steps // batches_per_epoch(images, recipe.batch_size))

    def curve_epochs(self, epochs: int) -> int:
        """Epochs between two measurements of the clean training error; 0: only after the last."""
        if self.stops_at_target:
            return 1
        return max(1, epochs // 50) if self.images_per_class else 0


BATCH_NORM_AFTER_RELU = (
    "arch.norm=batch", *(f"arch.conv{number}.post_ops=act norm" for number in (3, 4)),
    "arch.conv5.post_ops=act norm pool")
BATCH_NORM_BEFORE_RELU = (
    "arch.norm=batch", *(f"arch.conv{number}.post_ops=norm act pool" for number in (1, 2)),
    *(f"arch.conv{number}.post_ops=norm act" for number in (3, 4)), "arch.conv5.post_ops=norm act pool")
"""Both after every convolution, and not in the fully connected layers, so that only the place differs."""
HALF_WIDTH = ("arch.towers=1", "arch.conv1.width=16", "arch.conv2.width=32", "arch.conv3.width=48",
              "arch.conv4.width=48")
CENTER, NO_MIRROR = "recipe.crop=center", "recipe.mirror=false"
BIASES_OF_1 = tuple(f"arch.{layer}.init_bias=1" for layer in ("conv2", "conv4", "conv5", "dense"))
PAPER_SCALE = (
    "arch.input.scale=1,1,1", "arch.initialization=gaussian", "arch.conv1.init_std=0.022", "arch.conv2.init_std=0.017",
    *(f"arch.{layer}.init_std=0.02" for layer in ("conv3", "conv4", "conv5")), "arch.dense.init_std=0.04",
    "arch.output_init_std=0.04", *BIASES_OF_1)
"""Settings for activations of the paper's size, which §3.3's alpha is made for: pixels of 0 to 255 less their mean,
§5's biases, and §5's standard deviation of 0.01 times sqrt(the paper's fan-in / ours). With 0.01 itself the signal of
our narrower layers vanishes: it falls by a factor of 10,000 from conv1 to fc6, and alpha x sum / k is 0.2%."""
CONSTANT_RATE = "recipe.schedule=constant"
CAFFENET_BENCHMARK = "D. Mishkin's caffenet-benchmark"
"""ImageNet at 128 pixels, one run each: https://github.com/ducha-aiki/caffenet-benchmark/blob/master/batchnorm.md"""

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


# --- The claims -------------------------------------------------------------------------------------------------------

_GAP = "the overfitting gap is the validation error less the clean training error, both of center crops"

_FEW_IMAGES = (
    Claim("dropout", "§4.2", "without dropout the network overfits substantially; dropout roughly doubles the "
          "iterations to converge",
          "dropout raises the validation error, the overfitting gap or the validation loss, or an effect of 1 point, "
          "or of a factor of 1.1 on the loss, is excluded; or it needs fewer epochs, or not significantly more and a "
          "factor of 2 is excluded",
          (Variant("no dropout", ("arch.dropout=0",)), Variant("dropout"),
           Variant("no dropout, fastest rate", ("arch.dropout=0",), tuned_by="epochs"),
           Variant("dropout, fastest rate", tuned_by="epochs")),
          (Comparison("dropout", "no dropout", -1, least=-1.0),
           Comparison("dropout", "no dropout", -1, None, "gap", "overfitting with dropout against none", least=-1.0),
           Comparison("dropout", "no dropout", -1, None, "loss", "validation loss with dropout against none",
                      least=1 / 1.1),
           Comparison("dropout, fastest rate", "no dropout, fastest rate", +1, 2.0, "epochs",
                      "epochs with dropout against none")),
          epochs=150, images_per_class=100, target=0.05, tuning_seeds=2,
          note=f"{_GAP}; a run counts as converged at 5% clean training error, to which each side is compared at the "
          "rate that gets there in the fewest epochs; the rate falls linearly to 0 over 150 epochs on both sides"),
    Claim("augmentation", "§4.1", "without random crops and mirroring the network overfits substantially",
          "random crops and mirroring, together or each alone, raise the validation error, the overfitting gap or the "
          "validation loss, or an effect of 1 point, or of a factor of 1.1 on the loss, is excluded",
          (Variant("center crop only", (CENTER, NO_MIRROR)), Variant("random crops", (NO_MIRROR,)),
           Variant("mirroring", (CENTER,)), Variant("crops and mirroring"),
           Variant("center crop only, half the images", (CENTER, NO_MIRROR), images_factor=0.5),
           Variant("crops and mirroring, half the images", images_factor=0.5),
           Variant("center crop only, 3 times the images", (CENTER, NO_MIRROR), images_factor=3.0),
           Variant("crops and mirroring, 3 times the images", images_factor=3.0)),
          (Comparison("crops and mirroring", "center crop only", -1, least=-1.0),
           Comparison("crops and mirroring", "center crop only", -1, None, "gap",
                      "overfitting with crops and mirroring against center crop only", least=-1.0),
           Comparison("crops and mirroring", "center crop only", -1, None, "loss",
                      "validation loss with crops and mirroring against center crop only", least=1 / 1.1),
           Comparison("random crops", "center crop only", -1, least=-1.0),
           Comparison("mirroring", "center crop only", -1, least=-1.0),
           Comparison("crops and mirroring, half the images", "center crop only, half the images", -1, least=-1.0),
           Comparison("crops and mirroring, 3 times the images", "center crop only, 3 times the images", -1,
                      least=-1.0)),
          epochs=150, images_per_class=100, rates=(0.003, 0.01, 0.03), note=_GAP),
)

_ALL_IMAGES = (
    Claim("lrn", "§3.3", "response normalization lowers the top-1 error by 1.4 points",
          "response normalization raises the error, or has no significant effect and one of 1.4 points is excluded; or "
          "an effect of 1 point against a constant factor of the same size is excluded",
          (Variant("no normalization", ("arch.norm=none",)),
           Variant("constant factor 2^-0.75", ("arch.lrn.alpha=0",)), Variant("response normalization")),
          (Comparison("response normalization", "no normalization", -1, -1.4),
           Comparison("response normalization", "constant factor 2^-0.75", -1, least=-1.0)),
          epochs=40, common=PAPER_SCALE, rates=(0.0003, 0.001, 0.003, 0.01), least_norm=0.01),
    Claim("overlap", "§3.4", "overlapping pooling (3x3, stride 2) lowers the top-1 error by 0.4 points against 2x2, "
          "stride 2, whose maps have equal dimensions",
          "overlapping pooling raises the error, or has no significant effect and one of 0.4 points is excluded",
          (Variant("pooling 2x2", ("arch.pool_kernel=2",)), Variant("pooling 3x3")),
          (Comparison("pooling 3x3", "pooling 2x2", -1, -0.4),), epochs=40, equal_maps=True, crop=3 / 4,
          note="views have three quarters of the image's side, so that all maps before a pooling have an even side and "
          "2x2 windows leave no row or column out"),
    Claim("depth", "§7", "removing any of the middle layers costs about 2 points of top-1 error",
          "removing one of the middle layers lowers the error, or has no significant effect and one of 2 points is "
          "excluded",
          (Variant("five convolutions"), Variant("no conv3", removed_layer="conv3"),
           Variant("no conv4", removed_layer="conv4"), Variant("no conv5", removed_layer="conv5")),
          tuple(Comparison(f"no conv{number}", "five convolutions", +1, 2.0) for number in (3, 4, 5)), epochs=40,
          note="without conv3 the towers meet in the fully connected layers only"),
    Claim("ensemble", "§6, Table 2", "averaging five networks lowers the top-1 error by 2.6 points",
          "averaging five networks raises the error, or has no significant effect and one of 2.6 points is excluded",
          (Variant("one network", views=10), Variant("five averaged", views=10, averaged=5)),
          (Comparison("five averaged", "one network", -1, -2.6),), epochs=40, seeds=3,
          note="three disjoint ensembles of five; with three pairs a t test finds only a mean difference of about 5 "
          "standard errors, so the interval is wide"),
    Claim("ten-views", "§4.1", "averaging over ten views lowers the top-1 error by 1.5 points",
          "ten views raise the error, or have no significant effect and one of 1.5 points is excluded",
          (Variant("one view"), Variant("ten views", views=10)),
          (Comparison("ten views", "one view", -1, -1.5),), epochs=40),
    Claim("two-gpu", "§3.2", "two towers have 1.7 points less top-1 error than one tower with half as many kernels in "
          "conv1 to conv4",
          "two towers have a higher error than the smaller network, or not a significantly lower one and 1.7 points "
          "less are excluded",
          (Variant("one tower, half the kernels", HALF_WIDTH), Variant("two towers")),
          (Comparison("two towers", "one tower, half the kernels", -1, -1.7),), epochs=40),
    Claim("lighting", "§4.1", "color noise along the principal components lowers the top-1 error by over 1 point; it "
          "makes the network invariant to the color of the illumination",
          "color noise raises the error, or has no significant effect and one of 1 point is excluded; or it makes the "
          "error rise more when the images are recolored, or an effect of 1 point on that rise is excluded",
          (Variant("no color noise", ("recipe.lighting=0",)), Variant("color noise")),
          (Comparison("color noise", "no color noise", -1, -1.0, is_bound=True),
           Comparison("color noise", "no color noise", -1, None, "recolored_rise", "color noise, recolored images",
                      least=-1.0)),
          epochs=40, note="recolored images are the validation images with five times the color noise of training"),
    Claim("batch-norm", "after the paper", "batch normalization, which has replaced response normalization, lowers the "
          "error against none; elsewhere, at 128 pixels on ImageNet, by 2.2 points after the ReLU and 0.7 before it",
          "batch normalization raises the error, or has no significant effect and one of 2.2 points after the ReLU, or "
          "of 0.7 before it, is excluded; or one of 1 point against response normalization",
          (Variant("no normalization", ("arch.norm=none",)), Variant("response normalization"),
           Variant("batch norm after ReLU", BATCH_NORM_AFTER_RELU),
           Variant("batch norm before ReLU", BATCH_NORM_BEFORE_RELU)),
          (Comparison("batch norm after ReLU", "no normalization", -1, -2.2, source=CAFFENET_BENCHMARK),
           Comparison("batch norm before ReLU", "no normalization", -1, -0.7, source=CAFFENET_BENCHMARK),
           Comparison("batch norm after ReLU", "response normalization", -1, least=-1.0)), epochs=40,
          note="batch normalization, with scale and bias, stands after each of the five convolutions; the published "
          "accuracies (47.1% without, 49.3% after the ReLU, 47.8% before it, one run each) are of a network that "
          "normalizes fc6 and fc7 as well"),
    Claim("weight-decay", "§5", "weight decay lowers the training error; it is not merely a regularizer",
          "weight decay raises the clean training error, or an effect of 0.5 points is excluded",
          (Variant("no weight decay", ("recipe.weight_decay=0",), tuned_by="train"),
           Variant("weight decay", tuned_by="train")),
          (Comparison("weight decay", "no weight decay", -1, None, "train", least=-0.5),), epochs=40),
)

OWN_GAIN = ("arch.initialization=kaiming", "arch.input.scale=58,58,58", "arch.output_init_std=0.01")
"""Inputs of unit variance and weights that keep it, by each activation's own gain, so that tanh and sigmoid are not
judged with ReLU's initialization."""

_SPEED = (
    Claim("figure1", "§3.1, Figure 1", "a four-layer network of ReLUs reaches 25% training error on CIFAR-10 in a "
          "sixth of the epochs that one of tanh needs, without regularization, each with its best learning rate",
          "tanh needs fewer epochs than ReLU, or not significantly more and a factor of 6 is excluded",
          (Variant("ReLU"), Variant("tanh", ("arch.activation=tanh",))),
          (Comparison("tanh", "ReLU", +1, 6.0, "epochs"),), steps=16_000, common=OWN_GAIN, network="cifar",
          target=TARGET_ERROR, stops_at_target=True, rates=(0.001, 0.003, 0.01), seeds=5,
          note="the paper does not give the layers of its four-layer network, so ours is of our making (`alexnet list "
          "cifar`); the target is the clean training error after an epoch; the error that training itself counts is of "
          "weights that change during the epoch, and so lags half an epoch behind"),
    Claim("saturation", "§3.1", "networks with saturating units learn several times slower than those with ReLUs",
          "tanh or sigmoid need fewer epochs than ReLU, or a factor of 1.1 is excluded",
          (Variant("ReLU"), Variant("tanh", ("arch.activation=tanh",)),
           Variant("sigmoid", ("arch.activation=sigmoid",))),
          (Comparison("tanh", "ReLU", +1, None, "epochs", least=1.1),
           Comparison("sigmoid", "ReLU", +1, None, "epochs", least=1.1)),
          steps=4_000, common=("arch.norm=none", CONSTANT_RATE), target=0.5, stops_at_target=True,
          note="without response normalization, which at unit scale multiplies all activations by 0.6; initial weights "
          "keep the signal's variance by each activation's own gain"),
    Claim("biases", "§5", "initial biases of 1 in conv2, conv4, conv5 and the fully connected layers accelerate the "
          "early stages of learning",
          "biases of 1 need more epochs than biases of 0, or a factor of 1.1 is excluded",
          (Variant("biases of 0", tuple(setting.replace("=1", "=0") for setting in BIASES_OF_1)),
           Variant("biases of 1")),
          (Comparison("biases of 1", "biases of 0", -1, None, "epochs", least=1 / 1.1),),
          steps=4_000, common=(*PAPER_SCALE, CONSTANT_RATE), target=0.5, stops_at_target=True,
          rates=(0.0003, 0.001, 0.003, 0.01)),
)

CLAIMS = {claim.name: claim for claim in (*_FEW_IMAGES, *_ALL_IMAGES, *_SPEED)}
