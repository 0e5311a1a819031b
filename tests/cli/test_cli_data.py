"""The `check`, `pack` and `verify` commands, and `alexnet.check`."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from alexnet.data.sources.embedded import PHOTOGRAPHS
from alexnet.inference.predictor import load
from alexnet.models.formats.recognize import runs_of_series
from alexnet.serving.served_model import ServedModel
from command_line import SMALL, alexnet
from sample_images import write_smooth_image


@pytest.mark.slow
def test_pack_then_train_on_the_packed_folder(class_folders, tmp_path, capsys):
    assert alexnet("pack", class_folders, tmp_path / "packed") == 0
    assert "4 classes, 120 train, 44 val, 32x32 pixels, raw" in capsys.readouterr().out
    assert alexnet("train", tmp_path / "packed", *SMALL, "--epochs", 1, "--out", tmp_path / "run") == 0


def test_verify_names_the_shard_with_a_flipped_bit(class_folders, tmp_path, capsys):
    assert alexnet("pack", class_folders, tmp_path / "packed") == 0
    assert alexnet("verify", tmp_path / "packed") == 0
    assert "all 11 files have the right checksum" in capsys.readouterr().out
    shard = tmp_path / "packed" / "train-00000.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert alexnet("verify", tmp_path / "packed") == 2
    assert "train-00000.npy is damaged: its checksum does not match" in capsys.readouterr().err


def test_verify_prints_the_sha_256_that_a_server_shows_for_a_run(trained, capsys):
    served = ServedModel(load(trained)).sha256
    assert alexnet("verify", trained) == 0
    best, last = capsys.readouterr().out.splitlines()
    assert (best.partition(":")[0], last.partition(":")[0]) == (str(trained / "best"), str(trained / "last"))
    assert best.endswith(f"alexnet serve shows the weights as SHA-256 {served}")
    assert alexnet("verify", trained / "best") == 0
    assert capsys.readouterr().out.splitlines() == [best]


@pytest.mark.parametrize(("which", "role"), [("best", "weights"), ("best", "seen"), ("last", "velocity")])
def test_verify_names_the_damaged_file_of_a_run(trained, tmp_path, capsys, which, role):
    run = shutil.copytree(trained, tmp_path / "run")
    name = json.loads((run / which / "checkpoint.json").read_bytes())["files"][role]["file"]
    content = bytearray((run / which / name).read_bytes())
    content[-1] ^= 1
    (run / which / name).write_bytes(content)
    assert alexnet("verify", run) == 2
    assert f"{run / which / name} is damaged: same size, other checksum" in capsys.readouterr().err


def test_verify_reports_a_run_without_its_best_checkpoint(trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(run / "best")
    assert alexnet("verify", run) == 2
    assert f"{run} has no best/, although an epoch of the run was validated" in capsys.readouterr().err


def test_verify_takes_a_folder_of_several_runs(trained, tmp_path, capsys):
    runs = [shutil.copytree(trained, tmp_path / "runs" / f"seed-{seed}") for seed in range(2)]
    folders = [run / part for run in runs for part in ("best", "last")]
    assert alexnet("verify", tmp_path / "runs") == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [*map(str, folders)]
    weights = next(folders[-1].glob("weights-*"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert alexnet("verify", tmp_path / "runs") == 2
    assert f"{weights} is damaged: same size, other checksum" in capsys.readouterr().err
    shutil.rmtree(folders[-1])
    shutil.rmtree(folders[-2])
    assert alexnet("verify", tmp_path / "runs") == 2
    assert (f"no checkpoint in {tmp_path / 'runs/seed-1'}: the training ended before it saved one"
            in capsys.readouterr().err)


def test_verify_names_what_the_pack_has_left_out_and_what_should_be_known(class_folders, tmp_path, capsys):
    photos = shutil.copytree(class_folders, tmp_path / "photos")
    (photos / "train/ash/broken.jpg").write_bytes(b"\xff\xd8 no image")
    frames = [Image.new("RGB", (40, 40), (50 * number, 0, 0)) for number in range(3)]
    frames[0].save(photos / "train/ash/moving.gif", save_all=True, append_images=frames[1:])
    further = ("note: 1 file holds several images or pages, and the first one alone is used: "
               "train/ash/moving.gif; to use the others, save each as a file of its own")
    alexnet("pack", photos, tmp_path / "packed")
    assert further in capsys.readouterr().err
    assert alexnet("verify", tmp_path / "packed") == 0
    printed = capsys.readouterr()
    assert printed.out.endswith("files have the right checksum\n")
    assert "note: 1 image could not be decoded and is left out: train/ash/broken.jpg" in printed.err
    assert further in printed.err
    assert alexnet("train", tmp_path / "packed", *SMALL, "--epochs", 1, "--out", tmp_path / "run") == 0
    assert further in capsys.readouterr().err
    events = map(json.loads, (tmp_path / "run/log.jsonl").read_text().splitlines())
    (logged,) = [event["problem"] for event in events if event.get("kind") == "further_images"]
    assert logged in further
    assert alexnet("check", photos) == 0
    assert "1 file holds several images or pages" in " ".join(capsys.readouterr().out.split())


def test_check_shows_classes_splits_and_counts(class_folders, tmp_path, capsys):
    import alexnet as package

    found = package.check(class_folders, quick=True)
    assert found.classes == ("ash", "birch", "cedar", "date palm")
    assert found.images == {"train": dict.fromkeys(found.classes, 30), "val": dict.fromkeys(found.classes, 11)}
    assert alexnet("check", class_folders, "--quick") == 0
    printed = capsys.readouterr().out
    assert "164 images of 4 classes (120 train, 44 val)" in printed
    assert any(line.split() == ["date", "palm", "30", "11"] for line in printed.splitlines())
    # Always answering one of four classes of 11 validation images each is wrong about 33 of 44.
    assert "baselines: 75.0% top-1 error on val by chance\n" in printed  # no class is the largest
    assert not (tmp_path / "cache").exists()  # a quick check writes nothing
    assert alexnet("pack", class_folders, tmp_path / "packed") == 0
    assert package.check(tmp_path / "packed").images == found.images
    capsys.readouterr()
    assert alexnet("check", class_folders, "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"]["val"]["birch"] == 11


@pytest.fixture
def different(tmp_path):
    """train/ and val/ of two classes, 12 and 4 images each, of which no two look the same."""
    for number in range(32):
        split = "train" if number < 24 else "val"
        write_smooth_image(tmp_path / "images" / split / ("ash", "birch")[number % 2] / f"{number:02}.png", number)
    return tmp_path / "images"


@pytest.fixture
def few_are_enough(monkeypatch):
    monkeypatch.setattr("alexnet.data.findings.FEW_FOR_SCRATCH", 1)


@pytest.mark.usefixtures("few_are_enough")
def test_check_says_first_what_needs_attention(different, capsys):
    shutil.copy(different / "train/ash/00.png", different / "val/ash/copy.png")
    (different / "train/birch/07.png").write_bytes(b"<html>not found</html>")
    assert alexnet("check", different, "--side", 32) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{different}: 32 images of 2 classes (23 train, 9 val); 1 more cannot be decoded"
    assert lines[2] == "2 things need attention, the most harmful first:"
    text = " ".join(" ".join(lines).split())
    assert "2. 1 image of 33 cannot be decoded: train/birch/07.png (it begins with '<html>" in text
    assert ("1. val: 1 image of 9 is also a training image, byte for byte: val/ash/copy.png and "
            "train/ash/00.png") in text
    assert "sizes: median 40 x 40, smallest 40 x 40, largest 40 x 40 pixels formats: 32 PNG" in text
    assert "labels were not checked: that takes a trained network, --run RUN" in text
    assert ("damage in the middle of a JPEG that leaves no trace" in text) == ("JPEG" in text.partition("formats:")[2])
    assert alexnet("check", different, "--side", 32, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["duplicates"] == [{"kind": "exact", "images": [
        {"name": "train/ash/00.png", "split": "train", "class": "ash"},
        {"name": "val/ash/copy.png", "split": "val", "class": "ash"}]}]
    assert [image["name"] for image in found["broken"]] == ["train/birch/07.png"]
    assert [finding["kind"] for finding in found["findings"]] == ["copies_across_splits", "broken"]


@pytest.mark.parametrize("options", [
    ("train", "DATA", "--arch", "cifar", "--epochs", 1, "--out", "RUN"), ("check", "DATA"),
    ("check", "DATA", "--quick"), ("pack", "DATA", "PACKED", "--side", 32)],
    ids=lambda options: "-".join(map(str, (options[0], *options[2:3]))))
def test_a_class_without_validation_images_is_reported_once(options, tmp_path, capsys):
    for split, classes in (("train", ("ash", "birch", "elm")), ("val", ("ash", "elm"))):
        for number in range(3 * len(classes)):
            write_smooth_image(tmp_path / "DATA" / split / classes[number % len(classes)] / f"{number}.png",
                               number + 50 * len(classes))
    arguments = [tmp_path / each if str(each).isupper() else each for each in options]
    assert alexnet(*arguments) == 0
    printed = capsys.readouterr()
    lines = " ".join((printed.out + printed.err).split()).replace("images of", "image of")
    assert lines.count("no image of birch") + lines.count("no validation image") == 1


def test_check_shows_the_largest_and_the_smallest_of_many_classes(tmp_path, capsys):
    for label in range(30):
        for number in range(3 + label):
            write_smooth_image(tmp_path / "images" / f"class {label}" / f"{number}.png", 100 * label + number, side=8)
    assert alexnet("check", tmp_path / "images", "--quick") == 0
    printed = capsys.readouterr().out
    assert "  ... 6 more, which --json lists ..." in printed
    rows = [line.split("  ")[1] for line in printed.splitlines() if line.startswith("  class ")]
    assert [rows[0], rows[1], rows[-1], len(rows)] == ["class", "class 29", "class 0", 25]


@pytest.mark.usefixtures("few_are_enough")
def test_check_of_good_images_says_that_nothing_needs_attention(different, capsys):
    assert alexnet("check", different, "--side", 32) == 0
    assert capsys.readouterr().out.splitlines()[2] == "Nothing needs attention."


def test_check_of_a_pack_says_what_cannot_be_known(class_folders, tmp_path, capsys):
    assert alexnet("pack", class_folders, tmp_path / "packed") == 0
    capsys.readouterr()
    assert alexnet("check", tmp_path / "packed") == 0
    printed = capsys.readouterr().out
    assert "the original files are not in a packed folder" in printed
    assert "sizes:" not in printed
    assert "formats:" not in printed


def as_seen_by_a_good_network(moved):
    """Features that show the class of an image's content, whatever its label: `label_check._features`."""
    def features(model, packed, catalog, rows, on_progress):
        names = [moved.get(catalog.names_N[row], catalog.names_N[row]) for row in rows]
        content_N = [catalog.classes.index(name.split("/")[1]) for name in names]
        noise = np.random.default_rng(0).normal(0, 0.1, (len(rows), len(catalog.classes)))
        return (np.eye(len(catalog.classes))[content_N] + noise).astype(np.float32)

    return features


def test_check_with_a_run_finds_mislabeled_images_and_shows_them_on_its_page(
    class_folders, run, tmp_path, monkeypatch, capsys,
):
    folder = tmp_path / "images"
    shutil.copytree(class_folders, folder)
    moved = {"train/birch/ash 1.png": "train/ash/003.png", "train/cedar/ash 2.png": "train/ash/017.png",
             "val/ash/birch.png": "val/birch/005.png"}
    for wrong, right in moved.items():
        (folder / right).rename(folder / wrong)
    monkeypatch.setattr("alexnet.inference.label_check._features", as_seen_by_a_good_network(moved))
    page = tmp_path / "check.html"
    assert alexnet("check", folder, "--run", run, "--html", page, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {(suspect["name"], suspect["class"], suspect["predicted"]) for suspect in found["suspects"]} == {
        (wrong, wrong.split("/")[1], right.split("/")[1]) for wrong, right in moved.items()}
    assert all(suspect["probability"] > 0.9 > 0.1 > suspect["class_probability"] for suspect in found["suspects"])
    assert "suspicious_labels" in [finding["kind"] for finding in found["findings"]]
    text = page.read_text()
    assert "Suspicious labels" in text
    assert "train/birch/ash 1.png" in text
    assert "data:image/jpeg" in text
    assert "http:" not in text
    assert "https:" not in text


def test_check_with_a_weak_network_says_so_last_and_each_note_once(class_folders, run, tmp_path, monkeypatch, capsys):
    """Of 61 wrong labels among 164, none is blamed on the data."""
    folder = tmp_path / "images"
    shutil.copytree(class_folders, folder)
    (folder / "README.txt").touch()
    names = [f"{split}/{name}/{number:03}.png" for split, name, count in (("train", "ash", 30), ("val", "ash", 11),
             ("train", "birch", 20)) for number in range(count)]
    unlike = {name: "train/cedar/x.png" if number % 2 else "train/date palm/x.png" for number, name in enumerate(names)}
    monkeypatch.setattr("alexnet.inference.label_check._features", as_seen_by_a_good_network(unlike))
    assert alexnet("check", folder, "--run", run) == 0
    printed = capsys.readouterr()
    text = " ".join(printed.out.split())
    assert "this network is too weak to judge labels: it disagrees with " in text
    assert "may be wrong" not in text
    assert "own label" in text
    assert "ignored: README.txt" in text
    assert "ignored" not in printed.err
    [finding] = [line for line in printed.out.splitlines() if "too weak to judge labels" in line]
    assert not finding.startswith("  1. ")


@pytest.mark.usefixtures("one_thread")
def test_check_takes_several_runs_and_the_folder_of_a_series(class_folders, run, tmp_path, capsys):
    """The runs of the series are seed-2 and seed-10; seed-11, without a checkpoint, is none."""
    series = tmp_path / "series"
    for name in ("seed-10", "seed-2"):
        shutil.copytree(run / "best", series / name / "best")
    (series / "seed-11").mkdir()
    assert runs_of_series(series) == [series / "seed-2", series / "seed-10"]
    assert runs_of_series(run) == []
    assert alexnet("check", class_folders, "--run", run, "--run", series, "--json") == 0
    printed = capsys.readouterr()
    assert "the features of 3 networks, averaged" in json.loads(printed.out)["suspects_method"]
    assert alexnet("check", class_folders, "--run", run, "--run", tmp_path / "absent") == 2
    assert "absent does not exist" in capsys.readouterr().err


def test_check_refuses_a_run_in_a_quick_check(class_folders, run, capsys):
    assert alexnet("check", class_folders, "--quick", "--run", run) == 2
    assert "leave out --quick or --run" in capsys.readouterr().err


def test_strict_ends_with_1_if_anything_needs_attention_and_ignores_kinds(tmp_path, capsys):
    """Twelve photographs of the package a class, of which one is a copy of another class's."""
    photos = sorted(PHOTOGRAPHS.glob("*.*g"))
    for number, path in enumerate(photos):
        folder = tmp_path / "photos" / ("ash", "birch")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    few = ("--ignore", "few_images", "--ignore", "few_images_in_all")
    options = ("check", tmp_path / "photos", "--side", 64)
    assert alexnet(*options, "--strict") == 1
    printed = capsys.readouterr()
    assert printed.err.endswith("--strict: exit code 1, as these need attention: few_images, few_images_in_all\n")
    assert "fewer than 10 train images" in printed.out
    assert alexnet(*options, "--strict", *few) == 0
    printed = capsys.readouterr()
    assert "--strict" not in printed.err
    assert "fewer than 10 train images" in printed.out  # it is said all the same
    shutil.copy(photos[0], tmp_path / "photos" / "birch" / "copy.png")
    assert alexnet(*options, "--strict", *few, "--json") == 1
    printed = capsys.readouterr()
    kinds = {finding["kind"] for finding in json.loads(printed.out)["findings"]}
    assert kinds > {"few_images_in_all"}
    assert alexnet(*options) == 0


@pytest.mark.parametrize(("options", "said"), [
    (("--ignore", "blank"), "--ignore has no effect without --strict; add --strict, or leave out --ignore"),
    (("--strict", "--ignore", "few_image"), "there is no such kind of finding; did you mean few_images?")])
def test_ignore_needs_strict_and_a_kind(class_folders, capsys, options, said):
    assert alexnet("check", class_folders, *options) == 2
    assert said in capsys.readouterr().err
