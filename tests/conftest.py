"""Fixtures that many tests share: images, a packed data set, a trained run, a browser; and the suite's options."""

import atexit
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if "PYTEST_XDIST_WORKER" in os.environ:  # One thread for each worker and its subprocesses; read when torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

import network_guard
import requirements
from alexnet._runtime.cache import cache_folder
from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import recipe
from alexnet.architecture.spec import Arch
from alexnet.data.packed import PackedDataset, open_packed
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.training.build import build
from alexnet.training.spec import RunSpec
from sample_images import IMAGES, write_class_folders
from shared_folders import once

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EXIT_STATUS = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-extras", action="store_true",
                     help="fail a test, instead of skipping it, where an optional package or program is missing")


def pytest_configure(config: pytest.Config) -> None:
    requirements.required = config.getoption("--require-extras")
    atexit.register(end_without_teardown, config)  # registered first, so it runs last
    if "PYTEST_XDIST_WORKER" not in os.environ:
        leave_the_users_cache(config)


def leave_the_users_cache(config: pytest.Config) -> None:
    """Give all tests, the workers' too, an empty cache, with a copy of what `make test` has fetched."""
    engine, own = cache_folder() / "onnxruntime-web", Path(tempfile.mkdtemp(prefix="alexnet-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(own, ignore_errors=True))
    os.environ["XDG_CACHE_HOME"] = str(own)
    if engine.is_dir():
        shutil.copytree(engine, cache_folder() / "onnxruntime-web")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[EXIT_STATUS] = int(exitstatus)


def end_without_teardown(config: pytest.Config) -> None:
    """End the process before the interpreter is torn down, if Triton was imported (torch.export imports it too).

    Triton is bound with nanobind, which prints 60 lines about leaked types at that point, below pytest's closing line.
    """
    if "triton" in sys.modules and EXIT_STATUS in config.stash:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[EXIT_STATUS])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests run one at a time. Those of two hosts mostly wait for timeouts, so another worker runs them meanwhile.

    `make slow` distributes by these groups.
    """
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.xdist_group("two hosts" if "two_hosts" in item.nodeid else "one at a time"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        requirements.require_module(*mark.args)


@pytest.fixture(scope="session", autouse=True)
def only_this_machine() -> Iterator[None]:
    """No test reaches another machine: see network_guard.py."""
    with pytest.MonkeyPatch.context() as patch:
        network_guard.refuse_other_machines(patch)
        yield


@pytest.fixture(scope="session")
def images() -> Path:
    """The folder of real images; tests that need it are skipped where it is missing."""
    if not IMAGES.is_dir():
        pytest.skip(f"no images in {IMAGES}")
    return IMAGES


@pytest.fixture(scope="session")
def imagenet_samples(images: Path) -> list[bytes]:
    """Full-size images of ImageNet, as files."""
    with tarfile.open(images / "imagenet-samples.tar") as tar:
        return [tar.extractfile(member).read() for member in tar if member.isfile()]


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and val/ of four classes, 30 and 11 images each, as PNG files of 32 pixels."""
    return once(tmp_path_factory, "images", write_class_folders)


@pytest.fixture(scope="session")
def packed(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """The images of `class_folders`, packed at 32 pixels."""
    folder = once(tmp_path_factory, "packed", lambda root: pack(open_dataset(class_folders), root / "data", side=32))
    return open_packed(folder / "data")


@pytest.fixture(scope="session")
def tiny() -> Arch:
    """A network that trains in a second, with dropout, both kinds of layer, and batch normalization."""
    return override(arch("small"), [
        "input.side=32", "input.crop=28", "conv.width=16", "dense.width=32", "classes=4"])


@pytest.fixture(scope="session")
def trained(packed: PackedDataset, tiny: Arch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three epochs."""
    return once(tmp_path_factory, "run", lambda folder: build(RunSpec(
        packed, tiny, override(recipe("modern"), ["epochs=3", "batch_size=20"]), folder)).fit())


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Limit torch to one thread: small networks are no faster with more, and much slower on a busy machine."""
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(former)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A headless Chromium from the PATH (`.ci/run` installs Debian's).

    The scope is one module, since playwright's event loop excludes any other from this thread while it runs.
    playwright is imported here: a machine with a GPU, which runs `make gpu`, need not have it.
    """
    requirements.require_module("playwright", "pip install '.[test]'")
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        requirements.missing("no chromium on the PATH; apt-get install chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=flags)
        yield launched
        launched.close()
