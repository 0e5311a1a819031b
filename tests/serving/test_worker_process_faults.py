"""Worker processes: closed terminals, malformed and too long replies, races with the timer and the shutdown."""

import asyncio
import signal
import struct
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from alexnet.architecture.spec import InputSpec
from alexnet.serving import service, worker_process
from alexnet.serving.limits import Limits
from alexnet.serving.reloading import Reloader
from alexnet.serving.responses import RequestError
from alexnet.serving.worker_process import WorkerPool
from inprocess import encoded
from sample_images import draw

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stops processes by signals, which Windows lacks")

PNG = encoded(draw(np.random.default_rng(0), 0, side=40))


def to_closed_terminal(line):
    raise OSError(5, "Input/output error")


@pytest.fixture
def pool():
    pool = WorkerPool(Limits())
    yield pool
    pool.shutdown()


def replying(pool, reply, monkeypatch, end="sys.stdin.buffer.read()"):
    """Let the pool's workers read a message, write these bytes, and end so; a list of the workers that it starts."""
    code = ("import sys; from alexnet.serving.worker_process import _receive\n"
            "_receive(sys.stdin.buffer, 10**9, 10**9)\n"
            f"sys.stdout.buffer.write({reply!r}); sys.stdout.flush(); {end}")
    workers = []

    def start():
        workers.append(subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return workers[-1]

    monkeypatch.setattr(pool, "_take", start)
    return workers


# --- A closed terminal ------------------------------------------------------------------------------------------------


def test_a_closed_terminal_costs_no_image_and_changes_no_error(monkeypatch):
    pool = WorkerPool(Limits(), to_closed_terminal)
    assert pool.decode(PNG, "a.png", 32).shape == (32, 32, 3)
    replying(pool, b"", monkeypatch, "sys.exit(3)")
    error = pool.decode(PNG, "a.png", 32)
    assert (type(error), error.status) == (RequestError, 422)
    pool.shutdown()
    absent = WorkerPool(Limits(), to_closed_terminal)
    monkeypatch.setattr("sys.executable", "/absent/python")
    assert absent.decode(PNG, "a.png", 32).status == 503


def test_a_closed_terminal_does_not_stop_the_reload_of_the_other_models():
    class Broken:
        sha256 = "0" * 64

        def reloaded(self):
            raise ValueError("no weights")

    outcomes = []

    async def run():
        reloader = Reloader({"a": Broken(), "b": Broken()}, lambda *outcome: outcomes.append(outcome),
                            to_closed_terminal)
        reloader.request()
        await reloader._task
        reloader.shutdown()

    asyncio.run(run())
    assert [outcome for _, outcome in outcomes] == ["failed", "failed"]


# --- Replies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", [
    struct.pack("<QQ", 2**62, 0), struct.pack("<QQ", 2, 32 * 32 * 3 + 1) + b"{}" + bytes(3073),
    struct.pack("<QQ", 2, 0) + b"[]", struct.pack("<QQ", 2, 0) + b"{!"])
def test_a_malformed_reply_is_an_error_of_its_image_and_ends_the_worker(pool, reply, monkeypatch, capsys):
    workers = replying(pool, reply, monkeypatch)
    error = pool.decode(PNG, "a.png", 32)
    assert str(error) == "a.png cannot be decoded: its worker process sent a malformed reply; send another image"
    assert error.status == 422
    assert workers[0].returncode is not None
    assert not pool._idle
    assert not pool._busy


def test_a_worker_whose_reply_exceeds_the_servers_memory_is_ended(pool, monkeypatch):
    pool.decode(PNG, "a.png", 32)
    [worker] = pool._idle

    def receive(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(worker_process, "_receive", receive)
        with pytest.raises(MemoryError):
            pool.decode(PNG, "a.png", 32)
    assert worker.returncode == -signal.SIGKILL
    assert not pool._idle
    assert not pool._busy
    assert pool.decode(PNG, "a.png", 32).shape == (32, 32, 3)


def test_a_long_id_and_long_numbers_are_within_the_limit_of_a_reply(pool):
    name = "\x7f" * 400_000  # JSON writes this character of one byte as an escape of six
    numbers = ",".join("0" * 120_000)
    tensor = f'{{"name":"image","datatype":"FP32","shape":[1,3,200,200],"data":[{numbers}]}}'
    body = f'{{"id":"{name}","inputs":[{tensor}]}}'.encode()
    request = pool.parse_infer(body, InputSpec(256, 200))
    assert request.request_id == name
    assert request.tensor.shape == (1, 3, 200, 200)


# --- Processor time ---------------------------------------------------------------------------------------------------


def test_a_worker_ends_when_one_message_uses_too_much_processor_time():
    """So it ends also where the server was killed. The limit is renewed: several messages may use more together."""
    code = ("import sys, time; from alexnet.serving import worker_process\n"
            "def reply(request, data):\n"
            "    end = time.process_time() + request['burn']\n"
            "    while time.process_time() < end: pass\n"
            "    return {}, []\n"
            "worker_process._reply = reply; worker_process.main()")
    with subprocess.Popen([sys.executable, "-c", code, "1500000000"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        for _ in range(3):
            worker_process._send(worker.stdin, {"burn": 0.7, "seconds": 1.0}, [])
            assert worker_process._receive(worker.stdout, 100, 0) == ({}, b"")
        worker_process._send(worker.stdin, {"burn": 1000, "seconds": 1.0}, [])
        assert worker.wait(120) == -signal.SIGXCPU


# --- Races ------------------------------------------------------------------------------------------------------------


class TakenMeanwhile(list):
    """Another thread takes the workers between a look at the length and `pop`."""

    def pop(self):
        self.clear()
        return super().pop()


def test_trim_and_shutdown_tolerate_threads_that_take_idle_workers(pool):
    for method in (pool.trim, pool.shutdown):
        pool._idle = TakenMeanwhile([object(), object()])
        method()
        assert pool._idle == []


def test_a_failed_trim_is_said_once_and_tried_again(monkeypatch):
    monkeypatch.setattr(service, "TRIM_SECONDS", 0)
    said, attempts = [], []

    async def trim_memory():
        attempts.append(0)
        if len(attempts) == 4:
            raise asyncio.CancelledError
        raise IndexError("pop from empty list")

    idle = SimpleNamespace(decodes=SimpleNamespace(pending=0))
    server = SimpleNamespace(admission=idle, decoder=SimpleNamespace(trim_memory=trim_memory), say=said.append)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(service.Service._trim_memory(server))
    assert len(attempts) == 4
    assert said == ["freed memory cannot be returned to the system: IndexError('pop from empty list')"]


def test_a_worker_that_starts_during_the_shutdown_is_ended(pool, monkeypatch):
    take, workers = pool._take, []

    def take_late():
        workers.append(take())
        pool.shutdown()
        return workers[0]

    monkeypatch.setattr(pool, "_take", take_late)
    assert isinstance(pool.decode(PNG, "a.png", 32), RequestError)
    assert workers[0].returncode == -signal.SIGKILL
    assert not pool._idle


def test_a_worker_that_replies_during_the_shutdown_is_ended(pool):
    pool.decode(PNG, "a.png", 32)
    [worker] = pool._idle

    class Busy(set):
        def discard(self, one):
            super().discard(one)
            pool.shutdown()  # sees the worker neither here nor among the idle

    pool._busy = Busy()
    assert pool.decode(PNG, "a.png", 32).shape == (32, 32, 3)
    assert worker.returncode is not None
    assert not pool._idle


def test_a_worker_that_replied_when_its_timer_fired_is_not_used_again(pool, monkeypatch):
    pool.decode(PNG, "a.png", 32)
    [worker] = pool._idle

    class LateTimer(threading.Timer):
        def cancel(self):
            self.function()
            super().cancel()

    with monkeypatch.context() as patch:
        patch.setattr(threading, "Timer", LateTimer)
        assert pool.decode(PNG, "a.png", 32).shape == (32, 32, 3)
    assert worker.returncode == -signal.SIGKILL
    assert not pool._idle
    assert pool.decode(PNG, "a.png", 32).shape == (32, 32, 3)
