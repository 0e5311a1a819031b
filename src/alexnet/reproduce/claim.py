"""What a claim is made of: `Variant` (a network to train), `Comparison`, `Claim`, quantities, and how many seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from alexnet.architecture.overrides import configure
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.reproduce.claim_networks import CROP, common_setup, remove_conv

Quantity = Literal["top1", "errors", "train", "gap", "loss", "epochs", "recolored_rise", "norm"]
"""What is measured of a run, at the weights of its last epoch:

top1: top-1 error on the validation split, with the variant's number of views
errors: the same, compared as a relative difference, since our errors differ from those of the published differences
train: clean training error, of the training images' center crops in evaluation mode
gap: overfitting, the validation split's top-1 error minus the clean training error, both of center crops
loss: cross-entropy on the validation split, in nats; compared as a ratio
epochs: epochs until the clean training error falls to the claim's target; compared as a ratio
recolored_rise: top-1 error on validation images with color noise, minus the error on the same images without it
norm: alpha * sum / k, the relative weight of response normalization's sum, mean over all maps
"""

EPOCHS_TO = "epochs to "
"""How the name of the quantity `epochs` begins on a page: "epochs to 25% clean training error"."""

Unit = Literal["points", "times", "percent"]
"""`points`: a difference of fractions, such as errors, in percentage points. `times`: a ratio, such as of epochs.
`percent`: a relative difference; -3 means 3% fewer errors."""

UNITS: Mapping[Quantity, Unit] = {"epochs": "times", "loss": "times", "errors": "percent"}
"""How a quantity is compared, if not in points. Ratios and relative differences are tested as logarithms of ratios."""

FRACTIONS: frozenset[Quantity] = frozenset({"top1", "errors", "train", "gap", "recolored_rise", "norm"})
"""Quantities whose values are fractions. The others are epochs, or losses in nats."""

TuningQuantity = Literal["top1", "train", "loss", "epochs"]
"""What the search of a learning rate minimizes: that which the variant is compared by."""

_TUNED_BY = {"train": "clean training error", "loss": "validation loss", "epochs": "epochs to the target"}


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
    epochs_factor: float = 1.0
    """Multiplies the claim's epochs, so that few and many images have equally many steps."""
    views: int = 1
    """Views of each validation image: 1 or 10."""
    averaged: int = 1
    """Networks whose outputs are averaged: an ensemble."""
    tuned_by: TuningQuantity = "top1"
    """What the learning rate is chosen by. A run of a variant that is tuned by epochs ends at the claim's target."""

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
                *(f"{self.epochs_factor:.3g} times the epochs" for _ in range(self.epochs_factor != 1)),
                *(f"{self.views} views" for _ in range(self.views != 1)),
                *(f"{self.averaged} networks averaged" for _ in range(self.averaged != 1)),
                *(f"learning rate chosen by {_TUNED_BY[self.tuned_by]}" for _ in range(self.tuned_by != "top1")))


@dataclass(frozen=True)
class Comparison:
    """A variant against a reference, paired by seed."""

    variant: str
    reference: str
    sign: int
    """Expected sign of the variant's value minus the reference's, or of the logarithm of their ratio: +1 or -1."""
    paper: float | None = None
    """The published number: points or percent of error (negative: fewer errors), or a ratio. None: there is none."""
    quantity: Quantity = "top1"
    name: str = ""
    """Default: "VARIANT against REFERENCE"."""
    words: str = ""
    """The number as it was published, where `paper` is derived from it: "1.4 points of 42.1%"."""
    least: float | None = None
    """The smallest effect that counts where the paper gives no number, in the same unit and with its sign."""
    is_bound: bool = False
    """Whether the paper says that the effect is at least `paper`: "over 1%"."""
    source: str = "the paper"
    """Who gives the number."""
    caution: str = ""
    """Why a "supported" is little evidence, if it can hardly fail; shown beside it."""

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
    """Clean training error for the quantity "epochs", at which runs of variants tuned by epochs end. They are then not
    validated."""
    rates: tuple[float, ...] = (0.003, 0.01, 0.03)
    """The learning rates that each variant is tried with first."""
    seeds: int = 8
    """Fresh seeds, whose runs are compared; of an ensemble, disjoint ensembles."""
    tuning_seeds: int = 2
    """Other seeds, whose runs choose the learning rate."""
    equal_maps: bool = False
    """Whether all variants' feature maps must have equal sizes."""
    reported: tuple[Quantity, ...] = ()
    """Quantities that are measured and shown, but not compared."""
    data: str = ""
    """Name of the data that the statement is about; "": it is about any."""
    note: str = ""
    """What a reader must know of the comparison. `Design.note` fills in {steps} of a run on the data, the {rate} in the
    middle of `rates`, and by which power of e the weights {shrink}: with the last variant's decay, and {shrink_paper}
    with the paper's."""
    least_norm: float | None = None
    """Refuse a verdict where "norm" is below this in the variant that has response normalization."""

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What is measured, the main quantity first."""
        norm: tuple[Quantity, ...] = ("norm",) if self.least_norm else ()
        return tuple(dict.fromkeys((*(comparison.quantity for comparison in self.comparisons), *self.reported, *norm)))

    @property
    def stops_at_target(self) -> bool:
        """Whether the runs of all variants end at the target."""
        return all(variant.tuned_by == "epochs" for variant in self.variants)

    def epochs_on(self, images: int) -> int:
        """Epochs of a run on so many training images."""
        from alexnet.data.order import batches_per_epoch  # imports NumPy, which `--help` does without

        _, recipe = common_setup(64, 1, self.network)
        return self.epochs or -(-self.steps // batches_per_epoch(images, recipe.batch_size))

    def curve_epochs(self, variant: Variant, epochs: int) -> int:
        """Epochs between two measurements of the clean training error; 0: only after the last."""
        if variant.tuned_by == "epochs":
            return 1
        return max(1, epochs // 50) if self.images_per_class else 0
