"""The documentation site builds, its links lead somewhere, and a browser shows it from the disk at two widths."""

import json

import pytest
from docsite.build import build
from docsite.links import broken_links
from docsite.reference import command_page
from docsite.walk import write_walk

import requirements
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.preset_listing import field_meanings
from alexnet.architecture.recipe import Recipe
from alexnet.cli.main import app
from alexnet.serving.browser.runtime import cached_tarball
from rehearsal import ROOT
from shared_folders import once

WIDTHS = {"phone": 390, "desk": 1280}
pytestmark = [pytest.mark.slow, pytest.mark.needs("zensical", "pip install '.[docs]'"),
              pytest.mark.needs("mkdocstrings_handlers", "pip install '.[docs]'")]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The built site."""
    def make(out):
        (out / "faults.json").write_text(json.dumps(build(out)))

    out = once(tmp_path_factory, "docs", make)
    assert json.loads((out / "faults.json").read_text()) == []
    return out / "site"


@pytest.fixture(scope="module")
def pages(browser, site):
    """A function that opens a page of the site at a width. No page may ask another host, and no script may fail."""
    tabs, troubles = {}, []

    def open_page(path, width):
        if width not in tabs:
            tab = tabs[width] = browser.new_context(viewport={"width": width, "height": 900}).new_page()
            tab.on("request", lambda request: troubles.append(request.url)
                   if not request.url.startswith(("file:", "data:", "blob:", "about:")) else None)
            tab.on("pageerror", lambda error: troubles.append(str(error)))
        tabs[width].goto((site / path).as_uri())
        return tabs[width]

    yield open_page
    assert not troubles


def test_a_broken_link_an_unknown_anchor_and_another_host_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#there">1</a><a href="b.html#gone">2</a><a href="c.html">3</a>'
                                     '<a href="https://example.org">4</a><script src="https://example.org/x.js"></script>')
    (tmp_path / "b.html").write_text('<h2 id="there">x</h2><img src="none.png">')
    assert broken_links(tmp_path) == [
        "a.html: loads https://example.org/x.js from another host", "a.html: b.html#gone: no such anchor",
        "a.html: c.html does not exist", "b.html: none.png does not exist"]


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_fits_its_width_and_shows_its_pictures(site, pages, width):
    paths = [path.relative_to(site) for path in sorted(site.rglob("*.html")) if path.name != "404.html"]
    assert len(paths) > 35
    for path in paths:
        page = pages(path, WIDTHS[width])
        assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width], path
        assert page.evaluate("[...document.images].filter(image => !image.naturalWidth && image.loading != 'lazy')"
                             ".map(image => image.src)") == [], path
        assert page.locator("h1").count() >= 1, path


def test_the_search_works_from_the_disk(pages):
    page = pages("index.html", WIDTHS["desk"])
    page.keyboard.press("Control+k")
    page.get_by_placeholder("Search").fill("saturated")
    page.locator("a[href*='learn/relu.html#saturation']:visible").first.wait_for()


def test_the_explorer_is_in_its_page_and_recalculates(pages):
    frame = pages("learn/explorer.html", WIDTHS["desk"]).frame_locator("iframe.explorer")
    frame.get_by_text("60,965,224 parameters").wait_for()
    frame.locator("#size").fill("227")
    frame.get_by_text("(227 − 11)/4 + 1 = 55").first.wait_for()


def test_the_pretrained_network_is_in_its_page_and_answers(pages):
    if not cached_tarball().is_file():
        requirements.missing(f"onnxruntime-web is not in {cached_tarball().parent}; `make docs` downloads it")
    frame = pages("learn/network.html", WIDTHS["desk"]).frame_locator("iframe.explorer")
    frame.locator("#result").wait_for(timeout=120_000)
    first = frame.locator("#top-class").inner_text()
    frame.locator("#samples button").nth(1).click()
    frame.locator("#top-class", has_not_text=first).wait_for()
    known = frame.locator("#known-classes").text_content().split(", ")
    assert {first, frame.locator("#top-class").inner_text()} <= {*known}


def test_without_its_engine_the_network_is_left_out_and_the_build_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    write_walk(tmp_path / "walk.html")
    assert "the walk through the network is left out: " in capsys.readouterr().err
    assert "<h1>Left out of this site</h1>" in (tmp_path / "walk.html").read_text()
    assert broken_links(tmp_path) == []


def test_the_reference_has_all_commands_settings_networks_and_public_names(site):
    text = {name: (site / "reference" / f"{name}.html").read_text() for name in (
        "commands", "settings", "networks", "python", "examples")}
    for command in app:
        if command not in ("--help", "-h", "--version"):
            assert f'id="alexnet-{command.lstrip("-")}"' in text["commands"], command
    assert "--weight-decay" in text["commands"]
    assert "\nalexnet train [OPTIONS] DATA\n" in command_page()
    for field in field_meanings(Recipe):
        assert f"<code>{field}</code>" in text["settings"], field
    assert f"{explain(ARCHS['paper']).parameters:,}" in text["networks"]
    for name in ("load", "train", "evaluate", "check", "Model", "UserError"):
        assert f'.{name}"' in text["python"], name
    assert "epochs" in text["python"]
    assert "why_relu.py" in text["examples"]


def test_pictures_are_small():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs").rglob("*")
             if path.suffix in (".png", ".svg", ".webp", ".jpg")}
    assert max(sizes.values()) < 115_000, sizes  # cost.svg
    assert sum(sizes.values()) < 1_500_000
