"""Preprocessing: stored uint8 images -> a network's input: crop, mean subtraction, mirror, scale, channel order (§4.1).

Training, evaluation, prediction, export and serving all use `Preprocess`, on whatever device the images are on.
Shapes: N images, H rows, W columns, C channels, V views.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet._runtime import kernels
from alexnet._runtime.devices import to_device
from alexnet._runtime.pixels import AnyPixels, Pixels, TensorPixels, as_pixels
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import InputSpec
from alexnet.data.augmentation import ERASING_DRAWS, TRIVIAL_AUGMENT_DRAWS, ViewDraws, erase, random_views, uniform
from alexnet.data.numpy_preprocessing import central_window
from alexnet.data.trivial_augment import trivial_augment
from alexnet.errors import require


class Preprocess(nn.Module):
    """From stored images to a network's input, with the mean as a buffer; a checkpoint saves the mean.

    Calling it gives the center crop of each image. `training_views` gives random views, `ten_views` those of §4.1's
    evaluation.
    """

    mean_HWC: Tensor
    scale_C: Tensor

    def __init__(self, spec: InputSpec, mean_HWC: Tensor) -> None:
        """Create it for one network.

        Args:
            spec: the network's input.
            mean_HWC: float [side, side, 3] or [1, 1, 3], on 0..255, RGB.
        """
        super().__init__()
        self.spec = spec
        self.register_buffer("mean_HWC", mean_HWC.float())
        self.register_buffer("scale_C", torch.tensor(spec.scale, dtype=torch.float32))

    @property
    def mean_is_central(self) -> bool:
        """Whether every view loses the center crop of the mean, after mirroring (`InputSpec.mean_crop`)."""
        return self.spec.mean_crop == "center" and len(self.mean_HWC) > 1

    def central_mean(self, crop: int) -> Tensor:
        """The center crop of the mean: float [crop, crop, 3]."""
        window = central_window(len(self.mean_HWC), crop)
        return self.mean_HWC[window, window]

    @classmethod
    def from_data(cls, spec: InputSpec, mean_HWC: NDArray[np.float32]) -> Preprocess:
        """With the mean that `spec` asks for: given numbers, or the training set's mean of each pixel or channel."""
        if isinstance(spec.mean, tuple):
            return cls(spec, torch.tensor(spec.mean).reshape(1, 1, 3))
        mean = torch.from_numpy(np.array(mean_HWC))
        return cls(spec, mean.mean((0, 1), keepdim=True) if spec.mean == "channel" else mean)

    def forward(self, pixels: AnyPixels) -> Tensor:
        """The center crop: float [N, C, crop, crop] from uint8 [N, side, side, C].

        Raises:
            UserError: it is given something else, such as the path of a file, or a tensor of another shape or type.
        """
        if isinstance(pixels, Tensor) and _is_traced():  # an exporter cannot trace the compiled kernel
            pixels_NHWC = pixels
        else:
            require(not isinstance(pixels, str | bytes | Path | np.ndarray | list | tuple),
                    f"preprocess takes a tensor, uint8 [N, {self.spec.side}, {self.spec.side}, 3], and not a "
                    f"{type(pixels).__name__}", "model.views(image) gives the network's input of a file or an array, "
                    "and model.pixels(image) its stored pixels")
            batch = self._stored(pixels)
            if kernels.supports_crop(batch, torch.float32):
                start = central_window(batch.side, self.spec.crop).start
                return self.crop_normalize(batch, torch.full((len(batch), 2), start, device=batch.device))
            pixels_NHWC = batch.tensor()
        window = central_window(pixels_NHWC.shape[1], self.spec.crop)
        # A slice leaves the batch size open in an exported graph.
        views_NHWC = pixels_NHWC[:, window, window].float()
        if not self.mean_is_central:
            views_NHWC = views_NHWC - (self.mean_HWC if len(self.mean_HWC) == 1 else self.mean_HWC[window, window])
        return self.normalize(views_NHWC.permute(0, 3, 1, 2))

    def ten_views(self, pixels: AnyPixels) -> Tensor:
        """Ten views: four corners, the center, and their mirror images (§4.1): float [N, 10, C, crop, crop].

        Raises:
            UserError: as `forward`.
        """
        pixels = self._stored(pixels)
        count = len(pixels)
        views = self.numbered_views(pixels, torch.arange(10).repeat(count),
                                    image_V=torch.arange(count, device=pixels.device).repeat_interleave(10))
        return views.unflatten(0, (count, 10))

    def _stored(self, pixels: AnyPixels) -> Pixels:
        """The batch behind the interface. Raises UserError for a tensor that is no batch of stored images.

        Other tensors would often give views as well, but wrong ones: of values from 0 to 1, of channels as rows.
        """
        side = self.spec.side
        if isinstance(pixels, Tensor):
            right = pixels.dtype == torch.uint8 and pixels.shape[1:] == (side, side, 3) and pixels.dim() == 4
            require(right, f"preprocess takes uint8 [N, {side}, {side}, 3], and not "
                    f"{str(pixels.dtype).removeprefix('torch.')} {list(pixels.shape)}", "model.pixels(image) gives the "
                    "stored pixels of a file or an array, and model.views(image) what the network takes")
        return as_pixels(pixels)

    def numbered_views(self, pixels: AnyPixels, number_V: Tensor, image_V: Tensor | None = None) -> Tensor:
        """Views by their numbers in `ten_views`, 0 to 9: float [V, C, crop, crop].

        Args:
            number_V: int64, on the CPU.
            image_V: the index in the batch of each view's image; default: one view of each image.
        """
        pixels = as_pixels(pixels)
        last = pixels.side - self.spec.crop
        five_52 = torch.tensor([(0, 0), (0, last), (last, 0), (last, last), (last // 2, last // 2)])
        top_left_V2, mirrored_V = five_52[number_V % 5], number_V >= 5
        return self.crop_normalize(pixels, to_device(top_left_V2, pixels.device), to_device(mirrored_V, pixels.device),
                                   image_V=image_V)

    def training_views(
        self, pixels: AnyPixels, indices: NDArray[np.int64], recipe: Recipe, seed: int, epoch: int,
        lighting_CC: Tensor | None = None, dtype: torch.dtype = torch.float32,
        group_leaders: NDArray[np.int64] | None = None, draws: ViewDraws | None = None,
    ) -> Tensor:
        """One random view of each image (§4.1): float [N, C, crop, crop] from uint8 [N, side, side, C].

        The side of the views is that of the network's input, or the recipe's `train_crop`.
        With TrivialAugment and random erasing, if the recipe has them. Mixup and CutMix need the views of a whole
        batch: `mixing.mix_batch`.

        Args:
            pixels: the images.
            indices: each image's index in the training set; with `seed` and `epoch` it decides the view.
            recipe, seed, epoch, lighting_CC, group_leaders, draws: as for `augmentation.random_views`.
            dtype: float32, or bfloat16 where the network would round to it anyway.
        """
        pixels = as_pixels(pixels)
        if recipe.trivial_augment:
            draws_N3 = uniform(seed, epoch, indices, TRIVIAL_AUGMENT_DRAWS)
            pixels = TensorPixels(trivial_augment(pixels.tensor(), draws_N3))
        drawn = random_views(recipe, indices, seed, epoch, side=pixels.side, crop=self.spec.crop, device=pixels.device,
                             lighting_CC=lighting_CC, group_leaders=group_leaders, draws=draws)
        divisor = 1 + recipe.lighting if recipe.lighting_rescale and drawn.shift_NC is not None else 1.0
        if drawn.boxes_N4 is not None:
            views = self.random_resized_crop(
                pixels, drawn.boxes_N4, recipe.train_crop or self.spec.crop, drawn.mirrored_N, drawn.shift_NC, dtype,
                divisor)
        else:
            assert drawn.top_left_N2 is not None
            views = self.crop_normalize(
                pixels, drawn.top_left_N2, drawn.mirrored_N, drawn.shift_NC, dtype, divisor=divisor)
        if recipe.erase_probability:
            views = erase(views, uniform(seed, epoch, indices, ERASING_DRAWS), recipe.erase_probability)
        return views

    def crop_normalize(
        self, pixels: AnyPixels, top_left_V2: Tensor, mirrored_V: Tensor | None = None, shift_VC: Tensor | None = None,
        dtype: torch.dtype = torch.float32, image_V: Tensor | None = None, divisor: float = 1.0,
    ) -> Tensor:
        """`crop`, then `normalize`: float [V, C, crop, crop]. The compiled kernel does both in one pass.

        Args:
            image_V: the index in the batch of each view's image; default: one view of each image.
            divisor: as for `normalize`.
        """
        pixels = as_pixels(pixels)
        if kernels.supports_crop(pixels, dtype):
            central = self.mean_is_central
            return kernels.crop_normalize(
                pixels, self.central_mean(self.spec.crop) if central else self.mean_HWC, self.scale_C * divisor,
                top_left_V2, mirrored_V, shift_VC, self.spec.crop, bgr=self.spec.channels == "BGR", dtype=dtype,
                image_V=image_V, mean_is_central=central)
        views = self.crop(pixels.tensor(), top_left_V2[:, 0], top_left_V2[:, 1], image_V)
        return self.normalize(views, mirrored_V, shift_VC, dtype, divisor)

    def crop(self, pixels_NHWC: Tensor, top_V: Tensor, left_V: Tensor, image_V: Tensor | None = None) -> Tensor:
        """Windows of crop x crop, minus the mean of the same pixels: float [V, C, crop, crop].

        Where the mean is central, `normalize` subtracts it.
        """
        crop, (_, height, width, channels) = self.spec.crop, pixels_NHWC.shape
        image = torch.arange(len(pixels_NHWC), device=pixels_NHWC.device) if image_V is None else image_V
        # unfold gives [N, tops, lefts, C, crop, crop] without a copy; indexing then copies the wanted windows.
        views = pixels_NHWC.unfold(1, crop, 1).unfold(2, crop, 1)[image, top_V, left_V].float()
        if self.mean_is_central:
            return views
        mean_1HWC = self.mean_HWC.expand(height, width, channels)[None]
        means = mean_1HWC.unfold(1, crop, 1).unfold(2, crop, 1)[torch.zeros_like(image), top_V, left_V]
        return views - means

    def random_resized_crop(
        self, pixels: AnyPixels, boxes_N4: Tensor, crop: int, mirrored_N: Tensor | None = None,
        shift_NC: Tensor | None = None, dtype: torch.dtype = torch.float32, divisor: float = 1.0,
    ) -> Tensor:
        """Boxes (top, left, rows, columns, in pixels) rescaled to crop x crop, bilinear, then `normalize`."""
        pixels = as_pixels(pixels)
        side, device = pixels.side, pixels.device
        if len(self.mean_HWC) == 1 and kernels.supports_crop(pixels, dtype):
            return kernels.resized_crop_normalize(
                pixels, self.mean_HWC.flatten(), self.scale_C * divisor, boxes_N4, mirrored_N, shift_NC, crop,
                bgr=self.spec.channels == "BGR", dtype=dtype)
        # affine_grid measures the image from -1 to 1: half sizes on the diagonal, then the center.
        top, left, high, wide = (boxes_N4 / side).unbind(1)
        zero = torch.zeros_like(high)
        theta_N23 = to_device(torch.stack([torch.stack([wide, zero, 2 * left + wide - 1], 1),
                                           torch.stack([zero, high, 2 * top + high - 1], 1)], 1).float(), device)
        pixels_NHWC = pixels.tensor().float()
        views = (pixels_NHWC if self.mean_is_central else pixels_NHWC - self.mean_HWC).permute(0, 3, 1, 2)
        grid = F.affine_grid(theta_N23, [len(views), views.shape[1], crop, crop], align_corners=False)
        views = F.grid_sample(views, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return self.normalize(views, mirrored_N, shift_NC, dtype, divisor)

    def normalize(
        self, views_NCHW: Tensor, mirrored_N: Tensor | None = None, shift_NC: Tensor | None = None,
        dtype: torch.dtype = torch.float32, divisor: float = 1.0,
    ) -> Tensor:
        """Mirror, add color noise, divide by the scale, and order the channels, of views minus their mean.

        A central mean is subtracted here, after mirroring.

        divisor: a further factor on the scale (`Recipe.lighting_rescale`).
        """
        views = views_NCHW
        if mirrored_N is not None:
            views = torch.where(mirrored_N[:, None, None, None], views.flip(-1), views)
        if self.mean_is_central:
            views = views - self.central_mean(views.shape[-1]).permute(2, 0, 1)
        if shift_NC is not None:
            views = views + shift_NC[:, :, None, None]
        if self.spec.scale != (1.0, 1.0, 1.0) or divisor != 1:
            views = views / (self.scale_C * divisor)[:, None, None]
        return (views.flip(-3) if self.spec.channels == "BGR" else views).to(dtype)


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
