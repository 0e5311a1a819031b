"""What a claim trains, on which images and how often: `Design`, which a user sees before anything is trained."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from alexnet.architecture.arithmetic import explain
from alexnet.architecture.overrides import Json, to_json
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import recipe as paper_recipe
from alexnet.architecture.spec import Arch
from alexnet.architecture.training_only import augmentations
from alexnet.data.dataset import Dataset
from alexnet.data.order import batches_per_epoch
from alexnet.data.packed import PackedDataset
from alexnet.errors import plural, require
from alexnet.reproduce.claim import Claim, TuningQuantity, Variant
from alexnet.reproduce.claim_networks import common_setup
from alexnet.reproduce.quantities import quantity_names
from alexnet.reproduce.tuning import MAX_RATES
from alexnet.training.schedule import learning_rate

FIRST_TUNING_SEED = 1000


def check_images(claim: Claim, dataset: Dataset, *, images_per_class: int | None, quick: bool) -> None:
    """Raise UserError if a class of the data has too few training images, before any of them is packed.

    Args:
        claim: what is to be tested.
        dataset: its data, listed.
        images_per_class, quick: as for `Design.of`.
    """
    counts = Counter(image.label for image in dataset.splits["train"])
    _images_per_class(claim, min(counts[label] for label in range(len(dataset.classes))), images_per_class, quick)


def _images_per_class(claim: Claim, smallest: int, images_per_class: int | None, quick: bool) -> int | None:
    """Training images of each class, with factor 1; None for all. Raises UserError if the smallest class has fewer."""
    few = images_per_class or (max(2, min(20, smallest // 3)) if quick else claim.images_per_class)
    most = max(_images_of(variant, few) or 0 for variant in claim.variants)
    factor = max(variant.images_factor for variant in claim.variants)
    fit = int(smallest / factor)
    require(most <= smallest, f"{claim.name} trains on {plural(most, 'image')} per class, and the smallest class has "
            f"{smallest}", f"give --images-per-class {fit} or fewer" if fit else "give more images of each class")
    return few


def _images_of(variant: Variant, images_per_class: int | None) -> int | None:
    return images_per_class and max(1, round(images_per_class * variant.images_factor))


@dataclass(frozen=True)
class Design:
    """A claim with everything that its runs are made from."""

    claim: Claim
    side: int
    epochs: int
    images_per_class: int | None
    seeds: int
    """Of each variant; of an ensemble, disjoint ensembles."""
    tuning_seeds: int
    rates: tuple[float, ...]
    """The first grid."""
    max_rates: int
    quick: bool = False

    @classmethod
    def of(
        cls, claim: Claim, packed: PackedDataset, *, epochs: int | None = None, seeds: int | None = None,
        images_per_class: int | None = None, quick: bool = False,
    ) -> Design:
        """The claim's own design with what the user changes. quick: two epochs, seeds and rates, few images.

        Raises:
            UserError: a class has too few images for a variant, or two variants' maps should be equal and are not.
        """
        counts = np.bincount(packed.split("train").labels, minlength=len(packed.classes))
        few = _images_per_class(claim, int(counts.min()), images_per_class, quick)
        images = few * len(packed.classes) if few else packed.counts["train"]
        made = cls(claim, packed.side, epochs or (2 if quick else claim.epochs_on(images)), few,
                   seeds or (2 if quick else claim.seeds), 1 if quick else claim.tuning_seeds,
                   claim.rates[1:3] if quick else claim.rates, 2 if quick else MAX_RATES, quick)
        if claim.equal_maps:
            made.require_equal_maps()
        return made

    def images_of(self, variant: Variant) -> int | None:
        """Training images per class of a variant; None for all."""
        return _images_of(variant, self.images_per_class)

    def epochs_of(self, variant: Variant) -> int:
        """Epochs of a variant's runs; if they end at a target, at most."""
        return max(1, round(self.epochs * variant.epochs_factor))

    def setup(self, variant: Variant) -> tuple[Arch, Recipe]:
        """A variant's network and recipe, without its learning rate."""
        claim = self.claim
        return variant.apply(*common_setup(self.side, self.epochs_of(variant), claim.network, claim.common, claim.crop))

    def seeds_of(self, variant: Variant) -> range:
        """Fresh seeds. The members of the ensembles are all that there are networks of."""
        return range(self.seeds * max(other.averaged for other in self.claim.variants))

    @property
    def tuning(self) -> range:
        """Seeds of the tuning runs."""
        return range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.tuning_seeds)

    @property
    def trainings(self) -> list[tuple[Variant, int]]:
        """The variants that are trained, with the number of runs that each takes if its grid is not extended.

        Variants that differ only in their evaluation share runs; those that differ only in `tuned_by` share the tuning
        runs, and all runs if the same rate is chosen. The first of them stands for all.
        """
        trained: dict[str, tuple[Variant, int]] = {}
        for variant in self.claim.variants:
            arch, recipe = self.setup(variant)
            key = json.dumps([to_json(arch), to_json(recipe), self.images_of(variant)])
            trained.setdefault(key, (variant, len(self.seeds_of(variant)) + len(self.rates) * self.tuning_seeds))
        return list(trained.values())

    @property
    def least_runs(self) -> int:
        """Runs that this takes if no grid is extended."""
        return sum(runs for _, runs in self.trainings)

    def note(self, packed: PackedDataset) -> str:
        """The claim's note, with the numbers of these data; "" without one."""
        variant = self.claim.variants[-1]
        images = (self.images_of(variant) or 0) * len(packed.classes) or packed.counts["train"]
        _, recipe = self.setup(variant)
        per_epoch, rate = batches_per_epoch(images, recipe.batch_size), self.rates[len(self.rates) // 2]
        steps = recipe.epochs * per_epoch
        recipe = replace(recipe, learning_rate=rate)
        rates = sum(learning_rate(recipe, (step + 0.5) / per_epoch) for step in range(steps))
        shrink_paper, shrink = (rates * decay / (1 - recipe.momentum) for decay in (
            paper_recipe("paper").weight_decay, recipe.weight_decay))
        return self.claim.note.format(steps=steps, rate=rate, shrink_paper=shrink_paper, shrink=shrink)

    def common_settings(self) -> dict[str, Json]:
        """The settings that are the same in all variants and that a reader asks for, by name."""
        setups = [self.setup(variant) for variant in self.claim.variants]
        kinds = [set(augmentations(arch, recipe)) for arch, recipe in setups]
        shared = [kind for kind in augmentations(*setups[0]) if all(kind in each for each in kinds)]
        values: list[dict[str, Json]] = [{
            "batch_size": recipe.batch_size, "epochs": recipe.epochs, "schedule": recipe.schedule,
            "momentum": recipe.momentum, "weight_decay": recipe.weight_decay, "dropout": arch.dropout,
            "image_side": arch.input.side, "crop": arch.input.crop} for arch, recipe in setups]
        common: dict[str, Json] = {
            name: value for name, value in values[0].items() if all(each[name] == value for each in values)}
        return common | ({"augmentation": list[Json](shared)} if shared or not any(kinds) else {})

    def require_equal_maps(self) -> None:
        """Check that the feature maps of all variants have equal sizes."""
        shapes = {variant.name: [layer.output_shape for layer in explain(self.setup(variant)[0]).layers]
                  for variant in self.claim.variants}
        (first, expected), *others = shapes.items()
        for name, found in others:
            require(found == expected, f"at {self.side} pixels, {self.claim.name} compares feature maps of different "
                    f"sizes: {expected} in {first}, {found} in {name}", "give another --side")

    @property
    def tuned_by(self) -> str:
        """What learning rates are chosen by, and in which variants if it is not the same in all."""
        groups: dict[TuningQuantity, list[str]] = {}
        for variant in self.claim.variants:
            groups.setdefault(variant.tuned_by, []).append(variant.name)
        held_out = " on a fifth of the training images that tuning runs do not train on"
        what = [f"{quantity_names(self.claim)[quantity]}{held_out * (quantity in ('top1', 'loss'))}"
                + (f" (of {' and '.join(map(repr, names))})" if len(groups) > 1 else "")
                for quantity, names in groups.items()]
        return f"{' or by '.join(what)}, with other seeds"
