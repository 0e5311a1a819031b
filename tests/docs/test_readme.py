"""The README's commands run as they stand, and what it says of the tree and the networks is so."""

import ast
import re
import shlex
from pathlib import Path

import pytest

import requirements
from alexnet._runtime.extras import EXTRAS
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import ARCHS
from alexnet.cli.main import app
from alexnet.data import url_images
from alexnet.serving import server as server_module
from alexnet.serving.browser import runtime
from rehearsal import Rehearsal

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def commands(start: str) -> list[str]:
    """The lines of the shell blocks that begin with a word, their comments taken off."""
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)).splitlines()
    return [line.split("#")[0].strip() for line in lines if line.startswith(start)]


def test_its_commands_are_understood():
    """Names of commands and options; test_its_commands_work runs them."""
    for command in commands("alexnet "):
        app.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)


@pytest.mark.slow
def test_its_commands_work(class_folders, trained, tmp_path, monkeypatch):
    """In the README's order, on small images; a server stops as soon as it listens, and an address is a file."""
    async def leave(server):
        assert server.started

    files, tarball = tmp_path / "work", runtime.cached_tarball()  # `make test` puts it into the cache
    if not tarball.is_file():
        requirements.missing(f"onnxruntime-web is not in {tarball.parent}; `make test` downloads it, where there is a "
                             "network")
    files.mkdir()
    monkeypatch.chdir(files)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(server_module.GracefulServer, "main_loop", leave)
    monkeypatch.setattr(url_images, "fetch_image", lambda url, allow_private: (files / "photo.jpg").read_bytes())
    monkeypatch.setattr(runtime, "fetch_tarball", lambda: tarball)
    rehearsal = Rehearsal(files, class_folders, trained)
    for command in commands("alexnet "):
        rehearsal.command(command)
    assert [command.split()[1] for command in rehearsal.ran] == [
        "doctor", "predict", "explain", "explain", "explain", "reproduce", "reproduce", "diagnose", "figure",
        "check", "train", "evaluate", "predict", "report", "attribute", "top-patches", "import", "import", "train",
        "export", "export", "evaluate", "compare", "features", "reproduce", "serve", "predict"]
    assert (files / "runs" / "mine" / "report.html").is_file()
    assert (files / "tuned.onnx").is_file()
    assert (files / "page.html").is_file()
    assert {path.name for path in (files / "figures").iterdir()} == {
        "figure2.png", "figure2.svg", "attribute.png", "top-patches.png"}


@pytest.mark.slow
def test_its_python_works(class_folders, trained, tmp_path, monkeypatch):
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert program.count("epochs=20") == 1
    Rehearsal(tmp_path, class_folders, trained).python(program.replace("epochs=20", "epochs=1"))
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()


def test_its_list_of_extras_is_the_one_of_all():
    (listed,) = re.findall(r"^pip install '\.\[all]' +# (.*)$", README, re.MULTILINE)
    assert set(listed.split(", ")) == {*EXTRAS} - {"openvino"}


def test_the_make_targets_it_names_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {command.split()[1] for command in commands("make ")}
    assert named == {"demo", "docs", "test"}
    assert named | {"check", "bench", "clean"} <= targets


def architecture_tree() -> list[tuple[str, str]]:
    """Path and description of every entry below src/alexnet/ in the tree of docs/architecture.md, in order."""
    entries, folder = [], []
    tree = (ROOT / "docs" / "architecture.md").read_text().split("src/alexnet/\n")[1].split("```")[0]
    for line in tree.splitlines():
        depth, (name, about) = (len(line) - len(line.lstrip())) // 2, line.split(maxsplit=1)
        folder = folder[:depth - 1]
        entries.append(("".join([*folder, name]), about))
        if name.endswith("/"):
            folder.append(name)
    return entries


def test_the_tree_in_docs_architecture_names_every_module_at_its_place():
    package, named = ROOT / "src" / "alexnet", [path for path, _ in architecture_tree()]
    there = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if path.name != "__init__.py"}
    assert {path for path in named if path.endswith(".py")} == there
    assert len(named) == len(set(named))


def test_a_module_stands_in_the_tree_with_the_first_line_of_its_docstring():
    package = ROOT / "src" / "alexnet"
    for path, about in architecture_tree():
        if path.endswith(".py"):
            docstring = ast.get_docstring(ast.parse((package / path).read_text()))
            assert docstring.splitlines()[0] == about, path


def test_the_tree_names_every_data_file_or_its_folder_as_a_whole():
    named = [path for path, _ in architecture_tree()]
    whole = {path for path in named if path.endswith("/") and sum(each.startswith(path) for each in named) == 1}
    package, built = ROOT / "src" / "alexnet", {".py", ".pyc", ".so", ".pyd"}
    files = {path.relative_to(package).as_posix() for path in package.rglob("*")
             if path.is_file() and path.suffix not in built}
    assert {path for path in files if path not in named and f"{path.rpartition('/')[0]}/" not in whole} == set()
    assert [path for path in named if not (package / path).exists()] == []


def test_its_table_of_networks_is_right():
    for names, parameters in re.findall(r"^\| (`.+?`) \|.*?\| ([\d,]+) \|$", README, re.MULTILINE):
        for name in re.findall(r"`([\w-]+)`", names):
            assert f"{explain(ARCHS[name]).parameters:,}" == parameters, name
    for name in ARCHS:
        assert f"`{name}`" in README


def test_its_pictures_and_links_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
