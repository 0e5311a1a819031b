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
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import sync_playwright

import alexnet
from alexnet.architecture.presets import ARCHS
from alexnet.data.images import decode, square
from alexnet.data.preprocessing import Preprocess
from alexnet.models.alexnet import AlexNet
from alexnet.reproduce.figures.style import STYLE, save_figure

IMAGES = Path(__file__).parents[1] / "docs" / "images"
FIGURE_1 = ("--set arch.initialization=kaiming --set arch.output_init_std=0.01 --set arch.input.scale=58,58,58 "
            "--set recipe.crop=center --set recipe.mirror=false --set recipe.weight_decay=0 --lr 0.01 --epochs 6")
TRAIN = "train embedded --arch small --epochs 6 --out runs/mine"
COMMANDS = (
    TRAIN, "lr-find embedded --arch small --steps 60 --out lr-find", "attribute photo.png --out attribute.png",
    "figure 3 --out figure3", "figure 4 runs/mine embedded --out figure4",
    "top-patches runs/mine embedded --layer relu2 --unit 0 --unit 9 --unit 18 --unit 27 --out top-patches.png",
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
    save_figure(response_norm(), IMAGES / "lrn.svg")


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
    """Output of norm1 for one active map among inactive ones, by three conventions."""
    inputs = torch.linspace(0, 400, 201)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 2.8), layout="constrained")
        axes = figure.add_subplot(title="Output of norm1", xlabel="activation of one map, the others 0")
        for name, line in (("paper", "-"), ("code2012", "--"), ("caffe", ":")):
            activations = torch.zeros(1, 96, 1, len(inputs))
            activations[0, 2, 0] = inputs
            outputs = AlexNet(ARCHS[name]).named_layer("norm1")(activations)[0, 2, 0].detach()
            axes.plot(inputs.numpy(), outputs.numpy(), line, label=name)
        axes.legend()
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
