"""The parts of a server and their lifetime: model, uploads, decoder, admission control, batcher, metrics, warm-up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
from starlette.requests import Request

from alexnet._runtime.cpu_threads import usable_cores
from alexnet._runtime.notes import say, unless_closed
from alexnet.errors import did_you_mean
from alexnet.serving.admission import AdmissionControl
from alexnet.serving.batching import CPU_BATCH, GPU_BATCH, DynamicBatcher, ImageArray
from alexnet.serving.decoder import ImageDecoder
from alexnet.serving.fair_queue import client_of
from alexnet.serving.limits import Limits
from alexnet.serving.metrics import Metrics
from alexnet.serving.multipart import Upload
from alexnet.serving.pace import Activity, BodyPace, RejectionPace
from alexnet.serving.reloading import Reloader
from alexnet.serving.request_log import LogFormat
from alexnet.serving.request_record import Stopwatch, record_of
from alexnet.serving.responses import RequestError
from alexnet.serving.samples import encode_png
from alexnet.serving.served_model import Output, ServedModel, average_views
from alexnet.serving.uploads import UploadReader

TRIM_SECONDS = 5
"""Interval at which an idle server returns freed memory to the system."""


@dataclass
class Service:
    """All parts of one server. `app.create_app` makes the ASGI application.

    Attributes:
        initial: the networks that the server offers; the first one is that of the paths without a name.
        token: required from clients; "": none.
        hosts: allowed host names; empty: all.
        limits: of the server.
        log_format: of the line for each request; None: no lines.
        cores: CPU cores for decoding.
        is_draining: whether the server shuts down.
        say: prints a line about reloads and worker processes.
        has_started: whether all processes of the server accept connections.
    """

    initial: Sequence[ServedModel]
    token: str = ""
    hosts: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    log_format: LogFormat | None = None
    cores: int = field(default_factory=usable_cores)
    is_draining: bool = False
    say: Callable[[str], object] = say
    has_started: Callable[[], bool] = lambda: True

    def __post_init__(self) -> None:
        self.models = {model.name: model for model in self.initial}
        self.metrics = Metrics()
        for model in self.initial:
            self.metrics.show_model(model)
        self.admission = AdmissionControl(self.limits.max_queue_seconds, self.metrics.pending.set)
        self.activity = Activity()
        self.pace = RejectionPace(self.limits.rejected_bytes_per_second, self.limits.rejected_requests_per_second,
                                  self.limits.rejection_seconds, self.activity)
        self.uploads = UploadReader(self.limits, BodyPace(self.limits.large_body_bytes_per_second,
                                                          self.limits.free_body_bytes, self.activity))
        self.decoder = ImageDecoder(self.limits, self.admission.decodes, self.cores, self.say)
        self.on_gpu = any(served.model.preprocess.mean_HWC.device.type != "cpu" for served in self.initial)
        self.batcher = DynamicBatcher(ServedModel.forward, self.admission, on_batch=self.metrics.batch_size.observe,
                                      max_batch=GPU_BATCH if self.on_gpu else CPU_BATCH)
        self.reloader = Reloader(self.models, self.metrics.count_reload, self.say)

    @property
    def default_model(self) -> ServedModel:
        """The model of the paths without a name."""
        return next(iter(self.models.values()))

    @property
    def is_alive(self) -> bool:
        """False where the task that makes the batches has ended: only a restart helps."""
        return self.batcher.is_running

    def bind(self, request: Request) -> ServedModel:
        """The model that a request's path names, or the default. The request uses it to its end; its record names it.

        Raises:
            RequestError: 404 for an unknown name.
        """
        name, record = request.path_params.get("model"), record_of(request)
        served = self.default_model if name is None else self.models.get(name)
        if served is None:
            raise RequestError(f"there is no model {str(name)[:40]!r}", did_you_mean(str(name)[:40], self.models),
                               status=404)
        record.model, record.model_sha256 = served.name, served.sha256
        return served

    def status(self, *names: str) -> Literal["ready", "starting", "stopping", "failing"]:
        """Whether these models, by default all, accept requests, or the server starts or stops, or a network fails."""
        if self.is_draining:
            return "stopping"
        if not self.has_started():
            return "starting"
        failures = max(self.batcher.failures[name] for name in names or self.models)
        return "ready" if self.batcher.is_running and failures < self.limits.failed_batches else "failing"

    def note_client(self, request: Request) -> str:
        """The client that a request for a network's work counts for, noted as active."""
        client = client_of(request)
        self.activity.note(client)
        return client

    async def outputs(self, client: str, served: ServedModel, images: Sequence[ImageArray], views: int,
                      watch: Stopwatch) -> list[Output]:
        """The output for each image, of its center crop or averaged over ten views. `watch` measures the batches."""
        outputs = await self.batcher.submit(client, served, images, views, watch)
        return outputs if views == 1 else average_views(outputs)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Process requests while the context lasts. The server starts after the warm-up."""
        async with self.batcher.running():
            await self._warm_up()
            trimming = asyncio.create_task(self._trim_memory())
            yield
            trimming.cancel()
            self.reloader.shutdown()
        self.decoder.shutdown()

    async def _warm_up(self) -> None:
        """Process one image of each kind twice. The second time gives the first estimates of the admission control."""
        for served in self.models.values():
            await self._warm_up_model(served)

    async def _warm_up_model(self, served: ServedModel) -> None:
        pixels_HWC = np.zeros((served.side, served.side, 3), np.uint8)
        upload = Upload("", served.samples[0].png if served.samples else encode_png(pixels_HWC))
        for _ in range(2):
            self.admission.reset_estimates(served.name)
            decoded = await self.decoder.decode("", [upload], served.side)
            pixels = [pixels for pixels in decoded if isinstance(pixels, np.ndarray)] * CPU_BATCH
            await self.batcher.warm_up(served, pixels, None)
            await self.batcher.run_exclusive("", served.name, partial(served.explain, pixels_HWC))
        if not self.on_gpu:
            await self.batcher.measure_batches(served, pixels_HWC)

    async def _trim_memory(self) -> None:
        last_failure = ""
        while True:
            await asyncio.sleep(TRIM_SECONDS)
            if self.admission.decodes.pending:
                continue
            try:
                await self.decoder.trim_memory()
            except Exception as error:  # whatever it is: the next attempt may succeed
                if repr(error) != last_failure:  # else it would be logged every few seconds
                    last_failure = repr(error)
                    unless_closed(self.say)(f"freed memory cannot be returned to the system: {last_failure}")
