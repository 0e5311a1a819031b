"""Worker processes that decode large images and parse large JSON, with limits of time and memory.

Pillow and Python's parsers hold the interpreter's lock (GIL) for tens of milliseconds at a time, in which the server
handles no request. A worker has a lock of its own, a lower priority, and limits of memory and time. One that crashes
costs one request and not the server.

A worker reads messages from its standard input and writes the replies to its standard output. The server never
unpickles a worker's reply, and limits its length. Workers start when they are first needed.
"""

from __future__ import annotations

import contextlib
import json
import math
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

from alexnet._runtime.allocator import release_free_memory
from alexnet._runtime.notes import say, unless_closed
from alexnet.architecture.spec import InputSpec
from alexnet.data.images import BadImage, decode
from alexnet.data.square import square
from alexnet.serving.infer_request import InferRequest, parse_infer
from alexnet.serving.limits import Limits
from alexnet.serving.responses import RequestError, UnavailableError

_LENGTHS = struct.Struct("<QQ")
"""Before each message: the bytes of its JSON object and of the data that follow it."""

_START = "import sys; sys.path[:] = sys.argv[2:]; from alexnet.serving.worker_process import main; main()"

_TEXT_BYTES = 1_000_000
"""Most bytes of a reply's JSON object, besides what it repeats of the request."""

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
        self.limits, self.say = limits, unless_closed(say)
        self._idle: list[subprocess.Popen[bytes]] = []
        self._busy = set[subprocess.Popen[bytes]]()
        self._has_started = self._is_closed = False

    def decode(self, data: Buffer, name: str, side: int) -> NDArray[np.uint8] | RequestError:
        """As `decode_square`, in a worker. A crash is an error of the image."""
        try:
            _, pixels = self._run({"name": name, "pixel_limit": self.limits.pixels, "side": side}, data,
                                  (_TEXT_BYTES, 3 * side * side), (f"{name} cannot be decoded", "send another image"))
        except RequestError as error:
            return error
        return np.frombuffer(bytearray(pixels), np.uint8).reshape(side, side, 3)

    def parse_infer(self, body: bytes, spec: InputSpec) -> InferRequest:
        """As `infer_request.parse_infer`, in a worker. Raises RequestError, also for a crash."""
        # A character of the id, one byte, may become an escape of six. A number of two bytes may become a float32.
        most = _TEXT_BYTES + 6 * len(body), 2 * len(body)
        reply, data = self._run({"side": spec.side, "crop": spec.crop, "json_values": self.limits.json_values,
                                 "images": self.limits.images, "views": self.limits.views}, body, most,
                                ("the JSON cannot be parsed", "send fewer images per request"))
        return InferRequest.from_message(reply, data)

    def trim(self) -> None:
        """End idle workers except one, whose start is saved next time."""
        self._end_idle(1)

    def shutdown(self) -> None:
        """End all workers. A method that still runs raises or returns an error, and so do further calls."""
        self._is_closed = True
        for worker in self._busy.copy():
            worker.kill()
        self._end_idle(0)

    def _end_idle(self, keep: int) -> None:
        """End idle workers until so many are left."""
        with contextlib.suppress(IndexError):  # other threads take workers meanwhile
            while len(self._idle) > keep:
                _end(self._idle.pop())

    def _run(self, request: dict[str, object], data: Buffer, most: tuple[int, int],
             failure: tuple[str, str]) -> tuple[dict[str, Any], bytes]:
        """Send a worker a message and wait for the reply.

        Args:
            request: JSON object of the message.
            data: of the message.
            most: bytes of the reply's JSON object and of its data.
            failure: problem and remedy of the error for a worker that crashed or was killed.

        Raises:
            RequestError: the worker's, or 422 with `failure` where it sends no valid reply.
        """
        worker, seconds, is_late = self._take(), self.limits.worker_seconds, threading.Event()
        assert worker.stdin
        assert worker.stdout

        def kill_late() -> None:
            is_late.set()
            worker.kill()

        timer = threading.Timer(seconds, kill_late)
        self._busy.add(worker)
        if self._is_closed:  # `shutdown` may not have seen this worker
            worker.kill()
        try:
            timer.start()
            _send(worker.stdin, request | {"seconds": seconds}, [data])
            reply, payload = _receive(worker.stdout, *most)
        except (OSError, EOFError, ValueError) as error:
            worker.kill()
            reason = (f"took more than {seconds:g} s" if is_late.is_set() else "sent a malformed reply"
                      if isinstance(error, ValueError) else f"ended by {_how(worker)}")
            _end(worker)
            if not self._is_closed:
                self.say(f"worker process {worker.pid} {reason}; another starts when it is needed")
            raise RequestError(f"{failure[0]}: its worker process {reason}", failure[1], status=422) from None
        except BaseException:  # as MemoryError: the next request must not read the rest of this reply
            worker.kill()
            _end(worker)
            raise
        finally:
            timer.cancel()
            self._busy.discard(worker)
        timer.join()  # it may have been about to kill the worker, which has replied
        if is_late.is_set():
            _end(worker)
        else:
            self._idle.append(worker)
            if self._is_closed:  # `shutdown` may have ended the idle workers before this one was among them
                self._end_idle(0)
        if "problem" in reply:
            raise RequestError(reply["problem"], reply["remedy"], status=reply["status"])
        return reply, payload

    def _take(self) -> subprocess.Popen[bytes]:
        """An idle worker, or a new one. Threads share lists and sets safely.

        Raises:
            UnavailableError: the server shuts down, or can start no process.
        """
        if self._is_closed:
            raise UnavailableError("the server is shutting down", "shutdown")
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
            raise UnavailableError("the server could not start a worker process", "workers") from None


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
    if hasattr(signal, "SIGXCPU"):
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)  # a parent's SIG_IGN would be inherited
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no reply
    _restrict(memory=int(sys.argv[1]))
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            request, data = _receive(requests, sys.maxsize, sys.maxsize)
            _limit_processor_time(request.pop("seconds"))
            _send(replies, *_reply(request, data))
            del request, data
            release_free_memory()  # a large image takes hundreds of megabytes, and the next one may come in an hour


def _reply(request: dict[str, Any], data: bytes) -> tuple[dict[str, object], Sequence[Buffer]]:
    """The reply to a message: a JSON object and data."""
    try:
        if "pixel_limit" in request:
            pixels = decode_square(data, **request)
            if isinstance(pixels, RequestError):
                return _reply_of(pixels)  # raised here, it would hold this frame, and that of the decoder, for long
            return {}, [pixels.tobytes()]
        side, crop = request.pop("side"), request.pop("crop")
        return parse_infer(data, InputSpec(side, crop), Limits(**request)).to_message()
    except MemoryError:
        return _reply_of(RequestError("the data needs more memory than the server allows", "send less at once",
                                      status=413))
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


def _limit_processor_time(seconds: float) -> None:
    """End this process when it has used so much more processor time.

    The server's timer ends a worker that takes too long, but a server that was killed has no timer, and a decoder in an
    endless loop does not read that the input ended. The signal at a parent's death (Linux) is no remedy: it comes when
    the thread ends that started the worker.
    """
    if sys.platform != "win32":
        import resource

        end, (_, hard) = math.ceil(time.process_time() + seconds), resource.getrlimit(resource.RLIMIT_CPU)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CPU, (end if hard == resource.RLIM_INFINITY else min(end, hard), hard))


# --- Messages ---------------------------------------------------------------------------------------------------------


def _send(stream: IO[bytes], message: dict[str, object], parts: Sequence[Buffer]) -> None:
    text = json.dumps(message).encode()
    stream.write(_LENGTHS.pack(len(text), sum(map(len, parts))) + text)
    for part in parts:
        stream.write(part)
    stream.flush()


def _receive(stream: IO[bytes], most_text: int, most_data: int) -> tuple[dict[str, Any], bytes]:
    """Read a message.

    Raises:
        EOFError: at the end of the stream.
        ValueError: it is longer than these bytes, or is no message.
    """
    text_length, length = _LENGTHS.unpack(_read(stream, _LENGTHS.size))
    if text_length > most_text or length > most_data:
        raise ValueError(f"a message of {text_length} and {length} bytes is longer than {most_text} and {most_data}")
    message = json.loads(_read(stream, text_length))
    if not isinstance(message, dict):
        raise ValueError("a message is no JSON object")
    return message, _read(stream, length)


def _read(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data
