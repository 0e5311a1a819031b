"""Shared by the tests: a small packed data set, where the real images lie, and a browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from alexnet.architecture.overrides import override
from alexnet.architecture.presets import arch, recipe
from alexnet.architecture.spec import Arch
from alexnet.data.packed import PackedDataset
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.training.build import build
from alexnet.training.spec import RunSpec

IMAGES = Path(__file__).parents[2] / "shared" / "data"
"""Real images that are not part of the repository."""


@pytest.fixture(scope="session")
def images() -> Path:
    """The folder of real images; tests that need it are skipped where it is missing."""
    if not IMAGES.is_dir():
        pytest.skip(f"no images in {IMAGES}")
    return IMAGES


def draw(rng: np.random.Generator, label: int, side: int = 32) -> np.ndarray:
    """A noisy picture of stripes; their direction and color tell the class. uint8 [side, side, 3]."""
    y, x = np.mgrid[:side, :side]
    wave = np.sin((x * np.cos(label) + y * np.sin(label)) * 0.8 + rng.uniform(0, 6))
    color = np.array([80, 40, -60]) if label % 2 else np.array([-60, 50, 70])
    return np.clip(128 + wave[..., None] * color + rng.normal(0, 20, (side, side, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and val/ of four classes, 30 and 11 images each, as PNG files of 32 pixels."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 30), ("val", 11)):
        for label, name in enumerate(("ash", "birch", "cedar", "date palm")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draw(rng, label)).save(folder / f"{number:03}.png")
    return root


@pytest.fixture(scope="session")
def packed(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """The same, packed at 32 pixels."""
    return pack(open_dataset(class_folders), tmp_path_factory.mktemp("packed") / "data", side=32)


@pytest.fixture(scope="session")
def tiny() -> Arch:
    """A network that trains in a second, with dropout, both kinds of layer, and batch normalization."""
    return override(arch("small"), [
        "input.side=32", "input.crop=28", "conv.width=16", "dense.width=32", "classes=4"])


@pytest.fixture(scope="session")
def trained(packed: PackedDataset, tiny: Arch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three epochs."""
    folder = tmp_path_factory.mktemp("run")
    build(RunSpec(packed, tiny, override(recipe("modern"), ["epochs=3", "batch_size=20"]), folder)).fit()
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch with a single thread: small networks gain nothing by more, and on a busy machine threads wait in vain."""
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(former)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium without a window, which `.ci/run` installs; tests that need it are skipped where it is not.

    For one module: while it is there, playwright's event loop runs in this thread, and no other can.
    """
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        pytest.skip("no chromium on the PATH: apt-get install chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=flags)
        yield launched
        launched.close()
