"""The demo's page: what the pretrained network says of photographs, honestly, and the training from nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet.architecture.network_presets import arch
from alexnet.data.sources import embedded
from alexnet.inference.classifier import Prediction
from alexnet.inference.predictor import model_from_checkpoint
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.reproduce import demo
from alexnet.reproduce.demo_photos import PHOTOS, NamedPhoto, Photo, name_photos
from alexnet.reproduce.pages.demo import kernel_text
from command_line import alexnet

pytestmark = pytest.mark.usefixtures("one_thread")

CAT, COINS = Photo("cat.png", "a cat", ("tabby", "tiger cat")), Photo("coins.png", "a tray of coins", ())


def named(photo, known, *ranked):
    guesses = [Prediction(name, probability) for name, probability in ranked]
    return NamedPhoto(photo, np.zeros((8, 8, 3), np.uint8), guesses, 0.875, np.zeros((4, 4), np.float32), known)


@pytest.mark.parametrize(("shown", "answer", "verdict"), [
    (named(CAT, ("tabby",), ("tabby", 0.81), ("lion", 0.1)), "tabby (81%)", "Right."),
    (named(CAT, ("tabby",), ("tabby", 0.31), ("lion", 0.1)), "not sure: perhaps tabby (31%)",
     "Right, but it is not sure."),
    (named(CAT, ("tabby",), ("lion", 0.5), ("tabby", 0.3)), "lion (50%)", "Wrong: tabby is right, its guess number 2."),
    (named(CAT, ("tabby",), ("lion", 0.6), ("bee", 0.3)), "lion (60%)",
     "Wrong: tabby is right, which is not among its five likeliest."),
    (named(COINS, (), ("chain", 0.2), ("bee", 0.1)), "not sure: perhaps chain (20%)",
     "A tray of coins is none of the 200 kinds of things that it knows, so no name can be right; it is not sure, as it "
     "should be."),
    (named(COINS, (), ("chain", 0.9), ("bee", 0.1)), "chain (90%)",
     "A tray of coins is none of the 200 kinds of things that it knows, so no name can be right; it is sure of a wrong "
     "name."),
])
def test_an_answer_says_when_it_is_not_sure_and_the_verdict_when_no_name_can_be_right(shown, answer, verdict):
    assert (shown.answer, shown.verdict(200)) == (answer, verdict)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network that answers "tabby" to every image, with 70%."""
    network = arch("small")
    classes = ("tabby", "espresso", "tench")
    network = replace(network, classes=3)
    state = AlexNet(network, 0).state_dict()
    output = [key for key in state if key.startswith("classifier.fc7")]
    state[output[0]].zero_()
    state[output[1]].copy_(torch.tensor([0.7, 0.2, 0.1]).log())
    folder = tmp_path_factory.mktemp("weights")
    checkpoint.save(checkpoint.Checkpoint(network, classes, state, torch.full((1, 1, 3), 120.0)), folder)
    return folder


def test_the_photographs_are_named_with_the_right_names_that_the_network_knows(weights):
    shown = name_photos(model_from_checkpoint(checkpoint.load(weights)))
    assert [each.photo for each in shown] == list(PHOTOS)
    cat, coffee, clock, *_ = shown
    assert (cat.known, coffee.known, clock.known) == (("tabby",), ("espresso",), ())
    assert cat.answer == "tabby (70%)"
    assert coffee.verdict(3) == "Wrong: espresso is right, its guess number 2."
    assert cat.seen == 56 / 64
    assert cat.grad_cam_HW.shape == (56, 56)
    assert cat.pixels_HWC.shape == (300, 451, 3), "scikit-image's documentation of `chelsea`"


def test_the_demo_shows_the_pretrained_network_first_and_then_the_training(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "PRETRAINED", str(weights))
    few = embedded.open_embedded(train=10, test=4)
    monkeypatch.setattr("alexnet.data.sources.detect.open_embedded", lambda: few)
    pages = []
    write = demo.write_demo_page
    monkeypatch.setattr(demo, "write_demo_page", lambda *a: pages.append(write(*a).read_text()) or write(*a))
    out = tmp_path / "demo"
    assert alexnet("demo", "--out", out, "--epochs", 1) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [f"page: {out / 'demo.html'}", f"report: {out / 'report.html'}"]
    assert "a cat: tabby (70%). Right." in printed.err
    before, after = pages
    assert "The training is still running" in before
    assert "The training is still running" not in after
    for page in pages:
        assert page.count("Grad-CAM of ") == len(PHOTOS)
        assert "<script" not in page
    assert "from random weights: which image does a patch come from? Its top-1 error on 56 patches" in after
    assert '<a href="report.html">' in after
    assert alexnet("demo", "--out", out, "--epochs", 1) == 2, "a finished demo is kept"


def test_without_a_pretrained_network_the_demo_says_so_and_trains(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "PRETRAINED", "no-such-weights")
    few = embedded.open_embedded(train=10, test=4)
    monkeypatch.setattr("alexnet.data.sources.detect.open_embedded", lambda: few)
    assert alexnet("demo", "--out", tmp_path / "demo", "--epochs", 1) == 0
    assert "note: the demo skips the pretrained network: no-such-weights does not exist" in capsys.readouterr().err
    page = (tmp_path / "demo" / "demo.html").read_text()
    assert "Grad-CAM" not in page
    assert "A network trained from nothing" in page


def test_kernels_are_counted_as_gray_and_colored():
    """Two gray gratings, and one blob whose red is opposed to its blue: all of its energy is color."""
    rows = np.repeat([1.0, 1.0, -1.0, -1.0], 4).reshape(4, 4)
    gray = np.stack([rows, rows, rows])
    blob = np.stack([np.ones((4, 4)), np.zeros((4, 4)), -np.ones((4, 4))])
    text = kernel_text(np.stack([gray, -gray, blob]).astype(np.float32))
    assert text.startswith("2 of 3 are nearly gray, as the edge detectors of the paper's Figure 3 are; 1 are mostly")
    noise = np.random.default_rng(0).standard_normal((48, 3, 7, 7)).astype(np.float32)
    assert kernel_text(noise).startswith("They still look random: neighboring weights correlate by ")
