"""The classes of data are matched with a network's by name; a network without class names is matched with nothing."""

import unicodedata

import pytest
import torch

from alexnet.data.class_names import unknown_names
from alexnet.inference.classes import map_labels, match_classes
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint

NUMBERED = ("0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9")
"""Twelve folders in the order of their names as texts, which is torchvision's ImageFolder's."""


def test_unknown_names_match_no_numbered_folders(tiny):
    saved = Checkpoint(
        tiny, unknown_names(4), AlexNet(tiny).state_dict(), torch.zeros(1, 1, 3), class_names_known=False)
    for data in (("0", "1", "2", "3"), unknown_names(4), ("ash", "birch", "cedar", "elm")):
        words = (rf"stands for which of the data's classes \({data[0]}, .*give the names in .*--classes FILE, .*"
                 r"alexnet\.load\(\.\.\., classes=")
        with pytest.raises(ValueError, match=words):
            map_labels(saved, data)


def test_known_numbers_are_matched_as_names_and_not_by_position():
    assert match_classes(NUMBERED, [str(number) for number in range(12)]).tolist() == [
        0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3]


def test_the_two_unicode_forms_of_an_accent_are_one_name():
    composed, decomposed = "Bergähorn", unicodedata.normalize("NFD", "Bergähorn")
    assert composed != decomposed
    assert match_classes(["ash", composed], [decomposed]).tolist() == [1]
    assert match_classes(["ash", decomposed], [composed]).tolist() == [1]


def test_an_unmatched_class_lists_few_names_and_counts_the_others():
    with pytest.raises(ValueError, match=r"not trained on 1 of the data's 2 classes: 'cat'") as error:
        match_classes([f"tree {number}" for number in range(1000)], ["tree 7", "cat"])
    assert "(tree 0, tree 1, tree 2, tree 3, tree 4 and 995 more)" in str(error.value)
    assert len(str(error.value)) < 250


def test_two_classes_of_one_spelling_are_told_apart_by_their_exact_names():
    composed, decomposed = "Bergähorn", unicodedata.normalize("NFD", "Bergähorn")
    assert match_classes([decomposed, composed], [composed, decomposed]).tolist() == [1, 0]
    with pytest.raises(ValueError, match="not trained on 1"):
        match_classes([decomposed, composed], [composed.upper()])


def test_two_classes_of_the_data_that_match_one_of_the_network_are_refused():
    with pytest.raises(ValueError, match="classes 'Cat' and 'cat' both match the network's class 'cat'; put their"):
        match_classes(["cat", "dog"], ["Cat", "cat"])
