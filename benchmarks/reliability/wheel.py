"""Row 15: wheel and sdist, installed offline for each Python of this machine, are complete and open no socket.

    python benchmarks/reliability/wheel.py [--pythons 9] [--epochs 1] [--seconds 1]

Both are built from a copy of the working tree. For each Python of 3.11 or later, pyenv's and the system's, a wheelhouse
is filled once, online; from it alone wheel and sdist are installed into fresh environments. There `pip check` must find
nothing, `alexnet --help` and the help of every command must take less than `--seconds` of processor time, without torch
and NumPy, and the demo must run. Sockets are detected by an audit hook, which sitecustomize puts into every Python that
a command starts, and in the demo also by strace, if installed, for those of compiled code.

torch comes from pip's own --find-links and never from an index, where it is a CUDA build of gigabytes. A Python without
such a wheel is tried with all but torch: the help, `list` and `explain`. With `--pythons 0` there is no wheelhouse: the
wheel is installed into a folder that precedes the packages of the running Python.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import ledger
from ledger import ROOT, Finding

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, f'build_{sys.argv[1]}')(sys.argv[2]))"
HEAVY = ("torch", "numpy")
VARYING = (".so", "/RECORD")
STRACE = bool(shutil.which("strace"))
HOOK = """\
import os, sys

def hear(event, arguments, into=os.open(os.environ["HEARD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)):
    if event.startswith("socket.") and event != "socket.gethostname" or event == "import":
        os.write(into, f"{event} {arguments[0] if event == 'import' else arguments[1:]}\\n".encode())

sys.addaudithook(hear)
"""


@dataclass(frozen=True)
class Installed:
    """An installed `alexnet` command."""

    where: str
    python: Path
    script: Path
    path: tuple[Path, ...] = ()
    """Folders that precede Python's own path."""

    def run(self, place: Path, *arguments: str, trace: bool = False) -> tuple[str, list[str], float]:
        """`alexnet ...` in a folder: what it printed, the imports and sockets that were heard, and its seconds.

        The seconds are the processor's: those of the clock tell more of what else a machine does.
        """
        (place / "hook").mkdir(exist_ok=True)
        (place / "hook" / "sitecustomize.py").write_text(HOOK)
        heard, traced = place / "heard", place / "traced"
        for file in (heard, traced):
            file.write_text("")
        command = [str(self.python), str(self.script), *arguments]
        if trace:
            command = ["strace", "-f", "-qq", "--signal=none", "--trace=socket", "--output", str(traced), *command]
        clean = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "OMP_NUM_THREADS")}
        began = busy()
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, env=clean | {
            "HOME": str(place), "HEARD": str(heard), "PYTHONPATH": ":".join(map(str, (place / "hook", *self.path)))})
        seconds = busy() - began
        if done.returncode:
            raise RuntimeError(f"{self.where}: alexnet {' '.join(arguments)} ended with {done.returncode}: "
                               f"{done.stderr[-500:]}")
        return done.stdout, heard.read_text().splitlines() + traced.read_text().splitlines(), seconds


def busy() -> float:
    """Processor seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- Building ---------------------------------------------------------------------------------------------------------


def copy_tree(dest: Path) -> Path:
    """The working tree without what git ignores."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    return shutil.copytree(ROOT, dest, ignore=shutil.ignore_patterns(".git", *ignored))


def build(kind: str, tree: Path, out: Path) -> Path:
    """The wheel or the sdist of a tree, by the setuptools that is installed, which no network is asked for."""
    out.mkdir(exist_ok=True)
    done = subprocess.run([sys.executable, "-c", BUILD, kind, str(out)], cwd=tree, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        raise RuntimeError(f"no {kind}: {done.stderr[-500:]}")
    return out / done.stdout.splitlines()[-1]


def contents(wheel: Path) -> dict[str, bytes]:
    """Its files by name; empty where they differ from one build to the next, which kernels and checksums do."""
    with ZipFile(wheel) as file:
        return {name: b"" if name.endswith(VARYING) else file.read(name) for name in file.namelist()}


def differs(tree: Path, wheel: Path) -> Iterator[str]:
    """What a wheel lacks of the package in a tree, or has beyond it, and what its metadata does not say."""
    inside = contents(wheel)
    package = {str(path.relative_to(tree / "src")): path.read_bytes()
               for path in (tree / "src" / PROJECT["name"]).rglob("*") if path.is_file()}
    about = f"{PROJECT['name']}-{PROJECT['version']}.dist-info"
    beside = {f"{about}/{name}" for name in (
        "METADATA", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE")}
    for name in sorted(package.keys() | beside):
        if name not in inside or inside[name] != package.get(name, inside[name]):
            yield f"the wheel's {name} {'differs' if name in inside else 'is missing'}"
    yield from (f"the wheel holds {name}" for name in sorted(inside.keys() - package.keys() - beside)
                if not name.endswith(VARYING))
    text = inside.get(f"{about}/METADATA", b"")
    metadata = message_from_bytes(text)
    for name, value in {
        "Name": PROJECT["name"], "Version": PROJECT["version"], "Summary": PROJECT["description"],
        "License-Expression": PROJECT["license"], "License-File": "LICENSE",
        "Requires-Python": PROJECT["requires-python"], "Description-Content-Type": "text/markdown",
    }.items():
        if metadata[name] != value:
            yield f"the metadata's {name} is {metadata[name]!r}"
    if not text.endswith(b"\n\n" + (tree / "README.md").read_bytes()):
        yield "the metadata's description is not the README"
    for requirement in PROJECT["dependencies"]:
        if requirement not in metadata.get_all("Requires-Dist", []):
            yield f"the metadata does not require {requirement}"
    if missing := PROJECT["optional-dependencies"].keys() - set(metadata.get_all("Provides-Extra", [])):
        yield f"the metadata provides no extra {', '.join(sorted(missing))}"


# --- Installing -------------------------------------------------------------------------------------------------------


def pip(python: Path, *arguments: object, may_fail: bool = False) -> str:
    """What pip printed. With `may_fail`, a failure gives nothing."""
    done = subprocess.run([str(python), "-m", "pip", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        raise RuntimeError(f"pip {' '.join(map(str, arguments))} failed: {(done.stdout + done.stderr)[-500:]}")
    return done.stdout if not done.returncode else ""


def into_folder(wheel: Path, folder: Path) -> Installed:
    """Before the packages of this Python, of which it takes what it needs."""
    pip(Path(sys.executable), "install", "--quiet", "--no-index", "--no-deps", "--target", folder, wheel)
    return Installed("this Python", Path(sys.executable), folder / "bin" / "alexnet", (folder,))


def interpreters() -> list[tuple[str, Path]]:
    """Each Python of 3.11 or later, pyenv's and the system's, that can make environments: its version, and where."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    tell = "import ensurepip, platform, sys, venv; print(*sys.version_info[:2], platform.python_version())"
    found = []
    for path in [*sorted(Path("/usr/bin").glob("python3.*")), *sorted(pyenv.glob("*/bin/python3"))]:
        if re.fullmatch(r"python3(\.\d+)?", path.name):
            told = subprocess.run([str(path), "-c", tell], capture_output=True, text=True, check=False).stdout.split()
            if told and (int(told[0]), int(told[1])) >= (3, 11):
                found.append((told[2], path))
    return sorted(found, key=lambda one: [int(part) for part in re.findall(r"\d+", one[0])])


def environment(python: Path, folder: Path) -> Path:
    """The Python of a fresh environment."""
    subprocess.run([str(python), "-m", "venv", str(folder)], check=True, capture_output=True)
    return folder / "bin" / "python"


def fill(house: Path, python: Path) -> list[str]:
    """Download what the demo needs, and what builds it; torch where there is a wheel. What was asked for of it."""
    pinned = ("-c", ROOT / "constraints.txt")
    wanted = list(PROJECT["dependencies"])
    torch = next(one for one in wanted if one.startswith("torch"))
    if not pip(python, "download", "--no-index", "--no-deps", "--dest", house, *pinned, torch, may_fail=True):
        wanted.remove(torch)
    pip(python, "download", "--dest", house, "--find-links", house, *pinned, *wanted, "setuptools>=77")
    return wanted


def from_house(archive: Path, house: Path, wanted: list[str], python: Path) -> Installed:
    """An archive and what it needs, in an environment that knows no index."""
    offline = ("install", "--no-index", "--find-links", house)
    whole = any(one.startswith("torch") for one in wanted)
    if not whole:
        pip(python, *offline, *wanted)
    pip(python, *offline, *([archive] if whole else ["--no-deps", archive]))
    return Installed(f"{'wheel' if archive.suffix == '.whl' else 'sdist'}, {python.parents[1].name}", python,
                     python.parent / "alexnet")


# --- Measuring --------------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What was wrong, and what was measured."""

    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0
    """Seconds, of all helps."""
    pythons: list[str] = field(default_factory=list)


def commands() -> list[str]:
    """The subcommands, of the working tree."""
    from alexnet.cli.main import app

    return [name for name in app if not name.startswith("-")]


def sockets(heard: list[str]) -> list[str]:
    """Of what was heard: the hook's lines begin with the event, strace's name the call."""
    return sorted({line for line in heard if line.startswith("socket.") or "socket(" in line})


def ask_for_help(seen: Seen, one: Installed, place: Path, seconds: float) -> None:
    """Of the command and of each subcommand."""
    for words in ([], *([name] for name in commands())):
        called = " ".join(["alexnet", *words])
        printed, heard, took = one.run(place, *words, "--help")
        seen.slowest = max(seen.slowest, took)
        imported = {line.split()[1] for line in heard if line.startswith("import ")}
        wrong = [f"imports {name}" for name in HEAVY if name in imported]
        wrong += ["is not heard"] * ("alexnet.cli.main" not in imported)
        wrong += ["is no help"] * (f"Usage: {called}" not in printed)
        wrong += [f"takes {took:.1f} s"] * (took >= seconds)
        seen.wrong += [f"{one.where}: {called} --help {what}" for what in (*wrong, *sockets(heard))]


def try_on(seen: Seen, version: str, python: Path, tree: Path, sdist: Path, folder: Path, epochs: int,
           seconds: float) -> None:
    """Both archives for one Python, from its own wheelhouse, in environments of their own."""
    house, builder = folder / "house", environment(python, folder / "builder")
    wanted = fill(house, builder)
    whole = any(one.startswith("torch") for one in wanted)
    pip(builder, "wheel", "--no-index", "--find-links", house, "--no-deps", "--wheel-dir", folder, tree)
    for archive in (next(folder.glob("*.whl")), sdist):
        place = folder / f"{version}-{archive.suffix[1:]}"
        one = from_house(archive, house, wanted, environment(python, place))
        said = subprocess.run([str(one.python), "-m", "pip", "check"], capture_output=True, text=True,
                              check=False).stdout.strip()
        if said != ("No broken requirements found." if whole else
                    f"{PROJECT['name']} {PROJECT['version']} requires torch, which is not installed."):
            seen.wrong.append(f"{one.where}: pip check says {said}")
        ask_for_help(seen, one, place, seconds)
        for words in (["list"], ["explain"], *[["demo", "--epochs", str(epochs)]] * (whole and epochs > 0)):
            heard = one.run(place, *words, trace=words[0] == "demo" and STRACE)[1]
            seen.wrong += [f"{one.where}: alexnet {words[0]} {what}" for what in sockets(heard)]
            if words[0] == "demo" and not (place / "runs" / "demo" / "report.html").is_file():
                seen.wrong.append(f"{one.where}: the demo leaves no report")
    seen.pythons.append(f"{version} {'whole' if whole else 'without torch, whose wheel for it was not available'}")


def measure(pythons: int, epochs: int, seconds: float) -> Finding:
    """Check wheel and sdist on that many Pythons of this machine; 0: on the running one, with its packages."""
    seen = Seen()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tree = copy_tree(folder / "tree")
        wheel, sdist = (build(kind, copy_tree(folder / f"for-{kind}"), folder / "dist") for kind in ("wheel", "sdist"))
        seen.wrong += differs(tree, wheel)
        with tarfile.open(sdist) as file:
            file.extractall(folder / "unpacked", filter="data")
        unpacked = next((folder / "unpacked").iterdir())
        seen.wrong += ["the sdist holds tests, which need a clone"] * (unpacked / "tests").exists()
        again = build("wheel", unpacked, folder / "again")
        seen.wrong += ["the sdist gives another wheel than the tree"] * (contents(again) != contents(wheel))
        if not pythons:
            ask_for_help(seen, into_folder(again, folder / "installed"), folder, seconds)
        for version, python in interpreters()[:pythons]:
            with TemporaryDirectory() as place:
                try_on(seen, version, python, tree, sdist, Path(place), epochs, seconds)
    observers = f"an audit hook{' and strace' * STRACE}"
    return Finding(
        "15", f"wheel and sdist built; each installed without a network for {len(seen.pythons)} Pythons; every --help; "
        f"the demo, {epochs} epoch{'s' * (epochs != 1)}, observed by {observers}" if pythons else
        "wheel and sdist built, and installed into a folder; every --help, observed by an audit hook",
        f"whole, with its metadata; `pip check` passes; help within {seconds:g} s of the processor, without torch and "
        "NumPy; no socket",
        "; ".join([*seen.wrong, *seen.pythons, f"slowest of {len(commands()) + 1} helps {seen.slowest:.2f} s"]),
        not seen.wrong)


if __name__ == "__main__":
    ledger.main(measure, pythons=9, epochs=1, seconds=1.0)
