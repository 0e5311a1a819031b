"""The `alexnet` command: one function a subcommand, each importing what it needs when called.

Here stand the commands that work: pack, train, evaluate, predict and the rest. Those that look inside are in inside.py.
"""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from cyclopts import Parameter

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import wait_briefly
from alexnet.architecture.presets import ARCHS, RECIPES, arch, default_recipe, finetune_recipe, recipe
from alexnet.cli import inspect_commands, serve  # noqa: F401 - each module adds its commands to the app
from alexnet.cli.app import (
    NUMBERS,
    PAGE,
    WEIGHTS,
    WORK,
    Device,
    Fast,
    Json,
    Memory,
    Set,
    Wanted,
    app,
    at_least_1,
    configure,
    main,
    measurable,
    open_data,
    say,
    writable,
)

if TYPE_CHECKING:
    from alexnet.data.packed import PackedDataset


__all__ = ["app", "main"]

@app.command(group=WORK, sort_key=0)
def demo(
    *, out: Path = Path("runs/demo"), seed: int = 0, epochs: int | None = None,
) -> None:
    """Train, measure and report on images that come with the install; offline, a few minutes.

    A demo that was interrupted goes on by itself; a finished one is kept.

    Parameters
    ----------
    out
        Folder for the run: data, checkpoints, log and report.
    seed
        Decides the weights, the order and the views.
    epochs
        15 unless said; fewer for a quick look.
    """
    from alexnet.reproduce.demo import demo as run_demo

    page = run_demo(out, seed=seed, epochs=epochs)
    print(f"report: {page}")


@app.command(group=NUMBERS, sort_key=1)
def explain(
    name: Annotated[str, Parameter(name="arch")] = "paper", /, *, size: int | None = None, layer: str | None = None,
    diff: str | None = None, html: Path | None = None, set_: Set = None, json_: Json = False,
) -> None:
    """Show how every size of a network comes about, with the numbers put in; or what sets two networks apart.

    Parameters
    ----------
    name
        paper, paper-conv6, code2012, caffe, caffenet, torchvision, one-gpu, paper-bn, torchvision-bn, cifar or small.
    size
        Side in pixels of the square that is fed.
    layer
        Tell one layer's whole story, such as conv1.
    diff
        Another network: list what differs, layer by layer and in the recipe, with the source of each number.
    html
        Write an interactive page instead: change any number, and see the sizes follow and the kernel slide.
    """
    from rich.console import Console

    from alexnet.architecture import differences
    from alexnet.architecture.arithmetic import explain as work_out
    from alexnet.cli import render as render_module
    from alexnet.cli.render import explanation_table

    network, chosen = configure(arch(name), None, set_)
    if diff is not None:
        if size is not None or layer is not None or html is not None:
            raise ValueError("--diff compares whole networks at their own sizes; leave out --size, --layer and --html")
        other = arch(diff)
        if json_:
            print(json.dumps(differences.to_json(network, other, chosen), indent=2))
        else:
            Console(highlight=False).print(render_module.differences_table(network, other, chosen))
        return
    if html is not None:
        from alexnet.architecture import explorer

        if layer is not None or json_:
            raise ValueError("--html writes a page of all layers; leave out --layer and --json")
        writable(html, PAGE)
        explorer.write(html, network, size)
        print(html)
        return
    explanation = work_out(network, size)
    if json_:
        print(json.dumps(explanation.to_json(), indent=2))
    else:
        Console(highlight=False).print(explanation_table(explanation, layer))


@app.command(group=WEIGHTS, sort_key=2)
def pack(
    source: str, dest: Path, /, *, side: int | None = None, codec: Literal["raw", "jpeg"] = "raw", quality: int = 90,
    held_out: float = 0.1, workers: int | None = None, allocator: Memory = "keep",
) -> None:
    """Prepare images once: rescale, crop, and write them into shards that training reads fast.

    Parameters
    ----------
    source
        A folder of class folders (with or without train/ and val/), a folder with the ILSVRC-2012 archives,
        cifar-10-binary.tar.gz, or the name cifar10 or embedded.
    dest
        Folder to write; unfinished packing there is gone on with.
    side
        Side of the stored square: 256 as in the paper, unless the images are tiny.
    codec
        raw (uint8, a plain .npy) or jpeg (a WebDataset tar, a tenth of the size).
    quality
        Of the jpeg codec.
    held_out
        Share of each class held out for validation where the source has no split.
    workers
        Threads; all cores unless said.
    allocator
        keep: memory of one image serves for the next (Linux); system: as it was.
    """
    at_least_1(side=side, workers=workers)
    set_allocator(allocator)

    from alexnet.data.packing import choose_side, pack_with_bar
    from alexnet.data.sources.detect import open_dataset

    dataset = open_dataset(source, held_out=held_out)
    for note in dataset.notes:
        say(f"note: {note}")
    packed = pack_with_bar(
        dataset, dest, side=side or choose_side(dataset), codec=codec, quality=quality, workers=workers)
    _describe(packed)


@app.command(group=WEIGHTS, sort_key=3)
def verify(data: str, /) -> None:
    """Read every byte of a packed folder, and name the files that are missing, cut off or damaged.

    Other commands check all but the images themselves, whose bytes would take as long to check as to read.

    Parameters
    ----------
    data
        A folder that `alexnet pack` made.
    """
    from alexnet._runtime.progress import Bar
    from alexnet.data.packed import open_packed

    if "://" in data:
        raise ValueError(f"{data} is an address: what is streamed from it is checked as it arrives; name a folder")
    packed = open_packed(data)
    with Bar("verifying", "files") as bar:
        packed.verify(bar)
    print(f"{data}: all {len(packed.manifest['files']):,} files are as they were written")


def _describe(packed: PackedDataset) -> None:
    counts = ", ".join(f"{len(packed.split(name)):,} {name}" for name in packed.splits)
    print(f"{packed.path}: {len(packed.classes)} classes, {counts}, {packed.side}x{packed.side} pixels, {packed.codec}")


@app.command(group=WORK, sort_key=1)
def train(
    data: str, /, *, arch_: Annotated[str | None, Parameter(name="--arch")] = None,
    recipe_: Annotated[str | None, Parameter(name="--recipe")] = None, epochs: int | None = None,
    out: Path | None = None, resume: bool = False, seed: int = 0, set_: Set = None, device: Device = "auto",
    precision: Wanted = "auto", workers: int = 2, save_minutes: float = 10.0,
    init: str | None = None, freeze: str | None = None, allocator: Memory = "keep",
    parallel: Literal["data", "towers", "hybrid"] = "data",
    timeout: float = 20.0, micro_batch: int | None = None,
) -> None:
    """Train a network and leave its best and last checkpoints, a log and a report.

    Ctrl-C and SIGTERM leave a checkpoint; --resume goes on from it and ends where an uninterrupted run would. On
    several devices or hosts: torchrun --nproc-per-node 2 -m alexnet train ..., with the options as they are for one.

    Parameters
    ----------
    data
        A folder of class folders, a packed folder, the name cifar10 or embedded, or the URL (http, https or file) of a
        folder that `alexnet pack SOURCE DEST --codec jpeg` made, which is then streamed.
    arch_
        paper unless said; `alexnet presets` lists them. For images of 64 pixels and less, and for an answer within
        minutes: small; for 32 pixels: cifar.
    recipe_
        paper, code2012, caffe, torchvision, modern, cifar, lars or finetune; unless said, the one that goes with the
        network; with --init, finetune at a tenth of that one's rate.
    epochs
        Instead of the recipe's.
    out
        Folder for the run; runs/ARCH-DATA unless said, or runs/finetune-DATA.
    resume
        Go on with the run in that folder, if there is one.
    seed
        Decides the weights, the order and the views.
    precision
        auto: bf16 where the processor has instructions for it, fp32 elsewhere. fp16 needs a GPU.
    workers
        Threads that read ahead; they do not change the result.
    save_minutes
        How often, besides after every epoch, the last checkpoint is written.
    init
        Fine-tune: begin from the weights of a checkpoint, or of torchvision's by that name. The classes may be others.
    freeze
        Layers that stay as they are: conv, which is all convolutions, or names such as conv1,conv2.
    allocator
        keep: freed memory stays with the process for the next step (Linux); system: as it was.
    parallel
        Under torchrun. data: each process has its share of every batch; towers: each has one of the paper's towers;
        hybrid: "one weird trick", each has its share of every batch and of the fully connected layers' units.
    timeout
        Under torchrun: seconds that a process waits for the others before it takes one of them for lost.
    micro_batch
        Images that a device works on at a time, where its memory does not hold its share of a batch. Their
        gradients add up to the batch's; only batch normalization notices.
    """
    memory = set_allocator(allocator)  # before torch is imported, as is the next
    wait_briefly()

    from alexnet._runtime.devices import choose_device, choose_precision
    from alexnet._runtime.native import level
    from alexnet._runtime.progress import TrainingBar
    from alexnet.models.formats.open_weights import open_weights
    from alexnet.training.build import build
    from alexnet.training.parallel.process_group import init_distributed
    from alexnet.training.resume import resumable
    from alexnet.training.spec import RunSpec

    what = arch_ or ("finetune" if init else "paper")
    called = Path(data).resolve().name if Path(data).exists() else PurePosixPath(urlsplit(data).path).name
    out = out or Path("runs") / f"{what}-{called}"
    device = choose_device(device)
    with init_distributed(device, timeout) as world:
        with world.error_barrier():
            resume = resume or world.restarted
            begun = world.from_rank0(lambda: resumable(out) if resume else None)
            start = open_weights(init) if init and not begun else None
            if begun and not (arch_ or recipe_ or set_):
                network, chosen, state = begun
                seed = state.seed
            else:
                own = arch(arch_) if arch_ else start.arch if start else begun[0] if begun and init else arch("paper")
                way = recipe(recipe_) if recipe_ else finetune_recipe(own) if init else None
                network, chosen = configure(own, way, set_)
            if freeze and not (init or begun):
                raise ValueError(f"--freeze {freeze} without --init would keep weights that were drawn at random; add "
                                 "--init CHECKPOINT, or leave it out")
            chosen = replace(chosen, epochs=epochs) if epochs is not None else chosen
            chosen = replace(chosen, freeze=freeze.replace(",", " ")) if freeze is not None else chosen
            packed = world.local_rank0_first(lambda: open_data(data, network.input.side))
            arithmetic = choose_precision(begun[2].precision if begun and precision == "auto" else precision, device)
            watch = TrainingBar(chosen.epochs)
            run = build(RunSpec(packed, network, chosen, out, seed=seed, device=str(world.device),
                precision=arithmetic, resume=resume, workers=workers, save_minutes=save_minutes, init=start,
                about={"command": shlex.join(["alexnet", *sys.argv[1:]]), "allocator": memory},
                parallel=parallel, micro_batch=micro_batch), on_event=watch.see, processes=world)
        if start:
            say(_begun_from(init or "", run.provenance["init"], chosen.freeze))
        say(f"{network.name}, {run.strategy.shards.parameter_count:,} parameters, recipe {chosen.name}, "
            f"{len(run.training):,} images of {len(packed.classes)} classes; writing {out}")
        say(f"{device}, {arithmetic}, kernels: {level() or 'none'}, allocator: {memory}"
            + (f"; {world.size} processes, {parallel}" if world.size > 1 else ""))
        if begun and run.state.epoch >= chosen.epochs:
            say(f"its {run.state.epoch} epochs are done, and {chosen.epochs} were asked for; --epochs says how many")
        elif begun:
            say(f"going on after {run.state.epoch} of {chosen.epochs} epochs, at step {run.state.step:,}")
        with watch if world.first else nullcontext():
            run.fit()
    if not world.first:
        return
    from alexnet.reproduce.report import report as write_report  # its matplotlib is half a second that no run waits for

    page = write_report(out, packed)
    print(f"best top-1 error {run.state.best_error:.1%} in {out / 'best'}; report: {page}")


def _begun_from(path: str, origin: dict[str, Any], frozen: str) -> str:
    drawn = f"{', '.join(origin['drawn'])} begins anew" if origin["drawn"] else "nothing begins anew"
    return (f"beginning from {path}: {', '.join(origin['taken'])} taken, {drawn}"
            + (f"; {frozen} frozen" if frozen else ""))


@app.command(group=WORK, sort_key=2)
def evaluate(
    *paths: Annotated[str, Parameter(name="CHECKPOINT... DATA")], views: Literal["1", "10"] = "1",
    split: str | None = None, batch_size: int = 128, device: Device = "auto", fast: Fast = False, json_: Json = False,
) -> None:
    """Measure top-1 and top-5 error of a checkpoint, or of several as an ensemble, on the validation images.

    Under torchrun each process measures its share of them.

    Parameters
    ----------
    paths
        One or more checkpoints (or run folders), then the data: class folders, a packed folder or its
        URL (http, https or file), or a name.
    views
        1, the center; 10, four corners and the center with their mirror images, averaged (paper, section 4.1).
    split
        val unless said. A folder that has no split, and is not the one trained on, is measured whole.
    """
    at_least_1(batch_size=batch_size)
    set_allocator()
    wait_briefly()

    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.inference.evaluate import evaluate as measure
    from alexnet.training.parallel.process_group import init_distributed

    if len(paths) < 2:
        raise ValueError("evaluate takes at least one checkpoint and then the data: alexnet evaluate runs/demo DATA")
    with init_distributed(choose_device(device)) as world:
        with world.error_barrier():
            models, images, label_map, _ = world.local_rank0_first(
                lambda: measurable(paths, split, str(world.device), fast))
        bar = Bar(f"evaluating, {views} view{'s' * (views != '1')}", "images")
        with bar if world.first else nullcontext():
            errors = world.sum_errors(measure(
                [(model.answering, model.preprocess) for model in models], images, views=int(views),
                batch_size=batch_size, device=world.device, on_progress=bar if world.first else None,
                label_map=label_map, share=(world.rank, world.size)))
    if not world.first:
        return
    if json_:
        print(json.dumps(errors.to_json() | {"views": int(views), "networks": len(models)}, indent=2))
    else:
        measured = ", ".join(str(model.place or path) for model, path in zip(models, paths[:-1], strict=True))
        said = errors.describe(views=int(views), networks=len(models), classes=len(models[0].classes))
        print(f"{measured}: {said}")


@app.command(group=WORK, sort_key=3)
def predict(
    checkpoint: Path, /, *photos: str, top: int = 5, views: Literal["1", "10"] = "1", device: Device = "auto",
    fast: Fast = False, allow_private: bool = False, json_: Json = False,
    csv_: Annotated[bool, Parameter(name="--csv", help="Print CSV.")] = False,
) -> None:
    """Name what is in images.

    Parameters
    ----------
    checkpoint
        A checkpoint or a run's folder.
    photos
        Files, folders of them, or http and https addresses.
    top
        How many classes to name, the likeliest first.
    views
        1: the center. 10: corners, center and their mirror images, averaged, as the paper does (§4.1).
    allow_private
        Follow an address's redirect into a private network too.
    """
    wait_briefly()

    from alexnet._runtime.devices import choose_device
    from alexnet.data.images import BadImage
    from alexnet.data.url_images import fetch_image, is_address
    from alexnet.inference.predictor import BATCH, expand, load

    if not photos:
        raise ValueError("predict takes a checkpoint and then images: alexnet predict runs/demo PHOTO...")
    if json_ and csv_:
        raise ValueError("--json and --csv are two forms of the same; give one of them")
    model = load(checkpoint, choose_device(device), fast)
    rows: list[dict[str, Any]] = []
    broken = 0
    paths = iter([path for photo in photos
                  for path in ([photo] if is_address(photo) else map(str, expand([photo])))])
    while some := list(islice(paths, BATCH)):
        read = []
        for path in some:
            try:
                read.append((path, model.pixels(
                    fetch_image(path, allow_private) if is_address(path) else path, name=path)))
            except BadImage as error:
                broken += 1
                say(f"alexnet: {error}")
        answers = model.predict([pixels for _, pixels in read], top=top, views=int(views))
        rows += [{"photo": path, "classes": [
            {"name": guess.name, "probability": guess.probability} for guess in guesses]}
            for (path, _), guesses in zip(read, answers, strict=True)]
    if json_:
        print(json.dumps(rows, indent=2))
    elif csv_:
        import csv

        writer = csv.writer(sys.stdout)
        writer.writerow(["photo", "rank", "class", "probability"])
        writer.writerows([row["photo"], rank, guess["name"], f"{guess['probability']:.6f}"]
                         for row in rows for rank, guess in enumerate(row["classes"], 1))
    else:
        for row in rows:
            print(row["photo"])
            for guess in row["classes"]:
                print(f"  {guess['probability']:6.1%}  {'█' * round(24 * guess['probability']):<24}  {guess['name']}")
    if broken:
        sys.exit(2)


@app.command(name="import", group=WEIGHTS, sort_key=0)
def import_(
    file: str, out: Path, /, *,
    from_: Annotated[Literal["torchvision", "caffe"] | None, Parameter(name="--from")] = None,
    prototxt: Path | None = None, mean: str | None = None, classes: Path | None = None,
) -> None:
    """Turn weights of others into a checkpoint, with preprocessing and classes. Nothing in them is run.

    Parameters
    ----------
    file
        torchvision's alexnet-owt-*.pth (fetched, where there is no such file), a state dict of that network, a
        .caffemodel, or a folder that `alexnet export` wrote in the Hugging Face hub's layout.
    out
        Folder for the checkpoint.
    from_
        torchvision or caffe; unless said, the file's ending tells.
    prototxt
        Caffe's description of the network; unless given, the one inside the .caffemodel.
    mean
        Caffe's mean: a .binaryproto, or three numbers for blue, green and red, such as 104,117,123.
    classes
        A file with the name of one class a line; ImageNet's unless given, where there are 1,000.
    """
    from alexnet.models import checkpoint
    from alexnet.models.formats.caffe import read_caffe
    from alexnet.models.formats.huggingface import read_hub
    from alexnet.models.formats.torchvision import fetch_torchvision, official_name, read_torchvision

    if any((out / part / checkpoint.HEAD).exists() for part in ("", "best", "last")) or (out / "log.jsonl").exists():
        raise ValueError(f"{out} already holds a checkpoint; name another folder")
    names = classes.read_text(encoding="utf-8-sig").rstrip().splitlines() if classes else None
    path = Path(file)
    if path.is_dir():
        if from_ or prototxt or mean or names:
            raise ValueError(f"{file} is a folder, which brings preprocessing and classes along; leave out --from, "
                             "--prototxt, --mean and --classes, or name a file")
        saved = read_hub(path)
    elif from_ == "caffe" or (not from_ and path.suffix in (".caffemodel", ".prototxt", ".binaryproto")):
        saved = read_caffe(path, prototxt=prototxt, mean=_mean(mean), classes=names)
    else:
        if prototxt or mean:
            raise ValueError("--prototxt and --mean belong to Caffe's files; torchvision's mean is known")
        if not path.exists() and (official := official_name(file)):
            path = fetch_torchvision(official)
        saved = read_torchvision(path, names)
    checkpoint.save(saved, out)
    spec = saved.arch.input
    print(f"{out}: {saved.arch.name}, {sum(tensor.numel() for tensor in saved.weights.values()):,} parameters, "
          f"{len(saved.classes):,} classes ({saved.classes[0]}, ...); {spec.channels} views of {spec.crop}x{spec.crop} "
          f"from {spec.side}x{spec.side}")


def _mean(text: str | None) -> Path | tuple[float, float, float] | None:
    """--mean: three numbers, or a file."""
    try:
        blue, green, red = map(float, (text or "").split(","))
    except ValueError:
        return Path(text) if text else None
    return blue, green, red


@app.command(group=WEIGHTS, sort_key=1)
def export(
    checkpoint: str, out: Path, /, *, to: Literal["onnx", "torch-export", "torchvision", "safetensors"] | None = None,
    from_pixels: bool = False,
) -> None:
    """Write a network for other software, and check that it answers as ours does.

    Parameters
    ----------
    checkpoint
        A checkpoint or a run's folder.
    out
        File to write; for safetensors, a folder.
    to
        onnx; torch-export, a program for torch.export.load; torchvision, a state dict for torchvision's alexnet;
        safetensors, a folder in the layout of the Hugging Face hub: config, weights, model card. Unless said, the
        ending tells: .onnx, .pt2, .pth, or none.
    from_pixels
        onnx and torch-export: take stored uint8 images, and do the preprocessing too.
    """
    from alexnet.models.formats.onnx import export as write
    from alexnet.models.formats.open_weights import open_weights

    endings = {".onnx": "onnx", ".pt2": "torch-export", ".pth": "torchvision", "": "safetensors"}
    if to is None and out.suffix not in endings:
        raise ValueError(f"{out} does not tell the format by its ending (.onnx, .pt2, .pth, or none for a folder with "
                         "safetensors); add --to onnx, torch-export, torchvision or safetensors")
    print(write(open_weights(checkpoint), out, to or endings[out.suffix], from_pixels=from_pixels))


@app.command(name="presets", group=NUMBERS, sort_key=0)
def presets(*, json_: Json = False) -> None:
    """List the networks and recipes that have names."""
    from alexnet.architecture.arithmetic import explain as work_out

    rows = [{"name": name, "parameters": work_out(network).parameters, "input": network.input.crop,
             "recipe": default_recipe(network).name} for name, network in ARCHS.items()]
    if json_:
        print(json.dumps({"networks": rows, "recipes": list(RECIPES)}, indent=2))
        return
    for row in rows:
        print(f"{row['name']:<16}{row['parameters']:>12,} parameters {row['input']:>5} pixels   recipe {row['recipe']}")
    print(f"recipes: {', '.join(RECIPES)}")
