"""`alexnet list weights`: what a newcomer must know to use each of them."""

import json

import pytest

from command_line import alexnet


@pytest.fixture
def shown(capsys) -> str:
    assert alexnet("list", "weights") == 0
    return capsys.readouterr().out


def facts_of(shown: str, heading: str) -> dict[str, str]:
    """The rows below a heading: name -> text."""
    [part] = [part for part in shown.split("\n\n") if part.startswith(heading)]
    return {line.split()[0]: line.strip().split(maxsplit=1)[1] for line in part.splitlines()[1:]}


@pytest.mark.parametrize("name", ["bvlc_alexnet", "bvlc_reference_caffenet"])
def test_caffes_weights_are_downloaded_before_the_import(shown, name):
    file = f"{name}.caffemodel"
    assert facts_of(shown, f"{name}\n")["use"] == (
        f"download http://dl.caffe.berkeleyvision.org/{file}; then alexnet import {file} OUT --mean 104,117,123; then "
        "alexnet predict OUT IMAGE")


def test_errors_say_of_which_images_they_are(shown):
    """torchvision's accuracy is 56.522% and 79.066%."""
    assert facts_of(shown, "torchvision")["error"].startswith(
        "top-1 43.5%, top-5 20.9%, one central view, on 50,000 validation images of ILSVRC-2012, published by")
    ours = facts_of(shown, "tiny-imagenet-200")["error"]
    assert ours.startswith("top-1 ")
    assert ours.endswith("validation images of Tiny ImageNet, measured here")


def test_a_checksum_that_is_a_prefix_says_so(shown, capsys):
    assert facts_of(shown, "alexnet-owt-4df8aa71\n")["checksum"] == (
        "sha256:4df8aa71 (its first digits; the owner published no more)")
    assert alexnet("list", "weights", "--json") == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    for name, each in found.items():
        kind, digits = each["checksum"].split(":")
        is_whole = len(digits) == {"sha256": 64, "sha1": 40}[kind]
        assert each["checksum_is_prefix"] is not is_whole, name
    assert found["alexnet-owt-4df8aa71"]["checksum_is_prefix"]


def test_a_second_name_is_shown_and_means_the_same(shown, capsys):
    assert "\ntiny-imagenet-200 (or: pretrained)\n" in shown
    assert "\ntorchvision (or: alexnet-owt-7be5be79)\n" in shown
    for name, alias in (("tiny-imagenet-200", "pretrained"), ("torchvision", "alexnet-owt-7be5be79")):
        found = []
        for each in (name, alias):
            assert alexnet("list", "weights", each, "--json") == 0
            found.append(json.loads(capsys.readouterr().out))
        assert found[0] == found[1]
        assert (found[0]["name"], found[0]["alias"]) == (name, alias)


def test_sure_answers_are_described_without_jargon(capsys):
    assert alexnet("list", "weights", "pretrained") == 0
    shown = capsys.readouterr().out
    assert "whose likeliest class has at least 50%: top-1 error" in shown
    assert "input of 60x60 pixels, the center of images of 64x64" in shown
