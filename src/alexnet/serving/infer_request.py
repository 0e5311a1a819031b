"""Parse and check an inference request of the Open Inference Protocol (KServe v2): JSON -> images or pixels."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.errors import UserError, closest_match, require
from alexnet.serving.limits import Limits
from alexnet.serving.multipart import Upload
from alexnet.serving.responses import RequestError

INPUT = "image"
"""The name of the only input tensor."""

OUTPUTS = ("probabilities", "label", "logits")
"""The names of the output tensors. The first two are returned where the request names none."""


@dataclass(frozen=True)
class InferRequest:
    """A checked request.

    Attributes:
        request_id: of the JSON object; None: without one.
        views: of each image: 1 or 10.
        outputs: names of the tensors to return.
        uploads: encoded images; empty where the request has pixels.
        pixels_NHWC: uint8 [N, side, side, 3], where the request has them.
    """

    request_id: str | None
    views: int
    outputs: tuple[str, ...]
    uploads: list[Upload]
    pixels_NHWC: NDArray[np.uint8] | None

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.uploads) if self.pixels_NHWC is None else len(self.pixels_NHWC)


def parse_infer(body: bytes, side: int, limits: Limits) -> InferRequest:
    """Parse a request. Takes as much memory as the body, once more for each image.

    Args:
        body: JSON.
        side: of pixel tensors.
        limits: of JSON values, images and views.

    Raises:
        RequestError: 400 for a wrong request, 413 for too many values.
    """
    # Each of these characters may cost an object of Python; images in base64 have none of them.
    if sum(body.count(mark) for mark in b",:[{\\") > limits.json_values:
        raise RequestError(f"the JSON has more than {limits.json_values:,} values",
                           "send encoded images as BYTES, or fewer images per request", status=413)
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError("the body is not JSON", "send a request of the Open Inference Protocol") from None
    try:
        return _checked(tree, side, limits)
    except UserError as error:
        raise error if isinstance(error, RequestError) else RequestError(error.problem, error.remedy) from None


def _checked(tree: Any, side: int, limits: Limits) -> InferRequest:
    require(isinstance(tree, dict), "the request is not a JSON object", 'send {"inputs": [...]}')
    request_id, inputs, parameters = tree.get("id"), tree.get("inputs"), tree.get("parameters", {})
    require(request_id is None or isinstance(request_id, str), "id is not a string")
    require(isinstance(inputs, list) and len(inputs) == 1 and isinstance(inputs[0], dict),
            "inputs is not a list of one tensor", f"the model has one input, {INPUT}")
    require(isinstance(parameters, dict), "parameters is not an object")
    for name in parameters:
        require(name == "views", f"there is no parameter {name[:40]!r}", "known is views")
    views = parameters.get("views", 1)
    require(type(views) is int and views in (1, 10), f"views {str(views)[:40]} must be 1 or 10")
    outputs = _outputs(tree.get("outputs"))
    require("logits" not in outputs or views == 1, "logits need views 1: ten views are averaged after the softmax",
            "leave one of the two out")
    tensor: dict[str, Any] = inputs[0]
    shape, data = _shape_and_data(tensor, views, limits)
    datatype = str(tensor.get("datatype"))
    require(datatype in ("BYTES", "UINT8"), f"datatype {datatype[:40]!r} must be BYTES or UINT8",
            "send encoded images in base64 as BYTES, or pixels as UINT8")
    if datatype == "BYTES":
        return InferRequest(request_id, views, outputs, _images(shape, data), None)
    return InferRequest(request_id, views, outputs, [], _pixels(shape, data, side))


def _shape_and_data(tensor: dict[str, Any], views: int, limits: Limits) -> tuple[list[int], list[Any]]:
    """The checked shape, [N, ...], and the data of the input tensor."""
    require(tensor.get("name") == INPUT, f"there is no input {str(tensor.get('name'))[:40]!r}",
            f"the model has one input, {INPUT}")
    require(not tensor.get("parameters"), f"input {INPUT} has parameters", "the server knows none of them")
    shape, data = tensor.get("shape"), tensor.get("data")
    if not isinstance(shape, list) or not shape or any(type(size) is not int for size in shape):
        raise UserError("shape is not a list of whole numbers")
    if not isinstance(data, list):
        raise UserError(f"input {INPUT} has no data", "send it as a JSON list")
    require(shape[0] > 0, "the request has no image")
    require(shape[0] <= limits.images, f"the request has {shape[0]} images, more than {limits.images}"[:200],
            "send them in several requests")
    require(shape[0] * views <= limits.views, f"{shape[0]} images with {views} views each have more than "
            f"{limits.views} views", "send fewer images per request, or leave out views")
    return shape, data


def _outputs(requested: Any) -> tuple[str, ...]:
    if requested is None:
        return OUTPUTS[:2]
    require(isinstance(requested, list) and bool(requested) and all(
        isinstance(tensor, dict) and isinstance(tensor.get("name"), str) for tensor in requested),
        "outputs is not a list of tensors with names")
    names = [tensor["name"] for tensor in requested]
    for name in names:
        close = closest_match(name[:40], OUTPUTS)
        require(name in OUTPUTS, f"there is no output {name[:40]!r}",
                f"did you mean {close}?" if close else f"known are {', '.join(OUTPUTS)}")
        require(names.count(name) == 1, f"output {name} occurs {names.count(name)} times", "name it once")
    require(not any(tensor.get("parameters") for tensor in requested), "an output has parameters",
            "the server knows none of them, and returns all tensors as JSON")
    return tuple(names)


def _images(shape: list[int], data: list[Any]) -> list[Upload]:
    """The encoded images of a BYTES tensor of shape [N] or [N, 1], whose data may be nested as the shape."""
    flat = [row[0] if isinstance(row, list) and len(row) == 1 else row for row in data]
    require(shape[1:] in ([], [1]) and len(flat) == shape[0],
            f"{len(flat)} values are not a BYTES tensor of shape {shape}"[:200], "its shape is [N], for N images")
    uploads = []
    for number, text in enumerate(flat, 1):
        require(isinstance(text, str), f"image {number} is not a string", "send its bytes in base64")
        try:
            uploads.append(Upload("", base64.b64decode(text, validate=True)))
        except (binascii.Error, ValueError):
            raise UserError(f"image {number} is not base64", "send the bytes of the file in base64") from None
    return uploads


def _pixels(shape: list[int], data: list[Any], side: int) -> NDArray[np.uint8]:
    """The pixels of a UINT8 tensor, whose data may be nested as the shape."""
    require(shape[1:] == [side, side, 3], f"shape {shape} is not [N, {side}, {side}, 3]"[:200],
            "send encoded images as BYTES, which the server rescales")
    values = data
    try:
        for _ in shape[1:]:
            if isinstance(values[0], list):
                values = [value for row in values for value in row]
        pixels = np.frombuffer(bytes(values), np.uint8)
    except (ValueError, TypeError, IndexError):  # other numbers, other types, or an empty list
        pixels = np.zeros(0, np.uint8)
    require(pixels.size == np.prod(shape), f"data are not {np.prod(shape):,} whole numbers from 0 to 255")
    return pixels.reshape(shape)
