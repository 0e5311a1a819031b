"""Runs, data and reports that the tests of the report share."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from alexnet.reproduce.report.page import write_report
from report_runs import CLASSES, EVALUATION, HOSTILE_FILE, SIDE, PackedImages, write_run


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Cached features go into a temporary folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def packed_images() -> PackedImages:
    """Thirty random images of six classes with hostile names."""
    rng = np.random.default_rng(0)
    return PackedImages(
        rng.integers(0, 256, (30, SIDE, SIDE, 3), np.uint8), np.arange(30) % len(CLASSES),
        tuple(f"{HOSTILE_FILE}{number}.jpg" for number in range(30)))


@pytest.fixture(scope="module")
def measured_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose log has an evaluation and a measurement of activations."""
    signals = {"event": "signals", "step": 225, "saturated": {f"relu{n}": 0.4 for n in range(1, 7)},
               "dead": {f"relu{n}": 0.5 * (n == 5) for n in range(1, 7)},
               "ratio": dict.fromkeys(("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"), 0.001)}
    return write_run(tmp_path_factory.mktemp("run"), events=[EVALUATION, signals])


@pytest.fixture(scope="module")
def measured_page(measured_run: Path, packed_images: PackedImages) -> Path:
    """The report of `measured_run`."""
    return write_report(measured_run, packed_images)
