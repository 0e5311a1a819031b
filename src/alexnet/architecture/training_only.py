"""What training has and evaluation has not: augmentation and dropout, each by its name, for a network and a recipe."""

from __future__ import annotations

from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch


def augmentations(arch: Arch, recipe: Recipe, transform: str = "") -> tuple[str, ...]:
    """The kinds of random changes of training images, such as "random crops" and "mirroring"; none are left out.

    Args:
        arch: the network. A window as large as the stored image has one position, and so is no random crop.
        recipe: the recipe. L-BFGS (`train --head`) sees images and mirror images alike, so it has none.
        transform: name of the user's own augmentation.
    """
    if recipe.optimizer == "lbfgs":
        return ()
    kinds = {
        "random crops": recipe.crop == "window" and arch.input.crop < arch.input.side,
        "random resized crops": recipe.crop == "resized", "mirroring": recipe.mirror,
        "color noise": recipe.lighting > 0, "TrivialAugment": recipe.trivial_augment,
        "random erasing": recipe.erase_probability > 0, "mixup": recipe.mixup_alpha > 0,
        "CutMix": recipe.cutmix_alpha > 0, f"the transform {transform}": bool(transform)}
    return tuple(kind for kind, is_on in kinds.items() if is_on)


def training_only(arch: Arch, recipe: Recipe, transform: str = "") -> tuple[str, ...]:
    """`augmentations`, and "dropout" if the network has it: why training errors may exceed those of evaluation."""
    has_dropout = arch.dropout > 0 and len(arch.dense) > 0 and recipe.optimizer != "lbfgs"
    return (*augmentations(arch, recipe, transform), *(["dropout"] if has_dropout else []))
