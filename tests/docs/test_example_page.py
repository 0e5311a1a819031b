"""docs/train/example.md shows what the commands print: each line has the form of what they print on other photos."""

import re
import shlex
import shutil
from itertools import pairwise

import pytest

from command_line import alexnet
from rehearsal import ROOT, Rehearsal, blocks, set_option

PAGE = ROOT / "docs" / "train" / "example.md"
CLASSES = r"\b(church|parachute|springer|ash|birch|cedar|date palm)\b"


def form(text):
    """A line without what depends on the photos: numbers, names of classes and files, bars, the number of blanks."""
    text = re.sub(r"((PHOTOS|NEW)|/[^\s:,]+/(PHOTOS|bursts))(/[^\s,]+)?", "DATA", text)
    text = re.sub(CLASSES, "CLASS", text).replace("█", "")
    text = re.sub(r"\d[\d.,]*(e-\d+)?", "#", text)
    text = re.sub(r"(One thing needs|# things need) attention.*?:", "ATTENTION:", text)
    return " ".join(re.sub(r"[%()-]", " ", text).split())


def test_the_form_keeps_words_and_drops_numbers_and_names():
    assert form("  church   36    4") == form("  ash  1,030 12") == "CLASS # #"
    assert form("NEW/church/church_41.jpg,1,church,0.97,0,0") == form("NEW/ash/ash_1.jpg,1,ash,0.5,0,0")
    assert form("top-1 error 3%") != form("top-5 loss 3%")


def test_the_images_that_an_output_counts_and_lists_are_those_of_the_folder_in_its_command():
    images = {"PHOTOS": 120, "PHOTOS/church": 40, "PHOTOS/parachute": 40, "PHOTOS/springer": 40,
              "NEW": 30, "NEW/springer": 10}
    compared = 0
    for block, output in pairwise(blocks(PAGE)):
        if block.language != "sh":
            continue
        (folder,) = {word for line in block.lines for word in shlex.split(line)
                     if word.startswith(("PHOTOS", "NEW"))} or {""}
        counted = re.findall(r"\bof (\d+) images|^PHOTOS: (\d+) images", output.text, re.MULTILINE)
        assert {int("".join(number)) for number in counted} <= {images.get(folder)}
        listed = re.findall(r"^((?:PHOTOS|NEW)/\S+?),", output.text, re.MULTILINE)
        assert all(path.startswith(f"{folder}/") for path in listed)
        compared += len(counted) + len(listed)
    assert compared == 7  # three counts and four photos


@pytest.mark.slow
@pytest.mark.needs("onnx", "pip install 'alexnet[export]'")
@pytest.mark.usefixtures("one_thread")
def test_what_the_page_shows_is_what_the_commands_print(class_folders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Rehearsal(tmp_path, class_folders, tmp_path).bursts(tmp_path / "PHOTOS")
    for path in sorted((tmp_path / "PHOTOS").rglob("*.jpg")):  # names of bursts would be a finding of their own
        burst, number = path.stem.split("_")
        path.rename(path.with_name(f"{path.parent.name}_{5 * int(burst[len(path.parent.name):]) + int(number):02}.jpg"))
    shutil.copytree(class_folders / "val", tmp_path / "NEW")
    shutil.copy(next(iter(sorted((tmp_path / "NEW" / "ash").iterdir()))), tmp_path / "photo.jpg")
    printed, shown = "", 0
    for block in blocks(PAGE):
        if block.language == "sh":
            for line in block.lines:
                words = shlex.split(line.replace("NEW/springer", "NEW/ash"))[1:]
                if words[0] == "train":  # of two epochs the better one is chosen
                    set_option(words, "--epochs", "2")
                assert alexnet(*words) == 0
            captured = capsys.readouterr()
            printed = form(f"{captured.out}\n{captured.err}".replace("\n", " "))
        else:
            for line in block.text.splitlines():
                if line != "..." and not line.startswith("     -> start"):
                    for clause in line.split("; "):  # other photos may have more to say in between
                        assert form(clause) in printed, line
                    shown += 1
    assert shown > 25
