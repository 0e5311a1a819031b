"""Row 9: requests made up to break the server, a body without end, and clients who take their time.

    python benchmarks/reliability/attack.py --requests 10000 --megabytes 1000 --slow-clients 200

Whole requests are damaged byte by byte, put together from odd parts, or are noise. Meanwhile and afterwards a good
request must be answered as ever, and the server's memory must be what it was.
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
from pathlib import Path

import ledger
from ledger import Finding
from PIL import Image
from served import LOST, Reply, Served, ask, connected, image, on_the_other_core, post, reply, untrained

AT_ONCE = 8
"""Fuzzed requests under way; so few are no load."""

STATUSES = {200, 400, 401, 403, 404, 405, 408, 413, 415, 422}
"""What the interface's description lists, less 500 and 503, and what HTTP itself has for odd requests."""

GROWTH = 50
"""Megabytes."""

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
KINDS = ["image/png", "image/jpeg", "application/octet-stream", FORM, 'multipart/form-data; boundary="b"', "IMAGE/PNG",
         "", "text/html", "multipart/form-data", f"{FORM}; charset=undefined", f"{FORM}; charset=punycode",
         FORM + "b" * 300]
HEADS = ['name="p"; filename="a.png"', 'name="p"; filename=""', 'name="p"', "", 'name="p"; filename="\x00\xed\xa0\x80"',
         "name=\"p\"; filename*=utf-8''%ed%a0%80", "filename*0*=x''%ff; filename*1=y", 'filename="' + "x" * 3000,
         'name="p"; filename="\\"', "filename*=undefined''%ff"]


def form(parts: list[tuple[str, bytes]]) -> bytes:
    """multipart/form-data with the boundary b; each part with its disposition."""
    return b"".join(f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode("latin-1") + data + b"\r\n"
                    for head, data in parts) + b"--b--\r\n"


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def damaged(data: bytes, rng: random.Random) -> bytes:
    """With some of its bytes changed, left out, put in or said twice."""
    made = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at, length = rng.randrange(len(made) + 1), rng.choice([1, 1, 2, 4, 60])
        made[at : at + rng.choice([0, length])] = rng.choice([
            rng.randbytes(length), b"", made[at : at + length] * 2, b"\r\n", b"\0", b"\xff" * length, b"--b", b";"])
    return bytes(made[: rng.randrange(len(made) + 1)] if rng.random() < 0.1 else made)


def fuzzed(rng: random.Random, pictures: list[bytes]) -> bytes:
    """A request that no client of good will sends; now and then it is a sound one all the same."""
    picture = rng.choice(pictures)
    picture = damaged(picture, rng) if rng.random() < 0.5 else picture
    if rng.random() < 0.05:
        return rng.randbytes(rng.choice([1, 10, 1000, 100_000]))
    if rng.random() < 0.3:
        return damaged(post(picture if rng.random() < 0.5 else form([(HEADS[0], picture)]), rng.choice(PATHS[1:3]),
                            rng.choice(KINDS[:4])), rng)
    body = picture if rng.random() < 0.5 else form([(rng.choice(HEADS), rng.choice([picture, b"", b"\r\n--"]))
                                                    for _ in range(rng.choice([1, 1, 2, 3, 70, 700]))])
    body = damaged(body, rng) if rng.random() < 0.3 else body
    headers = [f"Content-Type: {rng.choice(KINDS)}", *rng.sample(HEADERS, rng.choice([0, 0, 0, 0, 1, 2, 4]))]
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


def odd_pictures() -> list[bytes]:
    """Small ones of all kinds, and some that are none."""
    kinds = ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"]
    made = [image(seed, kind) for seed, kind in enumerate(kinds)]
    made += [image(8, "PNG", (1, 5000)), image(9, "PNG", (5000, 1)), b"", b"no picture"]
    return made


def bomb() -> bytes:
    stream = io.BytesIO()
    Image.new("RGBA", (7000, 7000)).save(stream, "PNG")
    return stream.getvalue()


# --- Clients ----------------------------------------------------------------------------------------------------------


async def send(port: int, request: bytes) -> Reply:
    """All of it, and that no more comes; a server that has heard enough may have closed before."""
    with contextlib.suppress(OSError):
        async with connected(port) as (reader, writer):
            writer.write(request)
            if writer.can_write_eof():
                writer.write_eof()
            async with asyncio.timeout(60):
                return await reply(reader)
    return LOST


async def fuzz(port: int, requests: int) -> Counter[int]:
    rng, pictures, seen = random.Random(0), odd_pictures(), Counter[int]()
    made = (fuzzed(rng, pictures) for _ in range(requests))

    async def one() -> None:
        for request in made:
            got = await send(port, request)
            seen[got.status] += 1
            if got.status and got.status not in STATUSES:
                print(got.status, request[:300], got.body[:200])

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    return seen


async def endless(port: int, megabytes: int) -> int:
    """A chunked body: the status that came of it."""
    async with connected(port) as (reader, writer):
        writer.write(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n")
        answer = asyncio.create_task(reply(reader))
        chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        with contextlib.suppress(OSError):
            for _ in range(megabytes):
                writer.write(chunk)
                await writer.drain()
        return (await answer).status


async def slow(port: int, number: int, seconds: float) -> None:
    """A request that comes byte by byte, from its head or from its body on, until the server has had enough."""
    request = post(image())
    at = request.index(b"\r\n\r\n") + 4 if number % 2 else 0
    until = time.monotonic() + seconds
    with contextlib.suppress(OSError):
        async with connected(port) as (reader, writer):
            writer.write(request[:at])
            while time.monotonic() < until and not reader.at_eof():
                writer.write(request[at : (at := at + 1)])
                await asyncio.sleep(1)


async def stubborn(port: int, request: bytes, seconds: float) -> None:
    """Sends that, and takes no answer."""
    with contextlib.suppress(OSError, TimeoutError):
        async with connected(port) as (_, writer), asyncio.timeout(seconds):
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(request)
            await writer.drain()
            await asyncio.sleep(seconds)


async def good_meanwhile(port: int, trouble: Awaitable[object]) -> tuple[int, int, float]:
    """Good requests while that lasts: how many were answered, how many not, and the longest seconds of one."""
    task, answered, failed, longest = asyncio.ensure_future(trouble), 0, 0, 0.0
    while True:
        began = time.monotonic()
        sound = (await ask(port, post(image()))).status == 200
        answered, failed, longest = answered + sound, failed + (not sound), max(longest, time.monotonic() - began)
        if task.done():
            await task
            return answered, failed, longest
        await asyncio.sleep(0.1)


def measure(requests: int, megabytes: int, slow_clients: int, seconds: float, bombs: int, longest: float) -> Finding:
    """seconds: for which the slow and the stubborn go on. bombs: forms, and large pictures in each. longest: seconds
    that a good request may take meanwhile."""
    seen: Counter[int] = Counter()
    meanwhile: dict[str, tuple[int, int, float]] = {}

    async def go(server: Served) -> tuple[float, float, int]:
        port = server.port
        warm = post(form([('name="p"; filename="x"', image())] * 64), "/predict", FORM)
        for request in [warm, post(image(), "/explain"), *[post(image())] * 50]:
            await ask(port, request)
        before = server.megabytes()
        seen.update(await fuzz(port, requests))
        cut = await endless(port, megabytes)
        unfinished = post(bytes(16_000_000))[:-1]
        many = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000
        crumbs = (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
                  b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nA\r\n" * 1_000_000)
        large = post(form([('name="p"; filename="b.png"', bomb())] * bombs), "/predict", FORM)
        troubles: dict[str, tuple[int, Callable[[int], Awaitable[object]]]] = {
            "slow clients": (slow_clients, lambda n: slow(port, n, seconds)),
            "unfinished bodies of 16 MB": (6, lambda n: stubborn(port, unfinished, seconds)),
            "clients who take no answer": (6, lambda n: stubborn(port, many, seconds)),
            "bodies in chunks of a byte": (2, lambda n: stubborn(port, crumbs, seconds)),
            f"forms of {bombs} pictures of 49 megapixels": (bombs, lambda n: send(port, large))}
        for name, (count, client) in troubles.items():
            meanwhile[f"{count} {name}"] = await good_meanwhile(port, asyncio.gather(*map(client, range(count))))
        until = time.monotonic() + 30
        while (growth := server.megabytes() - before) > GROWTH and time.monotonic() < until:
            await asyncio.sleep(0.5)
        meanwhile["afterwards"] = await good_meanwhile(port, asyncio.sleep(1))
        return growth, server.megabytes("VmHWM") - before, cut

    with tempfile.TemporaryDirectory() as place, Served(untrained(Path(place))) as server, on_the_other_core():
        growth, peak, cut = asyncio.run(go(server))
        tracebacks = server.said().count("Traceback")
        if tracebacks:
            print(server.said()[:4000])
    failed = {status: count for status, count in seen.items() if status and status not in STATUSES}
    holds = (not failed and not tracebacks and seen[200] > 0 and cut == 413 and growth <= GROWTH
             and all(answered and not refused and worst <= longest for answered, refused, worst in meanwhile.values()))
    told = "; ".join(f"{name}: good ones answered {answered}, not {refused}, at most {1e3 * worst:.0f} ms"
                     for name, (answered, refused, worst) in meanwhile.items())
    return Finding(
        "9", f"{requests:,} fuzzed requests, {megabytes:,} MB in chunks, {slow_clients} slow clients, and worse",
        f"no 5xx, no traceback; a good request meanwhile is answered within {longest:g} s; memory grows by at most "
        f"{GROWTH} MB",
        f"{failed.get(500, 0)} times 500, {tracebacks} tracebacks, {sum(failed.values())} unexpected of "
        f"{seen.total():,} (200: {seen[200]:,}, closed unanswered: {seen[0]:,}); the long body: {cut}; {told}; memory "
        f"grew by {growth:.0f} MB, at its peak by {peak:.0f}", holds)


if __name__ == "__main__":
    ledger.main(measure, requests=10_000, megabytes=1000, slow_clients=200, seconds=30.0, bombs=3, longest=2.0)
