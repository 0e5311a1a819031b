"""Run folders written by hand for the tests of the report, with hostile names, and parsing of its page."""

import html.parser
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override, to_json
from alexnet.architecture.recipe_presets import recipe
from alexnet.architecture.spec import Arch
from alexnet.data.content import content_hash
from alexnet.data.packed import PackedSplit
from alexnet.data.perceptual_hash import perceptual_hash
from alexnet.inference.selection import Selection
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint, save

CLASSES = ("ash", "<script>alert(1)</script>", "date \"palm\" onload='x'", "$10 & 猫", "elm", "fir")
HOSTILE_FILE = "val/\udcff<img src=x onerror=alert(2)>"  # with a byte that is not UTF-8
SIDE = 32

EVALUATION = {
    "event": "evaluation", "checkpoint": "last", "views": 1, "images": 1234, "loss": 1.5, "top1_error": 0.4071,
    "top5_error": 0.1821, "interval": {"top1_error": [0.3801, 0.4348], "top5_error": [0.1616, 0.2046]}}


@dataclass
class PackedImages:
    """A packed data set in memory, with what the report uses of `PackedDataset` and `PackedSplit`."""

    pixels: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    classes: tuple[str, ...] = CLASSES
    side: int = SIDE
    splits: tuple[str, ...] = ("train", "val")

    fingerprint: str = "f" * 64
    source: str = "/photos/trees <b>"
    test_splits: tuple[str, ...] = ("val",)
    groups: None = None

    @property
    def quarantined(self) -> dict[str, tuple[()]]:
        return dict.fromkeys(self.splits, ())

    @property
    def content_hashes(self) -> np.ndarray:
        return np.array([content_hash(image) for image in self.pixels], np.uint64)

    @property
    def perceptual_hashes(self) -> np.ndarray:
        return np.array([perceptual_hash(image) for image in self.pixels], np.uint64).reshape(-1, 2)

    def split(self, name: str) -> "PackedImages":
        assert name in self.splits
        return self

    def subset(self, indices: np.ndarray) -> "PackedImages":
        return replace(self, pixels=self.pixels[indices], labels=self.labels[indices],
                       names=tuple(self.names[index] for index in indices))

    def sample(self, count: int) -> np.ndarray:
        return PackedSplit.sample(self, count)

    def read_one(self, index: int) -> np.ndarray:
        return self.pixels[index]

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: np.ndarray) -> np.ndarray:
        return self.pixels[indices]


def selected(images: int, available: int, trained_on: int = 0, undecodable: int = 0) -> Selection:
    """The first images of a split as the measured ones, none of which looks like a training image."""
    return Selection(np.arange(images), available, trained_on, 0, (), 1, np.zeros(images, bool), 0.0, undecodable)


def small_network() -> Arch:
    return override(arch("small"), [
        f"input.side={SIDE}", "input.crop=28", "conv.width=8", "conv2.kernel=5", "dense.width=16",
        f"classes={len(CLASSES)}"])


def write_run(folder: Path, *, events: Sequence[dict[str, Any]] = (), epochs: int = 3) -> Path:
    """Write a run folder with random weights, `epochs` logged epochs, and further events."""
    network, chosen = small_network(), replace(recipe("modern"), epochs=4)
    for which, seed in (("best", 1), ("last", 2)):
        save(Checkpoint(network, CLASSES, AlexNet(network, seed).state_dict(), torch.full((1, 1, 3), 120.0), chosen),
             folder / which)
    log = [{"event": "start", "step": 0}]
    for epoch in range(1, epochs + 1):
        log += [{"event": "step", "step": 10 * epoch, "epoch": epoch, "images_per_second": 100.0 * epoch},
                {"event": "epoch", "step": 10 * epoch, "epoch": epoch, "train_loss": 2 / epoch,
                 "learning_rate": 0.1 / epoch, "train_error": 0.8 / epoch, "val_loss": 1.9 / epoch,
                 "val_top1_error": 0.75 / epoch, "val_top5_error": 0.2 / epoch}]
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in [*log, *events]))
    (folder / "config.json").write_text(json.dumps({
        "arch": to_json(network), "recipe": to_json(chosen), "seed": 7, "precision": "fp32", "device": "a CPU",
        "data": {"source": "/photos/trees <b>", "fingerprint": "f" * 64, "side": SIDE, "classes": CLASSES,
                 "images": {"train": 300, "val": 40}},
        "versions": {"python": "3.11", "torch": "2.13"}, "threads": 2}))
    return folder


class Elements(html.parser.HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


def words(page: str) -> str:
    """The text of a page with single spaces."""
    return " ".join(Elements(page).text.split())
