"""The parts of a server and their lifetime: model, uploads, decoder, admission control, batcher, metrics, warm-up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet.inference.evaluate import probabilities
from alexnet.inference.predictor import Model
from alexnet.models.checkpoint_json import ErrorsJson
from alexnet.serving.admission import AdmissionControl
from alexnet.serving.batching import DynamicBatcher
from alexnet.serving.decoder import ImageDecoder
from alexnet.serving.explanations import Explanation, ReferenceSet, explain_image
from alexnet.serving.limits import Limits
from alexnet.serving.metrics import Metrics
from alexnet.serving.multipart import Upload
from alexnet.serving.samples import Sample, encode_png
from alexnet.serving.uploads import UploadReader

TRIM_SECONDS = 5
"""Interval at which an idle server returns freed memory to the system."""


class Output(NamedTuple):
    """The network's output for one image.

    Attributes:
        probabilities_K: float32, averaged over the views.
        logits_K: float32; None for ten views, whose average is taken after the softmax.
    """

    probabilities_K: NDArray[np.float32]
    logits_K: NDArray[np.float32] | None


@dataclass
class Service:
    """All parts of one server. `app.create_app` makes the ASGI application.

    Attributes:
        model: the network with its preprocessing and classes.
        validation: validation errors, from the checkpoint.
        reference_set: images among which /explain searches neighbors.
        samples: images that the page offers.
        token: required from clients; "": none.
        hosts: allowed host names; empty: all.
        limits: of the server.
        is_draining: whether the server shuts down.
    """

    model: Model
    validation: ErrorsJson = field(default_factory=ErrorsJson)
    reference_set: ReferenceSet | None = None
    samples: Sequence[Sample] = ()
    token: str = ""
    hosts: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    is_draining: bool = False

    def __post_init__(self) -> None:
        self.admission = AdmissionControl(self.limits.max_queue_seconds)
        self.metrics = Metrics(self.admission.decodes.pending.total)
        self.uploads = UploadReader(self.limits)
        self.decoder = ImageDecoder(self.model.preprocess.spec.side, self.limits, self.admission.decodes)
        self.batcher = DynamicBatcher(self.forward, self.admission, on_batch=self.metrics.batch_size.observe)

    def forward(self, pixels_NHWC: NDArray[np.uint8], views: int) -> list[Output]:
        """The outputs for uint8 [N, side, side, 3]; runs in the network's thread."""
        network, preprocess = self.model.inference_network, self.model.preprocess
        with torch.inference_mode():
            pixels = torch.from_numpy(pixels_NHWC).to(preprocess.mean_HWC.device)
            if views != 1:
                rows_NK = probabilities([(network, preprocess)], pixels, views).cpu().numpy()
                return [Output(row_K, None) for row_K in rows_NK]
            logits_NK = network(preprocess(pixels)).float()
            return [Output(*rows) for rows in zip(
                logits_NK.softmax(-1).cpu().numpy(), logits_NK.cpu().numpy(), strict=True)]

    async def explain(self, client: str, pixels_HWC: NDArray[np.uint8], label: str | None = None) -> Explanation:
        """Explain the prediction for one image of a client, between two batches."""
        return await self.batcher.run_exclusive(
            client, lambda: explain_image(self.model, pixels_HWC, self.reference_set, label))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Process requests while the context lasts. The server starts after the warm-up."""
        async with self.batcher.running():
            await self._warm_up()
            trimming = asyncio.create_task(self._trim_memory())
            yield
            trimming.cancel()
        self.decoder.shutdown()

    async def _warm_up(self) -> None:
        """Process one image of each kind twice. The second time gives the first estimates of the admission control."""
        pixels_HWC = np.zeros((self.model.preprocess.spec.side,) * 2 + (3,), np.uint8)
        upload = Upload("", self.samples[0].png if self.samples else encode_png(pixels_HWC))
        for _ in range(2):
            self.admission.reset_estimates()
            decoded = await self.decoder.decode("", [upload])
            await self.batcher.warm_up([pixels for pixels in decoded if isinstance(pixels, np.ndarray)], 10)
            await self.explain("", pixels_HWC)

    async def _trim_memory(self) -> None:
        while True:
            await asyncio.sleep(TRIM_SECONDS)
            if not self.admission.decodes.pending:
                await self.decoder.trim_memory()
