"""Row 17: a client that sends the most expensive requests it may, and another client with one image at a time.

    python benchmarks/reliability/starve.py
    python benchmarks/reliability/starve.py --only JSON --no-record     the attacks whose names match this pattern

The two have different addresses (127.0.0.2 and 127.0.0.1), since the server divides its work between addresses. Each
attack lasts some seconds: several requests are always open, and a new one is sent as soon as one is answered. The other
client sends an image every 50 ms and waits for the response. The server has one core and the clients another; the
attacker is a process of its own, with a lower priority. Each attack is compared with the quiet client just before it,
since the speed of a shared machine changes within minutes. After it the other client must soon be as fast as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import multiprocessing
import os
import re
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

import ledger
import numpy as np
from attack import form
from ledger import Finding
from pictures import png_of_text, tiled_tiff
from PIL import Image
from served import Response, ServerProcess, image, on_the_client_core, post, send, untrained_run

FORM = "multipart/form-data; boundary=b"
ATTACKER = "127.0.0.2"
PAUSE = 0.05
"""Seconds between a response to the other client and its next request."""

QUIET_SECONDS = 6.0
"""Time before each attack in which the other client is alone."""

RECOVERY_SECONDS, AFTERWARDS_SECONDS = 5.0, 2.0
"""Within so many seconds of the end of an attack the other client's requests must be fast again, for so long."""

IMPORT_SECONDS = 60.0
"""Time in which the attacking process must have begun. What the other client sees is measured from then on."""

IDLE_SECONDS = 120.0
"""Time in which a server finishes what an attack has left: large images, one after the other, at a low priority."""


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


class Attack(NamedTuple):
    """One kind of request.

    Attributes:
        count: how many are open at a time.
        outcome: what one of them gets from an idle server (`outcome_of`): what the attack makes the server do.
        make: makes the request.
    """

    count: int
    outcome: str
    make: Callable[[], bytes]


ATTACKS: dict[str, Attack] = {name: Attack(*attack) for name, attack in {
    "64 flat PNGs of 49 megapixels, ten views, above the limit of views": (1, "400", lambda: several(
        [flat(7000, "PNG")] * 64, "/predict?views=10")),
    # Of large images, a client may have three in the queue, and of 49 megapixels a request may have two.
    "16 flat PNGs of 49 megapixels, ten views": (3, "200, 2 of 16 images", lambda: several(
        [flat(7000, "PNG")] * 16, "/predict?views=10")),
    "64 flat PNGs of 49 megapixels": (3, "200, 2 of 64 images", lambda: several(
        [flat(7000, "PNG")] * 64, "/predict")),
    "64 flat WebPs of 16 megapixels": (3, "200, 3 of 64 images", lambda: several(
        [flat(4000, "WEBP")] * 64, "/predict")),
    "a large image and 63 progressive JPEGs": (3, "200, 3 of 64 images", lambda: several(
        [flat(7000, "PNG"), *[flat(3400, "JPEG", progressive=True)] * 63], "/predict")),
    "64 small images": (8, "200, 64 of 64 images", lambda: several([image()] * 64, "/predict")),
    "16 images with ten views": (8, "200, 16 of 16 images", lambda: several([image()] * 16, "/predict?views=10")),
    "explanations": (8, "200", lambda: post(image(), "/explain")),
    "64 images as numbers in JSON": (8, "200", lambda: infer(
        "UINT8", [64, 64, 64, 3], b"7," * (64 * 64 * 64 * 3 - 1) + b"7")),
    "64 images as FP32 in JSON": (8, "200", lambda: infer(
        "FP32", [64, 3, 56, 56], b"-0.123456789," * (64 * 3 * 56 * 56 - 1) + b"7.5")),
    "20 MB of images in base64": (3, "200", lambda: infer(
        "BYTES", [1], b'"' + b64encode(image() + bytes(14_900_000)) + b'"')),
    "20 MB that are no image": (3, "422", lambda: post(bytes(20_000_000))),
    "20 MB of empty JPEG segments": (3, "422", lambda: post(b"\xff\xd8" + b"\xff\xe1\0\2" * 4_999_999)),
    "TIFFs of 64 x 64 pixels in a tile of 600 MB": (3, "422", lambda: post(
        tiled_tiff(Image.new("RGB", (64, 64)), 16384, 12288), kind="image/tiff")),
    "64 PNGs with 62 MB of text each": (3, "422", lambda: several(
        [png_of_text(Image.new("RGB", (64, 64)), 62)] * 64, "/predict")),
    "300 connections with an image each": (300, "200, 1 of 1 images", lambda: post(image()))}.items()}


def outcome_of(response: Response) -> str:
    """Status of a response, and for /predict how many images of the request were decoded."""
    images = json.loads(response.body).get("images") if response.status == 200 else None
    return f"{response.status}" if images is None else (
        f"{response.status}, {sum('classes' in each for each in images)} of {len(images)} images")


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


async def one_outcome(port: int, request: bytes, expected: str) -> str:
    """The outcome of one request, sent when the server has finished those of the attack before.

    One that is not expected is tried three times: on a machine with other work, a large image at low priority may take
    longer than `Limits.worker_seconds`.
    """
    outcome = ""
    for _ in range(3):
        until, metrics = time.monotonic() + IDLE_SECONDS, b""
        while b"\nalexnet_pending_images 0.0\n" not in metrics and time.monotonic() < until:
            await asyncio.sleep(0.1)
            metrics = (await send(port, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")).body
        outcome = outcome_of(await send(port, request, ATTACKER))
        if outcome == expected:
            break
    return outcome


def attack(port: int, count: int, request: bytes, begins: Event) -> None:
    """Keep several requests open, in a process of low priority: it takes no time from the other client."""
    os.nice(10)
    begins.set()

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


def run(server: ServerProcess, seconds: float, factor: float, only: str,
        ) -> tuple[dict[str, Experience], dict[str, Experience], dict[str, str], float, float]:
    """Attack the server in all ways.

    Returns:
        Name of an attack -> what the other client saw just before it, and what it saw meanwhile; name of an attack ->
        the outcome of one of its requests before it; the longest recovery from an attack in seconds; the server's peak
        memory in megabytes, with that of its worker processes.
    """
    quiet, seen, outcomes = dict[str, Experience](), dict[str, Experience](), dict[str, str]()
    longest, peak, spawning = 0.0, 0.0, multiprocessing.get_context("spawn")
    for name, (count, expected, make) in ATTACKS.items():
        if re.search(only, name):
            request = make()
            outcomes[name] = asyncio.run(one_outcome(server.port, request, expected))
            quiet[name] = asyncio.run(other_client(server.port, QUIET_SECONDS))
            begins = spawning.Event()
            process = spawning.Process(target=attack, args=(server.port, count, request, begins))
            process.start()
            begins.wait(IMPORT_SECONDS)  # until it has imported what it needs
            seen[name] = asyncio.run(other_client(server.port, seconds))
            peak = max(peak, server.megabytes("VmHWM"))
            process.kill()
            process.join()
            longest = max(longest, recovery(server.port, factor / 2 * quiet[name].quantile(0.99)))
    return quiet, seen, outcomes, longest, peak


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
        quiet, seen, outcomes, longest, peak = run(server, seconds, factor, only)
        peak -= before
    limits = {name: factor * one.quantile(0.5) for name, one in quiet.items()}
    late = {name: f", more than {limits[name]:.0f} ms" for name, one in seen.items()
            if one.seconds and one.quantile(0.99) > limits[name]}
    worst = max(one.quantile(0.99) / quiet[name].quantile(0.5) for name, one in seen.items())
    alone = [one.quantile(0.5) for one in quiet.values()]
    wrong = {name: f", and not {ATTACKS[name].outcome}" for name, outcome in outcomes.items()
             if outcome != ATTACKS[name].outcome}
    holds = (not late and not wrong and all(one.seconds and not one.refused for one in seen.values())
             and not any(one.refused for one in quiet.values()) and longest <= RECOVERY_SECONDS and peak <= megabytes)
    return Finding(
        "17", f"the most expensive requests that one client may send, {seconds:g} s each",
        f"another client is never refused, its p99 is at most {factor:g} x its p50 just before the attack, and within "
        f"{RECOVERY_SECONDS:g} s of its end {factor / 2:g} x its p99 just before it; memory "
        f"grows by at most {megabytes:,} MB at its peak",
        f"quiet p50 before the attacks {min(alone):.0f} to {max(alone):.0f} ms; p99 during an attack at most "
        f"{worst:.1f} times that before it; "
        + "; ".join(f"{name} (one request: {outcomes[name]}{wrong.get(name, '')}): {one}{late.get(name, '')}"
                    for name, one in seen.items())
        + f"; afterwards quiet again after {longest:.1f} s at most; memory grew by {peak:.0f} MB at its peak", holds)


if __name__ == "__main__":
    ledger.main(measure, seconds=20.0, factor=5.0, megabytes=900, only="")
