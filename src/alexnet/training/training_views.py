"""`TrainingViews`: the network inputs of a training batch: random views, then the user's transform, mixup or CutMix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from alexnet.architecture.recipe import Recipe
from alexnet.data.augmentation import ViewDraws, draw_views
from alexnet.data.loader import Batch
from alexnet.data.mixing import MixedLabels, mix_batch
from alexnet.data.preprocessing import Preprocess
from alexnet.training.transform import Transform, apply_transform


@dataclass(frozen=True)
class TrainingViews:
    """Makes the views that a process trains on."""

    preprocess: Preprocess
    recipe: Recipe
    lighting_CC: Tensor
    """From `lighting_basis`, on the device of the images."""
    dtype: torch.dtype
    """Of the network's input."""
    seed: int
    transform: Transform | None = None
    rank: int = 0
    """Number of the part of every batch that this process reads: its transform draws other numbers than the others."""

    def draw(self, batch: Batch, epoch: int) -> ViewDraws:
        """The random numbers of a batch's views, which the loader's threads draw ahead of the step."""
        return draw_views(self.recipe, batch.indices, self.seed, epoch, side=batch.pixels.side,
                          crop=self.preprocess.spec.crop, group_leaders=batch.group_leaders(self.recipe.view_group))

    def micro_batches(
        self, batch: Batch, count: int, epoch: int, step: int,
    ) -> Iterator[tuple[Batch, Tensor, MixedLabels | None]]:
        """The micro-batches with their views. For mixup and CutMix, all views of the batch are made at once."""
        parts = batch.parts(count)
        if not self.recipe.mixes_images:
            yield from ((part, self.of(part, epoch, step, number), None) for number, part in enumerate(parts))
            return
        views_NCHW, mixed = mix_batch(
            self.of(batch, epoch, step), batch.labels_N, batch.indices, self.recipe, self.seed, epoch)
        for part in parts:  # build has checked that this process reads whole batches, so positions are rows
            rows = slice(int(part.positions[0]), int(part.positions[-1]) + 1)
            yield part, views_NCHW[rows], mixed[rows]

    def of(self, part: Batch, epoch: int, step: int = 0, number: int = 0) -> Tensor:
        """The random views of these images in this epoch: network inputs NCHW.

        Args:
            part: a batch, or micro-batch `number` of it.
            epoch, step: numbers of the epoch and of the step, from 0. The transform draws by the step.
        """
        recipe = self.recipe
        lighting_on = not recipe.lighting_stop_epoch or epoch < recipe.lighting_stop_epoch
        views_NCHW = self.preprocess.training_views(
            part.pixels, part.indices, recipe, self.seed, epoch, self.lighting_CC if lighting_on else None,
            torch.float32 if self.transform else self.dtype, part.group_leaders(recipe.view_group), part.draws)
        if self.transform is None:
            return views_NCHW
        return apply_transform(self.transform, views_NCHW, (self.seed, step, self.rank, number)).to(self.dtype)
