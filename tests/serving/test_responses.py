"""JSON of the responses."""

import json

import numpy as np

from alexnet.serving.request_record import RequestRecord
from alexnet.serving.responses import JsonResponse, RequestError, error_response


def scope_of(path):
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}
    return scope, RequestRecord.begin(scope)


def test_numbers_that_json_does_not_have_become_null():
    diverged = {"images": [{"logits": [1.0, float("nan"), float(np.float32("inf"))], "name": "NaN"}]}
    assert json.loads(JsonResponse(diverged).body) == {"images": [{"logits": [1.0, None, None], "name": "NaN"}]}


def test_an_error_has_its_status_its_headers_and_two_fields():
    error = RequestError("it is full", "try again", status=503, headers={"Retry-After": "1"})
    scope, record = scope_of("/predict")
    response = error_response(error, scope)
    assert record.is_rejected
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert json.loads(response.body) == {"error": {"problem": "it is full", "remedy": "try again"}}


def test_an_error_below_v2_is_one_string_as_the_open_inference_protocol_says():
    error = RequestError("it is full", "try again", status=503)
    for path in ("/v2", "/v2/models/a/infer"):
        assert json.loads(error_response(error, scope_of(path)[0]).body) == {"error": "it is full; try again"}


def test_a_fault_of_the_server_is_no_rejection():
    scope, record = scope_of("/predict")
    error_response(RequestError("it failed", "try again", status=500), scope)
    assert not record.is_rejected
