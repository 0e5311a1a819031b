"""How a run resumes: which run in a folder may continue, and what must be the same.

A resumed run ends, on a CPU, bit for bit where an uninterrupted one ends: everything that a run is between two steps is
in the checkpoint out/last (weights, velocity and `State`), and everything random is a function of (seed, epoch, image)
or (seed, step). `build` puts what is found here into network, optimizer and state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from alexnet._runtime.local_files import require_writable
from alexnet.architecture.overrides import to_json
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.data.order import batches_per_epoch
from alexnet.errors import UserError, first_difference, require
from alexnet.models import checkpoint as ckpt
from alexnet.training.data_changes import describe_changes
from alexnet.training.run_folder import RUN_FILES, is_run, logged
from alexnet.training.spec import RunSpec
from alexnet.training.state import State

SAME_OR_OTHER = "repeat the original options, or choose another --out"
SAME_DATA_OR_OTHER = "give the original data, or choose another --out"


def resumable(out: Path) -> tuple[Arch, Recipe, State] | None:
    """Network, recipe and state of the run in a folder, to resume it without naming them again; None without a run."""
    if not (out / "last" / ckpt.JSON_FILE).exists():
        return None
    saved = ckpt.load(out / "last")
    assert saved.recipe is not None
    return saved.arch, saved.recipe, State.from_json(saved.training)


def checkpoint_to_resume(spec: RunSpec, state: State) -> ckpt.Checkpoint | None:
    """The checkpoint from which a run continues; None if it starts from the beginning.

    Args:
        spec: the run, with the number of classes in its `arch`.
        state: the state in which a new run would start.

    Raises:
        UserError: if `spec.out` holds another run, or a run and `spec.resume` is not set, or one that has lost last/.
    """
    out = spec.out
    require_usable(out, spec.resume)
    if not (out / "last" / ckpt.JSON_FILE).exists():
        return None
    saved = ckpt.load(out / "last", with_velocity=True)
    saved_state = State.from_json(saved.training)
    _require_same_run(spec, state, saved, saved_state)
    _require_known_order(spec, saved_state)
    return saved


def require_usable(out: Path, resume: bool) -> None:
    """Raise UserError for a folder that cannot be written, holds a file that a run would overwrite, or a run that may
    not be resumed.

    Args:
        out: the folder.
        resume: whether the run in it, if there is one, is to be resumed.
    """
    other_out = "choose another --out"
    require_writable(out, is_folder=True)
    # load() would prefer such a checkpoint to the run's best and last.
    require(not (out / ckpt.JSON_FILE).exists(), f"{out} holds a checkpoint that is not a run, such as an import",
            other_out)
    foreign = None if is_run(out) else next((name for name in RUN_FILES if (out / name).exists()), None)
    require(foreign is None, f"{out / str(foreign)} was not written by `alexnet train`, which would overwrite it",
            other_out)
    if (out / "last" / ckpt.JSON_FILE).exists():
        require(resume, f"{out} already holds a run", f"add --resume to continue it, or {other_out}")
    elif resume:
        _require_nothing_to_lose(out)
    else:
        _require_no_events(out)


def restart_note(out: Path) -> str | None:
    """The line for a resumed run that starts again at epoch 1, because it has no last checkpoint; None for any other.

    Args:
        out: the run's folder, before this run has written into it.
    """
    if (out / "last" / ckpt.JSON_FILE).exists() or not logged(out):
        return None
    replaces = " and replaces best/" if (out / "best" / ckpt.JSON_FILE).exists() else ""
    return f"warning: {out} has no last checkpoint (last/) to resume from: training starts again at epoch 1{replaces}"


def _require_nothing_to_lose(out: Path) -> None:
    """Raise UserError for a run of several epochs that lacks last/: it would start again, and replace best/.

    After a single epoch best/ may be complete and last/ not, if the run was killed between the two saves.
    """
    epochs = max((event["epoch"] for event in logged(out) if event["event"] == "epoch"), default=0)
    require(epochs <= 1 or not (out / "best" / ckpt.JSON_FILE).exists(),
            f"{out} has no last checkpoint (last/) to resume from: training would start again at epoch 1 and replace "
            f"best/, which {epochs} epochs have chosen",
            f"restore {out / 'last'}, or start from these weights with --init {out / 'best'} and another --out")


def _require_no_events(out: Path) -> None:
    """Raise UserError for a run that ended before its first checkpoint."""
    events = logged(out)
    if not events:
        return
    last = events[-1]
    if last["event"] == "warning" and "images" in last:
        raise UserError(f"{out} holds a run that diverged before its first checkpoint, after step {last['step']:,}: "
                        f"there is nothing to resume", f"choose another --out, and {last['remedy']}")
    lost = "has no last checkpoint (last/)" if (out / "best" / ckpt.JSON_FILE).exists() else (
        "was stopped before its first checkpoint")
    raise UserError(f"{out} holds a run that {lost}",
                    "add --resume to start it again, or choose another --out")


def require_same_settings(
    out: Path, saved: tuple[Arch, Recipe, State], arch: Arch, recipe: Recipe, state: State,
) -> None:
    """Raise UserError if network, recipe, seed or precision differ. The number of epochs and of classes may.

    Args:
        out: the run's folder.
        saved: of the run's checkpoint.
        arch, recipe: those of the run that would be resumed.
        state: its seed, precision and transform.
    """
    saved_arch, saved_recipe, saved_state = saved
    require(saved_state.transform == state.transform,
            f"{out} was started with {_transform(saved_state)} and is now resumed with {_transform(state)}",
            "resume it in Python with the original transform (alexnet.train), or choose another --out")
    for what, then, now in (
        ("network", to_json(saved_arch), to_json(replace(arch, classes=saved_arch.classes))),
        ("recipe", to_json(replace(saved_recipe, epochs=recipe.epochs)), to_json(recipe)),
        ("seed", saved_state.seed, state.seed), ("precision", saved_state.precision, state.precision),
    ):
        if then != now:
            raise UserError(f"{out} was started with another {what} ({first_difference(then, now)})", SAME_OR_OTHER)
    require(recipe.epochs == saved_recipe.epochs or recipe.epochs >= saved_state.epoch,
            f"{out} has trained {saved_state.epoch} epochs already, more than --epochs {recipe.epochs}",
            "leave out --epochs, give more to train longer, or choose another --out to train less")


def _transform(state: State) -> str:
    return f"the transform {state.transform}" if state.transform else "no transform"


def _require_same_run(spec: RunSpec, state: State, saved: ckpt.Checkpoint, saved_state: State) -> None:
    """Everything but the number of epochs must be as it was."""
    settings = saved.arch, saved.recipe or spec.recipe, saved_state
    require_same_settings(spec.out, settings, spec.arch, spec.recipe, state)
    require_same_classes(spec.out, saved.classes, spec.data.classes)
    if saved_state.data != state.data:
        raise UserError(f"{spec.out} was started with other data: "
                        f"{describe_changes(spec.out, saved.seen, spec.data)}", SAME_DATA_OR_OTHER)


def require_same_classes(out: Path, then: Sequence[str], now: Sequence[str]) -> None:
    """Raise UserError if a run would be resumed with data of other class names, or of another order of them."""
    changed = next((pair for pair in zip(then, now, strict=False) if pair[0] != pair[1]), (len(then), len(now)))
    require(changed[0] == changed[1], f"{out} was started with other classes ({first_difference(*changed)})",
            SAME_DATA_OR_OTHER)


def _require_known_order(spec: RunSpec, saved_state: State) -> None:
    """The order of a streamed data set depends on its lanes, which the first checkpoints of format 6 do not have.

    With the next format number this check has no use any more.
    """
    training = spec.data.split("train")
    within = saved_state.step % batches_per_epoch(len(training), spec.recipe.batch_size)
    require(not within or saved_state.lanes > 0 or training.lanes(1) == 1,
            f"{spec.out} was stopped within an epoch of a stream, and its checkpoint does not have the epoch's order",
            "resume it with the version of alexnet that wrote it, or choose another --out")
