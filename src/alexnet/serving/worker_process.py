"""Worker processes that decode large images and parse large JSON, with limits of time and memory.

Pillow and Python's parsers hold the interpreter's lock (GIL) for tens of milliseconds at a time, in which the server
handles no request. A worker has a lock of its own, a lower priority, and limits of memory and time. One that crashes
costs one request and not the server.

A worker reads messages from its standard input and writes the replies to its standard output. The server unpickles
nothing that it replies. Workers start when they are first needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime.notes import say
from alexnet.architecture.spec import InputSpec
from alexnet.data.images import BadImage, decode, square
from alexnet.serving.infer_request import InferRequest, parse_infer
from alexnet.serving.limits import Limits
from alexnet.serving.responses import RequestError

_LENGTHS = struct.Struct("<QQ")
"""Before each message: the bytes of its JSON object and of the data that follow it."""

_START = "import sys; sys.path[:] = sys.argv[2:]; from alexnet.serving.worker_process import main; main()"

Buffer = bytes | memoryview


def decode_square(data: Buffer, name: str, pixel_limit: int, side: int) -> NDArray[np.uint8] | RequestError:
    """Decode an upload, rescaled and cropped: uint8 [side, side, 3], or why it cannot be decoded."""
    try:
        return square(decode(bytes(data), name, pixel_limit), side)
    except BadImage as error:
        return RequestError(error.problem, "send another image", status=422)


# --- In the server ----------------------------------------------------------------------------------------------------


class WorkerPool:
    """The worker processes of a server. As many run as threads call the methods at the same time.

    Attributes:
        limits: of a worker's seconds and memory, and of what it decodes and parses.
        say: prints a line about the first worker, and about those that die.
    """

    def __init__(self, limits: Limits, say: Callable[[str], object] = say) -> None:
        self.limits, self.say = limits, say
        self._idle: list[subprocess.Popen[bytes]] = []
        self._busy = set[subprocess.Popen[bytes]]()
        self._has_started = self._is_closed = False

    def decode(self, data: Buffer, name: str, side: int) -> NDArray[np.uint8] | RequestError:
        """As `decode_square`, in a worker. A crash is an error of the image."""
        try:
            _, pixels = self._run({"name": name, "pixel_limit": self.limits.pixels, "side": side}, data,
                                  (f"{name} cannot be decoded", "send another image"))
        except RequestError as error:
            return error
        return np.frombuffer(bytearray(pixels), np.uint8).reshape(side, side, 3)

    def parse_infer(self, body: bytes, spec: InputSpec) -> InferRequest:
        """As `infer_request.parse_infer`, in a worker. Raises RequestError, also for a crash."""
        reply, data = self._run({"side": spec.side, "crop": spec.crop, "json_values": self.limits.json_values,
                                 "images": self.limits.images, "views": self.limits.views}, body,
                                ("the JSON cannot be parsed", "send fewer images per request"))
        return InferRequest.from_message(reply, data)

    def trim(self) -> None:
        """End idle workers except one, whose start is saved next time."""
        while len(self._idle) > 1:
            _end(self._idle.pop())

    def shutdown(self) -> None:
        """End all workers. A method that still runs raises or returns an error, and so do further calls."""
        self._is_closed = True
        for worker in self._busy.copy():
            worker.kill()
        while self._idle:
            _end(self._idle.pop())

    def _run(self, request: dict[str, object], data: Buffer, failure: tuple[str, str]) -> tuple[dict[str, Any], bytes]:
        """Send a worker a message and wait for the reply.

        Raises:
            RequestError: the worker's, or one with this problem and remedy where the worker ended without a reply.
        """
        worker = self._take()
        self._busy.add(worker)
        assert worker.stdin
        assert worker.stdout
        began = time.monotonic()
        timer = threading.Timer(self.limits.worker_seconds, worker.kill)
        timer.start()
        try:
            _send(worker.stdin, request, [data])
            reply, payload = _receive(worker.stdout)
        except (OSError, EOFError):
            is_late = time.monotonic() - began >= self.limits.worker_seconds
            worker.kill()
            reason = f"took more than {self.limits.worker_seconds:g} s" if is_late else f"ended by {_how(worker)}"
            _end(worker)
            if not self._is_closed:
                self.say(f"worker process {worker.pid} {reason}; another starts when it is needed")
            raise RequestError(f"{failure[0]}: its worker process {reason}", failure[1], status=422) from None
        finally:
            timer.cancel()
            self._busy.discard(worker)
        self._idle.append(worker)
        if "problem" in reply:
            raise RequestError(reply["problem"], reply["remedy"], status=reply["status"])
        return reply, payload

    def _take(self) -> subprocess.Popen[bytes]:
        """An idle worker, or a new one. Threads share lists and sets safely."""
        if self._is_closed:
            raise RequestError("the server is shutting down", status=503)
        with contextlib.suppress(IndexError):
            while True:
                worker = self._idle.pop()
                if worker.poll() is None:
                    return worker
                _end(worker)
        if not self._has_started:
            self._has_started = True
            self.say("large images and large JSON are processed in worker processes; the first one starts")
        try:
            return subprocess.Popen(
                [sys.executable, "-c", _START, str(self.limits.worker_bytes), *filter(None, sys.path)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
        except OSError as error:
            self.say(f"no worker process can be started: {error}")
            raise RequestError("the server can start no worker process for it", "try again in a second",
                               status=503) from None


def _how(worker: subprocess.Popen[bytes]) -> str:
    code = worker.wait()
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _end(worker: subprocess.Popen[bytes]) -> None:
    """End a worker: it reads the end of its input."""
    assert worker.stdin
    assert worker.stdout
    with contextlib.suppress(OSError):
        worker.stdin.close()
    worker.stdout.close()
    try:
        worker.wait(2)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


# --- In the worker ----------------------------------------------------------------------------------------------------


def main() -> None:
    """Process messages until the input ends. Signals to the server's process group do not end it before that."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no reply
    _restrict(memory=int(sys.argv[1]))
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            request, data = _receive(requests)
            _send(replies, *_reply(request, data))


def _reply(request: dict[str, Any], data: bytes) -> tuple[dict[str, object], Sequence[Buffer]]:
    """The reply to a message: a JSON object and data."""
    try:
        if "pixel_limit" in request:
            pixels = decode_square(data, **request)
            if isinstance(pixels, RequestError):
                raise pixels
            return {}, [pixels.tobytes()]
        side, crop = request.pop("side"), request.pop("crop")
        return parse_infer(data, InputSpec(side, crop), Limits(**request)).to_message()
    except MemoryError:
        return _reply_of(RequestError("it needs more memory than the server allows", "send less at once", status=413))
    except RequestError as error:
        return _reply_of(error)


def _reply_of(error: RequestError) -> tuple[dict[str, object], Sequence[Buffer]]:
    return {"problem": error.problem, "remedy": error.remedy, "status": error.status}, []


def _restrict(memory: int) -> None:
    """Lower this process's priority, limit the memory that it may allocate, and offer it first to the OOM killer."""
    if hasattr(os, "nice"):
        os.nice(5)
    if sys.platform.startswith("linux"):
        import resource

        with contextlib.suppress(OSError, ValueError):
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
            Path("/proc/self/oom_score_adj").write_text("500")


# --- Messages ---------------------------------------------------------------------------------------------------------


def _send(stream: IO[bytes], message: dict[str, object], parts: Sequence[Buffer]) -> None:
    text = json.dumps(message).encode()
    stream.write(_LENGTHS.pack(len(text), sum(map(len, parts))) + text)
    for part in parts:
        stream.write(part)
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Read a message. Raises EOFError at the end of the stream."""
    text_length, length = _LENGTHS.unpack(_read(stream, _LENGTHS.size))
    return json.loads(_read(stream, text_length)), _read(stream, length)


def _read(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data
