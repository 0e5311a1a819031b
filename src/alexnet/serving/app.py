"""A network behind HTTP: /predict, /look, /model, /health, /ready, /metrics, and the page in web/.

Images are decoded in threads, gathered into batches (gather.py), and go through the preprocessing and the network
that evaluate and predict use. Bodies are limited in intake.py, connections in listen.py. Nothing in a request is taken
for a path, an address or a pickle; nothing is fetched; an answer tells no more of an error than one sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import prometheus_client as prometheus
import torch
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from alexnet._runtime.allocator import release_free_memory
from alexnet._runtime.cpu_threads import lower_thread_priority
from alexnet._runtime.page_style import stylesheet
from alexnet.data.images import BadImage, decode, pixels_in, square
from alexnet.inference.evaluate import probabilities
from alexnet.inference.predictor import Model
from alexnet.inference.validation import plain
from alexnet.serving import openapi
from alexnet.serving.batching import DynamicBatcher, Overloaded
from alexnet.serving.explanations import ReferenceSet, Sample, explain_image, png
from alexnet.serving.middleware import Guard, Json, failed, gone, refused
from alexnet.serving.uploads import BUSY, MOST_IMAGES, PIXELS, Intake, Upload

WEB = Path(__file__).parent / "web"
PAGES = {"/": ("index.html", "text/html"), "/page.css": ("page.css", "text/css"),
         "/page.js": ("page.js", "text/javascript")}
OPEN = {*PAGES, "/palette.css", "/openapi.json", "/health", "/ready"}
"""What needs no token: the page and the document, which tell nothing of the network, and whether the server lives."""

LARGE, LARGE_WAITING = 16_000_000, 4
"""Pixels above which an image is decoded alone, and how many may wait for that."""

DECODERS = max(2, min(8, os.cpu_count() or 1))

TIDY_SECONDS = 5
"""Between two times that memory is given back."""


@dataclass
class Service:
    """All that the server answers from. `app` makes the ASGI application of it."""

    model: Model
    metrics: dict[str, Any] = field(default_factory=dict)
    """Validation errors that came with the checkpoint."""
    reference_set: ReferenceSet | None = None
    samples: Sequence[Sample] = ()
    token: str = ""
    hosts: frozenset[str] = frozenset()
    """Names that the server may be called by; any, where there are none."""
    intake: Intake = field(default_factory=Intake)
    patience: float = 1.0
    draining: bool = False

    def __post_init__(self) -> None:
        self.counts = Counts()
        self.gatherer = DynamicBatcher(self.answer, patience=self.patience, on_batch=self.counts.batch.observe)
        self.counts.waiting.set_function(lambda: self.gatherer.decodes.inside)
        self.decoders = ThreadPoolExecutor(DECODERS, "decode", lower_thread_priority)
        self.alone = ThreadPoolExecutor(1, "large", lower_thread_priority)
        """One large image at a time: many take no more memory than one, and keep no small one waiting."""
        self.large = 0
        """Large images that wait or are decoded."""

    def answer(self, pixels_NHWC: NDArray[np.uint8], views: int) -> list[tuple[NDArray[np.float32], ...]]:
        """The probabilities of each image and, of one view, its logits; in the network's thread."""
        network, preprocess = self.model.answering, self.model.preprocess
        with torch.inference_mode():
            pixels = torch.from_numpy(pixels_NHWC).to(preprocess.mean_HWC.device)
            if views != 1:
                return [(row,) for row in probabilities([(network, preprocess)], pixels, views).cpu().numpy()]
            logits_NK = network(preprocess(pixels)).float()
            return list(zip(logits_NK.softmax(-1).cpu().numpy(), logits_NK.cpu().numpy(), strict=True))

    async def pixels(self, uploads: Sequence[Upload]) -> list[NDArray[np.uint8] | str]:
        """Each image as the network's data is stored, or the sentence that says why it is none.

        Raises Crowded where large ones would have to wait for those of others.
        """
        loop, side, waiting = asyncio.get_running_loop(), self.model.preprocess.spec.side, False

        def made(name: str, data: bytes | memoryview) -> NDArray[np.uint8] | str:
            try:
                return square(decode(bytes(data), name, PIXELS), side)
            except BadImage as problem:
                return str(problem).replace("replace it, or leave it out", "send another")

        def made_unless_large(name: str, data: bytes | memoryview) -> NDArray[np.uint8] | str | None:
            if pixels_in(data) > LARGE:
                return None
            with self.gatherer.decodes.timed(DECODERS):
                return made(name, data)

        async def one(number: int, upload: Upload) -> NDArray[np.uint8] | str:
            nonlocal waiting
            name = upload.name or (f"image {number}" if len(uploads) > 1 else "the image")
            pixels = await loop.run_in_executor(self.decoders, made_unless_large, name, upload.data)
            if pixels is not None:
                return pixels
            if self.large >= LARGE_WAITING and not waiting:
                raise Overloaded
            waiting, self.large = True, self.large + 1
            try:
                return await loop.run_in_executor(self.alone, made, name, upload.data)
            finally:
                self.large -= 1

        return await asyncio.gather(*(one(number, upload) for number, upload in enumerate(uploads, 1)))

    # --- What is asked ------------------------------------------------------------------------------------------------

    async def predict(self, request: Request) -> Response:
        classes = self.model.classes
        _only(request, "top", "views", "logits")
        top = _number(request, "top", 5)
        views = _number(request, "views", 1, (1, 10))
        logits = _flag(request, "logits")
        if logits and views != 1:
            raise HTTPException(400, "logits=true goes with views=1: ten views are averaged after the softmax")
        with self.admitted(1, views):
            pass  # whoever would have to wait too long hears of it before the image is read
        async with self.intake.images(request) as uploads:
            with self.admitted(len(uploads), len(uploads) * views):
                made = await self.pixels(uploads)
                sound = [one for one in made if not isinstance(one, str)]
                if not sound:
                    raise HTTPException(422, str(made[0]))
                said = iter(await self.gatherer.ask(sound, views))
        self.counts.images.inc(len(sound))
        photos: list[dict[str, Any]] = []
        for upload, one in zip(uploads, made, strict=True):
            if isinstance(one, str):
                photos.append({"photo": upload.name, "error": one})
                continue
            answer = next(said)
            best = np.argsort(-answer[0], kind="stable")[:top]
            photos.append({"photo": upload.name, "classes": [
                {"name": plain(classes[k]), "probability": float(answer[0][k])} for k in best]})
            if logits:
                photos[-1]["logits"] = answer[1].tolist()
        return Json({"photos": photos})

    async def explain_image(self, request: Request) -> Response:
        _only(request, "class")
        label = request.query_params.get("class")
        with self.admitted(1, others=1):
            pass
        async with self.intake.images(request) as uploads:
            if len(uploads) > 1:
                raise HTTPException(400, f"look is for one image, and {len(uploads)} were sent")
            with self.admitted(1, others=1):
                [pixels] = await self.pixels(uploads)
                if isinstance(pixels, str):
                    raise HTTPException(422, pixels)
                try:
                    shown = await self.gatherer.alone(lambda: explain_image(self.model, pixels, self.reference_set, label))
                except ValueError as problem:
                    raise HTTPException(400, str(problem)) from None
        return Json(shown)

    @contextlib.contextmanager
    def admitted(self, images: int, views: int = 0, others: int = 0):  # type: ignore[no-untyped-def]
        """As the gatherer lets in; 503 for who would wait too long."""
        try:
            with self.gatherer.admitted(images, views, others):
                yield
        except Overloaded:
            raise HTTPException(503, "too many images wait already; try again in a second", BUSY) from None

    async def about(self, request: Request) -> Response:
        arch, spec = self.model.network.arch, self.model.preprocess.spec
        return Json({
            "name": arch.name, "classes": [plain(name) for name in self.model.classes], "input": asdict(spec),
            "parameters": sum(parameter.numel() for parameter in self.model.network.parameters()),
            "metrics": self.metrics, "neighbors": self.reference_set is not None, "version": version("alexnet"),
            "samples": [{"name": sample.name, "class": sample.label, "picture": f"/samples/{number}.png"}
                        for number, sample in enumerate(self.samples)],
            "limits": {"bytes": self.intake.body, "pixels": PIXELS, "images": MOST_IMAGES}})

    async def sample(self, request: Request) -> Response:
        number = request.path_params["number"]
        if not _is_whole(number) or int(number) >= len(self.samples):
            raise HTTPException(404, "there is no such picture; /model lists them")
        return Response(self.samples[int(number)].data, media_type="image/png")

    async def health(self, request: Request) -> Response:
        return Json({"status": "alive"})

    async def ready(self, request: Request) -> Response:
        return Json({"status": "stopping" if self.draining else "ready"}, 503 if self.draining else 200)

    async def measures(self, request: Request) -> Response:
        return Response(prometheus.generate_latest(self.counts.registry),
                        media_type="text/plain; version=0.0.4; charset=utf-8")

    async def described(self, request: Request) -> Response:
        return Json(openapi.document(version("alexnet"), bool(self.token)))

    async def page(self, request: Request) -> Response:
        file, kind = PAGES[request.url.path]
        return Response((WEB / file).read_bytes(), media_type=f"{kind}; charset=utf-8")

    async def palette(self, request: Request) -> Response:
        return Response(stylesheet(":root"), media_type="text/css; charset=utf-8")

    async def rehearse(self) -> None:
        """Answer a picture twice, of which the second time counts: the first who ask shall hear how long it takes."""
        pixels_HWC = np.zeros((self.model.preprocess.spec.side,) * 2 + (3,), np.uint8)
        for _ in range(2):
            self.gatherer.forget()
            upload = Upload("", self.samples[0].data if self.samples else png(pixels_HWC))
            await self.gatherer.rehearse([one for one in await self.pixels([upload]) if not isinstance(one, str)], 10)
            await self.gatherer.alone(lambda: explain_image(self.model, pixels_HWC, self.reference_set))

    async def tidy(self) -> None:
        """While nobody asks, memory goes back to the system: a single large image takes hundreds of megabytes."""
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            if not self.gatherer.decodes.inside:
                await asyncio.get_running_loop().run_in_executor(self.alone, release_free_memory)

    def app(self) -> ASGIApp:
        """The ASGI application."""

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            async with self.gatherer.running():
                await self.rehearse()
                tidying = asyncio.create_task(self.tidy())
                yield
                tidying.cancel()
            for threads in (self.decoders, self.alone):
                threads.shutdown(cancel_futures=True)

        routes = [
            Route("/predict", self.predict, methods=["POST"]), Route("/look", self.explain_image, methods=["POST"]),
            Route("/model", self.about), Route("/samples/{number}.png", self.sample),
            Route("/health", self.health), Route("/ready", self.ready), Route("/metrics", self.measures),
            Route("/openapi.json", self.described), Route("/palette.css", self.palette),
            *(Route(path, self.page) for path in PAGES)]
        known = {route.path for route in routes}
        inner = Starlette(routes=routes, lifespan=lifespan, exception_handlers={
            HTTPException: refused, ClientDisconnect: gone, Exception: failed})
        inner.router.redirect_slashes = False
        return Guard(
            inner, self.hosts, self.token, OPEN, lambda: self.draining,
            lambda path, *rest: self.counts.answered(path if path in known else "other", *rest))


class Counts:
    """What /metrics tells."""

    def __init__(self) -> None:
        self.registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self.registry)
        times = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
        self.requests = prometheus.Counter("alexnet_requests", "Answered, by path and status.", ["path", "status"],
                                           registry=self.registry)
        self.seconds = prometheus.Histogram("alexnet_request_seconds", "From the head of a request to its answer.",
                                            ["path"], buckets=times, registry=self.registry)
        self.images = prometheus.Counter("alexnet_images", "Classified.", registry=self.registry)
        self.batch = prometheus.Histogram("alexnet_batch_images", "That went through the network together.",
                                          buckets=(1, 2, 4, 8, 16, 32), registry=self.registry)
        self.waiting = prometheus.Gauge("alexnet_waiting_images", "Let in and not answered yet.",
                                        registry=self.registry)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """One request more."""
        self.requests.labels(path, str(status)).inc()
        self.seconds.labels(path).observe(seconds)


def _only(request: Request, *names: str) -> None:
    """A slip in a name would else be answered as if nothing had been asked."""
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in names:
            raise HTTPException(400, f"there is no parameter {name[:40]!r}; there is {', '.join(names)}")
        if given.count(name) > 1:
            raise HTTPException(400, f"{name} is there {given.count(name)} times; give it once")


def _number(request: Request, name: str, default: int, allowed: Sequence[int] = ()) -> int:
    """A whole number above 0, or one of those allowed."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not _is_whole(text) or int(text) not in (allowed or range(1, 10**9)):
        rule = " or ".join(map(str, allowed)) or "a whole number above 0"
        raise HTTPException(400, f"{name} {text[:40]!r} must be {rule}")
    return int(text)


def _is_whole(text: str) -> bool:
    """Digits alone, and no endless row of them: int() takes underscores, blanks and other alphabets' digits too."""
    return text.isascii() and text.isdigit() and len(text) < 9


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise HTTPException(400, f"{name} {text[:40]!r} must be true or false")
    return text == "true"
