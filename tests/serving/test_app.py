"""Claims about the server: it says what evaluate says, takes nothing it should not, and tells nothing it need not."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.inference.evaluate import predictions
from alexnet.inference.predictor import Model, load
from alexnet.serving import explanations, server
from alexnet.serving.app import Service
from alexnet.serving.batching import DynamicBatcher, Overloaded
from alexnet.serving.middleware import is_local, names_of
from alexnet.serving.uploads import Intake
from command_line import alexnet as command
from conftest import draw
from inprocess import Served, encoded, served

pytestmark = pytest.mark.usefixtures("one_thread")

FORM = "multipart/form-data"


@pytest.fixture(scope="module")
def model(trained) -> Model:
    return load(trained)


@pytest.fixture(scope="module")
def open_server(model, packed):
    """Of the whole: with data to click, neighbors, and no token."""
    with served(Service(model, metrics={"top1_error": 0.25}, reference_set=explanations.ReferenceSet.of(model, packed),
                        samples=explanations.samples(packed), hosts=names_of("127.0.0.1"))) as one:
        yield one


@pytest.fixture(scope="module")
def photo():
    return encoded(draw(np.random.default_rng(1), 2))


# --- Answers ----------------------------------------------------------------------------------------------------------


def test_served_answer_equals_evaluated_answer(open_server, packed, model):
    split = packed.split("val")
    expected = torch.cat([outputs for outputs, _ in predictions([(model.network, model.preprocess)], split)]).numpy()
    photos = [encoded(split.read_one(place)) for place in range(len(split))]
    with ThreadPoolExecutor(8) as pool:
        said = [answer for _, _, answer in pool.map(
            lambda data: open_server.predict(data, "?top=4&logits=true"), photos)]
    by_name = np.array([[{one["name"]: one["probability"] for one in answer["photos"][0]["classes"]}[name]
                         for name in model.classes] for answer in said])
    np.testing.assert_allclose(by_name, expected, atol=1e-4)
    with torch.inference_mode():
        logits = model.network(model.preprocess(torch.from_numpy(split.read(np.arange(len(split)))))).numpy()
    np.testing.assert_allclose([answer["photos"][0]["logits"] for answer in said], logits, atol=1e-4)


def test_ten_views_are_averaged_as_evaluate_does(open_server, packed, model):
    split = packed.split("val")
    expected = next(predictions([(model.network, model.preprocess)], split, views=10, batch_size=200))[0][:3].numpy()
    _, _, said = open_server.send({f"{n}.png": encoded(split.read_one(n)) for n in range(3)}, "/predict?views=10&top=1")
    assert [one["photo"] for one in said["photos"]] == ["0.png", "1.png", "2.png"]
    for one, row in zip(said["photos"], expected, strict=True):
        assert one["classes"][0]["name"] == model.classes[row.argmax()]
        assert one["classes"][0]["probability"] == pytest.approx(row.max(), abs=1e-4)


def test_answers_keep_the_order_of_the_images_and_broken_ones_are_named(open_server, photo):
    status, _, said = open_server.send({"a.png": photo, "b.jpg": b"no image", "c.png": photo})
    assert status == 200
    assert [one["photo"] for one in said["photos"]] == ["a.png", "b.jpg", "c.png"]
    assert said["photos"][1]["error"].startswith("b.jpg cannot be decoded: it begins with b'no image'")
    assert len(said["photos"][0]["classes"]) == 4
    assert said["photos"][0]["classes"] == said["photos"][2]["classes"]
    probabilities = [one["probability"] for one in said["photos"][0]["classes"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)


def test_more_classes_than_there_are_are_all_of_them(open_server, photo, model):
    assert len(open_server.predict(photo, "?top=99")[2]["photos"][0]["classes"]) == len(model.classes) == 4


def test_the_model_tells_what_it_is(open_server, model):
    status, _, said = open_server.ask("/model")
    assert (status, said["name"], said["classes"], said["neighbors"]) == (200, "small", list(model.classes), True)
    assert said["metrics"] == {"top1_error": 0.25}
    assert said["input"]["crop"] == 28
    assert said["parameters"] == sum(p.numel() for p in model.network.parameters())
    assert said["limits"] == {"bytes": 20_000_000, "pixels": 50_000_000, "images": 64}
    picture = open_server.ask(said["samples"][0]["picture"])
    assert (picture[0], picture[1]["content-type"], picture[2][:4]) == (200, "image/png", b"\x89PNG")
    assert {one["class"] for one in said["samples"]} == {"ash", "birch", "cedar", "date palm"}


def test_look_tells_what_an_answer_rests_on(open_server, photo, model):
    status, _, said = open_server.send({"a.png": photo}, "/look")
    assert status == 200
    assert said["class"] == open_server.predict(photo)[2]["photos"][0]["classes"][0]["name"]
    assert (said["layer"], said["conv1"]["layer"], said["conv1"]["maps"]) == ("relu5", "relu1", 16)
    assert len(said["near"]) == 6
    distances = [one["distance"] for one in said["near"]]
    assert distances == sorted(distances)
    for picture in (said["view"], said["grad_cam"], said["conv1"]["picture"], said["near"][0]["picture"]):
        assert picture.startswith("data:image/png;base64,")
    other = open_server.send({"a.png": photo}, "/look?class=date%20palm")[2]
    assert other["class"] == "date palm"
    assert other["grad_cam"] != said["grad_cam"] or said["class"] == "date palm"
    assert open_server.send({"a.png": photo}, "/look?class=palm")[0] == 400
    assert open_server.send({"a.png": photo, "b.png": photo}, "/look")[2] == {
        "error": "look is for one image, and 2 were sent"}


def test_without_data_the_pictures_to_click_are_drawn():
    drawn = explanations.samples(None)
    assert [one.name for one in drawn] == ["stripes, drawn", "evening, drawn", "board, drawn"]
    assert all(one.data.startswith(b"\x89PNG") for one in drawn)
    assert len({one.data for one in drawn}) == 3


def test_health_readiness_and_counts(open_server, photo):
    assert open_server.ask("/health")[2] == {"status": "alive"}
    assert open_server.ask("/ready")[2] == {"status": "ready"}
    open_server.predict(photo)
    open_server.ask("/nowhere/at/all")
    _, headers, text = open_server.ask("/metrics")
    counts = text.decode()
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in ('alexnet_requests_total{path="/predict",status="200"}', "alexnet_images_total",
                 'alexnet_request_seconds_bucket{le="0.1",path="/predict"}', "alexnet_batch_images_sum",
                 "alexnet_waiting_images 0.0", 'alexnet_requests_total{path="other",status="404"}'):
        assert line in counts
    assert "/nowhere" not in counts


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "sentence"), [
    ("?top=0", "top '0' must be a whole number above 0"),
    ("?top=1_0", "top '1_0' must be a whole number above 0"),
    ("?top=%D9%A1", "top '\u0661' must be a whole number above 0"),
    ("?topp=2", "there is no parameter 'topp'; there is top, views, logits"),
    ("?top=1&top=2", "top is there 2 times; give it once"),
    ("?views=2", "views '2' must be 1 or 10"),
    ("?logits=yes", "logits 'yes' must be true or false"),
    ("?logits=true&views=10", "logits=true goes with views=1: ten views are averaged after the softmax"),
])
def test_a_wrong_parameter_is_named_with_its_rule(open_server, photo, query, sentence):
    assert open_server.predict(photo, query)[::2] == (400, {"error": sentence})


@pytest.mark.parametrize(("path", "options", "status", "words"), [
    ("/predict", {"body": b"x", "Content_Type": "text/html"}, 415, "content of type text/html is no image"),
    ("/predict", {"body": b"x"}, 415, "content of type none is no image"),
    ("/predict", {"body": b"", "Content_Type": "image/png"}, 400, "there is no image in the request"),
    ("/predict", {"body": b"torn", "Content_Type": f"{FORM}; boundary=cut"}, 400, "the form cannot be read"),
    ("/predict", {"body": b"torn", "Content_Type": FORM}, 400, "its boundary is missing"),
    ("/predict", {"body": b"--cut--\r\n", "Content_Type": f"{FORM}; boundary=cut"}, 400, "no image"),
    ("/predict", {"body": b"<html>", "Content_Type": "image/png"}, 422, "the image cannot be decoded"),
    ("/predict", {}, 405, "/predict takes POST"),
    ("/../../etc/passwd", {}, 404, "there is nothing here"),
    ("/samples/99.png", {}, 404, "there is no such picture"),
    ("/model", {"Host": "evil.example"}, 403, "this server is not called 'evil.example'"),
    ("/predict", {"body": b"x", "Content_Type": "image/png", "Sec_Fetch_Site": "cross-site"}, 403, "another host"),
    ("/predict", {"body": b"x", "Content_Type": "image/png", "Sec_Fetch_Site": "same-site"}, 403, "another host"),
    ("/predict", {"body": b"x", "Content_Type": "image/png", "Origin": "http://evil.example"}, 403, "another host"),
    ("/predict", {"body": b"x", "Content_Type": "image/png", "Origin": "null"}, 403, "another host"),
    ("/look?clas=oak", {"body": b"x", "Content_Type": "image/png"}, 400, "no parameter 'clas'; there is class"),
])
def test_what_is_refused_is_refused_in_one_sentence(open_server, path, options, status, words):
    said = open_server.ask(path, **options)
    assert said[0] == status
    assert set(said[2]) == {"error"}
    assert words in said[2]["error"]


def test_the_servers_own_page_may_ask(open_server, photo):
    own = f"http://127.0.0.1:{open_server.port}"
    assert open_server.predict(photo, Host=own[7:], Origin=own)[0] == 200
    # Behind a proxy that asks by another name, the browser's word counts.
    assert open_server.predict(photo, Origin="https://photos.example", Sec_Fetch_Site="same-origin")[0] == 200


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(open_server):
    status, _, said = open_server.predict(b"P6 8000 8000 255\n" + bytes(100))
    assert status == 422
    assert "it has 8,000 x 8,000 pixels, more than 50,000,000; send another" in said["error"]
    assert open_server.predict(b"P6 100000 100000 255\n" + bytes(100))[0] == 422


def test_every_answer_has_its_security_headers(open_server, photo):
    for status, headers, _ in (open_server.ask("/"), open_server.ask("/nope"), open_server.predict(photo),
                               open_server.ask("/model", Host="evil.example")):
        assert status in (200, 403, 404)
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["server"] is None


def test_a_failure_of_ours_tells_nothing_but_that_it_happened(model, photo, monkeypatch, capsys):
    service = Service(model)
    with served(service) as one:
        monkeypatch.setattr(service.gatherer, "answer", lambda *call: 1 / 0)
        status, _, said = one.predict(photo)
        monkeypatch.undo()
        assert (status, said) == (500, {"error": "the server failed at this request; its log says how"})
        assert one.predict(photo)[0] == 200
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_who_has_no_token_sees_the_page_and_no_more(model, photo):
    with served(Service(model, token="secret", samples=explanations.samples(None))) as one:
        for path in ("/", "/page.js", "/page.css", "/palette.css", "/openapi.json", "/health", "/ready"):
            assert one.ask(path)[0] == 200
        for path in ("/model", "/metrics", "/samples/0.png", "/nope"):
            assert one.ask(path)[0] == 401
        assert one.ask("/model", Authorization="Bearer wrong")[0] == 401
        assert one.ask("/model", Authorization="Bearer s\u00e9cret")[0] == 401
        assert one.predict(photo)[0] == 401
        assert one.predict(photo, Authorization="Bearer secret")[0] == 200


def test_which_names_a_server_has():
    assert names_of("127.0.0.1") == names_of("localhost") == {"localhost", "127.0.0.1", "[::1]"}
    assert names_of("0.0.0.0") == frozenset()
    assert [is_local(host) for host in ("::1", "127.3.2.1", "10.0.0.1", "example.org")] == [True, True, False, False]


# --- Limits -----------------------------------------------------------------------------------------------------------


def test_a_body_above_the_limit_is_refused_by_its_length_and_by_what_arrives(model):
    with served(Service(model, intake=Intake(body=10_000))) as one:
        status, _, said = one.predict(bytes(20_000))
        assert (status, said["error"]) == (
            413, "the request is larger than 0.01 MB; send a smaller image, or fewer at once")
        chunks = (bytes(1000) for _ in range(100))
        status, _, _ = one.ask("/predict", chunks, Content_Type="image/png")
        assert status == 413
        assert one.service.intake.holding == 0


def test_more_images_than_a_request_may_hold_are_refused(open_server, photo):
    status, _, said = open_server.send({f"{number}.png": b"x" for number in range(65)})
    assert (status, said["error"]) == (400, "65 images are more than 64; send them in several requests")


def test_a_slow_body_is_given_up_and_its_bytes_are_forgotten(model):
    with served(Service(model, intake=Intake(seconds=0.5))) as one, socket.create_connection(
            ("127.0.0.1", one.port), timeout=60) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nab")
        assert client.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert one.service.intake.holding == 0


def test_a_slow_head_is_cut_off(model, monkeypatch):
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    with served(Service(model)) as one, socket.create_connection(("127.0.0.1", one.port), timeout=60) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost:")
        with contextlib.suppress(ConnectionResetError):  # or an orderly end
            assert client.recv(4096) == b""


def test_a_connection_too_many_is_told_so(model, photo, monkeypatch):
    monkeypatch.setattr(server, "CONNECTIONS", 2)
    with served(Service(model)) as one:
        with contextlib.ExitStack() as idle:
            for _ in range(2):
                idle.enter_context(socket.create_connection(("127.0.0.1", one.port)))
            status, headers, said = one.predict(photo)
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        assert headers["x-content-type-options"] == "nosniff"
        assert "connections" in said["error"]
        until = time.monotonic() + 30
        while one.predict(photo)[0] != 200:
            assert time.monotonic() < until


def test_who_holds_most_for_longest_gives_way(model, photo):
    with served(Service(model, intake=Intake(body=10_000, held=15_000))) as one, socket.create_connection(
            ("127.0.0.1", one.port), timeout=60) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 9999\r\n\r\n"
                       + bytes(9_000))
        while one.service.intake.holding < 9_000:
            time.sleep(0.01)
        assert one.predict(bytes(9_000))[0] == 422
        assert client.recv(4096).startswith(b"HTTP/1.1 503 ")
        assert one.predict(photo)[0] == 200
        assert one.service.intake.holding == 0


# --- Batches ----------------------------------------------------------------------------------------------------------


def gate(service):
    """A lock that keeps the network from answering while it is held."""
    lock, answer = threading.Lock(), service.gatherer.answer

    def behind(pixels, views):
        with lock:
            return answer(pixels, views)

    service.gatherer.answer = behind
    return lock


def test_images_that_wait_together_go_together(model, photo):
    sizes = []
    service = Service(model)
    service.gatherer.on_batch = sizes.append
    lock = gate(service)
    with served(service) as one, ThreadPoolExecutor(20) as pool:
        with lock:
            first = pool.submit(one.predict, photo)
            while service.gatherer.decodes.inside < 1:
                time.sleep(0.01)
            time.sleep(0.3)  # it has gone to the network alone
            rest = [pool.submit(one.predict, photo) for _ in range(19)]
            while service.gatherer.decodes.inside < 20:
                time.sleep(0.01)
            time.sleep(0.3)
        assert {future.result()[0] for future in [first, *rest]} == {200}
    assert sizes == [1, 19]


def test_a_crowded_server_says_so_at_once_and_is_as_before_afterwards(model, photo):
    service = Service(model, patience=0.5)
    lock = gate(service)
    with served(service) as one, ThreadPoolExecutor(5) as pool:
        service.gatherer.views.seconds_each = 0.2
        with lock:
            waiting = [pool.submit(one.predict, photo) for _ in range(2)]
            while service.gatherer.decodes.inside < 2:
                time.sleep(0.01)
            status, headers, said = one.predict(photo)
            assert (status, headers["retry-after"]) == (503, "1")
            assert said == {"error": "too many images wait already; try again in a second"}
        assert [future.result()[0] for future in waiting] == [200, 200]
        assert service.gatherer.decodes.inside == 0
        assert one.predict(photo)[0] == 200


def test_the_first_who_come_are_told_how_long_it_takes(model):
    with served(Service(model)) as one:
        gatherer = one.service.gatherer
        assert min(work.seconds_each for work in (gatherer.decodes, gatherer.views, gatherer.others)) > 0


def test_whoever_finds_nobody_inside_is_let_in():
    gatherer = DynamicBatcher(lambda pixels, views: [], patience=0.1)
    gatherer.decodes.seconds_each = 100
    with gatherer.admitted(1), pytest.raises(Overloaded), gatherer.admitted(1):
        pass
    assert gatherer.decodes.inside == 0


# --- The document -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_schemathesis_accepts_the_document(open_server):
    """Requests that the document allows and forbids, of each kind that it knows: every answer is one it promises."""
    done = subprocess.run(
        [Path(sys.executable).with_name("schemathesis"), "run", f"{open_server.url}openapi.json", "--checks", "all",
         # Any bytes are an image to the document, and to the server only those that can be decoded: 422.
         "--exclude-checks", "positive_data_acceptance", "--phases", "coverage,fuzzing", "--max-examples", "10",
         "--seed", "1", "--no-color"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "7 passed" in done.stdout


@pytest.mark.slow
def test_the_extra_for_serving_brings_all_that_serving_imports(trained):
    """One that is missing would only be missed where nothing else has brought it."""
    script = """
import importlib.metadata as metadata, re, sys
from pathlib import Path
from alexnet.serving import app, server
from alexnet.serving.explanations import explain_image
from alexnet.inference.predictor import load
import numpy as np
model = load(Path(sys.argv[1]))
explain_image(model, np.zeros((64, 64, 3), np.uint8))
owner = metadata.packages_distributions()
used = {name.lower() for module in sys.modules for name in owner.get(module, ())}
brought, todo = set(), ["alexnet[serve]"]
while todo:
    name, _, extra = todo.pop().partition("[")
    if name.lower() in brought:
        continue
    brought.add(name.lower())
    for one in metadata.requires(name) or ():
        if "extra ==" not in one or extra and f"extra == '{extra[:-1]}'" in one.replace('"', "'"):
            try:
                metadata.distribution(dependency := re.match(r"[A-Za-z0-9._-]+", one)[0])
            except metadata.PackageNotFoundError:  # for another platform
                continue
            todo.append(dependency)
print(sorted(name for name in used if name.replace("_", "-") not in {one.replace("_", "-") for one in brought}))
"""
    said = subprocess.run([sys.executable, "-c", script, trained], text=True, capture_output=True)
    assert said.stdout == "[]\n", said.stderr


# --- The command ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def started(*arguments, **environment):
    """`alexnet serve` as a process: it, and what it said when it was ready."""
    process = subprocess.Popen(
        # With Ctrl-C heard, also where these tests run behind a shell's `&`.
        ["env", "--default-signal=INT", sys.executable, "-m", "alexnet", "serve", *map(str, arguments), "--port", "0"],
        text=True,
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1", **environment})
    try:
        yield process, process.stderr.readline()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "twice"), [
    (signal.SIGINT, False), *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        (signal.SIGINT, True), (signal.SIGTERM, False)))])
def test_the_command_serves_a_run_until_a_signal(trained, photo, number, twice):
    with started(trained) as (process, said):
        assert said.startswith(f"serving {trained} (small, 4 classes) at http://127.0.0.1:")
        one = Served(int(said.split(":")[-1].split("/")[0]), None)
        assert one.ask("/model")[2]["samples"][0]["name"].startswith("val/")  # the run's own data
        assert one.predict(photo)[0] == 200
        process.send_signal(number)
        if twice:  # which does not wait, and leaves no traceback either
            assert process.stderr.readline() == "stopping: what was accepted is answered first\n"
            process.send_signal(number)
            assert process.communicate(timeout=60)[1] == ""
            assert process.returncode == 130
            return
        rest = process.communicate(timeout=60)[1]
        assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: -signal.SIGTERM}[number]
        assert rest == "stopping: what was accepted is answered first\n"


@pytest.mark.slow
def test_a_door_to_the_world_asks_for_a_token_or_warns(trained):
    with started(trained, "--host", "0.0.0.0") as (process, said):
        assert "at http://127.0.0.1:" in said
        assert said.endswith("/ and this machine's other addresses until Ctrl-C\n")
        assert process.stderr.readline() == (
            "warning: whoever reaches 0.0.0.0 may ask; ask for a token with --token or ALEXNET_TOKEN\n")
    with started(trained, "--host", "0.0.0.0", "--no-samples", ALEXNET_TOKEN="secret") as (process, said):
        one = Served(int(said.split(":")[-1].split("/")[0]), None)
        assert one.ask("/model", Authorization="Bearer secret")[2]["samples"][0]["name"] == "stripes, drawn"
        assert "/#token=secret and this machine's other addresses until Ctrl-C" in said
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60)[1] == "stopping: what was accepted is answered first\n"


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--port", 70000], "--port 70000 must be from 0 to 65535"),
    (["--patience", 0], "--patience 0.0 must be above 0"),
    (["--max-mb", 0], "--max-mb 0 must be at least 1"),
    (["--token", "two words"], "the token must be of letters, digits and signs, without blanks"),
    (["--token", ""], "the token is empty; give one, or leave --token out"),
    (["--host", "192.0.2.7"], "192.0.2.7:8000 cannot be listened on (cannot assign requested address)"),
])
def test_a_mistake_is_one_sentence(trained, arguments, sentence, capsys):
    assert command("serve", trained, *arguments) == 2
    assert sentence in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(trained, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert command("serve", trained, "--port", port) == 2
    assert f"127.0.0.1:{port} cannot be listened on (address already in use)" in capsys.readouterr().err
