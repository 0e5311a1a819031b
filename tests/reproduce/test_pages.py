"""Every HTML page: one head, no request, no script of a name, and the numbers of what it shows."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet.architecture import explorer
from alexnet.architecture.network_presets import arch
from alexnet.inference.data_check import check as check_data
from alexnet.inference.validation import ValidationPredictions
from alexnet.reproduce.pages.data_check import write_check_page
from alexnet.reproduce.pages.image_map import write_image_map
from alexnet.reproduce.pages.mistakes import write_mistakes_page
from alexnet.reproduce.report.page import write_report
from report_runs import CLASSES, HOSTILE_FILE, Elements, PackedImages, selected, words, write_run

HOSTILE_FOLDER = "<img src=x onerror=alert(3)>"
HOSTILE_TITLE = "</title><script>alert(4)</script>"


def mistakes_page(out: Path, images: PackedImages) -> None:
    """Of ten images, three are wrong, and one image more could not be decoded."""
    labels, predicted = np.arange(10) % 6, np.array([1, 1, 1, 3, 4, 5, 2, 1, 2, 3])
    probabilities = np.full((10, 6), 0.1, np.float32)
    probabilities[np.arange(10), predicted] = 0.5
    selection = selected(10, 13, trained_on=3, undecodable=1)
    write_mistakes_page(out, ValidationPredictions(
        images.subset(np.arange(10)), selection, CLASSES, np.arange(10), labels, probabilities), title=HOSTILE_TITLE)


def map_page(out: Path, images: PackedImages) -> None:
    plane = np.random.default_rng(0).random((30, 2)).astype(np.float32)
    write_image_map(out, plane, images, np.arange(30), CLASSES, trained_N=np.arange(30) < 4, title=HOSTILE_TITLE,
                    layer="fc7")


def check_page(out: Path, images: PackedImages) -> None:
    """Six training and two validation images; one training image stands in both classes, and one cannot be decoded."""
    data = out.parent / "photos"
    for number, name in enumerate((HOSTILE_FOLDER, HOSTILE_FOLDER, "ash", "ash", "ash", HOSTILE_FOLDER, "ash")):
        folder = data / ("train" if number < 5 else "val") / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.pixels[number]).save(folder / f"{number}.png")
    (data / "train" / HOSTILE_FOLDER / "copy.png").write_bytes((data / "train" / "ash" / "2.png").read_bytes())
    (data / "train" / HOSTILE_FOLDER / "<b>.png").write_bytes(b"<script>alert(5)</script>")
    write_check_page(out, check_data(str(data)))


def report_page(out: Path, images: PackedImages) -> None:
    write_report(write_run(out.parent), images, note=HOSTILE_TITLE).rename(out)


def explorer_page(out: Path, images: PackedImages) -> None:
    explorer.write(out, replace(arch("small"), name=HOSTILE_TITLE))


PAGES = {page.__name__: page for page in (mistakes_page, map_page, check_page, report_page, explorer_page)}
SCRIPTS = {"map_page": 1, "explorer_page": 2}
"""Script elements of the pages that have any."""


@pytest.fixture(scope="module", params=PAGES)
def named_page(request, tmp_path_factory: pytest.TempPathFactory, packed_images: PackedImages) -> tuple[str, str]:
    """Name and content of a page about hostile names."""
    out = tmp_path_factory.mktemp("pages") / "page.html"
    write: Callable[[Path, PackedImages], None] = PAGES[request.param]
    write(out, packed_images)
    return request.param, out.read_text(encoding="utf-8")


def test_pages_have_one_head_and_make_no_request(named_page: tuple[str, str]):
    name, page = named_page
    elements = Elements(page)
    tags = [tag for tag, _ in elements.found]
    assert page.startswith("<!doctype html>\n<html lang=\"en\">")
    for tag in ("html", "head", "title", "body", "main", "h1"):
        assert tags.count(tag) == 1, tag
    metas = [attributes for tag, attributes in elements.found if tag == "meta"]
    assert {"name": "color-scheme", "content": "light dark"} in metas
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    script = "script-src 'unsafe-inline'; " if name in SCRIPTS else ""
    assert {"http-equiv": "Content-Security-Policy",
            "content": f"default-src 'none'; style-src 'unsafe-inline'; {script}img-src data:"} in metas
    assert "@media (prefers-color-scheme: dark)" in page
    for tag, attributes in elements.found:
        assert tag not in ("iframe", "object", "embed", "base", "form", "link") or attributes.get("href") == "data:,"
        for key in ("src", "srcset", "href", "data", "poster", "action"):
            assert attributes.get(key, "#").startswith(("#", "data:")), (tag, attributes)
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_names_are_no_markup_on_any_page(named_page: tuple[str, str]):
    name, page = named_page
    elements = Elements(page)
    assert [tag for tag, _ in elements.found].count("script") == SCRIPTS.get(name, 0)
    for tag, attributes in elements.found:
        assert not [key for key in attributes if key.startswith("on")], (tag, attributes)
        assert tag != "img" or attributes["src"].startswith("data:image/")
    outside_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    shown = {"mistakes_page": HOSTILE_FILE[5:], "check_page": HOSTILE_FOLDER}.get(name)
    if shown:
        assert shown in Elements(outside_scripts).text


def test_the_page_of_mistakes_says_what_was_measured(tmp_path: Path, packed_images: PackedImages):
    mistakes_page(tmp_path / "page.html", packed_images)
    text = words((tmp_path / "page.html").read_text(encoding="utf-8"))
    # Labels 0 1 2 3 4 5 0 1 2 3 against 1 1 1 3 4 5 2 1 2 3.
    assert ("3 of 10 images are misclassified (top-1): 30.0%. Measured: 10 of 13 images; the network was trained on "
            "the other 3; 1 of 14 files could not be decoded.") in text
    assert f"{CLASSES[0]} → {CLASSES[2]}" in text


def test_the_page_of_a_check_counts_what_it_shows(tmp_path: Path, packed_images: PackedImages):
    check_page(tmp_path / "page.html", packed_images)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    text = words(page)
    assert "8 images of 2 classes (6 train, 2 val); 1 more cannot be decoded." in text
    assert "Evenly spaced training images of each class." in text
    assert "ash: 3 training images" in text  # numbers 2, 3 and 4
    assert text.count("3 training images") == 2, "two and a copy; the broken file of the class is not counted"
    assert '<span class="missing">' not in page
    assert "1 image of 9 cannot be decoded" in text
    assert "Exact copies across classes" in text
    assert "1 image is in more than one class, byte for byte" in text
    assert "Remedy: keep each image in the class that is right." in text


def test_the_page_of_a_check_shows_the_most_elongated_images(tmp_path: Path, packed_images: PackedImages):
    check_page(tmp_path / "page.html", packed_images)
    assert "Most elongated images" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    Image.fromarray(packed_images.pixels[7]).resize((40, 400)).save(tmp_path / "photos" / "train" / "ash" / "pole.png")
    write_check_page(tmp_path / "page.html", check_data(str(tmp_path / "photos")))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Networks see the central square at most. 1 image." in page
    assert "40 x 400 pixels" in page


def test_the_map_counts_the_images_that_were_trained_on(tmp_path: Path, packed_images: PackedImages):
    map_page(tmp_path / "page.html", packed_images)
    text = words((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "30 images, each a point" in text
    assert "the network was trained on the image (4 of 30)" in text
