"""The `demo`, `report` and `figure` commands: the demonstration, reports of runs, and the paper's four figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import set_openmp_defaults
from alexnet._runtime.hub_address import is_hub_address
from alexnet._runtime.local_files import require_writable
from alexnet._runtime.notes import say
from alexnet.api.opening import open_data
from alexnet.architecture.network_presets import ARCHS, arch
from alexnet.architecture.overrides import configure
from alexnet.cli.app import (
    PAPER,
    TRAIN_AND_EVALUATE,
    Overwrite,
    Settings,
    app,
    reject_options,
)
from alexnet.cli.default_checkpoint import default_checkpoint, split_checkpoint
from alexnet.cli.image_arguments import figure_files
from alexnet.errors import UserError, require

if TYPE_CHECKING:
    from alexnet.data.packed import PackedDataset
    from alexnet.models.checkpoint import Checkpoint
    from alexnet.reproduce.figures.drawing import Drawing


@app.command(group=TRAIN_AND_EVALUATE, sort_key=0)
def demo(*, out: Path = Path("runs/demo"), seed: int = 0, epochs: int | None = None) -> None:
    """Show the pretrained network on photographs of the installation, then train a small one: offline, in minutes.

    An interrupted demo is resumed by the same command. A finished one is kept.

    Args:
        out: Folder for the data, the run and its report.
        seed: Seed of the initial weights, the order of the images and the augmentation.
        epochs: Epochs to train. Default: 15.
    """
    from alexnet.reproduce.demo import demo as run_demo

    page = run_demo(out, seed=seed, epochs=epochs)
    print(f"page: {page}")
    print(f"report: {out / 'report.html'}")


@app.command(group=TRAIN_AND_EVALUATE, sort_key=4)
def report(run: Path, /, *, data: str | None = None) -> None:
    """Write RUN/report.html: an offline page with errors, loss curves, conv1's filters and misclassified images.

    Args:
        run: A run folder that `alexnet train` wrote.
        data: The data that the network was trained on, if it has moved since. With other data, the report shows its
            images and the errors on them, and names the data of each number.
    """
    set_allocator()
    set_openmp_defaults()

    from alexnet.reproduce.report.page import write_report
    from alexnet.reproduce.report.run_data import is_own_data, packed_data
    from alexnet.training.run_folder import read_config, read_log

    read_log(run)  # raises UserError if this is not a run folder
    require_writable(run, is_folder=True)
    packed = _open_for_report(run, data) if data else packed_data(run)
    if packed is None:
        say("note: the data is no longer where it was, so the report shows no images; name it with --data")
    else:
        if not is_own_data(packed, read_config(run)):
            say(f"note: {data or packed.source} is not the data that {run} was trained on, or has changed since; the "
                "report names the data of each number")
        say("classifying validation images, and drawing figures")
    print(f"report: {write_report(run, packed)}")


def _open_for_report(run: Path, data: str) -> PackedDataset:
    from alexnet.models import checkpoint
    from alexnet.reproduce.report.run_data import as_trained_on

    return as_trained_on(run, _open_by_groups(run, checkpoint.load(run), data))


def _open_by_groups(run: str | Path, saved: Checkpoint, data: str, splits: Sequence[str] = ()) -> PackedDataset:
    """DATA, divided by the groups of the run if it has any; with other data, they may not fit."""
    from alexnet.reproduce.run_settings import config_of
    from alexnet.training.run_folder import group_of

    config, side = config_of(saved), saved.arch.input.side
    group = group_of(config, data) if config else None
    try:
        return open_data(data, side, group=group, splits=splits)
    except UserError as error:
        if group is None:
            raise
        packed = open_data(data, side, splits=splits)
        say(f"note: the groups of {run} are not used: {error.problem}")
        return packed


# --- Figures ----------------------------------------------------------------------------------------------------------

_TAKES = {"1": ((1, 8), "one to eight run folders"), "2": ((1, 1), "a network's name, a run or a checkpoint"),
          "3": ((0, 1), "a checkpoint"), "4": ((1, 2), "a checkpoint and the data it was trained on")}
"""For each figure: the fewest and most sources, and what they are."""


@app.command(group=PAPER, sort_key=3)
def figure(
    number: Literal["1", "2", "3", "4"], /, *sources: Annotated[str, Parameter(name="SOURCE")],
    out: Path | None = None, overwrite: Overwrite = False,
    name: Annotated[list[str] | None, Parameter(negative=())] = None, size: int | None = None,
    settings: Settings = None,
) -> None:
    """Draw one of the paper's four figures from your own runs and images, as PNG and SVG.

    - `alexnet figure 1 RUN RUN`: training error over epochs
    - `alexnet figure 2 ARCH`: the network's layers with their sizes, of a preset, run or checkpoint
    - `alexnet figure 3 [CHECKPOINT]`: the filters of conv1, tower 1 above tower 2
    - `alexnet figure 4 [CHECKPOINT] DATA`: images with their five most likely classes, and their nearest neighbors

    Args:
        sources: As listed above. Default of CHECKPOINT: the pretrained network of the package.
        out: File to write; without an ending, both .png and .svg. Default: figures/figure1 and so on, with a number if
            that exists.
        name: For figure 1: the name of a run in the legend. Repeat it for each run.
        size: For figure 2: side of the square input in pixels.
    """
    (fewest, most), takes = _TAKES[number]
    require(fewest <= len(sources) <= most, f"figure {number} takes {takes}, and got {len(sources)} argument"
            f"{'s' * (len(sources) != 1)}", "see alexnet figure --help")
    reject_options(f"figure {number}", name=name if number != "1" else None, size=size if number != "2" else None,
                   set=settings if number != "2" else None)
    (out,) = figure_files(out, f"figure{number}", overwrite=overwrite)

    from alexnet.models.formats.open_weights import open_weights
    from alexnet.reproduce.figures.figure3 import figure3
    from alexnet.reproduce.figures.style import save_figure

    if number == "1":
        made = _figure1(sources, name or ())
    elif number == "2":
        made = _figure2(sources[0], settings, size)
    elif number == "3":
        made = figure3(open_weights(sources[0] if sources else default_checkpoint()))
    else:
        checkpoint, (data,) = split_checkpoint("figure 4", sources, "DATA")
        made = _figure4(checkpoint, data)
    for path in save_figure(made, out):
        print(path)


def _figure1(runs: Sequence[str], names: Sequence[str]) -> Drawing:
    from alexnet.reproduce.figures.figure1 import figure1

    require(not names or len(names) == len(runs), f"--name was given {len(names)} times for {len(runs)} runs",
            "give one for each, or none")
    require(len(set(names)) == len(names), f"--name {', '.join(names)} gives two runs the same name",
            "give each its own")
    return figure1([Path(run) for run in runs], names)


def _figure2(source: str, settings: list[str] | None, size: int | None) -> Drawing:
    from alexnet.models.formats.open_weights import open_weights
    from alexnet.models.packaged import packaged_path
    from alexnet.reproduce.figures.figure2 import network_diagram

    is_preset = source in ARCHS or not (is_hub_address(source) or Path(source).exists() or packaged_path(source))
    network = arch(source) if is_preset else open_weights(source).arch
    return network_diagram(configure(network, None, settings)[0], size)


def _figure4(checkpoint: str, data: str) -> Drawing:
    from alexnet._runtime.progress import Bar
    from alexnet.models.formats.open_weights import open_weights
    from alexnet.reproduce.figures.figure4 import figure4

    saved = open_weights(checkpoint)
    packed = _open_by_groups(checkpoint, saved, data, splits=("train",))
    with Bar("features of the training images", "images") as bar:
        return figure4(saved, packed, bar)
