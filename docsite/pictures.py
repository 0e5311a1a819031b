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
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from playwright.sync_api import sync_playwright

import alexnet
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.overrides import override
from alexnet.data.images import decode
from alexnet.data.preprocessing import Preprocess
from alexnet.data.square import square
from alexnet.models.alexnet import AlexNet
from alexnet.reproduce.figures.axes import Axes, Key, Scale, label_room
from alexnet.reproduce.figures.drawing import Color, Drawing
from alexnet.reproduce.figures.style import save_figure
from alexnet.reproduce.figures.ticks import linear_ticks, number_labels

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
    for name, figure in (("lrn", response_norm()), ("windows", pooling_windows()), ("conv1-edge", conv1_edge()),
                         ("averaged", averaged_maps())):
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


def response_norm() -> Drawing:
    """Output of norm1 by three conventions: of a map alone, and of a map of 10 whose neighbor grows."""
    rising = torch.linspace(0, 400, 201)
    lines: dict[str, tuple[tuple[float, ...], Color]] = {
        "paper": ((), "blue"), "code2012": ((3.2, 1.6), "red"), "caffe": ((1, 1.4), "ink")}
    curves = []
    for name in lines:
        norm1 = AlexNet(ARCHS[name]).named_layer("norm1")
        activations = torch.zeros(2, 96, 1, len(rising))
        activations[0, 2, 0], activations[1, 2, 0], activations[1, 3, 0] = rising, 10, rising
        curves.append(norm1(activations)[:, 2, 0].tolist())
    drawing = Drawing(540, 200, "Output of norm1 by the conventions of paper, code2012 and caffe")
    for column, (title, label, high) in enumerate((
            ("Output of a map alone", "its activation, the other maps 0", 1.05 * max(max(each[0]) for each in curves)),
            ("Output of a map that stays at 10", "activation of its neighbor", 10.5))):
        ticks = linear_ticks(0, high)
        room = label_room(number_labels(ticks)) + 2
        axes = Axes(drawing, 270 * column + room, 22, 270 - room - 16, 140, Scale(0, 400), Scale(0, high))
        axes.title(title)
        axes.y_axis(ticks, number_labels(ticks))
        along = linear_ticks(0, 400, 5)
        axes.x_axis(along, number_labels(along), label)
        for (dashes, color), curve in zip(lines.values(), curves, strict=True):
            axes.plot(rising.tolist(), curve[column], color, dashes=dashes)
        if column == 0:
            axes.legend([Key(name, color, dashes=dashes) for name, (dashes, color) in lines.items()])
    return drawing


def pooling_windows(side: int = 7) -> Drawing:
    """The windows of 2x2 and of 3x3 at stride 2 on a small map, and in how many of them each value lies."""
    cell, top, gap = 26.0, 24.0, 40.0  # points
    drawing = Drawing(2 * side * cell + gap + 4, top + side * cell + 4, "Windows of 2x2 and of 3x3 at stride 2")
    for number, kernel in enumerate((2, 3)):
        left = 2 + number * (side * cell + gap)
        drawing.text(left, top - 9, f"{kernel}x{kernel} at stride 2", bold=True)
        starts, counts_HW = range(0, side - kernel + 1, 2), np.zeros((side, side), int)
        for row, column in np.ndindex(side, side):
            drawing.rectangle(left + column * cell, top + row * cell, cell, cell, None, stroke="faint", line_width=0.6)
        for row, column in product(starts, starts):
            counts_HW[row : row + kernel, column : column + kernel] += 1
            inset = 0.12 if (row + column) % 4 else 0.06  # overlapping outlines stay apart
            window = (left + (column + inset) * cell, top + (row + inset) * cell, (kernel - 2 * inset) * cell,
                      (kernel - 2 * inset) * cell)
            drawing.rectangle(*window, "blue", 0.18, stroke="blue", line_width=1.2)
        for (row, column), count in np.ndenumerate(counts_HW):
            drawing.text(left + (column + 0.5) * cell, top + (row + 0.5) * cell, str(count), 8, anchor="middle",
                         vertical="middle")
    return drawing


def conv1_edge(first: int = 203) -> Drawing:
    """The last pixels of a row of 224, the zeros of the padding, and the last three kernels of conv1, five times."""
    cases = (("paper: rounded up", "ceil", 0, 224), ("Caffe: input 227", "floor", 0, 227),
             ("torchvision: padding 2", "floor", 2, 224), ("d2l: padding 1", "floor", 1, 224),
             ("no padding", "floor", 0, 224))
    cell, height = 22.0, 76.0  # points: a pixel, a case
    drawing = Drawing((227 - first) * cell + 8, height * len(cases),
                      "The last kernels of conv1 at the right edge of the image")
    for number, (name, rounding, padding, side) in enumerate(cases):
        changed = override(ARCHS["paper"], [f"conv_rounding={rounding}", f"conv1.padding={padding}",
                                            f"input.crop={side}"])
        count = next(layer for layer in explain(changed).layers if layer.name == "conv1").output_shape[-1]
        starts = [4 * place - padding for place in range(count - 3, count)]
        top = height * number + 20
        drawing.text(4, top - 7, f"{name}: {count} positions")
        for pixel in range(first, max(side + padding, starts[-1] + 11)):
            x = 4 + cell * (pixel - first)
            drawing.rectangle(x, top, cell, cell, "paper" if pixel < side else "faint", stroke="quiet", line_width=0.7)
            drawing.text(x + cell / 2, top + cell / 2, str(pixel) if pixel < side else "0", 7, anchor="middle",
                         vertical="middle")
        for row, start in enumerate(starts):
            y = top + cell + 7 + 7 * row
            drawing.line([(4 + cell * (start + 0.1 - first), y), (4 + cell * (start + 10.9 - first), y)],
                         "blue", 3)
    return drawing


def averaged_maps() -> Drawing:
    """Where the parameters are: of the paper's network, with its last maps averaged, and without hidden layers too."""
    paper = ARCHS["paper"]
    cases = (("paper", paper), ("its 6x6 maps averaged to 1x1 before fc6", replace(paper, average_pool=1)),
             ("and no hidden fully connected layers", replace(paper, average_pool=1, dense=())))
    kinds: tuple[tuple[str, Color], ...] = (
        ("convolutions", "blue"), ("hidden fully connected layers", "red"), ("output layer", "ink"))
    row, across = 46.0, 520.0  # points: a case, the parameters of `paper`
    drawing = Drawing(across + 8, 3 * row + 24, "Parameters of the paper's network, and of two without most of them")
    most = explain(paper).parameters
    for number, (name, arch) in enumerate(cases):
        layers, top = explain(arch).layers, number * row
        counts = [sum(layer.parameters for layer in layers if layer.name.startswith("conv"))]
        fully = [layer.parameters for layer in layers if layer.name.startswith("fc")]
        counts += [sum(fully[:-1]), fully[-1]]
        drawing.text(2, top + 13, f"{name}: {sum(counts) / 1e6:.1f} million parameters, {counts[0] / 1e6:.1f} million "
                     "of them in convolutions", 9)
        left = 2.0
        for count, (_, color) in zip(counts, kinds, strict=True):
            drawing.rectangle(left, top + 20, across * count / most, 16, color, 0.75)
            left += across * count / most
    for number, (name, color) in enumerate(kinds):
        drawing.rectangle(2 + 120 * number + 40 * (number > 1), 3 * row + 6, 9, 9, color, 0.75)
        drawing.text(16 + 120 * number + 40 * (number > 1), 3 * row + 14, name, 9)
    return drawing


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
