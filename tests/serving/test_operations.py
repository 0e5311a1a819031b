"""What an operator relies on: reload, JSON logs, metrics of the weights, readiness, samples, malformed requests."""

import contextlib
import io
import json
import os
import re
import shutil
import socket
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_serve_command import client_of, started

from alexnet._runtime.json_lines import JsonLines, print_json_lines
from alexnet.cli import serve, serve_workers
from alexnet.cli.serve_process import ServeOptions, _load
from alexnet.errors import UserError
from alexnet.inference.predictor import Model, load
from alexnet.models import checkpoint
from alexnet.serving.limits import Limits
from alexnet.serving.reloading import require_same_place
from alexnet.serving.request_log import LOGGER
from alexnet.serving.served_model import ServedModel
from alexnet.serving.server import ServerConfig
from alexnet.serving.service import Service
from inprocess import encoded, served
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(trained) -> Model:
    return load(trained)


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a run, to be damaged."""
    return shutil.copytree(trained, tmp_path / "run")


def options(host="127.0.0.1", token="", no_samples=False):
    return ServeOptions({}, host, None, token, Limits(), "cpu", False, None, no_samples, None, 1)


def damage_best(run):
    (weights,) = (run / "best").glob("weights*")
    weights.write_bytes(weights.read_bytes()[:5000])


# --- Reload -----------------------------------------------------------------------------------------------------------


def test_a_reload_loads_no_other_checkpoint_of_the_run(run):
    said = []
    served_model = _load("", str(run), options(), "cpu", said.append)
    assert served_model.reloaded().sha256 == served_model.sha256
    damage_best(run)
    with pytest.raises(UserError, match=r"weights.* is damaged"):
        served_model.reloaded()
    shutil.rmtree(run / "best")
    with pytest.raises(UserError, match=r"best has gone, and .*last is another checkpoint of the run; restore it"):
        served_model.reloaded()
    assert said == []


@pytest.mark.parametrize(("harm", "sentence"), [
    (damage_best, " is damaged"), (lambda run: shutil.rmtree(run / "best"), "has no best/, although an epoch of the "
     "run was validated; ")])
def test_a_start_with_another_checkpoint_of_the_run_is_a_warning(run, harm, sentence):
    best, said = shutil.copytree(run / "best", run.with_name("kept")), []
    harm(run)
    served_model = _load("", str(run), options(), "cpu", said.append)
    (warning,) = said
    assert warning.startswith("warning: ")
    assert sentence in warning
    assert f"{run / 'last'}" in warning
    if (run / "best").exists():
        with pytest.raises(UserError, match="is damaged"):  # best/ is what the server was told to serve
            served_model.reloaded()
        shutil.rmtree(run / "best")
    assert served_model.reloaded().sha256 == served_model.sha256  # last/, as at the start
    shutil.copytree(best, run / "best")
    assert served_model.reloaded().sha256 == checkpoint.load(run / "best").describe()["sha256"]


@pytest.mark.parametrize(("first", "again", "is_same"), [
    ("run/best", "run/best", True), ("run/last", "run/best", True), ("run/last", "run/last", True),
    ("hub/1f", "hub/2e", True), (None, None, True), ("run/best", "run/last", False),
    ("run/best/checkpoint.previous.json", "run/last", False)])
def test_only_last_in_place_of_best_is_another_checkpoint(first, again, is_same):
    with contextlib.nullcontext() if is_same else pytest.raises(UserError, match="run/best has gone"):
        require_same_place(first and Path(first), again and Path(again))


def test_a_run_without_a_validated_epoch_has_no_best_and_needs_no_warning(run, tmp_path):
    saved = checkpoint.load(run / "last")
    saved.training.pop("best_error")
    checkpoint.save(saved, tmp_path / "young" / "last")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checkpoint.load(tmp_path / "young").path == tmp_path / "young" / "last"


# --- Metrics and readiness --------------------------------------------------------------------------------------------


def test_the_metrics_name_the_weights_and_count_reloads_from_zero(model):
    before, after = ServedModel(model, name="trees"), ServedModel(model, name="trees")
    object.__setattr__(after, "sha256", "f" * 64)
    metrics = Service([before]).metrics
    live = f'alexnet_model_info{{model="trees",sha256="{before.sha256}",version="{before.sha256[:12]}"}} 1.0\n'
    text = metrics.text().decode()
    assert live in text
    for outcome in ("loaded", "failed"):
        assert f'alexnet_model_reloads_total{{model="trees",outcome="{outcome}"}} 0.0\n' in text
    metrics.count_reload(before, "failed")
    assert live in metrics.text().decode()
    metrics.count_reload(after, "loaded")
    text = metrics.text().decode()
    assert f'alexnet_model_info{{model="trees",sha256="{"f" * 64}",version="ffffffffffff"}} 1.0\n' in text
    assert before.sha256 not in text
    for outcome in ("loaded", "failed"):
        assert f'alexnet_model_reloads_total{{model="trees",outcome="{outcome}"}} 1.0\n' in text


def test_a_server_is_ready_when_all_its_processes_are(model, tmp_path, capsys):
    has_started = []
    with served(Service([ServedModel(model)], has_started=lambda: bool(has_started))) as client:
        assert client.request("/ready")[::2] == (503, {"status": "starting"})
        assert client.request("/v2/health/ready")[::2] == (503, {"ready": False})
        assert client.request("/health")[0] == 200
        has_started.append(True)
        assert client.request("/ready")[::2] == (200, {"status": "ready"})
    with socket.socket() as listener:
        supervisor = serve_workers._Supervisor(2, listener, tmp_path, 1.0, lambda *_: None)
    supervisor._processes = {number: serve_workers._Process(number, number, 0) for number in range(2)}
    flags = []
    for process in supervisor._processes.values():
        supervisor._on_ready(process, "serving")
        flags.append(supervisor._has_started[0])
    assert flags == [0, 1]
    assert capsys.readouterr().err == "serving\n"
    for end in (supervisor._signals, supervisor._wake_up, supervisor._selector):
        end.close()
    for pipe in supervisor._lifeline:
        os.close(pipe)


@pytest.mark.parametrize("drain", [0, 0.5, 10, 20])
def test_all_ends_within_24_seconds_of_the_signal(drain, monkeypatch):
    """The processes were killed after 28 seconds, and Kubernetes' balancers were promised 24."""
    limits, given = Limits.from_options(20, 1.0, drain, 75), []
    monkeypatch.setattr(serve, "run_processes", lambda *arguments: given.append(arguments))
    with socket.socket() as listener:
        serve._run(listener, replace(options(), limits=limits, processes=2))
    assert given[0][2] <= 24
    config = ServerConfig(lambda *_: None, limits)
    assert 2 <= config.timeout_graceful_shutdown <= 24 - drain - 2


# --- Samples ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "prefix"), [
    ({}, "val/"), ({"no_samples": True}, "generated "), ({"host": "0.0.0.0"}, "generated "),
    ({"host": "0.0.0.0", "token": "secret"}, "val/")])
def test_validation_images_are_samples_for_this_machine_or_with_a_token(trained, given, prefix):
    assert _load("", str(trained), options(**given), "cpu", print).samples[0].name.startswith(prefix)


# --- Connections ------------------------------------------------------------------------------------------------------


def answer_until_closed(port, request, drip=b""):
    """What the server sends until it closes the connection, and the seconds until then."""
    began, answer = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", port), timeout=0.2) as connection:
        connection.sendall(request)
        while time.monotonic() - began < 20:
            try:
                if drip:
                    connection.sendall(drip)
                if not (part := connection.recv(65536)):
                    break
                answer += part
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError):
                break
    return answer, time.monotonic() - began


POST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 30000000\r\n"


@pytest.mark.parametrize(("header", "token", "drip", "status"), [
    (b"", "", b"", 413), (b"", "secret", b"a", 401), (b"Expect: 100-continue\r\n", "", b"", 413)])
def test_a_rejected_request_whose_body_does_not_come_is_closed_after_the_drain_time(
        model, header, token, drip, status):
    with served(Service([ServedModel(model)], token, limits=Limits(drain_seconds=0.5))) as client:
        answer, seconds = answer_until_closed(client.port, POST + header + b"\r\nabc", drip)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert 0.4 < seconds < 10  # and not the 75 seconds of an idle connection


def test_a_rejected_request_whose_body_has_come_keeps_its_connection(model):
    rejected = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc"
    closing = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with served(Service([ServedModel(model)])) as client:
        answer, _ = answer_until_closed(client.port, rejected + closing)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", answer) == [b"415", b"200"]


def test_a_request_whose_body_has_two_ends_is_refused_and_its_connection_closed(model):
    """RFC 9112, 6.1: a proxy could see the second request as the body of the first, or the other way round."""
    both = (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    with served(Service([ServedModel(model)])) as client:
        answer, seconds = answer_until_closed(client.port, both + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert re.findall(rb"HTTP/1\.1 (\d+) ", answer) == [b"400"]
    assert b"connection: close" in answer.lower()
    assert b"both Content-Length and Transfer-Encoding" in answer
    assert seconds < 10


@pytest.mark.parametrize(("size", "status"), [
    (32_768, 200), (32_769, 400), (33_000, 400), (49_000, 400), (60_000, 400)])
@pytest.mark.parametrize("in_query", [False, True])
def test_the_header_limit_holds_whatever_arrives_at_once(model, size, status, in_query):
    shape = b"GET /health%b HTTP/1.1\r\nHost: x\r\nX-A: %b\r\nConnection: close\r\n\r\n"
    filler = b"?" + b"a" * (size - len(shape % (b"", b"")) - 1)
    header = shape % ((filler, b"") if in_query else (b"", filler))
    assert len(header) == size
    with served(Service([ServedModel(model)])) as client:
        answer, _ = answer_until_closed(client.port, header)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    if status == 400:
        assert b"32,768" in answer
        assert "error" in json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("request_", [b"GARBAGE\r\n\r\n", b"GET /health HTTP/1.1\r\n\r\n", b"A" * 60_000])
def test_a_malformed_request_gets_a_documented_error_and_is_counted_and_logged(model, request_, monkeypatch):
    logged = []
    monkeypatch.setattr(LOGGER, "info", lambda form, line: logged.append(line))
    with served(Service([ServedModel(model)], log_format="json")) as client:
        answer, seconds = answer_until_closed(client.port, request_)
        text = client.request("/metrics")[2].decode()
    header, _, body = answer.partition(b"\r\n\r\n")
    assert header.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/json" in header.lower()
    assert json.loads(body) == {"error": {
        "problem": "the request is not valid HTTP/1.1",
        "remedy": "it needs a header Host, and a header of at most 32,768 bytes"}}
    assert seconds < 10
    assert 'alexnet_requests_total{path="other",status="400"} 1.0\n' in text
    line = json.loads(logged[0])
    assert (line["status"], line["method"], line["path"]) == (400, None, None)
    assert line["id"] in header.decode()


def test_a_body_that_breaks_the_protocol_is_counted_once(model, monkeypatch):
    logged = []
    monkeypatch.setattr(LOGGER, "info", lambda form, line: logged.append(line))
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    with served(Service([ServedModel(model)], log_format="json")) as client:
        answer, _ = answer_until_closed(client.port, head + b"noise\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert [json.loads(line)["status"] for line in logged] == [400]


# --- JSON on standard error -------------------------------------------------------------------------------------------


def test_what_is_printed_becomes_one_json_object_a_line(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    print_json_lines()
    print_json_lines()  # once is enough
    print("serving", "a", file=sys.stderr)
    sys.stderr.write("Traceback:\n  two lines\n")
    sys.stderr.write("unfinished")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["message"] == "serving a"
    assert second["message"] == "Traceback:\n  two lines"
    assert first["time"].endswith("+00:00")
    assert not JsonLines(stream).isatty()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_the_command_with_json_logs_prints_only_json(run, processes):
    png = encoded(draw(np.random.default_rng(1), 2))
    damage_best(run)
    with started(run, "--log", "json", "--host", "0.0.0.0", "--processes", processes) as (process, first):
        lines = [first]
        while "serving" not in lines[-1]:
            lines.append(process.stderr.readline())
        assert client_of(lines[-1]).predict(png)[0] == 200
        process.terminate()
        lines += process.communicate(timeout=60)[1].splitlines()
    objects = [json.loads(line) for line in lines]
    messages = " ".join(one.get("message", "") for one in objects)
    for part in ("is used instead", "serving", "warning: every machine", "stopping"):
        assert part in messages
    assert [one["path"] for one in objects if "path" in one] == ["/predict"]


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_loaded_is_a_json_line_too(tmp_path):
    with started(tmp_path / "absent", "--log", "json") as (process, line):
        assert "absent does not exist" in json.loads(line)["message"]
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 2
