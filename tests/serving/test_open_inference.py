"""The Open Inference Protocol (KServe v2): health, metadata, inference, and its errors of one string."""

import base64
import json
import time

import numpy as np
import pytest

from alexnet.inference.predictor import Model, load
from alexnet.serving.infer_request import parse_infer
from alexnet.serving.limits import Limits
from alexnet.serving.responses import RequestError
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service
from inprocess import encoded, served
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")

PNG = encoded(draw(np.random.default_rng(1), 2, 60))
TEXT = base64.b64encode(PNG).decode()
IMAGE = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [TEXT]}


@pytest.fixture(scope="module")
def model(trained) -> Model:
    return load(trained)


@pytest.fixture(scope="module")
def client(model):
    with served(Service([ServedModel(model, name="trees")])) as client:
        yield client


def infer(client, request, name="trees"):
    return client.request(f"/v2/models/{name}/infer", json.dumps(request).encode(), Content_Type="application/json")


def test_health_and_metadata(client):
    assert client.request("/v2/health/live")[::2] == (200, {"live": True})
    assert client.request("/v2/health/ready")[::2] == (200, {"ready": True})
    assert client.request("/v2/models/trees/ready")[::2] == (200, {"name": "trees", "ready": True})
    server = client.request("/v2")[2]
    assert (server["name"], server["extensions"]) == ("alexnet", [])
    assert client.request("/v2/models/trees")[2] == {
        "name": "trees", "platform": "pytorch",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]},
                    {"name": "label", "datatype": "BYTES", "shape": [-1]},
                    {"name": "logits", "datatype": "FP32", "shape": [-1, 4]}]}


def test_encoded_images_give_the_same_output_as_predict(client, model):
    files = [encoded(draw(np.random.default_rng(number), number, 60)) for number in range(3)]
    data = [base64.b64encode(file).decode() for file in files]
    status, headers, response = infer(client, {"id": "42", "inputs": [
        {"name": "image", "shape": [3, 1], "datatype": "BYTES", "data": [[text] for text in data]}]})
    assert (status, list(response)) == (200, ["model_name", "id", "outputs"])
    assert (response["model_name"], response["id"]) == ("trees", "42")
    assert headers["model-sha256"] == ServedModel(model).sha256
    probabilities, label = response["outputs"]
    assert {**probabilities, "data": None} == {
        "name": "probabilities", "datatype": "FP32", "shape": [3, 4], "data": None}
    rows_NK = np.array(probabilities["data"]).reshape(3, 4)
    for row_K, name, file in zip(rows_NK, label["data"], files, strict=True):
        classes = client.predict(file)[2]["images"][0]["classes"]
        assert classes[0]["name"] == name == model.classes[row_K.argmax()]
        assert sorted(row_K, reverse=True) == pytest.approx([found["probability"] for found in classes], abs=1e-4)
    assert {**label, "data": None} == {"name": "label", "datatype": "BYTES", "shape": [3], "data": None}


def test_pixels_nested_or_flat_are_the_decoded_image(client, model):
    pixels_NHWC = model.pixels(PNG)[None]
    tensor = {"name": "image", "shape": list(pixels_NHWC.shape), "datatype": "UINT8"}
    request = {"inputs": [{**tensor, "data": pixels_NHWC.tolist()}], "outputs": [{"name": "logits"}]}
    nested = infer(client, request)[2]
    request["inputs"][0]["data"] = pixels_NHWC.ravel().tolist()
    flat = infer(client, request)[2]
    expected = client.predict(PNG, "?logits=true")[2]["images"][0]["logits"]
    assert "id" not in flat
    for response in (nested, flat):
        [logits] = response["outputs"]
        assert (logits["name"], logits["shape"]) == ("logits", [1, 4])
        assert logits["data"] == pytest.approx(expected, abs=1e-4)


def test_ten_views(client):
    response = infer(client, {"inputs": [IMAGE], "parameters": {"views": 10}, "outputs": [{"name": "label"}]})[2]
    expected = client.predict(PNG, "?views=10")[2]["images"][0]["classes"][0]["name"]
    assert response["outputs"] == [{"name": "label", "datatype": "BYTES", "shape": [1], "data": [expected]}]


SIDE32 = {"name": "image", "shape": [1, 32, 32, 3], "datatype": "UINT8"}


@pytest.mark.parametrize(("request_", "status", "error"), [
    ([], 400, 'the request is not a JSON object; send {"inputs": [...]}'),
    ({}, 400, "inputs is not a list of one tensor; the model has one input, image"),
    ({"inputs": [IMAGE, IMAGE]}, 400, "inputs is not a list of one tensor"),
    ({"inputs": [IMAGE], "id": 42}, 400, "id is not a string"),
    ({"inputs": [IMAGE], "parameters": {"view": 1}}, 400, "there is no parameter 'view'; known is views"),
    ({"inputs": [IMAGE], "parameters": {"views": 2}}, 400, "views 2 must be 1 or 10"),
    ({"inputs": [IMAGE], "parameters": {"views": True}}, 400, "views True must be 1 or 10"),
    ({"inputs": [IMAGE], "outputs": [{"name": "probabilties"}]}, 400,
     "there is no output 'probabilties'; did you mean probabilities?"),
    ({"inputs": [IMAGE], "outputs": [{"name": "label"}] * 2}, 400, "output label occurs 2 times"),
    ({"inputs": [IMAGE], "outputs": [{"name": "label", "parameters": {"binary_data": True}}]}, 400,
     "an output has parameters"),
    ({"inputs": [IMAGE], "outputs": [{"name": "logits"}], "parameters": {"views": 10}}, 400, "logits need views 1"),
    ({"inputs": [{**IMAGE, "name": "input0"}]}, 400, "there is no input 'input0'; the model has one input, image"),
    ({"inputs": [{**IMAGE, "datatype": "FP32"}]}, 400, "datatype 'FP32' must be BYTES or UINT8"),
    ({"inputs": [{**IMAGE, "shape": [2]}]}, 400, "1 values are not a BYTES tensor of shape [2]"),
    ({"inputs": [{**IMAGE, "shape": [1, 2]}]}, 400, "1 values are not a BYTES tensor of shape [1, 2]"),
    ({"inputs": [{**IMAGE, "shape": [0], "data": []}]}, 400, "the request has no image"),
    ({"inputs": [{**IMAGE, "shape": [65], "data": [TEXT] * 65}]}, 400, "the request has 65 images, more than 64"),
    ({"inputs": [{**IMAGE, "shape": [17], "data": [TEXT] * 17}], "parameters": {"views": 10}}, 400,
     "17 images with 10 views each have more than 160 views"),
    ({"inputs": [{**IMAGE, "shape": [1.0]}]}, 400, "shape is not a list of whole numbers"),
    ({"inputs": [{**IMAGE, "data": TEXT}]}, 400, "input image has no data"),
    ({"inputs": [{**IMAGE, "data": ["no base64!"]}]}, 400, "image 1 is not base64"),
    ({"inputs": [{**IMAGE, "data": ["\u00e9"]}]}, 400, "image 1 is not base64"),
    ({"inputs": [{**IMAGE, "data": [7]}]}, 400, "image 1 is not a string"),
    ({"inputs": [{**IMAGE, "data": ["aGVsbG8="]}]}, 422, "the image cannot be decoded: it begins with b'hello'"),
    ({"inputs": [{**IMAGE, "shape": [2], "data": [TEXT, "aGVsbG8="]}]}, 422, "image 2 cannot be decoded"),
    ({"inputs": [{**SIDE32, "data": [0] * 3071}]}, 400, "data are not 3,072 whole numbers from 0 to 255"),
    ({"inputs": [{**SIDE32, "data": [0] * 3071 + [256]}]}, 400, "data are not 3,072 whole numbers"),
    ({"inputs": [{**SIDE32, "data": [0] * 3071 + [-1]}]}, 400, "data are not 3,072 whole numbers"),
    ({"inputs": [{**SIDE32, "data": [0] * 3071 + [0.5]}]}, 400, "data are not 3,072 whole numbers"),
    ({"inputs": [{**SIDE32, "data": [0] * 3071 + ["1"]}]}, 400, "data are not 3,072 whole numbers"),
    ({"inputs": [{**SIDE32, "data": []}]}, 400, "data are not 3,072 whole numbers"),
    ({"inputs": [{**SIDE32, "data": [[[[0, 0, 0]] * 32] * 31 + [7]]}]}, 400, "data are not 3,072 whole numbers"),
    ({"inputs": [{**SIDE32, "shape": [1, 28, 28, 3], "data": [0]}]}, 400, "is not [N, 32, 32, 3]"),
])
def test_a_wrong_request_is_named_with_its_rule(client, request_, status, error):
    response = infer(client, request_)
    assert (response[0], list(response[2])) == (status, ["error"])
    assert error in response[2]["error"]


def test_errors_outside_the_request_are_one_string_too(client, model):
    assert infer(client, {"inputs": [IMAGE]}, "tree")[::2] == (404, {
        "error": "there is no model 'tree'; did you mean trees?"})
    assert client.request("/v2/models/trees/infer", b"{", Content_Type="application/json")[::2] == (400, {
        "error": "the body is not JSON; send a request of the Open Inference Protocol"})
    assert client.request("/v2/models/trees/infer", b"[" * 40_000, Content_Type="application/json")[0] == 400
    status, _, response = client.request("/v2/models/trees/infer", b"{}", Content_Type="image/png")
    assert (status, response) == (415, {
        "error": "content type image/png is not application/json; send application/json"})
    assert client.request("/v2/nothing")[::2] == (404, {
        "error": "there is no /v2/nothing; /openapi.json lists all paths"})
    assert client.request("/v2/models/trees/infer")[0] == 405
    with served(Service([ServedModel(model)], token="secret")) as guarded:
        assert guarded.request("/v2/health/ready")[0] == 200
        assert guarded.request("/v2/models/alexnet")[::2] == (401, {
            "error": "the token is missing or wrong; send the header Authorization: Bearer TOKEN"})


def test_the_time_of_parsing_is_bounded():
    """The most expensive JSON within the limit on values; above it, nothing is parsed."""
    bodies = [b'{"inputs":[' + b"0," * 49_980 + b"0]}", b"[" * 49_999, b'{"":' * 24_999,
              b'{"inputs":[' + b'"\\u00e9' * 15_000 + b'"]}', b'["' + b"\\/" * 49_980 + b'"]']
    for body in bodies:
        began = time.process_time()
        with pytest.raises(RequestError):
            parse_infer(body, 32, Limits())
        assert time.process_time() - began < 0.25
    with pytest.raises(RequestError, match="the JSON has more than 50,000 values") as caught:
        parse_infer(b"[" + b"0," * 10_000_000 + b"0]", 32, Limits())
    assert caught.value.status == 413


def test_an_overloaded_server_rejects_inference(client):
    admission = client.service.admission
    before = admission.views["trees"].seconds_per_item
    admission.views["trees"].seconds_per_item = 9.0
    with admission.admit("other", "trees", 1, 1):
        status, headers, response = infer(client, {"inputs": [IMAGE]})
    admission.views["trees"].seconds_per_item = before
    assert (status, headers["retry-after"]) == (503, "1")
    assert response == {"error": "too many images are queued; try again in a second"}
    assert client.service.uploads.held_bytes == 0
