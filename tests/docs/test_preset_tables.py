"""docs/presets.md is what the presets say, and its published errors are those of their sources."""

import re

import pytest
from docsite.preset_tables import PAGE, page, published_errors

from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.recipe_presets import RECIPES


def rows(heading):
    """The rows of the first table under a heading, as lists of cells."""
    text = PAGE.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines()
            if line.startswith("| `")]


def row(heading, name):
    (found,) = [cells for cells in rows(heading) if f"`{name}`" in cells[0].split(", ")]
    return found


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m docsite.preset_tables"


def test_every_preset_stands_once_in_each_table():
    for heading in ("Layers", "Order, normalization, pooling, dropout", "Input and initialization"):
        names = [name for cells in rows(heading) for name in re.findall("`(.*?)`", cells[0])]
        assert sorted(names) == sorted(ARCHS)
    assert [cells[0].strip("`") for cells in rows("Recipes")] == list(RECIPES)


def test_the_rows_say_what_their_sources_say():
    """§3.5 and §5 of the paper; layers-145.cfg; train_val.prototxt; torchvision/models/alexnet.py."""
    assert row("Layers", "paper")[1] == "96 11x11/4<br>256 5x5 p2 g<br>384 3x3 p1<br>384 3x3 p1 g<br>256 3x3 p1 g"
    assert row("Layers", "torchvision")[1:] == [
        "64 11x11/4 p2<br>192 5x5 p2<br>384 3x3 p1<br>256 3x3 p1<br>256 3x3 p1", "1", "4,096, 4,096",
        "61,100,840 (1,000 classes)"]
    order = "Order, normalization, pooling, dropout"
    assert row(order, "code2012")[1].startswith("conv1: response norm, pool, ReLU<br>conv2: ReLU, response norm, ")
    assert row(order, "caffe")[1].startswith("conv1, conv2: ReLU, response norm, pool<br>")
    assert row(order, "caffenet")[1].startswith("conv1, conv2: ReLU, pool, response norm<br>")
    assert [row(order, name)[4] for name in ("caffe", "torchvision", "cifar-18pct")] == [
        "0.5, on the outputs of the hidden layers", "0.5, on the inputs of the hidden layers", "none"]
    start = "Input and initialization"
    assert row(start, "paper")[6:] == ["all: N(0, 0.01^2)", "0, 1, 0, 1, 1, 1, 1, 0"]
    assert row(start, "caffe")[-1] == "0, 0.1, 0, 0.1, 0.1, 0.1, 0.1, 0"
    assert (row(start, "caffe")[1], row(start, "caffe")[5]) == ("256, 227", "BGR")
    assert row(start, "torchvision")[-1] == "drawn as the weights"
    assert row("Recipes", "caffe")[1:4] == ["`caffe`, `caffenet`", "90", "256"]


@pytest.mark.parametrize(("network", "views", "accuracy"), [
    ("caffe", 1, (57.1, 80.2)), ("caffenet", 1, (57.4, 80.4)), ("torchvision", 1, (56.522, 79.066)),
    ("code2012", 10, (100 - 40.664, 100 - 18.21)), ("code2010", 1, (100 - 39.0247, 100 - 18.2953)),
    ("paper-conv6", 10, (100 - 38.99, 100 - 16.622)), ("paper-bn", 1, (60.1, 81.9))])
def test_published_errors_are_those_of_their_sources(network, views, accuracy):
    """Of the readmes and logs that docs/published-errors.json names, as accuracies."""
    (found,) = [each for each in published_errors() if (each["network"], each["views"]) == (network, views)]
    assert (found["top1_error"], found["top5_error"]) == pytest.approx([100 - value for value in accuracy])


@pytest.mark.parametrize(("network", "iteration"), [("caffe", 360_000), ("caffenet", 310_000)])
def test_the_errors_of_caffes_networks_are_those_of_snapshots(network, iteration):
    """Iterations: BVLC/caffe's readmes. Batches of 256 of 1,281,167 images; the recipe beside them has 90 epochs."""
    (found,) = [each for each in published_errors() if each["network"] == network]
    epoch = round(iteration * 256 / 1_281_167)
    assert f"iteration {iteration:,} (epoch {epoch})" in found["source"]


def test_every_published_error_has_a_preset_its_views_images_and_source():
    for each in published_errors():
        assert each["network"] in ARCHS
        assert each["views"] in (1, 10)
        assert each["images"]
        assert each["url"].startswith("https://")
        assert len(each["source"]) > 15
    lines = rows("Published errors")
    assert ["`paper`", "ILSVRC-2012 val", "10", "40.7", "18.2", 'the paper, Table 2, "1 CNN"'] in lines
    assert len(lines) == len(published_errors()) + 4
