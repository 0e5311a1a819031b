"""Turns packed uint8 batches into network inputs (§4.1), on whatever device they are. Reads nothing from disk.

Every random choice is arithmetic on (seed, epoch, image): no state is kept, so any worker, rank or resumed run
gives an image the same view. Shapes: N images, H rows, W columns, C channels, V views.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from alexnet._runtime import kernels
from alexnet._runtime.pixels import AnyPixels, as_pixels
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import InputSpec
from alexnet.data.augmentation import boxes, uniform


class Preprocess:
    """The one path from stored pixels to a network's input: crop, mean, mirror, scale, channel order.

    Training, evaluation, prediction and serving all go through it; it travels in the checkpoint.
    mean_HWC: float [side, side, 3] or [1, 1, 3], on 0..255, RGB.
    """

    def __init__(self, spec: InputSpec, mean_HWC: Tensor) -> None:
        self.spec = spec
        self.mean_HWC = mean_HWC.float()
        self.scale_C = torch.tensor(spec.scale)

    @classmethod
    def from_data(cls, spec: InputSpec, mean_HWC: NDArray[np.float32]) -> Preprocess:
        """With the training set's own mean, of each pixel or channel as the spec asks, or the spec's given one."""
        if isinstance(spec.mean, tuple):
            return cls(spec, torch.tensor(spec.mean).reshape(1, 1, 3))
        mean = torch.from_numpy(np.array(mean_HWC))
        return cls(spec, mean.mean((0, 1), keepdim=True) if spec.mean == "channel" else mean)

    def to(self, device: torch.device) -> Preprocess:
        """The same, with its tensors on a device."""
        moved = Preprocess(self.spec, self.mean_HWC.to(device))
        moved.scale_C = self.scale_C.to(device)
        return moved

    def center(self, pixels: AnyPixels) -> Tensor:
        """The central view: float [N, C, crop, crop] from uint8 [N, side, side, C]."""
        pixels = as_pixels(pixels)
        side, device = pixels.side, pixels.device
        return self.crop_normalize(pixels, torch.full((len(pixels), 2), (side - self.spec.crop) // 2, device=device))

    def ten_views(self, pixels: AnyPixels) -> Tensor:
        """Four corners, the center, and their mirror images (§4.1): float [N, 10, C, crop, crop]."""
        pixels = as_pixels(pixels)
        side, device, count = pixels.side, pixels.device, len(pixels)
        last = side - self.spec.crop
        places = [(0, 0), (0, last), (last, 0), (last, last), (last // 2, last // 2)]
        places_V2 = torch.tensor(places * 2, device=device)
        mirrored_V = torch.arange(10, device=device) >= 5
        views = self.crop_normalize(pixels, places_V2.repeat(count, 1), mirrored_V.repeat(count),
                         photo_N=torch.arange(count, device=device).repeat_interleave(10))
        return views.unflatten(0, (count, 10))

    def training_views(
        self, pixels: AnyPixels, indices: NDArray[np.int64], recipe: Recipe, seed: int, epoch: int,
        lighting_CC: Tensor | None = None, dtype: torch.dtype = torch.float32,
        leaders: NDArray[np.int64] | None = None,
    ) -> Tensor:
        """One random view of each image (§4.1): float [N, C, crop, crop] from uint8 [N, side, side, C].

        indices: each image's place in the training set; with seed and epoch they decide the view.
        lighting_CC: columns p_i * l_i of the color noise, from `lighting_basis`; None leaves the colors alone.
        dtype: float32, or bfloat16 where the network would round to it anyway.
        leaders: the first of each one's `recipe.view_group` images, where these are a share of a batch.
        """
        pixels = as_pixels(pixels)
        side, device, count = pixels.side, pixels.device, len(pixels)
        # code2012 drew crop and mirror once for 32 images: the first of each group draws for it.
        if leaders is None:
            leaders = indices[np.arange(count) // recipe.view_group * recipe.view_group]
        draws = torch.from_numpy(uniform(seed, epoch, leaders, 5)).to(device)
        mirrored_N = draws[:, 4] < 0.5 if recipe.mirror else torch.zeros(count, dtype=torch.bool, device=device)
        shift_NC = None
        if lighting_CC is not None and recipe.lighting:
            noise = torch.special.ndtri(torch.from_numpy(uniform(seed, epoch, indices, 8)[:, 5:])) * recipe.lighting
            shift_NC = noise.float().to(device) @ lighting_CC.T
        if recipe.crop == "resized":
            return self.random_resized_crop(pixels, boxes(draws[:, :4], side, recipe.crop_area), mirrored_N, shift_NC, dtype)
        room = side - self.spec.crop
        if recipe.crop == "window":
            places_N2 = (draws[:, :2] * (room + 1)).long().clamp(max=room)
        else:
            places_N2 = torch.full((count, 2), room // 2, device=device)
        return self.crop_normalize(pixels, places_N2, mirrored_N, shift_NC, dtype)

    def crop_normalize(
        self, pixels: AnyPixels, places_N2: Tensor, mirrored_N: Tensor | None = None, shift_NC: Tensor | None = None,
        dtype: torch.dtype = torch.float32, photo_N: Tensor | None = None,
    ) -> Tensor:
        """Windows at `places` (top, left), less the mean there, mirrored where asked, colors shifted, scaled.

        photo_N: the image that each window is of, where it is not one window each. The compiled kernel does all of
        it in one pass over the pixels, where there is one.
        """
        pixels = as_pixels(pixels)
        if kernels.makes_views(pixels, dtype):
            return kernels.windows(pixels, self.mean_HWC, self.scale_C, places_N2, mirrored_N, shift_NC,
                                   self.spec.crop, bgr=self.spec.channels == "BGR", dtype=dtype, photo_V=photo_N)
        views = self.crop(pixels.tensor(), places_N2[:, 0], places_N2[:, 1], photo_N)
        return self.normalize(views, mirrored_N, shift_NC, dtype)

    def crop(self, pixels_NHWC: Tensor, top_N: Tensor, left_N: Tensor, photo_N: Tensor | None = None) -> Tensor:
        """Windows of crop x crop at the given places, less the mean of those places: float [N, C, crop, crop]."""
        crop, (_, height, width, channels) = self.spec.crop, pixels_NHWC.shape
        photo = torch.arange(len(pixels_NHWC), device=pixels_NHWC.device) if photo_N is None else photo_N
        mean_1HWC = self.mean_HWC.expand(height, width, channels)[None]
        # unfold makes a view [N, places, places, C, crop, crop] without copying; indexing then copies what is wanted.
        views = pixels_NHWC.unfold(1, crop, 1).unfold(2, crop, 1)[photo, top_N, left_N]
        means = mean_1HWC.unfold(1, crop, 1).unfold(2, crop, 1)[torch.zeros_like(photo), top_N, left_N]
        return views.float() - means

    def random_resized_crop(
        self, pixels: AnyPixels, boxes_N4: Tensor, mirrored_N: Tensor | None = None, shift_NC: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Boxes (top, left, rows, columns, in pixels) brought to crop x crop, bilinear, and the rest as in `cut`."""
        pixels = as_pixels(pixels)
        side, crop = pixels.side, self.spec.crop
        if pixels.device.type == "cpu" and len(self.mean_HWC) == 1 and kernels.makes_views(pixels, dtype):
            return kernels.boxes(pixels, self.mean_HWC.flatten(), self.scale_C, boxes_N4, mirrored_N, shift_NC, crop,
                                 bgr=self.spec.channels == "BGR", dtype=dtype)
        # affine_grid speaks of -1..1 over the picture: half sizes on the diagonal, then the center.
        top, left, high, wide = (boxes_N4 / side).unbind(1)
        zero = torch.zeros_like(high)
        theta_N23 = torch.stack([torch.stack([wide, zero, 2 * left + wide - 1], 1),
                                 torch.stack([zero, high, 2 * top + high - 1], 1)], 1).float()
        views = (pixels.tensor().float() - self.mean_HWC).permute(0, 3, 1, 2)
        grid = F.affine_grid(theta_N23, [len(views), views.shape[1], crop, crop], align_corners=False)
        views = F.grid_sample(views, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return self.normalize(views, mirrored_N, shift_NC, dtype)

    def normalize(
        self, views_NCHW: Tensor, mirrored_N: Tensor | None = None, shift_NC: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Mirror, color noise, scale and channel order, on views that are cut out already."""
        views = views_NCHW
        if mirrored_N is not None:
            views = torch.where(mirrored_N[:, None, None, None], views.flip(-1), views)
        if shift_NC is not None:
            views = views + shift_NC[:, :, None, None]
        if self.spec.scale != (1.0, 1.0, 1.0):
            views = views / self.scale_C[:, None, None]
        return (views.flip(-3) if self.spec.channels == "BGR" else views).to(dtype)
