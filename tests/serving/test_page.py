"""The page in a real browser: inputs, results, errors, widths and color schemes; it sends requests to no other host."""

import time

import numpy as np
import pytest
from PIL import Image

from alexnet.inference.predictor import load
from alexnet.serving.limits import Limits
from alexnet.serving.samples import sample_images
from alexnet.serving.served_model import ServedModel
from alexnet.serving.service import Service
from inprocess import encoded, full_service, served
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(trained):
    return load(trained)


@pytest.fixture(scope="module")
def client(model, packed):
    with served(full_service(model, packed)) as client:
        yield client


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "stripes.png"
    path.write_bytes(encoded(draw(np.random.default_rng(1), 2, 200)))
    return path


@pytest.fixture
def open_page(browser):
    """`open_page(client, width=...)` opens the page. At the end it must have sent no request to another host, and its
    console must be empty except for the HTTP errors that a test caused."""
    pages = []

    def open_(client, width=1200, scheme="light", part="", **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        page = context.new_page()
        page.urls, page.messages = [], []
        page.on("request", lambda request: page.urls.append(request.url))
        page.on("console", lambda message: page.messages.append(message.text))
        page.on("pageerror", lambda error: page.messages.append(str(error)))
        page.goto(client.url + part)
        pages.append((page, client))
        return page

    yield open_
    for page, client in pages:
        assert [url for url in page.urls if not url.startswith((client.url, "data:", "blob:"))] == []
        assert [text for text in page.messages if not text.startswith("Failed to load resource: the server")] == []
        page.context.close()


def wait_for_result(page):
    """Wait for the explanation; return the text of each class."""
    page.wait_for_selector("#conv1:not([hidden])")
    assert page.locator("#error").is_hidden()
    return page.locator("#classes li").all_inner_texts()


def boxes(page, *selectors):
    """Positions and sizes of elements, all at one moment: the page may still be scrolling smoothly."""
    return page.evaluate("""selectors => selectors.map(selector => {
        const {x, y, width, height} = document.querySelector(selector).getBoundingClientRect();
        return {x, y, width, height};
    })""", selectors)


def wait_for_error(page):
    page.wait_for_selector("#error:not([hidden])")
    return page.inner_text("#error")


# --- Results ----------------------------------------------------------------------------------------------------------


def test_a_chosen_file_is_classified_and_explained(open_page, client, file):
    page = open_page(client)
    page.set_input_files("#file", file)
    shown = wait_for_result(page)
    _, _, response = client.predict(file.read_bytes(), "?top=4")
    expected = response["images"][0]["classes"]
    assert [text.split("\n") for text in shown] == [
        [found["name"], f"{100 * found['probability']:.1f}%"] for found in expected]
    assert page.inner_text("#top-class") == expected[0]["name"]
    assert page.inner_text("#top-probability") == shown[0].split("\n")[1]
    assert page.inner_text("#file-name") == "stripes.png"
    # The page shows the image itself, and the network's input below it.
    assert page.locator("#view").evaluate("image => image.naturalWidth") == 200
    assert "28\u00a0×\u00a028 pixels" in page.inner_text("#input-text")
    assert page.locator("#neighbor-list li").count() == 6
    assert page.evaluate("document.activeElement.id") == "result"
    for selector in ("#view", "#cam", "#conv1-maps", "#neighbor-list img >> nth=5"):
        assert page.locator(selector).evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


@pytest.mark.parametrize(("width", "size"), [(1200, (600, 300)), (1200, (200, 500)), (390, (600, 300))])
def test_the_photo_is_large_with_the_networks_square_in_it_and_grad_cam_over_that(
    open_page, client, tmp_path, width, size,
):
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[..., 0] = 200
    (tmp_path / "red.png").write_bytes(encoded(pixels))
    page = open_page(client, width=width)
    page.set_input_files("#file", tmp_path / "red.png")
    wait_for_result(page)
    photo, square, map_ = boxes(page, "#view", "#seen", "#cam")
    assert photo["width"] / photo["height"] == pytest.approx(size[0] / size[1], rel=0.01)
    assert max(photo["width"], photo["height"]) > (500 if width > 1000 else 340)
    shorter = min(photo["width"], photo["height"]) * 28 / 32  # the center crop of the network's 32 pixels
    assert (square["width"], square["height"]) == pytest.approx((shorter, shorter), abs=1)
    for corner, side in (("x", "width"), ("y", "height")):
        assert square[corner] + square[side] / 2 == pytest.approx(photo[corner] + photo[side] / 2, abs=1)
    assert list(map_.values()) == pytest.approx(list(square.values()), abs=1)
    legend = page.locator(".legend .heat").evaluate("element => getComputedStyle(element).backgroundImage")
    assert "rgba(253, 231, 37, 0.8)" in legend  # the strongest effect, in viridis
    assert page.locator(".legend .heat").bounding_box()["width"] > 100


def test_another_class_is_selected_and_the_map_fades(open_page, client, file):
    page = open_page(client)
    page.set_input_files("#file", file)
    wait_for_result(page)
    last = page.locator("#classes button").nth(3)
    name = last.locator(".name").inner_text()
    before = page.get_attribute("#cam", "src")
    last.click()
    page.wait_for_selector("#classes li:nth-child(4) button[aria-pressed=true]")
    assert f"raise the score of {name} " in page.inner_text("#cam-text")
    assert page.get_attribute("#cam", "src") != before
    page.locator("#opacity").fill("0")
    assert page.locator("#cam").evaluate("image => image.style.opacity") == "0"


def test_the_true_class_of_a_sample_is_marked(open_page, client):
    page = open_page(client)
    page.wait_for_selector("#samples img")
    assert page.inner_text("#about") == "Network small, 4 classes, top-1 error 25.0% on 1,200 validation images."
    label = page.locator("#samples li").nth(4).inner_text()
    page.locator("#samples button").nth(4).click()
    wait_for_result(page)
    assert page.locator("#classes .is-true .name").inner_text() == label
    assert page.inner_text("#hint").startswith(f"Blue: the true class, {label}.")


def test_a_training_image_is_found_as_the_same_image(open_page, client, packed, tmp_path):
    (tmp_path / "mine.png").write_bytes(encoded(packed.split("train").read_one(7)))
    page = open_page(client)
    page.set_input_files("#file", tmp_path / "mine.png")
    wait_for_result(page)
    notes = page.locator("#neighbor-list .quiet").all_inner_texts()
    assert notes.count("the same image") == 1
    assert notes[0] == "the same image"
    assert all(float(note.split(",")[0]) > 0 for note in notes[1:])


def test_many_images_each_with_its_result(open_page, client, file, tmp_path):
    broken, other = tmp_path / "broken.jpg", tmp_path / "other.png"
    broken.write_bytes(b"no image")
    other.write_bytes(encoded(draw(np.random.default_rng(5), 1, 100)))
    page = open_page(client)
    page.set_input_files("#file", [broken, file, other])
    page.wait_for_selector("#conv1:not([hidden])")
    assert page.inner_text("#error").startswith("broken.jpg cannot be decoded: it begins with 'no image'")
    shown = page.locator("#batch-list li").all_inner_texts()
    assert [text.split("\n")[-2] for text in shown] == ["broken.jpg", "stripes.png", "other.png"]
    assert "cannot be decoded" in shown[0]
    with page.expect_download() as download:
        page.locator("#csv").click()
    rows = download.value.path().read_bytes().decode().split("\r\n")
    assert rows[0] == "image,rank,class,probability,sure"
    assert {row.rsplit(",", 1)[1] for row in rows[1:-1]} == {""}, "the network is not calibrated"
    assert [row.split(",")[:2] for row in rows[1:-1]] == [
        [name, str(rank)] for name in ("stripes.png", "other.png") for rank in (1, 2, 3, 4)]
    page.locator("#batch-list button").nth(1).click()
    page.wait_for_selector("#batch-list li:nth-child(3)[aria-current=true]")
    assert page.inner_text("#top-class") == shown[2].split("\n")[-1].split(",")[0]


def test_an_image_that_browsers_cannot_show_is_shown_as_network_input(open_page, client, file, tmp_path):
    page = open_page(client)
    Image.open(file).save(tmp_path / "scan.tiff")
    page.set_input_files("#file", tmp_path / "scan.tiff")
    wait_for_result(page)
    page.locator("#view[src^='data:image/png']").wait_for()
    assert page.inner_text("#input-text").startswith("This browser cannot show the file")
    page.wait_for_function("document.getElementById('frame').style.getPropertyValue('--aspect') === '1'")
    square, photo = boxes(page, "#seen", "#view")
    assert square == photo


# --- Inputs -----------------------------------------------------------------------------------------------------------


def send_event(page, kind, data):
    """Paste or drop a file, or nothing."""
    page.evaluate("""([kind, bytes]) => {
        const transfer = new DataTransfer();
        if (bytes) transfer.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
        document.body.dispatchEvent(kind === "paste"
            ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
            : new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }""", [kind, list(data) if data else None])


@pytest.mark.parametrize(("kind", "error"), [
    ("paste", "The clipboard has no image. Copy the image, not its address."),
    ("drop", "The dropped item is not a file. Save the image first, or copy and paste it.")])
def test_an_image_is_pasted_or_dropped(open_page, client, file, kind, error):
    page = open_page(client)
    page.wait_for_selector("#samples img")
    if kind == "drop":
        send_event(page, "dragenter", file.read_bytes())
        assert page.locator("#drop.over").count() == 1
    send_event(page, kind, file.read_bytes())
    assert len(wait_for_result(page)) == 4
    assert page.locator("#drop.over").count() == 0
    send_event(page, kind, None)
    assert page.inner_text("#error") == error


def test_the_page_works_with_the_keyboard_alone(open_page, client):
    page = open_page(client)
    page.wait_for_selector("#samples img")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    page.keyboard.press("Tab")  # the hidden camera input is skipped
    assert page.evaluate("document.activeElement.closest('#samples') !== null")
    page.keyboard.press("Enter")
    wait_for_result(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "opacity"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#classes') !== null")
    page.locator("#skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "result"


def test_the_token_is_entered_or_taken_from_the_url(open_page, model, file):
    with served(Service([ServedModel(model, samples=sample_images(None))], token="secret")) as client:
        page = open_page(client)
        page.wait_for_selector("#token-form:not([hidden])")
        assert page.locator("#error").is_hidden()
        assert page.locator("#drop").is_hidden()
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.locator("#error", has_text="The token is wrong.").wait_for()
        page.fill("#token", "secret")
        page.keyboard.press("Enter")
        page.wait_for_selector("#samples img")
        assert page.locator("#token-form").is_hidden()
        page = open_page(client, part="#token=secret")
        page.wait_for_selector("#samples img")
        assert page.url == client.url
        page.set_input_files("#file", file)
        assert len(wait_for_result(page)) == 4


# --- Errors -----------------------------------------------------------------------------------------------------------


def test_the_error_for_a_broken_file_has_problem_and_remedy(open_page, client, tmp_path):
    page = open_page(client)
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    page.set_input_files("#file", tmp_path / "page.jpg")
    error = wait_for_error(page)
    assert error.startswith("page.jpg cannot be decoded: it begins with '<html>'")
    assert error.endswith(". Send another image.")
    assert page.locator("#result").is_hidden()


def test_a_large_image_is_not_sent_and_many_go_in_several_requests(open_page, model, file, tmp_path):
    size, large = file.stat().st_size, tmp_path / "large.png"
    large.write_bytes(file.read_bytes() + bytes(2 * size))
    service = Service([ServedModel(model, samples=sample_images(None))], limits=Limits(body_bytes=2 * size))
    with served(service) as client:
        page = open_page(client)
        page.wait_for_selector("#samples img")
        page.set_input_files("#file", large)
        error = wait_for_error(page)
        assert error.startswith("large.png has 0.")
        assert error.endswith("that this server accepts. Send a smaller copy.")
        assert not [url for url in page.urls if url.endswith("/predict")]
        page.set_input_files("#file", [file, large, file, file])
        page.wait_for_selector("#conv1:not([hidden])")
        # One file in each: a form with two is larger than two files.
        assert len([url for url in page.urls if url.endswith("/predict")]) == 3
        assert [text.split("\n")[-1].split(",")[0] for text in page.locator("#batch-list li").all_inner_texts()] == [
            page.inner_text("#top-class"), "large.png has 0.3 MB", *[page.inner_text("#top-class")] * 2]


def test_an_error_hides_the_previous_result(open_page, client, file, tmp_path):
    page = open_page(client)
    page.set_input_files("#file", file)
    wait_for_result(page)
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    page.set_input_files("#file", tmp_path / "page.jpg")
    wait_for_error(page)
    assert page.locator("#result").is_hidden()


@pytest.mark.slow
def test_the_status_shows_the_elapsed_time_and_a_stopped_server_is_an_error(open_page, model, file):
    service = Service([ServedModel(model, samples=sample_images(None))])
    forward = service.batcher.forward
    with served(service) as client:
        page = open_page(client)
        page.wait_for_selector("#samples img")
        service.batcher.forward = lambda *arguments: (time.sleep(3.2), forward(*arguments))[1]
        page.set_input_files("#file", file)
        page.locator("#status", has_text=" s.").wait_for()
        assert page.inner_text("#status").startswith("Classifying the image.")
        wait_for_result(page)
        assert page.inner_text("#status") == ""
    page.set_input_files("#file", file)
    assert wait_for_error(page) == "The server cannot be reached. Check that it is running."
    page.messages.clear()  # of the browser, about the failed request


@pytest.mark.slow
def test_a_late_response_does_not_replace_a_newer_one(open_page, model, file):
    service = Service([ServedModel(model, samples=sample_images(None))])
    forward, delays = service.batcher.forward, [1.5]
    with served(service) as client:
        service.batcher.forward = lambda *arguments: (
            time.sleep(delays.pop() if delays else 0), forward(*arguments))[1]
        page = open_page(client)
        page.wait_for_selector("#samples img")
        page.set_input_files("#file", file)
        page.locator("#samples button").nth(1).click()
        wait_for_result(page)
        page.wait_for_timeout(500)
        assert "sunset" in page.get_attribute("#view", "alt")
        assert page.locator("#classes li").count() == 4
        assert [url.split("/")[-1] for url in page.urls].count("explain") == 1


# --- Layout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light"), (360, "dark")])
def test_the_page_fits_the_window_and_its_text_has_contrast(open_page, client, file, width, scheme):
    page = open_page(client, width=width, scheme=scheme, has_touch=width < 400)
    page.set_input_files("#file", file)
    wait_for_result(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#camera-label").is_visible() == (width < 400)
    background, text = page.evaluate("[getComputedStyle(document.documentElement).backgroundColor, "
                                     "getComputedStyle(document.body).color]")
    lightness = [sum(map(int, color[4:-1].split(","))) / 765 for color in (background, text)]
    assert abs(lightness[0] - lightness[1]) > 0.7
    assert (lightness[0] < 0.5) == (scheme == "dark")
    is_first = page.locator("#top-class").bounding_box()["y"] < page.locator("#view").bounding_box()["y"]
    assert is_first == (width < 400)  # on a narrow screen the prediction is above the image
