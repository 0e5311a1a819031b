"""Optional dependencies: the extras of this package, the modules of each, and the pip line that installs them."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Extra:
    """An extra of pyproject.toml."""

    purpose: str
    """What it is needed for, as the command line names it."""
    modules: tuple[str, ...]
    """The modules that this package imports of it."""

    @property
    def missing(self) -> list[str]:
        """The modules that are not installed. None of them is imported."""
        return [name for name in self.modules if not is_installed(name)]


EXTRAS = {
    "interpret": Extra("attribution maps: `attribute`", ("captum",)),
    "export": Extra("`export` to ONNX, and `evaluate FILE.onnx`", ("onnx", "onnxruntime", "onnxscript")),
    "openvino": Extra("`export` to OpenVINO, with the extra `export`", ("openvino",)),
    "serve": Extra("`serve`", ("starlette", "uvicorn", "h11", "prometheus_client")),
    "tensorboard": Extra("`train --log tensorboard`", ("tensorboardX",)),
    "hub": Extra("networks on the Hugging Face Hub, hf://USER/NAME", ("huggingface_hub",)),
    "caffe": Extra("`import` of Caffe's files", ("google.protobuf",)),
    "heic": Extra("HEIC images", ("pi_heif",)),
    "parquet": Extra("Parquet files of images, and `features` to Parquet", ("pyarrow",)),
    "cloud": Extra("data at s3:// and gs://", ("obstore",)),
    "neighbors": Extra("`neighbors` among more than 100,000 images", ("faiss",)),
    "map": Extra("`map`", ("sklearn",)),
}
"""The extras that a user needs, by name. Those of development (test, ci, docs) are not here."""


def is_installed(module: str) -> bool:
    """Whether a module can be imported, without importing it. For a dotted name, the packages above it are imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def install_line(extra: str) -> str:
    """The shell command that installs an extra of this copy of the package.

    It installs the clone, folder or file that this copy is from, where pip recorded it: an index may hold another
    version, or another package of this name. Double quotes are understood by every shell, on Windows too.
    """
    assert extra in EXTRAS, f"{extra} is no extra"
    if root := clone():
        return f'pip install -e "{root}[{extra}]"'
    if (source := installed_from()) is None:  # by name, from an index
        return f'pip install "alexnet[{extra}]"'
    return f'pip install "{source}[{extra}]"' if source.exists() else f'in your clone: pip install ".[{extra}]"'


def reinstall_line() -> str:
    """The shell command that builds this copy of the package again."""
    again = "pip install --force-reinstall --no-deps"
    if root := clone():
        return f'{again} -e "{root}"'
    source = installed_from()
    return f'{again} "{source}"' if source and source.is_dir() else f"in your clone: {again} ."


def installed_from() -> Path | None:
    """The folder or file from which pip installed this copy, by its record (PEP 610); None for an index or a URL."""
    from urllib.request import url2pathname  # imports ssl: only where an extra is missing

    try:
        record = json.loads(distribution("alexnet").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        return None
    url = urlsplit(record.get("url", ""))
    return Path(url2pathname(url.path)) if url.scheme == "file" else None


def clone() -> Path | None:
    """The root of the clone that this package is imported from; None for an installed copy."""
    source = Path(__file__).parents[2]
    return source.parent if source.name == "src" and (source.parent / "pyproject.toml").is_file() else None
