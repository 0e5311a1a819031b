"""Run the commands of the Dockerfile without a container engine: build, serve as the image's user, check, and stop.

    sudo python benchmarks/run_dockerfile.py [FOLDER]

Each RUN line with pip or venv runs in a folder that stands for the image, with the variables and the working folder
that the Dockerfile gives it; COPY takes what .dockerignore lets through. Lines with apt-get are not run: where this
machine has apt-get, it simulates the installation, with its own lists of packages. The server then starts by
ENTRYPOINT, as PID 1 of a namespace, with the user of the image, without capabilities, and with a file system that is
read-only but for /tmp. HEALTHCHECK must succeed, an image be classified, and STOPSIGNAL end the server while a request
is being answered. Without root or namespaces, that part runs as the present user.

The environment variable TORCH_INDEX replaces the index of torch; empty: the one that pip is configured with. Variables
such as PIP_NO_INDEX and PIP_FIND_LINKS reach pip.
"""

from __future__ import annotations

import contextlib
import fnmatch
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "src" / "alexnet" / "data" / "photographs" / "chelsea.png"
_INSIDE = re.compile(r"(?<![\w./-])/(opt/alexnet|src|tmp)(?![\w-])")
"""Paths of the image that the folder stands for."""


@dataclass(frozen=True)
class Instruction:
    """One instruction, such as RUN, and the rest of its line."""

    name: str
    text: str


def parse(dockerfile: str) -> list[list[Instruction]]:
    """The instructions of each stage. Comments and line ends after a backslash are removed, as Docker does."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.MULTILINE)
    stages: list[list[Instruction]] = []
    for line in re.sub(r"\\\n", "", text).splitlines():
        if line.strip():
            name, rest = line.split(maxsplit=1)
            if name == "FROM":
                stages.append([])
            stages[-1].append(Instruction(name, rest))
    return stages


def is_ignored(path: str, dockerignore: str) -> bool:
    """Whether .dockerignore leaves a file out: the last line that matches it, or a folder above it, decides."""
    ignored = False
    for line in dockerignore.splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            parents = [path, *map(str, Path(path).parents)]
            if any(fnmatch.fnmatch(part, pattern) or (pattern.startswith("**/") and fnmatch.fnmatch(
                    Path(part).name, pattern[3:])) for part in parents):
                ignored = not line.startswith("!")
    return ignored


class Image:
    """A folder that stands for the file system of the image.

    Attributes:
        ran: the RUN lines that were run, and `simulated` those of apt-get.
        variables: of ENV and ARG so far.
    """

    def __init__(self, folder: Path, python: str) -> None:
        self.folder, self.ran, self.simulated = folder, list[str](), list[str]()
        self.working = folder
        (folder / "bin").mkdir(parents=True)
        (folder / "tmp").mkdir(mode=0o777)
        (folder / "tmp").chmod(0o777)
        (folder / "bin" / "python").symlink_to(python)
        self.base_path = f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        self.variables = {"PATH": self.base_path}

    def inside(self, text: str) -> str:
        """A text with the paths of the image as those of the folder."""
        return _INSIDE.sub(lambda found: f"{self.folder}/{found[1]}", text)

    def build(self, stage: list[Instruction]) -> dict[str, list[str]]:
        """Execute the instructions of a stage.

        Returns:
            What the stage says about starting: USER, EXPOSE, STOPSIGNAL, and the words of HEALTHCHECK and ENTRYPOINT.
        """
        said: dict[str, list[str]] = {}
        self.variables = {"PATH": self.base_path}
        for each in stage:
            match each.name:
                case "RUN":
                    self._run(each.text)
                case "COPY":
                    self._copy(each.text)
                case "WORKDIR":
                    self.working = Path(self.inside(each.text))
                    self.working.mkdir(parents=True, exist_ok=True)
                case "ENV" | "ARG":
                    for word in shlex.split(each.text):
                        name, _, value = word.partition("=")
                        value = self.inside(value).replace("$PATH", self.variables["PATH"])
                        self.variables[name] = os.environ.get(name, value) if each.name == "ARG" else value
                case "HEALTHCHECK" | "ENTRYPOINT":
                    said[each.name] = json.loads(each.text[each.text.index("["):])
                case "USER" | "EXPOSE" | "STOPSIGNAL":
                    said[each.name] = [each.text]
                case "FROM":
                    continue
                case _:
                    raise SystemExit(f"no way to run {each.name} {each.text}")
        return said

    def _run(self, line: str) -> None:
        if "apt-get" in line:
            self.simulated.append(line)
            packages = re.search(r"apt-get install -y --no-install-recommends ([\w.+ -]+?) +&&", line)
            if packages and shutil.which("apt-get"):
                subprocess.run(["apt-get", "install", "--simulate", "--no-install-recommends", *packages[1].split()],
                               check=True, stdout=subprocess.DEVNULL)
            return
        self.ran.append(line)
        subprocess.run(["sh", "-ec", self.inside(line)], cwd=self.working, env=self._environment(), check=True)

    def _environment(self) -> dict[str, str]:
        """The variables of the image, and those by which pip is configured here."""
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or "proxy" in name.lower()}
        return kept | {"HOME": os.environ.get("HOME", "/")} | self.variables

    def _copy(self, text: str) -> None:
        if text.startswith("--from="):  # the stages share the folder
            return
        *sources, target = text.split()
        ignore = (ROOT / ".dockerignore").read_text()
        for source in sources:
            files = [ROOT / source] if (ROOT / source).is_file() else sorted((ROOT / source).rglob("*"))
            names = [file.relative_to(ROOT).as_posix() for file in files if file.is_file()]
            taken = [name for name in names if not is_ignored(name, ignore)]
            if not taken:
                raise SystemExit(f"COPY {source}: .dockerignore lets no file of it through")
            for name in taken:
                inner = Path(name).relative_to(source) if name != source else Path(Path(name).name)
                place = self.working / target / inner
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, place)


# --- Serve ------------------------------------------------------------------------------------------------------------


def _sandbox(image: Image, user: str) -> list[str]:
    """The words before a command that make it PID 1 of the image; none where this user may not make namespaces."""
    probe = ["unshare", "--pid", "--fork", "--mount", "true"]
    if os.name != "posix" or os.geteuid() != 0 or not shutil.which("setpriv") or subprocess.run(
            probe, check=False, capture_output=True).returncode:
        return []
    tmp = shlex.quote(str(image.folder / "tmp"))
    # Every mount below / becomes read-only, and then /tmp of the image a memory file system.
    script = (f"set -e; mount -t tmpfs -o size=64m,mode=1777 tmpfs {tmp}; "
              "for point in / /tmp /var /home /opt /root /dev/shm; do "
              '  if mountpoint -q "$point"; then mount -o remount,ro,bind "$point"; fi; done; '
              'exec setpriv --reuid "$0" --regid "$0" --clear-groups --no-new-privs --bounding-set=-all '
              '--inh-caps=-all -- "$@"')
    return ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c", script,
            user.split(":")[0]]


@contextlib.contextmanager
def serving(image: Image, said: Mapping[str, list[str]], arguments: list[str]) -> Iterator[tuple[int, list[str]]]:
    """The running server: its process id, and a list that gets its exit code when the block ends."""
    entry = [image.inside(word) for word in said["ENTRYPOINT"]]
    before = _sandbox(image, said["USER"][0])
    process = subprocess.Popen([*before, *entry, *arguments], cwd=image.working, env=image.variables)
    ended: list[str] = []
    try:
        time.sleep(1)
        yield _innermost(process.pid) if before else process.pid, ended
        ended.append(str(process.wait(timeout=60)))
    finally:
        process.kill()
        process.wait()


def _innermost(pid: int) -> int:
    """The process that unshare started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


def wait_until_healthy(image: Image, command: list[str], seconds: float) -> float:
    """Repeat the command of HEALTHCHECK until it succeeds; the seconds that it took."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if subprocess.run(command, env=image.variables, capture_output=True, timeout=30, check=False).returncode == 0:
            return time.monotonic() - began
        time.sleep(0.5)
    raise SystemExit(f"HEALTHCHECK did not succeed within {seconds:g} s")


def classify(port: int) -> tuple[int, str]:
    """The status of /predict for a photograph, and the likeliest class."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/predict", PHOTO.read_bytes(), {"Content-Type": "image/png"})
    response = connection.getresponse()
    body = json.loads(response.read())
    return response.status, body["images"][0]["classes"][0]["name"] if response.status == 200 else str(body)


def facts_of(pid: int) -> str:
    """The user, the rights and the memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    root = next(fields[5].split(",")[0] for fields in mounts if fields[4] == "/")
    return (f"PID {status['NSpid'].split()[-1]}, user {status['Uid'].split()[0]}, capabilities {status['CapBnd']}, no "
            f"new privileges {status['NoNewPrivs']}, / mounted {root}, {int(status['VmRSS'].split()[0]) / 1e3:.0f} MB")


def main(folder: Path, arguments: list[str]) -> None:
    """Build, serve, and print what was seen."""
    # Another user must be able to run it, so not one below /root; of this version, as wheels that PIP_FIND_LINKS names.
    own = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    python = next(path for path in (own, sys.executable) if Path(path).exists())
    image = Image(folder, python)
    build, run = parse((ROOT / "Dockerfile").read_text())
    image.build(build)
    said = image.build(run)
    port = int(said["EXPOSE"][0])
    print(f"{len(image.ran)} RUN lines were run, {len(image.simulated)} of apt-get simulated", flush=True)
    with serving(image, said, arguments) as (pid, ended):
        seconds = wait_until_healthy(image, said["HEALTHCHECK"], 120)
        print(f"healthy after {seconds:.1f} s: {facts_of(pid)}", flush=True)
        answers: list[tuple[int, str]] = []
        requests = [threading.Thread(target=lambda: answers.append(classify(port))) for _ in range(4)]
        for request in requests:
            request.start()
        time.sleep(0.2)
        began = time.monotonic()
        os.kill(pid, signal.Signals[said["STOPSIGNAL"][0]])
        for request in requests:
            request.join()
        print(f"{len(answers)} of 4 requests answered during {said['STOPSIGNAL'][0]}: "
              f"{sorted({status for status, _ in answers})}", flush=True)
    print(f"ended with code {ended[0]} after {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), sys.argv[2:])
    else:
        with tempfile.TemporaryDirectory() as made:
            Path(made).chmod(0o755)
            main(Path(made) / "image", [])
