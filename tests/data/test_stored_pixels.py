"""`Preprocess` takes stored images, uint8 [N, side, side, 3], and refuses what would give views of something else."""

import pytest
import torch

import alexnet
from alexnet.architecture.spec import InputSpec
from alexnet.data.preprocessing import Preprocess

SPEC = InputSpec(side=40, crop=32)
MEAN = torch.full((1, 1, 3), 100.0)


@pytest.mark.parametrize(("shape", "dtype", "words"), [
    ((2, 40, 40, 3), torch.float32, r"not float32 \[2, 40, 40, 3\]"),  # 0 to 1, or 0 to 255: it cannot be known
    ((2, 40, 40, 3), torch.int64, "not int64"),
    ((2, 3, 40, 40), torch.uint8, r"not uint8 \[2, 3, 40, 40\]"),  # channels first
    ((40, 40, 3), torch.uint8, r"not uint8 \[40, 40, 3\]"),  # rows taken for images
    ((2, 40, 60, 3), torch.uint8, r"not uint8 \[2, 40, 60, 3\]"),  # not the center of a square
    ((2, 48, 48, 3), torch.uint8, r"not uint8 \[2, 48, 48, 3\]"),  # a smaller part of the picture
    ((2, 40, 40, 4), torch.uint8, r"not uint8 \[2, 40, 40, 4\]"),
    ((2, 40, 40), torch.uint8, r"not uint8 \[2, 40, 40\]")])
def test_a_tensor_of_another_shape_or_type_is_refused(shape, dtype, words):
    preprocess = Preprocess(SPEC, MEAN)
    for views_of in (preprocess, preprocess.ten_views):
        with pytest.raises(alexnet.UserError, match=rf"takes uint8 \[N, 40, 40, 3\].*{words}.*model\.pixels\(image\)"):
            views_of(torch.zeros(shape, dtype=dtype))


def test_stored_images_lose_the_mean_whatever_torchs_default_type_is():
    pixels = torch.full((2, 40, 40, 3), 107, dtype=torch.uint8)
    former = torch.get_default_dtype()
    for default in (torch.float32, torch.float64):
        torch.set_default_dtype(default)
        try:
            views = Preprocess(SPEC, MEAN.float())(pixels)
        finally:
            torch.set_default_dtype(former)
        assert torch.equal(views, torch.full((2, 3, 32, 32), 7.0, dtype=torch.float32))
