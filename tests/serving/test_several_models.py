"""Several models in one server: paths by name, the default, shared batches and limits, the page, the command line."""

import asyncio
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from test_page import open_page  # noqa: F401  a fixture

from alexnet.cli.serve import parse_checkpoints
from alexnet.errors import UserError
from alexnet.inference.predictor import Model, load, model_from_checkpoint
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.serving.admission import AdmissionControl
from alexnet.serving.batching import DynamicBatcher
from alexnet.serving.samples import sample_images
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service
from command_line import alexnet as command
from inprocess import encoded, served
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trees(trained) -> Model:
    return load(trained)


@pytest.fixture(scope="module")
def birds(trained) -> Model:
    """A network with another input side, other classes and other weights."""
    saved = checkpoint.load(trained)
    arch = replace(saved.arch, classes=6, input=replace(saved.arch.input, side=48))
    classes = ("auk", "bittern", "crow", "dove", "egret", "finch")
    return model_from_checkpoint(replace(
        saved, arch=arch, classes=classes, weights=AlexNet(arch, 3).state_dict(),
        mean_HWC=saved.mean_HWC.mean((0, 1), keepdim=True)))


@pytest.fixture(scope="module")
def client(trees, birds):
    models = [ServedModel(trees, samples=sample_images(None), name="trees"), ServedModel(birds, name="birds")]
    with served(Service(models)) as client:
        yield client


@pytest.fixture(scope="module")
def png():
    return encoded(draw(np.random.default_rng(1), 2, 60))


def names(response):
    return [found["name"] for found in response["images"][0]["classes"]]


def test_each_model_has_its_own_paths_and_the_first_is_the_default(client, png, trees, birds):
    for path, model in (("/predict", trees), ("/v1/models/trees/predict", trees), ("/v1/models/birds/predict", birds)):
        status, headers, response = client.request(f"{path}?top=3", png, Content_Type="image/png")
        assert (status, headers["model-sha256"]) == (200, ServedModel(model).sha256)
        expected = model.predict(png, top=3)[0]
        assert names(response) == [found.name for found in expected]
        assert response["images"][0]["classes"][0]["probability"] == pytest.approx(expected[0].probability, abs=1e-4)
    status, headers, response = client.request("/v1/models/birds/explain?class=crow", png, Content_Type="image/png")
    assert (status, response["class"], headers["model-sha256"]) == (200, "crow", ServedModel(birds).sha256)


def test_each_model_is_described_and_all_are_listed(client, trees, birds):
    assert client.request("/model")[2] == client.request("/v1/models/trees")[2]
    found = client.request("/v1/models/birds")[2]
    assert (found["model"], found["models"]) == ("birds", ["trees", "birds"])
    assert found["classes"] == list(birds.classes)
    assert found["input"]["side"] == 48


def test_an_unknown_model_is_named(client, png):
    for path in ("/v1/models/bird/predict", "/v1/models/bird/explain"):
        status, _, response = client.request(path, png, Content_Type="image/png")
        assert (status, response["error"]) == (404, {
            "problem": "there is no model 'bird'", "remedy": "did you mean birds?"})
    assert client.request("/v1/models/bird")[0] == 404
    assert client.request("/v1/models/a%2Fb/predict", png, Content_Type="image/png")[0] == 404


def test_metrics_count_by_path_and_by_model(client, png):
    client.request("/v1/models/birds/predict", png, Content_Type="image/png")
    text = client.request("/metrics")[2].decode()
    assert 'alexnet_requests_total{path="/v1/models/{model}/predict",status="200"}' in text
    assert 'alexnet_network_seconds_count{model="birds"}' in text
    assert 'path="/v1/models/birds' not in text


def test_a_batch_has_images_of_one_model_only_and_models_take_turns():
    batches, release = [], threading.Event()

    def forward(network, pixels_NHWC, views):
        assert release.wait(30)
        batches.append((network.name, [int(pixels_HWC[0, 0, 0]) for pixels_HWC in pixels_NHWC]))
        return [None] * len(pixels_NHWC)

    async def run():
        small, large = SimpleNamespace(name="small"), SimpleNamespace(name="large")
        batcher = DynamicBatcher(forward, AdmissionControl(1.0), max_delay=0)
        async with batcher.running():
            tasks = [asyncio.create_task(batcher.submit("first", small, [np.zeros((1, 1, 3), np.uint8)]))]
            await asyncio.sleep(0.05)
            for client, network, side, values in (
                    ("a", small, 1, (1, 2)), ("b", large, 2, (11, 12)), ("c", small, 1, (21,))):
                images = [np.full((side, side, 3), value, np.uint8) for value in values]
                tasks.append(asyncio.create_task(batcher.submit(client, network, images)))
            await asyncio.sleep(0.05)
            release.set()
            await asyncio.gather(*tasks)

    asyncio.run(run())
    assert batches[1:] == [("small", [1, 21]), ("large", [11, 12]), ("small", [2])]


def test_a_network_that_fails_makes_its_server_unready_and_no_other_model(trees, birds, png):
    service = Service([ServedModel(trees, name="trees"), ServedModel(birds, name="birds")])
    forward, broken = service.batcher.forward, threading.Event()

    def failing(network, pixels_NHWC, views):
        if broken.is_set() and network.name == "birds":
            raise RuntimeError("out of memory")
        return forward(network, pixels_NHWC, views)

    service.batcher.forward = failing
    with served(service) as client:
        broken.set()
        for _ in range(3):
            assert client.request("/v1/models/birds/predict", png, Content_Type="image/png")[0] == 500
            assert client.predict(png)[0] == 200
        assert [client.request(f"/v2/models/{name}/ready")[::2] for name in ("trees", "birds")] == [
            (200, {"name": "trees", "ready": True}), (503, {"name": "birds", "ready": False})]
        assert client.request("/ready")[0] == client.request("/v2/health/ready")[0] == 503


def test_the_page_lets_the_user_choose_a_model(client, birds, open_page):  # noqa: F811
    page = open_page(client)
    page.wait_for_selector("#samples img")
    assert page.locator("#model option").all_text_contents() == ["trees", "birds"]
    page.locator("#samples button").first.click()
    page.wait_for_selector("#classes button")
    assert page.locator("#classes .name").count() == 4
    page.select_option("#model", "birds")
    page.locator("#known-classes", has_text="auk").wait_for(state="attached")
    assert page.locator("#result").is_hidden()
    page.locator("#samples button").first.click()
    page.wait_for_selector("#classes button")
    assert set(page.locator("#classes .name").all_text_contents()) < set(birds.classes)
    assert page.locator("#curl").text_content() == f"curl -F image=@cat.jpg {client.url}v1/models/birds/predict"


# --- Command line -----------------------------------------------------------------------------------------------------


def test_checkpoints_have_names_where_there_are_several(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_checkpoints([]) == {}
    assert parse_checkpoints(["runs/a"]) == {"": "runs/a"}
    assert parse_checkpoints(["runs/lr=0.1"]) == {"": "runs/lr=0.1"}  # a slash is in no name
    assert parse_checkpoints(["a=runs/x", "b.2=pretrained"]) == {"a": "runs/x", "b.2": "pretrained"}
    assert parse_checkpoints(["a=runs/lr=0.1"]) == {"a": "runs/lr=0.1"}
    (tmp_path / "lr=0.1").mkdir()
    assert parse_checkpoints(["lr=0.1"]) == {"": "lr=0.1"}  # a folder that exists


@pytest.mark.parametrize(("arguments", "problem"), [
    (["runs/a", "runs/b"], "runs/a is one of 2 checkpoints and has no name; give each as NAME=CHECKPOINT"),
    (["a=x", "runs/b"], "runs/b is one of 2 checkpoints and has no name"),
    (["a=x", "a=y"], "two models are called a"), (["a="], "model a has no checkpoint; give it as a=CHECKPOINT"),
    (["a b=x"], "model name 'a b' must have 1 to 64 letters"), (["=x"], "model name '' must have"),
    (["-a=x"], "model name '-a' must have")])
def test_a_wrong_name_is_refused_before_anything_is_loaded(arguments, problem):
    with pytest.raises(UserError) as caught:
        parse_checkpoints(arguments)
    assert problem in str(caught.value)


def test_class_names_belong_to_one_network(tmp_path, capsys):
    assert command("serve", "a=x", "b=y", "--classes", tmp_path / "classes.txt") == 2
    assert "--classes names the outputs of one network, and 2 are served" in capsys.readouterr().err
