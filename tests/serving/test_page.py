"""Claims about the served page, in a real browser: every way in, answers and errors in words, two widths, no other
host."""

import time

import numpy as np
import pytest
from PIL import Image

from alexnet.inference.predictor import load
from alexnet.serving import explanations
from alexnet.serving.app import Service
from alexnet.serving.middleware import names_of
from alexnet.serving.uploads import Intake
from conftest import draw
from inprocess import encoded, served

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(trained):
    return load(trained)


@pytest.fixture(scope="module")
def server(model, packed):
    reference_set = explanations.ReferenceSet.of(model, packed)
    with served(Service(model, metrics={"top1_error": 0.25, "photographs": 1200}, reference_set=reference_set,
                        samples=explanations.samples(packed), hosts=names_of("127.0.0.1"))) as one:
        yield one


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "stripes.png"
    path.write_bytes(encoded(draw(np.random.default_rng(1), 2, 200)))
    return path


@pytest.fixture
def opened(browser):
    """`opened(server, width=...)` opens its page; by the end it must have asked no other host, and complained of no
    more than the answers that a test provoked."""
    pages = []

    def open_(server, width=1200, scheme="light", part="", **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        page = context.new_page()
        page.asked, page.said = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.goto(server.url + part)
        pages.append((page, server))
        return page

    yield open_
    for page, server in pages:
        assert [url for url in page.asked if not url.startswith((server.url, "data:", "blob:"))] == []
        assert [words for words in page.said if not words.startswith("Failed to load resource: the server")] == []
        page.context.close()


def answered(page):
    page.wait_for_selector("#conv1:not([hidden])")
    assert page.locator("#problem").is_hidden()
    return page.locator("#bars li").all_inner_texts()


def test_a_chosen_file_is_named_and_explained(opened, server, photo, model):
    page = opened(server)
    page.set_input_files("#file", photo)
    bars = answered(page)
    _, _, said = server.predict(photo.read_bytes(), "?top=4")
    assert [bar.split("\n") for bar in bars] == [
        [one["name"], f"{100 * one['probability']:.1f}%"] for one in said["photos"][0]["classes"]]
    assert page.inner_text("#verdict") == said["photos"][0]["classes"][0]["name"]
    assert page.inner_text("#sure") == bars[0].split("\n")[1]
    assert page.inner_text("#whose") == "stripes.png"
    # The image itself is shown, as far as the network sees it, and beside it what the network gets of it.
    assert page.locator("#view").evaluate("image => image.naturalWidth") == 200
    assert page.locator("#view").evaluate("image => image.style.getPropertyValue('--zoom')") == str(32 / 28)
    assert "28 × 28 pixels" in page.inner_text("#small-text")
    assert page.locator("#near-list li").count() == 6
    assert page.evaluate("document.activeElement.id") == "result"
    for picture in ("#view", "#cam", "#conv1-maps", "#near-list img >> nth=5"):
        assert page.locator(picture).evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    other = page.locator("#bars button").nth(3)
    name = other.locator(".name").inner_text()
    before = page.get_attribute("#cam", "src")
    other.click()
    page.wait_for_selector("#bars li:nth-child(4) button[aria-pressed=true]")
    assert f"speaks for {name}, " in page.inner_text("#cam-text")
    assert page.get_attribute("#cam", "src") != before
    page.locator("#opacity").fill("0")
    assert page.locator("#cam").evaluate("image => image.style.opacity") == "0"


def test_a_sample_is_clicked_and_its_class_is_marked(opened, server):
    page = opened(server)
    page.wait_for_selector("#samples img")
    assert "took 25.0% of its 1,200 validation images for another." in page.inner_text("#about")
    label = page.locator("#samples li").nth(4).inner_text()
    page.locator("#samples button").nth(4).click()
    answered(page)
    assert page.locator("#bars .is-true .name").inner_text() == label
    assert page.inner_text("#hint").startswith(f"Blue: its true class, {label}.")


def give(page, kind, data):
    """A picture by the clipboard or dropped."""
    page.evaluate("""([kind, bytes]) => {
        const carried = new DataTransfer();
        if (bytes) carried.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
        document.body.dispatchEvent(kind === "paste"
            ? new ClipboardEvent("paste", { clipboardData: carried, bubbles: true })
            : new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true }));
    }""", [kind, list(data) if data else None])


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_picture_is_pasted_or_dropped(opened, server, photo, way):
    page = opened(server)
    page.wait_for_selector("#samples img")
    if way == "drop":
        give(page, "dragenter", photo.read_bytes())
        assert page.locator("#drop.over").count() == 1
    give(page, way, photo.read_bytes())
    assert len(answered(page)) == 4
    assert page.locator("#drop.over").count() == 0
    give(page, way, None)
    assert page.inner_text("#problem") == {
        "paste": "There is no picture in the clipboard; copy one, not its address.",
        "drop": "What was dropped is no file; save the picture first, or copy and paste it."}[way]


def test_with_the_keyboard_alone(opened, server):
    page = opened(server)
    page.wait_for_selector("#samples img")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    page.keyboard.press("Tab")  # and not to a camera that is not there
    assert page.evaluate("document.activeElement.closest('#samples') !== null")
    while page.evaluate("!document.activeElement.closest('#samples')"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    answered(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "opacity"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#bars') !== null")
    page.locator("#skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "result"


def test_many_images_at_once_each_with_its_answer(opened, server, photo, tmp_path):
    broken, other = tmp_path / "broken.jpg", tmp_path / "other.png"
    broken.write_bytes(b"no image")
    other.write_bytes(encoded(draw(np.random.default_rng(5), 1, 100)))
    page = opened(server)
    page.set_input_files("#file", [broken, photo, other])
    page.wait_for_selector("#conv1:not([hidden])")
    assert page.inner_text("#problem").startswith("broken.jpg cannot be decoded: it begins with b'no image'")
    shown = page.locator("#many li").all_inner_texts()
    assert [text.split("\n")[-2] for text in shown] == ["broken.jpg", "stripes.png", "other.png"]
    assert "cannot be read" in shown[0]
    with page.expect_download() as download:
        page.locator("#csv").click()
    saved = download.value.path().read_bytes().decode().split("\r\n")
    assert saved[0] == "photo,rank,class,probability"
    assert [row.split(",")[:2] for row in saved[1:-1]] == [
        [name, str(rank)] for name in ("stripes.png", "other.png") for rank in (1, 2, 3, 4)]
    page.locator("#many button").nth(1).click()
    page.wait_for_selector("#many li:nth-child(3)[aria-current=true]")
    assert page.inner_text("#verdict") == shown[2].split("\n")[-1].split(",")[0]


def test_a_broken_file_is_an_error_in_words(opened, server, tmp_path):
    page = opened(server)
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    page.set_input_files("#file", tmp_path / "page.jpg")
    page.wait_for_selector("#problem:not([hidden])")
    assert "cannot be decoded: it begins with b'<html>'" in page.inner_text("#problem")
    assert page.locator("#result").is_hidden()


def test_a_picture_that_is_too_large_never_leaves_the_page_and_many_go_in_turn(opened, model, photo, tmp_path):
    size, large = photo.stat().st_size, tmp_path / "large.png"
    large.write_bytes(photo.read_bytes() + bytes(2 * size))
    with served(Service(model, intake=Intake(body=2 * size), samples=explanations.samples(None))) as one:
        page = opened(one)
        page.wait_for_selector("#samples img")
        page.set_input_files("#file", large)
        page.wait_for_selector("#problem:not([hidden])")
        assert page.inner_text("#problem").startswith("large.png has 0.")
        assert "that this server takes; send a smaller copy." in page.inner_text("#problem")
        assert not [url for url in page.asked if url.endswith("/predict")]
        page.set_input_files("#file", [photo, large, photo, photo])
        page.wait_for_selector("#conv1:not([hidden])")
        assert len([url for url in page.asked if url.endswith("/predict")]) == 3  # a form has more than its files
        assert [text.split("\n")[-1].split(",")[0] for text in page.locator("#many li").all_inner_texts()] == [
            page.inner_text("#verdict"), "cannot be read", *[page.inner_text("#verdict")] * 2]


def test_a_problem_is_not_shown_over_an_old_answer(opened, server, photo, tmp_path):
    page = opened(server)
    page.set_input_files("#file", photo)
    answered(page)
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    page.set_input_files("#file", tmp_path / "page.jpg")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.locator("#result").is_hidden()


def test_what_a_browser_cannot_show_is_shown_as_the_network_gets_it(opened, server, photo, tmp_path):
    page = opened(server)
    Image.open(photo).save(tmp_path / "scan.tiff")
    page.set_input_files("#file", tmp_path / "scan.tiff")
    answered(page)
    page.locator("#view[src^='data:image/png']").wait_for()


@pytest.mark.slow
def test_a_slow_server_is_waited_for_in_words_and_a_dead_one_named(opened, model, photo):
    service = Service(model, samples=explanations.samples(None))
    answer = service.gatherer.answer
    with served(service) as one:
        page = opened(one)
        page.wait_for_selector("#samples img")
        service.gatherer.answer = lambda *call: (time.sleep(3.2), answer(*call))[1]
        page.set_input_files("#file", photo)
        page.locator("#status", has_text=" s so far.").wait_for()
        assert page.inner_text("#status").startswith("Asking the network about the image.")
        answered(page)
        assert page.inner_text("#status") == ""
    page.set_input_files("#file", photo)
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem") == "The server cannot be reached. Is it still running?"
    page.said.clear()  # the browser says so too


@pytest.mark.slow
def test_a_late_answer_does_not_replace_a_newer_one(opened, model, photo):
    service = Service(model, samples=explanations.samples(None))
    answer, slow = service.gatherer.answer, [1.5]
    with served(service) as one:
        service.gatherer.answer = lambda *call: (time.sleep(slow.pop() if slow else 0), answer(*call))[1]
        page = opened(one)
        page.wait_for_selector("#samples img")
        page.set_input_files("#file", photo)
        page.locator("#samples button").nth(1).click()
        answered(page)
        page.wait_for_timeout(500)
        assert "evening" in page.get_attribute("#view", "alt") or page.locator("#bars li").count() == 4
        assert [url.split("/")[-1] for url in page.asked].count("look") == 1


def test_a_token_is_asked_for_or_taken_from_the_address(opened, model, photo):
    with served(Service(model, token="secret", samples=explanations.samples(None))) as one:
        page = opened(one)
        page.wait_for_selector("#entry:not([hidden])")
        assert page.locator("#problem").is_hidden()
        assert page.locator("#drop").is_hidden()
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.locator("#problem", has_text="That is not the server's token.").wait_for()
        page.fill("#token", "secret")
        page.keyboard.press("Enter")
        page.wait_for_selector("#samples img")
        assert page.locator("#entry").is_hidden()
        page = opened(one, part="#token=secret")
        page.wait_for_selector("#samples img")
        assert page.url == one.url
        page.set_input_files("#file", photo)
        assert len(answered(page)) == 4


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light"), (360, "dark")])
def test_nothing_is_wider_than_the_window_and_text_stands_out(opened, server, photo, width, scheme):
    page = opened(server, width=width, scheme=scheme, has_touch=width < 400)
    page.set_input_files("#file", photo)
    answered(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#image").is_visible() == (width < 400)
    paper, ink = page.evaluate("[getComputedStyle(document.documentElement).backgroundColor, "
                               "getComputedStyle(document.body).color]")
    light = [sum(map(int, color[4:-1].split(","))) / 765 for color in (paper, ink)]
    assert abs(light[0] - light[1]) > 0.7
    assert (light[0] < 0.5) == (scheme == "dark")
    first = page.locator("#verdict").bounding_box()["y"] < page.locator("#view").bounding_box()["y"]
    assert first == (width < 400)  # on a telephone the answer comes before the picture
