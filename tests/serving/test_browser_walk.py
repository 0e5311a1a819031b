"""What the page of `alexnet export --to web` says of layers that only some networks have, and of rounded numbers."""

import io
import re

import numpy as np
import pytest
from PIL import Image

import requirements
from alexnet.serving.browser import network_file, page, runtime
from weight_files import narrow

pytestmark = pytest.mark.needs("onnx", "pip install 'alexnet[export]'")

TARBALL = runtime.cached_tarball()
"""Where `make test` puts onnxruntime-web. Read before a test changes the cache's folder."""


@pytest.fixture
def open_page(browser, tmp_path):
    """`open_page(saved)` writes a network's page and opens it. It must log nothing."""
    if not TARBALL.is_file():
        requirements.missing(f"onnxruntime-web is not in {TARBALL.parent}; `make test` downloads it, where there is a "
                             "network")
    context, said = browser.new_context(viewport={"width": 1200, "height": 900}), []

    def open_(saved, until="#result"):
        file = tmp_path / "page.html"
        page.write_browser_page(file, saved, network_file.make_network_file(saved), runtime.read_runtime(TARBALL))
        shown = context.new_page()
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.goto(file.as_uri())
        shown.locator(until).wait_for(timeout=120_000)
        return shown

    yield open_
    context.close()
    assert said == []


def choose(shown, layer):
    shown.locator(f"#strip [data-layer={layer}]").click()


def show_logits(shown, logits):
    """Show the last layer with these logits of seven classes; return each row's bar, in percent."""
    shown.evaluate("""(logits) => {
        const { outputs } = alexnet.walk.result, name = data.layers.at(-1).name;
        outputs[name] = { values: new Float32Array(logits), shape: [1, logits.length] };
    }""", logits)
    choose(shown, "fc8")
    bars = shown.locator("#logits tr").evaluate_all("rows => rows.map((row) => row.style.getPropertyValue('--share'))")
    return [float(bar.removesuffix("%")) for bar in bars]


def test_dropout_before_the_first_fully_connected_layer_shows_the_maps_as_one_vector(open_page):
    """torchvision's dropout6 reads 16 maps of 6x6: 576 units, 24 in a row. Unit 576 is the last one of the last map."""
    shown = open_page(narrow("torchvision", "output_init_std=0.3"))
    choose(shown, "dropout6")
    assert shown.evaluate("alexnet.outputOf(alexnet.layerIndex()).shape") == [1, 576]
    assert shown.inner_text("#map-caption").startswith("All 576 units, row by row; unit ")
    values = np.array(shown.evaluate("[...alexnet.outputOf(alexnet.layerIndex()).values]"))
    assert shown.evaluate("24 * alexnet.walk.row + alexnet.walk.column") == values.argmax()
    box = shown.locator("#map").bounding_box()
    shown.locator("#map").click(position={"x": box["width"] - 3, "y": box["height"] - 3})
    assert shown.inner_text("#map-caption") == "All 576 units, row by row; unit 576"
    shown.keyboard.press("ArrowUp")
    assert shown.inner_text("#map-caption") == "All 576 units, row by row; unit 552"
    choose(shown, "average_pool")
    assert shown.evaluate("alexnet.outputOf(alexnet.layerIndex()).shape") == [1, 16, 6, 6]
    choose(shown, "fc6")
    assert shown.inner_text("#field-caption") == "Each unit sees the whole input"
    assert [*map(float, show_logits(shown, [-5, -4, -3, -2, -1, -8, -9]))] == [100, 87.5, 75, 62.5, 50, 12.5, 0]
    assert show_logits(shown, [0, -1, -2, -4, -4, -4, -4]) == [100, 75, 50, 0, 0, 0, 0]
    assert show_logits(shown, [2] * 7) == [0] * 7


def test_each_activation_is_explained_as_what_it_is_and_a_unit_sees_what_floor_leaves(open_page):
    """caffe at 228x228: conv1, 11x11 with stride 4, has floor 54.25 + 1 = 55 rows, which see 54 * 4 + 11 = 227."""
    shown = open_page(narrow("caffe", "activation=tanh", "input.crop=228"))
    choose(shown, "tanh1")
    assert "hyperbolic tangent" in shown.inner_text("#layer-says")
    assert "Negative numbers" not in shown.inner_text("#layer-says")
    choose(shown, "fc6")
    assert shown.inner_text("#field-caption") == "Each unit sees 227×227 of the 228×228 pixels"
    choose(shown, "fc8")
    assert shown.inner_text("#field-caption") == "Each unit sees 227×227 of the 228×228 pixels"


@pytest.mark.parametrize(("activation", "words"), [
    ("relu", "Negative numbers become 0."), ("sigmoid", "Each number x becomes 1 / (1 + e to the power of −x)")])
def test_the_explanation_is_the_activations(open_page, activation, words):
    shown = open_page(narrow("cifar", f"activation={activation}"))
    choose(shown, f"{activation}1")
    assert shown.inner_text("#layer-says").startswith(words)
    assert re.match(r"max\(0, " if activation == "relu" else r"[−\d.]+ becomes ", shown.inner_text("#working"))


def test_a_broken_sample_is_no_broken_network(open_page, monkeypatch):
    """`%` is no base64. The network is loaded, and classifies the next image."""
    monkeypatch.setattr(page, "_samples", lambda saved: [
        {"title": "broken", "image": "data:image/jpeg;base64,%", "credit": ""}])
    shown, file = open_page(narrow("cifar"), until="#error:not([hidden])"), io.BytesIO()
    assert "cannot be loaded" not in shown.inner_text("#error")
    assert shown.inner_text("#error").startswith("Something went wrong: ")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(file, "PNG")
    shown.set_input_files("#file", {"name": "black.png", "mimeType": "image/png", "buffer": file.getvalue()})
    shown.locator("#result").wait_for()
    assert shown.locator("#error").is_hidden()
    shares = [1, 0.99996, 0.9995, 0.9994, 0.994, 0.99, 0.989, 0.5, 0.099, 0.0006, 0.0004, 0]
    assert shown.evaluate("(shares) => shares.map(percent)", shares) == [
        "100.0%", ">99.9%", ">99.9%", "99.9%", "99.4%", "99.0%", "99%", "50%", "9.9%", "0.1%", "<0.1%", "0.0%"]
