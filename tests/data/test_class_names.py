"""Files of class names: encodings, JSON, Python dicts, WordNet lines; wrong ones are refused by line and name."""

import json

import pytest

from alexnet.data.class_names import names_in_order, read_class_names, require_count, unknown_names

TREES = ("äsche", "birch", "date palm")


def file(tmp_path, content):
    path = tmp_path / "names.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


LINES = "äsche\nbirch\ndate palm\n"


@pytest.mark.parametrize("content", [
    LINES.encode(), LINES.encode("utf-8-sig"), LINES.encode("utf-16"), b"\xfe\xff" + LINES.encode("utf-16-be"),
    LINES.encode("utf-16-le"), LINES.encode("utf-16-be"), LINES.replace("\n", "\r\n").encode(),
    b"\xc3\xa4sche  \nbirch\t\n  date palm\n\n   \n",
    b"0 \xc3\xa4sche\n1 birch\n2 date palm", "0: äsche\n1: birch\n2: date palm\n",
    json.dumps(TREES), json.dumps(TREES, ensure_ascii=False), '{"0": "äsche", "1": "birch", "2": "date palm"}',
    '{"birch": 1, "date palm": 2, "äsche": 0}', "['äsche', 'birch', 'date palm']", "('äsche', 'birch', 'date palm')",
    "{0: 'äsche',\n 1: 'birch',\n 2: 'date palm'}", "{'äsche': 0, 'birch': 1, 'date palm': 2}"],
    ids=lambda content: repr(content)[:40])
def test_every_usual_form_of_a_list_of_names_is_read(content, tmp_path):
    assert read_class_names(file(tmp_path, content)) == TREES


@pytest.mark.parametrize("content", [
    "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\n", "n01440764\nn02012849\nn03126707\n",
    '{"0": ["n01440764", "tench"], "1": ["n02012849", "crane"], "2": ["n03126707", "crane"]}'])
def test_lines_with_wordnet_ids_get_the_names_of_imagenet(content, tmp_path):
    """ImageNet has two cranes, a bird and a machine (synset_words.txt)."""
    assert read_class_names(file(tmp_path, content)) == ("tench", "crane (n02012849)", "crane (n03126707)")


def test_wordnet_ids_that_imagenet_2012_lacks_keep_the_name_beside_them(tmp_path):
    assert read_class_names(file(tmp_path, "n01440764 tench\nn00000001 unicorn, monoceros\n")) == ("tench", "unicorn")


def test_indices_of_numbered_classes_are_the_integers_and_not_the_texts():
    """torchvision's class_to_idx of folders 0, 1, 2, 10 in the order of texts: 0, 1, 10, 2."""
    assert names_in_order({"0": 0, "1": 1, "2": 3, "10": 2}) == ("0", "1", "10", "2")
    assert names_in_order({"0": "0", "1": "1", "2": "10", "3": "2"}) == ("0", "1", "10", "2")
    assert names_in_order({0: "0", 1: "1", 2: "10", 3: "2"}) == ("0", "1", "10", "2")


@pytest.mark.parametrize("tree", [
    {}, [], {"a": 1, "b": 2}, {"a": 0, "b": 0}, [1, 2], ["a", ""], "ab", 7, None, {"a": "b"}, {0: "a", 2: "b"}])
def test_what_is_no_list_of_names_is_not_guessed_at(tree):
    assert names_in_order(tree) is None


@pytest.mark.parametrize(("content", "words"), [
    ("", "holds no class names"), ("\n \n", "holds no class names"), ("ash\n\nbirch\n", "line 2 is empty"),
    (b"ash\nb\xe4rch\n", r"is not a text in UTF-8 or UTF-16: line 2 has the byte 0xe4; save it as UTF-8"),
    ("ash\nbirch\nash\n", "two classes are named 'ash', those of outputs 0 and 2"),
    ('{"a": 1, "b": 2}', "is neither a list of names nor a mapping"), ("[1, 2]", "is neither a list of names"),
])
def test_a_wrong_file_is_refused_by_line_or_name(content, words, tmp_path):
    with pytest.raises(ValueError, match=words) as error:
        read_class_names(file(tmp_path, content))
    assert str(tmp_path / "names.txt") in str(error.value)


def test_a_name_may_begin_like_a_list_or_with_a_number(tmp_path):
    assert read_class_names(file(tmp_path, "[untitled]\n3 of hearts\n")) == ("[untitled]", "3 of hearts")


def test_names_are_data_and_not_code(tmp_path):
    content = f"[__import__('os').mkdir({str(tmp_path / 'ran')!r})]"
    assert read_class_names(file(tmp_path, content)) == (content,)
    assert not (tmp_path / "ran").exists()


def test_a_wrong_count_says_both_counts_and_the_ends_of_the_list():
    with pytest.raises(ValueError, match="3 names of classes were given, and the network has 4 outputs: "
                                         "the first name is 'äsche', the last 'date palm'"):
        require_count(TREES, 4)
    assert unknown_names(2) == ("output 0", "output 1")
