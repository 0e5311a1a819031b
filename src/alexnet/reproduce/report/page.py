"""Writes RUN/report.html, one offline HTML page about a run, and its figures in RUN/figures/.

Each section of the page is one function from `RunData` to what the template report.html shows under the same name, or
None if there is nothing to show. The page makes no request: images are inlined, there is no script, and its content
security policy forbids both. The same run gives the same page, byte for byte.
"""

from __future__ import annotations

from pathlib import Path

from alexnet._runtime.html_page import render_page, write_page
from alexnet.data.packed import PackedDataset
from alexnet.inference.classifier import probability_text
from alexnet.inference.validation import EXAMPLES, ValidationPredictions
from alexnet.reproduce.figures.confusion import class_errors, confusion
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
    save_figure(learning_curves(run.epochs), folder / "learning_curves")
    save_figure(network_diagram(run.checkpoint.arch), folder / "architecture")
    save_figure(conv1_sheet(run.checkpoint), folder / "kernels")
    if run.predictions:
        _save_image_figures(run, run.predictions, folder)


def _save_image_figures(run: RunData, predictions: ValidationPredictions, folder: Path) -> None:
    for name, rows in (("predictions", predictions.examples), ("mistakes", predictions.mistakes[:EXAMPLES])):
        if len(rows):
            grid = prediction_grid(prediction_tiles(predictions, rows))
            save_figure(grid, folder / name, with_svg=False, dpi=IMAGE_DPI)
    if run.nearest:
        save_figure(neighbor_grid(nearest_rows(run)), folder / "nearest", with_svg=False, dpi=IMAGE_DPI)
    if len(predictions.classes) <= MATRIX_CLASSES:
        save_figure(confusion(predictions.confusion_KK, predictions.classes), folder / "confusion")
        errors = class_errors_of(predictions)
        save_figure(class_errors([each.name for each in errors], [each.error for each in errors],
                                 [each.interval for each in errors]), folder / "class_errors")
