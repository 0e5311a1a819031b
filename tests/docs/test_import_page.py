"""docs/train/import.md: its licenses agree with `alexnet list weights`, its table with the command's options."""

import re

import pytest

from alexnet.architecture.network_presets import ARCHS
from alexnet.cli.main import app
from alexnet.models import known_weights
from alexnet.models.formats import recognize
from alexnet.models.formats.tensorflow_npy import BLUE_GREEN_RED
from rehearsal import ROOT

DOCS = ROOT / "docs"


def page(name):
    return " ".join((DOCS / name).read_text(encoding="utf-8").split())


def test_every_row_of_the_table_is_a_command_that_exists():
    commands = re.findall(r"^\|[^|]*\| `alexnet (import [^`]*)`", (DOCS / "train/import.md").read_text(), re.MULTILINE)
    assert len(commands) == 7
    for command in commands:
        app.parse_args(command.split(), exit_on_error=False, print_error=False)


def test_the_endings_and_the_assumed_mean_are_those_of_the_code():
    text = page("train/import.md")
    endings = re.search(r"from a training script \(([^)]*)\)", text)[1]
    assert set(re.findall(r"`([^`]*)`", endings)) == {*recognize.TORCH_SUFFIXES, ".safetensors"}
    blue, green, red = (f"{value:g}" for value in BLUE_GREEN_RED)
    assert f"blue {blue}, green {green} and red {red} are assumed" in text
    assert {"caffe", "caffenet"} <= set(ARCHS)


@pytest.mark.parametrize("name", ["train/index.md", "credits.md"])
def test_all_places_say_the_same_of_the_license_of_torchvisions_weights(name):
    listed = {known_weights.TORCHVISION.license, known_weights.TORCHVISION_2017.license}
    assert listed == {"torchvision states none for the weights (BSD 3-Clause is its code's); trained on images of "
                      "ImageNet, whose terms are research and education, not commercial"}
    text = page(name)
    assert re.search(r"torchvision states no license for (its|the) weights[;.] (BSD 3-Clause is the license of its code"
                     r"|Its code is BSD 3-Clause)", text)
    assert "trained on images of ImageNet" in text
