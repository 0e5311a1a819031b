"""docs/data.md and docs/export.md state facts of the code: image formats, and where the browser's engine comes from."""

import re

from alexnet.data.image_formats import AVIF, HEIC, supported_extensions, unsupported_extensions
from alexnet.serving.browser.runtime import URL, VERSION
from rehearsal import ROOT


def formats_on_the_page():
    section = (ROOT / "docs" / "data.md").read_text().split("\n## Image formats\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([A-Za-z]\w*)[^|]*\| (`[^|]+`) \|", section, re.MULTILINE)
    return {name: set(cell.strip("`").split()) for name, cell in rows}, section


def test_the_formats_on_the_page_are_those_that_can_be_decoded():
    formats, section = formats_on_the_page()
    assert set(formats) == {"JPEG", "PNG", "GIF", "BMP", "WebP", "TIFF", "PNM", "HEIC", "AVIF"}
    optional = {*HEIC.extensions, *AVIF.extensions}
    assert set.union(*formats.values()) == supported_extensions() | optional
    assert formats["HEIC"] == set(HEIC.extensions)
    unread = {known.name for known in unsupported_extensions().values()} - {"HEIC", "AVIF"}
    named = " ".join(section.partition("Not read:")[2].split())
    assert {"camera raw", "JPEG 2000", "JPEG XL", "DICOM", "Photoshop", "SVG", "PDF"} <= unread
    assert all(name in named for name in ("camera raw", "JPEG 2000", "JPEG XL", "DICOM", "Photoshop", "SVG", "PDF"))


def test_the_page_names_the_file_that_a_firewall_stops():
    text = (ROOT / "docs" / "export.md").read_text()
    assert URL in text
    assert f"--runtime onnxruntime-web-{VERSION}.tgz" in text


def test_the_glossary_has_the_words_of_the_practitioners_commands():
    text = (ROOT / "docs" / "learn" / "index.md").read_text()
    for word in ("precision", "recall", "F1", "balanced error", "McNemar's test", "calibrated", "confidence interval"):
        assert re.search(rf"^\| {re.escape(word)}", text, re.MULTILINE), word
