"""A mistake that can be seen without the images is refused before they are packed: the cache stays empty."""

import json
import shutil

import pytest

from alexnet._runtime import local_files
from command_line import SMALL, alexnet

pytestmark = pytest.mark.usefixtures("one_thread")

TRAIN = [
    (["--arch", "smal"], "there is no network 'smal'; did you mean small?"),
    (["--arch", "alexnet"], "there is no network 'alexnet'; paper is the AlexNet of the 2012 paper, torchvision that "
     "of torchvision"),
    (["--set", "arch.dropout=30%"], "arch.dropout: '30%' is not a number; write 0.3"),
    (["--arch", "paper", "--set", "arch.input.crop=20"], "an input of 20 pixels is too small for paper"),
    (["--recipe", "moden"], "there is no recipe 'moden'; did you mean modern?"),
    (["--precision", "fp16", "--device", "cpu"], "fp16 is not supported on a CPU"),
    (["--device", "cuda:99"], "device cuda:99 is not available"),
    (["--workers", "-1"], "--workers -1 must be 0 or more"),
    (["--seed", "-1"], "--seed -1 must be 0 or more"),
    (["--save-minutes", "-1"], "--save-minutes -1.0 must be 0 or more"),
    (["--micro-batch", "1"], "--micro-batch 1 must be at least 2 images"),
    (["--parallel", "towers"], "--parallel towers needs several processes, and this is one"),
    (["--set", "recipe.train_crop=20"], "small has no average pooling"),
    (["--init", "pretrained", "--freeze", "conv9"], "medium has no weights called 'conv9' to freeze; "),
    (["--init", "pretrained", "--head", "--set", "recipe.epochs=3"], "recipe.epochs"),
    (["--set", "recipe.class_weights=1,2"], "recipe.class_weights has 2 weights and the data has 4 classes"),
    (["--log", "cvs"], "--log cvs is unknown; did you mean csv?"),
    (["--fold", "6/5"], "fold"),
]


@pytest.fixture
def refused(class_folders, tmp_path, capsys):
    """Run a command on images that are not packed; returns what it says when it refuses, having written nothing."""
    shutil.copytree(class_folders, tmp_path / "PHOTOS")

    def run(*arguments):
        before = sorted(tmp_path.rglob("*"))
        assert alexnet(*arguments) == 2
        assert sorted(tmp_path.rglob("*")) == before
        printed = capsys.readouterr().err
        assert "packing" not in printed
        return printed
    return run


@pytest.mark.parametrize(("options", "sentence"), TRAIN)
def test_train_refuses_before_it_packs(refused, tmp_path, options, sentence):
    named = options[:1] in (["--arch"], ["--init"])
    assert sentence in refused("train", tmp_path / "PHOTOS", *([] if named else SMALL), *options,
                               "--out", tmp_path / "run")


@pytest.mark.parametrize(("options", "sentence"), [
    (["--arch", "cifar"], "was started with another network"),
    (["--seed", "7"], "was started with another seed (0 then, 7 now)"),
    (["--lr", "0.3"], "was started with another recipe"), (["--precision", "fp32"], None)])
def test_train_refuses_to_resume_another_run_before_it_packs(refused, run, tmp_path, options, sentence):
    shutil.copytree(run, tmp_path / "run")
    if sentence is None:  # where the processor has bf16, the run was trained in it
        from alexnet._runtime.devices import choose_precision
        if choose_precision("auto", "cpu") == "fp32":
            pytest.skip("this processor trains in fp32 by default")
        sentence = "was started with another precision"
    assert sentence in refused("train", tmp_path / "PHOTOS", "--resume", "--out", tmp_path / "run", *options)


@pytest.mark.parametrize(("division", "options", "sentence"), [
    ({}, ["--fold", "2/5"], "was started without --fold and is now resumed on fold 2/5"),
    ({"fold": [1, 5]}, ["--fold", "2/5"], "was started on fold 1/5 and is now resumed on fold 2/5"),
    ({"fold": [1, 5]}, [], "was started on fold 1/5 and is now resumed without --fold"),
    ({}, ["--group", "folder"], "was started without --group and is now resumed with --group folder"),
    ({"group": "{tree}_{n}.png"}, ["--group", "folder"],
     "was started with --group {tree}_{n}.png and is now resumed with")])
def test_train_refuses_to_resume_with_other_images_before_it_packs(
        refused, run, tmp_path, division, options, sentence):
    shutil.copytree(run, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"] |= division
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert sentence in refused("train", tmp_path / "PHOTOS", "--resume", "--out", tmp_path / "run", *options)


def test_train_refuses_to_resume_on_data_of_other_class_names_before_it_packs(refused, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    for split in ("train", "val"):
        (tmp_path / "PHOTOS" / split / "ash").rename(tmp_path / "PHOTOS" / split / "aspen")
    assert "was started with other classes ('ash' then, 'aspen' now)" in refused(
        "train", tmp_path / "PHOTOS", "--resume", "--out", tmp_path / "run")


def test_train_refuses_to_resume_on_data_of_another_number_of_classes(refused, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    for split in ("train", "val"):
        shutil.rmtree(tmp_path / "PHOTOS" / split / "ash")
    assert "was started with data of 4 classes, and this data has 3" in refused(
        "train", tmp_path / "PHOTOS", "--resume", "--out", tmp_path / "run")


@pytest.mark.parametrize("command", [
    ["evaluate", "RUN", "PHOTOS", "--split", "vall"], ["calibrate", "RUN", "PHOTOS", "--split", "vall"],
    ["reproduce", "table", "RUN", "PHOTOS", "--split", "vall"], ["map", "RUN", "PHOTOS", "--split", "vall"],
    ["features", "RUN", "PHOTOS", "f.npz", "--split", "vall"],
    ["top-patches", "RUN", "PHOTOS", "--layer", "conv1", "--split", "vall"],
    ["neighbors", "RUN", "PHOTOS/val/ash/000.png", "--reference-set", "PHOTOS", "--split", "vall"]])
def test_an_unknown_split_is_refused_before_packing(refused, run, tmp_path, command):
    words = [word.replace("PHOTOS", str(tmp_path / "PHOTOS")).replace("RUN", str(run)) for word in command]
    assert "has no split 'vall'; did you mean val?" in refused(*words)


@pytest.mark.parametrize(("command", "sentence"), [
    (["top-patches", "RUN", "PHOTOS", "--layer", "conv99"], "has no layer 'conv99'"),
    (["top-patches", "RUN", "PHOTOS", "--layer", "conv1", "--unit", "999"], "conv1 has no unit 999"),
    (["neighbors", "RUN", "PHOTOS/val/ash/000.png", "--reference-set", "PHOTOS", "--layer", "fc99"], "no layer 'fc99'"),
    (["features", "RUN", "PHOTOS", "f.npz", "--layer", "fc99"], "has no layer 'fc99'"),
    (["reproduce", "dropout", "--data", "PHOTOS", "--precision", "fp16", "--device", "cpu"], "fp16 is not supported"),
    (["reproduce", "dropout", "--data", "PHOTOS", "--side", "48"], "--side 48 must be 32 or 64"),
    (["reproduce", "dropout", "--data", "PHOTOS", "--images-per-class", "1000"], "dropout trains on 1,000 images per "
     "class, and the smallest class has 30; give --images-per-class 30 or fewer"),
    (["reproduce", "augmentation", "--data", "PHOTOS", "--images-per-class", "20"], "and the smallest class has 30"),
    (["reproduce", "dropout", "--data", "PHOTOS"], "dropout trains on 100 images per class, and the smallest class"),
    (["lr-find", "PHOTOS", "--arch", "smal"], "there is no network 'smal'"),
    (["lr-find", "PHOTOS", "--arch", "small", "--precision", "fp16", "--device", "cpu"], "fp16 is not supported"),
    (["evaluate", "RUN", "PHOTOS", "--device", "cuda:99"], "device cuda:99 is not available")])
def test_other_mistakes_are_refused_before_packing(refused, run, tmp_path, command, sentence):
    words = [word.replace("PHOTOS", str(tmp_path / "PHOTOS")).replace("RUN", str(run)) for word in command]
    assert sentence in refused(*words)


@pytest.mark.parametrize("command", [["calibrate", "RUN", "PHOTOS"], ["report", "RUN", "--data", "PHOTOS"]])
def test_a_network_that_cannot_be_changed_is_refused_before_packing(refused, run, tmp_path, monkeypatch, command):
    monkeypatch.setattr(local_files, "is_writable", lambda folder: False)
    words = [word.replace("PHOTOS", str(tmp_path / "PHOTOS")).replace("RUN", str(run)) for word in command]
    assert f"{run}" in (said := refused(*words))
    assert "is not a folder that you may write to; name another place" in said
