"""Commands of the site that no test runs are parsed: commands, options, values, presets, scripts and files exist."""

import argparse
import re
import runpy
import shlex
import sys
from itertools import pairwise

import pytest
from cyclopts import CycloptsError
from torch.distributed.run import get_args_parser

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import recipe
from alexnet.cli.main import app
from alexnet.errors import UserError
from rehearsal import ROOT, blocks

PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]
UNRUN = [(page.name, line) for page in PAGES for block in blocks(page)
         if block.language == "sh" and block.not_run for line in block.lines]
OTHERS = {"pip", ".venv/bin/pip", "pip-audit", "uv", "pre-commit", "docker", "kubectl", "mkdir", "curl", "for"}
"""Programs that are not of this repository: a line of them that does not contain an `alexnet` command is not parsed."""


class ParsedError(Exception):
    """A script has parsed its arguments."""


def check_line(line, monkeypatch):
    """Parse a line of a shell block. An unknown command, option, value, preset, script or file is an error."""
    words = shlex.split(line)
    while re.match(r"[A-Z_]+=", words[0]):
        del words[0]
    for path in re.findall(r"(?:examples|benchmarks)/[\w./-]+", line):
        assert (ROOT / path).is_file(), f"{path} does not exist"
    if (command := alexnet_words(words)) is not None:
        check_command(command)
    elif words[0] in ("python", "python3") and words[1].startswith("benchmarks/"):
        check_script(words[1:], monkeypatch)
    elif words[0] in ("python", "python3"):
        assert words[1:3] in (["-m", "venv"], ["-m", "pip"]), line
    elif words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), f"make {words[1]}"
    else:
        assert words[0] in OTHERS, f"no way to check {line!r}"


def alexnet_words(words):
    """The arguments of the `alexnet` command that a line runs, by itself or by a launcher; None: it runs none."""
    program = words[0]
    if program == "alexnet":
        return words[1:]
    if program == "torchrun":
        options = get_args_parser().parse_args(words[1:])
        assert options.training_script == "alexnet"
        return options.training_script_args
    if program in ("examples/cluster/hosts.sh", "sbatch"):  # both: alexnet train "$@" --resume
        return ["train", *words[2:], "--resume"]
    if words[:2] == ["docker", "run"]:
        return ["serve", "--host", "0.0.0.0", "--port", "8000", *words[words.index("alexnet") + 1:]]  # its ENTRYPOINT
    if words[:2] == ["kubectl", "exec"] and "alexnet" in words[3:]:
        return words[words.index("alexnet") + 1:]
    return None


def check_command(words):
    app.parse_args(words, exit_on_error=False, print_error=False)
    pairs = list(pairwise(words))
    network = next((arch(value) for option, value in pairs if option == "--arch"), arch("paper"))
    training = next((recipe(value) for option, value in pairs if option == "--recipe"), recipe("modern"))
    for option, value in pairs:
        if option == "--set" and value.startswith("arch."):
            network = override(network, [value.removeprefix("arch.")], "arch.")
        elif option == "--set":
            training = override(training, [value.removeprefix("recipe.")], "recipe.")


def check_script(words, monkeypatch):
    """Let the script's own parser read the words, and end it there."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(parser):
        options = parse(parser)
        for settings in vars(options).get("variant") or ():  # of augmentations.py
            override(recipe("modern"), settings.split(), "recipe.")
        raise ParsedError

    with monkeypatch.context() as patched:
        patched.setattr(argparse.ArgumentParser, "parse_args", parse_and_end)
        patched.setattr(sys, "argv", words)
        patched.syspath_prepend((ROOT / words[0]).parent)
        main = runpy.run_path(str(ROOT / words[0]), run_name="__page__")["main"]
        with pytest.raises(ParsedError):
            main()


@pytest.mark.parametrize(("page", "line"), UNRUN)
def test_a_command_that_no_test_runs_is_understood(page, line, monkeypatch):
    check_line(line, monkeypatch)


def test_every_kind_of_command_is_among_them():
    programs = {shlex.split(re.sub(r"^([A-Z_]+=\S+ )+", "", line))[0] for _, line in UNRUN}
    assert programs >= {"alexnet", "torchrun", "examples/cluster/hosts.sh", "sbatch", "docker", "kubectl", "python",
                        "python3", "make"}
    assert {page for page, _ in UNRUN} >= {"install.md", "cluster.md", "data.md", "gpu-queue.md", "pretrained.md",
                                           "recipe-options.md", "export.md", "CONTRIBUTING.md"}


@pytest.mark.parametrize(("line", "error"), [
    ("alexnet trian data", CycloptsError),
    ("alexnet train data --arhc paper", CycloptsError),
    ("alexnet train data --epochs many", CycloptsError),
    ("alexnet train data --arch papr", UserError),
    ("alexnet train data --recipe modem", UserError),
    ("alexnet train data --set arch.input.corp=60", UserError),
    ("alexnet train data --set recipe.batch_size=many", UserError),
    ("torchrun --standalone --nproc-per-nod 2 -n 3 -m alexnet train data", SystemExit),
    ("torchrun --standalone --nproc-per-node 2 -m alexnet train data --paralel towers", CycloptsError),
    ("SELF=a examples/cluster/hosts.sh a,b data --arch papr", UserError),
    ("SELF=a examples/cluster/host.sh a,b data", AssertionError),
    ("sbatch examples/cluster/slurm.sbatch data --ouut runs/mine", CycloptsError),
    ("docker run --rm alexnet /model --prot 8000", CycloptsError),
    ("kubectl exec alexnet-copy -- alexnet verfy /model", CycloptsError),
    ("python benchmarks/none.py", AssertionError),
    ("python benchmarks/gpu.py --ouut gpu", SystemExit),
    ("python3 benchmarks/pretrained.py mak run data", SystemExit),
    ("python benchmarks/augmentations.py images --runs runs.json --variant mixup=1", UserError),
    ("make tset", AssertionError),
    ("perl -e 1", AssertionError),
])
def test_a_mistake_in_such_a_command_is_found(line, error, monkeypatch):
    with pytest.raises(error):
        check_line(line, monkeypatch)
