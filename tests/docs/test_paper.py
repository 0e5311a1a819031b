"""docs/paper.md, the ledger of claims, names code and tests that exist, and leaves no claim without either."""

import ast
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import alexnet as package
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import ARCHS
from alexnet.cli.main import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "paper.md").read_text()


def rows() -> list[list[str]]:
    """The lines of the tables with the columns claim, code, test, our number, deviation."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if len(row) == 5 and row[0] not in ("claim", "---")]


TESTS = {node.name for file in (ROOT / "tests").rglob("test_*.py") for node in ast.walk(ast.parse(file.read_text()))
         if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_the_ledger_has_every_section_of_the_paper():
    assert [heading[3:5].strip(",") for heading in re.findall(r"^## .*", PAGE, re.MULTILINE)] == [
        "Ab", "§2", "§3", "§4", "§5", "§6", "§7", "Er", "Wh"]
    assert len(rows()) > 30


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:60])
def test_every_claim_has_its_code_and_a_test_or_says_that_it_was_not_run(row):
    claim, code, test, number, _ = row
    names = re.findall(r"`([\w.]+)`", code)
    assert names, claim
    for name in names:
        thing = package
        for part in name.split("."):
            fields = getattr(thing, "__dataclass_fields__", {})
            if isinstance(thing, ModuleType) and hasattr(thing, "__path__"):
                thing = import_module(f"{thing.__name__}.{part}")
                continue
            assert hasattr(thing, part) or part in fields, f"{name} does not exist"
            thing = getattr(thing, part, None)
    assert {*re.findall(r"`(test_\w+)`", test)} <= TESTS
    assert test or "not run" in number, f"nothing holds {claim!r}"


def test_no_convolution_but_conv3_and_conv4_holds_over_one_percent():
    """§1 of the paper says that none does."""
    explanation = explain(ARCHS["paper"])
    shares = {layer.name: 100 * layer.parameters / explanation.parameters for layer in explanation.layers
              if layer.kind == "convolution"}
    assert [name for name, share in shares.items() if share > 1] == ["conv3", "conv4"]
    parameters = {layer.name: layer.parameters for layer in explanation.layers}
    # §3.5: 384 kernels of 3x3x256, 384 of 3x3x192
    assert (parameters["conv3"], parameters["conv4"]) == (384 * (3 * 3 * 256 + 1), 384 * (3 * 3 * 192 + 1))
    for name in ("conv3", "conv4"):
        assert f"{name} {shares[name]:.2f}%" in PAGE
        assert f"{name} has {parameters[name]:,} ({shares[name]:.2f}%)" in PAGE or (
            f"{name} {parameters[name]:,} ({shares[name]:.2f}%)" in PAGE)
    assert f"the others at most {max(shares[name] for name in ('conv1', 'conv2', 'conv5')):.2f}%" in PAGE


def test_every_command_it_names_exists():
    for command in re.findall(r"`alexnet ([\w-]+)", PAGE):
        assert command in app


def test_its_counts_are_those_of_explain():
    explanation = explain(ARCHS["paper"])
    weighty = [layer.neurons for layer in explanation.layers if layer.name.startswith(("conv", "fc"))]
    assert f"{explanation.parameters:,} (counted)" in PAGE
    assert f"{sum(weighty):,} (counted)" in PAGE
    printed = [253_440, *weighty[1:]]
    assert " - ".join(f"{units:,}" for units in printed) in PAGE
    assert f"sums to {sum(printed):,}" in PAGE
