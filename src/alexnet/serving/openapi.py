"""The OpenAPI 3.1 document of the HTTP interface."""

from __future__ import annotations

from alexnet.serving.limits import Limits
from alexnet.serving.query import LARGEST

Schema = dict[str, object]
"""A part of the document."""

IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff",
               "application/octet-stream")


def document(version: str, limits: Limits, needs_token: bool) -> Schema:
    """The document; it is the same for every network.

    Args:
        version: of the package.
        limits: of the server.
        needs_token: whether the server requires a token.
    """
    components: Schema = {"schemas": _SCHEMAS}
    document: Schema = {
        "openapi": "3.1.0",
        "info": {"title": "alexnet serve", "version": version,
                 "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": {
            "/predict": {"post": _predict("predict", limits.images)},
            "/explain": {"post": _explain("explain")},
            "/model": {"get": _get("getModel", _MODEL_SUMMARY, _ref("Model"))},
            "/v1/models/{model}/predict": _of_model("post", _predict("predictByModel", limits.images)),
            "/v1/models/{model}/explain": _of_model("post", _explain("explainByModel")),
            "/v1/models/{model}": _of_model("get", _get("getModelByName", _MODEL_SUMMARY, _ref("Model"))),
            "/samples/{number}.png": {"get": _sample()},
            "/health": {"get": _live()},
            "/ready": {"get": _ready()},
            "/metrics": {"get": _metrics()},
            **_open_inference_paths(limits.images),
        },
        "components": components,
    }
    if needs_token:
        document["security"] = [{"token": []}]
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return document


# --- Operations -------------------------------------------------------------------------------------------------------


def _predict(operation: str, max_images: int) -> Schema:
    top = _query("top", "Number of classes in the result, most probable first; at most all.",
                 {"type": "integer", "minimum": 1, "maximum": LARGEST, "default": 5})
    views = _query("views", "1: the center crop. 10: the average over the corners, the center and their mirror images "
                   "(§4.1).", {"type": "integer", "enum": [1, 10], "default": 1})
    logits = _query("logits", "Include the logits of all classes, in the order of /model; only with views=1.",
                    {"type": "boolean", "default": False})
    files = {"type": "array", "items": _FILE, "minItems": 1, "maxItems": max_images}
    return {"operationId": operation, "summary": "Classify images.", "parameters": [top, views, logits],
            "requestBody": _body(files),
            "responses": {"200": _json("The most probable classes of each image, in order.", _ref("Predictions"))}
            | _errors()}


def _explain(operation: str) -> Schema:
    label = _query("class", "The class to explain; default: the most probable one.", {"type": "string"})
    return {"operationId": operation, "summary": "Grad-CAM, feature maps of conv1, and nearest neighbors of one image.",
            "parameters": [label], "requestBody": _body(_FILE),
            "responses": {"200": _json("The explanation, with images as data: URLs.", _ref("Explanation"))} | _errors()}


def _sample() -> Schema:
    number = {"name": "number", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
    return {"operationId": "getSample", "summary": "A sample image from the list in /model.", "parameters": [number],
            "responses": {"200": {"description": "PNG.", "content": {"image/png": {"schema": _FILE}}},
                          "404": _json("There is no such sample image.", _ref("Error"))} | _access_errors()}


def _live() -> Schema:
    return {"operationId": "getHealth", "summary": "Liveness.", "security": [], "responses": {
        "200": _json("The server runs.", _ref("Status")),
        "503": _json("The server must be restarted: its batching has stopped.", _ref("Status"))}}


def _ready() -> Schema:
    return {"operationId": "getReady", "summary": "Readiness.", "security": [], "responses": {
        "200": _json("The server accepts requests.", _ref("Status")),
        "503": _json("The server is starting or shutting down, or a network fails.", _ref("Status"))}}


def _metrics() -> Schema:
    return {"operationId": "getMetrics", "summary": "Prometheus metrics.", "responses": {
        "200": {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}}} | _access_errors()}


def _get(operation: str, summary: str, schema: Schema, errors: str = "Error") -> Schema:
    return {"operationId": operation, "summary": summary,
            "responses": {"200": _json(summary, schema)} | _access_errors(errors)}


# --- The paths of several models, and of the Open Inference Protocol (KServe v2) --------------------------------------


def _of_model(method: str, operation: Schema, errors: str = "Error", *more: str) -> Schema:
    """A path of one model by its name, and by `more` parameters."""
    names = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in ("model", *more)]
    responses = operation["responses"]
    assert isinstance(responses, dict)
    responses["404"] = _json(f"There is no such {' or '.join(('model', *more))}.", _ref(errors))
    return {"parameters": names, method: operation}


def _open_inference_paths(max_images: int) -> Schema:
    paths: Schema = {
        "/v2": {"get": _get("getServer", "Name and version of the server.", _ref("Server"), "InferError")},
        "/v2/health/live": {"get": _health("getLive", _object({"live": {"type": "boolean"}}), "503")},
        "/v2/health/ready": {"get": _health("getServerReady", _object({"ready": {"type": "boolean"}}), "503")}}
    for path, suffix, more in (("/v2/models/{model}", "", ()),
                               ("/v2/models/{model}/versions/{version}", "OfVersion", ("version",))):
        paths |= {
            path: _of_model("get", _get(f"getMetadata{suffix}", "The tensors of a model.", _ref("Metadata"),
                                        "InferError"), "InferError", *more),
            f"{path}/ready": _of_model("get", _model_ready(suffix), "InferError", *more),
            f"{path}/infer": _of_model("post", _infer(suffix, max_images), "InferError", *more)}
    return paths


def _infer(suffix: str, max_images: int) -> Schema:
    return {
        "operationId": f"infer{suffix}", "summary": "Outputs for images, of the Open Inference Protocol.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": _infer_request(max_images)}}},
        "responses": {"200": _json("The output tensors.", _ref("InferResponse"))} | _errors("InferError")}


def _health(operation: str, schema: Schema, *more: str) -> Schema:
    return {"operationId": operation, "summary": "Health, of the Open Inference Protocol.", "security": [],
            "responses": {status: _json("Whether all models accept requests.", schema) for status in ("200", *more)}}


def _model_ready(suffix: str) -> Schema:
    schema = _object({"name": _TEXT, "ready": {"type": "boolean"}})
    return {"operationId": f"getModelReady{suffix}", "summary": "Whether one model accepts requests.",
            "responses": {status: _json("Name, and whether it is ready.", schema) for status in ("200", "503")}
            | _access_errors("InferError")}


def _infer_request(max_images: int) -> Schema:
    tensor = _object({
        "name": {"const": "image"}, "datatype": {"enum": ["BYTES", "UINT8", "FP32"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 4,
                  "description": "[N] for BYTES, [N, 3, side, side] or [N, side, side, 3] for UINT8, [N, 3, crop, "
                                 f"crop] for FP32; N is at most {max_images}."},
        "data": {"type": "array", "description": "Encoded images in base64 for BYTES; pixels, 0 to 255, for UINT8; the "
                                                 "network's input, as the metadata say, for FP32."}})
    views = {"type": "integer", "enum": [1, 10], "default": 1}
    outputs = {"type": "array", "minItems": 1, "uniqueItems": True,
               "items": _object({"name": {"enum": ["probabilities", "label", "logits"]}})}
    return _object({"inputs": {"type": "array", "items": tensor, "minItems": 1, "maxItems": 1}}, id=_TEXT,
                   parameters={"type": "object", "properties": {"views": views}, "additionalProperties": False},
                   outputs=outputs)


# --- Parts ------------------------------------------------------------------------------------------------------------


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _query(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _access_errors(schema: str = "Error") -> Schema:
    return {"400": _json("The header Host is malformed.", _ref(schema)),
            "401": _json("The token is missing or wrong.", _ref(schema)),
            "403": _json("The request comes from another site's page, or its host name is not allowed.", _ref(schema)),
            "503": _json("Too many connections are open.", _ref(schema))}


def _errors(schema: str = "Error") -> Schema:
    descriptions = {
        "400": "A parameter or the form is wrong.", "408": "The body did not arrive in time.",
        "413": "The body is too large.", "415": "The content type is wrong.",
        "422": "No image of the request can be decoded.", "500": "A server error.", "503": "The server is overloaded."}
    return _access_errors(schema) | {code: _json(text, _ref(schema)) for code, text in descriptions.items()}


def _body(files: Schema) -> Schema:
    form = {"schema": {"type": "object", "properties": {"image": files}, "required": ["image"]}}
    return {"required": True,
            "content": {name: {"schema": _FILE} for name in IMAGE_TYPES} | {"multipart/form-data": form}}


def _object(required: Schema, **optional: Schema) -> Schema:
    return {"type": "object", "properties": required | optional, "required": list(required)}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_FILE: Schema = {"type": "string", "format": "binary"}
_NUMBER: Schema = {"type": "number"}
_INTEGER: Schema = {"type": "integer"}
_TEXT: Schema = {"type": "string"}
_FILE_NAME: Schema = {"type": ["string", "null"], "description": "null if the request names no file."}
_SURE: Schema = {"type": ["boolean", "null"], "description": "Whether the likeliest class has at least sure_from of "
                 "/model: by default 0.5, from which it is right at least as often as wrong; null without a threshold."}
_MODEL_SUMMARY = "Classes, preset, input, validation errors and limits."
_ERROR = _object({"problem": _TEXT, "remedy": _TEXT})
_TENSOR = _object({"name": _TEXT, "datatype": _TEXT, "shape": _array(_INTEGER)})

_SCHEMAS: Schema = {
    "Status": _object({"status": _TEXT}),
    "Error": _object({"error": _ERROR}),
    "ClassProbability": _object({"name": _TEXT, "probability": {"type": "number", "minimum": 0, "maximum": 1}}),
    "Predictions": _object({"images": _array({"oneOf": [
        _object({"image": _FILE_NAME, "classes": _array(_ref("ClassProbability")), "sure": _SURE},
                logits=_array(_NUMBER)),
        _object({"image": _FILE_NAME, "error": _ERROR})]})}),
    "Explanation": _object({
        "class": _TEXT, "probability": _NUMBER, "view": _TEXT, "grad_cam": _TEXT, "layer": _TEXT,
        "conv1": _object({"url": _TEXT, "maps": _INTEGER, "columns": _INTEGER, "towers": _INTEGER, "part": _TEXT,
                          "layer": _TEXT}),
        "neighbors": _array(_object({"image": _TEXT, "class": _TEXT, "distance": _NUMBER, "likeness": _TEXT,
                                     "url": _TEXT}))}),
    "Model": _object({
        "name": {"type": "string", "description": "The preset."},
        "model": {"type": "string", "description": "The model's name in the paths."},
        "models": {"type": "array", "items": _TEXT, "description": "All names; the first is the default."},
        "sha256": {"type": "string", "description": "Of the weights. /predict and /explain have it as the header "
                   "Model-SHA256."}, "classes": _array(_TEXT), "input": {"type": "object"},
        "parameters": _INTEGER,
        "temperature": {"type": "number", "description": "Divides the logits; 1 if the network is not calibrated."},
        "ten_view_temperature": {"type": ["number", "null"], "description": "Divides the logits of each of ten views, "
                                 "whose probabilities are averaged; null if they have the temperature of one view."},
        "sure_from": {"type": ["number", "null"], "description": "Probability of the likeliest class below which an "
                      "image is marked as not sure: serve --sure, else 0.5; null if the network is not calibrated."},
        "validation": {"type": "object", "description": "Validation errors, from the checkpoint; validation_copies "
                       "of the images are copies of training images, and validation_look_alikes look like one."},
        "samples": _array(_object({"name": _TEXT, "class": _TEXT, "url": _TEXT})),
        "reference_set": {"type": "boolean", "description": "Whether /explain returns neighbors."},
        "limits": _object({"body_bytes": _INTEGER, "pixels": _INTEGER, "images": _INTEGER}), "version": _TEXT}),
    "InferError": _object({"error": _TEXT}),
    "Server": _object({"name": _TEXT, "version": _TEXT, "extensions": _array(_TEXT)}),
    "Metadata": _object({
        "name": _TEXT, "versions": _array(_TEXT), "platform": _TEXT, "inputs": _array(_TENSOR),
        "outputs": _array(_TENSOR),
        "parameters": {"type": "object", "description": "Other tensors that the input may be, and how to make them."}}),
    "InferResponse": _object({"model_name": _TEXT, "model_version": _TEXT, "outputs": _array({**_TENSOR, "properties": {
        "name": _TEXT, "datatype": _TEXT, "shape": _array(_INTEGER), "data": {"type": "array"}}})}, id=_TEXT),
}
