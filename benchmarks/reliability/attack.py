"""Row 9: fuzzed requests, an endless body, and slow clients.

    python benchmarks/reliability/attack.py --requests 10000 --megabytes 1000 --slow-clients 200

The requests are damaged valid ones, combinations of unusual parts, or noise. Meanwhile and afterwards the server must
respond to valid requests in time, and its memory must not grow.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import ledger
from ledger import Finding
from PIL import Image
from served import (
    NO_RESPONSE,
    Response,
    ServerProcess,
    connect,
    image,
    on_the_client_core,
    post,
    read_response,
    send,
    untrained_run,
)

CONCURRENT = 8
"""Concurrent fuzzed requests; too few to overload the server."""

STATUSES = {200, 400, 401, 403, 404, 405, 408, 413, 415, 422}
"""The documented statuses without 500 and 503, and those of HTTP for malformed requests."""

MAX_GROWTH = 50
"""Megabytes by which the server's memory may grow."""

# --- Requests ---------------------------------------------------------------------------------------------------------

METHODS = ["GET", "POST", "HEAD", "PUT", "OPTIONS", "TRACE", "CONNECT", "PATCH", "DELETE", "get", "PRI", "X" * 300]
PATHS = ["/", "/predict", "/explain", "/model", "/health", "/ready", "/metrics", "/openapi.json", "/palette.css",
         "/page.js", "/samples/0.png", "/samples/99999.png", f"/samples/{'9' * 5000}.png", "/samples/%C2%B2.png",
         "/../../etc/passwd", "/%2e%2e/%00", "//predict", "http://localhost/predict", "*", "/%ff%fe", "/predict/",
         "/" + "a/" * 5000]
QUERIES = ["", "top=1", "top=-1", "top=1e3", "top=%D9%A3", f"top={'9' * 5000}", "views=10", "views=7", "logits=true",
           "logits=true&views=10", "class=class%201", "class=%00", "class=%ed%a0%80", "class=" + "x" * 9000, "&" * 9000,
           "top=1&top=2", "%", "=", "a" * 40_000]
HEADERS = ["Expect: 100-continue", "Connection: close", "Connection: Upgrade\r\nUpgrade: websocket", "Upgrade: h2c",
           "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Content-Length: 5", "Content-Length: -1",
           "Content-Length: " + "9" * 30, "Host: elsewhere", "Host:", "Authorization: Bearer \xff", "Range: bytes=0-",
           "Sec-Fetch-Site: cross-site", "X: " + "y" * 20_000, "A: b\r\n" * 2000 + "C: d", " folded: x", "Cookie: \x00",
           "Content-Encoding: gzip", "Accept: */*;q=\xff", "Content-Type: text/plain", "Content-Type: image/\xe9"]
FORM = "multipart/form-data; boundary=b"
CONTENT_TYPES = ["image/png", "image/jpeg", "application/octet-stream", FORM, 'multipart/form-data; boundary="b"',
         "IMAGE/PNG",
         "", "text/html", "multipart/form-data", f"{FORM}; charset=undefined", f"{FORM}; charset=punycode",
         FORM + "b" * 300]
DISPOSITIONS = ['name="p"; filename="a.png"', 'name="p"; filename=""', 'name="p"', "",
         'name="p"; filename="\x00\xed\xa0\x80"',
         "name=\"p\"; filename*=utf-8''%ed%a0%80", "filename*0*=x''%ff; filename*1=y", 'filename="' + "x" * 3000,
         'name="p"; filename="\\"', "filename*=undefined''%ff"]


def form(parts: list[tuple[str, bytes]]) -> bytes:
    """A multipart/form-data body with the boundary b, from (Content-Disposition, data) of each part."""
    return b"".join(f"--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode("latin-1") + data + b"\r\n"
                    for disposition, data in parts) + b"--b--\r\n"


def chunked(body: bytes, size: int) -> bytes:
    """The body in the chunked transfer encoding."""
    pieces = [body[begin : begin + size] for begin in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The data with some bytes changed, removed, inserted or repeated."""
    made = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        position, length = rng.randrange(len(made) + 1), rng.choice([1, 1, 2, 4, 60])
        made[position : position + rng.choice([0, length])] = rng.choice([
            rng.randbytes(length), b"", made[position : position + length] * 2, b"\r\n", b"\0", b"\xff" * length,
            b"--b", b";"])
    return bytes(made[: rng.randrange(len(made) + 1)] if rng.random() < 0.1 else made)


def fuzzed(rng: random.Random, files: list[bytes]) -> bytes:
    """A request that is probably malformed."""
    data = rng.choice(files)
    data = damaged(data, rng) if rng.random() < 0.5 else data
    if rng.random() < 0.05:
        return rng.randbytes(rng.choice([1, 10, 1000, 100_000]))
    if rng.random() < 0.3:
        body = data if rng.random() < 0.5 else form([(DISPOSITIONS[0], data)])
        return damaged(post(body, rng.choice(PATHS[1:3]), rng.choice(CONTENT_TYPES[:4])), rng)
    body = data if rng.random() < 0.5 else form([
        (rng.choice(DISPOSITIONS), rng.choice([data, b"", b"\r\n--"]))
        for _ in range(rng.choice([1, 1, 2, 3, 70, 700]))])
    body = damaged(body, rng) if rng.random() < 0.3 else body
    headers = [f"Content-Type: {rng.choice(CONTENT_TYPES)}", *rng.sample(HEADERS, rng.choice([0, 0, 0, 0, 1, 2, 4]))]
    if rng.random() < 0.8:
        headers.insert(0, "Host: localhost")
    if rng.random() < 0.3:
        headers, body = [*headers, "Transfer-Encoding: chunked"], chunked(body, rng.choice([7, 1000]))
    elif rng.random() < 0.9:
        headers.append(f"Content-Length: {len(body)}")
    path, query = rng.choice(["/predict", "/explain", rng.choice(PATHS)]), rng.choice(["", *QUERIES])
    target = f"{path}?{query}" if query else path
    method, http = rng.choice(["POST"] * 3 + METHODS), rng.choice(["1.1"] * 5 + ["1.0", "0.9", "2.0"])
    return "\r\n".join([f"{method} {target} HTTP/{http}", *headers, "", ""]).encode("latin-1") + body


def image_files() -> list[bytes]:
    """Small images of all formats and unusual shapes, and data that is not an image."""
    formats = ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"]
    made = [image(seed, name) for seed, name in enumerate(formats)]
    made += [image(8, "PNG", (1, 5000)), image(9, "PNG", (5000, 1)), b"", b"no picture"]
    return made


def large_image() -> bytes:
    """49 megapixels that compress to a small file."""
    stream = io.BytesIO()
    Image.new("RGBA", (7000, 7000)).save(stream, "PNG")
    return stream.getvalue()


# --- Clients ----------------------------------------------------------------------------------------------------------


async def send_and_close(port: int, request: bytes) -> Response:
    """Send a request and close the sending side; the server may close the connection earlier."""
    with contextlib.suppress(OSError):
        async with connect(port) as (reader, writer):
            writer.write(request)
            if writer.can_write_eof():
                writer.write_eof()
            async with asyncio.timeout(60):
                return await read_response(reader)
    return NO_RESPONSE


async def fuzz(port: int, requests: int) -> Counter[int]:
    """Send fuzzed requests; return the number of each status."""
    rng, files, statuses = random.Random(0), image_files(), Counter[int]()
    made = (fuzzed(rng, files) for _ in range(requests))

    async def client() -> None:
        for request in made:
            response = await send_and_close(port, request)
            statuses[response.status] += 1
            if response.status and response.status not in STATUSES:
                print(response.status, request[:300], response.body[:200])

    await asyncio.gather(*(client() for _ in range(CONCURRENT)))
    return statuses


async def endless_body(port: int, megabytes: int) -> int:
    """Send a long chunked body; return the status."""
    async with connect(port) as (reader, writer):
        writer.write(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n")
        response = asyncio.create_task(read_response(reader))
        chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        with contextlib.suppress(OSError):
            for _ in range(megabytes):
                writer.write(chunk)
                await writer.drain()
        return (await response).status


async def slow_client(port: int, number: int, seconds: float) -> None:
    """Send a request byte by byte, until the server closes the connection; odd clients send the header at once."""
    request = post(image())
    position = request.index(b"\r\n\r\n") + 4 if number % 2 else 0
    until = time.monotonic() + seconds
    with contextlib.suppress(OSError):
        async with connect(port) as (reader, writer):
            writer.write(request[:position])
            while time.monotonic() < until and not reader.at_eof():
                writer.write(request[position : (position := position + 1)])
                await asyncio.sleep(1)


async def send_without_reading(port: int, request: bytes, seconds: float) -> None:
    """Send bytes, read no response, and keep the connection open."""
    with contextlib.suppress(OSError, TimeoutError):
        async with connect(port) as (_, writer), asyncio.timeout(seconds):
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(request)
            await writer.drain()
            await asyncio.sleep(seconds)


# --- Measurement ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ValidRequests:
    """Valid requests during an attack."""

    answered: int
    failed: int
    longest: float
    """Seconds."""

    def __str__(self) -> str:
        return f"{self.answered} valid requests answered, {self.failed} not, at most {1e3 * self.longest:.0f} ms"


async def valid_requests_during(port: int, attack: Awaitable[object]) -> ValidRequests:
    """Send valid requests, one after the other, until the attack ends."""
    task, answered, failed, longest = asyncio.ensure_future(attack), 0, 0, 0.0
    while True:
        began = time.monotonic()
        is_answered = (await send(port, post(image()))).status == 200
        answered, failed = answered + is_answered, failed + (not is_answered)
        longest = max(longest, time.monotonic() - began)
        if task.done():
            await task
            return ValidRequests(answered, failed, longest)
        await asyncio.sleep(0.1)


Attack = tuple[int, Callable[[int], Awaitable[object]]]
"""The number of concurrent clients, and what the client of a number does."""


def attacks(port: int, slow_clients: int, seconds: float, forms: int) -> dict[str, Attack]:
    """Name -> attack."""
    unfinished = post(bytes(16_000_000))[:-1]
    many_requests = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000
    one_byte_chunks = (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
                       b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nA\r\n" * 1_000_000)
    large = post(form([('name="image"; filename="b.png"', large_image())] * forms), "/predict", FORM)
    return {
        "slow clients": (slow_clients, lambda number: slow_client(port, number, seconds)),
        "unfinished bodies of 16 MB": (6, lambda _: send_without_reading(port, unfinished, seconds)),
        "clients that read no response": (6, lambda _: send_without_reading(port, many_requests, seconds)),
        "bodies in chunks of one byte": (2, lambda _: send_without_reading(port, one_byte_chunks, seconds)),
        f"forms of {forms} images of 49 megapixels": (forms, lambda _: send_and_close(port, large))}


@dataclass(frozen=True)
class Outcome:
    """What the attacks did to a server: statuses of fuzzed requests, status of the endless body, memory in MB."""

    statuses: Counter[int]
    endless_status: int
    valid: dict[str, ValidRequests]
    growth: float
    peak: float


async def run(server: ServerProcess, requests: int, megabytes: int, slow_clients: int, seconds: float,
              forms: int) -> Outcome:
    """Attack a server, and measure valid requests and memory."""
    port, valid = server.port, dict[str, ValidRequests]()
    warm_up = post(form([('name="image"; filename="x"', image())] * 64), "/predict", FORM)
    for request in [warm_up, post(large_image()), post(image(), "/explain"), *[post(image())] * 50]:
        await send(port, request)
    before = server.megabytes()
    statuses = await fuzz(port, requests)
    endless_status = await endless_body(port, megabytes)
    for name, (count, client) in attacks(port, slow_clients, seconds, forms).items():
        valid[f"{count} {name}"] = await valid_requests_during(port, asyncio.gather(*map(client, range(count))))
    until = time.monotonic() + 30
    while (growth := server.megabytes() - before) > MAX_GROWTH and time.monotonic() < until:
        await asyncio.sleep(0.5)
    valid["afterwards"] = await valid_requests_during(port, asyncio.sleep(1))
    return Outcome(statuses, endless_status, valid, growth, server.megabytes("VmHWM") - before)


def measure(requests: int, megabytes: int, slow_clients: int, seconds: float, forms: int, longest: float) -> Finding:
    """Attack a server.

    Args:
        requests: fuzzed requests.
        megabytes: length of the endless body.
        slow_clients: concurrent clients that send byte by byte.
        seconds: duration of each attack.
        forms: forms of large images, and images in each.
        longest: seconds that a valid request may take meanwhile.
    """
    with (tempfile.TemporaryDirectory() as folder, ServerProcess(untrained_run(Path(folder))) as server,
          on_the_client_core()):
        outcome = asyncio.run(run(server, requests, megabytes, slow_clients, seconds, forms))
        tracebacks = server.output().count("Traceback")
        if tracebacks:
            print(server.output()[:4000])
    statuses = outcome.statuses
    failed = {status: count for status, count in statuses.items() if status and status not in STATUSES}
    holds = (not failed and not tracebacks and statuses[200] > 0 and outcome.endless_status == 413
             and outcome.growth <= MAX_GROWTH
             and all(valid.answered and not valid.failed and valid.longest <= longest
                     for valid in outcome.valid.values()))
    during = "; ".join(f"{name}: {valid}" for name, valid in outcome.valid.items())
    return Finding(
        "9", f"{requests:,} fuzzed requests, {megabytes:,} MB in chunks, {slow_clients} slow clients, and "
        "other hostile clients",
        f"no 5xx, no traceback; valid requests meanwhile answered within {longest:g} s; memory grows by at most "
        f"{MAX_GROWTH} MB",
        f"{failed.get(500, 0)} times 500, {tracebacks} tracebacks, {sum(failed.values())} unexpected of "
        f"{statuses.total():,} (200: {statuses[200]:,}; closed without response: {statuses[0]:,}; the other "
        f"{statuses.total() - statuses[200] - statuses[0] - sum(failed.values()):,}: a documented 4xx); endless body: "
        f"{outcome.endless_status}; {during}; memory grew by {outcome.growth:.0f} MB, at its peak by "
        f"{outcome.peak:.0f}", holds)


if __name__ == "__main__":
    ledger.main(measure, requests=10_000, megabytes=1000, slow_clients=200, seconds=30.0, forms=3, longest=2.0)
