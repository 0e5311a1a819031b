"""The `compare` command: differing settings of runs, their errors, and paired tests on the same images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import set_openmp_defaults
from alexnet._runtime.notes import say
from alexnet.cli.app import (
    TRAIN_AND_EVALUATE,
    Classes,
    Device,
    ForwardSize,
    Json,
    Labels,
    Split,
    app,
    at_least_1,
    class_names,
)
from alexnet.errors import UserError, require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from alexnet.inference.metrics import Errors
    from alexnet.inference.selection import Selection
    from alexnet.models.checkpoint import Checkpoint


@app.command(group=TRAIN_AND_EVALUATE, sort_key=6)
def compare(
    *paths: Annotated[str, Parameter(name="RUN... [DATA]")], labels: Labels = None, split: Split = None,
    batch_size: ForwardSize = 128, device: Device = "auto", classes: Classes = None,
    all_settings: bool = False, json_: Json = False,
) -> None:
    """Compare runs: the settings in which they differ, their errors, and whether the difference is more than chance.

    All networks classify the same images, which none of them was trained on. McNemar's exact test compares each pair;
    with more than two runs, Holm's method corrects the p-values. The seed of training is a source of differences as
    well: one run of each kind says nothing about kinds of runs.

    Args:
        paths: Two or more runs or checkpoints, then the data. Default of the data: that of the first run.
        all_settings: Print every differing setting, and not only the first eight of the network, of the recipe, and of
            data, seed and software.
    """
    at_least_1(batch_size=batch_size)
    set_allocator()
    set_openmp_defaults()

    from rich.console import Console

    from alexnet.cli.render_metrics import comparison_table
    from alexnet.inference.comparison import paired_tests
    from alexnet.models.formats.open_weights import open_weights
    from alexnet.reproduce.run_settings import differing_settings

    names, data = _split_data(paths)
    given = class_names(classes)
    checkpoints = [open_weights(name, given) for name in names]
    _require_different(checkpoints, names)
    errors, right_RN, selection = _measure(checkpoints, names, data or _data_of_first(checkpoints, names), labels,
                                           split, batch_size, device)
    settings, tests = differing_settings(checkpoints), paired_tests(right_RN)
    if json_:
        print(json.dumps({
            "runs": [{"run": name, "checkpoint": str(saved.path), **each.to_json()}
                     for name, saved, each in zip(names, checkpoints, errors, strict=True)],
            "settings": [asdict(setting) for setting in settings],
            "tests": [{**test.to_json(), "first": names[test.first], "second": names[test.second]} for test in tests],
            "measured": selection.to_json()}, indent=2))
        return
    Console(highlight=False).print(
        comparison_table(names, settings, errors, tests, len(checkpoints[0].classes), all_settings))
    print(selection.describe())


def _split_data(paths: Sequence[str]) -> tuple[list[str], str | None]:
    """The runs, and the data if the last path is no run."""
    from alexnet.models.checkpoint_files import require_single_run
    from alexnet.models.formats.recognize import is_weights

    for path in paths:  # the folder of several runs would be taken for data
        require_single_run(Path(path))
    runs, data = (list(paths), None) if not paths or is_weights(paths[-1]) else (list(paths[:-1]), paths[-1])
    require(len(runs) >= 2, "compare takes at least two runs", "alexnet compare runs/one runs/other [DATA]")
    return runs, data


def _require_different(checkpoints: Sequence[Checkpoint], names: Sequence[str]) -> None:
    """Raise UserError if two names are of one checkpoint, such as a run folder and its best/."""
    former: dict[Path, str] = {}
    for saved, name in zip(checkpoints, names, strict=True):
        if saved.path is not None:
            path = saved.path.resolve()
            require(path not in former, f"{former.get(path)} and {name} are the same checkpoint",
                    "name each checkpoint once")
            former[path] = name


def _data_of_first(checkpoints: Sequence[Checkpoint], names: Sequence[str]) -> str:
    from alexnet.reproduce.run_settings import data_of

    data = data_of(checkpoints[0], {saved.arch.input.side for saved in checkpoints})
    if data is None:
        raise UserError(f"the data of {names[0]} is not known, or no longer where it was",
                        "name the data after the runs")
    return data


def _measure(
    checkpoints: Sequence[Checkpoint], names: Sequence[str], data: str, labels: str | None, split: str | None,
    batch_size: int, device: str,
) -> tuple[list[Errors], NDArray[np.bool_], Selection]:
    """Each network's errors, and whether it is right about each image [runs, images], on images that none has seen."""
    import numpy as np
    import torch

    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.api.evaluation import open_evaluation_set
    from alexnet.inference.evaluate import evaluate
    from alexnet.inference.metrics import predicted_classes
    from alexnet.inference.predictor import model_from_checkpoint

    where = choose_device(device)
    models = [model_from_checkpoint(saved, where) for saved in checkpoints]
    errors: list[Errors] = []
    right: list[NDArray[np.bool_]] = []
    hashes: list[NDArray[np.uint64]] = []
    said = set[str]()

    def note(line: str) -> None:
        if line not in said:
            say(line)
        said.add(line)

    for model, name in zip(models, names, strict=True):
        others = [other for other in models if other is not model]
        images = open_evaluation_set([model, *others], data, split, note=note, labels=labels)  # at this model's side
        labels_N, right_N = images.label_map[images.images.labels].numpy(), np.zeros(len(images.images), bool)

        def record(outputs_nK: NDArray[np.float32], indices: NDArray[np.int64], labels_N: NDArray[np.int64] = labels_N,
                   right_N: NDArray[np.bool_] = right_N) -> None:
            right_N[indices] = predicted_classes(outputs_nK, labels_N[indices]) == labels_N[indices]

        with Bar(f"evaluating {name}", "images") as bar:
            errors.append(evaluate([(model.network, model.preprocess)], images.images, batch_size=batch_size,
                                   label_map=images.label_map, device=torch.device(where), on_progress=bar,
                                   on_outputs=record))
        # Images are matched by content: packs of other sides may have them in another order.
        order = np.argsort(images.images.content_hashes, kind="stable")
        right.append(right_N[order])
        hashes.append(images.images.content_hashes[order])
    require(all(np.array_equal(each, hashes[0]) for each in hashes), "the networks did not classify the same images",
            "give data that is not packed, or runs of the same image side")
    return errors, np.stack(right), images.selection
