"""From an image to 55x55 by hand: the paper's first layer in NumPy, every size worked out as it comes.

    python examples/from_image_to_55.py [PHOTO]

Without PHOTO it takes the cat that ships inside scikit-image (`pip install "alexnet[demo]"`). A few seconds.

Shapes: H rows, W columns, C colors, O maps.
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import torch

from alexnet import AlexNet
from alexnet.architecture.presets import ARCHS
from alexnet.data import images


def main(photo: str | None = None) -> float:
    """Tells the story; returns the largest difference from the package's own layers."""
    if photo is None:
        if not (skimage := importlib.util.find_spec("skimage")):
            raise ValueError('the cat comes with scikit-image: pip install "alexnet[demo]", or name a PHOTO')
        photo = Path(skimage.origin).parent / "data" / "chelsea.png"

    print("1. The image (§2). The shorter side becomes 256 pixels, and the central 256x256 is kept.")
    original_HWC = images.read(photo)
    stored_HWC = images.square(original_HWC, 256)
    print(f"   {original_HWC.shape} -> {stored_HWC.shape}, values {stored_HWC.min()} to {stored_HWC.max()}\n")

    print("2. A 224x224 view of it (§4.1), less a mean. The paper takes the mean of every pixel over the training set;")
    print("   one image has only its own.")
    edge = (256 - 224) // 2
    view_HWC = stored_HWC[edge : edge + 224, edge : edge + 224].astype(np.float32)
    view_HWC -= view_HWC.mean(axis=(0, 1))
    print(f"   (256 - 224) / 2 = {edge} pixels are left out on each side; values {view_HWC.min():.0f} to "
          f"{view_HWC.max():.0f}\n")

    print("3. A kernel of 11x11 pixels and 3 colors is laid on the view at every fourth pixel (§3.5).")
    exact = (224 - 11) / 4 + 1
    print(f"   (224 - 11) / 4 + 1 = {exact}: 54 places, and a quarter of a step is left. The paper prints 55, and")
    print("   the code behind it takes the ceiling: the last kernel reaches over the edge, where there are zeros.")
    steps = int(np.ceil(exact))
    reach = (steps - 1) * 4 + 11
    print(f"   ({steps} - 1) x 4 + 11 = {reach} pixels are needed: {reach - 224} of zeros go right and below.\n")
    padded_HWC = np.pad(view_HWC, ((0, reach - 224), (0, reach - 224), (0, 0)))

    network = AlexNet(ARCHS["paper"], seed=0).eval()
    conv1 = network.named_layer("conv1")
    kernels_OHWC = conv1.weight.detach().numpy().transpose(0, 2, 3, 1)
    print(f"4. {len(kernels_OHWC)} such kernels, drawn at random: {len(kernels_OHWC)} x (11 x 11 x 3 + 1) = "
          f"{len(kernels_OHWC) * (11 * 11 * 3 + 1):,} numbers. Each place of each map is one sum:")
    maps_OHW = np.empty((len(kernels_OHWC), steps, steps), np.float32)
    for row in range(steps):
        for column in range(steps):
            patch_HWC = padded_HWC[4 * row : 4 * row + 11, 4 * column : 4 * column + 11]
            maps_OHW[:, row, column] = (kernels_OHWC * patch_HWC).sum(axis=(1, 2, 3))
    maps_OHW += conv1.bias.detach().numpy()[:, None, None]
    print(f"   map 0, row 10, column 20: the sum of 11 x 11 x 3 = 363 products is {maps_OHW[0, 10, 20]:.4f}")
    print(f"   {maps_OHW.shape}, of which each of two GPUs has 48x55x55\n")

    print("5. ReLU (§3.1): below zero becomes zero.")
    active_OHW = np.maximum(maps_OHW, 0)
    print(f"   {(active_OHW == 0).mean():.0%} of {active_OHW.size:,} units are zero\n")

    print("6. Response normalization (§3.3): a / (2 + 0.0001 x the sum of a^2 over five neighboring maps) ^ 0.75.")
    normal_OHW = np.empty_like(active_OHW)
    for number in range(96):
        first = 48 * (number // 48)  # a map's neighbors end at its own GPU
        near_OHW = active_OHW[max(first, number - 2) : min(first + 48, number + 3)]
        normal_OHW[number] = active_OHW[number] / (2 + 0.0001 * (near_OHW**2).sum(axis=0)) ** 0.75
    print(f"   the largest value, {active_OHW.max():.3f}, becomes {normal_OHW.max():.3f}; where all is small, "
          f"1 / 2^0.75 = {2**-0.75:.3f} of it stays\n")

    print("7. Overlapping pooling (§3.4): the largest of every 3x3, two apart.")
    side = (55 - 3) // 2 + 1
    pooled_OHW = np.max([normal_OHW[:, row : row + 2 * side - 1 : 2, column : column + 2 * side - 1 : 2]
                         for row in range(3) for column in range(3)], axis=0)
    print(f"   (55 - 3) / 2 + 1 = {side}: {pooled_OHW.shape} goes on to conv2\n")

    print("8. The package's own layers, with the same kernels, over the same view:")
    seen = torch.from_numpy(view_HWC.transpose(2, 0, 1))[None]
    far = 0.0
    for name, by_hand in (("conv1", maps_OHW), ("relu1", active_OHW), ("norm1", normal_OHW), ("pool1", pooled_OHW)):
        with torch.inference_mode():
            seen = network.named_layer(name)(seen)
        difference = np.abs(seen[0].numpy() - by_hand).max()
        far = max(far, float(difference))
        print(f"   {name}: {tuple(seen.shape[1:])}, at most {difference:.1e} from ours, of values up to "
              f"{np.abs(by_hand).max():.1f}")
    return far


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photo", nargs="?")
    try:
        main(**vars(parser.parse_args()))
    except (OSError, ValueError) as mistake:
        parser.error(str(mistake))
