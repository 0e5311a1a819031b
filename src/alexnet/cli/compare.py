"""The `compare` command: differing settings of runs, errors, and tests of two runs or of two series of seeds."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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
    Groups,
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

    from alexnet.api.evaluation import EvaluationSet
    from alexnet.inference.metrics import Errors
    from alexnet.inference.predictor import Model
    from alexnet.inference.selection import Selection
    from alexnet.models.checkpoint import Checkpoint
    from alexnet.reproduce.seed_series import Series


@dataclass(frozen=True)
class _Measured:
    """Networks on the same images: R networks, N images."""

    errors: list[Errors]
    right_RN: NDArray[np.bool_]
    """Whether each network classified each image correctly."""
    groups_N: NDArray[np.uint64] | None
    """Equal for images that belong together; None for images without groups."""
    selection: Selection


@app.command(group=TRAIN_AND_EVALUATE, sort_key=6)
def compare(
    *paths: Annotated[str, Parameter(name="RUN... [DATA]")],
    with_: Annotated[list[str] | None, Parameter(name="--with", consume_multiple=True)] = None, labels: Labels = None,
    group: Groups = None, split: Split = None, batch_size: ForwardSize = 128, device: Device = "auto",
    classes: Classes = None, all_settings: bool = False, json_: Json = False,
) -> None:
    """Compare runs: the settings in which they differ, their errors, and whether the difference is more than chance.

    All networks classify the center crops of the same images, which none of them was trained on (with `--split train`:
    training images, and the output says so). McNemar's exact test compares each pair; of images in groups (--group), a
    sign-flip test over groups. With more than two runs, Holm's method corrects the p-values, and not the intervals. The
    seed of training is a source of differences as well: one run of each kind says nothing about kinds of runs.

    With --with, two series of runs are compared, one run for each seed: `alexnet compare runs/a/seed-* --with
    runs/b/seed-* DATA`. A t test compares their top-1 errors, paired by seed where both series have the same seeds and
    validation images.

    Errors are those of each run's best epoch; with --with, those of its last epoch, as `train --seeds` prints them.
    RUN/best and RUN/last name one of the two.

    Args:
        paths: Two or more runs or checkpoints, then the data. Default of the data: that of the first run.
        with_: Runs of the second series; the runs before it are the first. A folder that `train --seeds` wrote stands
            for its runs.
        all_settings: Print every differing setting, and not only the first eight of the network, of the recipe, and of
            data, seed and software.
    """
    at_least_1(batch_size=batch_size)
    set_allocator()
    set_openmp_defaults()

    from alexnet.models.formats.open_weights import open_weights

    names, others, data = _split_data(paths, with_)
    given = class_names(classes)
    every = [*names, *others]
    # The best epoch of a run is chosen by its validation images, so that its error on them is too low. A series is
    # judged by the last one, as the results of this project are.
    checkpoints = [open_weights(name if with_ is None else _last_epoch(name), given) for name in every]
    is_series = len(others) > 1
    _require_different(checkpoints, every, is_series)
    if others and not is_series:
        say("note: one run in each series, so there is no spread over seeds; McNemar's test compares these two "
            "networks, and says nothing about other seeds")
    series = _two_series(names, others, checkpoints) if is_series else None
    measured = _measure(checkpoints, every, data or _data_of_first(checkpoints, every), labels, group, split,
                        batch_size, device, is_series)
    if series:
        _print_series(series, measured, all_settings, json_)
    else:
        _print_pairs(every, checkpoints, measured, all_settings, json_)


def _print_pairs(
    names: Sequence[str], checkpoints: Sequence[Checkpoint], measured: _Measured, all_settings: bool, json_: bool,
) -> None:
    from rich.console import Console

    from alexnet.cli.render_metrics import comparison_table
    from alexnet.cli.render_series import epochs_text
    from alexnet.inference.comparison import paired_tests
    from alexnet.reproduce.run_settings import differing_settings

    settings, tests = differing_settings(checkpoints), paired_tests(
        measured.right_RN, measured.groups_N)
    if json_:
        print(json.dumps({
            "runs": [{"run": name, "checkpoint": str(saved.path), "epoch": saved.training.get("epoch"),
                      **each.to_json()}
                     for name, saved, each in zip(names, checkpoints, measured.errors, strict=True)],
            "settings": [asdict(setting) for setting in settings],
            "tests": [{**test.to_json(), "first": names[test.first], "second": names[test.second]} for test in tests],
            "views": 1, "measured": measured.selection.to_json()}, indent=2))
        return
    Console(highlight=False).print(comparison_table(
        names, settings, measured.errors, tests, len(checkpoints[0].classes), all_settings))
    print(epochs_text(names, [saved.path for saved in checkpoints]))
    _print_limits(names, checkpoints, measured.selection)


def _print_series(series: tuple[Series, Series], measured: _Measured, all_settings: bool, json_: bool) -> None:
    from rich.console import Console

    from alexnet.cli.render_series import epochs_text, series_table
    from alexnet.reproduce.run_settings import differing_settings
    from alexnet.reproduce.seed_series import compare_series, spread_json

    first, second = series
    runs = len(first.names)
    errors = measured.errors[:runs], measured.errors[runs:]
    test = compare_series(first, second, errors)
    # The first runs stand for their series: within one, only the seed and the best epoch differ.
    settings = [setting for setting in differing_settings([first.checkpoints[0], second.checkpoints[0]])
                if setting.name not in ("seed", "epoch", "step")]
    if json_:
        print(json.dumps({
            "runs": [{"run": name, "checkpoint": str(saved.path), "epoch": saved.training.get("epoch"), "seed": seed,
                      **each.to_json()}
                     for one, values in zip(series, errors, strict=True) for name, saved, seed, each in zip(
                         one.names, one.checkpoints, one.seeds, values, strict=True)],
            "settings": [asdict(setting) for setting in settings],
            "series": [spread_json(one, values) for one, values in zip(series, errors, strict=True)],
            "test": test.to_json(), "views": 1, "measured": measured.selection.to_json()}, indent=2))
        return
    Console(highlight=False).print(series_table(series, settings, errors, test, all_settings))
    print(epochs_text([*first.names, *second.names],
                      [saved.path for saved in (*first.checkpoints, *second.checkpoints)]))
    _print_limits(("A", "B"), [first.checkpoints[0], second.checkpoints[0]], measured.selection)


def _print_limits(names: Sequence[str], checkpoints: Sequence[Checkpoint], selection: Selection) -> None:
    """Say what was measured, that a test on training images is none of generalization, and what is not recorded."""
    from alexnet.models.training_facts import unrecorded_transform

    print(selection.describe())
    if selection.includes_trained:
        print("The test compares how well the networks fit images that they were trained on; it is no test of "
              "generalization.")
    if line := unrecorded_transform({name: saved.training for name, saved in zip(names, checkpoints, strict=True)}):
        print(line)


def _split_data(paths: Sequence[str], with_: Sequence[str] | None) -> tuple[list[str], list[str], str | None]:
    """The runs before --with, those after it, and the data if the last path of either is no run."""
    from alexnet.models.checkpoint_files import require_single_run, runs_in, runs_without_checkpoint
    from alexnet.models.formats.recognize import is_weights

    usage = "write: alexnet compare runs/a/seed-0 runs/a/seed-1 --with runs/b/seed-0 runs/b/seed-1 [DATA]"
    if with_ is None:
        try:
            for path in paths:  # the folder of several runs would be taken for data
                require_single_run(Path(path))
        except UserError as error:
            series = "" if any(is_weights(path) for path in paths) else (
                f"; or compare two series of runs: {_with_line(paths)}")  # not one run with a series
            raise UserError(error.problem, f"{error.remedy}{series}") from error
    parts, data = [list(paths), list(with_ or [])], list[str]()
    for part in parts:
        if part and not (is_weights(part[-1]) or runs_in(Path(part[-1]))):
            data.append(part.pop())
    require(len(data) <= 1, f"{' and '.join(data)} are not runs, and compare takes one data set", usage)
    lost = [run for path in (*parts[0], *parts[1]) if runs_in(Path(path))
            for run in runs_without_checkpoint(Path(path))]
    require(not lost, f"{' and '.join(map(str, lost))} ended before a checkpoint was saved",
            "train it again, or name the other runs of the series one by one")
    names, others = ([name for path in part for name in (list(map(str, runs_in(Path(path)))) or [path])]
                     for part in parts)
    if with_ is None:
        _note_series(names)
        require(len(names) >= 2, "compare needs at least two runs", "write: alexnet compare runs/one runs/other [DATA]")
    else:
        require(len(names) > 0 and len(others) > 0, "compare --with needs runs before and after --with", usage)
        require(min(len(names), len(others)) > 1 or len(names) == len(others), f"one series has {len(names)} run"
                f"{'s' * (len(names) > 1)} and the other {len(others)}: one run has no spread over seeds",
                "give each series two runs or more, or compare one run with one")
    return names, others, data[0] if data else None


def _with_line(paths: Sequence[str]) -> str:
    """The command line that compares the folders of runs among these paths as series; a second one may be missing."""
    from alexnet.models.checkpoint_files import runs_in

    folders = [shlex.quote(path) for path in paths if runs_in(Path(path))]
    first, second = (folders if len(folders) == 2 else [folders[0], "OTHER-RUNS"])
    return f"alexnet compare {first} --with {second} [DATA]"


def _note_series(names: Sequence[str]) -> None:
    """Say how to compare runs as two series, if they are those of two folders, each with several."""
    folders = Counter(str(Path(name).parent) for name in names)
    if len(folders) == 2 and min(folders.values()) > 1:
        first, second = map(shlex.quote, folders)
        say("note: these runs are compared pair by pair, each test over the images; to compare the two series over "
            f"their seeds: alexnet compare {first} --with {second} [DATA]")


def _last_epoch(run: str) -> str:
    """A run's checkpoint of its last epoch, which `train --seeds` reports; anything else unchanged."""
    from alexnet.models.checkpoint_files import JSON_FILE

    return str(Path(run) / "last") if (Path(run) / "last" / JSON_FILE).is_file() else run


def _two_series(
    names: Sequence[str], others: Sequence[str], checkpoints: Sequence[Checkpoint],
) -> tuple[Series, Series]:
    from alexnet.reproduce.seed_series import Series

    first = Series(tuple(names), tuple(checkpoints[:len(names)]))
    second = Series(tuple(others), tuple(checkpoints[len(names):]))
    first.check()
    second.check()
    return first, second


def _require_different(checkpoints: Sequence[Checkpoint], names: Sequence[str], is_series: bool) -> None:
    """Raise UserError if two names are of one checkpoint, such as a run folder and its best/; in series, of one run."""
    former: dict[Path, str] = {}
    for saved, name in zip(checkpoints, names, strict=True):
        if saved.path is not None:
            path, what = saved.path.resolve(), "checkpoint"
            if is_series and path.name in ("best", "last"):
                path, what = path.parent, "run"
            require(path not in former, f"{former.get(path)} and {name} are the same {what}", f"name each {what} once")
            former[path] = name


def _data_of_first(checkpoints: Sequence[Checkpoint], names: Sequence[str]) -> str:
    from alexnet.reproduce.run_settings import data_of

    data = data_of(checkpoints[0], {saved.arch.input.side for saved in checkpoints})
    if data is None:
        raise UserError(f"the data of {names[0]} is not known, or no longer where it was",
                        "name the data after the runs")
    return data


def _measure(
    checkpoints: Sequence[Checkpoint], names: Sequence[str], data: str, labels: str | None, group: str | None,
    split: str | None, batch_size: int, device: str, is_series: bool,
) -> _Measured:
    """Measure each network on the images that none has seen.

    Raises:
        UserError: the networks have other images to classify; or, of two series, the images chose the best epoch of
            some runs only. Nothing has been measured.
    """
    import numpy as np

    from alexnet._runtime.devices import choose_device
    from alexnet.inference.predictor import model_from_checkpoint

    where = choose_device(device)
    models = [model_from_checkpoint(saved, where) for saved in checkpoints]
    said = set[str]()

    def note(line: str) -> None:
        if line not in said:
            say(line)
        said.add(line)

    sets = _open_sets(models, data, labels, group, split, note)
    # Images are matched by content: packs of other sides may have them in another order.
    orders = [np.argsort(each.images.content_hashes, kind="stable") for each in sets]
    hashes_N = sets[0].images.content_hashes[orders[0]]
    require(all(np.array_equal(each.images.content_hashes[order], hashes_N)
                for each, order in zip(sets, orders, strict=True)),
            "the runs would be measured on different images, which cannot be compared pair by pair",
            "give data that is not packed, or runs of the same image side")
    _check_role(models, names, hashes_N, is_series)
    errors, rights = zip(*(_measure_one(model, name, each, batch_size, where)
                           for model, name, each in zip(models, names, sets, strict=True)), strict=True)
    groups_N = sets[0].images.groups
    return _Measured(list(errors), np.stack([right_N[order] for right_N, order in zip(rights, orders, strict=True)]),
                     None if groups_N is None else groups_N[orders[0]], sets[0].selection)


def _open_sets(
    models: Sequence[Model], data: str, labels: str | None, group: str | None, split: str | None,
    note: Callable[[str], None],
) -> list[EvaluationSet]:
    """For each model the images, at its side, that none of the models was trained on."""
    from alexnet.api.evaluation import open_evaluation_set

    return [open_evaluation_set([model, *(other for other in models if other is not model)], data, split, note=note,
                                labels=labels, group=group) for model in models]


def _check_role(models: Sequence[Model], names: Sequence[str], hashes_N: NDArray[np.uint64], is_series: bool) -> None:
    """Refuse a comparison of series, and note one of runs, whose images chose the best epoch of some runs only."""
    from alexnet.data.content import contained
    from alexnet.reproduce.seed_series import unequal_role

    problem = unequal_role(names, [int(contained(hashes_N, model.seen.selected_on).sum()) for model in models])
    if problem:
        require(not is_series, problem, "train both series with the same validation images, or measure images that "
                "chose no epoch, such as --split test")
        say(f"note: {problem}")


def _measure_one(
    model: Model, name: str, measured: EvaluationSet, batch_size: int, device: str,
) -> tuple[Errors, NDArray[np.bool_]]:
    """A network's errors, and whether it is right about each image [N]."""
    import numpy as np
    import torch

    from alexnet._runtime.progress import Bar
    from alexnet.inference.evaluate import evaluate
    from alexnet.inference.metrics import predicted_classes

    labels_N = measured.label_map[measured.images.labels].numpy()
    right_N = np.zeros(len(measured.images), bool)

    def record(outputs_nK: NDArray[np.float32], indices: NDArray[np.int64]) -> None:
        right_N[indices] = predicted_classes(outputs_nK, labels_N[indices]) == labels_N[indices]

    with Bar(f"evaluating {name}", "images") as bar:
        errors = evaluate([(model.network, model.preprocess)], measured.images, batch_size=batch_size,
                          label_map=measured.label_map, device=torch.device(device), on_progress=bar, on_outputs=record)
    return errors, right_N
