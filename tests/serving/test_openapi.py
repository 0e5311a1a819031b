"""The OpenAPI document and the packages of the extra `serve`."""

import subprocess
import sys
from pathlib import Path

import pytest

from alexnet.inference.predictor import load
from inprocess import full_service, served

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
def test_schemathesis_accepts_the_document(trained, packed):
    """Valid and invalid requests of every kind that the document describes: all responses match the document."""
    with served(full_service(load(trained), packed)) as client:
        done = subprocess.run(
            [Path(sys.executable).with_name("schemathesis"), "run", f"{client.url}openapi.json", "--checks", "all",
             # The document allows any bytes as an image; the server responds 422 if they cannot be decoded.
             "--exclude-checks", "positive_data_acceptance", "--phases", "coverage,fuzzing", "--max-examples", "10",
             "--seed", "1", "--no-color"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "19 passed" in done.stdout


@pytest.mark.slow
def test_the_extra_serve_installs_all_packages_that_serving_imports(trained):
    """In the development environment other extras would hide a missing package."""
    script = """
import importlib.metadata as metadata, re, sys
from pathlib import Path
from alexnet.serving import app, server
from alexnet.serving.explanations import explain_image
from alexnet.inference.predictor import load
import numpy as np
model = load(Path(sys.argv[1]))
explain_image(model, np.zeros((model.preprocess.spec.side,) * 2 + (3,), np.uint8))
owner = metadata.packages_distributions()
used = {name.lower() for module, loaded in sys.modules.items() if loaded for name in owner.get(module, ())}
used.discard("tqdm")  # torch.hub imports it if another package has brought it, and does without
installed, queue = set(), ["alexnet[serve]"]
while queue:
    name, _, extra = queue.pop().partition("[")
    if name.lower() in installed:
        continue
    installed.add(name.lower())
    for requirement in metadata.requires(name) or ():
        if "extra ==" not in requirement or extra and f"extra == '{extra[:-1]}'" in requirement.replace('"', "'"):
            try:
                metadata.distribution(dependency := re.match(r"[A-Za-z0-9._-]+", requirement)[0])
            except metadata.PackageNotFoundError:  # for another platform
                continue
            queue.append(dependency)
known = {name.replace("_", "-") for name in installed}
print(sorted(name for name in used if name.replace("_", "-") not in known))
"""
    done = subprocess.run([sys.executable, "-c", script, trained], text=True, capture_output=True)
    assert done.stdout == "[]\n", done.stderr
