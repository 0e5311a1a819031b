"""The paper's first layer by hand: from an image to 55x55 feature maps in NumPy, with every size calculated.

    python examples/from_image_to_55.py [IMAGE]

Default: the photograph of a cat that comes with the package. Takes a few seconds.

Shapes: H rows, W columns, C color channels, O output channels (feature maps).
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from alexnet import AlexNet
from alexnet.architecture.network_presets import ARCHS
from alexnet.data import images
from alexnet.data.sources.embedded import PHOTOGRAPHS
from alexnet.data.square import square


def main(image: str | None = None) -> float:
    """Print each step. Returns the largest difference from the outputs of the package's layers."""
    view_HWC = center_crop(Path(image) if image else PHOTOGRAPHS / "chelsea.png")
    network = AlexNet(ARCHS["paper"], seed=0).eval()
    conv1 = network.named_layer("conv1")
    maps_OHW = convolve(view_HWC, conv1.weight.detach().numpy().transpose(0, 2, 3, 1), conv1.bias.detach().numpy())

    print("5. ReLU (§3.1): negative values become zero.")
    active_OHW = np.maximum(maps_OHW, 0)
    print(f"   {(active_OHW == 0).mean():.0%} of {active_OHW.size:,} units are zero\n")

    normal_OHW = normalize(active_OHW)
    pooled_OHW = pool(normal_OHW)

    print("8. The same with the package's layers and the same kernels:")
    output = torch.from_numpy(view_HWC.transpose(2, 0, 1))[None]
    largest = 0.0
    for name, by_hand in (("conv1", maps_OHW), ("relu1", active_OHW), ("norm1", normal_OHW), ("pool1", pooled_OHW)):
        with torch.inference_mode():
            output = network.named_layer(name)(output)
        difference = float(np.abs(output[0].numpy() - by_hand).max())
        largest = max(largest, difference)
        print(f"   {name}: {tuple(output.shape[1:])}, largest difference {difference:.1e}, values up to "
              f"{np.abs(by_hand).max():.1f}")
    return largest


def center_crop(image: Path) -> np.ndarray:
    """Steps 1 and 2: float32 [224, 224, 3], minus its mean color."""
    print("1. The image (§2). The shorter side is resized to 256 pixels, and the central 256x256 is cropped.")
    original_HWC = images.read(image)
    stored_HWC = square(original_HWC, 256)
    print(f"   {original_HWC.shape} -> {stored_HWC.shape}, values {stored_HWC.min()} to {stored_HWC.max()}\n")

    print("2. A 224x224 center crop (§4.1) minus a mean. The paper subtracts the training set's mean of every pixel;")
    print("   here it is the mean color of this one image.")
    edge = (256 - 224) // 2
    view_HWC = stored_HWC[edge : edge + 224, edge : edge + 224].astype(np.float32)
    view_HWC -= view_HWC.mean(axis=(0, 1))
    print(f"   (256 - 224) / 2 = {edge} pixels are cut off on each side; values {view_HWC.min():.0f} to "
          f"{view_HWC.max():.0f}\n")
    return view_HWC


def convolve(view_HWC: np.ndarray, kernels_OHWC: np.ndarray, bias_O: np.ndarray) -> np.ndarray:
    """Steps 3 and 4: conv1, float32 [96, 55, 55]."""
    print("3. The convolution has 11x11 kernels over 3 channels and stride 4 (§3.5).")
    exact = (224 - 11) / 4 + 1
    print(f"   (224 - 11) / 4 + 1 = {exact}, which is not an integer. The paper prints 55, and the authors' code")
    print("   rounds up: the last kernel extends over the edge of the image, which is padded with zeros.")
    side = int(np.ceil(exact))
    needed = (side - 1) * 4 + 11
    print(f"   ({side} - 1) x 4 + 11 = {needed} pixels are needed: {needed - 224} zeros on the right and bottom.\n")
    padded_HWC = np.pad(view_HWC, ((0, needed - 224), (0, needed - 224), (0, 0)))

    count = len(kernels_OHWC)
    print(f"4. conv1 has {count} kernels, here random ones: {count} x (11 x 11 x 3 + 1) = "
          f"{count * (11 * 11 * 3 + 1):,} parameters. Each output is one sum of products:")
    maps_OHW = np.empty((count, side, side), np.float32)
    for row in range(side):
        for column in range(side):
            patch_HWC = padded_HWC[4 * row : 4 * row + 11, 4 * column : 4 * column + 11]
            maps_OHW[:, row, column] = (kernels_OHWC * patch_HWC).sum(axis=(1, 2, 3))
    maps_OHW += bias_O[:, None, None]
    print(f"   map 0, row 10, column 20: the sum of 11 x 11 x 3 = 363 products is {maps_OHW[0, 10, 20]:.4f}")
    print(f"   {maps_OHW.shape}, 48x55x55 on each of the two GPUs\n")
    return maps_OHW


def normalize(active_OHW: np.ndarray) -> np.ndarray:
    """Step 6: local response normalization over five adjacent maps of the same GPU."""
    print("6. Local response normalization (§3.3): a / (2 + 0.0001 x sum of a^2 over five adjacent maps) ^ 0.75.")
    normal_OHW = np.empty_like(active_OHW)
    for number in range(96):
        first = 48 * (number // 48)  # a GPU sees only its own 48 maps
        adjacent_OHW = active_OHW[max(first, number - 2) : min(first + 48, number + 3)]
        normal_OHW[number] = active_OHW[number] / (2 + 0.0001 * (adjacent_OHW**2).sum(axis=0)) ** 0.75
    print(f"   the largest value is {active_OHW.max():.3f} before and {normal_OHW.max():.3f} after; small values are "
          f"multiplied by 1 / 2^0.75 = {2**-0.75:.3f}\n")
    return normal_OHW


def pool(normal_OHW: np.ndarray) -> np.ndarray:
    """Step 7: overlapping max pooling, float32 [96, 27, 27]."""
    print("7. Overlapping max pooling (§3.4): 3x3 windows with stride 2.")
    side = (55 - 3) // 2 + 1
    pooled_OHW = np.max([normal_OHW[:, row : row + 2 * side - 1 : 2, column : column + 2 * side - 1 : 2]
                         for row in range(3) for column in range(3)], axis=0)
    print(f"   (55 - 3) / 2 + 1 = {side}: {pooled_OHW.shape} is the input of conv2\n")
    return pooled_OHW


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("image", nargs="?")
    try:
        main(**vars(parser.parse_args()))
    except (OSError, ValueError) as error:
        parser.error(str(error))
