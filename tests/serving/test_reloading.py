"""Reloading checkpoints of a running server: each request has one network whole; a bad checkpoint changes nothing."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_serve_command import client_of, read_until, started, started_in_terminal

from alexnet.errors import UserError
from alexnet.inference.predictor import Model, load, model_from_checkpoint
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.serving.explanations import ReferenceSet
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service
from inprocess import encoded, served
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def saved(trained):
    return checkpoint.load(trained)


@pytest.fixture(scope="module")
def model(trained) -> Model:
    return load(trained)


@pytest.fixture(scope="module")
def other(saved) -> checkpoint.Checkpoint:
    """The same network with other weights."""
    return replace(saved, weights=AlexNet(saved.arch, 7).state_dict())


@pytest.fixture(scope="module")
def png():
    return encoded(draw(np.random.default_rng(1), 2))


def reload(client):
    """Request a reload, as the signal does."""
    service = client.service
    service.batcher._task.get_loop().call_soon_threadsafe(service.reloader.request)


def wait_for_metric(client, model, outcome, count):
    line = f'alexnet_model_reloads_total{{model="{model}",outcome="{outcome}"}} {count:.1f}\n'
    until = time.monotonic() + 60
    while line not in client.request("/metrics")[2].decode():
        assert time.monotonic() < until, line
        time.sleep(0.02)


def test_each_request_during_reloads_is_answered_by_one_network_whole(model, other, png, capfd):
    """Every response agrees with the network that its header names: all its images and its explanation."""
    networks = [model_from_checkpoint(other), model]
    loads = 0

    def load_next():
        nonlocal loads
        loads += 1
        time.sleep(0.05)
        return networks[(loads - 1) % 2], {"top1_error": loads / 100}

    service = Service([ServedModel(model, load=load_next)])
    expected = {}
    for network in networks:
        probabilities = {found.name: found.probability for found in network.predict(png, top=4)[0]}
        expected[ServedModel(network).sha256] = probabilities
    assert len(expected) == 2
    stopped = threading.Event()

    def send_requests(client):
        answers = []
        while not stopped.is_set():
            answers.append(client.post_form({"a.png": png, "b.png": png, "c.png": png}, "/predict?top=4"))
        return answers

    with served(service) as client, ThreadPoolExecutor(4) as pool:
        running = [pool.submit(send_requests, client) for _ in range(4)]
        try:
            for count in range(1, 7):
                reload(client)
                wait_for_metric(client, "alexnet", "loaded", count)
        finally:
            stopped.set()  # else a failure would wait for the clients forever
        answers = [answer for future in running for answer in future.result()]
        assert client.request("/model")[2]["validation"]["top1_error"] == 0.06
    seen = set()
    for status, headers, response in answers:
        assert status == 200
        seen.add(headers["model-sha256"])
        for image in response["images"]:
            found = {entry["name"]: entry["probability"] for entry in image["classes"]}
            assert found == pytest.approx(expected[headers["model-sha256"]], abs=1e-4)
    assert seen == set(expected)
    first, second = (ServedModel(network).sha256[:12] for network in networks)
    assert f"reloaded alexnet: weights {first} (before: {second})\n" in capfd.readouterr().err


def test_a_request_keeps_the_model_that_it_began_with(model, other, png):
    """Its body arrives after the reload."""
    service = Service([ServedModel(model, load=lambda: (model_from_checkpoint(other), {}))])
    old = service.default_model.sha256
    received = threading.Event()

    def body():
        received.wait(30)
        yield png

    with served(service) as client, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(client.request, "/predict", body(), Content_Type="image/png")
        while not client.service.uploads._incoming:
            time.sleep(0.01)
        reload(client)
        wait_for_metric(client, "alexnet", "loaded", 1)
        received.set()
        assert slow.result()[1]["model-sha256"] == old
        assert client.predict(png)[1]["model-sha256"] == service.default_model.sha256 != old


def broken(saved, what):
    """What loading gives for a checkpoint that does not fit, and the sentence that says why."""
    if what == "absent":
        raise UserError("runs/x does not exist", "give a run's folder")
    if what == "fault":
        raise RuntimeError("out of memory")
    if what == "classes":
        return model_from_checkpoint(replace(saved, classes=tuple("abcd")))
    if what == "side":
        larger = replace(saved.arch, input=replace(saved.arch.input, side=40))
        return model_from_checkpoint(replace(saved, arch=larger, mean_HWC=torch.zeros(1, 1, 3)))
    weights = {name: tensor * torch.nan if tensor.is_floating_point() else tensor
               for name, tensor in saved.weights.items()}
    return model_from_checkpoint(replace(saved, weights=weights))


@pytest.mark.parametrize(("what", "sentence"), [
    ("absent", "runs/x does not exist; give a run's folder"), ("fault", "RuntimeError('out of memory')"),
    ("classes", "the checkpoint has other classes; start another server for it"),
    ("side", "the checkpoint is for images of 40 pixels a side, and not 32; start another server for it"),
    ("nan", "the checkpoint's output for one image is not finite; use an earlier checkpoint")])
def test_a_checkpoint_that_does_not_fit_leaves_the_old_one(model, saved, png, what, sentence, capfd):
    service = Service([ServedModel(model, load=lambda: (broken(saved, what), {}), name="trees")])
    old = service.default_model
    with served(service) as client:
        reload(client)
        wait_for_metric(client, "trees", "failed", 1)
        assert client.predict(png)[1]["model-sha256"] == old.sha256
        assert client.request("/ready")[0] == 200
    assert service.default_model is old
    assert f"reload failed, trees keeps its weights {old.sha256[:12]}: {sentence}\n" in capfd.readouterr().err


def test_a_signal_during_a_reload_makes_another_one_follow(model, png):
    loading, release, loads = threading.Event(), threading.Event(), []

    def load_slowly():
        loads.append(1)
        loading.set()
        assert release.wait(30)
        return model, {}

    with served(Service([ServedModel(model, load=load_slowly)])) as client:
        reload(client)
        assert loading.wait(30)
        for _ in range(5):
            reload(client)
        assert client.predict(png)[0] == 200
        release.set()
        wait_for_metric(client, "alexnet", "loaded", 2)
        time.sleep(0.2)
        assert len(loads) == 2


def test_neighbors_are_searched_with_the_features_of_the_new_network(model, other, packed):
    network = model_from_checkpoint(other)
    before = ServedModel(model, reference_set=ReferenceSet.of(model, packed), load=lambda: (network, {}))
    after = before.reloaded()
    assert after.reference_set.split is before.reference_set.split
    pixels_HWC = packed.split("train").read_one(5)
    assert after.explain(pixels_HWC)["neighbors"][0]["distance"] == pytest.approx(0, abs=1e-3)
    assert before.explain(pixels_HWC)["neighbors"][0]["distance"] == pytest.approx(0, abs=1e-3)


@pytest.mark.slow
def test_the_command_reloads_a_changed_run_and_outlives_a_damaged_one(trained, other, tmp_path, png):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    with started(run) as (process, line):
        client = client_of(line)
        old = client.predict(png)[1]["model-sha256"]
        checkpoint.save(other, run / "best")
        process.send_signal(signal.SIGHUP)
        new = other.describe()["sha256"]
        assert process.stderr.readline() == f"reloaded alexnet: weights {new[:12]} (before: {old[:12]})\n"
        assert client.predict(png)[1]["model-sha256"] == new != old
        shutil.rmtree(run)
        process.send_signal(signal.SIGHUP)
        assert process.stderr.readline() == (
            f"reload failed, alexnet keeps its weights {new[:12]}: {run} does not exist; give a run's folder, a "
            "checkpoint, a file or folder of weights, or a name of alexnet list weights\n")
        assert client.predict(png)[1]["model-sha256"] == new
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_damaged_hashes_of_training_images_are_a_warning_that_is_printed_once(trained, tmp_path, processes):
    """The weights are whole, and the server needs no hashes."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (hashes,) = (run / "best").glob("seen-*.safetensors")
    with started(run, "--processes", processes) as (process, line):
        content = bytearray(hashes.read_bytes())
        content[-1] ^= 1
        hashes.write_bytes(content)
        process.send_signal(signal.SIGHUP)
        assert process.stderr.readline() == (
            f"warning: {hashes} is damaged: same size, other checksum; so it is not known which images the network was "
            "trained on\n")
        assert process.stderr.readline().startswith("reloaded alexnet: weights ")
        wait_for_metric(client_of(line), "alexnet", "loaded", processes)
        process.send_signal(signal.SIGTERM)
        assert "warning" not in process.communicate(timeout=60)[1]


SLOW_RELOAD = """
import signal, sys, time
from alexnet.serving.served_model import ServedModel
def reloaded(self):
    print("loading", file=sys.stderr, flush=True)
    time.sleep(100)
ServedModel.reloaded = reloaded
if "first" in sys.argv:  # the first process of a container survives the signal that uvicorn raises again
    sys.argv.remove("first")
    signal.raise_signal = lambda number: None
from alexnet.cli.main import main
main()
"""


@pytest.mark.parametrize(("number", "is_first", "code"), [
    (signal.SIGTERM, True, 0), pytest.param(signal.SIGINT, False, 130, marks=pytest.mark.slow)])
def test_a_server_that_stops_does_not_wait_for_a_slow_reload(trained, number, is_first, code):
    """Python waits for all threads of an executor when it exits."""
    process = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-c", SLOW_RELOAD, *["first"] * is_first, "serve", str(trained),
         "--port", "0", "--drain", "0"], text=True, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert process.stderr.readline().startswith("serving")
        process.send_signal(signal.SIGHUP)
        assert process.stderr.readline() == "loading\n"
        process.send_signal(number)
        output = process.communicate(timeout=50)[1]
        assert output.splitlines()[-1] == "stopped: all accepted requests are finished"
        assert process.returncode == code
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_closed_terminal_ends_the_server(trained):
    """A terminal that closes sends the signal that reloads."""
    with started_in_terminal(trained) as (process, controller):
        read_until(controller, b"until Ctrl-C")
        process.send_signal(signal.SIGHUP)
        read_until(controller, b"reloaded alexnet")
        os.close(controller)
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0
