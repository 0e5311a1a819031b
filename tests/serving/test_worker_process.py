"""Worker processes: the same results as in the server, crashes, limits of time and memory, and their end."""

import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet.architecture.spec import InputSpec
from alexnet.inference.predictor import load
from alexnet.serving.infer_request import parse_infer
from alexnet.serving.limits import Limits
from alexnet.serving.responses import RequestError
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service
from alexnet.serving.worker_process import WorkerPool, decode_square
from inprocess import encoded, form, served
from sample_images import draw

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stops processes by signals, which Windows lacks")

PNG = encoded(draw(np.random.default_rng(0), 0, side=40))
STARTS = "large images and large JSON are processed in worker processes; the first one starts\n"


def flat(side, kind):
    stream = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(stream, kind)
    return stream.getvalue()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_keeps_no_memory_of_a_damaged_image(pool):
    """The error held the decoder's frames, and with them 145 MB of pixels, until Python's next collection."""
    damaged = flat(7000, "TIFF")[:70_000_000]
    before = workers_of(os.getpid())
    assert pool.decode(PNG, "a.png", 32).shape == (32, 32, 3)
    [worker] = set(workers_of(os.getpid())) - set(before)
    used = resident_bytes(worker)
    assert "truncated" in pool.decode(damaged, "a.tiff", 32).problem
    until = time.monotonic() + 20
    while resident_bytes(worker) > used + 20_000_000:
        assert time.monotonic() < until
        time.sleep(0.1)


def resident_bytes(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def pool():
    pool = WorkerPool(Limits(worker_seconds=60))
    yield pool
    pool.shutdown()


def workers_of(pid):
    """The child processes, by the threads that started them."""
    return [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]


def test_a_worker_decodes_as_the_server_does(pool, capsys):
    for data in (PNG, memoryview(PNG), encoded(draw(np.random.default_rng(1), 1, side=50), "WEBP")):
        np.testing.assert_array_equal(pool.decode(data, "a.png", 32), decode_square(data, "a.png", 10**6, 32))
    error = pool.decode(b"no image", "a.png", 32)
    assert isinstance(error, RequestError)
    expected = decode_square(b"no image", "a.png", 10**6, 32)
    assert (error.problem, error.remedy, error.status) == (expected.problem, "send another image", 422)
    assert capsys.readouterr().err == STARTS


@pytest.mark.parametrize("tensor", [
    {"datatype": "BYTES", "shape": [1], "data": [base64.b64encode(PNG).decode()]},
    {"datatype": "BYTES", "shape": [3], "data": [base64.b64encode(data).decode() for data in (PNG, b"x", PNG[:90])]},
    {"datatype": "UINT8", "shape": [2, 3, 4, 4], "data": list(range(96))},
    {"datatype": "FP32", "shape": [1, 3, 2, 2], "data": [0.5 * k for k in range(12)]}])
def test_a_worker_parses_as_the_server_does(pool, tensor):
    body = json.dumps({"id": "7", "inputs": [{"name": "image", **tensor}], "outputs": [{"name": "logits"}]}).encode()
    spec = InputSpec(4, 2)
    here, there = parse_infer(body, spec, Limits()), pool.parse_infer(body, spec)
    assert (there.request_id, there.views, there.outputs) == ("7", 1, ("logits",))
    assert [bytes(upload.data) for upload in there.uploads] == [upload.data for upload in here.uploads]
    if here.tensor is None:
        assert there.tensor is None
    else:
        np.testing.assert_array_equal(there.tensor, here.tensor, strict=True)
    with pytest.raises(RequestError, match=r"id is not a string") as caught:
        pool.parse_infer(body.replace(b'"7"', b"7"), spec)
    assert caught.value.status == 400


def busy(pool, **arguments):
    """Stop an idle worker and give it an image; its process id, the results, and the thread that waits for it."""
    pool.decode(PNG, "first.png", 32)
    [worker] = pool._idle
    os.kill(worker.pid, signal.SIGSTOP)
    results = []
    thread = threading.Thread(target=lambda: results.append(pool.decode(PNG, "cat.png", 32)))
    thread.start()
    time.sleep(0.2)
    return worker.pid, results, thread


def test_a_crash_is_an_error_of_its_image_alone(pool, capsys):
    pid, results, thread = busy(pool)
    os.kill(pid, signal.SIGKILL)
    thread.join(30)
    assert str(results[0]) == ("cat.png cannot be decoded: its worker process ended by signal 9; send another image")
    assert results[0].status == 422
    assert capsys.readouterr().err == STARTS + (
        f"worker process {pid} ended by signal 9; another starts when it is needed\n")
    assert pool.decode(PNG, "cat.png", 32).shape == (32, 32, 3)


def test_a_worker_that_died_while_idle_costs_no_image(pool):
    pool.decode(PNG, "a.png", 32)
    os.kill(pool._idle[0].pid, signal.SIGKILL)
    time.sleep(0.2)
    assert pool.decode(PNG, "a.png", 32).shape == (32, 32, 3)


def test_a_server_that_can_start_no_process_says_so(pool, capsys, monkeypatch):
    monkeypatch.setattr("sys.executable", "/absent/python")
    error = pool.decode(PNG, "a.png", 32)
    assert (error.status, error.problem) == (503, "the server could not start a worker process")
    assert (error.reason, error.headers["Retry-After"]) == ("workers", "1")
    assert "no worker process can be started: " in capsys.readouterr().err


def test_a_worker_that_takes_too_long_is_killed(capsys):
    pool = WorkerPool(Limits(worker_seconds=60))
    pool.decode(PNG, "a.png", 32)
    pool.limits = Limits(worker_seconds=0.3)
    pid, results, thread = busy(pool)
    thread.join(30)
    assert str(results[0]) == "cat.png cannot be decoded: its worker process took more than 0.3 s; send another image"
    assert not Path(f"/proc/{pid}").exists()
    pool.shutdown()


def test_a_worker_at_work_does_not_delay_the_shutdown(capsys):
    pool = WorkerPool(Limits())
    pid, results, thread = busy(pool)
    pool.shutdown()
    thread.join(30)
    assert isinstance(results[0], RequestError)
    assert capsys.readouterr().err == STARTS
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    late = pool.decode(PNG, "a.png", 32)
    assert (str(late), late.reason) == ("the server is shutting down; try again in a second", "shutdown")


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is limited on Linux alone")
def test_the_memory_of_a_worker_is_limited():
    pool = WorkerPool(Limits(worker_bytes=100_000_000))
    error = pool.decode(flat(7000, "PNG"), "a.png", 32)
    assert str(error) == (
        "a.png cannot be decoded: there is not enough memory for its pixels; send another image")
    assert pool.decode(PNG, "a.png", 32).shape == (32, 32, 3)
    pool.shutdown()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_has_a_lower_priority_ignores_signals_and_ends_with_the_server():
    code = ("import sys, time\n"
            "from alexnet.serving.worker_process import WorkerPool\n"
            "from alexnet.serving.limits import Limits\n"
            "pool = WorkerPool(Limits())\n"
            "pool.decode(b'', 'x', 32)\n"
            "print(pool._idle[0].pid, flush=True)\n"
            "time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        worker = int(server.stdout.readline())
        assert os.getpriority(os.PRIO_PROCESS, worker) == os.getpriority(os.PRIO_PROCESS, server.pid) + 5
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(worker, number)
        time.sleep(0.3)
        assert Path(f"/proc/{worker}").exists()
        server.kill()
        server.wait()
    until = time.monotonic() + 30
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_all_idle_workers_but_one_are_ended(pool):
    threads = [threading.Thread(target=pool.decode, args=(PNG, "a.png", 32)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pool.trim()
    assert len(pool._idle) == 1
    assert pool._idle[0].poll() is None


# --- In the server ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.usefixtures("one_thread")
def test_the_server_uses_workers_for_large_images_and_large_json_alone(trained, capfd):
    model = load(trained)
    large, png = flat(1500, "WEBP"), encoded(draw(np.random.default_rng(1), 2, 60))
    before = workers_of(os.getpid())
    with served(Service([ServedModel(model)])) as client:
        assert client.predict(png)[0] == 200
        text = base64.b64encode(png).decode()
        tensor = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}]}
        assert infer(client, tensor)[0] == 200
        assert workers_of(os.getpid()) == before
        assert "worker" not in capfd.readouterr().err

        status, _, response = client.predict(large, "?logits=true")
        assert status == 200
        [image] = response["images"]
        pixels_HWC = decode_square(large, "x", 10**8, model.preprocess.spec.side)
        expected = ServedModel(model).forward(pixels_HWC[None], None)[0].logits_K
        assert image["logits"] == pytest.approx(expected.tolist(), abs=1e-4)
        assert len(workers_of(os.getpid())) == len(before) + 1
        assert capfd.readouterr().err == STARTS
        status, _, response = client.predict(b"\xff\xd8" + b"\xff\xe1\0\2" * 100_000)  # its header is read there, too
        assert (status, response["error"]["problem"]) == (
            422, "the image cannot be decoded: it consists of too many small pieces")
        body, content_type = form({"a.webp": large, "b.png": png, "c.webp": large[:5000]})
        images = client.request("/predict", body, Content_Type=content_type)[2]["images"]
        assert ["classes" in image for image in images] == [True, True, len(large) <= 5000]
        tensor["inputs"][0]["data"] = [base64.b64encode(png + bytes(900_000)).decode()]
        assert infer(client, tensor)[0] == 200
    assert workers_of(os.getpid()) == before


def infer(client, request):
    return client.request("/v2/models/alexnet/infer", json.dumps(request).encode(), Content_Type="application/json")
