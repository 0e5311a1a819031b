"""Two hosts, which are network namespaces with a cable between them, train as one does, and outlast a cut cable."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from alexnet.cli.main import main
from alexnet.models import checkpoint
from requirements import missing

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "cluster" / "hosts.sh"
ADDRESSES = "10.77.0.1", "10.77.0.2"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30)


@dataclass
class Hosts:
    """Two network namespaces; `eth0` of one is wired to `eth0` of the other."""

    folder: Path
    names: tuple[str, str] = (f"alexnet-{os.getpid()}-a", f"alexnet-{os.getpid()}-b")
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def set_up(self) -> None:
        for name in self.names:
            ip("netns", "add", name)
        ip("-n", self.names[0], "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.names[1])
        for name, address in zip(self.names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                ip("-n", name, "link", "set", link, "up")

    def lose(self, host: int, *, power: bool = True) -> None:
        """All that runs on a host, at once, and without a word to the other, as when it loses power; or else its system
        goes on, and tells the other that nobody is there.
        """
        if power:
            self.cable("down", host)
        for pid in self.pids(host):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.started.pop(host).wait(timeout=30)

    def pids(self, host: int) -> list[int]:
        """Of all that runs on a host."""
        found = subprocess.run(["ip", "netns", "pids", self.names[host]], capture_output=True, text=True, timeout=30)
        return [int(line) for line in found.stdout.split()]

    def tear_down(self) -> None:
        """Nothing of them stays, whatever has happened."""
        for host, name in enumerate(self.names):
            for pid in self.pids(host):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=30)
        for process in self.started:
            process.kill()
            process.wait(timeout=30)

    def cable(self, state: str, host: int = 1) -> None:
        ip("-n", self.names[host], "link", "set", "eth0", state)

    def run(self, host: int, *command: str | Path, **environment: str) -> subprocess.Popen[bytes]:
        """What it says, to standard output and standard error, is in `said(host)`."""
        with (self.folder / f"said-{host}").open("ab") as said:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.names[host], *command], stdout=said, stderr=said, env=os.environ | {
                    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src"),
                    "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"} | environment)
        self.started.append(process)
        return process

    def said(self, host: int) -> str:
        return (self.folder / f"said-{host}").read_text()

    def train(self, host: int, packed: Path, *options: str, **environment: str) -> None:
        """This host's part of a run of two; what it would write is in `out(host)`."""
        self.run(host, SCRIPT, ",".join(ADDRESSES), packed, *options, "--out", self.out(host), SELF=ADDRESSES[host],
                 PROCESSES="1", **environment)

    def out(self, host: int) -> Path:
        return self.folder / f"out-{host}"

    def workers(self, host: int) -> list[int]:
        """The processes that train, and not those that started them."""
        def trains(pid: int) -> bool:
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                return False
            return b"alexnet\0train" in command and b"--rdzv-id" not in command

        return [pid for pid in self.pids(host) if trains(pid)]

    def log(self) -> list[dict]:
        """What rank 0 has logged, but for a line that it is just writing."""
        path = self.out(0) / "log.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines(keepends=True)
                if line.endswith("\n")] if path.exists() else []

    def epochs(self) -> list[int]:
        return [event["epoch"] for event in self.log() if event["event"] == "epoch"]

    def wait(self, seconds: float, until: Callable[[], object], what: str) -> float:
        """How many seconds it took; fails with what the hosts have said when it takes longer than that."""
        began = time.monotonic()
        while not until():
            if time.monotonic() - began > seconds:
                pytest.fail(f"{what}: not within {seconds} seconds\n{self.said(0)}\n{self.said(1)}")
            time.sleep(0.05)
        return time.monotonic() - began

    def wait_for_step(self, step: int) -> None:
        self.wait(120, lambda: any(event["event"] == "step" and event["step"] == step for event in self.log()),
                  f"step {step}")

    def wait_for_loss(self) -> None:
        """Till the first host has said that the other is lost, for which it has the time that its work allows.

        Within a step, --timeout's 10 seconds. At the end of an epoch, where it may wait long for the other's disk, 60
        seconds without a sign of life: no test can choose the moment so exactly that only the first happens.
        """
        in_step, between = "has not responded for 10 seconds", "has not responded for 60 seconds"
        took = self.wait(90, lambda: in_step in self.said(0) or between in self.said(0), "the loss")
        assert took < 30 or between in self.said(0)

    def ended(self) -> bool:
        return all(process.poll() is not None for process in self.started)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces are made by root only")
    if not shutil.which("ip"):
        missing("no ip on the PATH; apt-get install iproute2")
    made = Hosts(tmp_path)
    try:
        try:
            made.set_up()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not allowed here: {error.stderr.strip()}")
        yield made
    finally:
        made.tear_down()


ONE = ("--arch", "cifar", "--epochs", "1", "--set", "recipe.batch_size=120", "--device", "cpu", "--precision", "fp32")
"""One step of all images: in a second one, weights that differ in the ninth digit may tip a maximum of pooling."""
MANY = ("--arch", "small", "--set", "arch.input.side=32", "--set", "arch.input.crop=28", "--epochs", "8",
        "--set", "recipe.batch_size=3", "--device", "cpu", "--precision", "fp32", "--timeout", "10")
"""Eight epochs of forty steps."""


@pytest.mark.slow
def test_an_epoch_of_two_hosts_is_that_of_one_process_to_rounding(hosts, packed, one_thread, tmp_path, capsys):
    """And only the first host writes: the other's folder is never made."""
    for host in (0, 1):
        hosts.train(host, packed.path, *ONE)
    with suppress(SystemExit):
        main(["train", str(packed.path), *ONE, "--out", str(tmp_path / "one")])
    hosts.wait(120, hosts.ended, "an epoch")
    assert [process.returncode for process in hosts.started] == [0, 0], hosts.said(0) + hosts.said(1)
    one, two = (checkpoint.load(out / "last", with_velocity=True) for out in (tmp_path / "one", hosts.out(0)))
    for kind in ("weights", "velocity"):
        for key, tensor in getattr(one, kind).items():
            torch.testing.assert_close(getattr(two, kind)[key], tensor, rtol=1e-3,
                                       atol=1e-4 * max(0.05, float(tensor.abs().max())),
                                       msg=lambda why, key=key, kind=kind: f"{kind} {key}: {why}")
    assert two.errors["loss"] == pytest.approx(one.errors["loss"], rel=1e-5)
    assert two.errors["images"] == one.errors["images"] == 44
    assert not hosts.out(1).exists()


def begin(hosts: Hosts, packed: Path, *options: str, **environment: str) -> None:
    """Train until the second epoch has begun."""
    for host in (0, 1):
        hosts.train(host, packed, *MANY, *options, **environment)
    hosts.wait_for_step(50)


def assert_finished(hosts: Hosts, done: int) -> None:
    """Every epoch was trained, and logged once, and those that were `done` not again."""
    hosts.wait(120, hosts.ended, "the rest of the epochs")
    assert [process.returncode for process in hosts.started] == [0, 0], hosts.said(0) + hosts.said(1)
    assert f"resuming after {done} of 8 epochs" in hosts.said(0)
    assert hosts.epochs() == list(range(1, 9))
    assert not hosts.out(1).exists()


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 75])
def test_a_cut_cable_costs_its_own_length_twice_and_half_a_minute(hosts, packed, seconds):
    """Both processes give up after their ten seconds; `seconds` later the cable is back.

    0: torchrun has not missed the other host yet (its keep-alive is 15 seconds). 75: it has, and by its own 60 seconds
    for reading the store it would have ended. TCP tries again at intervals that double, hence the length once more.
    """
    begin(hosts, packed.path)
    hosts.cable("down")
    cut = time.monotonic()
    hosts.wait(30, lambda: all("has not responded for 10 seconds" in hosts.said(host) for host in (0, 1)), "the cut")
    done = len(hosts.epochs())
    assert done < 8
    assert hosts.log()[-1]["event"] != "epoch"  # an epoch was begun
    time.sleep(seconds)
    assert not hosts.ended()
    length = time.monotonic() - cut
    hosts.cable("up")
    recovered = hosts.wait(length + 30, lambda: "resuming after" in hosts.said(0), "a restart")
    print(f"cut for {length:.1f} seconds, training again {recovered:.1f} seconds after")
    assert_finished(hosts, done)


@pytest.mark.slow
@pytest.mark.parametrize("hung", [False, True])
def test_a_process_that_is_lost_on_one_host_only_restarts_both(hosts, packed, hung):
    """Its host counts a restart; the other, whose process may have hung, only follows, and counts none.

    Hung, it is tried with the store that torchrun has unless told otherwise, where words of the former start are left.
    """
    begin(hosts, packed.path, TORCH_DISABLE_SHARE_RDZV_TCP_STORE=str(int(not hung)))
    first, last = hosts.workers(0), hosts.workers(1)
    if hung:
        os.kill(first[-1], signal.SIGSTOP)
    done = len(hosts.epochs())
    os.kill(last[-1], signal.SIGKILL)
    recovered = hosts.wait(60, lambda: "resuming after" in hosts.said(0), "a restart")  # torchrun's 30 before SIGKILL
    print(f"training again after {recovered:.1f} seconds")
    assert_finished(hosts, done)


@pytest.mark.slow
def test_a_host_that_lost_power_and_is_started_again_takes_its_place(hosts, packed):
    """The other's launcher has noticed, and waits for it."""
    begin(hosts, packed.path)
    hosts.lose(1)
    hosts.wait_for_loss()
    done = len(hosts.epochs())
    hosts.cable("up", 1)
    hosts.train(1, packed.path, *MANY)
    recovered = hosts.wait(60, lambda: "resuming after" in hosts.said(0), "a restart")
    print(f"training again {recovered:.1f} seconds after it was started")
    assert_finished(hosts, done)


@pytest.mark.slow
def test_a_host_that_is_preempted_has_all_saved_first_and_is_waited_for(hosts, packed):
    """The signal comes to its launcher in the middle of an epoch, and the run goes on in the middle of it."""
    begin(hosts, packed.path)
    preempted = hosts.started.pop(1)
    preempted.terminate()
    preempted.wait(timeout=30)
    hosts.wait(30, lambda: "is saved; resume with --resume" in hosts.said(0), "the last checkpoint")
    saved = checkpoint.load(hosts.out(0) / "last").training
    assert saved["step"] % 40
    hosts.train(1, packed.path, *MANY)
    hosts.wait(60, lambda: "resuming after" in hosts.said(0), "a restart")
    assert f"resuming after {saved['epoch']} of 8 epochs, {saved['step']} steps done" in hosts.said(0)
    assert_finished(hosts, saved["epoch"])


@pytest.mark.slow
def test_a_run_goes_on_with_one_host_of_two_and_takes_the_other_back(hosts, packed):
    """torchrun --nnodes 1:2. The processes of both are restarted when the other one comes back, with all saved."""
    def train(host: int) -> None:
        hosts.train(host, packed.path, *MANY[:7], "200", *MANY[8:], NODES="1:2", LAST_CALL="5")

    def processes() -> int:
        return json.loads((hosts.out(0) / "config.json").read_text())["processes"]

    assert MANY[6] == "--epochs"
    for host in (0, 1):
        train(host)
    hosts.wait_for_step(90)
    assert processes() == 2
    hosts.lose(1)
    hosts.wait_for_loss()
    done = len(hosts.epochs())
    alone = hosts.wait(90, lambda: len(hosts.epochs()) > done + 1, "epochs of one host")
    assert processes() == 1
    hosts.cable("up", 1)
    train(1)
    back = hosts.wait(120, lambda: processes() == 2, "the other's return")
    hosts.wait(60, lambda: hosts.said(0).count("resuming after") == 2, "the second resumption")
    alone_at, together_at = map(int, re.findall(r"resuming after (\d+) of 200 epochs", hosts.said(0)))
    assert done - 1 <= alone_at < together_at  # an epoch is logged before its checkpoint is written
    assert "is saved; resume with --resume" in hosts.said(0), "torchrun's SIGTERM ends the one that was alone"
    print(f"two epochs of one host {alone:.1f} seconds after the loss was known, two hosts after {back:.1f} seconds")
    hosts.wait(60, lambda: len(hosts.epochs()) > together_at + 1, "epochs of two hosts")
    hosts.started[0].terminate()
    hosts.wait(60, hosts.ended, "the end")
    assert hosts.epochs() == list(range(1, len(hosts.epochs()) + 1))
    assert not hosts.out(1).exists()


@pytest.mark.slow
@pytest.mark.parametrize("power", [False, True])
def test_the_host_they_meet_at_is_lost_and_the_other_ends_by_itself(hosts, packed, power):
    """Its launcher has nobody to ask, restarts or not; the same command on both goes on from the last checkpoint.

    When the host lost its power, the other knows only once it is up again, with nobody there: till then, a cut cable.
    """
    begin(hosts, packed.path, "--save-minutes", "0.005")
    json_file = hosts.out(0) / "last" / checkpoint.JSON_FILE

    def saved() -> dict:
        return json.loads(json_file.read_text())["training"] if json_file.exists() else {"step": 0}

    hosts.wait(30, lambda: saved()["step"] % 40, "a checkpoint within an epoch")
    hosts.lose(0, power=power)
    lost, last = time.time() - json_file.stat().st_mtime, saved()
    hosts.wait(30, lambda: "has ended or has not responded for 10 seconds" in hosts.said(1), "the loss")
    if power:
        assert not hosts.ended()
        hosts.cable("up", 0)
    ended = hosts.wait(60, hosts.ended, "the other's end")
    print(f"ended {ended:.1f} seconds after it could know; what was lost: {lost:.1f} seconds")
    assert [process.returncode for process in hosts.started] == [1]
    assert "if MASTER_ADDR's host is lost, start the same command again on all" in hosts.said(1)
    assert "RendezvousConnectionError" in hosts.said(1)
    assert lost < 10
    hosts.started.clear()
    for host in (0, 1):
        hosts.train(host, packed.path, *MANY)
    hosts.wait(60, lambda: "resuming after" in hosts.said(0), "a new start")
    assert f"resuming after {last['epoch']} of 8 epochs, {last['step']} steps done\n" in hosts.said(0)
    assert_finished(hosts, last["epoch"])
