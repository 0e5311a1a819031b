"""Parse and check an inference request of the Open Inference Protocol (KServe v2): JSON -> images or a tensor."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.architecture.spec import InputSpec
from alexnet.errors import UserError, closest_match, require
from alexnet.serving.limits import Limits
from alexnet.serving.multipart import Upload
from alexnet.serving.responses import RequestError

INPUT = "image"
"""The name of the only input tensor."""

OUTPUTS = ("probabilities", "label", "logits")
"""The names of the output tensors. The first two are returned where the request names none."""


LARGE_BYTES, LARGE_VALUES = 1_000_000, 5_000
"""A body with more bytes or values takes milliseconds to parse, in which no other thread runs."""

_MARKS = b",:[{\\"
"""Each of these characters may cost an object of Python; images in base64 have none of them."""


@dataclass(frozen=True)
class InferRequest:
    """A checked request.

    Attributes:
        request_id: of the JSON object; None: without one.
        views: of each image: 1 or 10.
        outputs: names of the tensors to return.
        uploads: encoded images; empty where the request has a tensor.
        tensor: uint8 [N, side, side, 3], pixels; or float32 [N, 3, crop, crop], the network's input.
    """

    request_id: str | None
    views: int
    outputs: tuple[str, ...]
    uploads: list[Upload]
    tensor: NDArray[np.uint8 | np.float32] | None

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.uploads) if self.tensor is None else len(self.tensor)

    def to_message(self) -> tuple[dict[str, object], Sequence[bytes | memoryview]]:
        """A JSON object and data, from which `from_message` makes an equal request."""
        message: dict[str, object] = {"request_id": self.request_id, "views": self.views, "outputs": self.outputs}
        if self.tensor is None:
            return message | {"sizes": [len(upload.data) for upload in self.uploads]}, [
                upload.data for upload in self.uploads]
        return message | {"dtype": self.tensor.dtype.str, "shape": self.tensor.shape}, [
            self.tensor.tobytes()]

    @classmethod
    def from_message(cls, message: dict[str, Any], data: bytes) -> InferRequest:
        """The inverse of `to_message`; several images are views of `data`, for they are not copied."""
        request = message["request_id"], message["views"], tuple(message["outputs"])
        if "dtype" in message:
            return cls(*request, [], np.frombuffer(data, message["dtype"]).reshape(message["shape"]))
        if len(message["sizes"]) == 1:
            return cls(*request, [Upload("", data)], None)
        ends, view = np.cumsum(message["sizes"]).tolist(), memoryview(data)
        return cls(*request, [Upload("", view[end - size:end])
                              for end, size in zip(ends, message["sizes"], strict=True)], None)


def is_large(body: bytes) -> bool:
    """Whether parsing the body takes so long that it is better done in another process."""
    return len(body) > LARGE_BYTES or sum(body.count(mark) for mark in _MARKS) > LARGE_VALUES


def parse_infer(body: bytes, spec: InputSpec, limits: Limits) -> InferRequest:
    """Parse a request. Takes as much memory as the body, once more for each image.

    Args:
        body: JSON.
        spec: the network's input, for the shapes of tensors.
        limits: of JSON values, images and views.

    Raises:
        RequestError: 400 for a wrong request, 413 for too many values.
    """
    if sum(body.count(mark) for mark in _MARKS) > limits.json_values:
        raise RequestError(f"the JSON has more than {limits.json_values:,} values",
                           "send encoded images as BYTES, or fewer images per request", status=413)
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError("the body is not JSON", "send a request of the Open Inference Protocol") from None
    try:
        return _checked(tree, spec, limits)
    except UserError as error:
        raise error if isinstance(error, RequestError) else RequestError(error.problem, error.remedy) from None


def _checked(tree: Any, spec: InputSpec, limits: Limits) -> InferRequest:
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
    require(datatype in ("BYTES", "UINT8", "FP32"), f"datatype {datatype[:40]!r} must be BYTES, UINT8 or FP32",
            "send encoded images in base64 as BYTES, pixels as UINT8, or the network's input as FP32")
    if datatype == "BYTES":
        return InferRequest(request_id, views, outputs, _images(shape, data), None)
    if datatype == "UINT8":
        return InferRequest(request_id, views, outputs, [], _pixels(shape, data, spec.side))
    require(views == 1, "FP32 tensors need views 1: each is one view of an image", "send pixels as UINT8")
    return InferRequest(request_id, views, outputs, [], _network_input(shape, data, spec.crop))


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
    """The pixels of a UINT8 tensor, channels last or first: uint8 [N, side, side, 3]."""
    last, first = [side, side, 3], [3, side, side]
    require(shape[1:] in (last, first), f"shape {shape} is neither {_dimensions(first)} nor {_dimensions(last)}"[:200],
            "send encoded images as BYTES, which the server rescales")
    try:
        pixels = np.frombuffer(bytes(_flat(data, shape)), np.uint8)
    except (ValueError, TypeError):  # other numbers or other types
        pixels = np.zeros(0, np.uint8)
    require(pixels.size == np.prod(shape), f"data are not {np.prod(shape):,} whole numbers from 0 to 255")
    pixels = pixels.reshape(shape)
    return pixels if shape[1:] == last else np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def _network_input(shape: list[int], data: list[Any], crop: int) -> NDArray[np.float32]:
    """The values of an FP32 tensor: float32 [N, 3, crop, crop]."""
    require(shape[1:] == [3, crop, crop], f"shape {shape} is not {_dimensions([3, crop, crop])}"[:200],
            "prepare the images as the model's metadata says, or send them encoded as BYTES")
    flat = _flat(data, shape)
    are_numbers = all(type(value) is float or type(value) is int for value in flat)  # NumPy also converts strings
    try:
        with np.errstate(over="ignore"):  # too large numbers become infinite
            values = np.array(flat if are_numbers else [], np.float32)
    except OverflowError:  # a whole number of hundreds of digits
        values = np.zeros(0, np.float32)
    require(values.size == np.prod(shape) and bool(np.isfinite(values).all()),
            f"data are not {np.prod(shape):,} finite numbers of 32 bits")
    return values.reshape(shape)


def _flat(data: list[Any], shape: list[int]) -> list[Any]:
    """The data as one list, whether they are flat or nested as the shape."""
    for _ in shape[1:]:
        if data and isinstance(data[0], list):
            data = [value for row in data for value in (row if isinstance(row, list) else [None])]
    return data


def _dimensions(shape: list[int]) -> str:
    return f"[N, {', '.join(map(str, shape))}]"
