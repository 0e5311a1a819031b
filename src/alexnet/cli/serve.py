"""The command that serves a network behind HTTP: what is opened, in which order, and what is said of it."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet._runtime.allocator import set_allocator
from alexnet._runtime.cpu_threads import limit_openmp_spinning
from alexnet._runtime.notes import say
from alexnet.api import open_data
from alexnet.cli.app import DEPLOY, Device, Fast, app, at_least_1

if TYPE_CHECKING:
    from alexnet.data.packed import PackedDataset


TOKEN = "ALEXNET_TOKEN"


@app.command(group=DEPLOY)
def serve(
    checkpoint: Path, /, *, host: str = "127.0.0.1", port: int = 8000, reference_set: str | None = None,
    token: str | None = None, max_mb: int = 20, patience: float = 1.0, device: Device = "auto", fast: Fast = False,
    no_samples: bool = False, log: bool = False,
) -> None:
    """Answer over HTTP what is in images, with a page to drop them on.

    The page is at /. For programs, POST /predict takes an image's bytes, or several as multipart/form-data, and
    gives JSON; /openapi.json describes it, /look, /model, /health, /ready and /metrics.

    $ curl -F photo=@cat.jpg 127.0.0.1:8000/predict

    Ctrl-C or SIGTERM: what was accepted is answered, then the exit code is 130 or 143.

    Parameters
    ----------
    checkpoint
        A checkpoint or a run's folder.
    host
        127.0.0.1 can be reached from this machine alone; 0.0.0.0 from anywhere.
    port
        0 for any that is free.
    among
        Images in which the nearest are looked for: class folders, a packed folder, or a name.
    token
        Whoever asks must send it: Authorization: Bearer TOKEN. Better put into the environment as ALEXNET_TOKEN, where
        other users of the machine do not see it.
    max_mb
        Megabytes of a request, at most.
    patience
        Seconds of work that may wait; who would wait longer is answered 503 at once.
    no_samples
        Offer drawn pictures to click, and not images of the run's data.
    log
        Print a line for each request.
    """
    at_least_1(max_mb=max_mb)
    if not 0 <= port <= 65535:
        raise ValueError(f"--port {port} must be from 0 to 65535")
    if not 0 < patience <= 600:
        raise ValueError(f"--patience {patience} must be above 0 and at most 600 seconds")
    token = os.environ.get(TOKEN) if token is None else token
    if token == "":  # as from a variable that is not set: the door would stand open
        raise ValueError(f"the token is empty; give one, or leave --token out and {TOKEN} unset")
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("the token must be of letters, digits and signs, without blanks")
    try:
        from alexnet.serving.app import Service
        from alexnet.serving.middleware import is_local, names_of
        from alexnet.serving.server import bind, server
        from alexnet.serving.uploads import Intake
    except ImportError as missing:
        raise ValueError(f"serving needs {missing.name}; pip install 'alexnet[serve]'") from None
    door = bind(host, port)
    set_allocator()
    limit_openmp_spinning()

    from alexnet._runtime.devices import choose_device
    from alexnet._runtime.progress import Bar
    from alexnet.inference.predictor import model_of
    from alexnet.models.formats.open_weights import open_weights
    from alexnet.serving.explanations import ReferenceSet, explain_image, samples

    saved = open_weights(checkpoint)
    model = model_of(saved, choose_device(device), fast)
    packed = open_data(reference_set, model.preprocess.spec.side) if reference_set else _own_data(checkpoint)
    nearby = None
    if reference_set and packed:
        with Bar("features of the set", "images") as bar:
            nearby = ReferenceSet.of(model, packed, bar)
    service = Service(
        model, metrics=saved.errors, reference_set=nearby, samples=samples(None if no_samples else packed), token=token or "",
        hosts=names_of(host), patience=patience,
        intake=Intake(body=1_000_000 * max_mb, held=max(64_000_000, 2_000_000 * max_mb)))
    explain_image(model, model.pixels(service.samples[0].data), nearby)  # the first is slow, and says what is not installed

    def started() -> None:
        named = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        shown = f"[{named}]" if ":" in named else named
        others = " and this machine's other addresses" if named != host else ""
        say(f"serving {checkpoint} ({model.network.arch.name}, {len(model.classes)} classes) at "
            f"http://{shown}:{door.getsockname()[1]}/{f'#token={token}' if token else ''}{others} until Ctrl-C")
        if not token and not is_local(host):
            say(f"warning: whoever reaches {host} may ask; ask for a token with --token or {TOKEN}")

    def stopping() -> None:
        service.draining = True
        say("stopping: what was accepted is answered first")

    gc.freeze()  # what is loaded stays: to look through all of it for garbage takes a tenth of a second, now and then
    server(service.app(), on_start=started, on_stop=stopping, log_requests=log).run(sockets=[door])


def _own_data(checkpoint: Path) -> PackedDataset | None:
    """The data a run was trained on, for pictures to click, if both are still where they were."""
    from alexnet.reproduce.report import packed_data

    try:
        return packed_data(checkpoint if (checkpoint / "config.json").is_file() else checkpoint.parent)
    except (ValueError, OSError, KeyError):
        return None
