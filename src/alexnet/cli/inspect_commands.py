"""The commands that look inside: the paper's claims and figures, a network at work, units, neighbors, the report."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Literal

from cyclopts import Parameter

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import wait_briefly
from alexnet.architecture.presets import ARCHS, arch, default_recipe
from alexnet.cli.app import (
    LOOK,
    NUMBERS,
    PICTURE,
    WORK,
    Device,
    Json,
    Set,
    Wanted,
    app,
    at_least_1,
    configure,
    measurable,
    open_data,
    say,
    takes_no,
    writable,
)

ROWS_SHOWN = 20
"""Images, at most, that a picture of neighbors shows."""

COLUMNS = 50
"""Patches or neighbors in a row of a picture, at most: as wide as 10,000 pixels."""

ClaimName = Literal["figure1", "lrn", "overlap", "dropout", "augmentation", "lighting", "two-gpu", "towers", "depth",
                    "ten-views", "ensemble", "batch-norm", "saturation", "table"]


@app.command(group=NUMBERS, sort_key=2)
def reproduce(
    claim: ClaimName, /, *paths: Annotated[str, Parameter(name="CHECKPOINT... DATA")], data: str | None = None,
    side: int | None = None, epochs: int | None = None, seeds: int | None = None, quick: bool = False,
    out: Path = Path("runs/reproduce"), results: Path | None = None, page: Path | None = None,
    split: str | None = None, batch_size: int | None = None, device: Device = "auto", precision: Wanted = "auto",
    json_: Json = False,
) -> None:
    """See one of the paper's claims happen: train what it compares, and print the paper's number beside ours.

    Small networks of the paper's layers on your images, a few minutes a run on a CPU. Finished runs are kept and
    never trained again; stopped ones go on.

    Parameters
    ----------
    claim
        figure1, lrn, overlap, dropout, augmentation, lighting, two-gpu, towers, depth, ten-views, ensemble, batch-norm,
        saturation; or table: Tables 1 and 2 beside the errors of networks that are there already.
    paths
        For table: one or more checkpoints (or run folders), then the data.
    data
        Images to train on: class folders, a packed folder, or a name.
    side
        32 or 64, at which the images are packed; 32 unless said for cifar10, else 64.
    epochs
        Of each run: 12 unless said, 40 at the most for figure1.
    seeds
        Runs of each network, with seeds 0, 1, 2 and so on: 3 unless said.
    quick
        One seed and two epochs, unless said: to see it work, not to learn from it.
    out
        Folder for the runs and results.jsonl.
    results
        The file that gets a line for each claim measured; OUT/results.jsonl unless said.
    page
        A Markdown file between whose marks the whole results file is written as tables.
    split
        For table: val unless said.
    batch_size
        For table: 128 unless said.
    """
    at_least_1(epochs=epochs, seeds=seeds, batch_size=batch_size)
    if claim == "table":
        takes_no("reproduce table", data=data, side=side, epochs=epochs, seeds=seeds, quick=quick or None,
                 results=results, page=page)
        _reproduce_table(paths, split, batch_size or 128, device, json_)
        return
    takes_no(f"reproduce {claim}", split=split, batch_size=batch_size)
    if paths or not data:
        raise ValueError(f"reproduce {claim} trains networks of its own: alexnet reproduce {claim} --data DATA")
    set_allocator()
    wait_briefly()

    from rich.console import Console

    from alexnet._runtime.devices import choose_device, choose_precision, machine
    from alexnet._runtime.progress import ClaimBar
    from alexnet.cli import render
    from alexnet.reproduce import claims, measures
    from alexnet.reproduce import results as results_module
    from alexnet.reproduce import runs as runs_module

    side = _claims_side(data, side)
    results = results or out / "results.jsonl"
    writable(results)
    if page:
        results_module.split_page(page)  # or all would be trained before it is missed
    what = claims.CLAIMS[claim]
    seeds = seeds or (1 if quick else 3)
    epochs = epochs or (2 if quick else 40 if what.measure == "epochs" else 12)
    packed = open_data(data, side)
    device = choose_device(device)
    with ClaimBar() as watch:
        runs = runs_module.Runs(packed, out, choose_precision(precision, device), device, watch.see)
        outcome = measures.reproduce(what, runs, seeds=range(seeds), epochs=epochs)
    about: results_module.Provenance = {
        "command": shlex.join(["alexnet", *sys.argv[1:]]), "machine": machine(device),
        "precision_used": runs.precision, "seconds": round(runs.seconds, 1)}
    results_module.append(results, outcome, about)
    if page:
        results_module.write_page(page, results_module.read(results))
    if what.measure == "epochs":
        from alexnet.reproduce.figures import figure1, style

        folders, names = zip(*((out / one.runs[0], one.name) for one in outcome.variants), strict=True)
        drawn = figure1.figure1(folders, names)
        say(f"drawn: {', '.join(map(str, style.save_figure(drawn, out / claim)))}")
    if json_:
        print(json.dumps({**outcome.to_json(), **about}, indent=2))
    else:
        Console(highlight=False).print(render.outcome_table(outcome))
    say(f"written: a line of {results}" + (f", and the tables of {page}" if page else ""))
    if quick:
        say("note: --quick is for seeing it work, not for learning from it; leave it out for a result")


def _reproduce_table(paths: Sequence[str], split: str | None, batch_size: int, device: str, json_: bool) -> None:
    """Each network at one view and at ten, and all of them averaged, under the paper's lines."""
    import torch
    from rich.console import Console

    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.cli import render
    from alexnet.reproduce import tables

    if len(paths) < 2:
        raise ValueError("reproduce table takes checkpoints and then the data: "
                         "alexnet reproduce table runs/a runs/b DATA")
    device = choose_device(device)
    models, images, label_map, packed = measurable(paths, split, device)
    members = [(path, (model.network, model.preprocess)) for path, model in zip(paths, models, strict=False)]
    with Bar(f"evaluating {len(members)} network{'s' * (len(members) > 1)}", "images") as bar:
        measured = tables.measure_table(members, images, label_map=label_map, batch_size=batch_size,
                                        device=torch.device(device), on_progress=bar)
    if json_:
        print(json.dumps(tables.to_json(measured), indent=2))
    else:
        what = f"{len(images):,} of {Path(packed.source).name}, {len(packed.classes)} classes"
        Console(highlight=False).print(render.errors_table(measured, what))


@app.command(group=LOOK, sort_key=0)
def diagnose(
    *paths: Annotated[str, Parameter(name="[CHECKPOINT] DATA")], images: int | None = None,
    steps: int | None = None, side: int | None = None, device: Device = "auto", json_: Json = False,
) -> None:
    """Look into a network at work: saturated and dead units, gradients, updates, and in words what is wrong.

    With a checkpoint, that network over training images. With DATA alone, networks of sigmoid, tanh and ReLU
    units, with and without normalization, side by side, before and after some steps: why ReLU.

    Parameters
    ----------
    paths
        A checkpoint or run folder, and the data it was trained on; or the data alone.
    images
        How many training images the checkpoint's network is shown, in whole batches: 512 unless said.
    steps
        Without a checkpoint: of training, between the two looks; 150 unless said.
    side
        Without a checkpoint: 32 or 64 pixels; 32 unless said for cifar10, else 64.
    """
    from rich.console import Console

    if len(paths) not in (1, 2):
        raise ValueError("diagnose takes a checkpoint and its data, or data alone: alexnet diagnose runs/mine DATA")
    at_least_1(steps=steps)
    if images is not None and images < 2:
        raise ValueError(f"--images {images} must be at least 2")
    console = Console(highlight=False)
    if len(paths) == 1:
        from alexnet._runtime.progress import Bar
        from alexnet.cli import render
        from alexnet.reproduce import compare

        takes_no("diagnose without a checkpoint", images=images,
                 device=None if device in ("auto", "cpu") else device)
        steps = steps or 150
        packed = open_data(paths[0], _claims_side(paths[0], side))
        with Bar("training side by side", "steps") as bar:
            asides = compare.compare_networks(packed, steps=steps, on_progress=bar)
        if json_:
            print(json.dumps([{"name": one.name, "before": one.before.to_json(),
                               "after": one.after.to_json() if one.after else None, "findings": [asdict(finding) for finding in one.findings]}
                              for one in asides], indent=2))
        else:
            console.print(render.render_side_by_side(asides, steps))
        return

    import torch

    from alexnet._runtime.devices import choose_device
    from alexnet.cli import render
    from alexnet.data.augmentation import lighting_basis
    from alexnet.inference.evaluate import match_classes
    from alexnet.interpret import activations, health
    from alexnet.models import checkpoint
    from alexnet.training.schedule import learning_rate

    takes_no("diagnose of a checkpoint", steps=steps, side=side)
    images = images or 512
    saved = checkpoint.load(Path(paths[0]))
    packed = open_data(paths[1], saved.arch.input.side)
    where = torch.device(choose_device(device))
    network = saved.network().to(where)
    way = saved.recipe or default_recipe(saved.arch)
    torch.manual_seed(0)
    shown = activations.shown(packed.split("train"), saved.preprocess().to(where), way, images, device=where,
                              lighting_CC=lighting_basis(packed.rgb_covariance, way.lighting_scale).to(where),
                              label_map=match_classes(saved.classes, packed.classes))
    rate = way.learning_rate
    if saved.training:  # of the epoch that it has last been through
        rate = learning_rate(way, max(0.0, saved.training["epoch"] - 0.5), saved.training["plateau"]["drops"])
    seen = activations.inspect_activations(network, shown, rate=rate, decay=way.weight_decay)
    found = health.findings(seen, saved.arch, saved.training.get("step"))
    if json_:
        print(json.dumps(seen.to_json() | {"findings": [asdict(finding) for finding in found]}, indent=2))
        return
    console.print(render.activations_table(seen))
    console.print(f"\n{seen.images:,} of {len(packed.split('train')):,} training images, in whole batches; "
                  f"loss {seen.loss:.3f}; updates at a rate of {rate:.3g}, "
                  f"{'that of its last epoch' if saved.training else 'where its recipe begins'}, without momentum.")
    for sentence in [*map(str, found)] or [health.HEALTHY]:
        console.print(sentence)


def _claims_side(data: str, side: int | None) -> int:
    """At which the claims' networks take DATA's images."""
    if side is None:
        side = 32 if "cifar" in Path(data).name else 64
    if side not in (32, 64):
        raise ValueError(f"--side {side} must be 32 or 64, for which the claims' networks are made")
    return side


@app.command(group=NUMBERS, sort_key=3)
def figure(
    number: Literal["1", "2", "3", "4"], /, *sources: Annotated[str, Parameter(name="SOURCE")],
    out: Path | None = None, name: Annotated[list[str] | None, Parameter(negative=())] = None, size: int | None = None,
    set_: Set = None,
) -> None:
    """Draw one of the paper's figures from your own runs and images, as PNG and SVG.

    figure 1 RUN RUN         training error over epochs, solid and dashed
    figure 2 ARCH            the network, drawn from its numbers: any preset, run or checkpoint
    figure 3 CHECKPOINT      the first layer's kernels, tower 1 above tower 2
    figure 4 CHECKPOINT DATA images with their five likeliest classes, and those nearest to them

    Parameters
    ----------
    sources
        As above.
    out
        Where to write: figures/figure1 and so on unless said, with .png and .svg; with either ending, that one alone.
    name
        figure 1: what a run is called in the legend; repeat it for each.
    size
        figure 2: side in pixels of the square that is fed.
    """
    from alexnet.models.formats.open_weights import open_weights
    from alexnet.reproduce.figures import figure1, figure3, figure4, style

    takes = {"1": "one or more run folders", "2": "a network's name, a run or a checkpoint", "3": "a checkpoint",
             "4": "a checkpoint and the data it was trained on"}
    least, most = {"1": (1, 8), "2": (1, 1), "3": (1, 1), "4": (2, 2)}[number]
    if not least <= len(sources) <= most:
        raise ValueError(f"figure {number} takes {takes[number]}, and got {len(sources)} "
                         f"thing{'s' * (len(sources) != 1)}; see alexnet figure --help")
    takes_no(f"figure {number}", name=name if number != "1" else None, size=size if number != "2" else None,
             set=set_ if number != "2" else None)
    if name and len(name) != len(sources):
        raise ValueError(f"--name stands {len(name)} times for {len(sources)} runs; give one for each, or none")
    if name and len(set(name)) < len(name):
        raise ValueError(f"--name {', '.join(name)} calls two runs alike; give each its own")
    out = Path("figures") / f"figure{number}" if out is None else out
    writable(out, PICTURE)
    if number == "1":
        made = figure1.figure1([Path(source) for source in sources], name or ())
    elif number == "2":
        from alexnet.reproduce.figures.figure2 import network_diagram

        is_preset = sources[0] in ARCHS or not Path(sources[0]).exists()
        network = arch(sources[0]) if is_preset else open_weights(sources[0]).arch
        made = network_diagram(configure(network, None, set_)[0], size)
    elif number == "3":
        made = figure3.figure3(open_weights(sources[0]))
    else:
        from alexnet._runtime.progress import Bar

        saved = open_weights(sources[0])
        packed = open_data(sources[1], saved.arch.input.side)
        with Bar("features of the training images", "images") as bar:
            made = figure4.figure4(saved, packed, bar)
    for path in style.save_figure(made, out):
        print(path)


@app.command(group=LOOK, sort_key=1)
def see(
    checkpoint: Path, photo: Path, /, *, label: Annotated[str | None, Parameter(name="--class")] = None,
    layer: str | None = None, out: Path = Path("figures/see.png"), device: Device = "auto", json_: Json = False,
) -> None:
    """Show what the answer for an image rests on: occlusion map, Grad-CAM, guided gradients, deconvnet.

    Parameters
    ----------
    checkpoint
        A checkpoint or a run's folder.
    photo
        One file.
    label
        The class to ask about; the likeliest unless said.
    layer
        Whose maps Grad-CAM weighs: the last convolution's activations unless said.
    out
        The picture to write: .png or .svg.
    """
    writable(out, PICTURE)

    from alexnet._runtime.devices import choose_device
    from alexnet.inference.predictor import load
    from alexnet.interpret import attribution
    from alexnet.reproduce.figures import attribution_maps, style

    if not photo.exists():
        raise ValueError(f"{photo} does not exist; name an image")
    seen = attribution.see(load(checkpoint, choose_device(device)), photo, label=label, layer=layer)
    slopes = {"guided gradients": seen.guided_HWC, "deconvnet": seen.deconvnet_HWC}
    made = attribution_maps.attribution_figure(
        seen.view_HWC, {"occlusion": seen.occlusion_HW, f"Grad-CAM, {seen.layer}": seen.grad_cam_HW},
        {name: slope for name, slope in slopes.items() if slope is not None}, f"{seen.label}, {seen.probability:.0%}")
    paths = style.save_figure(made, out)
    if json_:
        print(json.dumps({
            "photo": str(photo), "class": seen.label, "probability": seen.probability, "picture": str(paths[0]),
            "window": seen.window, "occlusion": seen.occlusion_HW.tolist(), "layer": seen.layer,
            "grad_cam": seen.grad_cam_HW.tolist()}))
        return
    row, column = divmod(int(seen.occlusion_HW.argmax()), seen.occlusion_HW.shape[1])
    print(f"{photo}: {seen.label}, {seen.probability:.1%}")
    print(f"a gray square of {seen.window} pixels costs it most around row {row}, column {column} of the "
          f"{len(seen.view_HWC)}x{len(seen.view_HWC)} view: {100 * seen.occlusion_HW.max():.1f} percentage points, "
          "averaged over the squares that hide that place")
    if seen.guided_HWC is None:
        say("note: guided gradients and deconvnet are defined for ReLUs, which this network has not")
    print(f"picture: {paths[0]}")


@app.command(group=LOOK, sort_key=2)
def units(
    checkpoint: Path, data: str, /, *, layer: str, unit: Annotated[list[int] | None, Parameter(negative=())] = None,
    count: int = 9, split: str = "train", out: Path = Path("figures/units.png"), device: Device = "auto",
    json_: Json = False,
) -> None:
    """Show what units of a layer answer to: the patches of a data set for which their output is largest.

    Parameters
    ----------
    checkpoint
        A checkpoint or a run's folder.
    data
        Images to look through: class folders, a packed folder, or a name.
    layer
        conv1, relu5, fc6, ...; see `alexnet explain`.
    unit
        A map's number, from 0; may be repeated. A dozen, evenly spaced, unless said.
    count
        Patches of each unit.
    split
        train or val.
    out
        The picture to write: .png or .svg.
    """
    _fits(count)
    writable(out, PICTURE)

    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.inference.predictor import load
    from alexnet.interpret import top_patches
    from alexnet.reproduce.figures import image_grids, style

    model = load(checkpoint, choose_device(device))
    packed = open_data(data, model.preprocess.spec.side)
    images = packed.split(split)
    with Bar(f"looking through {layer}", "images") as bar:
        found = top_patches.strongest(model, images, packed.classes, layer, unit or (), count, on_progress=bar)
    side = top_patches.field(model.network.arch, layer)[1]
    outputs = iter(style.equal_decimals([patch.output for best in found.values() for patch in best]))
    # The last layer's units are the classes.
    names = model.classes if layer == model.network.layer_names()[-1] else ()
    cut = {f"{layer}, unit {number}" + (f"\n{shorten(names[number], 18, placeholder='…')}" if names else ""): [
        (top_patches.cut_out(images.read_one(patch.index), model.preprocess.spec.crop, patch.box, side),
         next(outputs))
        for patch in best] for number, best in found.items()}
    paths = style.save_figure(image_grids.patch_grid(cut, count), out)
    if json_:
        print(json.dumps([{"layer": layer, "unit": number, "patches": [
            {"photo": patch.name, "class": patch.label, "output": patch.output, "box": patch.box}
            for patch in best]} for number, best in found.items()], indent=2))
        return
    called = {number: f"{number}, {names[number]}" if names else f"{number}" for number in found}
    wide = max(4, *map(len, called.values()))
    print(f"{'unit':<{wide}}   largest output   classes of its patches (how many)")
    for number, best in found.items():
        classes = Counter(patch.label for patch in best).most_common()
        most = ", ".join(f"{name} ({times})" for name, times in classes[:3]) or "zero everywhere"
        print(f"{called[number]:<{wide}}   {best[0].output if best else 0.0:14.2f}   {most}"
              + ", …" * (len(classes) > 3))
    print(f"picture: {paths[0]}")


@app.command(name="neighbors", group=LOOK, sort_key=3)
def neighbors_(
    checkpoint: Path, /, *photos: Path, reference_set: str, count: int = 6, split: str = "train", layer: str | None = None,
    out: Path = Path("figures/neighbors.png"), device: Device = "auto", json_: Json = False,
) -> None:
    """Find the images of a data set that lie nearest to yours in the last hidden layer (Figure 4, right).

    Every distance is worked out for up to 100,000 images; for more, install faiss: pip install
    'alexnet[neighbors]'. The set goes through the network once: what comes out is kept in ~/.cache/alexnet/features.

    Parameters
    ----------
    checkpoint
        A checkpoint or a run's folder.
    photos
        Files, or folders of them.
    among
        Images to search: class folders, a packed folder, or a name.
    count
        How many of them to name for each.
    split
        train or val.
    layer
        Whose outputs are compared: the last hidden layer's after their activation unless said.
    out
        The picture to write: .png or .svg.
    """
    _fits(count)
    writable(out, PICTURE)

    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.inference.neighbors import class_of, features_of, neighbors
    from alexnet.inference.predictor import expand, load
    from alexnet.reproduce.figures import figure4, image_grids, style

    if not photos:
        raise ValueError("neighbors takes a checkpoint and then images: "
                         "alexnet neighbors runs/mine PHOTO... --among DATA")
    model = load(checkpoint, choose_device(device))
    paths = expand(photos)
    asked = [model.pixels(path) for path in paths]
    packed = open_data(reference_set, model.preprocess.spec.side)
    images = packed.split(split)
    with Bar("features of the set", "images") as bar:
        features_ND = features_of(model, images, layer, keep_as=f"{packed.fingerprint} {split}", on_progress=bar)
    found = neighbors(model.features(asked, layer), features_ND, images, packed.classes, count)
    if json_:
        print(json.dumps([{"photo": str(path), "nearest": [one.to_json() for one in near]}
                          for path, near in zip(paths, found, strict=True)], indent=2))
    else:
        for path, near in zip(paths, found, strict=True):
            print(path)
            for one in near:
                print(f"  {one.distance:8.2f}  {one.label}  {one.name}")
    shown = slice(ROWS_SHOWN)
    truths = [class_of(path, packed.classes) for path in paths[shown]]
    pictures = style.save_figure(image_grids.neighbor_grid(figure4.neighbor_rows(
        asked[shown], truths, found[shown], images, [path.stem for path in paths[shown]])), out)
    if not json_:
        print(f"picture: {pictures[0]}" + (f", the first {ROWS_SHOWN}" if len(paths) > ROWS_SHOWN else ""))


def _fits(count: int) -> None:
    """Raises ValueError for more or fewer pictures than a row can hold."""
    at_least_1(count=count)
    if count > COLUMNS:
        raise ValueError(f"--count {count} must be at most {COLUMNS}, as many as fit side by side into a picture")


@app.command(group=WORK, sort_key=4)
def report(run: Path, /, *, data: str | None = None) -> None:
    """Write RUN/report.html: one offline page with the result, the curves, the kernels and the mistakes.

    Parameters
    ----------
    run
        A folder that `alexnet train` made.
    data
        The data trained on, for the images in the report, if it has moved since.
    """
    from alexnet.models import checkpoint
    from alexnet.reproduce.report.page import write_report
    from alexnet.reproduce.report.run_data import packed_data
    from alexnet.training.run_folder import read_log

    read_log(run)  # which says so where it is no run
    packed = open_data(data, checkpoint.load(run).arch.input.side) if data else packed_data(run)
    if packed is None:
        say("note: the data is not where it was, so the report shows no images; name it with --data")
    print(f"report: {write_report(run, packed)}")
