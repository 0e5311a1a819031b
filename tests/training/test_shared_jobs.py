"""evaluate, predict, features and pack in several processes: the files and the output of one, and one sentence."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def sources(class_folders, tmp_path_factory):
    """Class folders with a broken image in each split, and a pack whose last validation image is damaged."""
    root = tmp_path_factory.mktemp("sources")
    shutil.copytree(class_folders, root / "images")
    for name in ("train/ash/007.png", "val/birch/003.png"):
        path = root / "images" / name
        path.write_bytes(path.read_bytes()[:200])
    pack(open_dataset(class_folders), root / "damaged", side=32, codec="jpeg")
    begin, length = np.load(root / "damaged" / "val-00000.index.npy")[-1].tolist()
    with (root / "damaged" / "val-00000.tar").open("r+b") as file:
        file.seek(begin)
        file.write(bytes(length))
    return root


@pytest.fixture(scope="module")
def commands(sources, trained, packed):
    """The arguments of each command, by a name for it; `others` are arguments that only ranks above 0 have besides."""
    images, data = sources / "images", packed.path
    return {
        "pack": ["pack", images, "raw", "--side", 32],
        "pack jpeg": ["pack", images, "jpeg", "--side", 32, "--codec", "jpeg"],
        "pack again": ["pack", images, "raw", "--side", 32],
        "features": ["features", trained, data, "all.npz", "--layer", "fc6"],
        "features pooled": ["features", trained, data, "val.parquet", "--layer", "conv2", "--pool", "--split", "val"],
        "predict": ["predict", trained, images / "val", "--json"],
        "predict one": ["predict", trained, images / "val" / "ash" / "000.png"],
        "evaluate": ["evaluate", trained, data, "--batch-size", 16, "--per-class", "--csv", "images.csv", "--html",
                     "mistakes.html"],
        "evaluate json": ["evaluate", trained, data, "--batch-size", 16, "--views", 10, "--json"],
        "damaged": ["evaluate", trained, sources / "damaged", "--batch-size", 16],
        "damaged features": ["features", trained, sources / "damaged", "damaged.npz"],
        "occupied": ["pack", images, trained, "--side", 32],
        "other codec": ["pack", images, "other", "--side", 32],
        "other layer": ["features", trained, data, "other.npz", "--layer", "conv2"],
        "other views": ["evaluate", trained, data],
    }


OTHERS = {"other codec": ["--codec", "jpeg"], "other layer": ["--pool"], "other views": ["--views", "10"]}

WORLDS = [2, pytest.param(3, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def shared(commands, tmp_path_factory):
    """A function of the number of processes: the folder in which they have run all commands."""
    @cache
    def ran(size):
        folder = tmp_path_factory.mktemp(f"processes-{size}")
        (folder / "jobs.json").write_text(json.dumps([
            {"arguments": [*map(str, arguments)], "more_in_others": OTHERS.get(name, []), "port": port}
            for (name, arguments), port in zip(commands.items(), free_ports(), strict=False)]))
        world = {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": str(size), "OMP_NUM_THREADS": "1"} if size > 1 else {}
        processes = [subprocess.Popen(
            [sys.executable, TESTS / "shared_jobs.py", folder], stderr=subprocess.PIPE, text=True,
            env=os.environ | world | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if size > 1 else {}))
            for rank in range(size)]
        try:
            said = [process.communicate(timeout=120)[1] for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert [process.returncode for process in processes] == [0] * size, "\n".join(said)
        return folder
    return ran


def free_ports() -> Iterator[int]:
    """Ports below those of outgoing connections, one of which might take a port before its turn."""
    for port in range(10_000 + os.getpid() * 20 % 20_000, 32_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            yield port


@pytest.fixture
def printed(shared, commands):
    """A function of a command's name and the number of processes: (output, errors, exit code) of each rank."""
    def outcome(name, size):
        number = [*commands].index(name)
        return [tuple((shared(size) / f"{number}-{rank}.{kind}").read_text() for kind in ("out", "err", "code"))
                for rank in range(size)]
    return outcome


def files(folder: Path) -> dict[str, bytes]:
    """What the commands with the same options in all processes wrote, by the path in the folder."""
    return {name: path.read_bytes() for path in folder.rglob("*") if path.is_file()
            and not (name := str(path.relative_to(folder))).endswith((".out", ".err", ".code", "jobs.json"))
            and not name.startswith("other")}


@pytest.mark.parametrize("size", WORLDS)
def test_several_processes_write_the_files_of_one_byte_for_byte(shared, size):
    alone, together = files(shared(1)), files(shared(size))
    assert {"raw/manifest.json", "raw/train-00007.npy", "raw/quarantine.txt", "jpeg/val-00002.tar", "all.npz",
            "val.parquet", "images.csv", "mistakes.html"} <= alone.keys() == together.keys()
    assert not [name for name in alone if alone[name] != together[name]]


@pytest.mark.parametrize("size", WORLDS)
@pytest.mark.parametrize("name", ["pack", "pack jpeg", "pack again", "features", "features pooled", "predict",
                                  "predict one", "evaluate", "evaluate json"])
def test_rank_0_prints_what_one_process_prints_and_the_others_nothing(printed, name, size):
    (output, errors, code), = printed(name, 1)
    first, *others = printed(name, size)
    assert (first[0], first[2]) == (output, code)
    assert code == ("2" if name == "predict" else "0"), errors  # one of its images is broken
    assert said(first[1]) == said(errors)
    assert others == [("", "", "0")] * (size - 1)


def said(errors: str) -> list[str]:
    """Without the lines of the progress bar, which depend on the time."""
    return [line for line in errors.splitlines() if " images" not in line or line.startswith("note: ")]


@pytest.mark.parametrize("size", WORLDS)
@pytest.mark.parametrize("name", ["damaged", "damaged features", "occupied"])
def test_an_error_of_any_process_ends_all_with_one_sentence(printed, shared, name, size):
    (_, errors, code), = printed(name, 1)
    first, *others = printed(name, size)
    assert (code, first[2], first[0]) == ("2", "2", "")
    assert others == [("", "", "2")] * (size - 1)
    sentence, = (line for line in first[1].splitlines() if line.startswith("alexnet: "))
    alone, = (line for line in errors.splitlines() if line.startswith("alexnet: "))
    rank = {"damaged": size - 1, "damaged features": 10 % size, "occupied": 0}[name]  # the last of 3 and of 11 batches
    assert sentence == alone.replace("alexnet: ", f"alexnet: process {rank} of {size}: " if rank else "alexnet: ")
    assert not (shared(size) / "damaged.npz").exists()
    assert not (shared(size) / "damaged.npz.new").exists()


@pytest.mark.parametrize(("name", "what"), [
    ("other codec", "data, --side, --codec or --quality"), ("other layer", "--layer, --pool or --split"),
    ("other views", "options")])
def test_processes_that_were_started_with_other_options_end_with_one_sentence(printed, name, what):
    first, second = printed(name, 2)
    assert f"alexnet: process 1 of 2 was started with another {what} than process 0 (" in first[1]
    assert (first[0], first[2], second) == ("", "2", ("", "", "2"))


# --- torchrun, signals and loss ---


def torchrun(*arguments: object, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--shutdown-timeout", "20",
         "--standalone", "-m", "alexnet", *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def workers(process: subprocess.Popen[str]) -> list[int]:
    return [*map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_leaves_no_half_written_file(class_folders, tmp_path, number):
    """SIGKILL goes to the last process; the other signals go to torchrun, as a scheduler sends them."""
    process = torchrun("features", "pretrained", class_folders, tmp_path / "out" / "features.npz",
                       cache=tmp_path / "cache")
    end = time.monotonic() + 120
    while not (tmp_path / "out" / "features.npz.new").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    if number == signal.SIGKILL:
        os.kill(workers(process)[-1], number)
    else:
        process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode != 0, said
    assert not list((tmp_path / "out").iterdir())
