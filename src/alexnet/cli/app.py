"""What the commands have in common: the app, options of the same meaning, the data, and how a mistake is told.

Results go to standard output, progress and remarks to standard error. A user's mistake is one sentence and exit code 2;
a run stopped by a signal exits with 128 + its number (130 for Ctrl-C, 143 for SIGTERM).
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

from cyclopts import App, CycloptsError, Group, Parameter, Token, convert

from alexnet.architecture import overrides
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch

if TYPE_CHECKING:
    from torch import Tensor

    from alexnet.data.packed import PackedDataset, PackedSplit
    from alexnet.inference.predictor import Model


PIPE = 141
"""Exit code where nobody reads on, as behind `| head`: 128 + the number of SIGPIPE."""

PICTURE = ("", ".png", ".svg")
PAGE = (".html", ".htm")
"""Endings of the files that commands write; "" for none, which gives a picture's both."""


def _convert(kind: Any, tokens: Sequence[Token]) -> Any:
    """As cyclopts does, but for a fraction where a whole number is wanted, which it would round."""
    if kind in (int, list[int]) and (fractions := [token.value for token in tokens if "." in token.value]):
        raise ValueError(f"{fractions[0]} must be a whole number")
    return convert(kind, tokens)


WORK, NUMBERS, LOOK, WEIGHTS = (Group(name, sort_key=place) for place, name in enumerate((
    "From images to answers", "The paper and its numbers", "Inside a network", "Weights and data")))
"""What `alexnet --help` lists together, in that order; a command stands where its `sort_key` puts it."""

app = App(
    name="alexnet",
    help="AlexNet, the 2012 paper as working software: train it on your images, measure it, see into it.",
    help_format="markdown",
    default_parameter=Parameter(negative=(), converter=_convert),
)
app["--help"].group = app["--version"].group = Group("And", sort_key=len((WORK, NUMBERS, LOOK, WEIGHTS)))

Set = Annotated[list[str] | None, Parameter(name="--set", help="Change one field of the network or recipe, such as "
                "arch.activation=tanh or recipe.batch_size=64; may be repeated.")]
Json = Annotated[bool, Parameter(name="--json", help="Print JSON instead of a table.")]
Device = Annotated[str, Parameter(help="auto, cpu or cuda.")]
Fast = Annotated[bool, Parameter(help="Answer in bf16 and int8: at 224 pixels several times as fast on a CPU; "
                 "probabilities move by up to 0.03.")]
Wanted = Literal["auto", "fp32", "bf16", "fp16"]
Memory = Literal["keep", "system"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, or 2 after one sentence about a mistake."""
    warnings.showwarning = _remark
    try:
        try:
            app(arguments, exit_on_error=False, print_error=False)
        finally:
            sys.stdout.flush()  # here, where it can be caught that nobody reads on
    except CycloptsError as error:
        command = " ".join(("alexnet", *(error.command_chain or ())))
        _fail(f"{' '.join(str(error).split())}  ({command} --help lists what there is)")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
        sys.exit(PIPE)
    except OSError as error:
        _fail(_with_remedy(error))
    except ValueError as error:
        _fail(" ".join(str(error).split()))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        # train.Interrupted and distributed.Lost, known by their attribute: importing them here would bring torch to
        # `alexnet --help`.
        if (code := getattr(error, "exit_code", None)) is None:
            raise
        if code == 1 or not _is_one_of_many():
            print(f"alexnet: {error}" if code == 1 else error, file=sys.stderr)
        sys.exit(code)


def _remark(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of ours is a remark like any other, without the line of code that Python shows."""
    if Path(__file__).parents[1] in Path(filename).parents:
        say(f"note: {message}")
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), end="", file=file or sys.stderr)


def _fail(sentence: str) -> None:
    print(f"alexnet: {sentence}", file=sys.stderr)
    sys.exit(2)


def _with_remedy(error: OSError) -> str:
    """What the system says of a file, as a sentence; of anything else, as it says it."""
    if error.strerror is None:
        return " ".join(str(error).split())
    remedy = "make room on the disk" if error.errno == errno.ENOSPC else "check the name, and who may use it"
    if error.filename is None:
        return f"{error.strerror.lower()}; {remedy}"
    return f"{error.filename} cannot be read or written ({error.strerror.lower()}); {remedy}"


def say(line: str) -> None:
    """A remark; of several processes that do the same, the first one's."""
    if not _is_one_of_many():
        print(line, file=sys.stderr, flush=True)


def _is_one_of_many() -> bool:
    """Whether torchrun has started this process and another one speaks."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0"


def at_least_1(**options: int | None) -> None:
    """Raises ValueError for the first option below 1; None is one that was not given."""
    for name, value in options.items():
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} {value} must be at least 1")


def takes_no(what: str, **options: object) -> None:
    """Raises ValueError for the first option that was given, which `what` would not heed; None is one that was not."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{what} takes no --{name.replace('_', '-')}; leave it out")


def writable(out: Path, endings: Sequence[str] = ()) -> None:
    """Raises ValueError, before any work is done, for a file that cannot be written, or not with that ending."""
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name a file in it")
    if endings and out.suffix not in endings:
        ends = f"ends in {out.suffix}" if out.suffix else "has no ending"
        raise ValueError(f"{out} {ends}; let it be {' or '.join(filter(None, endings))}"
                         + (", or none for both" if "" in endings else ""))
    place = next(parent for parent in out.absolute().parents if parent.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise ValueError(f"{out} cannot be written, as {place} is no folder that you may write in; name another place")


def configure(network: Arch, chosen: Recipe | None, settings: Iterable[str] | None) -> tuple[Arch, Recipe]:
    """The preset and recipe with `--set arch.X=...` and `--set recipe.X=...` applied."""
    return overrides.configure(network, chosen, settings or ())


def open_data(data: str, side: int) -> PackedDataset:
    """The packed form of DATA at that side; what is not packed yet is packed into the user's cache, saying so."""
    from alexnet.data.open import open_or_stream

    return _watched(open_or_stream(data, side, say=say))


def _watched(packed: PackedDataset) -> PackedDataset:
    """The same; should one of its files be cut short from now on, a sentence says so before the process ends."""
    from alexnet._runtime.native import set_sigbus_message

    set_sigbus_message(f"alexnet: a file of {packed.path} was cut short while it was read, or its disk fails; mend that and "
               "run the same command again, training with --resume")
    return packed


def measurable(
    paths: Sequence[str], split: str | None, device: str, fast: bool = False,
) -> tuple[list[Model], PackedSplit, Tensor, PackedDataset]:
    """The networks of CHECKPOINT... DATA, the images to measure them on, and the way from its classes to theirs.

    Raises ValueError for networks that cannot be averaged, with both values.
    """
    from alexnet.data.open import open_or_stream
    from alexnet.inference.evaluate import match_classes
    from alexnet.inference.predictor import load

    *checkpoints, data = paths
    models = [load(path, device, fast) for path in checkpoints]
    first = models[0]
    for model, path in zip(models, checkpoints, strict=True):
        if model.classes != first.classes:
            what = (f"{len(model.classes)} classes and {checkpoints[0]} {len(first.classes)}"
                    if len(model.classes) != len(first.classes) else next(
                        f"{a!r} where {checkpoints[0]} knows {b!r}"
                        for a, b in zip(model.classes, first.classes, strict=True) if a != b))
            raise ValueError(f"{path} knows {what}; an ensemble must agree on its classes")
        if model.preprocess.spec.side != first.preprocess.spec.side:
            raise ValueError(f"{path} takes images of {model.preprocess.spec.side} pixels and {checkpoints[0]} of "
                             f"{first.preprocess.spec.side}; an ensemble must agree on them")
    packed = _watched(open_or_stream(
        data, first.preprocess.spec.side, say=say, trained_on=first.trained_on or "unknown"))
    images = packed.split(split or ("val" if "val" in packed.splits else "train"))
    return models, images, match_classes(first.classes, packed.classes), packed
