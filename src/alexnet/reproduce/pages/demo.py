"""The page of `alexnet demo`: photographs with the pretrained network's answers, its conv1 kernels, and a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from alexnet._runtime.html_page import render_page, write_page
from alexnet._runtime.image_encoding import image_file, jpeg_uri, smaller
from alexnet._runtime.page_style import data_uri
from alexnet.data.sources.embedded import IMAGES
from alexnet.errors import plural
from alexnet.inference.classifier import probability_text
from alexnet.inference.confidence import SURE_FROM
from alexnet.inference.metrics import Errors
from alexnet.interpret.heat_map import css_gradient, heat_over_photo
from alexnet.models.checkpoint import Checkpoint
from alexnet.reproduce.demo_photos import PHOTOS, NamedPhoto
from alexnet.reproduce.figures.figure3 import (
    RANDOM_SMOOTHNESS,
    colorfulness,
    conv1_in_rgb,
    smoothness,
)
from alexnet.reproduce.figures.learning_curves import learning_curves
from alexnet.reproduce.figures.svg import svg
from alexnet.reproduce.report.network_sections import conv1_sheet
from alexnet.training.events import EpochEvent

PHOTO_SIDE = 600
"""Pixels of a photograph's longer side on the page."""

PAGE = "demo.html"

GRAY, COLORED = 0.1, 0.5
"""Share of color in a kernel's energy below which it counts as gray, and above which as colored (random: 2/3)."""


@dataclass(frozen=True)
class ShownPhoto:
    """A photograph as the page shows it."""

    title: str
    image: str
    """A data: URI."""
    heat: str
    """A data: URI: Grad-CAM over the photograph."""
    likeliest: str
    answer: str
    ranked: Sequence[tuple[str, float, bool]]
    """Name, probability, whether it is a right name."""
    verdict: str


@dataclass(frozen=True)
class Pretrained:
    """The page's first part."""

    name: str
    classes: int
    crop: int
    photos: Sequence[ShownPhoto]
    kernels: str
    """A data: URI."""
    kernel_count: int
    kernel_side: int
    kernel_text: str


@dataclass(frozen=True)
class Trained:
    """The page's second part."""

    sentence: str
    epochs: int
    curves: Markup
    kernels: str
    """A data: URI."""
    kernel_text: str


def pretrained_part(saved: Checkpoint, named: Sequence[NamedPhoto]) -> Pretrained:
    """What the pretrained network says of the photographs, and its conv1 kernels."""
    conv1, photos = saved.arch.conv[0], [_shown(each, len(saved.classes)) for each in named]
    return Pretrained(
        saved.arch.name, len(saved.classes), saved.arch.input.crop, photos,
        _kernels(saved), conv1.width, conv1.kernel, kernel_text(conv1_in_rgb(saved)))


def trained_part(saved: Checkpoint, epochs: Sequence[EpochEvent], errors: Mapping[int, Errors]) -> Trained:
    """The training from nothing.

    Args:
        saved: the network after its last epoch.
        epochs: of the run's log.
        errors: number of views -> errors on the validation patches.
    """
    (views, measured), *others = errors.items()
    more = "".join(f", {other.top1_error:.1%} with {count} views" for count, other in others)
    chance = 1 - 1 / saved.arch.classes
    sentence = (
        f"The network {saved.arch.name} was trained here for {plural(len(epochs), 'epoch')} on patches of "
        f"{saved.arch.classes} images, from random weights: which image does a patch come from? Its top-1 error on "
        f"{measured.images:,} patches that it was not trained on is {measured.top1_error:.1%} with {views} view{more}; "
        f"guessing errs in {chance:.1%}.")
    return Trained(sentence, len(epochs), Markup(svg(learning_curves(epochs, ["loss", "error"]))),
                   _kernels(saved),
                   f"Its conv1 kernels after {plural(len(epochs), 'epoch')}. {kernel_text(conv1_in_rgb(saved))}")


def write_demo_page(out: Path, pretrained: Pretrained | None, trained: Trained | None) -> Path:
    """Write OUT/demo.html. Without `trained`, the page says that the training is still running. Returns its path."""
    shown = {image.file for image in IMAGES} & {photo.file for photo in PHOTOS}
    credits = "; ".join(f"{image.title}: {image.author} ({image.license})" for image in IMAGES if image.file in shown)
    write_page(out / PAGE, render_page(
        Path(__file__).with_name("demo.html"), pretrained=pretrained, trained=trained, credits=credits,
        sure_from=SURE_FROM, heat=css_gradient(), probability_text=probability_text))
    return out / PAGE


def kernel_text(weight_OIHW: NDArray[np.float32]) -> str:
    """How many kernels are gray and how many colored, and how smooth they are."""
    shares, smooth = colorfulness(weight_OIHW, len(weight_OIHW)), smoothness(weight_OIHW)
    gray, colored = sum(share < GRAY for share in shares), sum(share > COLORED for share in shares)
    correlation = f"neighboring weights correlate by {smooth:.2f} (random weights: 0, a flat kernel: 1)"
    if smooth < RANDOM_SMOOTHNESS:
        return f"They still look random: {correlation}."
    return (f"{gray} of {len(shares)} are nearly gray, as the edge detectors of the paper's Figure 3 are; {colored} "
            f"are mostly color, as its color blobs are; {correlation}.")


def _shown(named: NamedPhoto, classes: int) -> ShownPhoto:
    photo_HWC, cam_HW = smaller(named.pixels_HWC, PHOTO_SIDE), named.grad_cam_HW
    return ShownPhoto(
        named.photo.title, jpeg_uri(photo_HWC),
        jpeg_uri(heat_over_photo(photo_HWC, cam_HW, named.seen)),
        named.ranked[0].name, named.answer,
        [(guess.name, guess.probability, guess.name in named.known) for guess in named.ranked],
        named.verdict(classes))


def _kernels(saved: Checkpoint) -> str:
    return data_uri(image_file(conv1_sheet(saved), "PNG"), "png")
