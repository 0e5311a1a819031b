"""`alexnet serve` as a process: start, signals, token, and mistakes in its options."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alexnet.serving.limits import Limits
from command_line import alexnet as command
from inprocess import Client, encoded
from sample_images import draw

STOPPING = "stopping: finishing the accepted requests\n"
STOPPED = "stopped: all accepted requests are finished\n"


@contextlib.contextmanager
def started(*arguments, **environment):
    """The process, and its first line on standard error."""
    process = subprocess.Popen(
        # SIGINT with its default action, also where the tests run in the background of a shell.
        ["env", "--default-signal=INT", sys.executable, "-m", "alexnet", "serve", *map(str, arguments), "--port", "0"],
        text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment})
    try:
        yield process, process.stderr.readline()
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def started_in_terminal(*arguments):
    """The process, whose streams are a terminal, and the other end of that."""
    import pty  # which Windows does not have

    controller, terminal = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "alexnet", "serve", *map(str, arguments), "--port", "0"],
                               stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})
    os.close(terminal)
    try:
        yield process, controller
    finally:
        process.kill()
        process.wait()


def read_until(controller: int, end: bytes) -> bytes:
    """What a process prints to its terminal, up to these bytes or a little more. Raises OSError if it ends before."""
    output = b""
    while end not in output:
        output += os.read(controller, 4096)
    return output


def client_of(line: str) -> Client:
    """The client for the address in the first line."""
    return Client(int(re.search(r"http://127\.0\.0\.1:(\d+)/", line)[1]))


@pytest.mark.parametrize(("number", "twice"), [
    (signal.SIGINT, False), *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        (signal.SIGINT, True), (signal.SIGTERM, False)))])
def test_the_command_serves_a_run_until_a_signal(trained, number, twice):
    with started(trained) as (process, line):
        assert line.startswith(f"serving {trained} (small, 4 classes) at http://127.0.0.1:")
        client = client_of(line)
        assert client.request("/model")[2]["samples"][0]["name"].startswith("val/")  # the run's own data
        assert client.predict(encoded(draw(np.random.default_rng(1), 2)))[0] == 200
        process.send_signal(number)
        if twice:  # the second one ends the process at once, without a traceback
            assert process.stderr.readline() == STOPPING
            process.send_signal(number)
            assert process.communicate(timeout=60)[1] == STOPPED
            assert process.returncode == 130
            return
        rest = process.communicate(timeout=60)[1]
        assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: -signal.SIGTERM}[number]
        assert rest == STOPPING + STOPPED


@pytest.mark.slow
def test_a_server_for_all_networks_requires_a_token_or_warns(trained):
    with started(trained, "--host", "0.0.0.0") as (process, line):
        assert "at http://127.0.0.1:" in line
        assert line.endswith("/ and this machine's other addresses until Ctrl-C\n")
        assert process.stderr.readline() == (
            "warning: every machine that reaches 0.0.0.0 can use the server; require a token with --token or "
            "ALEXNET_TOKEN\n")
    with started(trained, "--host", "0.0.0.0", "--no-samples", ALEXNET_TOKEN="secret") as (process, line):
        model = client_of(line).request("/model", Authorization="Bearer secret")[2]
        assert model["samples"][0]["name"] == "generated stripes"
        assert "secret" not in line  # to a terminal only
        assert "/ and this machine's other addresses until Ctrl-C" in line
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60)[1] == STOPPING + STOPPED


@pytest.mark.parametrize(("options", "fragment"), [
    ([], b"#token=secret"), pytest.param(["--log", "json"], b"", marks=pytest.mark.slow)])
def test_the_address_with_the_token_is_printed_to_a_terminal(trained, options, fragment):
    with started_in_terminal(trained, "--token", "secret", *options) as (_, controller):
        printed = read_until(controller, b"until Ctrl-C")
        os.close(controller)
    assert re.search(rb"at http://127\.0\.0\.1:\d+/(\S*) until Ctrl-C", printed)[1] == fragment


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_server_raises_the_limit_of_open_files(trained):
    """Else 1,024 connections would need more files than many systems allow at first."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))  # which the process inherits
    try:
        with started(trained) as (process, line):
            assert line.startswith("serving")
            limits = Path(f"/proc/{process.pid}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wanted = 4 * Limits().connections
    expected = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    assert int(re.search(r"^Max open files +(\d+)", limits, re.MULTILINE)[1]) == expected > 256


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_second_ctrl_c_counts_the_requests_that_it_cuts_off(trained, processes):
    """An upload whose body has not arrived is an accepted request."""
    with contextlib.ExitStack() as stack:
        process, line = stack.enter_context(started(trained, "--processes", processes))
        upload = stack.enter_context(socket.create_connection(("127.0.0.1", client_of(line).port)))
        upload.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
                       b"Content-Length: 9\r\n\r\n")
        time.sleep(0.5)  # until the server has read it
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == STOPPING
        time.sleep(1)  # beyond the time in which connections are accepted
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1] == "stopped: 1 accepted request cut off\n"  # and no traceback of it
        assert process.returncode == 130


def test_the_server_needs_neither_captum_nor_matplotlib(trained, tmp_path):
    """captum imports Matplotlib, which does not start where it can write to no folder."""
    for name in ("captum", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with started(trained, PYTHONPATH=path) as (_, line):
        explained = client_of(line).request(
            "/explain", encoded(draw(np.random.default_rng(1), 2)), Content_Type="image/png")
        assert explained[0] == 200
        assert explained[2]["grad_cam"].startswith("data:image/png")


@pytest.mark.parametrize(("arguments", "message"), [
    (["--port", 70000], "--port 70000 must be from 0 to 65535"),
    (["--max-queue-seconds", 0], "--max-queue-seconds 0.0 must be above 0"),
    (["--max-mb", 0], "--max-mb 0 must be at least 1"),
    (["--token", "two words"], "the token has characters other than ASCII letters, digits and punctuation"),
    (["--token", ""], "the token is empty; give one, or leave out --token"),
    (["--host", "192.0.2.7"], "cannot listen on 192.0.2.7:8000 (cannot assign requested address); choose another"),
])
def test_a_wrong_option_is_named_with_its_rule(trained, arguments, message, capsys):
    assert command("serve", trained, *arguments) == 2
    assert message in capsys.readouterr().err


def test_the_file_of_a_token_must_hold_one(trained, tmp_path, monkeypatch, capsys):
    secret = tmp_path / "token"
    monkeypatch.setenv("ALEXNET_TOKEN_FILE", str(secret))
    for name, reason in ((secret, "no such file or directory"), (tmp_path, "is a directory")):
        monkeypatch.setenv("ALEXNET_TOKEN_FILE", str(name))
        assert command("serve", trained) == 2
        assert f"the file {name}, which ALEXNET_TOKEN_FILE names, cannot be read ({reason}); check the name, and" in (
            capsys.readouterr().err)
    monkeypatch.setenv("ALEXNET_TOKEN_FILE", "")  # as of an unset variable in compose.yaml
    assert command("serve", trained) == 2
    assert "alexnet: ALEXNET_TOKEN_FILE is empty; set it to the file that holds the token" in capsys.readouterr().err
    monkeypatch.setenv("ALEXNET_TOKEN_FILE", str(secret))
    secret.write_bytes(b"\xff")
    assert command("serve", trained) == 2
    assert "cannot be read (not UTF-8 text)" in capsys.readouterr().err
    secret.write_text("\n")
    assert command("serve", trained) == 2
    assert "the token is empty; give one, or leave out --token and unset ALEXNET_TOKEN and" in capsys.readouterr().err
    monkeypatch.setenv("ALEXNET_TOKEN", "secret")
    assert command("serve", trained) == 2
    assert "ALEXNET_TOKEN and ALEXNET_TOKEN_FILE are both set; unset one of them" in capsys.readouterr().err


def test_the_token_of_a_file_is_required(trained, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    with started(trained, ALEXNET_TOKEN_FILE=str(tmp_path / "token")) as (_, line):
        assert client_of(line).request("/model")[0] == 401
        assert client_of(line).request("/model", Authorization="Bearer secret")[0] == 200


def test_a_port_in_use_is_named(trained, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert command("serve", trained, "--port", port) == 2
    assert f"cannot listen on 127.0.0.1:{port} (address already in use)" in capsys.readouterr().err
