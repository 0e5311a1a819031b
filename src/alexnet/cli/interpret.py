"""The `diagnose`, `attribute`, `top-patches` and `neighbors` commands: what happens inside a trained network."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import set_openmp_defaults
from alexnet._runtime.notes import say
from alexnet.api.opening import open_data
from alexnet.architecture.recipe_presets import default_recipe
from alexnet.cli.app import (
    INTERPRET,
    Classes,
    Device,
    GroupBy,
    Json,
    Labels,
    Overwrite,
    app,
    at_least_1,
    class_names,
    reject_options,
)
from alexnet.cli.default_checkpoint import split_checkpoint, split_images
from alexnet.cli.image_arguments import figure_files, list_images, read_images
from alexnet.cli.reproduce import claim_side
from alexnet.errors import require

if TYPE_CHECKING:
    from alexnet.inference.neighbors import Neighbor
    from alexnet.interpret.attribution import Attribution

ROWS_SHOWN = 20
"""Images, at most, that a figure of neighbors shows."""

COLUMNS = 50
"""Patches or neighbors in a row of a figure, at most: as wide as 10,000 pixels."""


@app.command(group=INTERPRET, sort_key=0)
def diagnose(
    *paths: Annotated[str, Parameter(name="[CHECKPOINT] DATA")], images: int | None = None,
    steps: int | None = None, side: int | None = None, device: Device = "auto", classes: Classes = None,
    json_: Json = False,
) -> None:
    """Measure saturated and dead units, gradients and updates of a network, and name what is wrong.

    With DATA alone: compare small networks with sigmoid, tanh and ReLU units, with and without batch normalization,
    before and after some training steps (section 3.1: why ReLU).

    Args:
        paths: A checkpoint, a run folder or a name of weights, and the data it was trained on; or the data alone.
        images: With a checkpoint: training images to measure on, in whole batches. Default: 512.
        steps: Without a checkpoint: training steps. Default: 150.
        side: Without a checkpoint: 32 or 64 pixels. Default: 32 for cifar10, else 64.
    """
    require(len(paths) in (1, 2), "diagnose needs a checkpoint and its data, or data alone",
            "write: alexnet diagnose runs/mine DATA")
    at_least_1(steps=steps)
    require(images is None or images >= 2, f"--images {images} must be at least 2")
    if len(paths) == 1:
        reject_options("diagnose without a checkpoint", images=images, classes=classes,
                       device=None if device in ("auto", "cpu") else device)
        _compare_activations(paths[0], side, steps or 150, json_)
    else:
        reject_options("diagnose of a checkpoint", steps=steps, side=side)
        _diagnose_checkpoint(paths[0], paths[1], images or 512, device, class_names(classes), json_)


def _compare_activations(data: str, side: int | None, steps: int, json_: bool) -> None:
    from rich.console import Console

    from alexnet._runtime.progress import Bar
    from alexnet.cli.render import before_after_table
    from alexnet.reproduce.compare import compare_networks

    packed = open_data(data, claim_side(data, side))
    with Bar("training the networks", "steps") as bar:
        compared = compare_networks(packed, steps=steps, on_progress=bar)
    if json_:
        print(json.dumps([{
            "name": network.name, "before": network.before.to_json(),
            "after": network.after.to_json() if network.after else None,
            "findings": [asdict(finding) for finding in network.findings]} for network in compared], indent=2))
    else:
        Console(highlight=False).print(before_after_table(compared, steps))


def _diagnose_checkpoint(
    checkpoint: str, data: str, images: int, device: str, classes: Sequence[str] | None, json_: bool,
) -> None:
    import torch
    from rich.console import Console

    from alexnet._runtime.devices import choose_device
    from alexnet.cli.render import activations_table
    from alexnet.data.augmentation import lighting_basis
    from alexnet.inference.classes import map_labels
    from alexnet.inference.selection import select_unseen
    from alexnet.interpret import activations, health
    from alexnet.models.formats.open_weights import open_weights
    from alexnet.training.schedule import learning_rate

    saved = open_weights(checkpoint, classes)
    packed = open_data(data, saved.arch.input.side, splits=("train",))
    where = torch.device(choose_device(device))
    recipe = saved.recipe or default_recipe(saved.arch)
    torch.manual_seed(0)
    training = packed.split("train")
    seen = select_unseen(training, [saved.seen], include_trained=True)
    batches = activations.training_views(
        training, saved.preprocess().to(where), recipe, images, device=where,
        lighting_CC=lighting_basis(packed.rgb_covariance, recipe.lighting_scale).to(where),
        label_map=map_labels(saved, packed.classes))
    rate = recipe.learning_rate
    if saved.training:  # that of the last finished epoch
        rate = learning_rate(recipe, max(0.0, saved.training["epoch"] - 0.5), saved.training["plateau"]["drops"])
    network = saved.network(calibrated=False).to(where)  # whose loss and gradients training has
    report = activations.inspect_activations(network, batches, rate=rate, decay=recipe.weight_decay,
                                             output_decay_factor=recipe.output_decay_factor)
    findings = health.findings(report, saved.arch, saved.training.get("step"))
    if json_:
        print(json.dumps(report.to_json() | {
            "findings": [asdict(finding) for finding in findings], "training_images": len(training),
            "trained_on": seen.trained_on, "looks_trained_on": seen.looks_trained_on}, indent=2))
        return
    console = Console(highlight=False)
    console.print(activations_table(report, console.width))
    console.print(f"\n{report.images:,} of {len(training):,} training images, in whole batches; loss "
                  f"{report.loss:.3f}, top-1 error {report.top1_error:.1%}, both as in training; "
                  "updates without momentum at the learning rate of its "
                  f"{'last epoch' if saved.training else 'first epoch'}, {rate:.3g}. The network was trained on "
                  f"{seen.trained_on:,}{' or more' if seen.unknown else ''} of these {len(training):,} images.")
    if seen.looks_trained_on:
        console.print(f"Of the others, {seen.looks_trained_on:,} look like its training images (saved again?).")
    for sentence in [*map(str, findings)] or [health.HEALTHY]:
        console.print(sentence)


@app.command(group=INTERPRET, sort_key=1)
def attribute(
    *paths: Annotated[str, Parameter(name="[CHECKPOINT] IMAGE...")],
    label: Annotated[str | None, Parameter(name="--class")] = None,
    layer: str | None = None, out: Path | None = None, overwrite: Overwrite = False, device: Device = "auto",
    classes: Classes = None, json_: Json = False,
) -> None:
    """Draw which pixels a class score depends on: occlusion, Grad-CAM, guided backpropagation, deconvnet.

    Each image has a figure of its own.

    Args:
        paths: A checkpoint, a run folder or a name of weights; then files, or folders of files. Without a checkpoint:
            the pretrained network of the package.
        label: Class whose score is explained. Default: the most likely class.
        layer: Layer whose feature maps Grad-CAM weights. Default: the activations of the last convolutional layer.
        out: Figure to write, .png or .svg. For several images, each image's name is added to this one. Default:
            figures/attribute.png, with a number if it exists.
    """
    checkpoint, images = split_images("attribute", paths)
    files = list_images(images)
    names = dict(zip(files, figure_files(out, "attribute.png", files, overwrite=overwrite), strict=True))
    set_allocator()
    set_openmp_defaults()

    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.inference.predictor import load
    from alexnet.interpret.attribution import attribute as attribute_image

    model = load(checkpoint, choose_device(device), classes=class_names(classes))
    read = read_images(model, files)
    rows = []
    with Bar("attribution maps", "images") as bar:
        for number, (path, query) in enumerate(zip(read.paths, read.queries, strict=True), 1):
            found = attribute_image(model, query.pixels_HWC, label=label, layer=layer)
            rows.append((path, found, _draw_attribution(found, names[path])))
            if len(read.paths) > 1:
                bar(number, len(read.paths))
    if json_:
        print(json.dumps([{
            "image": str(path), "class": found.label, "probability": found.probability, "figure": str(figure),
            "window": found.window, "occlusion": found.occlusion_HW.tolist(), "layer": found.layer,
            "grad_cam": found.grad_cam_HW.tolist()} for path, found, figure in rows]))
    else:
        for path, found, figure in rows:
            _print_attribution(path, found, figure)
        if rows[0][1].guided_HWC is None:
            say("note: guided backpropagation and deconvnet are defined for ReLUs, which this network does not have")
    if read.unreadable:
        sys.exit(2)


def _draw_attribution(found: Attribution, out: Path) -> Path:
    from alexnet.inference.classifier import probability_text
    from alexnet.reproduce.figures.attribution_maps import attribution_figure
    from alexnet.reproduce.figures.style import save_figure

    gradients = {"guided backpropagation": found.guided_HWC, "deconvnet": found.deconvnet_HWC}
    return save_figure(attribution_figure(
        found.view_HWC, {"occlusion": found.occlusion_HW, f"Grad-CAM, {found.layer}": found.grad_cam_HW},
        {name: gradient for name, gradient in gradients.items() if gradient is not None},
        f"{found.label}, {probability_text(found.probability)}"), out)[0]


def _print_attribution(path: Path, found: Attribution, figure: Path) -> None:
    from alexnet.inference.classifier import probability_text

    row, column = divmod(int(found.occlusion_HW.argmax()), found.occlusion_HW.shape[1])
    print(f"{path}: {found.label}, {probability_text(found.probability, tenths=True)}")
    view, drop = len(found.view_HWC), found.occlusion_HW.max()
    print(f"occlusion: covering the area around row {row}, column {column} of the {view}x{view} view with a gray "
          f"square of {found.window} pixels lowers this probability most: by {100 * drop:.1f} percentage points on "
          "average")
    print(f"figure: {figure}")


@app.command(name="top-patches", group=INTERPRET, sort_key=2)
def top_patches_(
    *paths: Annotated[str, Parameter(name="[CHECKPOINT] DATA")], labels: Labels = None, group: GroupBy = None,
    layer: str, unit: Annotated[list[int] | None, Parameter(negative=())] = None, count: int = 9, split: str = "train",
    out: Path | None = None, overwrite: Overwrite = False, device: Device = "auto", classes: Classes = None,
    json_: Json = False,
) -> None:
    """Find the image patches that activate units of a layer most.

    Args:
        paths: A checkpoint, a run folder or a name of weights; then the images to search: class folders, a packed
            folder, or a name such as cifar10. Without a checkpoint: the pretrained network of the package.
        layer: A layer's name, such as conv1, relu5 or fc6; see `alexnet explain`.
        unit: Number of a feature map or unit, from 0. May be repeated. Default: twelve, evenly spaced.
        count: Patches of each unit.
        split: train or val.
        out: Figure to write, .png or .svg. Default: figures/top-patches.png, with a number if it exists.
    """
    _check_count(count)
    (figure,) = figure_files(out, "top-patches.png", overwrite=overwrite)
    set_allocator()
    set_openmp_defaults()

    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.cli.render import print_top_patches
    from alexnet.inference.predictor import load
    from alexnet.interpret import top_patches
    from alexnet.reproduce.figures.image_grids import patch_grid
    from alexnet.reproduce.figures.style import equal_decimals, save_figure

    checkpoint, (data,) = split_checkpoint("top-patches", paths, "DATA")
    model = load(checkpoint, choose_device(device), classes=class_names(classes))
    top_patches.check_units(model, layer, unit or ())
    packed = open_data(data, model.preprocess.spec.side, labels=labels, group=group, splits=(split,))
    images = packed.split(split)
    with Bar(f"searching {layer}", "images") as bar:
        found = top_patches.find_top_patches(model, images, packed.classes, layer, unit or (), count, on_progress=bar)
    side = top_patches.receptive_field(model.network.arch, layer)[1]
    kind = top_patches.output_kind(model.network.arch, layer)
    outputs = iter(equal_decimals([patch.output for best in found.values() for patch in best]))
    # The units of the last layer are the classes.
    names = model.classes if layer == model.network.layer_names()[-1] else ()
    rows = {f"{layer}, {kind} {number}" + (f"\n{shorten(names[number], 18, placeholder='…')}" if names else ""): [
        (top_patches.crop_patch(images.read_one(patch.index), model.preprocess.spec.crop, patch.box, side),
         next(outputs)) for patch in best] for number, best in found.items()}
    drawings = save_figure(patch_grid(rows, count), figure)
    if json_:
        print(json.dumps([{"layer": layer, "unit": number, "patches": [
            {"image": patch.name, "class": patch.label, "output": patch.output, "box": patch.box}
            for patch in best]} for number, best in found.items()], indent=2))
        return
    print_top_patches(found, kind, names)
    print(f"figure: {drawings[0]}")


@app.command(name="neighbors", group=INTERPRET, sort_key=3)
def neighbors_(
    *paths: Annotated[str, Parameter(name="[CHECKPOINT] IMAGE...")], reference_set: str, labels: Labels = None,
    group: GroupBy = None, count: int = 6, split: str = "train", layer: str | None = None, out: Path | None = None,
    overwrite: Overwrite = False, device: Device = "auto", json_: Json = False,
) -> None:
    """Find the nearest neighbors of images in a reference set, by the features of the last hidden layer (Figure 4).

    An image of the reference set that is the image itself, or looks the same, is named so.

    The search is exact for up to 100,000 images; for more, it needs faiss (the extra `neighbors`). The features
    of the reference set are computed once and kept in ~/.cache/alexnet/features.

    Args:
        paths: A checkpoint, a run folder or a name of weights; then files, or folders of files. Default of the
            checkpoint: the pretrained network of the package.
        reference_set: Images to search: class folders, a packed folder, or a name such as cifar10.
        count: Neighbors of each image.
        split: Split of the reference set, train or val.
        layer: Layer whose output is compared. Default: the activations of the last hidden layer.
        out: Figure to write, .png or .svg. Default: figures/neighbors.png, with a number if it exists.
    """
    _check_count(count)
    (figure,) = figure_files(out, "neighbors.png", overwrite=overwrite)
    set_allocator()
    set_openmp_defaults()

    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.inference.neighbors import class_of_folder, find_neighbors, split_features
    from alexnet.inference.predictor import load
    from alexnet.reproduce.figures.figure4 import neighbor_rows
    from alexnet.reproduce.figures.image_grids import neighbor_grid
    from alexnet.reproduce.figures.style import save_figure

    checkpoint, images = split_images("neighbors", paths, "--reference-set DATA")
    files = list_images(images)
    model = load(checkpoint, choose_device(device))
    read = read_images(model, files)
    pixels = [query.pixels_HWC for query in read.queries]
    if layer:
        model.network.named_layer(layer)  # raises UserError for an unknown one, before anything is packed
    packed = open_data(reference_set, model.preprocess.spec.side, labels=labels, group=group, splits=(split,))
    references = packed.split(split)
    with Bar("features of the reference set", "images") as bar:
        features_ND = split_features(
            model, references, layer, cache_key=f"{packed.fingerprint} {split}", on_progress=bar)
    found = find_neighbors(model.features(pixels, layer), features_ND, references, packed.classes, count,
                           queries=read.queries)
    shown = slice(ROWS_SHOWN)
    folders = [class_of_folder(path, packed.classes) for path in read.paths[shown]]
    figures = save_figure(neighbor_grid(neighbor_rows(
        pixels[shown], folders, found[shown], references, [path.stem for path in read.paths[shown]])), figure)
    if json_:
        print(json.dumps([{"image": str(path), "nearest": [neighbor.to_json() for neighbor in nearest]}
                          for path, nearest in zip(read.paths, found, strict=True)], indent=2))
    else:
        _print_neighbors(read.paths, found)
        print(f"figure: {figures[0]}" + (f", with the first {ROWS_SHOWN} images" if len(found) > ROWS_SHOWN else ""))
    if read.unreadable:
        sys.exit(2)


def _print_neighbors(paths: Sequence[Path], found: Sequence[Sequence[Neighbor]]) -> None:
    for path, nearest in zip(paths, found, strict=True):
        print(path)
        for neighbor in nearest:
            note = f"  ({neighbor.note})" if neighbor.note else ""
            print(f"  {neighbor.distance:8.2f}  {neighbor.label}  {neighbor.name}{note}")


def _check_count(count: int) -> None:
    at_least_1(count=count)
    require(count <= COLUMNS, f"--count {count} must be at most {COLUMNS}", "more do not fit into a row of the figure")
