"""`alexnet serve --processes N`: fork N server processes on one port, restart one that dies, and pass signals on."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import selectors
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from alexnet._runtime import notes
from alexnet.cli.errors import failure
from alexnet.errors import UserError

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable: where prometheus_client keeps the metrics of all processes. Read when it is imported."""

_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGCHLD")
_LONGEST_DELAY = 60.0
"""Seconds before a process is started again that died before it was ready; at first 1, then twice as long each time."""

_REMEMBERED_LINES = 1000
"""Lines that the supervising process compares with those of other processes, to print each once."""

say = notes.unless_closed(notes.say)


def stopped_line(cut_off: int, killed: int = 0) -> str:
    """The line of a server that a signal has stopped.

    Args:
        cut_off: accepted requests that were not finished.
        killed: server processes that were killed because they had not ended in time.
    """
    if not cut_off and not killed:
        return "stopped: all accepted requests are finished"
    those = f", besides those of {killed} server process{'es' * (killed > 1)} killed" if killed else ""
    return f"stopped: {cut_off:,} accepted request{'s' * (cut_off != 1)} cut off{those}"


Tell = Callable[[str], object]
Run = Callable[[int, Tell, Tell, int, Callable[[], bool], Callable[[int], object]], object]
"""Runs one server process.

Its arguments: its number, a function to call with the start message when it accepts connections, a function for lines
that every process says and the supervising process prints once, a file descriptor that becomes readable when the
supervising process has ended, a function that says whether all processes accept connections, and one to call at the
end with the number of accepted requests that were cut off.
"""


@dataclass(eq=False)
class _Process:
    """A server process.

    Attributes:
        number: 0, 1, ...; a process that replaces another has the same.
        pid: of the operating system.
        pipe: from which its lines are read, each a JSON list of a kind (ready, say or cut_off) and a text.
        unread: the begin of the next line.
        is_ready: whether it accepts connections.
        is_stale: whether SIGHUP arrived while it was loading.
    """

    number: int
    pid: int
    pipe: int
    unread: bytes = b""
    is_ready: bool = False
    is_stale: bool = False


def run_processes(count: int, listener: socket.socket, stop_seconds: float, run: Run) -> None:
    """Run server processes until a signal, and end as it says.

    Args:
        count: processes.
        listener: bound; each process accepts connections on it.
        stop_seconds: after SIGTERM, until a process that still runs is killed.
        run: runs one of them.

    Raises:
        UserError: no temporary folder can be made for the metrics of all processes.
    """
    with _metrics_folder() as folder:
        os.environ[METRICS_FOLDER] = folder
        supervisor = _Supervisor(count, listener, Path(folder), stop_seconds, run)
        supervisor.supervise()
    if supervisor.exit_code:
        sys.exit(supervisor.exit_code)
    if supervisor.stop_signal == signal.SIGINT:
        raise KeyboardInterrupt
    if supervisor.stop_signal == signal.SIGTERM:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)


def _metrics_folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="alexnet-serve-")
    except OSError as error:
        raise UserError("--processes keeps the metrics of all processes in a temporary folder, and none can be made "
                        f"({(error.strerror or str(error)).lower()})", "make room in /tmp, let TMPDIR name another "
                        "folder that can be written to, or add --tmpfs /tmp to docker run") from error


class _Supervisor:
    """Starts the processes, and waits for signals and for their pipes. It imports no torch and no prometheus_client.

    The first process loads alone: an error of a checkpoint is printed once, and features of a reference set are
    computed once, into the cache.
    """

    def __init__(self, count: int, listener: socket.socket, folder: Path, stop_seconds: float, run: Run) -> None:
        self._count, self._listener, self._folder = count, listener, folder
        self._stop_seconds, self._run = stop_seconds, run
        self._processes: dict[int, _Process] = {}
        self._due = {0: 0.0}
        """Number of each process to start -> when."""
        self._delays = dict.fromkeys(range(count), 0.0)
        self._selector = selectors.DefaultSelector()
        self._signals, self._wake_up = socket.socketpair()
        self._lifeline = os.pipe()
        self._kill_at = float("inf")
        self._is_announced = False
        self._has_started = mmap.mmap(-1, 1)
        """Shared with the processes: 1 once all of them accept connections."""
        self._message = ""
        self._said: dict[str, set[int]] = {}
        """Line -> the numbers of the processes that have said it since it was printed; the last lines alone."""
        self._began_in_terminal = os.isatty(2)
        self._cut_off = 0
        """Accepted requests that the processes have not finished."""
        self._killed = 0
        """Processes that were killed because they had not ended in time."""
        self.stop_signal: int | None = None
        self.exit_code = 0

    def supervise(self) -> None:
        """Return when all processes have ended after a signal, or because one could not start."""
        self._signals.setblocking(False)
        self._wake_up.setblocking(False)
        self._selector.register(self._signals, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._wake_up.fileno())
        for name in _SIGNALS:
            signal.signal(getattr(signal, name), lambda *_: None)
        while self._processes or (self._due and self.stop_signal is None):
            for key, _ in self._selector.select(self._seconds_to_wait()):
                if key.data is None:
                    for number in self._signals.recv(4096):
                        self._handle(number)
                elif key.data.pid in self._processes:  # else it has ended, and its pipe is closed
                    self._read_pipe(key.data)
            now = time.monotonic()
            if self.stop_signal is None:
                for number in [number for number, when in self._due.items() if when <= now]:
                    del self._due[number]
                    self._start(number)
            elif now >= self._kill_at:
                self._killed = len(self._processes)
                self._send(signal.SIGKILL)
                self._kill_at = float("inf")
        signal.set_wakeup_fd(-1)
        if not self.exit_code:
            say(stopped_line(self._cut_off, self._killed))

    def _seconds_to_wait(self) -> float | None:
        when = min([self._kill_at, *(self._due.values() if self.stop_signal is None else ())])
        return None if when == float("inf") else max(0.0, when - time.monotonic())

    # --- Signals ------------------------------------------------------------------------------------------------------

    def _handle(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
        elif number == signal.SIGHUP and not (self._began_in_terminal and not os.isatty(2)):
            for process in self._processes.values():
                process.is_stale = not process.is_ready
                if process.is_ready:
                    os.kill(process.pid, signal.SIGHUP)
        elif number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # SIGHUP: the terminal was closed
            if self.stop_signal is None:
                say("stopping: finishing the accepted requests")
                self._stop(number)
            elif number == signal.SIGINT:  # a second Ctrl-C ends the processes at once
                self._send(signal.SIGINT)

    def _stop(self, number: int) -> None:
        self.stop_signal = number
        self._kill_at = time.monotonic() + self._stop_seconds
        self._listener.close()  # else it would accept connections that no process serves
        self._send(signal.SIGTERM)

    def _send(self, number: int) -> None:
        for process in self._processes.values():
            os.kill(process.pid, number)

    # --- Processes ----------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Take note of the processes that have ended."""
        while self._processes:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            process, code = self._processes.pop(pid), os.waitstatus_to_exitcode(status)
            while self._read_pipe(process):
                pass
            os.close(process.pipe)
            for file in self._folder.glob(f"gauge_live*_{pid}.db"):  # as prometheus_client's mark_process_dead
                file.unlink()
            if self.stop_signal is not None:
                continue
            if not self._is_announced:  # at the start; the process has said why
                self.exit_code = code if code > 0 else 1
                self._stop(signal.SIGTERM)
                continue
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            delay = 0.0 if process.is_ready else min(max(1.0, 2 * self._delays[process.number]), _LONGEST_DELAY)
            say(f"server process {process.number} (PID {pid}) {how}; another is started"
                + (f" in {delay:g} s" if delay else ""))
            self._delays[process.number] = delay
            self._due[process.number] = time.monotonic() + delay

    def _read_pipe(self, process: _Process) -> bool:
        """Read what there is, or wait. False at the end: the process has ended, and SIGCHLD follows."""
        if not (data := os.read(process.pipe, 65536)):
            with contextlib.suppress(KeyError):
                self._selector.unregister(process.pipe)
            return False
        *lines, process.unread = (process.unread + data).split(b"\n")
        for kind, text in map(json.loads, lines):
            if kind == "ready":
                if process.pid in self._processes:
                    self._on_ready(process, text)
            elif kind == "cut_off":
                self._cut_off += int(text)
            elif process.number in self._said.get(text, {process.number}):  # the first to say it, or to say it again
                self._said.pop(text, None)  # so that it becomes the last
                self._said[text] = {process.number}
                if len(self._said) > _REMEMBERED_LINES:
                    del self._said[next(iter(self._said))]
                say(text)
            else:
                self._said[text].add(process.number)
        return True

    def _on_ready(self, process: _Process, message: str) -> None:
        process.is_ready = True
        self._delays[process.number] = 0.0
        if process.is_stale:
            os.kill(process.pid, signal.SIGHUP)
        if self._is_announced:
            say(f"server process {process.number} (PID {process.pid}) accepts requests")
        elif process.number == 0:
            self._due = dict.fromkeys(range(1, self._count), 0.0)
            self._message = message
        if not self._is_announced and sum(one.is_ready for one in self._processes.values()) == self._count:
            self._is_announced, self._has_started[0] = True, 1
            say(self._message)

    def _start(self, number: int) -> None:
        read, write = os.pipe()
        # In the new process a signal would reach this one's handlers, which do nothing there. So it is held back.
        numbers = [getattr(signal, name) for name in _SIGNALS]
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        pid = os.fork()
        if not pid:
            os.close(read)
            self._run_child(number, write)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        os.close(write)
        self._processes[pid] = process = _Process(number, pid, read)
        self._selector.register(read, selectors.EVENT_READ, process)

    def _run_child(self, number: int, pipe: int) -> None:
        """Run a server in this new process, which ends with it."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for name in _SIGNALS:
                signal.signal(getattr(signal, name), signal.SIG_DFL)
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [getattr(signal, name) for name in _SIGNALS])
            os.setpgid(0, 0)  # Ctrl-C of the terminal goes to the supervisor alone, which passes it on once
            self._selector.close()
            for process in self._processes.values():
                os.close(process.pipe)
            os.close(self._lifeline[1])
            self._run(number, partial(_tell, pipe, "ready"), partial(_tell, pipe, "say"), self._lifeline[0],
                      lambda: bool(self._has_started[0]), lambda cut_off: _tell(pipe, "cut_off", str(cut_off)))
            code = 0
        except Exception as error:
            if failed := failure(error):
                print(f"alexnet: {failed.sentence}", file=sys.stderr)
                code = failed.exit_code
            else:
                traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _tell(pipe: int, kind: str, text: str) -> None:
    """Tell the supervising process, unless it has ended; then this process is about to end."""
    with contextlib.suppress(OSError):
        os.write(pipe, json.dumps([kind, text]).encode() + b"\n")
