"""The loader's threads draw what is random about the training views; one copy takes it to a GPU."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet.architecture.recipe_presets import recipe
from alexnet.data import augmentation
from alexnet.data.augmentation import draw_views, random_views
from alexnet.training.build import build
from alexnet.training.spec import RunSpec

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize("name", ["paper", "modern", "code2012"])
def test_views_are_the_same_whoever_draws_them(packed, tiny, tmp_path, name):
    """code2012 draws crop and mirror once for a group of images, also where a micro-batch begins in a group."""
    spec = RunSpec(packed, tiny, replace(recipe(name), batch_size=20, view_group=8), tmp_path, workers=2)
    trainer = build(spec)
    with closing(trainer.epoch_batches()) as source:
        for batch in source:
            assert batch.draws is not None
            for part in batch.parts(3):
                drawn = trainer.training_views.of(part, epoch=0)
                assert torch.equal(drawn, trainer.training_views.of(replace(part, draws=None), epoch=0))
                assert len(drawn) == len(part.indices)


@pytest.mark.parametrize(("crop", "lighting", "copied"), [
    ("window", 0.1, 29), ("window", 0.0, 17), ("resized", 0.1, 13)])
def test_one_copy_takes_all_draws_to_a_gpu_and_changes_none(monkeypatch, crop, lighting, copied):
    """Per image 16 bytes of position, 12 of noise and 1 of mirroring; boxes stay, since the grid is made of them."""
    copies = []
    monkeypatch.setattr(augmentation, "to_device", lambda tensor, device: copies.append((tensor.nbytes, device)) or
                        tensor.clone())
    draws = draw_views(replace(recipe("paper"), crop=crop, lighting=lighting), np.arange(7), 1, 2, side=32, crop=20)
    moved = draws.to(CUDA)
    assert copies == [(7 * copied, CUDA)]
    for name in ("top_left_N2", "noise_N3", "mirrored_N", "boxes_N4"):
        before, after = getattr(draws, name), getattr(moved, name)
        assert (before is None) == (after is None)
        if before is not None:
            assert before.dtype == after.dtype
            assert torch.equal(before, after)


def test_color_noise_is_the_same_as_of_views_drawn_now():
    lighting, indices = torch.randn(3, 3), np.arange(50)
    draws = draw_views(recipe("paper"), indices, 1, 2, side=32, crop=20)
    options = {"side": 32, "crop": 20, "device": CPU}
    now = random_views(recipe("paper"), indices, 1, 2, lighting_CC=lighting, **options)
    before = random_views(recipe("paper"), indices, 1, 2, lighting_CC=lighting, draws=draws, **options)
    assert torch.equal(now.shift_NC, before.shift_NC)
    assert random_views(recipe("paper"), indices, 1, 2, draws=draws, **options).shift_NC is None
