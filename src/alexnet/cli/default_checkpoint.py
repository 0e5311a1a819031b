"""The checkpoint of a command, or the pretrained network of the package where the arguments name none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alexnet._runtime.notes import say
from alexnet.errors import require

_RUN_FILES = ("config.json", "log.jsonl")
"""A folder with one of them is a run, possibly without a checkpoint, and no folder of images."""

_WEIGHTS_OF_OTHERS = (".caffemodel", ".prototxt", ".json", ".tar")
"""Endings of files that `open_weights` refuses with a remedy, and that are no images."""


def default_checkpoint() -> str:
    """The path of the pretrained network, which is named to the user in one line.

    Raises:
        UserError: this installation has none.
    """
    from alexnet.models.packaged import default_weights, read_packaged_json

    path = default_weights()
    tree = read_packaged_json(path)
    network = tree["network"]
    errors, side = network["errors"], network["arch"]["input"]["side"]
    measured = f", top-1 error {errors['top1_error']:.1%} on its validation images" if errors else ""
    summary = f"{len(network['classes'])} classes, {side}x{side} pixels{measured}"
    say(f"no checkpoint named: using {tree['name']} ({summary})")
    return str(path)


def split_checkpoint(command: str, paths: Sequence[str], *others: str) -> tuple[str, list[str]]:
    """The checkpoint, and the other arguments of a command that takes a fixed number of them.

    Args:
        command: for the error, such as `attribute`.
        paths: all arguments.
        others: the names of those after the checkpoint, such as IMAGE.

    Raises:
        UserError: there are too few or too many arguments, or the only checkpoint stands where an image or data should.
    """
    usage = f"{command} takes [CHECKPOINT] {' '.join(others)}, and got {len(paths)} argument{'s' * (len(paths) != 1)}"
    example = f"see alexnet {command} --help"
    require(len(paths) in (len(others), len(others) + 1), usage, example)
    if len(paths) > len(others):
        return paths[0], list(paths[1:])
    require(not means_run(paths[0]), f"{command} needs {' '.join(others)} after the checkpoint {paths[0]}", example)
    return default_checkpoint(), list(paths)


def split_images(command: str, paths: Sequence[str], options: str = "") -> tuple[str, list[str]]:
    """The checkpoint, if the first argument means one, else the default; and the images.

    Args:
        command, paths: as for `split_checkpoint`.
        options: that the command needs besides, for the error.

    Raises:
        UserError: there is no image.
    """
    from alexnet.data.url_images import is_url

    example = f"write: alexnet {command} [CHECKPOINT] IMAGE... {options}".rstrip()
    require(bool(paths), f"{command} needs images", example)
    first = paths[0]
    path = Path(first)
    if not means_checkpoint(first):
        require(is_url(first) or path.exists(), f"{first} does not exist", "name an image, or a folder of images")
        return default_checkpoint(), list(paths)
    problem = f"{command} needs images after the checkpoint {first}"
    if not means_run(first) and not is_url(first) and not path.is_file():
        problem = f"{first} holds no images" if path.is_dir() else f"{first} does not exist"
    require(len(paths) > 1, problem, example)
    return first, list(paths[1:])


def means_run(argument: str) -> bool:
    """Whether an argument means weights, or is the folder of a run or of several runs."""
    from alexnet.models.formats.recognize import is_weights, runs_of_series

    path = Path(argument)
    return is_weights(argument) or any((path / name).exists() for name in _RUN_FILES) or bool(runs_of_series(path))


def means_checkpoint(argument: str) -> bool:
    """Whether the first of several arguments means a checkpoint, and not an image or a folder of images.

    A folder without an image means a checkpoint, and so does a path that does not exist, unless it ends as an image
    does: the error about a checkpoint says what a checkpoint is.
    """
    from alexnet.data.image_formats import supported_extensions, unsupported_extensions
    from alexnet.data.image_tree import file_extension, gather_images
    from alexnet.data.tree import FolderTree
    from alexnet.data.url_images import is_url
    from alexnet.models.formats.recognize import TORCH_SUFFIXES

    path, ending = Path(argument), file_extension(argument)
    if means_run(argument):
        return True
    if path.is_dir():
        return gather_images(FolderTree(path))[0].image_count == 0
    if path.is_file() or is_url(argument):
        return ending in (*TORCH_SUFFIXES, ".safetensors", ".onnx", ".pt2", ".npy", *_WEIGHTS_OF_OTHERS)
    return ending not in supported_extensions() and ending not in unsupported_extensions()
