"""Run the commands of a Markdown page (README.md, docs/) in its order, on small images.

A page's blocks of code have one of these languages. `sh`: the block is run. `python`: it is executed. `text`: it is
output; the lines of one that follows an `sh` or `python` block are compared with what that block printed, except lines
`...`. A block that cannot be run here has a comment above it, which the site does not show, with the reason:
`<!-- Not run by the tests: it needs a GPU. -->`.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import caffefiles
from alexnet.architecture.network_presets import ARCHS
from alexnet.cli.main import main
from alexnet.models.alexnet import AlexNet

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- Not run by the tests[^:>]*: ([^>]+) -->\s*$")
DOWNLOADED = {"cifar10": "PHOTOS", "imagenette": "PHOTOS", "NEW/springer": "NEW/ash"}
"""Data that a page names and the tests do not download -> what they use instead."""


@dataclass(frozen=True)
class Block:
    """A block of code on a page."""

    language: str
    text: str
    not_run: str
    """Why the tests do not run it; "" if they do."""

    @property
    def lines(self) -> list[str]:
        """Its commands, without comments; a line that ends in a backslash or in | is joined with the next."""
        joined = re.sub(r"\\\n|(?<=\|)\n", " ", self.text)
        return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines()) if line]


def blocks(page: Path) -> list[Block]:
    """The blocks of code of a Markdown page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in FENCE.finditer(text):
        reason = NOT_RUN.search(text[:fence.start()].rstrip() + "\n")
        found.append(Block(fence[1], fence[2], reason[1] if reason else ""))
    return found


def shortened(words: list[str]) -> list[str]:
    """An `alexnet` command line that does the same in less time: one epoch, narrow networks, few steps."""
    command, options = words[0], list(words)
    alone = len([word for word in words if not word.startswith("--")]) == 2  # `diagnose DATA`
    if command == "train":
        if "--head" not in words:  # which has no epochs
            set_option(options, "--epochs", "1")
        options += [] if "--init" in words else ["--set", "arch.conv.width=16", "--set", "arch.dense.width=32"]
        for several in {"--seeds", "--folds"} & {*words}:
            set_option(options, several, "2")
    elif command == "serve":
        set_option(options, "--port", "0")
    elif command == "reproduce" and "--data" in words:
        set_option(options, "--side", "32")
        if "--images-per-class" in words:
            set_option(options, "--images-per-class", "8")
        options += ["--quick"] * ("--quick" not in words)
    elif command == "diagnose" and alone:
        set_option(options, "--steps", "1")
        set_option(options, "--side", "32")
    elif command == "lr-find":
        set_option(options, "--steps", "20")  # the fewest
    return options


def set_option(words: list[str], name: str, value: str) -> None:
    """Give a command line's option this value, whether it has the option or not."""
    if name in words:
        words[words.index(name) + 1] = value
    else:
        words += [name, value]


@dataclass
class Rehearsal:
    """A folder in which the commands of a page are run."""

    folder: Path
    """The current folder of the commands. What a command names and no former one wrote is put there."""
    photos: Path
    """Class folders."""
    run: Path
    """The folder of a small trained run."""
    server: Callable[[], str] | None = None
    """Starts a server, once, and gives its host and port; None where no command needs one."""
    ran: list[str] = field(default_factory=list)
    """All commands that were run."""

    def page(self, path: Path) -> None:
        """Run all blocks of a page. A command that fails, or prints other lines than shown, is an AssertionError."""
        printed: str | None = None  # by the last block; None: none was run that prints
        for block in blocks(path):
            if block.not_run:
                printed = None
            elif block.language == "sh":
                printed = "\n".join(self.command(line) for line in block.lines)
            elif block.language == "python":
                printed = self.python(block.text)
            elif block.language == "text" and printed is not None:
                there = {" ".join(line.split()) for line in printed.splitlines()}
                for line in block.text.splitlines():
                    assert line == "..." or " ".join(line.split()) in there, f"{path.name}: not printed: {line}"

    def command(self, line: str) -> str:
        """Run one line of a shell block.

        Returns:
            What it printed on standard output.
        """
        self.ran.append(line)
        words = [DOWNLOADED.get(word, word) for word in shlex.split(line)]
        self.provide(words)
        if words[0] == "alexnet":
            if ">" in words:
                (self.folder / words[-1]).write_text(self.alexnet(words[1:words.index(">")]))
                return ""
            return self.alexnet(words[1:])
        if words[0] == "torchrun":
            words[words.index("--nproc-per-node") + 1] = "2"  # whatever the page's machine has
            words = [sys.executable, "-m", "torch.distributed.run", *words[1:words.index("alexnet") + 1],
                     *shortened(words[words.index("alexnet") + 1:])]
            return self.process(words)
        assert "curl" in line, f"no way to run {line!r}: say on the page why it is not run"
        assert self.server
        return self.process(["bash", "-euo", "pipefail", "-c", line.replace(
            "curl ", "curl --silent --show-error --fail-with-body ").replace("127.0.0.1:8000", self.server())])

    def alexnet(self, words: list[str]) -> str:
        """Run a command in this process. Help and version end with code 0 too."""
        printed, noted = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(noted):
            try:
                main(words if words[0].startswith("--") or "--help" in words else shortened(words))
                code: object = 0
            except SystemExit as stop:
                code = stop.code
        assert not code, f"alexnet {shlex.join(words)}: {noted.getvalue()[-2000:]}"
        return printed.getvalue()

    def process(self, words: list[str]) -> str:
        """Run a program."""
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        ran = subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, f"{shlex.join(words)}: {ran.stdout[-1000:]}{ran.stderr[-2000:]}"
        return ran.stdout

    def python(self, text: str) -> str:
        """Execute a block of Python.

        Returns:
            What it printed on standard output.
        """
        written = set(re.findall(r'\bout="([^"\n]+)"', text))
        self.provide([word for word in re.findall(r'"([^"\n]+)"', text) if word not in written])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(text, "<block>", "exec"), {"__name__": "__page__"})
        return printed.getvalue()

    def provide(self, words: list[str]) -> None:
        """Put the files there that a command reads and no former one wrote: images, a run, weights of others."""
        outputs = {after for option, after in pairwise(words) if option in ("--out", "--results", "--html", "--csv")}
        if words[1:2] and words[1] in ("import", "export", "pack"):
            outputs.add([word for word in words[2:] if not word.startswith("--")][:2][-1])
        for word in words:
            path = self.folder / word
            if word in outputs or path.exists() or Path(word).is_absolute():
                continue
            if word == "PHOTOS":
                path.symlink_to(self.photos)
            elif word == "NEW":
                path.symlink_to(self.photos / "val")
            elif word == "BURSTS":
                self.bursts(path)
            elif word.startswith("runs/") and not (self.folder / Path(word).parts[0] / Path(word).parts[1]).exists():
                shutil.copytree(self.run, self.folder / "runs" / Path(word).parts[1])
            for name in re.findall(r"[\w-]+\.jpg", word):
                if not (self.folder / name).exists():
                    (self.folder / name).symlink_to(next(iter(sorted((self.photos / "val").rglob("*.png")))))
            if word in WEIGHTS:
                WEIGHTS[word](path)

    def bursts(self, path: Path) -> None:
        """Class folders without a split, of photos such as `ash3_2.jpg`: five of each animal."""
        for folder in sorted((self.photos / "train").iterdir()):
            (path / folder.name).mkdir(parents=True)
            for number, photo in enumerate(sorted(folder.iterdir())):
                Image.open(photo).save(path / folder.name / f"{folder.name}{number // 5}_{number % 5}.jpg")


def _torchvision(path: Path) -> None:
    torch.save(AlexNet(ARCHS["torchvision"]).state_dict(), path)


def _of_a_script(path: Path) -> None:
    network = AlexNet(replace(ARCHS["torchvision"], classes=4))
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": each for key, each in network.state_dict().items()}}, path)


def _own(path: Path) -> None:
    torch.save(AlexNet(replace(ARCHS["small"], classes=3)).state_dict(), path)


def _caffe(path: Path) -> None:
    caffefiles.write(path.parent, caffefiles.net_bytes(CAFFE_LAYERS), path.name)


def _prototxt(path: Path) -> None:
    caffefiles.write(path.parent, caffefiles.net_text(CAFFE_LAYERS), path.name)


def _mean(path: Path) -> None:
    caffefiles.write(path.parent, caffefiles.blob(np.full((3, 256, 256), 110, np.float32), "legacy"), path.name)


CAFFE_LAYERS = [*caffefiles.data_layers(crop_size=227), *caffefiles.alexnet()]
WEIGHTS = {"alexnet-owt-7be5be79.pth": _torchvision, "bvlc_alexnet.caffemodel": _caffe,
           "imagenet_mean.binaryproto": _mean, "train_val.prototxt": _prototxt, "trained.pth": _of_a_script,
           "own.pth": _own, "names.txt": lambda path: path.write_text("ash\nbirch\ncedar\ndate palm\n")}
"""Files of weights, and what belongs to them, that a page names -> how to make one."""


@contextlib.contextmanager
def serving(run: Path, log: Path) -> Iterator[str]:
    """A server of a run, in a process of its own: its host and port."""
    command = [sys.executable, "-m", "alexnet", "serve", str(run), "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    with (log.open("w") as written,
          subprocess.Popen(command, env=environment, stdout=written, stderr=written) as process):
        try:
            while not (address := re.search(r"127\.0\.0\.1:[1-9]\d*", log.read_text())):
                assert process.poll() is None, log.read_text()
            yield address[0]
        finally:
            process.terminate()
