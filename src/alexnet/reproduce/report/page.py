"""Writes RUN/report.html, one offline HTML page about a run, and its figures in RUN/figures/.

Each section of the page is one function from `RunData` to what the template report.html shows under the same name, or
None if there is nothing to show. The page makes no request: images are inlined, there is no script, and its content
security policy forbids both. The same run gives the same page, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime.cpu_threads import usable_cores
from alexnet._runtime.html_page import render_page, write_page
from alexnet.data.packed import PackedDataset
from alexnet.inference.classifier import probability_text
from alexnet.inference.validation import EXAMPLES, ValidationPredictions
from alexnet.reproduce.figures.confusion import class_errors, confusion
from alexnet.reproduce.figures.drawing import Drawing
from alexnet.reproduce.figures.figure2 import network_diagram
from alexnet.reproduce.figures.figure4 import prediction_tiles
from alexnet.reproduce.figures.image_grids import neighbor_grid, prediction_grid
from alexnet.reproduce.figures.learning_curves import learning_curves
from alexnet.reproduce.figures.style import save_figure
from alexnet.reproduce.report.fit import OVERFITTING, UNDERFITTING
from alexnet.reproduce.report.image_sections import (
    MATRIX_CLASSES,
    class_errors_of,
    mistakes,
    nearest,
    nearest_rows,
    predictions,
)
from alexnet.reproduce.report.network_sections import architecture, conv1_sheet, kernels, typeset
from alexnet.reproduce.report.recipe_section import recipe
from alexnet.reproduce.report.result_section import result
from alexnet.reproduce.report.run_data import RunData, read_run
from alexnet.reproduce.report.summary_section import summary
from alexnet.reproduce.report.training_sections import curves, data, diagnosis, warnings

SECTIONS = (summary, result, data, curves, diagnosis, kernels, predictions, nearest, mistakes, architecture, recipe,
            warnings)

IMAGE_DPI = 120
"""Dots per inch of figures of images; more would add bytes and no detail."""


def write_report(run: Path, packed: PackedDataset | None = None, *, note: str = "") -> Path:
    """Write RUN/report.html atomically, and its figures as files in RUN/figures/.

    Args:
        run: the run's folder.
        packed: the data; without it the page has no sections on images.
        note: a caveat to show beside the result; default: that of config.json.

    Returns:
        The page's path.

    Raises:
        UserError: the run, a finished epoch or a checkpoint is missing, or the data does not fit the network.
    """
    shown = read_run(run, packed)
    page = render_page(
        Path(__file__).parent / "report.html", typeset=typeset, probability_text=probability_text,
        note=note or shown.config.get("note", ""), UNDERFITTING=UNDERFITTING, OVERFITTING=OVERFITTING,
        title=shown.config.get("title") or f"{shown.checkpoint.arch.name} on {shown.data_name}",
        **{section.__name__: section(shown) for section in SECTIONS})
    _save_figures(shown, run / "figures")
    write_page(run / "report.html", page)
    return run / "report.html"


def _save_figures(run: RunData, folder: Path) -> None:
    """Draw and write all figures, on two cores: Pillow encodes a PNG without Python's lock."""
    figures = list(_figures(run))
    with ThreadPoolExecutor(min(2, usable_cores())) as pool:
        for written in [pool.submit(save, folder / name) for name, save in figures]:
            written.result()


def _figures(run: RunData) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Yield each figure's name and what draws and saves it; the largest first."""
    found = run.predictions
    if run.nearest:
        yield "nearest", lambda stem: _save_images(neighbor_grid(nearest_rows(run)), stem)
    if found:
        for name, rows in (("predictions", found.examples), ("mistakes", found.mistakes[:EXAMPLES])):
            if len(rows):
                yield name, partial(_save_predictions, found, rows)
    yield "architecture", lambda stem: save_figure(network_diagram(run.checkpoint.arch), stem)
    yield "learning_curves", lambda stem: save_figure(learning_curves(run.epochs), stem)
    yield "kernels", lambda stem: save_figure(conv1_sheet(run.checkpoint), stem)
    if found and len(found.classes) <= MATRIX_CLASSES:
        errors = class_errors_of(found)
        yield "confusion", lambda stem: save_figure(confusion(found.confusion_KK, found.classes), stem)
        yield "class_errors", lambda stem: save_figure(class_errors(
            [each.name for each in errors], [each.error for each in errors], [each.interval for each in errors]), stem)


def _save_predictions(found: ValidationPredictions, rows: NDArray[np.int64], stem: Path) -> None:
    _save_images(prediction_grid(prediction_tiles(found, rows)), stem)


def _save_images(grid: Drawing, stem: Path) -> None:
    save_figure(grid, stem, with_svg=False, dpi=IMAGE_DPI)
