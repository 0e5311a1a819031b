"""Image files of a command's arguments, read one by one, and the names of the figures that it draws of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet._runtime.notes import say
from alexnet.cli.app import IMAGE_FILE, check_output, output_files, require_new
from alexnet.errors import UserError

if TYPE_CHECKING:
    from alexnet.inference.neighbors import Query
    from alexnet.inference.predictor import Model

_LONGEST_NAME = 100
"""Letters of an image's name in the name of its figure; a file system takes 255 bytes."""


@dataclass
class ReadImages:
    """What became of image files."""

    paths: list[Path] = field(default_factory=list)
    """Of the images that can be read."""
    queries: list[Query] = field(default_factory=list)
    """Their pixels and content hashes."""
    unreadable: int = 0
    """Number of the others, each of which has been named on standard error."""


def list_images(images: Sequence[str]) -> tuple[Path, ...]:
    """The image files that files and folders mean, each once; what is left out is printed on standard error."""
    from alexnet.data.image_tree import list_image_files

    listed = list_image_files(images)
    for note in listed.notes:
        say(f"note: {note}")
    return tuple(dict.fromkeys(listed.paths))


def read_images(model: Model, files: Sequence[Path]) -> ReadImages:
    """Read images as the network takes them. An unreadable one among several is named on standard error.

    Raises:
        UserError: none of them can be read; it is of the first one.
    """
    from alexnet.data.content import content_hash
    from alexnet.inference.neighbors import Query

    read, problems = ReadImages(), list[UserError]()
    for path in files:
        try:
            pixels_HWC = model.pixels(path)
        except UserError as error:
            problems.append(error)
        else:
            read.paths.append(path)
            read.queries.append(Query(pixels_HWC, content_hash(path.read_bytes())))
    if problems and not read.paths:
        raise problems[0]
    for problem in problems:
        say(f"alexnet: {problem}")
    read.unreadable = len(problems)
    return read


def figure_files(out: Path | None, default: str, images: Sequence[Path] = (), *, overwrite: bool = False,
                 endings: Sequence[str] = IMAGE_FILE) -> list[Path]:
    """The files of a command's figures: one for each image, or one for none. None exists, unless `overwrite` is set.

    A single figure is `out`. The figures of several images have the images' names behind that of `out`.

    Args:
        out: the file that the user named; None: `default` in figures/, with a number if that exists.
        default: name of the figure.
        images: of which figures are drawn.
        overwrite: whether existing files are replaced.
        endings: that the file may have.

    Raises:
        UserError: a file that the user named exists, or cannot be written.
    """
    chosen = Path("figures") / default if out is None else out
    check_output(chosen, endings, overwrite=True)
    ending = chosen.suffix
    stem = chosen.with_suffix("") if ending else chosen
    names = [f"{stem.name}-{image.stem[:_LONGEST_NAME]}" for image in images] if len(images) > 1 else [stem.name]
    found: list[Path] = []
    for name in names:
        free = (path for path in _numbered(stem.parent, name, ending) if path not in found)
        first = next(free)
        while out is None and not overwrite and any(file.exists() for file in output_files(first, endings)):
            first = next(free)
        require_new(output_files(first, endings), overwrite)
        found.append(first)
    return found


def _numbered(folder: Path, name: str, ending: str) -> Iterator[Path]:
    """NAME, NAME-2, NAME-3, ... with the ending."""
    yield folder / f"{name}{ending}"
    for number in count(2):
        yield folder / f"{name}-{number}{ending}"
