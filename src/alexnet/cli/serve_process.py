"""One process of `alexnet serve`: load the checkpoints, and run the HTTP server until a signal."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from alexnet._runtime.notes import say, unless_closed
from alexnet.api.opening import open_data
from alexnet.cli.app import class_names
from alexnet.cli.serve_workers import Tell, stopped_line

if TYPE_CHECKING:
    from alexnet.data.packed import PackedDataset
    from alexnet.inference.predictor import Model
    from alexnet.models.checkpoint import Checkpoint
    from alexnet.models.checkpoint_json import ErrorsJson
    from alexnet.serving.limits import Limits
    from alexnet.serving.served_model import ServedModel
    from alexnet.serving.server import GracefulServer
    from alexnet.serving.service import Service

TOKEN_VARIABLE = "ALEXNET_TOKEN"
TOKEN_FILE_VARIABLE = "ALEXNET_TOKEN_FILE"

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""An address that a browser on this machine can open, for a server bound to all addresses."""


@dataclass(frozen=True)
class ServeOptions:
    """The options of `alexnet serve`, checked.

    Attributes:
        checkpoints: by the names of the models; "": the only one, without a name.
        token: required from clients; "": none.
        processes: on the port; this one is one of them.
    """

    checkpoints: dict[str, str]
    host: str
    reference_set: str | None
    token: str
    limits: Limits
    device: str
    fast: bool
    classes: Path | None
    no_samples: bool
    log: Literal["text", "json"] | None
    processes: int
    sure: float | None = None


def run_server(listener: socket.socket, options: ServeOptions) -> None:
    """Run the only server process until a signal."""

    def on_stop() -> None:
        with contextlib.suppress(OSError):  # the terminal may have been closed
            say("stopping: finishing the accepted requests")

    def on_stopped(cut_off: int) -> None:
        with contextlib.suppress(OSError):
            say(stopped_line(cut_off))

    _run(listener, options, options.device, say, say, on_stop, on_stopped)


def run_one_of_several(listener: socket.socket, options: ServeOptions, number: int, announce: Tell, say_once: Tell,
                       lifeline: int, has_started: Callable[[], bool], on_stopped: Callable[[int], object]) -> None:
    """Run one of several server processes until a signal (`serve_workers.Run`)."""
    from alexnet._runtime.cpu_threads import usable_cores

    # Read when torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // options.processes)))
    _run(listener, options, device_of(options.device, number), announce, say_once, lambda: None, on_stopped,
         lifeline, has_started)


def device_of(device: str, number: int) -> str:
    """The device of a process by its number: where the machine has several GPUs, each has one in turn."""
    import torch

    count = torch.cuda.device_count() if device in ("auto", "cuda") and torch.cuda.is_available() else 0
    return f"cuda:{number % count}" if count > 1 else device


def _run(listener: socket.socket, options: ServeOptions, device: str, announce: Tell, tell: Tell,
         on_stop: Callable[[], None], on_stopped: Callable[[int], object], lifeline: int | None = None,
         has_started: Callable[[], bool] = lambda: True) -> None:
    """Load the models, and process requests until a signal, or until `lifeline` becomes readable.

    Args:
        announce: called with the start message when the server accepts connections.
        tell: called with all other lines.
        on_stop: called when the server begins to stop.
        on_stopped: called at its end, with the number of accepted requests that were cut off.
        has_started: whether all processes of the server accept connections.
    """
    import asyncio

    from alexnet._runtime.cpu_threads import shorten_time_slices, usable_cores
    from alexnet.serving.app import create_app
    from alexnet.serving.middleware import allowed_hosts
    from alexnet.serving.server import create_server
    from alexnet.serving.service import Service

    models = [_load(name, checkpoint, options, device, tell) for name, checkpoint in options.checkpoints.items()]
    service = Service(models, options.token, allowed_hosts(options.host), options.limits, options.log,
                      usable_cores() // options.processes, say=tell, has_started=has_started)

    def on_start() -> None:
        _reload_on_hangup(service, server)
        if lifeline is not None:
            asyncio.get_running_loop().add_reader(lifeline, stop)
        announce(_start_message(options, models, listener.getsockname()[1]))

    def stop() -> None:
        assert lifeline is not None
        asyncio.get_running_loop().remove_reader(lifeline)
        server.should_exit = True

    def drain() -> None:
        service.is_draining = True
        on_stop()

    # What is loaded stays until the end: without this, a full garbage collection takes a tenth of a second.
    gc.freeze()
    # The network's thread wants Python's lock after every layer. By default it would wait 5 ms each time for the event
    # loop, when that is busy with another client's requests.
    sys.setswitchinterval(0.0005)
    # A request waits five times for its turn: three times for the event loop, once each for a decode thread and the
    # network's. Each time it would wait for the long slices of threads that process another client's images.
    shorten_time_slices()
    server = create_server(create_app(service), options.limits, on_start=on_start, on_stop=drain,
                           on_stopped=on_stopped, is_shared=options.processes > 1)
    code = 0
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        if not service.reloader.is_loading:
            raise
        code = 130
    if service.reloader.is_loading:  # Python would wait for its thread: minutes, from a slow disk
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
                stream.flush()
        os._exit(code)


def _load(name: str, checkpoint: str, options: ServeOptions, device: str, tell: Tell) -> ServedModel:
    """Load a network, the sample images and the reference set."""
    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.inference.confidence import always_sure_note
    from alexnet.inference.predictor import model_from_checkpoint
    from alexnet.models.formats.open_weights import open_weights
    from alexnet.serving.explanations import ReferenceSet
    from alexnet.serving.middleware import is_loopback
    from alexnet.serving.reloading import require_same_place
    from alexnet.serving.samples import sample_images
    from alexnet.serving.served_model import DEFAULT_NAME, ServedModel

    names = class_names(options.classes)

    def load_weights(say_warning: Tell, fall_back: bool) -> Checkpoint:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            saved = open_weights(checkpoint, names, fall_back=fall_back)
        for warning in caught:  # such as that another checkpoint of the run is used
            say_warning(f"warning: {warning.message}")
        return saved

    saved = load_weights(tell, fall_back=True)
    model, errors = model_from_checkpoint(saved, choose_device(device), options.fast), saved.errors
    for note in model.notes:
        tell(f"note: {note}")

    def load_again() -> tuple[Model, ErrorsJson]:
        again = load_weights(unless_closed(tell), fall_back=False)
        require_same_place(saved.path, again.path)
        return model_from_checkpoint(again, choose_device(device), options.fast), again.errors

    side = model.preprocess.spec.side
    packed = open_data(options.reference_set, side, splits=("train",)) if options.reference_set else (
        _training_data(Path(checkpoint)))
    references = None
    if options.reference_set and packed:
        with Bar("features of the reference set", "images") as bar:
            references = ReferenceSet.of(model, packed, bar)
    # Without a token, every machine that reaches the server could see the names and the images.
    are_private = options.no_samples or not (options.token or is_loopback(options.host))
    samples = sample_images(None if are_private else packed)
    served = ServedModel(model, errors, references, samples, name or DEFAULT_NAME, load_again, options.sure)
    if note := always_sure_note(len(model.classes), model.is_calibrated, options.sure):
        tell(f"note: {note}")
    served.explain(model.pixels(samples[0].png))  # before the server starts: a network that it fails for is refused
    return served


def _training_data(checkpoint: Path) -> PackedDataset | None:
    """The data that the run was trained on, if it still exists: the source of the sample images."""
    from alexnet.reproduce.report.run_data import packed_data

    try:
        return packed_data(checkpoint if (checkpoint / "config.json").is_file() else checkpoint.parent)
    except (ValueError, OSError, KeyError):
        return None


def _reload_on_hangup(service: Service, server: GracefulServer) -> None:
    """Load the checkpoint again on SIGHUP, which Windows does not have. Call it in the event loop."""
    import asyncio

    if not hasattr(signal, "SIGHUP"):
        return
    began_in_terminal = os.isatty(2)

    def on_hangup() -> None:
        if began_in_terminal and not os.isatty(2):  # the terminal was closed, which sends the same signal
            server.should_exit = True
        else:
            service.reloader.request()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_hangup)


def _start_message(options: ServeOptions, models: list[ServedModel], port: int) -> str:
    from alexnet.models.packaged import shown_name
    from alexnet.serving.middleware import is_loopback

    names = [f"{name}={checkpoint}" if name else shown_name(checkpoint)
             for name, checkpoint in options.checkpoints.items()]
    facts = ", ".join(f"{name} ({served.model.network.arch.name}, {len(served.model.classes)} classes)"
                      for name, served in zip(names, models, strict=True))
    host, token = options.host, options.token
    address = _LOOPBACK.get(host, host)
    url_host = f"[{address}]" if ":" in address else address
    # To a person at a terminal only: a log may be read by others than the server's.
    fragment = f"#token={token}" if token and sys.stderr.isatty() else ""
    elsewhere = " and this machine's other addresses" if host in _LOOPBACK else ""
    message = (f"serving {facts} at http://{url_host}:{port}/{fragment}{elsewhere} until Ctrl-C")
    if not token and not is_loopback(host):
        message += (f"\nwarning: every machine that reaches {host} can use the server; require a token with --token "
                    f"or {TOKEN_VARIABLE}")
    return message
