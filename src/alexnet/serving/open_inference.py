"""HTTP handlers of the Open Inference Protocol (KServe v2): health, metadata and inference for each model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from alexnet._runtime.software import own_version
from alexnet.data.class_names import printable
from alexnet.data.preprocessing import Preprocess
from alexnet.serving.batching import ImageArray
from alexnet.serving.infer_request import INPUT, OUTPUTS, InferRequest
from alexnet.serving.request_record import RequestRecord, record_of
from alexnet.serving.responses import JsonResponse, RequestError
from alexnet.serving.served_model import Output, ServedModel
from alexnet.serving.service import Service


class OpenInferenceHandlers:
    """One method for each path."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def routes(self) -> list[Route]:
        """Path -> handler."""
        routes = [Route("/v2", self.server), Route("/v2/health/live", self.live),
                  Route("/v2/health/ready", self.ready)]
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            routes += [Route(model, self.model), Route(f"{model}/ready", self.model_ready),
                       Route(f"{model}/infer", self.infer, methods=["POST"])]
        return routes

    def _bind(self, request: Request) -> ServedModel:
        """The model that the path names, with or without a version. Raises RequestError: 404 for unknown ones."""
        served, version_ = self.service.bind(request), request.path_params.get("version")
        if version_ not in (None, served.version):
            raise RequestError(f"model {served.name} has no version {version_[:40]!r}", f"it has {served.version}",
                               status=404)
        return served

    async def server(self, request: Request) -> Response:
        """Name and version of the server."""
        return JsonResponse({"name": "alexnet", "version": own_version(), "extensions": []})

    async def live(self, request: Request) -> Response:
        """Liveness: 503 where only a restart helps."""
        is_alive = self.service.is_alive
        return JsonResponse({"live": is_alive}, 200 if is_alive else 503)

    async def ready(self, request: Request) -> Response:
        """Whether all models are ready; 503 where not."""
        is_ready = self.service.status() == "ready"
        return JsonResponse({"ready": is_ready}, 200 if is_ready else 503)

    async def model_ready(self, request: Request) -> Response:
        """Whether one model is ready; 503 where not."""
        served = self._bind(request)
        is_ready = self.service.status(served.name) == "ready"
        return JsonResponse({"name": served.name, "ready": is_ready}, 200 if is_ready else 503)

    async def model(self, request: Request) -> Response:
        """The tensors of a model, and the rule by which a client prepares them."""
        served = self._bind(request)
        classes = len(served.model.classes)
        shapes = {"probabilities": ("FP32", [-1, classes]), "label": ("BYTES", [-1]), "logits": ("FP32", [-1, classes])}
        return JsonResponse({
            "name": served.name, "versions": [served.version], "platform": "pytorch",
            "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
            "outputs": [{"name": name, "datatype": shapes[name][0], "shape": shapes[name][1]} for name in OUTPUTS],
            "parameters": preparation(served.model.preprocess)})

    async def infer(self, request: Request) -> Response:
        """The outputs for the images of a request: all of them, or an error."""
        service = self.service
        client, served, record = service.note_client(request), self._bind(request), record_of(request)
        service.admission.check(client, served.name, 1, 1)
        async with service.uploads.body(request, "application/json") as body:
            wanted = await service.decoder.parse_infer(client, body, served.model.preprocess.spec)
            count = wanted.count
            with service.admission.admit(client, served.name, count, count * wanted.views), record.processing.running():
                images = await self._pixels(client, served, wanted, record)
                outputs = await service.outputs(client, served, images, wanted.views, record.network)
        record.images = count
        service.metrics.images.inc(count)
        response: dict[str, object] = {"model_name": served.name, "model_version": served.version}
        if wanted.request_id is not None:
            response["id"] = wanted.request_id
        response["outputs"] = [_tensor(name, outputs, served) for name in wanted.outputs]
        return JsonResponse(response)

    async def _pixels(self, client: str, served: ServedModel, wanted: InferRequest,
                      record: RequestRecord) -> Sequence[ImageArray]:
        if wanted.tensor is not None:
            return list(wanted.tensor)
        images: list[ImageArray] = []
        for decoded in await self.service.decoder.decode(client, wanted.uploads, served.side, record.decode):
            if isinstance(decoded, RequestError):  # a tensor has no place for the error of one image
                raise decoded
            images.append(decoded)
        return images


def preparation(preprocess: Preprocess) -> dict[str, object]:
    """The other tensors that the input may be, and how to prepare them."""
    spec = preprocess.spec
    has_mean_image = len(preprocess.mean_HWC) > 1
    mean = "the checkpoint's mean of each pixel, which the server subtracts from UINT8"
    return {
        "alternative_inputs": [
            {"name": INPUT, "datatype": "UINT8", "shape": [-1, 3, spec.side, spec.side]},
            {"name": INPUT, "datatype": "UINT8", "shape": [-1, spec.side, spec.side, 3]},
            {"name": INPUT, "datatype": "FP32", "shape": [-1, 3, spec.crop, spec.crop]}],
        "UINT8": f"RGB, 0 to 255: the shorter side rescaled to {spec.side} pixels (bilinear, antialiased), and the "
                 "central square",
        "FP32": f"the central {spec.crop} x {spec.crop} pixels of it, minus the mean, divided by the scale, channels "
                f"in the order {spec.channels}",
        "mean_RGB": mean if has_mean_image else preprocess.mean_HWC.flatten().tolist(), "scale_RGB": list(spec.scale)}


def _tensor(name: str, outputs: Sequence[Output], served: ServedModel) -> dict[str, object]:
    """One output tensor, with its data as a flat list."""
    if name == "label":
        labels = [printable(served.model.classes[int(output.probabilities_K.argmax())]) for output in outputs]
        return {"name": name, "datatype": "BYTES", "shape": [len(labels)], "data": labels}
    rows = [output.probabilities_K if name == "probabilities" else output.logits_K for output in outputs]
    rows_NK = np.stack([row_K for row_K in rows if row_K is not None])
    return {"name": name, "datatype": "FP32", "shape": list(rows_NK.shape), "data": rows_NK.ravel().tolist()}
