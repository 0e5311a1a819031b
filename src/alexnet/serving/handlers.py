"""The HTTP handlers: /predict, /explain, /model, /samples, /health, /ready, /metrics, and the files of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from alexnet._runtime.page_style import stylesheet
from alexnet._runtime.software import own_version
from alexnet.data.class_names import printable
from alexnet.errors import UserError
from alexnet.inference.confidence import threshold_of
from alexnet.interpret.heat_map import css_gradient
from alexnet.models.checkpoint_json import has_top5
from alexnet.serving import openapi, query
from alexnet.serving.decoder import Decoded
from alexnet.serving.multipart import Upload
from alexnet.serving.request_record import RequestRecord, record_of
from alexnet.serving.responses import ErrorDetail, JsonResponse, RequestError, UnavailableError, error_detail
from alexnet.serving.served_model import Output, ServedModel
from alexnet.serving.service import Service

WEB = Path(__file__).parent / "web"
PAGE_FILES = {"/": ("index.html", "text/html"), "/page.css": ("page.css", "text/css"),
              "/page.js": ("page.js", "text/javascript")}

PUBLIC_PATHS = frozenset({*PAGE_FILES, "/palette.css", "/openapi.json", "/health", "/ready", "/v2/health/live",
                          "/v2/health/ready"})
"""Paths that need no token: they hold no information about the network."""


ONE_OF_SEVERAL = "/v1/models/{model}"
"""Prefix of the paths of one model by its name. Without it, they are the first model's."""


class ClassProbability(TypedDict):
    """One class of a prediction."""

    name: str
    probability: float


class ImagePrediction(TypedDict, total=False):
    """The result for one image: `image` (its file name; None if the request has none), and `classes` or `error`.

    `sure` is `Model.is_sure`: None if the network is not calibrated and the server has no --sure.
    """

    image: str | None
    classes: list[ClassProbability]
    sure: bool | None
    logits: list[float]
    error: ErrorDetail


class Handlers:
    """One method for each path."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def routes(self) -> list[Route]:
        """Path -> handler."""
        return [
            *(Route(f"{prefix}/{name}", handler, methods=["POST"]) for prefix in ("", ONE_OF_SEVERAL)
              for name, handler in (("predict", self.predict), ("explain", self.explain))),
            Route("/model", self.model), Route(ONE_OF_SEVERAL, self.model), Route("/samples/{number}.png", self.sample),
            Route("/health", self.health), Route("/ready", self.ready), Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi), Route("/palette.css", self.palette),
            *(Route(path, self.page) for path in PAGE_FILES)]

    # --- Inference ----------------------------------------------------------------------------------------------------

    async def predict(self, request: Request) -> Response:
        """The most probable classes of each image."""
        service = self.service
        query.check_names(request, "top", "views", "logits")
        top = query.get_number(request, "top", 5)
        views = query.get_number(request, "views", 1, (1, 10))
        logits = query.get_flag(request, "logits")
        if logits and views != 1:
            raise RequestError("logits=true needs views=1: ten views are averaged after the softmax",
                               "leave one of the two out")
        client, served, record = service.note_client(request), service.bind(request), record_of(request)
        service.admission.check(client, served.name, 1, views)
        async with service.uploads.images(request) as uploads:
            if len(uploads) * views > service.limits.views:
                raise RequestError(f"{len(uploads)} images with {views} views each have more than "
                                   f"{service.limits.views} views", "send fewer images per request, or leave out views")
            work = len(uploads), len(uploads) * views
            with service.admission.admit(client, served.name, *work), record.processing.running():
                decoded = await service.decoder.decode(client, uploads, served.side, record.decode)
                images = [pixels for pixels in decoded if isinstance(pixels, np.ndarray)]
                if not images and isinstance(decoded[0], RequestError):
                    raise decoded[0]
                outputs = iter(await service.outputs(client, served, images, views, record.network))
        self._count(record, decoded)
        return JsonResponse({"images": [
            {"image": upload.name or None, "error": error_detail(pixels)} if isinstance(pixels, RequestError)
            else _prediction(served, upload, next(outputs), top, logits)
            for upload, pixels in zip(uploads, decoded, strict=True)]})

    def _count(self, record: RequestRecord, decoded: Sequence[Decoded]) -> None:
        """Count the classified images, and those that were rejected although the request was not."""
        record.images = sum(isinstance(pixels, np.ndarray) for pixels in decoded)
        self.service.metrics.images.inc(record.images)
        for error in decoded:
            if isinstance(error, UnavailableError):
                self.service.metrics.rejections.labels(error.reason).inc()

    async def explain(self, request: Request) -> Response:
        """Grad-CAM, feature maps of conv1, and nearest neighbors of one image."""
        service = self.service
        query.check_names(request, "class")
        client, served, record = service.note_client(request), service.bind(request), record_of(request)
        service.admission.check(client, served.name, 1, explanations=1)
        async with service.uploads.images(request) as uploads:
            if len(uploads) > 1:
                raise RequestError(f"/explain takes one image, and the request has {len(uploads)}",
                                   "send one request for each")
            with service.admission.admit(client, served.name, 1, explanations=1), record.processing.running():
                [pixels] = await service.decoder.decode(client, uploads, served.side, record.decode)
                if isinstance(pixels, RequestError):
                    raise pixels
                try:
                    explanation = await service.batcher.run_exclusive(
                        client, served.name, partial(served.explain, pixels, request.query_params.get("class")),
                        record.network)
                except RequestError:
                    raise
                except UserError as error:  # of the class to explain
                    raise RequestError(error.problem, error.remedy) from None
        record.images = 1
        return JsonResponse(explanation)

    # --- The model and the server -------------------------------------------------------------------------------------

    async def model(self, request: Request) -> Response:
        """Classes, preset, input, validation errors, samples and limits."""
        served, limits = self.service.bind(request), self.service.limits
        network = served.model.network
        return JsonResponse({
            "name": network.arch.name, "model": served.name, "models": list(self.service.models),
            "sha256": served.sha256,
            "classes": [printable(name) for name in served.model.classes],
            "input": asdict(served.model.preprocess.spec),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "temperature": network.temperature, "ten_view_temperature": network.ten_view_temperature,
            "sure_from": threshold_of(served.model.is_calibrated, served.sure_from),
            "validation": _validation(served), "reference_set": served.reference_set is not None,
            "samples": [{"name": sample.name, "class": sample.label, "url": f"/samples/{number}.png"}
                        for number, sample in enumerate(self.service.default_model.samples)],
            "limits": {"body_bytes": limits.body_bytes, "pixels": limits.pixels, "images": limits.images},
            "version": own_version()})

    async def sample(self, request: Request) -> Response:
        """One sample image."""
        number, samples = request.path_params["number"], self.service.default_model.samples
        if not query.is_whole_number(number) or int(number) >= len(samples):
            raise RequestError(f"there is no sample image {number[:40]!r}", "/model lists them", status=404)
        return Response(samples[int(number)].png, media_type="image/png")

    async def health(self, request: Request) -> Response:
        """Liveness: 503 where only a restart helps."""
        is_alive = self.service.is_alive
        return JsonResponse({"status": "alive" if is_alive else "dead"}, 200 if is_alive else 503)

    async def ready(self, request: Request) -> Response:
        """Readiness: 503 until all processes have started, during shutdown, and where the network does not answer."""
        status = self.service.status()
        return JsonResponse({"status": status}, 200 if status == "ready" else 503)

    async def metrics(self, request: Request) -> Response:
        """Prometheus metrics."""
        return Response(self.service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document."""
        return JsonResponse(openapi.document(own_version(), self.service.limits, bool(self.service.token)))

    async def page(self, request: Request) -> Response:
        """A file of the page."""
        file, media_type = PAGE_FILES[request.scope["path"]]
        return Response((WEB / file).read_bytes(), media_type=f"{media_type}; charset=utf-8")

    async def palette(self, request: Request) -> Response:
        """The page's colors."""
        heat = f":root {{ --heat: {css_gradient()}; }}"
        return Response(f"{stylesheet(':root')}\n{heat}", media_type="text/css; charset=utf-8")


def _prediction(served: ServedModel, upload: Upload, output: Output, top: int, logits: bool) -> ImagePrediction:
    best = np.argsort(-output.probabilities_K, kind="stable")[:top]
    prediction: ImagePrediction = {"image": upload.name or None, "classes": [
        {"name": printable(served.model.classes[k]), "probability": float(output.probabilities_K[k])}
        for k in best], "sure": served.model.is_sure(float(output.probabilities_K.max()), served.sure_from)}
    if logits and output.logits_K is not None:
        prediction["logits"] = output.logits_K.tolist()
    return prediction


def _validation(served: ServedModel) -> dict[str, object]:
    """The checkpoint's validation errors. With up to five classes there is no top-5 error, which would be 0."""
    errors: dict[str, object] = {**served.validation}
    if errors and not has_top5(len(served.model.classes)):
        errors.pop("top5_error", None)
        interval = errors.pop("interval", None)
        errors |= {"interval": {"top1_error": interval["top1_error"]}} if isinstance(interval, dict) else {}
    return errors
