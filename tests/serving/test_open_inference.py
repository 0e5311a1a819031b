"""The Open Inference Protocol (KServe v2): health, metadata, inference, and its errors of one string."""

import base64
import json
import time

import numpy as np
import pytest
import torch

from alexnet.architecture.spec import InputSpec
from alexnet.data.preprocessing import Preprocess
from alexnet.inference.predictor import Model, load
from alexnet.serving.infer_request import parse_infer
from alexnet.serving.limits import Limits
from alexnet.serving.open_inference import preparation
from alexnet.serving.responses import RequestError
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service
from inprocess import encoded, served
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = InputSpec(side=32, crop=28)
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


def test_health_and_metadata(client, model):
    assert client.request("/v2/health/live")[::2] == (200, {"live": True})
    assert client.request("/v2/health/ready")[::2] == (200, {"ready": True})
    assert client.request("/v2/models/trees/ready")[::2] == (200, {"name": "trees", "ready": True})
    server = client.request("/v2")[2]
    assert (server["name"], server["extensions"]) == ("alexnet", [])
    metadata = client.request("/v2/models/trees")[2]
    assert metadata.pop("parameters")["FP32"].startswith("the central 28 x 28 pixels of it, minus the mean")
    assert metadata == {
        "name": "trees", "versions": [ServedModel(model).sha256[:12]], "platform": "pytorch",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]},
                    {"name": "label", "datatype": "BYTES", "shape": [-1]},
                    {"name": "logits", "datatype": "FP32", "shape": [-1, 4]}]}


def test_encoded_images_give_the_same_output_as_predict(client, model):
    files = [encoded(draw(np.random.default_rng(number), number, 60)) for number in range(3)]
    data = [base64.b64encode(file).decode() for file in files]
    status, headers, response = infer(client, {"id": "42", "inputs": [
        {"name": "image", "shape": [3, 1], "datatype": "BYTES", "data": [[text] for text in data]}]})
    assert (status, list(response)) == (200, ["model_name", "model_version", "id", "outputs"])
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


def test_the_protocols_example_of_a_flat_and_a_nested_tensor():
    """Row-major order, in both forms that the protocol describes: data [[1, 2], [4, 5]] or [1, 2, 4, 5]."""
    nested = [[[[1, 2], [4, 5]], [[6, 7], [8, 9]], [[10, 11], [12, 13]]]]
    flat = [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    tensor = {"name": "image", "shape": [1, 3, 2, 2]}
    for data in (nested, flat):
        for datatype in ("UINT8", "FP32"):
            body = json.dumps({"inputs": [{**tensor, "datatype": datatype, "data": data}]}).encode()
            parsed = parse_infer(body, InputSpec(side=2, crop=2), Limits()).tensor
            assert parsed[0, 1, 0].tolist() == ([4, 8, 12] if datatype == "UINT8" else [6, 7])  # row 1, column 0


def test_pixels_with_the_channels_first_are_the_same_image(client, model):
    pixels_NCHW = model.pixels(PNG)[None].transpose(0, 3, 1, 2)
    tensor = {"name": "image", "shape": [1, 3, 32, 32], "datatype": "UINT8", "data": pixels_NCHW.tolist()}
    response = infer(client, {"inputs": [tensor], "outputs": [{"name": "logits"}]})[2]
    expected = client.predict(PNG, "?logits=true")[2]["images"][0]["logits"]
    assert response["outputs"][0]["data"] == pytest.approx(expected, abs=1e-4)


def test_a_tensor_prepared_by_the_rule_of_the_metadata_gives_the_same_output(client, model):
    """The rule, by NumPy: the central 28 x 28 pixels, minus the mean, divided by the scale, in the channels' order."""
    rule = client.request("/v2/models/trees")[2]["parameters"]
    *_, tensor = rule["alternative_inputs"]
    assert tensor == {"name": "image", "datatype": "FP32", "shape": [-1, 3, 28, 28]}
    assert "channels in the order RGB" in rule["FP32"]
    central_HWC = (model.pixels(PNG)[2:30, 2:30] - rule["mean_RGB"]) / rule["scale_RGB"]
    data = central_HWC.transpose(2, 0, 1).ravel().tolist()
    request = {"inputs": [{**tensor, "shape": [2, 3, 28, 28], "data": data * 2}], "outputs": [{"name": "logits"}]}
    status, _, response = infer(client, request)
    assert status == 200
    expected = client.predict(PNG, "?logits=true")[2]["images"][0]["logits"]
    assert response["outputs"][0]["shape"] == [2, 4]
    assert response["outputs"][0]["data"] == pytest.approx(expected * 2, abs=1e-3)


def test_the_metadata_name_a_mean_of_each_pixel_and_the_order_of_channels():
    rule = preparation(Preprocess(InputSpec(4, 2, channels="BGR"), torch.zeros(4, 4, 3)))
    assert rule["mean_RGB"] == "the checkpoint's mean of each pixel, which the server subtracts from UINT8"
    assert "the order BGR" in rule["FP32"]


def test_a_version_is_the_first_digits_of_the_weights_checksum(client, model):
    """The paths of a version, of the protocol's table: metadata, ready and infer."""
    version = ServedModel(model).sha256[:12]
    path = f"/v2/models/trees/versions/{version}"
    assert client.request(path)[2] == client.request("/v2/models/trees")[2]
    assert client.request(f"{path}/ready")[::2] == (200, {"name": "trees", "ready": True})
    status, headers, response = client.request(
        f"{path}/infer", json.dumps({"inputs": [IMAGE]}).encode(), Content_Type="application/json")
    assert (status, response["model_version"]) == (200, version)
    assert headers["model-sha256"].startswith(version)
    assert response == infer(client, {"inputs": [IMAGE]})[2]
    for suffix, body in (("", None), ("/ready", None), ("/infer", b"{}")):
        assert client.request(f"/v2/models/trees/versions/1{suffix}", body, Content_Type="application/json")[::2] == (
            404, {"error": f"model trees has no version '1'; it has {version}"})
    assert client.request("/v2/models/tree/versions/1")[::2] == (
        404, {"error": "there is no model 'tree'; did you mean trees?"})


def test_ten_views(client):
    response = infer(client, {"inputs": [IMAGE], "parameters": {"views": 10}, "outputs": [{"name": "label"}]})[2]
    expected = client.predict(PNG, "?views=10")[2]["images"][0]["classes"][0]["name"]
    assert response["outputs"] == [{"name": "label", "datatype": "BYTES", "shape": [1], "data": [expected]}]


SIDE32 = {"name": "image", "shape": [1, 32, 32, 3], "datatype": "UINT8"}
FP32 = {"name": "image", "shape": [1, 3, 28, 28], "datatype": "FP32"}


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
    ({"inputs": [{**IMAGE, "datatype": "FP64"}]}, 400, "datatype 'FP64' must be BYTES, UINT8 or FP32"),
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
    ({"inputs": [{**IMAGE, "data": ["aGVsbG8="]}]}, 422, "the image cannot be decoded: it begins with 'hello'"),
    ({"inputs": [{**IMAGE, "shape": [2], "data": [TEXT, "aGVsbG8="]}]}, 422, "image 2 cannot be decoded"),
    ({"inputs": [{**SIDE32, "data": [0] * 3071}]}, 400, "data are not 3,072 whole numbers from 0 to 255"),
    ({"inputs": [{**SIDE32, "data": [0] * 3071 + [256]}]}, 400, "data are not 3,072 whole numbers"),
    ({"inputs": [{**SIDE32, "data": [0] * 3071 + [-1]}]}, 400, "data are not 3,072 whole numbers"),
    ({"inputs": [{**SIDE32, "data": [0] * 3071 + [0.5]}]}, 400, "data are not 3,072 whole numbers"),
    ({"inputs": [{**SIDE32, "data": [0] * 3071 + ["1"]}]}, 400, "data are not 3,072 whole numbers"),
    ({"inputs": [{**SIDE32, "data": []}]}, 400, "data are not 3,072 whole numbers"),
    ({"inputs": [{**SIDE32, "data": [[[[0, 0, 0]] * 32] * 31 + [7]]}]}, 400, "data are not 3,072 whole numbers"),
    ({"inputs": [{**SIDE32, "shape": [1, 28, 28, 3], "data": [0]}]}, 400,
     "shape [1, 28, 28, 3] is neither [N, 3, 32, 32] nor [N, 32, 32, 3]; send encoded images as BYTES"),
    ({"inputs": [{**FP32, "shape": [1, 3, 32, 32], "data": [0]}]}, 400,
     "shape [1, 3, 32, 32] is not [N, 3, 28, 28]; prepare the images as the model's metadata says"),
    ({"inputs": [{**FP32, "shape": [1, 28, 28, 3], "data": [0]}]}, 400, "shape [1, 28, 28, 3] is not [N, 3, 28, 28]"),
    ({"inputs": [{**FP32, "data": [0.5] * 2351}]}, 400, "data are not 2,352 finite numbers of 32 bits"),
    ({"inputs": [{**FP32, "data": [0.5] * 2351 + ["0.5"]}]}, 400, "data are not 2,352 finite numbers"),
    ({"inputs": [{**FP32, "data": [0.5] * 2351 + [True]}]}, 400, "data are not 2,352 finite numbers"),
    ({"inputs": [{**FP32, "data": [0.5] * 2351 + [None]}]}, 400, "data are not 2,352 finite numbers"),
    ({"inputs": [{**FP32, "data": [0.5] * 2351 + [float("nan")]}]}, 400, "data are not 2,352 finite numbers"),
    ({"inputs": [{**FP32, "data": [0.5] * 2351 + [1e39]}]}, 400, "data are not 2,352 finite numbers"),
    ({"inputs": [{**FP32, "data": [0.5] * 2351 + [10**400]}]}, 400, "data are not 2,352 finite numbers"),
    ({"inputs": [{**FP32, "data": [[[[0.5] * 28] * 28] * 2 + [7]]}]}, 400, "data are not 2,352 finite numbers"),
    ({"inputs": [{**FP32, "data": [0.5] * 2352}], "parameters": {"views": 10}, "outputs": [{"name": "label"}]}, 400,
     "FP32 tensors need views 1: each is one view of an image; send pixels as UINT8"),
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
    most = Limits().json_values
    bodies = [b'{"inputs":[' + b"0," * (most - 20) + b"0]}", b"[" * (most - 1), b'{"":' * (most // 2 - 1),
              b'{"inputs":[' + b'"\\u00e9' * (most - 20) + b'"]}', b'["' + b"\\/" * (most - 20) + b'"]',
              b"{" + b",".join(b'"%d":0' % number for number in range(most // 2 - 1)) + b"}"]
    for body in bodies:
        began = time.process_time()
        with pytest.raises(RequestError):
            parse_infer(body, SPEC, Limits())
        assert time.process_time() - began < 2
    with pytest.raises(RequestError, match="the JSON has more than 1,000,000 values") as caught:
        parse_infer(b"[" + b"0," * 10_000_000 + b"0]", SPEC, Limits())
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
