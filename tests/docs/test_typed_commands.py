"""The commands of docs/ work as they are typed, where the tests that run them make them smaller (`shortened`)."""

import shlex
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from alexnet.data.sources.embedded import open_embedded
from alexnet.reproduce.claims import CLAIMS
from alexnet.reproduce.design import Design
from rehearsal import ROOT, blocks, shortened

RESIZED = ("--images-per-class", "--epochs", "--seeds", "--folds", "--port", "--side", "--steps")
"""Options whose value `shortened` changes."""


def commands(program="alexnet"):
    for page in [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]:
        for block in blocks(page):
            for line in block.lines if block.language == "sh" and not block.not_run else ():
                words = shlex.split(line)
                if words[0] == program:
                    yield page.name, words[1:words.index(">")] if ">" in words else words[1:]


EMBEDDED_CLAIMS = [words for _, words in commands() if words[0] == "reproduce" and words[1] in CLAIMS
                   and "embedded" in words]


@pytest.fixture(scope="module")
def embedded():
    """What a design needs of the packed photographs of the package: classes, counts, labels of the training images."""
    dataset = open_embedded()
    labels = np.array([image.label for image in dataset.splits["train"]])
    return SimpleNamespace(classes=dataset.classes, side=64, split=lambda name: SimpleNamespace(labels=labels),
                           counts={"train": len(labels)})


def test_the_photographs_of_the_package_have_240_training_images_of_each_of_14_classes(embedded):
    assert np.bincount(embedded.split("train").labels).tolist() == [240] * 14


@pytest.mark.parametrize("words", EMBEDDED_CLAIMS, ids=lambda words: words[1])
def test_a_claim_on_the_photographs_of_the_package_has_images_enough_without_quick(words, embedded):
    options = dict(pairwise(words))
    images = options.get("--images-per-class")
    design = Design.of(CLAIMS[words[1]], embedded, images_per_class=int(images) if images else None,
                       quick="--quick" in words)
    assert design.images_per_class is None or design.images_per_class <= 240


def test_the_claim_of_windows_and_mirrors_has_not_with_its_own_number(embedded):
    """So the test above can fail."""
    with pytest.raises(ValueError, match="give --images-per-class 80 or fewer"):
        Design.of(CLAIMS["augmentation"], embedded)


@pytest.mark.parametrize(("page", "words"), list(commands()), ids=lambda value: value if isinstance(value, str) else "")
def test_the_tests_only_make_a_command_smaller(page, words):
    """They keep every word that a page has, but for the values of a few options, and add nothing else than sizes."""
    made = shortened(list(words))
    kept = [word for before, word in pairwise(["", *words]) if before not in RESIZED]
    rest = iter(made)
    assert all(word in rest for word in kept), (page, words, made)
    added = {word for word in made[len(words):] if word.startswith("--")}
    assert added <= {*RESIZED, "--set", "--quick"}, (page, made)
