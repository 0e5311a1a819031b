"""Numbers that pages state and that follow from others: effects in percent, pairs of images, errors of the 2012 log."""

import math
import re
from dataclasses import replace
from pathlib import Path

from docsite.preset_tables import published_errors

import alexnet
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import ARCHS
from alexnet.data.images import BadImage
from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.paper_tables import REPORTED
from alexnet.serving.handlers import PAGE_FILES, PUBLIC_PATHS

DOCS = Path(__file__).parents[2] / "docs"


def page(name):
    return " ".join((DOCS / name).read_text(encoding="utf-8").split())


def test_the_base_of_relative_effects_is_said_to_be_an_assumption_and_what_another_would_give():
    errors = {(row.images, row.views): row.top1_error for row in REPORTED if row.system == "1 CNN"}
    text = page("measure/claims.md")
    assert f"{100 * 1.7 / (errors['ILSVRC-2012 val', 10] + 1.7):.1f}% of that. The base is our assumption" in text
    other = errors["ILSVRC-2010 test", 10]
    assert (f"From {other}%, its error on ILSVRC-2010 with ten views, 1.7 points would be "
            f"{100 * 1.7 / (other + 1.7):.1f}%") in text


def test_the_numbers_of_batch_normalization_have_a_source_on_every_page():
    """batchnorm.md of ducha-aiki/caffenet-benchmark: accuracies 0.471, 0.493 and 0.478 with scale and bias."""
    claim = next(claim for claim in CLAIMS.values() if claim.name == "batch-norm")
    for text in (claim.statement, page("results.md")):
        assert ("in D. Mishkin's caffenet-benchmark (ImageNet at 128 pixels, one run each) by "
                f"{100 * (0.493 - 0.471):.1f} points after the ReLU and {100 * (0.478 - 0.471):.1f} before it") in text


def test_the_parameters_without_fully_connected_layers_are_those_of_the_networks():
    averaged = replace(ARCHS["paper"], average_pool=1)
    full, some, few = map(explain, (ARCHS["paper"], averaged, replace(averaged, dense=())))
    text, picture = page("learn/afterwards.md"), (DOCS / "images" / "averaged.svg").read_text()
    assert (f"has {some.parameters / 1e6:.1f} million parameters instead of {full.parameters / 1e6:.1f} million; "
            "without hidden fully connected layers as well, as in GoogLeNet and ResNet, it has "
            f"{few.parameters / 1e6:.1f} million. The multiply-adds fall only from "
            f"{full.multiply_adds / 1e6:.0f} million to {some.multiply_adds / 1e6:.0f} and "
            f"{few.multiply_adds / 1e6:.0f} million") in text
    for network in (full, some, few):
        assert f": {network.parameters / 1e6:.1f} million parameters" in picture


def test_the_images_of_imagenette_are_counted_alike():
    text = page("data.md")
    images = 9_469 + 3_925  # imagenette/train and imagenette/val
    assert f"Imagenette ({images * (images - 1) / 2e6:.1f} million pairs)" in text
    assert f"{images + 30:,} images (Imagenette's {images:,} and 30 copies of some of them)" in text


def test_the_ledger_has_the_errors_of_the_2012_log():
    text = page("paper.md")
    for each in published_errors():
        if each["network"] in ("code2012", "code2010"):
            assert f"{each['top1_error']:.2f}% and {each['top5_error']:.2f}%" in text
    assert "| test of the code |" in text
    assert "test that checks it" not in text


def test_the_ledger_has_the_claims_of_sections_4_to_6():
    """Abstract, §4.1, §4.2, §5 and §6: 15.3% against 26.2%, 67.4% and 40.9% against 78.1% and 60.9%."""
    text = page("paper.md")
    for number in ("15.3%; the second had 26.2%", "67.4% and 40.9%; the best published before 78.1% and 60.9%",
                   "36.7% top-1, 15.4% top-5, and 15.3% on the test set"):
        assert number in text
    for claim in CLAIMS.values():
        assert claim.section == "after the paper" or f"`{claim.name}`" in text, claim.name


def test_the_times_of_the_gpu_queue_are_called_guesses():
    text = page("gpu-queue.md")
    assert "| question | command | time (a guess) |" in text
    assert "**The times are guesses**" in text


def test_the_python_page_lists_every_public_name():
    top = (DOCS / "python.md").read_text(encoding="utf-8").partition("\n## ")[0]
    table = "".join(line for line in top.splitlines() if line.startswith("|"))
    assert {*re.findall(r"`alexnet\.(\w+)`", table)} == {*alexnet.__all__}
    assert issubclass(BadImage, alexnet.UserError)


def test_the_memory_of_a_server_is_the_sum_of_its_parts_rounded_up_to_50_mb():
    text = (DOCS / "serving.md").read_text(encoding="utf-8")
    parts = 300 + 512 + 800 + 128 + (2 + 4) * 80  # of the first table, with N = 2 cores
    for row in ("300 |", "512 |", "800 |", "128 |", "at least 2 and at most 8 | 80 each;"):
        assert row in text
    for processes, shown, network in ((1, "`small`", "small"), (1, "`medium`", "medium"), (2, "`small`", "small"),
                                      (1, "`paper` or `torchvision` (61 million weights)", "torchvision")):
        one = parts + 2 * 4 * explain(ARCHS[network]).parameters / 1e6
        whole = one if processes == 1 else 47 + 2 * one  # the first of several processes takes 47 MB, measured
        assert re.search(rf"\| {processes} \| {re.escape(shown)} \| [^|]+ \| {50 * math.ceil(whole / 50):,} \|", text)
    assert "2.25 GB in all" in page("deploy/index.md")


def test_two_pages_list_the_same_paths_that_need_no_token():
    paths = {"/openapi.json", "/health", "/ready", "/v2/health"}
    for name, start, end in (("serving.md", "The page, `/openapi.json`", "need no token"),
                             ("deploy/index.md", "except for the page, ", ". The page asks")):
        text = page(name)
        begin = text.index(start)
        assert {*re.findall(r"`([^`]+)`", text[begin:text.index(end, begin)])} == paths
    assert {re.sub("/(live|ready)$", "", path) if path.startswith("/v2") else path
            for path in PUBLIC_PATHS - {*PAGE_FILES, "/palette.css"}} == paths
