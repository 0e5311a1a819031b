"""The report of a run in a browser: no request, no console message, no horizontal scrolling, keyboard and dark mode."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet._runtime.page_style import PALETTE


def unfold(page) -> None:
    """Open what is collapsed at first: the part for experts."""
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")


def test_the_part_for_experts_is_collapsed(browser, measured_page: Path):
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.goto(f"file://{measured_page}")
    for hidden in ("Diagnosis", "Architecture", "Recipe and environment"):
        assert page.get_by_role("heading", name=hidden).is_visible()
    for text in ("loss is the cross-entropy in nats", "squared weights", "multiply-adds", "update / weight"):
        assert not page.get_by_text(text).first.is_visible()
        unfolded = page.get_by_text(text).first
        unfolded.evaluate("(node) => { node.closest('details').open = true }")
        assert unfolded.is_visible()
    page.close()


@pytest.mark.parametrize("width", [360, 1200])
def test_no_request_no_console_message_and_no_horizontal_scrolling(browser, measured_page: Path, width: int):
    page = browser.new_page(viewport={"width": width, "height": 800})
    requests, messages = [], []
    page.on("request", lambda request: requests.append(request.url.split(":")[0]))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(f"file://{measured_page}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    unfold(page)
    assert set(requests) <= {"file", "data"}
    assert requests.count("file") == 1
    assert messages == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    broken = page.evaluate("[...document.images].filter((image) => !image.complete || !image.naturalWidth).length")
    assert broken == 0
    page.close()


@pytest.mark.parametrize("width", [390, 1200])
def test_all_images_of_a_neighbor_row_have_the_same_width(browser, measured_page: Path, width: int):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(f"file://{measured_page}")
    unfold(page)
    widths = [photo.bounding_box()["width"] for photo in page.locator(".near img").all()]
    assert max(widths) - min(widths) < 0.1
    notes = page.locator(".near .number").all_inner_texts()
    distances = [note for note in notes if note != "the same image"]  # the training images are the validation images
    assert len(notes) - len(distances) == page.locator(".near").count()
    assert len({len(text.partition(".")[2]) for text in distances}) == 1
    page.close()


def test_numbers_of_class_errors_do_not_cover_their_bars(browser, measured_page: Path):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(f"file://{measured_page}")
    for row in page.locator(".classes li").all():
        bar = row.locator(".range").bounding_box()
        for text in (row.locator(".name"), row.locator(".number")):
            box = text.bounding_box()
            assert box["y"] + box["height"] <= bar["y"] + 0.5
    page.close()


def test_only_edges_that_hide_content_are_shaded(browser, measured_page: Path):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(f"file://{measured_page}")
    unfold(page)
    drawing = page.locator(".scroll[aria-label='Network diagram']")

    def edges() -> tuple[int, int]:
        """How far the pixels at the left and the right edge are from the paper."""
        pixels = np.asarray(Image.open(io.BytesIO(drawing.screenshot())).convert("RGB")).astype(int)
        bottom = pixels[-3]  # below all that is drawn
        paper = np.array([int(PALETTE["paper"][0][i : i + 2], 16) for i in (1, 3, 5)])
        return tuple(int(np.abs(bottom[place] - paper).max()) for place in (1, -2))

    left, right = edges()
    assert left < 4
    assert right > 30
    drawing.evaluate("(image) => { image.scrollLeft = image.scrollWidth }")
    left, right = edges()
    assert left > 30
    assert right < 4
    page.close()


def test_a_hovered_or_focused_layer_shows_its_numbers(browser, measured_page: Path):
    page = browser.new_page()
    page.goto(f"file://{measured_page}")
    unfold(page)
    conv2, details = page.locator("[data-layer=conv2]").first, page.locator("[data-details=conv2]")
    assert not details.is_visible()
    conv2.hover()
    assert details.is_visible()
    assert "(7 + 2·1 − 5)/1 + 1 = 5" in details.inner_text()
    page.mouse.move(0, 0)
    assert not details.is_visible()
    page.locator(".scroll[aria-label='Network diagram']").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.layer") == "conv2"
    assert details.is_visible()
    page.close()


def test_dark_color_scheme(browser, measured_page: Path):
    colors = []
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(f"file://{measured_page}")
        colors.append([page.evaluate(f"getComputedStyle({place}).{what}") for place, what in (
            ("document.documentElement", "backgroundColor"), ("document.querySelector('.panels svg text')", "fill"))])
        page.close()
    assert all(light != dark for light, dark in zip(*colors, strict=True))
