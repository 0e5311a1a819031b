"""File names that show several images of one object, scene or burst: which suggest a --group, and which must not."""

import random
import shutil

import numpy as np
import pytest
from PIL import Image

from alexnet.data.catalog import Catalog
from alexnet.data.findings import pack_findings
from alexnet.data.group_findings import name_findings
from alexnet.data.hold_out import hold_out
from alexnet.data.name_groups import suggest_groups
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.data.sources.embedded import PHOTOGRAPHS

DRAWN = random.Random(0)
CLASSES = "ash", "birch", "cedar"


def suggested(names, classes=CLASSES):
    """What names in each of the classes suggest, a tenth of each held out; of a mapping, the names of its classes."""
    by_class = names if isinstance(names, dict) else {name: list(names) for name in classes}
    files = {name: [f"{name}/{file}" for file in files] for name, files in by_class.items()}
    held = {file for files in hold_out(files, 0.1, 0, "")["val"].values() for file in files}
    listed = [file for each in files.values() for file in each]
    labels = np.repeat(np.arange(len(files)), [len(each) for each in files.values()])
    return suggest_groups(listed, labels, np.array([file in held for file in listed]), list(files))


SERIES = {
    "a letter": ((f"IMG_{n:03}_{letter}.jpg" for n in range(20) for letter in "abc"),
                 r"(?i)(?P<group>.+\d)[\s_.-]?[a-z]\.\w+$"),
    "a letter without a separator": ((f"{n}{letter}.jpg" for n in range(20) for letter in "abc"),
                                     r"(?i)(?P<group>.+\d)[\s_.-]?[a-z]\.\w+$"),
    "patients": ((f"patient{n}_{m:02}.png" for n in range(8) for m in range(12)), "{group}_{n}.png"),
    "animals": ((f"{name}_{m}.jpg" for name in ("anna", "ben", "carl", "dora", "emil") for m in range(5)),
                "{group}_{n}.jpg"),
    "a word before the number": ((f"p{n}_img{m:02}.png" for n in range(8) for m in range(12)), "{group}_img{n}.png"),
    "both eyes (Kaggle's retinopathy)": ((f"{n}_{eye}.jpeg" for n in range(30) for eye in ("left", "right")), None),
    "tracks (GTSRB)": ((f"{n:05}_{m:05}.ppm" for n in range(9) for m in range(30)), "{group}_{n}.ppm"),
    "slides (BreaKHis)": ((f"SOB_B_A-14-{n}AB-40-{m:03}.png" for n in range(22000, 22010) for m in range(20)),
                          "{group}-{n}.png"),
    "frames of several videos": ((f"video{n}_frame_{m:04}.png" for n in range(4) for m in range(0, 300, 10)),
                                 "{group}_{n}.png"),
    "bursts of a phone": ((f"IMG_20230512_14{n:02}00_BURST{m:03}.jpg" for n in range(10) for m in range(1, 6)),
                          "{group}_BURST{n}.jpg"),
    "brackets": ((f"plant{n} ({m}).jpg" for n in range(10) for m in range(1, 6)),
                 r"(?i)(?P<group>.+)\s\(\d+\)\.\w+$"),
    "folders of clips": ((f"clip{n}/{m:04}.png" for n in range(6) for m in range(20)), "folder"),
    "one long recording a class": ((f"frame_{m:05}.png" for m in range(2_000)), r"(?P<group>.*?)\d{1,2}\.\w+$"),
    "one recording a class": ((f"frame_{m:04}.png" for m in range(300)), r"(?P<group>.*?)\d\.\w+$"),
}


@pytest.mark.parametrize("what", SERIES)
def test_names_of_series_suggest_the_option_that_keeps_them_together(what):
    names, option = SERIES[what]
    found = suggested(names)
    assert found
    assert found.option == option or option is None
    assert found.divided > 0
    assert " " not in found.option  # a terminal's line may be broken there


def test_a_recording_too_short_for_blocks_suggests_no_option():
    found = suggested(f"frame_{m:04}.png" for m in range(30))
    assert (found.option, found.is_recording) == ("", True)
    assert 0 < found.divided <= 9


ORDINARY = {
    "a camera": {name: [f"IMG_{n:04}.jpg" for n in DRAWN.sample(range(9999), 60)] for name in CLASSES},
    "ImageNet": {wnid: [f"{wnid}_{n}.JPEG" for n in DRAWN.sample(range(30_000), 60)]
                 for wnid in ("n01440764", "n02102040")},
    "wnids in two classes": {name: [f"n0{wnid}_{n}.JPEG" for wnid in range(2085620 + k, 2085640 + k)
                                    for n in DRAWN.sample(range(30_000), 40)] for k, name in enumerate(("dog", "cat"))},
    "ImageNet's validation images": {name: [f"ILSVRC2012_val_{n:08}.JPEG" for n in DRAWN.sample(range(50_000), 60)]
                                     for name in CLASSES},
    "numbers": {name: [f"{n:05}.png" for n in range(60)] for name in CLASSES},
    "times of a phone": {name: [f"IMG_202305{day:02}_{DRAWN.randrange(6, 20):02}{DRAWN.randrange(60):02}"
                                f"{DRAWN.randrange(60):02}.jpg" for day in range(1, 25) for _ in range(6)]
                         for name in CLASSES},
    "WhatsApp": {name: [f"IMG-202305{day:02}-WA{n:04}.jpg" for day in range(1, 25) for n in range(6)]
                 for name in CLASSES},
    "birds (CUB)": {name: [f"{name}_{n:04}_{DRAWN.randrange(10**6)}.jpg" for n in range(60)] for name in CLASSES},
    "breeds (Oxford pets)": {
        "cat": [f"{breed}_{n}.jpg" for breed in ("Abyssinian", "Bengal", "Birman", "Bombay") for n in range(1, 99)],
        "dog": [f"{breed}_{n}.jpg" for breed in ("beagle", "boxer", "pug", "samoyed") for n in range(1, 99)]},
    "breeds in folders": {"cat": [f"{breed}/{n}.jpg" for breed in ("Bengal", "Birman", "Bombay") for n in range(99)],
                          "dog": [f"{breed}/{n}.jpg" for breed in ("beagle", "boxer", "pug") for n in range(99)]},
    "Flickr": {name: [f"{DRAWN.randrange(10**10)}_{DRAWN.getrandbits(40):010x}_b.jpg" for _ in range(60)]
               for name in CLASSES},
    "number and class": {name: [f"{n}_{name}.png" for n in range(60)] for name in CLASSES},
    "class and number": {name: [f"{name}.{n}.jpg" for n in range(60)] for name in CLASSES},
    "downloads of one name": {name: [f"images ({n}).jpg" for n in range(60)] for name in CLASSES},
    "hashes": {name: [f"{DRAWN.getrandbits(128):032x}.jpg" for _ in range(60)] for name in CLASSES},
    "two cameras": {name: [f"{camera}_{n:04}.jpg" for camera in ("IMG", "DSC") for n in range(30)] for name in CLASSES},
}


@pytest.mark.parametrize("what", ORDINARY)
def test_ordinary_names_suggest_nothing(what):
    assert suggested(ORDINARY[what]) is None


def test_without_a_division_nothing_is_suggested():
    names = [f"p{n}_{m}.png" for n in range(9) for m in range(4)]
    for held in (0, 1):
        assert suggest_groups(names, np.zeros(36, np.int64), np.full(36, bool(held))) is None


# --- Photographs ------------------------------------------------------------------------------------------------------


@pytest.fixture
def bursts(tmp_path):
    """Five cut-outs of each of twelve photographs, in two classes, as `IMG_003_b.png`."""
    for number, path in enumerate(sorted(PHOTOGRAPHS.glob("*.png"))[:12]):
        folder = tmp_path / "photos" / ("ash", "birch")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        photo = Image.open(path).convert("RGB").resize((96, 96))
        for shift, letter in enumerate("abcde"):
            photo.crop((4 * shift, 0, 4 * shift + 64, 64)).save(folder / f"IMG_{number:03}_{letter}.png")
    return tmp_path / "photos"


def test_the_suggested_option_ends_the_finding_and_keeps_each_group_on_one_side(bursts, tmp_path):
    (finding,) = name_findings(Catalog(open_dataset(bursts)))
    assert finding.problem.startswith("by their names, 5 validation images of 5 show the same object, scene or burst")
    option = finding.remedy.partition("--group '")[2].partition("'")[0]
    dataset = open_dataset(bursts, group=option)
    sides = {split: {image.name.rpartition("_")[0] for image in images} for split, images in dataset.splits.items()}
    assert sides["val"]
    assert not sides["train"] & sides["val"]
    assert name_findings(Catalog(dataset)) == []


def test_a_pack_of_the_users_says_that_it_must_be_packed_again(bursts, tmp_path):
    packed = pack(open_dataset(bursts), tmp_path / "packed", side=32)
    (finding,) = [each for each in pack_findings(packed) if each.kind == "divided_names"]
    assert finding.remedy.endswith("it is an option of alexnet pack, so pack the images again")


def test_images_that_are_divided_already_have_no_such_finding(bursts):
    (bursts / "val").mkdir()
    for name in ("ash", "birch"):
        (bursts / "val" / name).mkdir()
        shutil.move(next((bursts / name).glob("*_a.png")), bursts / "val" / name)
    (bursts / "train").mkdir()
    for name in ("ash", "birch"):
        shutil.move(bursts / name, bursts / "train" / name)
    assert name_findings(Catalog(open_dataset(bursts))) == []
