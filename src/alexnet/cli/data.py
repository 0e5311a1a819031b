"""The `check`, `pack` and `verify` commands: inspect a data set, pack it, verify checksums of a packed one or a run."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.local_files import require_writable
from alexnet._runtime.notes import is_launched, say
from alexnet._runtime.ranks import OneProcess, Ranks
from alexnet.cli.app import (
    ALLOCATOR_HELP,
    DATA,
    HTML_FILE,
    AllocatorName,
    Classes,
    Device,
    GroupBy,
    Json,
    Labels,
    Overwrite,
    app,
    at_least_1,
    check_output,
    class_names,
)
from alexnet.data.finding_kinds import KINDS
from alexnet.errors import UserError, did_you_mean, require


@app.command(group=DATA, sort_key=0)
def check(
    data: str, /, *, labels: Labels = None, group: GroupBy = None, run: list[str] | None = None, quick: bool = False,
    side: int | None = None, html: Path | None = None, overwrite: Overwrite = False, device: Device = "auto",
    classes: Classes = None, strict: bool = False, ignore: list[str] | None = None,
    workers: int | None = None, json_: Json = False,
) -> None:
    """Check images before training on them: what needs attention first, then how the data is interpreted.

    Finds images that cannot be decoded, copies and near copies within and across splits and classes, classes with few
    images, and small images. Every image is decoded once; the result is kept in ~/.cache/alexnet/scans. Nothing is
    written to the data.

    In a CI job: `alexnet check PHOTOS --strict --ignore few_images_in_all`. The exit code is 0 if nothing else needs
    attention, 1 if anything does, and 2 if the data cannot be checked, as for every command.

    Args:
        data: A folder or archive of images, a packed folder or its URL, or the name cifar10,
            cifar100 or embedded; all that `alexnet train` takes.
        run: A trained network (a run folder or a checkpoint). Finds images that are probably mislabeled, by its
            features. May be repeated: several networks find a few more of them. The folder of `train --seeds` or
            `--folds` means its runs; those of --folds judge each image by the network that was not trained on it.
        quick: Count and list only; decode no image.
        side: Name images whose shorter side is below this many pixels. Default: the input of the run's network, else
            224, the paper's.
        html: Write a page with the images of the findings: copies side by side, suspicious labels, the smallest images,
            and some of each class.
        strict: Exit with code 1 if anything needs attention: every numbered finding counts, whatever its kind; notes
            and what was not checked do not. A last line on standard error names the kinds that count. Without --strict
            the exit code is 0 whatever was found.
        ignore: A kind of finding that does not count for --strict, such as few_images_in_all or small_images. May be
            repeated. --json has the `kind` of each finding. It is printed all the same.
        workers: Threads that decode. Default: one for each core.
    """
    at_least_1(side=side, workers=workers)
    require(strict or not ignore, "--ignore has no effect without --strict", "add --strict, or leave out --ignore")
    for kind in ignore or ():
        require(kind in KINDS, f"--ignore {kind}: there is no such kind of finding", did_you_mean(kind, KINDS))
    if html:
        check_output(html, HTML_FILE, overwrite=overwrite)

    from alexnet.cli.render_check import check_text
    from alexnet.inference.data_check import check as check_data

    require(run is not None or classes is None, "--classes has no effect without --run", "add --run RUN, or leave out "
            "--classes")
    found = check_data(data, labels=labels, group=group, run=run, classes=class_names(classes), quick=quick, side=side,
                       device=device, workers=workers, progress=True)
    print(json.dumps(found.to_json(), indent=2) if json_ else check_text(found))
    if html:
        from alexnet.reproduce.pages.data_check import write_check_page

        write_check_page(html, found)
        say(f"page: {html}")
    if strict and (kinds := dict.fromkeys(each.kind for each in found.findings if each.kind not in (ignore or ()))):
        say(f"--strict: exit code 1, as these need attention: {', '.join(kinds)}")
        sys.exit(1)


@app.command(group=DATA, sort_key=1)
def pack(
    source: str, dest: Path, /, *, side: int | None = None, codec: Literal["raw", "jpeg"] = "raw", quality: int = 90,
    labels: Labels = None, group: GroupBy = None, held_out: float = 0.1, workers: int | None = None,
    allocator: Annotated[AllocatorName, Parameter(help=ALLOCATOR_HELP)] = "keep",
) -> None:
    """Resize and crop the images of a data set once, and write them into shards that training reads fast.

    Under torchrun the processes share the shards; all need DEST on a shared disk. The files are those of one process.

    Args:
        source: A folder or archive (zip, tar) of class folders, with or without train/ and val/, or with a table of
            labels; a folder with the ILSVRC-2012 archives; CIFAR, MNIST or Parquet files; or the name cifar10,
            cifar100 or embedded.
        dest: Folder to write. Interrupted packing is resumed there.
        side: Side of the stored square images in pixels. Default: 256, as in the paper; 64 or 32 for small images.
        codec: raw: uint8 in .npy files. jpeg: WebDataset tar files, a tenth of the size.
        quality: JPEG quality.
        held_out: Fraction of the images of each class that is held out for validation if the source has no validation
            split: 0.2 is a fifth, at least one image of each class.
        workers: Threads of each process. Default: one for each of its cores.
    """
    at_least_1(side=side, workers=workers)
    set_allocator(allocator)

    from alexnet.data.catalog import Catalog
    from alexnet.data.findings import unmeasured_findings
    from alexnet.data.manifest import MANIFEST
    from alexnet.data.open import image_notes
    from alexnet.data.packing import choose_side, pack_with_bar
    from alexnet.data.sources.detect import open_dataset

    if not (dest / MANIFEST).exists():  # else it is packed, perhaps on a disk that is read-only by now
        require_writable(dest, is_folder=True)
    with _ranks() as ranks:
        dataset = ranks.local_rank0_first(lambda: open_dataset(
            source, held_out=held_out, labels=labels, group=group))
        for note in dataset.all_notes:
            say(f"note: {note}")
        packed = pack_with_bar(dataset, dest, side=side or choose_side(dataset), codec=codec, quality=quality,
                               workers=workers, ranks=ranks)
    if ranks.rank:
        return
    for line in [*image_notes(packed), *map(str, unmeasured_findings(Catalog(packed)))]:
        say(f"note: {line}")
    counts = ", ".join(f"{len(packed.split(name)):,} {name}" for name in packed.splits)
    print(f"{packed.path}: {len(packed.classes)} classes, {counts}, {packed.side}x{packed.side} pixels, {packed.codec}")


@contextmanager
def _ranks() -> Iterator[Ranks]:
    """The processes that share a pack. One alone needs no torch."""
    if not is_launched():
        yield OneProcess()
        return
    from alexnet.training.parallel.shared_job import shared_job

    with shared_job("cpu") as processes:
        yield processes


@app.command(group=DATA, sort_key=2)
def verify(data: str, /) -> None:
    """Verify the checksum of every file of a packed folder, of runs or a checkpoint; name what is missing or damaged.

    Other commands verify everything of a packed folder except the image shards, because reading them takes long. Of a
    run or a checkpoint it also prints the SHA-256 of the weights that `alexnet serve` shows for it.

    Args:
        data: A folder that `alexnet pack` wrote; a run folder, whose best/ and last/ are verified; the folder of
            several runs that `train --seeds` or `--folds` wrote; or a checkpoint.
    """
    from alexnet._runtime.progress import Bar
    from alexnet.data.open import image_notes
    from alexnet.data.packed import open_packed

    if "://" in data:
        raise UserError(f"{data} is a URL, whose files are verified when they are downloaded", "name a folder")
    if folders := _checkpoint_folders(Path(data)):
        for folder in folders:
            _verify_checkpoint(folder)
        return
    packed = open_packed(data)
    with Bar("verifying", "files") as bar:
        packed.verify(bar)
    print(f"{data}: all {len(packed.manifest.files):,} files have the right checksum")
    for line in image_notes(packed):
        say(f"note: {line}")


def _checkpoint_folders(path: Path) -> list[Path]:
    """The folders of a run's checkpoints, best/ first, or that of one checkpoint; none of another path.

    Of a folder of several runs, those of each run.

    Raises:
        UserError: best/ of a run that has validated an epoch is missing, or one of several runs has no checkpoint.
    """
    from alexnet.models.checkpoint_files import JSON_FILE, read_checkpoint_json, runs_in, runs_without_checkpoint

    if runs := runs_in(path):
        lost = runs_without_checkpoint(path)
        require(not lost, f"no checkpoint in {' and '.join(map(str, lost))}: the training ended before it saved one, "
                "or best/ and last/ are missing", "restore or train it again, or verify the other runs one by one")
        return [folder for run in runs for folder in _checkpoint_folders(run)]

    if path.name == JSON_FILE and path.is_file():
        return [path.parent]
    found = [folder for folder in (path, path / "best", path / "last") if (folder / JSON_FILE).is_file()]
    if found == [path / "last"]:
        require(math.isinf(read_checkpoint_json(found[0] / JSON_FILE)["training"].get("best_error", math.inf)),
                f"{path} has no best/, although an epoch of the run was validated", "restore it from a copy")
    return found


def _verify_checkpoint(folder: Path) -> None:
    from alexnet.models import checkpoint as ckpt
    from alexnet.models.checkpoint_files import verify_files

    files = verify_files(folder)
    served = ckpt.load(folder, fall_back=False).describe()["sha256"]
    print(f"{folder}: all {files} files have the right checksum; alexnet serve shows the weights as SHA-256 {served}")
