"""Make the pictures of docs/ again, by the commands that the pages name: python -m docsite.pictures PHOTO.

PHOTO is the cup of coffee of scikit-image (data/coffee.png): CC0, by Rachel Michetti (docs/credits.md). The other
pictures are of `embedded`, patches of photographs that may be shipped. Takes about ten minutes on two cores, most of it
training. Needs Chromium for the pictures of pages.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from playwright.sync_api import sync_playwright

import alexnet
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.overrides import override
from alexnet.architecture.presets import ARCHS
from alexnet.data.images import decode, square
from alexnet.data.preprocessing import Preprocess
from alexnet.models.alexnet import AlexNet
from alexnet.reproduce.figures.style import BLUE, FAINT, INK, PAPER, QUIET, RED, STYLE, save_figure

IMAGES = Path(__file__).parents[1] / "docs" / "images"
FIGURE_1 = ("--set arch.initialization=kaiming --set arch.output_init_std=0.01 --set arch.input.scale=58,58,58 "
            "--set recipe.crop=center --set recipe.mirror=false --set recipe.weight_decay=0 --lr 0.01 --epochs 6")
TRAIN = "train embedded --arch small --epochs 6 --out runs/mine"
COMMANDS = (
    TRAIN, "lr-find embedded --arch small --steps 60 --out lr-find", "attribute photo.png --out attribute.png",
    "figure 3 --out figure3", "figure 4 runs/mine embedded --out figure4",
    "top-patches embedded --layer relu4 --split val --unit 46 --unit 92 --unit 162 --unit 185 --out top-patches.png",
    f"train embedded --arch cifar {FIGURE_1} --out runs/relu",
    "train embedded --like runs/relu --set arch.activation=tanh --out runs/tanh",
    "figure 1 runs/relu runs/tanh --name ReLU --name tanh --out figure1",
)
COPIED = {"lr-find.svg": "lr-find.svg", "figure3.png": "figure3.png", "figure1.svg": "figure1.svg",
          "runs/mine/figures/learning_curves.svg": "learning-curves.svg",
          "runs/relu/figures/learning_curves.svg": "overfitting.svg"}
SHRUNK = {"attribute.png": ("attribute.webp", 1400), "top-patches.png": ("top-patches.webp", 1400),
          "figure4.png": ("figure4.webp", 1600), "report.png": ("report.webp", 1200)}
"""File of a command -> picture and its width in pixels."""


def main(photo: Path) -> None:
    """Run the commands in a temporary folder, and write the pictures into docs/images."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copy(photo, folder / "photo.png")
        for command in COMMANDS:
            print(f"alexnet {command}", flush=True)
            subprocess.run([sys.executable, "-m", "alexnet", *command.split()], cwd=folder, check=True)
        screenshot(folder / "runs" / "mine" / "report.html", folder / "report.png")
        for made, picture in COPIED.items():
            shutil.copy(folder / made, IMAGES / picture)
        for made, (picture, width) in SHRUNK.items():
            with Image.open(folder / made) as opened:
                image = opened.convert("RGB")
            width = min(width, image.width)
            image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS).save(
                IMAGES / picture, quality=75, method=6)
    ten_views(photo).save(IMAGES / "views.webp", quality=72, method=6)
    pooling(photo).save(IMAGES / "pooling.webp", lossless=True, method=6)
    draw_sketches()


def draw_sketches() -> None:
    """The pictures that need neither a photo nor training."""
    for name, figure in (("lrn", response_norm()), ("windows", pooling_windows()), ("conv1-edge", conv1_edge())):
        save_figure(figure, IMAGES / f"{name}.svg")


def ten_views(photo: Path) -> Image.Image:
    """The ten views of a photo at the paper's size, in two rows."""
    pixels_HWC = square(decode(photo.read_bytes(), photo.name), ARCHS["paper"].input.side)
    preprocess = Preprocess(ARCHS["paper"].input, torch.zeros(pixels_HWC.shape))
    views = preprocess.ten_views(torch.from_numpy(np.ascontiguousarray(pixels_HWC))[None])[0]
    side, gap = views.shape[-1], 8
    sheet = Image.new("RGB", (5 * side + 4 * gap, 2 * side + gap), "white")
    for number, view in enumerate(views.clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()):
        sheet.paste(Image.fromarray(view), (number % 5 * (side + gap), number // 5 * (side + gap)))
    return sheet


def pooling(photo: Path) -> Image.Image:
    """Six feature maps of the package's network before pool2, and below them after it."""
    model = alexnet.load()
    rows = []
    for layer in ("relu2", "pool2"):
        maps_CHW = model.features(photo, layer=layer)[0, 5:35:5]
        gray_CHW = (255 * maps_CHW / maps_CHW.amax((1, 2), keepdim=True)).byte().numpy()
        rows.append([Image.fromarray(map_HW).resize((224, 224), Image.Resampling.NEAREST) for map_HW in gray_CHW])
    sheet = Image.new("L", (6 * 232 - 8, 2 * 232 - 8), 255)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            sheet.paste(image, (column * 232, row * 232))
    return sheet


def response_norm() -> Figure:
    """Output of norm1 by three conventions: of a map alone, and of a map of 10 whose neighbor grows."""
    rising = torch.linspace(0, 400, 201)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 2.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.set(title="Output of a map alone", xlabel="its activation, the other maps 0")
        right.set(title="Output of a map that stays at 10", xlabel="activation of its neighbor", ylim=(0, 10.5))
        for name, line, color in (("paper", "-", BLUE), ("code2012", "--", RED), ("caffe", ":", INK)):
            norm1 = AlexNet(ARCHS[name]).named_layer("norm1")
            activations = torch.zeros(2, 96, 1, len(rising))
            activations[0, 2, 0], activations[1, 2, 0], activations[1, 3, 0] = rising, 10, rising
            alone, beside = norm1(activations)[:, 2, 0].detach().numpy()
            left.plot(rising.numpy(), alone, line, color=color, label=name)
            right.plot(rising.numpy(), beside, line, color=color)
        left.legend()
    return figure


def pooling_windows(side: int = 7) -> Figure:
    """The windows of 2x2 and of 3x3 at stride 2 on a small map, and in how many of them each value lies."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6, 3), layout="constrained")
        for axes, kernel in zip(figure.subplots(1, 2), (2, 3), strict=True):
            axes.set(title=f"{kernel}x{kernel} at stride 2", xlim=(-0.1, side + 0.1), ylim=(side + 0.1, -0.1), aspect=1)
            axes.set_axis_off()
            starts, counts_HW = range(0, side - kernel + 1, 2), np.zeros((side, side), int)
            for top, left in product(starts, starts):
                counts_HW[top : top + kernel, left : left + kernel] += 1
                inset = 0.12 if (top + left) % 4 else 0.06  # overlapping outlines stay apart
                axes.add_patch(Rectangle((left + inset, top + inset), kernel - 2 * inset, kernel - 2 * inset,
                                         facecolor=BLUE, alpha=0.18, linewidth=0))
                axes.add_patch(Rectangle((left + inset, top + inset), kernel - 2 * inset, kernel - 2 * inset,
                                         fill=False, edgecolor=BLUE, linewidth=1.2))
            for (row, column), count in np.ndenumerate(counts_HW):
                axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=FAINT, linewidth=0.6, zorder=0))
                axes.text(column + 0.5, row + 0.5, str(count), ha="center", va="center", fontsize=8, color=INK)
    return figure


def conv1_edge(first: int = 207) -> Figure:
    """The last pixels of a row of 224, the zeros of the padding, and the last three kernels of conv1, five times."""
    cases = (("paper: rounded up", "ceil", 0, 224), ("Caffe: input 227", "floor", 0, 227),
             ("torchvision: padding 2", "floor", 2, 224), ("d2l: padding 1", "floor", 1, 224),
             ("no padding", "floor", 0, 224))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 5.6), layout="constrained")
        for axes, (name, rounding, padding, side) in zip(figure.subplots(len(cases), 1), cases, strict=True):
            changed = override(ARCHS["paper"], [f"conv_rounding={rounding}", f"conv1.padding={padding}",
                                                f"input.crop={side}"])
            count = next(layer for layer in explain(changed).layers if layer.name == "conv1").output_shape[-1]
            starts = [4 * place - padding for place in range(count - 3, count)]
            end = max(side + padding, starts[-1] + 11)
            for pixel in range(first, end):
                axes.add_patch(Rectangle((pixel, 0), 1, 1, facecolor=PAPER if pixel < side else FAINT,
                                         edgecolor=QUIET, linewidth=0.7))
                axes.text(pixel + 0.5, 0.5, str(pixel) if pixel < side else "0", ha="center", va="center", fontsize=6.5,
                          color=INK)
            for row, start in enumerate(starts):
                left = max(start, first)
                axes.plot([left + 0.1, start + 10.9], [-0.4 - 0.45 * row] * 2, color=BLUE, linewidth=3,
                          solid_capstyle="butt")
            axes.set_title(f"{name}: {count} positions", fontweight="normal")
            axes.set(xlim=(first - 0.2, 227.2), ylim=(-1.6, 1.1))
            axes.set_axis_off()
    return figure


def screenshot(page: Path, picture: Path) -> None:
    """The first screen of an HTML page."""
    chromium = shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        tab.goto(page.resolve().as_uri())
        tab.screenshot(path=str(picture))
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
