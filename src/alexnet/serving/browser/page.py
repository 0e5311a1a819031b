"""Write the page of `alexnet export --to web`: a folder of static files, or one HTML file that opens without a server.

The page asks no other host for anything: its content security policy allows requests for its own files only; the
single-file page may make no request.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from alexnet._runtime.atomic_files import replace_durably
from alexnet._runtime.html_page import render_page, script_json
from alexnet._runtime.image_encoding import thumbnail
from alexnet._runtime.software import own_version
from alexnet.architecture.arithmetic import explain
from alexnet.data import images
from alexnet.data.sources.embedded import IMAGES, PHOTOGRAPHS
from alexnet.errors import UserError, require
from alexnet.inference.confidence import SURE_FROM
from alexnet.inference.predictor import model_from_checkpoint
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.provenance import license_note
from alexnet.reproduce.demo_photos import PHOTOS
from alexnet.serving.browser.network_file import NetworkFile
from alexnet.serving.browser.runtime import BINARY, LICENSE, LOADER, SCRIPT, BrowserRuntime
from alexnet.serving.samples import generated_patterns

INDEX, MODEL, LICENSES = "index.html", "model.onnx", "LICENSES.txt"
FILES = (INDEX, MODEL, LICENSES, SCRIPT, LOADER, BINARY)
"""Everything in the folder of a page."""

FILE_NAMES = {"model": MODEL, "loader": LOADER, "binary": BINARY}
"""The files that the page's script reads."""

_TEMPLATE = Path(__file__).parent / "web" / INDEX

_SAMPLE_SIDE = 320
"""Longest side of a sample photograph on the page, in pixels."""


@dataclass(frozen=True)
class BrowserPage:
    """What `write_browser_page` wrote."""

    path: Path
    files: Mapping[str, int]
    """Name -> bytes; of one file, its own name."""
    network: NetworkFile

    @property
    def is_one_file(self) -> bool:
        return len(self.files) == 1


def check_target(path: Path) -> None:
    """Raise UserError if a page cannot be written at `path` without losing something else."""
    if path.suffix in (".html", ".htm"):
        require(not path.is_dir(), f"{path} is a folder", "name a file to write")
        return
    require(not path.exists() or path.is_dir(), f"{path} is a file", "name a folder, or a file that ends in .html")
    if path.is_dir():
        others = sorted({entry.name for entry in path.iterdir()} - {*FILES})
        require(not others, f"{path} holds something else ({others[0] if others else ''})", "name a new folder")


def write_browser_page(
    path: Path, saved: Checkpoint, network: NetworkFile, runtime: BrowserRuntime, title: str = "",
) -> BrowserPage:
    """Write the page of a network.

    Args:
        path: a file that ends in .html, which then holds everything; else a folder.
        saved: the network.
        network: its ONNX file.
        runtime: the engine.
        title: the network's name, as the page's title and heading; default: a heading for any network.

    Raises:
        UserError: as `check_target`.
    """
    check_target(path)
    parts = {MODEL: network.data, **runtime.files()}
    if path.suffix in (".html", ".htm"):
        written = {path: _html(saved, parts, title)}
    else:
        written = {path / name: data for name, data in parts.items()}
        written[path / LICENSES] = _licenses(saved).encode()
        written[path / INDEX] = _html(saved, None, title)  # last: the page is complete once it is there
    for file, data in written.items():
        replace_durably(file, data)
    return BrowserPage(path, {file.name: len(data) for file, data in written.items()}, network)


def _html(saved: Checkpoint, parts: Mapping[str, bytes] | None, title: str) -> bytes:
    """The page. parts: the files to put into it, name -> content; None: they are beside it."""
    script = parts[SCRIPT].decode().replace("</script", "<\\/script") if parts else ""
    packed = {name: _packed(data) for name, data in (parts or {}).items() if name != SCRIPT}
    sources = " 'wasm-unsafe-eval' blob:" if parts else " 'self' 'wasm-unsafe-eval'; connect-src 'self'"
    facts = {**page_data(saved), "files": FILE_NAMES, "is_one_file": bool(parts)}
    return render_page(
        _TEMPLATE, data=script_json(facts), packed=packed, runtime_script=Markup(script), runtime_name=SCRIPT,
        script_sources=Markup(sources), licenses=_licenses(saved), license=license_note(saved.provenance),
        title=title, is_calibrated=bool(saved.calibration),
    ).encode("utf-8", "backslashreplace")


def _packed(data: bytes) -> str:
    """Bytes as text: compressed, in base64."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def page_data(saved: Checkpoint) -> dict[str, Any]:
    """What the page knows of the network, as JSON values: preprocessing, classes, and the arithmetic of every layer."""
    arch, explanation = saved.arch, explain(saved.arch)
    spec = arch.input
    mean = saved.mean_HWC.cpu().numpy().mean((0, 1))
    return {
        "name": arch.name, "version": own_version(), "classes": list(saved.classes), "side": spec.side,
        "crop": spec.crop, "channels": spec.channels, "towers": arch.towers,
        "has_gpu_towers": arch.has_gpu_towers, "activation": arch.activation,
        "mean": [float(number) for number in mean], "mean_is_image": len(saved.mean_HWC) > 1, "scale": list(spec.scale),
        "parameters": explanation.parameters, "multiply_adds": explanation.multiply_adds,
        "layers": [{**layer.to_json(), "begin": layer.begin} for layer in explanation.layers],
        "temperature": saved.calibration.get("temperature", 1.0),
        "sure_from": SURE_FROM if saved.calibration else None, "measured": _measured(saved),
        "samples": _samples(saved)}


def _measured(saved: Checkpoint) -> str:
    """The validation error with the number of its images and its interval; "" if none was measured."""
    if not saved.errors:
        return ""
    errors, (low, high) = saved.errors, saved.errors["interval"]["top1_error"]
    return (f"Top-1 error {errors['top1_error']:.1%} on its {errors['images']:,} validation images (95% interval "
            f"{low:.1%} to {high:.1%}).")


def _samples(saved: Checkpoint) -> list[dict[str, str]]:
    """Photographs of classes that the network knows, the best-recognized first; without any, generated patterns."""
    credits = {image.file: f"{image.title}: {image.author}, {image.license}" for image in IMAGES}
    model, found = model_from_checkpoint(saved), []
    try:
        for photo in PHOTOS:
            if {*saved.classes} & {*photo.names}:
                pixels_HWC = images.read(PHOTOGRAPHS / photo.file)
                right = sum(guess.probability for guess in model.predict(pixels_HWC)[0] if guess.name in photo.names)
                found.append((right, {"title": photo.title, "image": thumbnail(pixels_HWC, _SAMPLE_SIDE),
                                      "credit": credits[photo.file]}))
    except (UserError, OSError):  # this installation has no photographs
        found = []
    patterns = [{"title": name, "image": thumbnail(pixels_HWC, _SAMPLE_SIDE), "credit": ""}
                for name, pixels_HWC in generated_patterns().items()]
    return [sample for _, sample in sorted(found, key=lambda entry: -entry[0])] or patterns


def _licenses(saved: Checkpoint) -> str:
    note = license_note(saved.provenance)
    weights = f"The weights in {MODEL}: {note}.\n\n" if note else ""
    return f"The page is made by alexnet {own_version()} (Apache License 2.0).\n\n{weights}{LICENSE}"
