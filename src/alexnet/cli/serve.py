"""`alexnet serve`: check the options, bind the port, and start the process that serves."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import set_openmp_defaults
from alexnet._runtime.extras import install_line
from alexnet._runtime.file_limit import raise_file_limit
from alexnet._runtime.json_lines import print_json_lines
from alexnet.cli.app import DEPLOY, Classes, Device, Fast, Sure, app, at_least_1
from alexnet.cli.default_checkpoint import default_checkpoint
from alexnet.cli.serve_process import TOKEN_FILE_VARIABLE, TOKEN_VARIABLE, ServeOptions, run_one_of_several, run_server
from alexnet.cli.serve_workers import run_processes
from alexnet.errors import UserError, require
from alexnet.inference.confidence import require_threshold

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
"""Needs no escaping in a URL."""


@app.command(group=DEPLOY)
def serve(
    *checkpoints: str, host: str = "127.0.0.1", port: int = 8000, reference_set: str | None = None,
    token: str | None = None, max_mb: int = 20, max_queue_seconds: float = 1.0, drain: float = 0.5,
    keep_alive: int = 75, device: Device = "auto", fast: Fast = False, classes: Classes = None, sure: Sure = None,
    no_samples: bool = False, log: Literal["text", "json"] | None = None, processes: int = 1,
) -> None:
    """Serve one or several networks over HTTP, with a page to try it.

    The page is at /. Programs POST an image, or several as multipart/form-data, to /predict and receive JSON.
    /openapi.json describes all paths, among them /predict, /explain, /model, /health, /ready, /metrics.

    $ curl -F image=@cat.jpg 127.0.0.1:8000/predict

    On Ctrl-C or SIGTERM the server finishes the accepted requests; the exit code is 130 or 143. On SIGHUP it loads the
    checkpoints again, and no request is lost.

    Args:
        checkpoints: A checkpoint, a run folder, or a name that `alexnet list weights` shows. Default: the pretrained
            network of the package. Several: NAME=CHECKPOINT each, at /v1/models/NAME/predict and, by the Open
            Inference Protocol, /v2/models/NAME/infer; /predict is the first one's.
        host: Address to bind. 127.0.0.1: this machine only; 0.0.0.0: all networks.
        port: Port to bind. 0: any free port.
        reference_set: Data among which /explain searches nearest neighbors: class folders, a packed folder, or a name.
        token: Clients must send it in the header Authorization: Bearer TOKEN. The environment variable ALEXNET_TOKEN
            sets it without showing it to other users of the machine; ALEXNET_TOKEN_FILE names a file that holds it.
        max_mb: Largest request body, in megabytes.
        max_queue_seconds: Estimated waiting time above which the server rejects a request with 503.
        drain: Seconds for which the server still accepts requests after SIGTERM, while /ready says that it stops: as
            long as a load balancer takes to notice; 0 to 20.
        keep_alive: Seconds for which an idle connection stays open: longer than a proxy keeps its own.
        no_samples: Offer generated sample images on the page instead of validation images. Default: so only where
            other machines can reach the server without a token.
        log: Print one line for each request on standard error. json: with its id, images, model, and the seconds of
            queueing, decoding and the network; all other lines are JSON, too.
        processes: Server processes on the port, each with its own copy of the networks; the cores are divided among
            them, and GPUs where there are several. Not on Windows.
    """
    if log == "json":
        print_json_lines()
    token = _check_options(port, token, max_mb, max_queue_seconds, processes)
    require_threshold(sure)
    named = parse_checkpoints(checkpoints)
    require(classes is None or len(named) <= 1, "--classes names the outputs of one network, and "
            f"{len(named)} are served", "import the others with alexnet import --classes")
    try:
        from alexnet.serving.limits import Limits
        from alexnet.serving.server import bind
    except ImportError as error:
        raise UserError(f"serving needs the package {error.name}", install_line("serve")) from None
    limits = Limits.from_options(max_mb, max_queue_seconds, drain, keep_alive)
    named = named or {"": default_checkpoint()}
    listener = bind(host, port)
    set_allocator()
    set_openmp_defaults(processes)
    raise_file_limit(4 * limits.connections)
    options = ServeOptions(
        named, host, reference_set, token, limits, device, fast, classes, no_samples, log, processes, sure)
    _run(listener, options)


def _run(listener: socket.socket, options: ServeOptions) -> None:
    """Serve in this process, or in several, until a signal."""
    with listener:
        if options.processes == 1:
            run_server(listener, options)
        else:
            run_processes(options.processes, listener, options.limits.shutdown_seconds,
                          partial(run_one_of_several, listener, options))


def parse_checkpoints(arguments: Sequence[str]) -> dict[str, str]:
    """The checkpoints by the names of their models: NAME=CHECKPOINT, or a single one without a name, "".

    An argument that exists as a file or folder has no name, whatever it contains.

    Raises:
        UserError: a name is missing, malformed or repeated.
    """
    named: dict[str, str] = {}
    for argument in arguments:
        name, equals, checkpoint = argument.partition("=")
        is_named = bool(equals) and "/" not in name and not Path(argument).exists()
        require(is_named or len(arguments) == 1, f"{argument} is one of {len(arguments)} checkpoints and has no name",
                "give each as NAME=CHECKPOINT")
        if not is_named:
            return {"": argument}
        require(bool(_MODEL_NAME.fullmatch(name)), f"model name {name[:80]!r} must have 1 to 64 letters, digits, dots, "
                "dashes or underscores, and begin with a letter or digit, as it is part of URLs", "choose another name")
        require(bool(checkpoint), f"model {name} has no checkpoint", f"give it as {name}=CHECKPOINT")
        require(name not in named, f"two models are called {name}", "give each a name of its own")
        named[name] = checkpoint
    return named


def _check_options(port: int, token: str | None, max_mb: int, max_queue_seconds: float, processes: int) -> str:
    """Return the token, or "" for none. Raises UserError for a value outside its range."""
    at_least_1(max_mb=max_mb, processes=processes)
    require(processes == 1 or hasattr(os, "fork"), "--processes needs fork, which this system does not have",
            "start a server on each of several ports, and a proxy before them")
    require(0 <= port <= 65535, f"--port {port} must be from 0 to 65535")
    require(0 < max_queue_seconds <= 600,
            f"--max-queue-seconds {max_queue_seconds} must be above 0 and at most 600 seconds")
    if token is None:
        token = _token_of_environment()
    if token is None:
        return ""
    # An empty token, as from an unset shell variable, would leave the server open.
    require(bool(token), "the token is empty",
            f"give one, or leave out --token and unset {TOKEN_VARIABLE} and {TOKEN_FILE_VARIABLE}")
    require(token.isascii() and token.isprintable() and " " not in token,
            "the token has characters other than ASCII letters, digits and punctuation", "choose another token")
    return token


def _token_of_environment() -> str | None:
    """The token in ALEXNET_TOKEN, or in the file that ALEXNET_TOKEN_FILE names, as containers get their secrets."""
    token, file = os.environ.get(TOKEN_VARIABLE), os.environ.get(TOKEN_FILE_VARIABLE)
    if file is None:
        return token
    require(token is None, f"{TOKEN_VARIABLE} and {TOKEN_FILE_VARIABLE} are both set", "unset one of them")
    require(bool(file), f"{TOKEN_FILE_VARIABLE} is empty", "set it to the file that holds the token, or unset it")
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"the file {file}, which {TOKEN_FILE_VARIABLE} names, cannot be read ({reason})",
                        "check the name, and whether the server's user may read it") from error
