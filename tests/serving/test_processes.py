"""`alexnet serve --processes`: one port, metrics of all processes, restarts, signals, and the end of the supervisor."""

import contextlib
import http.client
import os
import re
import signal
import socket
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from test_serve_command import STOPPED, STOPPING, client_of, started

from alexnet._runtime import cpu_threads
from alexnet.cli import serve_workers
from alexnet.cli.serve_process import ServeOptions, device_of, run_one_of_several
from alexnet.serving.limits import Limits
from command_line import alexnet as command
from inprocess import encoded
from sample_images import draw

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc, which Linux has")

PNG = encoded(draw(np.random.default_rng(1), 2))


def children(process):
    """The PIDs of the server processes."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def metric(client, line):
    text = client.request("/metrics")[2].decode()
    return float(re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)[1])


def connections_of(port, pid):
    """How many connections to the port a process holds."""
    sockets = {line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
               if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01"}
    links = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(file.readlink()))
    return sum(f"socket:[{inode}]" in links for inode in sockets)


def test_processes_without_a_temporary_folder_say_what_needs_it(trained, capsys, monkeypatch):
    monkeypatch.setattr(serve_workers.tempfile, "tempdir", None)
    monkeypatch.setattr(serve_workers.tempfile, "_candidate_tempdir_list", lambda: ["/no/such/folder"])
    assert command("serve", trained, "--processes", 2, "--port", 0) == 2
    printed = capsys.readouterr().err
    assert "--processes keeps the metrics of all processes in a temporary folder, and none can be made" in printed
    assert "or add --tmpfs /tmp to docker run" in printed


def test_a_signal_right_after_the_fork_ends_the_new_process(monkeypatch):
    """It had the supervisor's handlers for a moment, swallowed SIGTERM, and lived until it was killed."""
    fork = os.fork

    def fork_and_signal():
        pid = fork()
        if not pid:
            signal.raise_signal(signal.SIGTERM)
        return pid

    monkeypatch.setattr(os, "fork", fork_and_signal)
    with socket.socket() as listener, tempfile.TemporaryDirectory() as folder:
        supervisor = serve_workers._Supervisor(1, listener, Path(folder), 10.0, lambda *_: time.sleep(20))
        handlers = {name: signal.signal(name, lambda *_: None) for name in (signal.SIGTERM, signal.SIGINT)}
        try:
            supervisor._start(0)
        finally:
            for name, handler in handlers.items():
                signal.signal(name, handler)
            for end in (supervisor._signals, supervisor._wake_up, supervisor._selector):
                end.close()
    (pid,) = supervisor._processes
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.slow
def test_processes_share_a_port_sum_their_metrics_and_are_restarted(trained):
    with started(trained, "--processes", 2) as (process, line):
        assert line.startswith(f"serving {trained} (small, 4 classes) at http://127.0.0.1:")
        client = client_of(line)
        # A pool of connections, opened at once, is spread over the processes.
        pool = [http.client.HTTPConnection("127.0.0.1", client.port, timeout=60) for _ in range(40)]
        for connection in pool:
            connection.connect()
        for connection in pool:
            connection.request("POST", "/predict", PNG, {"Content-Type": "image/png"})
        for connection in pool:
            response = connection.getresponse()
            assert response.status == 200
            response.read()
        first, second = children(process)
        held = [connections_of(client.port, pid) for pid in (first, second)]
        assert sum(held) == 40
        assert min(held) >= 1
        for connection in pool:
            connection.close()
        images = "alexnet_images_total"
        assert [metric(client, images) for _ in range(4)] == [40] * 4  # whichever process answers
        assert metric(client, 'alexnet_network_seconds_count{model="alexnet"}') == 40
        assert metric(client, "alexnet_pending_images") == 0

        os.kill(first, signal.SIGKILL)
        assert process.stderr.readline() == (
            f"server process 0 (PID {first}) was killed by signal 9; another is started\n")
        assert client.predict(PNG)[0] == 200  # meanwhile
        accepts = process.stderr.readline()
        assert re.fullmatch(r"server process 0 \(PID \d+\) accepts requests\n", accepts)
        assert metric(client, images) == 41  # with those of the process that died
        assert set(children(process)) > {second}
        pids = children(process)

        reloads = 'alexnet_model_reloads_total{model="alexnet",outcome="loaded"}'
        for count in (2, 4):  # by both processes, and said once
            process.send_signal(signal.SIGHUP)
            assert process.stderr.readline().startswith("reloaded alexnet: weights ")
            while metric(client, reloads) < count:
                time.sleep(0.05)
        assert metric(client, reloads) == 4

        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60)[1] == STOPPING + STOPPED
        assert process.returncode == -signal.SIGTERM
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.slow
def test_no_request_is_lost_when_several_processes_reload_and_stop(trained):
    """Each request gets 200, or its connection is refused because the server has stopped."""
    with started(trained, "--processes", 2) as (process, line):
        client, stopping = client_of(line), threading.Event()

        def send_requests():
            statuses = []
            while True:
                try:
                    statuses.append(client.predict(PNG)[0])
                except ConnectionRefusedError:
                    assert stopping.is_set()
                    return statuses

        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(send_requests) for _ in range(4)]
            for count in (2, 4):  # by both processes, and said once
                time.sleep(0.7)
                process.send_signal(signal.SIGHUP)
                assert process.stderr.readline().startswith("reloaded alexnet: weights ")
                while metric(client, 'alexnet_model_reloads_total{model="alexnet",outcome="loaded"}') < count:
                    time.sleep(0.05)
            process.send_signal(signal.SIGHUP)
            time.sleep(0.7)
            stopping.set()
            process.send_signal(signal.SIGTERM)
            statuses = [status for future in running for status in future.result()]
        assert len(statuses) > 20
        assert set(statuses) == {200}
        rest = process.communicate(timeout=60)[1]
        assert rest.count(STOPPING) == 1  # the last reload may end after it
        assert rest.endswith(STOPPED)


@pytest.mark.slow
def test_the_processes_end_when_their_supervisor_was_killed(trained):
    with started(trained, "--processes", 2) as (process, _):
        pids = children(process)
        assert len(pids) == 2
        process.kill()
        until = time.monotonic() + 60
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            assert time.monotonic() < until
            time.sleep(0.1)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_all_at_once(trained):
    with started(trained, "--processes", 2, "--drain", 15) as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == STOPPING
        began = time.monotonic()
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        rest = process.communicate(timeout=60)[1]
        assert process.returncode == 130
        assert "Traceback" not in rest
        assert rest.endswith(STOPPED)
        assert time.monotonic() - began < 10  # and not after the 15 seconds of --drain


@pytest.mark.slow
def test_a_mistake_is_said_once(tmp_path):
    with started(tmp_path / "absent", "--processes", 3) as (process, line):
        assert line == (f"alexnet: {tmp_path / 'absent'} does not exist; give a run's folder, a checkpoint, a file or "
                        "folder of weights, or a name of alexnet list weights\n")
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 2


def test_the_supervisor_remembers_the_last_lines_alone(tmp_path, capsys):
    """A line with a PID is another each time."""
    with socket.socket() as listener:
        supervisor = serve_workers._Supervisor(2, listener, tmp_path, 1.0, lambda *_: None)
    read, write = os.pipe()
    first, second = serve_workers._Process(0, 1, read), serve_workers._Process(1, 2, read)

    def say(process, line):
        serve_workers._tell(write, "say", line)
        supervisor._read_pipe(process)

    for pid in range(1500):
        say(first, "reloaded")
        say(first, f"worker process {pid} ended")
    assert len(supervisor._said) == 1000
    capsys.readouterr()
    for line in ("reloaded", "worker process 1499 ended", "worker process 501 ended"):
        say(second, line)
    assert capsys.readouterr().err == ""
    say(second, "worker process 500 ended")
    assert capsys.readouterr().err == "worker process 500 ended\n"
    for end in (supervisor._signals, supervisor._wake_up, supervisor._selector):
        end.close()
    for pipe in (read, write, *supervisor._lifeline):
        os.close(pipe)


def test_a_closed_terminal_does_not_end_the_supervisor(monkeypatch):
    class Closed:
        def write(self, text):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("sys.stderr", Closed())
    serve_workers.say("server process 0 ended")


@pytest.mark.parametrize(("cut_off", "killed", "line"), [
    (0, 0, "stopped: all accepted requests are finished"), (1, 0, "stopped: 1 accepted request cut off"),
    (2_000, 0, "stopped: 2,000 accepted requests cut off"),
    (0, 1, "stopped: 0 accepted requests cut off, besides those of 1 server process killed"),
    (3, 2, "stopped: 3 accepted requests cut off, besides those of 2 server processes killed")])
def test_the_last_line_says_what_was_cut_off(cut_off, killed, line):
    assert serve_workers.stopped_line(cut_off, killed) == line


def test_several_processes_need_fork(trained, monkeypatch, capsys):
    assert command("serve", trained, "--processes", 0) == 2
    assert "--processes 0 must be at least 1" in capsys.readouterr().err
    monkeypatch.delattr(os, "fork")
    assert command("serve", trained, "--processes", 2) == 2
    assert capsys.readouterr().err == (
        "alexnet: --processes needs fork, which this system does not have; start a server on each of several ports, "
        "and a proxy before them\n")


def test_each_process_has_a_gpu_in_turn(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_of("auto", number) for number in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert [device_of(device, 1) for device in ("cuda", "cuda:0", "cpu")] == ["cuda:1", "cuda:0", "cpu"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device_of("auto", 1) == "auto"


def test_the_processes_share_the_threads(monkeypatch):
    """Of torch by OMP_NUM_THREADS, which is read when torch is imported, and of decoding."""
    class Given(Exception):
        pass

    def service(models, token, hosts, limits, log, cores, **options):
        raise Given(cores)

    monkeypatch.setenv("OMP_NUM_THREADS", "")
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(cpu_threads, "usable_cores", lambda: 12)
    monkeypatch.setattr("alexnet.serving.service.Service", service)
    options = ServeOptions({}, "127.0.0.1", None, "", Limits(), "cpu", False, None, False, None, 4)
    with pytest.raises(Given, match="3"):
        run_one_of_several(None, options, 0, print, print, -1, lambda: True, print)
    assert os.environ["OMP_NUM_THREADS"] == "3"
