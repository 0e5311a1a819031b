"""The cyclopts app of the `alexnet` command: help groups, options that several commands share, and checks of them.

Docstrings of commands are in Google style: cyclopts shows the text as the command's help, and `Args` as the help of its
options. A command with many options groups them in frozen dataclasses: each field is an option, and the docstring below
the field is its help.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter, Token, convert

from alexnet._runtime.local_files import require_writable
from alexnet._runtime.software import own_version
from alexnet.errors import UserError, require

IMAGE_FILE = ("", ".png", ".svg")
"""Endings of figures; "" writes both."""
HTML_FILE = (".html", ".htm")


def whole_number(kind: Any, tokens: Sequence[Token]) -> Any:
    """Convert as cyclopts does, but refuse a fraction for an integer option, which cyclopts would round."""
    if kind in (int, list[int]) and (fractions := [token.value for token in tokens if "." in token.value]):
        raise UserError(f"{fractions[0]} must be a whole number")
    return convert(kind, tokens)


def _shown_default(value: object) -> object:
    """The default as `--help` shows it; nothing for a flag."""
    return None if value is False else value


# The groups of commands in `alexnet --help`, in this order. A command's `sort_key` orders it within its group.
TRAIN_AND_EVALUATE = Group("Train and evaluate", sort_key=0)
DATA = Group("Data", sort_key=1)
WEIGHTS = Group("Pretrained weights and export", sort_key=2)
PAPER = Group("The paper", sort_key=3)
INTERPRET = Group("Interpretability", sort_key=4)
DEPLOY = Group("Deployment", sort_key=5)
INSTALLATION = Group("Installation", sort_key=6)

app = App(
    name="alexnet",
    help="AlexNet, the 2012 paper as working software: train it on your images, evaluate it, and see how it works.",
    help_format="markdown", version=own_version,
    default_parameter=Parameter(negative=(), converter=whole_number, show_default=_shown_default),
)
OPTIONS = Group("Options", sort_key=7)
app["--help"].group = app["--version"].group = OPTIONS
app.register_install_completion_command(
    group=OPTIONS, help="Install completion of commands and options for the shell in use (bash, zsh or fish), by a "
    "line in its start-up file.")

Int = Annotated[int, Parameter(converter=whole_number)]
OptionalInt = Annotated[int | None, Parameter(converter=whole_number)]
"""Integer fields of option dataclasses, to which cyclopts does not apply the app's default converter."""

Settings = Annotated[list[str] | None, Parameter(name="--set", help="Set one field of the network or recipe, such as "
                     "arch.activation=tanh or recipe.schedule=cosine. May be repeated.")]
ArchName = Annotated[str | None, Parameter(help="Network; `alexnet list` shows all. Default: paper, or that of --init. "
                     "For images of 64 pixels or less, or a first result within minutes: small. For 32 pixels: cifar.")]
RecipeName = Annotated[str | None, Parameter(help="Recipe; `alexnet list` shows all. Default: the recipe that belongs "
                       "to the network; with --init, finetune: learning rate 0.003 with batch normalization, else a "
                       "tenth of the network's default recipe.")]
BatchSize = Annotated[int | None, Parameter(converter=whole_number, help="Images in a batch, over all processes "
                      "together. Default: the recipe's.")]
ConfigFile = Annotated[Path | None, Parameter(help="TOML file with the tables [arch] and [recipe]: `preset = 'small'` "
                       "as --arch, other keys as --set. Options precede it.")]
LikeRun = Annotated[Path | None, Parameter(help="Run whose network and recipe are taken, but not its weights. Change "
                    "single fields with --set.")]
Init = Annotated[str | None, Parameter(help="Checkpoint or run whose weights the network starts from; pretrained: "
                 "the network in this package; torchvision: its weights are downloaded. The classes may differ.")]
Freeze = Annotated[str | None, Parameter(help="Layers that are not trained: conv for all convolutional layers, or "
                   "names such as conv1,conv2.")]
Json = Annotated[bool, Parameter(name="--json", help="Print JSON instead of a table.")]
Labels = Annotated[str | None, Parameter(help="Where the labels are, if they are not the names of folders: a table "
                   "(CSV, TSV or JSONL) with columns file_name and label, or a pattern of the file names such as "
                   "'{label}.{n}.jpg'. folders: the folders, although a table says otherwise, or they do not look like "
                   "classes.")]
GroupBy = Annotated[str | None, Parameter(name="--group", help="Which images belong together, such as those of one "
                    "animal, patient or burst: a pattern of the file names ('{animal}_{n}.jpg': {n} is digits, {any} "
                    "anything, other names in braces are the group), folder (the folders below the class folders), or "
                    "a table with columns file_name and group. A group is never in training and validation both.")]
Groups = Annotated[str | None, Parameter(name="--group", help="Which images belong together, as for train. "
                   "Intervals are then over groups, as images of one group are not independent. Default: the --group "
                   "of the network's run, if it fits these images. A packed folder has its own.")]
Split = Annotated[str | None, Parameter(help="Split to measure, such as train or val. Default: val, or all images of a "
                  "folder without a validation split.")]
ForwardSize = Annotated[int, Parameter(help="Images that go through the network at a time. It does not change the "
                        "result.")]
Device = Annotated[str, Parameter(help="auto, cpu, cuda, cuda:N or mps. auto: CUDA if available, else the CPU.")]
Fast = Annotated[bool, Parameter(help="Run the fully connected layers in int8 and, on a CPU with bf16 instructions "
                 "(x86: AVX-512 BF16 or AMX), the convolutions in bf16. At 224 pixels one image takes a half to a "
                 "quarter of the time. It changed probabilities by at most 0.04 in four networks.")]
Sure = Annotated[float | None, Parameter(help="Mark an image \"not sure\" if its likeliest class has a lower "
                 "probability than this, 0 to 1. Default: 0.5 of a calibrated network; another one marks none.")]
Classes = Annotated[Path | None, Parameter(help="A file with the names of the network's outputs in their order: one a "
                    "line, or a list or mapping in JSON. Default: the names that come with the weights.")]

Overwrite = Annotated[bool, Parameter(help="Replace files that exist. By default the command refuses to.")]

PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
AllocatorName = Literal["keep", "system"]

ALLOCATOR_HELP = ("keep: freed memory stays with the process and is reused by the next step, which is faster (Linux). "
                  "system: the allocator's default.")


# --- Checks of options, made before any work --------------------------------------------------------------------------


def at_least_1(**options: int | None) -> None:
    """Raise UserError for the first option below 1. None is an option that was not given."""
    for name, value in options.items():
        require(value is None or value >= 1, f"--{name.replace('_', '-')} {value} must be at least 1")


def reject_options(command: str, **options: object) -> None:
    """Raise UserError for the first option that was given but has no effect on `command`. None: not given."""
    for name, value in options.items():
        require(value is None, f"{command} takes no --{name.replace('_', '-')}", "leave it out")


def check_output(out: Path, endings: Sequence[str] = (), *, overwrite: bool = False) -> None:
    """Raise UserError for an output file that exists, cannot be written, or has another ending than `endings`."""
    if out.is_dir():
        raise UserError(f"{out} is a folder", "name a file in it")
    if endings and out.suffix not in endings:
        problem = f"ends in {out.suffix}" if out.suffix else "has no ending"
        raise UserError(f"{out} {problem}", f"name a file that ends in {' or '.join(filter(None, endings))}"
                        + (", or has no ending, for both" if "" in endings else ""))
    require_writable(out, is_folder=False)
    require_new(output_files(out, endings), overwrite)


def output_files(out: Path, endings: Sequence[str]) -> list[Path]:
    """The files that are written for `out`: itself, or, without an ending where that is allowed, one of each ending."""
    each = [ending for ending in endings if ending]
    return [out] if "" not in endings or out.suffix in each else [out.with_name(out.name + ending) for ending in each]


def require_new(files: Iterable[Path], overwrite: bool) -> None:
    """Raise UserError for the first of these files or folders that exists, unless they may be overwritten."""
    for file in files:
        require(overwrite or not file.exists(), f"{file} already exists",
                "choose another name, or replace it with --overwrite")


def class_names(classes: Path | None) -> tuple[str, ...] | None:
    """The names in the file of --classes; None without one."""
    if classes is None:
        return None
    from alexnet.data.class_names import read_class_names

    return read_class_names(classes)
