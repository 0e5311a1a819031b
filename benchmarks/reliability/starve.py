"""Row 17: a client that sends the most expensive requests it may, and another client with one image at a time.

    python benchmarks/reliability/starve.py
    python benchmarks/reliability/starve.py --only JSON --no-record     the attacks whose names match this pattern

The two have different addresses (127.0.0.2 and 127.0.0.1), since the server divides its work between addresses. Each
attack lasts some seconds: several requests are always open, and a new one is sent as soon as one is answered. The other
client sends an image every 50 ms and waits for the response. The server has one core and the clients another; the
attacker is a process of its own, with a lower priority. After each attack the other client must soon be as fast as
before.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import multiprocessing
import os
import re
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ledger
import numpy as np
from attack import form
from ledger import Finding
from PIL import Image
from served import ServerProcess, image, on_the_client_core, post, send, untrained_run

FORM = "multipart/form-data; boundary=b"
ATTACKER = "127.0.0.2"
PAUSE = 0.05
"""Seconds between a response to the other client and its next request."""

RECOVERY_SECONDS, AFTERWARDS_SECONDS = 5.0, 2.0
"""Within so many seconds of the end of an attack the other client's requests must be fast again, for so long."""


def flat(side: int, kind: str, **options: object) -> bytes:
    """An image of one color: a small file, and side x side pixels to decode."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side)).save(stream, kind, **options)
    return stream.getvalue()


def several(images: list[bytes], path: str) -> bytes:
    """A request with several images."""
    return post(form([(f'name="image"; filename="{number}"', data) for number, data in enumerate(images)]), path, FORM)


def infer(datatype: str, shape: list[int], data: bytes) -> bytes:
    """A request of the Open Inference Protocol."""
    return post(b'{"inputs":[{"name":"image","datatype":"%s","shape":%s,"data":[%s]}]}' % (
        datatype.encode(), str(shape).encode(), data), "/v2/models/alexnet/infer", "application/json")


ATTACKS: dict[str, tuple[int, Callable[[], bytes]]] = {
    "64 flat PNGs of 49 megapixels, ten views": (1, lambda: several([flat(7000, "PNG")] * 64, "/predict?views=10")),
    "64 flat WebPs of 16 megapixels": (3, lambda: several([flat(4000, "WEBP")] * 64, "/predict")),
    "a large image and 63 progressive JPEGs": (3, lambda: several(
        [flat(7000, "PNG"), *[flat(3400, "JPEG", progressive=True)] * 63], "/predict")),
    "64 small images": (8, lambda: several([image()] * 64, "/predict")),
    "16 images with ten views": (8, lambda: several([image()] * 16, "/predict?views=10")),
    "explanations": (8, lambda: post(image(), "/explain")),
    "64 images as numbers in JSON": (8, lambda: infer("UINT8", [64, 64, 64, 3], b"7," * (64 * 64 * 64 * 3 - 1) + b"7")),
    "64 images as FP32 in JSON": (8, lambda: infer(
        "FP32", [64, 3, 56, 56], b"-0.123456789," * (64 * 3 * 56 * 56 - 1) + b"7.5")),
    "20 MB of images in base64": (3, lambda: infer("BYTES", [1], b'"' + b64encode(image() + bytes(14_900_000)) + b'"')),
    "20 MB that are no image": (3, lambda: post(bytes(20_000_000))),
    "20 MB of empty JPEG segments": (3, lambda: post(b"\xff\xd8" + b"\xff\xe1\0\2" * 4_999_999))}
"""Name -> how many requests are open at a time, and a function that makes the request."""


@dataclass(frozen=True)
class Experience:
    """What the other client saw.

    Attributes:
        seconds: of each request that was answered with 200.
        refused: requests that were answered otherwise.
    """

    seconds: list[float]
    refused: int

    def quantile(self, share: float) -> float:
        """Milliseconds; infinite without an answer."""
        return 1e3 * float(np.quantile(self.seconds, share)) if self.seconds else float("inf")

    def __str__(self) -> str:
        return (f"{len(self.seconds)} answered, {self.refused} refused, p50 {self.quantile(0.5):.0f} ms, "
                f"p99 {self.quantile(0.99):.0f} ms")


async def other_client(port: int, seconds: float) -> Experience:
    """Send an image at a time."""
    until, answered, refused, request = time.monotonic() + seconds, [], 0, post(image())
    while time.monotonic() < until:
        began = time.monotonic()
        status = 0
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(30):
                status = (await send(port, request)).status
        if status == 200:
            answered.append(time.monotonic() - began)
        else:
            refused += 1
        await asyncio.sleep(PAUSE)
    return Experience(answered, refused)


async def attacker(port: int, request: bytes) -> None:
    """Send a request again and again; a refused client tries again at once, as no good one does."""
    while True:
        with contextlib.suppress(OSError):
            await send(port, request, ATTACKER)
        await asyncio.sleep(0.01)


def attack(port: int, count: int, request: bytes) -> None:
    """Keep several requests open, in a process of low priority: it takes no time from the other client."""
    os.nice(10)

    async def attackers() -> None:
        await asyncio.gather(*(attacker(port, request) for _ in range(count)))

    asyncio.run(attackers())


def recovery(port: int, p99: float) -> float:
    """Seconds after an attack from which the other client's p99 is quiet again; infinite if that takes too long.

    Args:
        port: of the server.
        p99: the highest that counts as quiet, in milliseconds.
    """
    began = time.monotonic()
    while (passed := time.monotonic() - began) <= RECOVERY_SECONDS:
        seen = asyncio.run(other_client(port, AFTERWARDS_SECONDS))
        if not seen.refused and seen.quantile(0.99) <= p99:
            return passed
    return float("inf")


def run(server: ServerProcess, seconds: float, factor: float, only: str) -> tuple[dict[str, Experience], float, float]:
    """Name of an attack -> what the other client saw meanwhile, "quiet" without one.

    Also the longest recovery from an attack in seconds, and the server's peak memory in megabytes, with that of its
    worker processes.
    """
    seen, longest, peak = {"quiet": asyncio.run(other_client(server.port, seconds))}, 0.0, 0.0
    for name, (count, make) in ATTACKS.items():
        if re.search(only, name):
            process = multiprocessing.get_context("spawn").Process(target=attack, args=(server.port, count, make()))
            process.start()
            time.sleep(3)  # until it has imported what it needs, and the server has started its worker processes
            seen[name] = asyncio.run(other_client(server.port, seconds))
            peak = max(peak, server.megabytes("VmHWM"))
            process.kill()
            process.join()
            longest = max(longest, recovery(server.port, factor / 2 * seen["quiet"].quantile(0.99)))
    return seen, longest, peak


def measure(seconds: float, factor: float, megabytes: int, only: str) -> Finding:
    """Attack a server with expensive requests.

    Args:
        seconds: duration of each attack.
        factor: how often the quiet p50 the other client's p99 may be, and half as often its quiet p99 afterwards.
        megabytes: by which memory may grow at its peak.
        only: a regular expression that the names of the attacks to run contain; "": all.
    """
    with (tempfile.TemporaryDirectory() as folder, ServerProcess(untrained_run(Path(folder))) as server,
          on_the_client_core()):
        before = server.megabytes()
        seen, longest, peak = run(server, seconds, factor, only)
        peak -= before
    limit = factor * seen["quiet"].quantile(0.5)
    late = {name: f", more than {limit:.0f} ms" for name, one in seen.items()
            if name != "quiet" and one.seconds and one.quantile(0.99) > limit}
    holds = (not late and all(one.seconds and not one.refused for one in seen.values())
             and longest <= RECOVERY_SECONDS and peak <= megabytes)
    return Finding(
        "17", f"the most expensive requests that one client may send, {seconds:g} s each",
        f"another client is never refused, its p99 is at most {factor:g} x its quiet p50, and within "
        f"{RECOVERY_SECONDS:g} s of an attack's end {factor / 2:g} x its quiet p99; memory "
        f"grows by at most {megabytes:,} MB at its peak",
        "; ".join(f"{name}: {one}{late.get(name, '')}" for name, one in seen.items())
        + f"; afterwards quiet again after {longest:.1f} s at most; memory grew by {peak:.0f} MB at its peak", holds)


if __name__ == "__main__":
    ledger.main(measure, seconds=20.0, factor=5.0, megabytes=900, only="")
