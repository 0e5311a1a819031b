"""What the server answers, as an OpenAPI document: the one description of the interface, which schemathesis tests."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def document(version: str, secured: bool) -> Schema:
    """OpenAPI 3.1, the same for any network. secured: whether the server asks for a token."""
    top = _query("top", "How many classes to name, the likeliest first; all, where there are fewer.",
                 {"type": "integer", "minimum": 1, "maximum": 99_999_999, "default": 5})
    views = _query("views", "1: the central view. 10: corners, center and their mirror images, averaged (§4.1).",
                   {"type": "integer", "enum": [1, 10], "default": 1})
    logits = _query("logits", "Give every class's logit too, in the order of /model's classes; of one view only.",
                    {"type": "boolean", "default": False})
    label = _query("class", "The class to ask about; the likeliest unless said.", {"type": "string"})
    predict = {
        "operationId": "predict", "summary": "Name what is in images.", "parameters": [top, views, logits],
        "requestBody": _body(many=True), "responses": {"200": _json("The classes of each image, in order.",
                                                                    _ref("Answers"))} | _refusals("413")}
    explain_image = {
        "operationId": "look", "summary": "Why: Grad-CAM, conv1's responses, the nearest images.",
        "parameters": [label], "requestBody": _body(many=False),
        "responses": {"200": _json("Pictures of one image, as data: addresses.", _ref("Look"))} | _refusals("413")}
    paths: Schema = {
        "/predict": {"post": predict},
        "/look": {"post": explain_image},
        "/model": {"get": _get("model", "The network: classes, preset, input, measured errors.", _ref("Model"))},
        "/samples/{number}.png": {"get": {
            "operationId": "sample", "summary": "A picture to try, as /model lists them.",
            "parameters": [{"name": "number", "in": "path", "required": True,
                            "schema": {"type": "integer", "minimum": 0}}],
            "responses": {"200": {"description": "PNG.", "content": {"image/png": {"schema": _FILE}}},
                          "404": _json("There is no such picture.", _ref("Error"))} | _denied()}},
        "/health": {"get": _get("health", "Whether the process lives.", _ref("Word")) | {"security": []}},
        "/ready": {"get": {"operationId": "ready", "summary": "Whether it answers.", "security": [], "responses": {
            "200": _json("It does.", _ref("Word")), "503": _json("It is stopping.", _ref("Word"))}}},
        "/metrics": {"get": {"operationId": "metrics", "summary": "Counts and times, for Prometheus.", "responses": {
            "200": {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
            **_denied()}}},
    }
    made: Schema = {
        "openapi": "3.1.0",
        "info": {"title": "alexnet serve", "version": version, "license": {"name": "Apache-2.0",
                                                                           "identifier": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": _SCHEMAS},
    }
    if secured:
        made["security"] = [{"token": []}]
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return made


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _query(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _get(operation: str, summary: str, schema: Schema) -> Schema:
    return {"operationId": operation, "summary": summary, "responses": {"200": _json(summary, schema)} | _denied()}


def _denied() -> Schema:
    return {"401": _json("The token is missing or wrong.", _ref("Error")),
            "403": _json("Another page, or by a name that is not this server's.", _ref("Error"))}


def _refusals(large: str) -> Schema:
    said = {"400": "A parameter or the form is wrong.", "408": "The body did not arrive in time.",
            large: "The body is too large.", "415": "The content is no image.",
            "422": "No image of the request can be decoded.", "500": "An error of the server's.",
            "503": "Too many wait already."}
    return {code: _json(words, _ref("Error")) for code, words in said.items()} | _denied()


def _body(many: bool) -> Schema:
    files: Schema = {"type": "array", "items": _FILE, "minItems": 1, "maxItems": 64} if many else _FILE
    raw = {kind: {"schema": _FILE} for kind in ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp",
                                                "image/tiff", "application/octet-stream")}
    return {"required": True, "content": raw | {"multipart/form-data": {"schema": {
        "type": "object", "properties": {"photo": files}, "required": ["photo"]}}}}


_FILE: Schema = {"type": "string", "format": "binary"}
_NUMBER: Schema = {"type": "number"}
_TEXT: Schema = {"type": "string"}


def _object(required: Schema, **optional: Schema) -> Schema:
    return {"type": "object", "properties": required | optional, "required": list(required)}


_SCHEMAS: Schema = {
    "Word": _object({"status": _TEXT}),
    "Error": _object({"error": {"type": "string", "description": "One sentence, with what to do."}}),
    "Guess": _object({"name": _TEXT, "probability": {"type": "number", "minimum": 0, "maximum": 1}}),
    "Answers": _object({"photos": {"type": "array", "items": {"oneOf": [
        _object({"photo": _TEXT, "classes": {"type": "array", "items": _ref("Guess")}},
                logits={"type": "array", "items": _NUMBER}),
        _object({"photo": _TEXT, "error": _TEXT})]}}}),
    "Look": _object({
        "class": _TEXT, "probability": _NUMBER, "view": _TEXT, "grad_cam": _TEXT, "layer": _TEXT,
        "conv1": _object({"picture": _TEXT, "maps": {"type": "integer"}, "columns": {"type": "integer"},
                          "towers": {"type": "integer"}, "layer": _TEXT}),
        "near": {"type": "array", "items": _object(
            {"photo": _TEXT, "class": _TEXT, "distance": _NUMBER, "picture": _TEXT})}}),
    "Model": _object({
        "name": {"type": "string", "description": "The preset."}, "classes": {"type": "array", "items": _TEXT},
        "input": {"type": "object"}, "parameters": {"type": "integer"}, "metrics": {"type": "object"},
        "samples": {"type": "array", "items": _object({"name": _TEXT, "class": _TEXT, "picture": _TEXT})},
        "neighbors": {"type": "boolean"}, "limits": {"type": "object"}, "version": _TEXT}),
}
