"""The explorer page computes what arithmetic.py computes, for presets and random networks, and makes no requests."""

import json
import re

import numpy as np
import pytest

from alexnet.architecture import explorer
from alexnet.architecture.arithmetic import explain, output_size, pooled_size, smallest_input
from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.overrides import override, to_json
from alexnet.architecture.spec import Arch
from command_line import alexnet as command
from random_networks import random_arch


class Watched:
    """A page in the browser, with its requests and console messages."""

    def __init__(self, browser, path, width=1200, scheme="light", part=""):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.asked, self.said = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(f"file://{path}{part}")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "paper.html"
    explorer.write(path, ARCHS["paper"])
    return path


@pytest.fixture
def opened(browser, file):
    """`opened(width=...)` opens the page. It must make no requests and log no errors."""
    pages = []

    def open_(**options):
        pages.append(Watched(browser, file, **options))
        return pages[-1].page

    yield open_
    for watched in pages:
        assert [url.split("#")[0] for url in watched.asked] == [f"file://{file}"]
        assert watched.said == []
        watched.context.close()


LAYER = ("name", "kind", "input", "output", "kernel", "stride", "padding", "groups", "dilation", "formula", "worked",
         "parameters", "parameters_worked", "multiply_adds", "receptive_field", "receptive_field_with_padding",
         "receptive_field_worked", "jump", "neurons", "activation_bytes", "notes")
TOTALS = ("parameters", "multiply_adds", "activation_bytes", "smallest_input")


def from_python(arch: Arch, size: int):
    """The result of arithmetic.py, restricted to the fields that the page has too."""
    if size < smallest_input(arch):
        return {"too_small": smallest_input(arch), "layers": []}
    tree = explain(arch, size).to_json()
    return {"layers": [{key: layer[key] for key in LAYER} for layer in tree["layers"]], **{
        key: tree[key] for key in TOTALS}}


def from_page(page, cases):
    """The result of the page's arithmetic for each (network, size), in one call."""
    said = page.evaluate("""(cases) => cases.map(([arch, size]) => window.alexnet.explain(arch, size))""", [
        [to_json(arch), size] for arch, size in cases])
    return [{"too_small": one["too_small"], "layers": []} if "too_small" in one else {
        "layers": [{key: layer[key] for key in LAYER} for layer in one["layers"]],
        **{key: one[key] for key in TOTALS}} for one in said]


@pytest.mark.parametrize("networks", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_page_and_python_agree_on_random_networks(opened, networks):
    rng = np.random.default_rng(1404)
    cases = []
    for _ in range(networks):
        arch = random_arch(rng)
        cases.append((arch, max(1, smallest_input(arch) + int(rng.integers(-12, 80)))))
    expected = [from_python(*case) for case in cases]
    for case, mine, yours in zip(cases, expected, from_page(opened(), cases), strict=True):
        assert yours == mine, case
    assert sum("too_small" in one for one in expected) > networks / 50
    assert sum(any(layer["dilation"] > 1 for layer in one["layers"]) for one in expected) > networks * 0.3


def test_page_and_python_agree_on_every_preset_at_many_sizes(opened):
    cases = [(arch, size) for arch in ARCHS.values() for size in (1, 28, 56, 63, 64, 127, 224, 227, 231, 512)]
    assert from_page(opened(), cases) == [from_python(*case) for case in cases]


def test_page_and_python_agree_on_output_sizes_for_every_small_case(opened):
    cases = [(side + 1, kernel + 1, stride + 1, padding) for side, kernel, stride, padding in np.ndindex(12, 6, 4, 4)]
    for rounding in ("floor", "ceil"):
        said = opened().evaluate("""([cases, rounding]) => cases.map(([side, kernel, stride, padding]) => [
            alexnet.outputSize(side, kernel, stride, padding, rounding),
            alexnet.pooledSize(side, kernel, stride, rounding)])""", [cases, rounding])
        assert said == [[output_size(*case, rounding), pooled_size(*case[:3], rounding)] for case in cases]


# --- User interaction -------------------------------------------------------------------------------------------------


def test_the_page_opens_with_the_arithmetic_of_55(opened):
    page = opened()
    assert page.inner_text("#panel-title") == "conv1"
    assert "(224 − 11)/4 + 1 = 54.25, ceil 55" in page.inner_text("#sum")
    assert page.inner_text("#totals").startswith("60,965,224 parameters")
    assert "needs 3 columns of zeros beyond the edge" in page.inner_text("#edge-caption")


def test_a_number_changed_by_keyboard_changes_all_later_sizes(opened):
    page = opened()
    page.keyboard.press("Tab")
    for _ in range(60):
        if page.evaluate("document.activeElement.dataset.path") == "conv1.stride":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.dataset.path") == "conv1.stride"  # the focus stays
    expected = explain(override(ARCHS["paper"], ["conv1.stride=5"]))
    shapes = page.locator("#layers .shape").all_inner_texts()
    assert shapes[0] == "2 × 48×44×44"
    assert len(shapes) == len(expected.layers)
    assert page.inner_text("#totals").startswith(f"{expected.parameters:,} parameters")
    assert page.locator("input.is-changed").count() == 1
    page.click("#reset")
    assert page.locator("#layers .shape").all_inner_texts()[0] == "2 × 48×55×55"


def test_an_invalid_network_is_explained_and_a_valid_number_fixes_it(opened):
    page = opened()
    page.fill("#size", "20")
    assert "An input of 20 pixels is too small for these layers, which need 36 or more" in page.inner_text("#totals")
    page.fill("#size", "36")
    assert "too small" not in page.inner_text("#totals")
    page.fill("#towers", "5")
    assert "conv2 splits 256 maps over 5 towers" in page.inner_text("#totals")


@pytest.mark.parametrize(("field", "value", "says"), [
    ("#size", "10", "An input of 10 pixels is too small"), ("#towers", "3", "conv2 splits 256 maps over 3 towers")])
def test_an_invalid_network_shows_no_sizes_and_can_be_fixed_layer_by_layer(opened, field, value, says):
    page = opened()
    page.fill(field, value)
    assert set(page.locator("#layers .shape").all_inner_texts()) == {"–"}
    assert not "".join(page.locator("#layers :is(.count, .worked)").all_inner_texts()).strip()
    page.click("#layers [data-layer=conv2]")
    panel = page.inner_text("#panel")
    assert says in panel
    assert not re.search(r"\d×\d|parameters|memory", panel)
    assert not page.is_visible("#stage")
    again = opened(part=page.evaluate("location.hash"))
    assert again.locator("#layers .shape").count() == len(explain(ARCHS["paper"]).layers)
    if field == "#towers":
        for conv in (1, 2, 4, 5):
            page.click(f"#layers [data-layer=conv{conv}]")
            page.fill(f"[data-path='conv{conv}.width']", "192")
        assert page.locator("#layers .shape").all_inner_texts()[0] == "3 × 64×55×55"


@pytest.mark.parametrize(("field", "name", "was", "most"), [
    ("#size", "the input", "224", "2,000"), ("#towers", "towers", "2", "16"),
    ("[data-path='conv1.kernel']", "kernel size", "11", "20,000")])
def test_a_rejected_number_is_explained_and_the_old_one_stays(opened, field, name, was, most):
    page = opened()
    before = page.inner_text("#layers")
    for typed in ("0", "-5", "99999", "1.5", ""):
        page.focus(field)
        page.keyboard.press("Control+A")
        page.keyboard.press("Delete")
        page.keyboard.type(typed)
        page.keyboard.press("Tab")
        why = f"{typed} is not a whole number from 1 to {most}" if typed else "Nothing was entered"
        assert f"{why}, so {name} stays {was}." in page.locator(".refused").all_inner_texts()
        assert page.input_value(field) == was
        assert page.inner_text("#layers") == before
    page.fill(field, was)
    assert set(page.locator(".refused").all_inner_texts()) == {""}


@pytest.mark.parametrize("name", ["norm1", "relu1", "dropout6"])
def test_the_panel_of_a_layer_without_sizes_shows_its_formula(opened, name):
    page = opened()
    page.click(f"#layers [data-layer={name}]")
    said = page.inner_text("#panel")
    assert {"norm1": "a / (2 + 0.0001 · Σa²)0.75", "relu1": "max(0, x)", "dropout6": "probability 0.5"}[name] in said
    if name == "norm1":
        assert "summed over 5 neighboring maps of the same tower (§3.3)" in said


def test_the_kernel_slides_by_button_and_arrow_key_and_stops_at_the_end(opened):
    page = opened()
    page.click("#layers [data-layer=conv3]")
    page.focus("#stage")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    assert page.inner_text("#output-caption") == "Unit 1, 1 of 13×13"
    assert page.inner_text("#input-caption").startswith("Kernel at rows 0 to 2, columns 0 to 2 of 13×13")
    layer = next(each for each in explain(ARCHS["paper"]).layers if each.name == "conv3")
    assert layer.receptive_field == 99
    page.click("#first")
    assert page.inner_text("#input-caption").startswith("Kernel at rows -1 to 1")
    page.click("#back")
    assert page.inner_text("#output-caption").startswith("Unit 0, 0")
    page.click("#play")
    page.locator("#output-caption", has_text=re.compile("Unit (0, [3-9]|[1-9])")).wait_for()
    page.click("#play")
    assert page.get_attribute("#play", "aria-pressed") == "false"


def test_the_page_address_restores_the_same_numbers(opened):
    page = opened()
    page.click("#layers [data-layer=conv2]")
    page.fill("[data-path='conv2.dilation']", "2")
    page.fill("#size", "230")
    part = page.evaluate("location.hash")
    again = opened(part=part)
    assert again.inner_text("#sum") == page.inner_text("#sum")
    assert "(2·(5 − 1) + 1)" in again.inner_text("#sum")
    hostile = opened(part="#arch=__proto__&size=-4&conv99.kernel=3&conv1.kernel=0&layer=<b>&conv1.then=9&towers=x")
    assert hostile.inner_text("#totals").startswith("60,965,224 parameters")


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_wider_than_the_window(opened, width):
    page = opened(width=width)
    for layer in ("conv1", "conv2", "pool1", "fc6"):
        page.click(f"#layers [data-layer={layer}]")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.is_visible("#panel-title")


@pytest.mark.parametrize("width", [390, 1200])
def test_the_three_drawings_are_side_by_side_and_the_numbers_are_legible(opened, width):
    page = opened(width=width)
    for layer in ("conv1", "conv2", "pool1", "conv3"):
        page.click(f"#layers [data-layer={layer}]")
        tops = page.evaluate("[...document.querySelectorAll('.stage svg')].map((one) => one.getBoundingClientRect().y)")
        assert len(set(tops)) == 1
        heights = page.evaluate("[...document.querySelectorAll('#edge text')].map((one) => "
                                "one.getBoundingClientRect().height)")
        assert min(heights) >= 9


def test_the_fields_stand_on_one_line(opened):
    page = opened()
    boxes = [field.bounding_box() for field in page.locator("#network :is(select, input)").all()]
    assert len({(box["y"], box["height"]) for box in boxes}) == 1


def test_every_field_has_a_label_and_the_page_has_a_dark_theme(opened):
    light, dark = (opened(scheme=scheme).evaluate("getComputedStyle(document.documentElement).backgroundColor")
                   for scheme in ("light", "dark"))
    assert light != dark
    page = opened()
    labels = page.evaluate("[...document.querySelectorAll('input, select')].map((one) => one.labels.length)")
    assert labels == [1] * len(labels) != []


# --- The command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_the_network_as_set(browser, tmp_path, capsys):
    path = tmp_path / "pages" / "mine.html"
    assert command("explain", "small", "--set", "arch.conv2.kernel=5", "--size", "60", "--html", path) == 0
    assert capsys.readouterr().out.strip() == str(path)
    watched = Watched(browser, path)
    assert watched.page.input_value("#preset") == "small, as set"
    assert watched.page.input_value("#size") == "60"
    said = watched.page.locator("#layers .worked").all_inner_texts()[2]
    mine = override(ARCHS["small"], ["conv2.kernel=5"])
    worked = [layer.worked for layer in explain(mine, 60).layers if layer.worked]
    assert said == worked[2].replace(" - ", " − ").replace("*", "·")
    watched.context.close()


@pytest.mark.parametrize(("words", "sentence"), [
    (["--size", "20"], "an input of 20 pixels is too small for paper"), (["--layer", "conv1"], "leave out --layer"),
    (["--json"], "leave out --layer and --json"), (["--diff", "caffe"], "leave out --size, --layer and --html")])
def test_a_users_mistake_prints_one_sentence_and_writes_nothing(tmp_path, capsys, words, sentence):
    assert command("explain", "paper", "--html", tmp_path / "page.html", *words) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_network_name_cannot_close_the_script_element():
    hostile = override(ARCHS["small"], ["conv1.kernel=3"])
    text = explorer.page(type(hostile)(**{**hostile.__dict__, "name": "</script><b>"}))
    inside = text.split('id="data">')[1].split("</script>")[0]
    assert json.loads(inside)["name"] == "</script><b>, as set"
