"""Two hosts, which are network namespaces with a cable between them, train as one does, and outlast a cut cable."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from alexnet import checkpoint

SRC = Path(__file__).parents[1] / "src"

ADDRESSES = "10.77.0.1", "10.77.0.2"
ELASTIC = "join_timeout=1800,read_timeout=1800"
"""What docs/cluster.md advises: agents wait for a host that cannot be reached, instead of giving up after a minute."""


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

    def pids(self, host: int) -> list[int]:
        """Of all that runs on a host."""
        found = subprocess.run(["ip", "netns", "pids", self.names[host]], capture_output=True, text=True, timeout=30)
        return [int(line) for line in found.stdout.split()]

    def tear_down(self) -> None:
        """Nothing of them stays, whatever has happened."""
        for host, name in enumerate(self.names):
            for pid in self.pids(host):
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
                    "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"} | environment)
        self.started.append(process)
        return process

    def said(self, host: int) -> str:
        return (self.folder / f"said-{host}").read_text()

    def train(self, host: int, packed: Path, *options: str, out: Path, elastic: str = ELASTIC) -> None:
        self.run(host, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
                 "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{ADDRESSES[0]}:29400", "--rdzv-id", "two",
                 "--rdzv-conf", f"is_host={1 - host},{elastic}", "--local-addr", ADDRESSES[host],
                 "--max-restarts", "3", "--shutdown-timeout", "5",
                 "-m", "alexnet", "train", packed, *SMALL, "--out", out, *options)


SMALL = ("--arch", "small", "--set", "arch.input.side=32", "--set", "arch.input.crop=28", "--device", "cpu",
         "--precision", "fp32")
