"""`alexnet serve`: check the options, load the checkpoint, and run the HTTP server."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import limit_openmp_spinning
from alexnet._runtime.file_limit import raise_file_limit
from alexnet._runtime.notes import say
from alexnet.api import open_data
from alexnet.cli.app import DEPLOY, Classes, Device, Fast, app, at_least_1, class_names
from alexnet.cli.default_checkpoint import default_checkpoint
from alexnet.errors import UserError, require

if TYPE_CHECKING:
    from alexnet.data.packed import PackedDataset
    from alexnet.inference.predictor import Model
    from alexnet.serving.limits import Limits
    from alexnet.serving.service import Service

TOKEN_VARIABLE = "ALEXNET_TOKEN"

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""An address that a browser on this machine can open, for a server bound to all addresses."""


@app.command(group=DEPLOY)
def serve(
    checkpoint: str | None = None, /, *, host: str = "127.0.0.1", port: int = 8000, reference_set: str | None = None,
    token: str | None = None, max_mb: int = 20, max_queue_seconds: float = 1.0, drain: float = 0.5,
    keep_alive: int = 75, device: Device = "auto", fast: Fast = False, classes: Classes = None,
    no_samples: bool = False, log: bool = False,
) -> None:
    """Serve a network over HTTP, with a page to try it.

    The page is at /. Programs POST an image, or several as multipart/form-data, to /predict and receive JSON.
    /openapi.json describes all paths: /predict, /explain, /model, /health, /ready, /metrics.

    $ curl -F image=@cat.jpg 127.0.0.1:8000/predict

    On Ctrl-C or SIGTERM the server finishes the accepted requests; the exit code is 130 or 143.

    Args:
        checkpoint: A checkpoint, a run folder, or a name that `alexnet list weights` shows. Default: the pretrained
            network of the package.
        host: Address to bind. 127.0.0.1: this machine only; 0.0.0.0: all networks.
        port: Port to bind. 0: any free port.
        reference_set: Data among which /explain searches nearest neighbors: class folders, a packed folder, or a name.
        token: Clients must send it in the header Authorization: Bearer TOKEN. The environment variable ALEXNET_TOKEN
            sets it without showing it to other users of the machine.
        max_mb: Largest request body, in megabytes.
        max_queue_seconds: Estimated waiting time above which the server rejects a request with 503.
        drain: Seconds for which the server still accepts requests after SIGTERM, while /ready says that it stops: as
            long as a load balancer takes to notice.
        keep_alive: Seconds for which an idle connection stays open: longer than a proxy keeps its own.
        no_samples: Offer generated sample images on the page instead of validation images.
        log: Print one line for each request.
    """
    token = _check_options(port, token, max_mb, max_queue_seconds)
    try:
        from alexnet.serving.app import create_app
        from alexnet.serving.limits import Limits
        from alexnet.serving.server import bind, create_server
    except ImportError as error:
        raise UserError(f"serving needs the package {error.name}", "pip install 'alexnet[serve]'") from None
    limits = Limits.from_options(max_mb, max_queue_seconds, drain, keep_alive)
    checkpoint = default_checkpoint() if checkpoint is None else checkpoint
    listener = bind(host, port)
    set_allocator()
    limit_openmp_spinning()
    raise_file_limit(4 * limits.connections)
    service = _load(checkpoint, host, reference_set, token, limits, device, fast, classes, no_samples)

    def on_start() -> None:
        _print_start(checkpoint, service.model, host, listener.getsockname()[1], token)

    def on_stop() -> None:
        service.is_draining = True
        say("stopping: finishing the accepted requests")

    # What is loaded stays until the end: without this, a full garbage collection takes a tenth of a second.
    gc.freeze()
    create_server(create_app(service), limits, on_start=on_start, on_stop=on_stop, log_requests=log).run(
        sockets=[listener])


def _check_options(port: int, token: str | None, max_mb: int, max_queue_seconds: float) -> str:
    """Return the token, or "" for none. Raises UserError for a value outside its range."""
    at_least_1(max_mb=max_mb)
    require(0 <= port <= 65535, f"--port {port} must be from 0 to 65535")
    require(0 < max_queue_seconds <= 600,
            f"--max-queue-seconds {max_queue_seconds} must be above 0 and at most 600 seconds")
    if token is None:
        token = os.environ.get(TOKEN_VARIABLE)
    if token is None:
        return ""
    # An empty token, as from an unset shell variable, would leave the server open.
    require(bool(token), "the token is empty", f"give one, or leave out --token and unset {TOKEN_VARIABLE}")
    require(token.isascii() and token.isprintable() and " " not in token,
            "the token has characters other than ASCII letters, digits and punctuation", "choose another token")
    return token


def _load(checkpoint: str, host: str, reference_set: str | None, token: str, limits: Limits, device: str, fast: bool,
          classes: Path | None, no_samples: bool) -> Service:
    """Load the network, the sample images and the reference set."""
    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.inference.predictor import model_from_checkpoint
    from alexnet.models.formats.open_weights import open_weights
    from alexnet.serving.explanations import ReferenceSet, explain_image
    from alexnet.serving.middleware import allowed_hosts
    from alexnet.serving.samples import sample_images
    from alexnet.serving.service import Service

    saved = open_weights(checkpoint, class_names(classes))
    for note in saved.notes:
        say(f"note: {note}")
    model = model_from_checkpoint(saved, choose_device(device), fast)
    packed = open_data(reference_set, model.preprocess.spec.side) if reference_set else _training_data(Path(checkpoint))
    references = None
    if reference_set and packed:
        with Bar("features of the reference set", "images") as bar:
            references = ReferenceSet.of(model, packed, bar)
    samples = sample_images(None if no_samples else packed)
    # Before the server starts: a missing package is reported here.
    explain_image(model, model.pixels(samples[0].png), references)
    return Service(model, saved.errors, references, samples, token, allowed_hosts(host), limits)


def _training_data(checkpoint: Path) -> PackedDataset | None:
    """The data that the run was trained on, if it still exists: the source of the sample images."""
    from alexnet.reproduce.report.run_data import packed_data

    try:
        return packed_data(checkpoint if (checkpoint / "config.json").is_file() else checkpoint.parent)
    except (ValueError, OSError, KeyError):
        return None


def _print_start(checkpoint: str, model: Model, host: str, port: int, token: str) -> None:
    from alexnet.models.packaged import shown_name
    from alexnet.serving.middleware import is_loopback

    address = _LOOPBACK.get(host, host)
    url_host = f"[{address}]" if ":" in address else address
    # To a person at a terminal only: a log may be read by others than the server's.
    fragment = f"#token={token}" if token and sys.stderr.isatty() else ""
    elsewhere = " and this machine's other addresses" if host in _LOOPBACK else ""
    say(f"serving {shown_name(checkpoint)} ({model.network.arch.name}, {len(model.classes)} classes) at "
        f"http://{url_host}:{port}/{fragment}{elsewhere} until Ctrl-C")
    if not token and not is_loopback(host):
        say(f"warning: every machine that reaches {host} can use the server; require a token with --token or "
            f"{TOKEN_VARIABLE}")
