"""What a notebook gives to the Python functions works rightly, or is refused by one sentence; nothing stays changed."""

import io
import os
import random
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import alexnet
from alexnet.training.state import Interrupted
from command_line import alexnet as command

pytestmark = pytest.mark.usefixtures("one_thread")

TABLE = np.array([["a.jpg", "ash"]])
"""In place of a DataFrame: it has no truth value either."""


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "arguments-cache"))


@pytest.fixture(scope="module")
def run(packed, tiny, tmp_path_factory):
    return alexnet.train(packed.path, arch=tiny, recipe="modern", epochs=1, batch_size=20, device="cpu",
                         out=tmp_path_factory.mktemp("run") / "run", progress=False)


@pytest.fixture(scope="module")
def photo(class_folders):
    return next((class_folders / "val").rglob("*.png"))


# --- Networks, data and options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "words"), [
    ({"batch_size": 0}, "--batch-size 0 must be at least 1"), ({"batch_size": 2.5}, "2.5 must be a whole number"),
    ({"views": 3}, "views 3 must be 1 or 10"), ({"views": "10"}, "--views '10' must be a whole number"),
    ({"split": ["val"]}, "split must be a path or a word, and this is of type list"),
    ({"split": "vall"}, "no split 'vall'"),
    ({"models": []}, "there is no network to evaluate; give at least one"),
    ({"models": torch.nn.Identity()},
     "trained weights must be a path or a name, and this is of type Identity.*save a checkpoint"),
    ({"models": b"run"}, "of type bytes"), ({"models": ""}, "the weights have an empty name"),
    ({"data": ""}, "the data has an empty name"), ({"data": ["a", "b"]}, "of type list.*give the folder"),
    ({"data": np.zeros((2, 8, 8, 3), np.uint8)}, "of type ndarray.*have to be saved first"),
    ({"labels": TABLE}, "labels must be a path or a word.*CSV file"),
    ({"group": TABLE}, "group must be a path or a word"),
    ({"device": 0}, "there is no device '0'; use auto, cpu"), ({"device": None}, "there is no device 'None'")])
def test_evaluate_refuses_with_a_sentence(run, packed, options, words):
    with pytest.raises(alexnet.UserError, match=words):
        alexnet.evaluate(**{"models": run, "data": packed.path, "progress": False} | options)


def test_the_commands_sentence_for_the_same_number(run, packed, capsys):
    for name, values in (("evaluate", {"batch_size": 0}), ("check", {"side": 0}), ("check", {"workers": 0})):
        (option, value), = values.items()
        paths = [run.path, packed.path] if name == "evaluate" else [packed.path]
        assert command(name, *paths, f"--{option.replace('_', '-')}", value) == 2
        printed = capsys.readouterr().err.strip().removeprefix("alexnet: ")
        with pytest.raises(alexnet.UserError) as refused:
            getattr(alexnet, name)(*map(str, paths), progress=False, **values)
        assert str(refused.value) == printed


def test_a_network_may_be_a_run_a_path_a_loaded_model_or_several(run, packed):
    model = alexnet.load(run, torch.device("cpu"))
    expected = alexnet.evaluate(str(run.path), packed.path, progress=False)
    for models in (run, [run], model, run.path / "best", (each for each in [model])):
        assert alexnet.evaluate(models, packed.path, views=np.int64(1), batch_size=np.int32(128), device=torch.device(
            "cpu"), progress=False) == expected
    features = alexnet.features(packed.path, model=run, progress=False).features
    assert np.array_equal(features, alexnet.features(packed.path, model=model, progress=False).features)
    suspects = [alexnet.check(packed.path, run=each, progress=False).labels for each in (run, model, [model])]
    assert suspects[0] == suspects[1] == suspects[2]


def test_without_a_network_the_packaged_one_is_evaluated_as_by_the_command(photo, class_folders):
    with pytest.raises(alexnet.UserError, match="the network was not trained on 4 of the data's 4 classes"):
        alexnet.evaluate(None, class_folders, progress=False)


def test_fast_is_refused_for_a_model_that_is_loaded_already(run, packed):
    with pytest.raises(alexnet.UserError, match=r"does not change a model that is loaded; load it with alexnet\.load"):
        alexnet.evaluate(alexnet.load(run), packed.path, fast=True, progress=False)


@pytest.mark.parametrize("classes", ["abcd", "names.txt", Path("names.txt"), {*"abcd"}, {0: "a"}, [0, 1, 2, 3], 4])
def test_class_names_are_a_list_of_strings(run, classes):
    with pytest.raises(alexnet.UserError, match=r"^classes .*give a list of strings; .*read_text\(\)\.splitlines\(\)"):
        alexnet.load(run, classes=classes)
    assert alexnet.load(run, classes=np.array(list("abcd"))).classes == ("a", "b", "c", "d")


def test_check_refuses_names_without_a_network(packed):
    with pytest.raises(alexnet.UserError, match="--classes names the outputs of the network of --run"):
        alexnet.check(packed.path, classes=["a"], progress=False)


@pytest.mark.parametrize(("options", "words"), [
    ({"seed": 1.5}, "--seed 1.5 must be a whole number"), ({"seed": "1"}, "--seed '1' must be a whole number"),
    ({"workers": 1.5}, "--workers 1.5 must be"), ({"micro_batch": 2.5}, "--micro-batch 2.5 must be"),
    ({"epochs": 2.5}, "2.5 is not a whole number"), ({"save_minutes": "x"}, "--save-minutes 'x' must be a number"),
    ({"settings": {"recipe.schedule": "cosine"}}, r"not a dictionary; write settings=\[\"recipe\.schedule=cosine\"\]"),
    ({"arch": torch.nn.Identity()}, "arch is the name of a preset or an alexnet.Arch"),
    ({"recipe": {"epochs": 1}}, "recipe is the name of a preset or an alexnet.Recipe"),
    ({"fold": (2, 5)}, "fold must be a path or a word"), ({"freeze": ["conv1"]}, "freeze must be a path or a word"),
    ({"labels": TABLE}, "labels must be a path or a word.*CSV"), ({"data": TABLE}, "of type ndarray"),
    ({"about": {"x": object()}}, "about is stored as JSON, which cannot hold it")])
def test_train_refuses_with_a_sentence_and_writes_nothing(packed, tiny, tmp_path, options, words):
    with pytest.raises(alexnet.UserError, match=words):
        alexnet.train(**{"data": packed.path, "arch": tiny, "out": tmp_path / "run", "progress": False} | options)
    assert not (tmp_path / "run").exists()


def test_numbers_of_numpy_and_torch_train_the_same_network_as_pythons(packed, tiny, run, tmp_path):
    again = alexnet.train(packed.path, arch=tiny, recipe="modern", epochs=np.int64(1), batch_size=np.int32(20),
                          seed=np.int64(0), workers=np.int64(1), device=torch.device("cpu"), out=tmp_path / "run",
                          progress=False)
    assert again.metrics == run.metrics
    lr = alexnet.train(packed.path, arch=tiny, recipe="modern", epochs=1, batch_size=20, lr=torch.tensor(0.5), init=run,
                       like=None, out=tmp_path / "lr", progress=False)
    assert lr.history[0]["epoch"] == 1


def test_a_run_says_of_what_it_warned_and_which_validation_images_are_known(class_folders, tiny, tmp_path, capsys):
    assert command("train", class_folders, "--set", "arch.input.side=32", "--set", "arch.input.crop=28", "--arch",
                   "small", "--epochs", "1", "--set", "arch.conv.width=16", "--set", "arch.dense.width=16", "--out",
                   tmp_path / "run") == 0
    printed = capsys.readouterr()
    done = alexnet.TrainedRun(tmp_path / "run")
    assert done.overlap.describe() in printed.out
    assert done.overlap.describe()
    assert done.warnings
    assert all(event["problem"] in " ".join(printed.err.split()) for event in done.warnings[:1])


# --- What evaluate and features return --------------------------------------------------------------------------------


def test_what_evaluate_returns_says_what_was_left_out(run, packed):
    """As with progress=False nothing else does. 44 images are in val, none of which the run was trained on."""
    whole = alexnet.evaluate(run, packed.path, progress=False).measurement
    assert (whole["views"], whole["networks"], whole["temperatures"]) == (1, 1, [1.0])
    assert [whole["measured"][name] for name in ("images", "available", "trained_on")] == [44, 44, 0]
    assert whole["baselines"]["chance_top1_error"] == 0.75
    assert "look_alikes" not in whole
    part = alexnet.evaluate(run, packed.path, exclude_look_alikes=True, progress=False)
    left_out = part.measurement["measured"]["look_alikes_left_out"]
    assert 0 < left_out == 44 - part.images
    assert part.measurement["look_alikes"]["images"] == left_out
    assert part.measurement["with_look_alikes"]["images"] == 44


def test_features_name_their_classes_and_splits(run, packed, class_folders):
    found = alexnet.features(class_folders, model=run, progress=False)
    assert found.classes == ("ash", "birch", "cedar", "date palm")
    assert found.splits == ("train",) * 120 + ("val",) * 44
    assert found.layer == "relu6"
    for name, label, split in zip(found.names, found.labels, found.splits, strict=True):
        assert name.split("/")[:2] == [split, found.classes[label]]


def test_groups_are_kept_together_in_every_view_of_the_data(tmp_path):
    """`val` of a run with group= is that of the features and of the Dataset with the same group=, and of no other."""
    rng = np.random.default_rng(0)
    for label in ("fox", "owl"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(40):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(
                tmp_path / "photos" / label / f"{label}{number // 4}_{number % 4}.png")
    options = {"group": "{animal}_{n}.png", "progress": False}
    found = alexnet.features(tmp_path / "photos", split="val", **options)
    dataset = alexnet.ImageDataset(tmp_path / "photos", "val", **options)
    animals = [name.rpartition("/")[2].partition("_")[0] for name in found.names]
    assert sorted(animals) == sorted(sorted({*animals}) * 4)  # whole groups of four
    assert {*dataset.names} == {*found.names}
    assert command("features", tmp_path / "photos", tmp_path / "out.npz", "--group", options["group"], "--split",
                   "val") == 0
    with np.load(tmp_path / "out.npz") as file:
        assert file["names"].tolist() == list(found.names)
    without = alexnet.ImageDataset(tmp_path / "photos", "val", progress=False)
    assert {*without.names} != {*found.names}


def test_the_labels_of_a_dataset_do_not_change_with_its_targets(packed):
    dataset = alexnet.ImageDataset(packed.path, progress=False)
    label = dataset[0][1]
    dataset.targets.add_(1)
    assert dataset[0][1] == label
    with pytest.raises(alexnet.UserError, match="the transform 'flip' cannot be called"):
        alexnet.ImageDataset(packed.path, transform="flip", progress=False)
    for wrong in (None, ["train"]):
        with pytest.raises(alexnet.UserError, match=r"split (is empty|must be a path or a word)"):
            alexnet.ImageDataset(packed.path, wrong, progress=False)


# --- Images -----------------------------------------------------------------------------------------------------------


def read(photo):
    with Image.open(photo) as image:
        return np.array(image)


def images_and_remedies(photo):
    pixels = read(photo)
    return [
        (Image.fromarray(pixels), r'give the path or the bytes of its file; .*numpy\.array\(image\.convert\("RGB"\)\)'),
        (pixels / 255, r"of values on 0 to 1: \(array \* 255\)\.round\(\)\.astype\(numpy\.uint8\)"),
        (pixels.astype(np.int64), r"array\.astype\(numpy\.uint8\)"),
        (pixels.transpose(2, 0, 1), r"put the channels last: array\.transpose\(1, 2, 0\)"),
        (pixels.transpose(2, 0, 1) / 255, r"put the channels last"),
        (pixels[None], r"give a batch as a list of images: list\(array\)"),
        (pixels[..., 0], r"repeat the gray values: numpy\.stack\(\[array\] \* 3, 2\)"),
        (pixels[..., :1], r"array\.repeat\(3, 2\)"),
        (np.dstack([pixels, pixels[..., :1]]), "give the path of the file"),
        (np.array([str(photo)]), r"give a list of paths: list\(array\)"),
        (torch.from_numpy(pixels).permute(2, 0, 1), r"image\.permute\(1, 2, 0\)\.numpy\(\)"),
        (io.BytesIO(photo.read_bytes()), r"give image\.read\(\)"), (bytearray(b"x"), r"give bytes\(image\)"),
        ({"a": photo}, r"give list\(images\.values\(\)\)"),
        ("https://example.org/a.jpg", "is a URL, and this reads files")]


def test_an_image_in_another_form_is_refused_with_the_remedy(run, photo):
    model = alexnet.load(run)
    for image, words in images_and_remedies(photo):
        for ask in (model.predict, model.features, model.views):
            with pytest.raises(alexnet.UserError, match=words):
                ask(image)


def test_the_remedies_give_the_prediction_of_the_file(run, photo):
    model, pixels = alexnet.load(run), read(photo)
    expected = model.predict(photo)[0]
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for image in (np.array(Image.fromarray(pixels).convert("RGB")), ((pixels / 255) * 255).round().astype(np.uint8),
                  pixels.transpose(2, 0, 1).transpose(1, 2, 0), tensor.permute(1, 2, 0).numpy(), photo.read_bytes()):
        assert model.predict([image])[0] == expected
    gray = pixels[..., 0]
    assert model.predict(np.stack([gray] * 3, 2)) == model.predict(gray[..., None].repeat(3, 2))
    assert model.predict(list(pixels[None])) == [expected]


# --- What stays afterwards --------------------------------------------------------------------------------------------


def process_state():
    return {"torch": torch.get_rng_state().tolist(), "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
            "python": random.getstate(), "type": torch.get_default_dtype(), "threads": torch.get_num_threads(),
            "deterministic": torch.are_deterministic_algorithms_enabled(), "gradients": torch.is_grad_enabled(),
            "folder": Path.cwd(),
            "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
            "environment": dict(os.environ)}


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = {*threading.enumerate()}
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and thread.is_alive()]
    for thread in left:
        thread.join(5)  # seconds, for one that is ending
    assert not [thread.name for thread in left if thread.is_alive()]


def test_no_function_changes_the_process_and_gradients_may_be_off(run, packed, tiny, tmp_path, monkeypatch):
    import rich.style  # noqa: F401  which draws from Python's generator when it is imported first

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # or else torch sets it when it is first needed

    with torch.no_grad():
        before = process_state()
        alexnet.AlexNet(tiny)
        alexnet.load(run).predict(np.zeros((40, 50, 3), np.uint8), views=10)
        alexnet.evaluate(run, packed.path, progress=False)
        alexnet.check(packed.path, run=run, progress=False)
        alexnet.features(packed.path, model=run, progress=False)
        done = alexnet.train(packed.path, arch=tiny, recipe="modern", epochs=1, batch_size=20, out=tmp_path / "run",
                             progress=False)
        after = process_state()
    assert {name for name in before if before[name] != after[name]} == set()
    assert done.metrics == run.metrics


def test_an_error_in_the_middle_leaves_nothing_behind(packed, tiny, tmp_path):
    calls = []

    def broken(views):
        calls.append(len(views))
        if len(calls) > 3:
            raise RuntimeError("mine")
        return views

    before = process_state()
    with pytest.raises(RuntimeError, match="mine"):
        alexnet.train(packed.path, arch=tiny, recipe="modern", epochs=2, batch_size=20, out=tmp_path / "run",
                      transform=broken, progress=False)
    assert process_state() == before


def test_an_interrupt_saves_and_the_next_call_resumes(packed, tiny, tmp_path):
    calls, interrupt_at = [], 0

    def counting(views):
        calls.append(len(views))
        if len(calls) == interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        return views

    options = {"arch": tiny, "recipe": "modern", "epochs": 2, "batch_size": 20, "transform": counting,
               "progress": False}
    whole = alexnet.train(packed.path, out=tmp_path / "whole", **options)
    before, interrupt_at = process_state(), len(calls) + 5  # the first call is the check before the run
    with pytest.raises(Interrupted, match="is saved; resume"):
        alexnet.train(packed.path, out=tmp_path / "run", **options)
    assert process_state() == before
    assert len(calls) < interrupt_at + 3
    resumed = alexnet.train(packed.path, out=tmp_path / "run", resume=True, **options)
    assert resumed.metrics == whole.metrics
    assert [event["val_loss"] for event in resumed.history] == [event["val_loss"] for event in whole.history]


def test_another_default_type_evaluates_the_same_and_is_refused_in_training(run, packed, tiny, tmp_path):
    expected = alexnet.evaluate(run, packed.path, views=10, progress=False)
    torch.set_default_dtype(torch.float64)
    try:
        assert alexnet.evaluate(run, packed.path, views=10, progress=False) == expected
        with pytest.raises(alexnet.UserError, match=r"default type is torch\.float64.*call torch\.set_default_dtype"):
            alexnet.train(packed.path, arch=tiny, epochs=1, out=tmp_path / "run", progress=False)
    finally:
        torch.set_default_dtype(torch.float32)
    assert not (tmp_path / "run").exists()
