"""The HTTP interface: results, errors, access control, security headers."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from alexnet.inference.evaluate import predictions
from alexnet.inference.predictor import Model, load
from alexnet.serving.middleware import allowed_hosts, is_loopback
from alexnet.serving.samples import sample_images
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service
from inprocess import encoded, full_service, served
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")

FORM = "multipart/form-data"


@pytest.fixture(scope="module")
def model(trained) -> Model:
    return load(trained)


@pytest.fixture(scope="module")
def client(model, packed):
    with served(full_service(model, packed)) as client:
        yield client


@pytest.fixture(scope="module")
def png():
    return encoded(draw(np.random.default_rng(1), 2))


# --- Results ----------------------------------------------------------------------------------------------------------


def test_served_prediction_equals_evaluated_prediction(client, packed, model):
    split = packed.split("val")
    expected = torch.cat([outputs for outputs, _ in predictions([(model.network, model.preprocess)], split)]).numpy()
    files = [encoded(split.read_one(index)) for index in range(len(split))]
    with ThreadPoolExecutor(8) as pool:
        responses = [response for _, _, response in pool.map(
            lambda data: client.predict(data, "?top=4&logits=true"), files)]
    probabilities_NK = np.array([
        [{found["name"]: found["probability"] for found in response["images"][0]["classes"]}[name]
         for name in model.classes] for response in responses])
    np.testing.assert_allclose(probabilities_NK, expected, atol=1e-4)
    with torch.inference_mode():
        logits = model.network(model.preprocess(torch.from_numpy(split.read(np.arange(len(split)))))).numpy()
    np.testing.assert_allclose([response["images"][0]["logits"] for response in responses], logits, atol=1e-4)


def test_ten_views_are_averaged_as_evaluate_does(client, packed, model):
    split = packed.split("val")
    expected = next(predictions([(model.network, model.preprocess)], split, views=10, batch_size=200))[0][:3].numpy()
    _, _, response = client.post_form({f"{n}.png": encoded(split.read_one(n)) for n in range(3)},
                                      "/predict?views=10&top=1")
    assert [image["image"] for image in response["images"]] == ["0.png", "1.png", "2.png"]
    for image, row_K in zip(response["images"], expected, strict=True):
        assert image["classes"][0]["name"] == model.classes[row_K.argmax()]
        assert image["classes"][0]["probability"] == pytest.approx(row_K.max(), abs=1e-4)


def test_an_image_without_a_file_name_has_null_in_its_place(client, png):
    _, _, response = client.predict(png)
    assert response["images"][0]["image"] is None


def test_results_keep_the_order_of_the_images_and_failed_ones_have_an_error(client, png):
    status, _, response = client.post_form({"a.png": png, "b.jpg": b"no image", "c.png": png})
    first, failed, last = response["images"]
    assert status == 200
    assert [image["image"] for image in response["images"]] == ["a.png", "b.jpg", "c.png"]
    assert failed["error"]["problem"].startswith("b.jpg cannot be decoded: it begins with 'no image'")
    assert failed["error"]["remedy"] == "send another image"
    assert len(first["classes"]) == 4
    assert first["classes"] == last["classes"]
    probabilities = [found["probability"] for found in first["classes"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)


def test_top_above_the_number_of_classes_gives_all(client, png, model):
    for top in (99, 99_999_999):
        assert len(client.predict(png, f"?top={top}")[2]["images"][0]["classes"]) == len(model.classes) == 4


def test_model_describes_the_network(client, model):
    status, _, response = client.request("/model")
    assert (status, response["name"], response["classes"], response["reference_set"]) == (
        200, "small", list(model.classes), True)
    assert response["validation"] == {"top1_error": 0.25, "images": 1200}
    assert response["input"]["crop"] == 28
    assert response["parameters"] == sum(p.numel() for p in model.network.parameters())
    assert response["limits"] == {"body_bytes": 20_000_000, "pixels": 50_000_000, "images": 64}
    sample = client.request(response["samples"][0]["url"])
    assert (sample[0], sample[1]["content-type"], sample[2][:4]) == (200, "image/png", b"\x89PNG")
    assert {sample["class"] for sample in response["samples"]} == {"ash", "birch", "cedar", "date palm"}


def test_explain_gives_grad_cam_feature_maps_and_neighbors(client, png, model):
    status, _, response = client.post_form({"a.png": png}, "/explain")
    assert status == 200
    assert response["class"] == client.predict(png)[2]["images"][0]["classes"][0]["name"]
    assert (response["layer"], response["conv1"]["layer"], response["conv1"]["maps"]) == ("relu5", "relu1", 16)
    assert len(response["neighbors"]) == 6
    distances = [neighbor["distance"] for neighbor in response["neighbors"]]
    assert distances == sorted(distances)
    for url in (response["view"], response["grad_cam"], response["conv1"]["url"], response["neighbors"][0]["url"]):
        assert url.startswith("data:image/png;base64,")


def test_explain_takes_a_class_and_one_image(client, png):
    predicted = client.post_form({"a.png": png}, "/explain")[2]
    chosen = client.post_form({"a.png": png}, "/explain?class=date%20palm")[2]
    assert chosen["class"] == "date palm"
    assert chosen["grad_cam"] != predicted["grad_cam"] or predicted["class"] == "date palm"
    assert client.post_form({"a.png": png}, "/explain?class=date%20plam")[::2] == (400, {"error": {
        "problem": "the network has no class 'date plam'", "remedy": "did you mean date palm?"}})
    assert client.post_form({"a.png": png, "b.png": png}, "/explain")[::2] == (400, {"error": {
        "problem": "/explain takes one image, and the request has 2", "remedy": "send one request for each"}})


def test_without_data_the_samples_are_generated():
    samples = sample_images(None)
    assert [sample.name for sample in samples] == [
        "generated stripes", "generated sunset", "generated checkerboard"]
    assert all(sample.png.startswith(b"\x89PNG") for sample in samples)
    assert len({sample.png for sample in samples}) == 3


def test_health_readiness_and_metrics(client, png):
    assert client.request("/health")[2] == {"status": "alive"}
    assert client.request("/ready")[2] == {"status": "ready"}
    client.predict(png)
    client.request("/nowhere/at/all")
    _, headers, body = client.request("/metrics")
    text = body.decode()
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in ('alexnet_requests_total{path="/predict",status="200"}', "alexnet_images_total",
                 'alexnet_request_duration_seconds_bucket{le="0.1",path="/predict"}', "alexnet_batch_size_sum",
                 "alexnet_pending_images 0.0", 'alexnet_requests_total{path="other",status="404"}'):
        assert line in text
    assert "/nowhere" not in text
    assert "_created" not in text  # the page of serving lists all names


# --- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "problem", "remedy"), [
    ("?top=0", "top '0' must be a whole number from 1 to 99,999,999", "send top=5, or leave it out"),
    ("?top=1_0", "top '1_0' must be a whole number from 1 to 99,999,999", "send top=5, or leave it out"),
    ("?top=%D9%A1", "top '\u0661' must be a whole number from 1 to 99,999,999", "send top=5, or leave it out"),
    ("?top=100000000", "top '100000000' must be a whole number from 1 to 99,999,999", "send top=5, or leave it out"),
    ("?topp=2", "there is no parameter 'topp'", "did you mean top?"),
    ("?size=2", "there is no parameter 'size'", "known are top, views, logits"),
    ("?top=1&top=2", "parameter top occurs 2 times", "send it once"),
    ("?views=2", "views '2' must be 1 or 10", "send views=1, or leave it out"),
    ("?logits=yes", "logits 'yes' must be true or false", "send logits=true, or leave it out"),
    ("?logits=true&views=10", "logits=true needs views=1: ten views are averaged after the softmax",
     "leave one of the two out"),
])
def test_a_wrong_parameter_is_named_with_its_rule(client, png, query, problem, remedy):
    assert client.predict(png, query)[::2] == (400, {"error": {"problem": problem, "remedy": remedy}})


@pytest.mark.parametrize(("path", "options", "status", "problem"), [
    ("/predict", {"body": b"x", "Content_Type": "text/html"}, 415, "content type text/html is not an image type"),
    ("/predict", {"body": b"x"}, 415, "content type none is not an image type"),
    ("/predict", {"body": b"", "Content_Type": "image/png"}, 400, "the request has no image"),
    ("/predict", {"body": b"torn", "Content_Type": f"{FORM}; boundary=cut"}, 400, "the form cannot be read"),
    ("/predict", {"body": b"torn", "Content_Type": FORM}, 400, "the boundary is missing"),
    ("/predict", {"body": b"--cut--\r\n", "Content_Type": f"{FORM}; boundary=cut"}, 400, "no image"),
    ("/predict", {"body": b"<html>", "Content_Type": "image/png"}, 422, "the image cannot be decoded"),
    ("/predict", {}, 405, "/predict does not accept GET"),
    ("/../../etc/passwd", {}, 404, "there is no /../../etc/passwd"),
    ("/samples/99.png", {}, 404, "there is no sample image '99'"),
    *[("/model", {"Host": host}, 400, f"the header Host {host!r} is not a host name with an optional port")
      for host in ("localhost:1/x", "localhost/x?", "me@localhost", "a:80:80", "a:x", "[::1", "a b", "localhost#")],
    ("/model", {"Host": "evil.example"}, 403, "the host name 'evil.example' is not allowed"),
    ("/predict", {"body": b"x", "Content_Type": "image/png", "Sec_Fetch_Site": "cross-site"}, 403, "another site"),
    ("/predict", {"body": b"x", "Content_Type": "image/png", "Sec_Fetch_Site": "same-site"}, 403, "another site"),
    ("/predict", {"body": b"x", "Content_Type": "image/png", "Origin": "http://evil.example"}, 403, "another site"),
    ("/predict", {"body": b"x", "Content_Type": "image/png", "Origin": "null"}, 403, "another site"),
    ("/explain?clas=oak", {"body": b"x", "Content_Type": "image/png"}, 400, "there is no parameter 'clas'"),
])
def test_every_error_has_a_status_a_problem_and_a_remedy(client, path, options, status, problem):
    response = client.request(path, **options)
    assert response[0] == status
    assert set(response[2]) == {"error"}
    assert set(response[2]["error"]) == {"problem", "remedy"}
    assert problem in response[2]["error"]["problem"]
    assert response[2]["error"]["remedy"]


def test_the_page_of_the_server_may_send_requests(client, png):
    origin = f"http://127.0.0.1:{client.port}"
    assert client.predict(png, Host=origin[7:], Origin=origin)[0] == 200
    # Behind a proxy with another host name, Sec-Fetch-Site decides and not Origin.
    assert client.predict(png, Origin="https://images.example", Sec_Fetch_Site="same-origin")[0] == 200


def test_a_server_error_reveals_nothing_and_is_logged(model, png, monkeypatch, capsys):
    service = Service([ServedModel(model)])
    with served(service) as client:
        monkeypatch.setattr(service.batcher, "forward", lambda *arguments: 1 / 0)
        status, _, response = client.predict(png)
        monkeypatch.undo()
        assert (status, response) == (500, {"error": {
            "problem": "the server failed to process this request", "remedy": "see the server's log"}})
        assert client.predict(png)[0] == 200
    assert "ZeroDivisionError" in capsys.readouterr().err


# --- Access control and headers ---------------------------------------------------------------------------------------


def test_every_response_has_the_security_headers(client, png):
    for status, headers, _ in (client.request("/"), client.request("/nope"), client.predict(png),
                               client.request("/model", Host="evil.example")):
        assert status in (200, 403, 404)
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["server"] is None


def test_without_the_token_only_the_public_paths_respond(model, png):
    with served(Service([ServedModel(model, samples=sample_images(None))], token="secret")) as client:
        for path in ("/", "/page.js", "/page.css", "/palette.css", "/openapi.json", "/health", "/ready"):
            assert client.request(path)[0] == 200
        for path in ("/model", "/metrics", "/samples/0.png", "/nope"):
            assert client.request(path)[0] == 401
        assert client.request("/model", Authorization="Bearer wrong")[0] == 401
        assert client.request("/model", Authorization="Bearer s\u00e9cret")[0] == 401
        assert client.predict(png)[0] == 401
        for scheme in ("Bearer", "bearer", "BEARER", "Bearer "):  # has no case (RFC 9110, 11.1)
            assert client.predict(png, Authorization=f"{scheme} secret")[0] == 200
        for other in ("Basic secret", "secret", "Bearersecret", "Bearer", "Bearer "):
            assert client.predict(png, Authorization=other)[0] == 401


def test_a_server_on_loopback_allows_only_the_loopback_names():
    assert allowed_hosts("127.0.0.1") == allowed_hosts("localhost") == {"localhost", "127.0.0.1", "[::1]"}
    assert allowed_hosts("0.0.0.0") == frozenset()
    assert [is_loopback(host) for host in ("::1", "127.3.2.1", "10.0.0.1", "example.org")] == [
        True, True, False, False]


def test_a_large_body_that_is_rejected_is_answered_at_the_rate_of_rejected_bodies(client, png):
    """Bodies of 4 MB that are no image, at 20 MB/s; a request that is accepted does not wait."""
    began = time.monotonic()
    assert client.predict(bytes(4_000_000))[0] == 422
    assert time.monotonic() - began > 0.2
    assert client.predict(png)[0] == 200
