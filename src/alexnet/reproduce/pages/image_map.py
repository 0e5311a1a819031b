"""The page of `alexnet map`: images as points, near each other if their features are, with thumbnails."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from alexnet._runtime.html_page import render_page, script_json, write_page
from alexnet._runtime.image_encoding import thumbnail
from alexnet.data.class_names import printable
from alexnet.data.packed import PackedSplit

_TEMPLATE = Path(__file__).parent / "image_map.html"

SIDE = 1000
"""The longer side of the drawing, in its own units."""

_MARGIN = 20

_BATCH_SIZE = 64


def write_image_map(
    path: Path, plane_N2: NDArray[np.float32], split: PackedSplit, indices: NDArray[np.int64], classes: tuple[str, ...],
    *, trained_N: NDArray[np.bool_], title: str, layer: str,
) -> None:
    """Write the page.

    Args:
        path: file to write.
        plane_N2: places of the images, as `inference.image_map.embed` gives them.
        split: the split that the images are of.
        indices: of the images, [N].
        classes: names of the data's classes.
        trained_N: whether the network was trained on each image.
        title: names the network and the data.
        layer: the layer whose features were mapped.
    """
    names = [printable(name) for name in classes]
    counts = Counter(split.labels[indices].tolist())
    places_N2, width, height = _fit(plane_N2)
    points = [[round(x, 1), round(y, 1), label, printable(split.names[index]), image, trained]
              for (x, y), label, index, image, trained in zip(
                  places_N2.tolist(), split.labels[indices].tolist(), indices.tolist(),
                  _thumbnails(split, indices), map(int, trained_N), strict=True)]
    legend = [(label, names[label], counts[label]) for label in sorted(counts)]
    write_page(path, render_page(
        _TEMPLATE, title=title, layer=layer, images=len(indices), all_images=len(split), trained=int(trained_N.sum()),
        legend=legend, width=width, height=height, points=script_json(points), names=script_json(names),
        class_colors=Markup(_class_colors([label for label, _, _ in legend]))))


def _fit(plane_N2: NDArray[np.float32]) -> tuple[NDArray[np.float32], int, int]:
    """The places in the drawing, both axes by the same factor, and the drawing's width and height."""
    low_2 = plane_N2.min(0)
    extent_2 = plane_N2.max(0) - low_2
    scale = (SIDE - 2 * _MARGIN) / max(float(extent_2.max()), 1e-9)
    width, height = (round(float(extent) * scale) + 2 * _MARGIN for extent in extent_2)
    return (plane_N2 - low_2) * scale + _MARGIN, width, height


def _thumbnails(split: PackedSplit, indices: NDArray[np.int64]) -> list[str]:
    return [thumbnail(pixels_HWC, 80) for begin in range(0, len(indices), _BATCH_SIZE)
            for pixels_HWC in split.read(indices[begin : begin + _BATCH_SIZE])]


def _class_colors(labels: list[int]) -> str:
    """CSS: a hue for each class, of a lightness that shows on light and on dark paper."""
    return "\n".join(f".c{label} {{ --class: hsl({360 * place / len(labels):.0f} 70% {(42, 58)[place % 2]}%); }}"
                     for place, label in enumerate(labels))
