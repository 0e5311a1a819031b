"""Row 25: a server's memory when images fill the budget of decoding, against the sum of its limits.

    python benchmarks/reliability/decode_peak.py

Two clients (127.0.0.2, 127.0.0.3) send a form of images each of which takes nearly `Limits.large_bytes`, by its header,
so that as many are decoded in parallel as `Limits.decode_bytes` has room for. A third one sends a large image, which is
decoded besides, in a worker process. All three requests are padded to the largest body. This is measured with the
decode threads of 2 and of 8 cores, on whatever cores the machine has. Memory is the sum over the server and its worker
processes, every 20 ms; pages that they share count in each.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ledger
from attack import form
from ledger import Finding
from memory import repeated
from pictures import encoded
from PIL import Image
from served import CORES, Response, ServerProcess, post, send, untrained_run

from alexnet.data.decode_memory import decode_cost
from alexnet.serving.limits import Limits

FORM = "multipart/form-data; boundary=b"
LIMITS = Limits()
STEP_SECONDS = 0.02

KINDS: dict[str, tuple[str, str, dict[str, object]]] = {
    "RGB PNG": ("RGB", "PNG", {"compress_level": 1}), "CMYK JPEG": ("CMYK", "JPEG", {}),
    "progressive CMYK JPEG": ("CMYK", "JPEG", {"progressive": True})}
"""Name -> mode, format and options of the images of a form."""

START = ("from alexnet._runtime import cpu_threads; cpu_threads.usable_cores = lambda: {cores}; "
         "from alexnet.cli.main import main; main()")
"""`alexnet`, as on a machine with so many cores."""

CODE_MB, LARGE_MB, WORKER_MB = 300, 800, 80
"""Of the table in docs/serving.md: Python, torch and the code; one large image; one worker process."""


def flat(mode: str, kind: str, options: dict[str, object], memory: int) -> bytes:
    """An image of one color whose decoding takes, by its header, just less than so many bytes."""
    small = decode_cost(encoded(Image.new(mode, (100, 100)), kind, **options))
    side = int((0.98 * memory / (small.memory / small.pixels)) ** 0.5)
    while True:
        data = encoded(Image.new(mode, (side, side), (90, 60, 30, 0)[: len(mode)]), kind, **options)
        if decode_cost(data).memory <= memory:
            return data
        side -= 20


def padded(images: Sequence[bytes]) -> bytes:
    """A form of images and a text that fills it up to the largest body."""
    parts = [(f'name="image"; filename="{number}"', data) for number, data in enumerate(images)]
    room = LIMITS.body_bytes - len(form(parts)) - 1000
    return post(form([*parts, ('name="note"', b"x" * room)]), kind=FORM)


def requests(kind: str) -> dict[str, bytes]:
    """Address -> the request that is sent from it."""
    image = flat(*KINDS[kind], LIMITS.large_bytes)
    count = LIMITS.request_pixels // decode_cost(image).pixels
    large = encoded(Image.new("RGB", (6300, 6300)), "WEBP", lossless=True, method=0, quality=0)
    return {"127.0.0.2": padded([image] * count), "127.0.0.3": padded([image] * count), "127.0.0.4": padded([large])}


@contextmanager
def peak_of(server: ServerProcess) -> Iterator[list[float]]:
    """The most megabytes while the context lasts: of all processes, and of the server's own."""
    peak = [0.0, 0.0]

    def sample() -> None:
        peak[:] = max(peak[0], server.megabytes()), max(peak[1], server.own_megabytes())

    with repeated(sample, STEP_SECONDS):
        yield peak


def all_decoded(response: Response) -> bool:
    """Whether the response has a prediction for each image."""
    return response.status == 200 and all("classes" in image for image in json.loads(response.body)["images"])


def fill(cores: int, kinds: Sequence[str]) -> tuple[float, float, float, bool]:
    """Send the requests of each kind to a server with the decode threads of so many cores.

    Returns:
        Its megabytes before; the peak of all processes, and of the server's own; whether all images were decoded.
    """
    async def at_once(each: dict[str, bytes]) -> list[Response]:
        return await asyncio.gather(*(send(server.port, request, source) for source, request in each.items()))

    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(untrained_run(Path(folder)), "--max-queue-seconds", "600", cores=CORES)
        server.command[1:3] = ["-c", START.format(cores=cores)]
        with server:
            before, decoded, peaks = server.megabytes(), True, [0.0, 0.0]
            for kind in kinds:
                each = requests(kind)
                with peak_of(server) as peak:
                    responses = asyncio.run(at_once(each))
                decoded = decoded and all(map(all_decoded, responses))
                peaks = [*map(max, peaks, peak)]
    return before, peaks[0], peaks[1], decoded


def bound(cores: int) -> float:
    """The megabytes that docs/serving.md computes, for a network of few weights."""
    return (CODE_MB + LARGE_MB + (LIMITS.decode_bytes + 2 * LIMITS.total_body_bytes) / 1e6
            + WORKER_MB * (max(2, min(8, cores)) + 4))


def measure(cores: str, kinds: str) -> Finding:
    """Measure servers with different numbers of decode threads.

    Args:
        cores: of each server, separated by commas.
        kinds: of the images, separated by commas (`KINDS`).
    """
    found, holds = [], True
    for count in map(int, cores.split(",")):
        before, peak, own, decoded = fill(count, kinds.split(","))
        # Half of the budget at least: otherwise the images were not decoded in parallel, and nothing was measured.
        is_filled = own - before >= LIMITS.decode_bytes / 2e6
        holds = holds and decoded and is_filled and peak <= bound(count)
        found.append(f"{count} cores: {before:.0f} MB before, {peak:.0f} MB at the peak, of which the server's own "
                     f"process {own:.0f} MB at its peak; computed {bound(count):,.0f} MB"
                     + ", not all images decoded" * (not decoded) + ", budget not filled" * (not is_filled))
    return Finding(
        "25", f"two forms of images that fill the budget of decoding ({kinds.replace(',', ', ')}, in turn) and a large "
        "WebP at once, each in a body of 20 MB, sent to servers with the decode threads of "
        f"{cores.replace(',', ' and ')} cores", "all images are decoded; memory stays below the sum of the limits",
        "; ".join(found), holds)


if __name__ == "__main__":
    ledger.main(measure, cores="2,8", kinds=",".join(KINDS))
