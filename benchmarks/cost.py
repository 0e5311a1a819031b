"""Time and memory of training against the number of images, image side, batch size and number of classes.

    python benchmarks/cost.py [--quick] [--json FILE] [--figure docs/cost.svg]

Each point is measured in a process of its own, for its own peak memory. "images": an epoch of views from raw shards of
64 pixels, without a network, and the time to the first batch. "side", "batch", "classes": a training step of
torchvision's layout, which accepts any input side. A least-squares line through the points shows where cost is not
proportional.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

AXES = {
    "images": (1_000, 3_000, 10_000, 30_000, 100_000),
    "side": (64, 96, 128, 160, 192, 224),
    "batch": (8, 16, 32, 64, 128, 192),
    "classes": (10, 100, 1_000, 3_000, 10_000),
}
QUICK = {axis: values[:2] for axis, values in AXES.items()}


def epoch_of_views(images: int) -> dict[str, float]:
    """Seconds to the first batch, and for the views of an epoch, from a sparse file of raw images."""
    import numpy as np
    import torch

    from alexnet.architecture.network_presets import arch
    from alexnet.architecture.recipe_presets import recipe
    from alexnet.data.loader import batches
    from alexnet.data.manifest import ShardRecord
    from alexnet.data.packed import PackedSplit
    from alexnet.data.preprocessing import Preprocess

    side = 64
    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / "train-00000.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {  # type: ignore[no-untyped-call]
                "descr": "|u1", "fortran_order": False, "shape": (images, side, side, 3)})
            file.truncate(file.tell() + images * side * side * 3)
        np.save(Path(folder) / "labels.npy", np.zeros(images, np.int64))
        began = time.perf_counter()
        split = PackedSplit(Path(folder), "raw", side, [
            ShardRecord("train-00000.npy", "labels.npy", "", "", "", images)], 1)
        preprocess = Preprocess(arch("small").input, torch.zeros(1, 1, 3))
        first = 0.0
        for batch in batches(split, 128, shuffle=(0, 0)):
            preprocess.training_views(batch.pixels, batch.indices, recipe("modern"), 0, 0)
            first = first or time.perf_counter() - began
        return {"seconds": time.perf_counter() - began, "first_batch_seconds": first}


def step(side: int = 224, batch: int = 64, classes: int = 1000) -> dict[str, float]:
    """Median seconds of a training step."""
    import statistics
    from dataclasses import replace

    import torch

    from alexnet._runtime.devices import choose_precision
    from alexnet.architecture.network_presets import arch
    from alexnet.architecture.recipe_presets import default_recipe
    from alexnet.models.alexnet import AlexNet
    from alexnet.training.optimizer import SGD
    from alexnet.training.precision import MixedPrecision
    from alexnet.training.step import train_step

    layout = replace(arch("torchvision"), classes=classes)
    mixed_precision = MixedPrecision(choose_precision("auto", "cpu"), torch.device("cpu"))
    network = AlexNet(layout).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = SGD(network, default_recipe(layout))
    views = torch.randn(batch, 3, side, side).to(mixed_precision.input_dtype, memory_format=torch.channels_last)
    labels = torch.randint(0, classes, (batch,))
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        train_step(network, optimizer, views, labels, 0.01, mixed_precision)
        seconds.append(time.perf_counter() - began)
    return {"seconds": statistics.median(seconds[1:])}


def point(axis: str, value: int) -> dict[str, float]:
    """One point, measured in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--point", axis, str(value)], capture_output=True, text=True,
                          check=True)
    return json.loads(done.stdout)


def line(values: list[float], costs: list[float]) -> tuple[float, float]:
    """Intercept and slope by least squares of the relative error."""
    import numpy as np

    weights = 1 / np.array(costs)
    design = np.stack([weights, weights * np.array(values)], axis=1)
    (intercept, slope), *_ = np.linalg.lstsq(design, weights * np.array(costs), rcond=None)
    return float(intercept), float(slope)


def draw(results: dict[str, Any], path: Path) -> None:
    """Write a figure: a column for each axis, time above peak memory."""
    from alexnet.reproduce.figures.axes import SMALL, Axes, Scale, label_room
    from alexnet.reproduce.figures.drawing import Drawing
    from alexnet.reproduce.figures.style import save_figure
    from alexnet.reproduce.figures.ticks import linear_ticks, number_labels

    column_width, row_height, left_room = 200.0, 165.0, 18.0  # points; the room is for the units
    drawing = Drawing(left_room + column_width * len(results["axes"]), 2 * row_height + 24,
                      "Seconds and peak memory over images, side, batch and classes, each with a straight line")
    for column, (axis, points) in enumerate(results["axes"].items()):
        values = [one["value"] for one in points]
        # The cost of an image grows with its area, so the area is the x axis.
        along = [value**2 for value in values] if axis == "side" else values
        for row, (key, unit, scale) in enumerate((("seconds", "seconds", 1.0), ("peak_bytes", "peak GB", 1e-9))):
            costs = [one[key] * scale for one in points]
            y = Scale(0.0, 1.08 * max(costs))
            heights, places = linear_ticks(y.low, y.high, 6), linear_ticks(0.0, 1.05 * max(along), 4)
            room = label_room(number_labels(heights))
            panel = Axes(drawing, left_room + column * column_width + room, 24 + row * row_height,
                         column_width - room - 22, row_height - 40, Scale(0.0, 1.05 * max(along)), y)
            panel.y_axis(heights, number_labels(heights))
            panel.x_axis(places, number_labels(places),
                         {"side": "pixels of a view (side squared)"}.get(axis, axis) if row else "")
            if row == 0:
                panel.title(axis)
            if column == 0:
                drawing.text(2, (panel.top + panel.bottom) / 2, unit, SMALL, "quiet", anchor="middle", vertical="top",
                             rotated=True)
            intercept, slope = line(along, costs)
            panel.plot(along, [intercept + slope * x for x in along], "quiet", 0.8)
            panel.marks(along, costs, "blue", 1.8, fill="blue")
    save_figure(drawing, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="measure two points of each axis")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    if options.point:
        from alexnet._runtime.allocator import set_allocator

        set_allocator()
        axis, value = options.point[0], int(options.point[1])
        cost = epoch_of_views(value) if axis == "images" else step(**{axis: value})
        print(json.dumps(cost | {"peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
        return
    results: dict[str, Any] = {"axes": {}}
    for axis, values in (QUICK if options.quick else AXES).items():
        results["axes"][axis] = points = [{"value": value, **point(axis, value)} for value in values]
        along = [one["value"] ** (2 if axis == "side" else 1) for one in points]
        intercept, slope = line(along, [one["seconds"] for one in points])
        for one, x in zip(points, along, strict=True):
            first = f", first batch after {one['first_batch_seconds']:.2f} s" if "first_batch_seconds" in one else ""
            off = one["seconds"] / (intercept + slope * x)
            print(f"{axis:12} {one['value']:7,}: {one['seconds']:8.3f} s ({off:.2f} of the line), peak memory "
                  f"{one['peak_bytes'] / 1e9:.2f} GB{first}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.figure:
        draw(results, options.figure)


if __name__ == "__main__":
    main()
