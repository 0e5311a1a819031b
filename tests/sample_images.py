"""Images for tests: generated stripes of four classes, and where real images are."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet.data.sources import embedded

IMAGES = Path(__file__).parents[2] / "shared" / "data"
"""Real images that are not part of the repository."""


def draw(rng: np.random.Generator, label: int, side: int = 32) -> np.ndarray:
    """A noisy image of stripes whose direction and color depend on the class. uint8 [side, side, 3]."""
    y, x = np.mgrid[:side, :side]
    wave = np.sin((x * np.cos(label) + y * np.sin(label)) * 0.8 + rng.uniform(0, 6))
    color = np.array([80, 40, -60]) if label % 2 else np.array([-60, 50, 70])
    return np.clip(128 + wave[..., None] * color + rng.normal(0, 20, (side, side, 3)), 0, 255).astype(np.uint8)


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    """An image of smooth colors that differs in all eight orientations: uint8 [height, width, 3]."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / width, 255 * y / height, 128 + 60 * np.sin(x / 9 + y / 23)], -1).astype(np.uint8)


def largest_difference(a: np.ndarray, b: np.ndarray) -> int:
    """Between two values of images of one shape."""
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


def write_smooth_image(path: Path, seed: int, side: int = 40) -> None:
    """Write an image of 5 x 5 random colors, smoothed: each seed's looks different, also to a perceptual hash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colors = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    Image.fromarray(colors).resize((side, side), Image.Resampling.BICUBIC).save(path)


def photograph_crops(count: int) -> list[bytes]:
    """Crops of the package's photographs as JPEG files, gray and in color: of real photos, in every clone."""
    files, made = [embedded.PHOTOGRAPHS / image.file for image in embedded.IMAGES], []
    for number in range(count):
        rng = np.random.default_rng(number)
        with Image.open(files[number % len(files)]) as photo:
            width, height = (int(rng.integers(min(64, side), min(500, side) + 1)) for side in photo.size)
            left, top = (int(rng.integers(0, side - length + 1))
                         for side, length in zip(photo.size, (width, height), strict=True))
            crop = photo.convert("L" if photo.mode == "L" else "RGB").crop((left, top, left + width, top + height))
        file = io.BytesIO()
        crop.save(file, "JPEG", quality=int(rng.integers(75, 96)), subsampling=int(rng.integers(0, 3)))
        made.append(file.getvalue())
    return made


def write_class_folders(root: Path) -> None:
    """Write train/ and val/ of four classes, 30 and 11 images each, as PNG files of 32 pixels."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("val", 11)):
        for label, name in enumerate(("ash", "birch", "cedar", "date palm")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draw(rng, label)).save(folder / f"{number:03}.png")
