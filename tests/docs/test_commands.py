"""Every command on every page of docs/ works: all are parsed here, and run in the slow tests.

test_unrun_commands.py checks more of those that cannot be run.
"""

import re
import shlex

import pytest

from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import recipe
from alexnet.cli.main import app
from alexnet.data.sources import embedded
from alexnet.serving import server as server_module
from alexnet.training.build import build
from alexnet.training.spec import RunSpec
from hub_server import hub_server
from rehearsal import ROOT, Rehearsal, blocks, serving
from shared_folders import once

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
SITE = [*PAGES, ROOT / "CONTRIBUTING.md"]
"""The pages of the site that are written by hand and have commands."""
WITH_COMMANDS = [page for page in PAGES if any(block.language in ("sh", "python") and not block.not_run
                                                for block in blocks(page))]


def name(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", SITE, ids=name)
def test_every_command_is_understood(page):
    for block in blocks(page):
        if block.language == "sh":
            for line in block.lines:
                if line.startswith("alexnet "):
                    app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("page", [*SITE, ROOT / "README.md"], ids=name)
def test_a_command_within_a_sentence_names_a_command_and_its_options(page):
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for inline in re.findall(r"`alexnet ([a-z][^`]*)`", prose):
        command, *words = inline.split()
        assert command in app, inline
        there = {option for argument in app[command].assemble_argument_collection() for option in argument.names}
        for word in words:
            assert not re.match(r"--[a-z]", word) or word.split("=")[0].rstrip(".,;:)") in there | {"--help"}, inline


@pytest.mark.parametrize("page", SITE, ids=name)
def test_commands_stand_in_blocks_that_are_run(page):
    for block in blocks(page):
        assert block.language in ("sh", "python", "text", "json", "yaml", "html", ""), block
        if block.language in ("", "text"):
            programs = re.compile(r"([A-Z_]+=\S+ )*(alexnet|torchrun|curl|pip|python3?|make|docker|git) ")
            assert not list(filter(programs.match, block.text.splitlines())), "a command in a block that is not `sh`"


def test_few_blocks_are_not_run_and_each_says_why():
    reasons = {name(page): [block.not_run for block in blocks(page) if block.not_run] for page in SITE}
    assert all(len(reason) > 10 for found in reasons.values() for reason in found)
    assert sum(map(len, reasons.values())) <= 21, reasons
    covered = re.compile(r"other tests?|the tests of th", re.IGNORECASE)
    assert len([reason for found in reasons.values() for reason in found if not covered.search(reason)]) <= 11, reasons


def test_contributing_says_of_each_block_that_it_is_not_run():
    assert [bool(block.not_run) for block in blocks(ROOT / "CONTRIBUTING.md") if block.language == "sh"] == [True, True]


def test_programs_that_are_not_run_have_the_targets_and_extras_that_a_page_names():
    project, makefile = (ROOT / "pyproject.toml").read_text(), (ROOT / "Makefile").read_text()
    for page in SITE:
        text = page.read_text()
        for target in re.findall(r"^make ([a-z]+)", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"
        for extras in re.findall(r"(?:alexnet|'\.|\")\[([a-z,]+)\]", text):
            for extra in extras.split(","):
                assert re.search(rf"^{extra} = \[", project, re.MULTILINE), f"{page.name}: the extra {extra}"


@pytest.fixture(scope="session")
def run(packed, tiny, tmp_path_factory):
    """The folder of a run of one epoch: it makes mistakes, which `calibrate` needs."""
    one_epoch = override(recipe("modern"), ["epochs=1", "batch_size=20"])
    return once(tmp_path_factory, "one epoch", lambda folder: build(RunSpec(packed, tiny, one_epoch, folder)).fit())


@pytest.fixture(scope="module")
def server(trained, tmp_path_factory):
    """A function that starts a server at its first call."""
    started = []

    def address():
        if not started:
            context = serving(trained, tmp_path_factory.mktemp("server") / "log")
            started.extend([context.__enter__(), context])
        return started[0]

    yield address
    if started:
        started[1].__exit__(None, None, None)


@pytest.mark.slow
@pytest.mark.needs("onnx", "pip install 'alexnet[export]'")
@pytest.mark.needs("huggingface_hub", "pip install 'alexnet[hub]'")
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # a call within huggingface_hub
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name)
def test_its_commands_work(page, class_folders, run, server, tmp_path, monkeypatch):
    async def leave(server):
        assert server.started

    few = embedded.open_embedded(train=24, test=5)
    monkeypatch.setattr("alexnet.data.sources.detect.open_embedded", lambda *_, **__: few)
    monkeypatch.setattr(server_module.GracefulServer, "main_loop", leave)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with hub_server(monkeypatch, tmp_path / "hub"):
        Rehearsal(folder, class_folders, run, server).page(page)
