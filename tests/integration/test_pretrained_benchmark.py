"""benchmarks/pretrained.py: what it makes of a run, what it measures, and the model card."""

import io
import json
import re
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pretrained
import pytest
from PIL import Image
from pretrained_card import model_card

from alexnet.errors import UserError
from alexnet.models import checkpoint, packaged
from alexnet.models.formats.open_weights import open_weights
from sample_images import draw

pytestmark = pytest.mark.usefixtures("one_thread")

WNIDS = ("n01440764", "n01443537", "n01484850", "n01491361")  # tench, goldfish, great white shark, tiger shark


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A run whose classes are WordNet IDs."""
    saved = checkpoint.load(trained, with_velocity=True)
    checkpoint.save(replace(saved, classes=WNIDS), tmp_path / "run" / "last")
    (tmp_path / "run" / "config.json").write_text(json.dumps({
        "command": "alexnet train /secret/place/trees --arch small", "seed": 3, "versions": {"torch": "2"},
        "device": "CPU"}))
    return tmp_path / "run"


def photos(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w") as tar:
        for number, name in enumerate(names):
            stream = io.BytesIO()
            pixels_HWC = np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)
            Image.fromarray(pixels_HWC).save(stream, "JPEG")
            member = tarfile.TarInfo(f"samples/{name}")
            member.size = len(stream.getvalue())
            tar.addfile(member, io.BytesIO(stream.getvalue()))
    return path


def test_only_photographs_of_known_classes_are_measured(run, tmp_path):
    model = pretrained.model_from_checkpoint(pretrained._with_readable_names(checkpoint.load(run / "last")))
    assert model.classes[:2] == ("tench", "goldfish")
    archive = photos(tmp_path / "a.tar", "n01440764_tench.JPEG", "n01443537_goldfish.JPEG", "n09999999_else.JPEG",
                     "README.txt")
    measured = pretrained.measure_samples(model, WNIDS, archive, 1)
    assert (measured["images"], measured["left_out"]) == (2, 0)
    assert measured["top1_error"] in (0.0, 0.5, 1.0)
    assert measured["top5_error"] == 0.0  # of four classes


def test_samples_that_look_like_training_images_are_left_out(run, tmp_path):
    """One of the two is a training image."""
    saved = pretrained._with_readable_names(checkpoint.load(run / "last"))
    archive = photos(tmp_path / "a.tar", "n01440764_tench.JPEG", "n01443537_goldfish.JPEG")
    model = pretrained.model_from_checkpoint(saved)
    with tarfile.open(archive) as tar:
        for name, member in zip(model.classes, tar.getmembers(), strict=False):
            (tmp_path / "photos" / name).mkdir(parents=True)
            (tmp_path / "photos" / name / "one.jpg").write_bytes(tar.extractfile(member).read())
    images = pretrained.open_evaluation_set([model], tmp_path / "photos", note=pretrained.silent)
    tench = images.label_map[images.images.labels].numpy() == 0
    seen = replace(saved.seen, trained_perceptual=images.images.perceptual_hashes[tench])
    model = pretrained.model_from_checkpoint(replace(saved, seen=seen))
    measured = pretrained.measure_samples(model, WNIDS, archive, 1)
    assert (measured["images"], measured["left_out"]) == (1, 1)
    assert measured["data"].endswith("without look-alikes of training images")


def test_a_split_with_look_alikes_is_measured_with_and_without_them(run, validation):
    saved = pretrained._with_readable_names(checkpoint.load(run / "last"))
    images = pretrained.open_evaluation_set([pretrained.model_from_checkpoint(saved)], validation)
    seen = replace(saved.seen, trained_perceptual=images.images.perceptual_hashes[:8])
    model = pretrained.model_from_checkpoint(replace(saved, seen=seen))
    images = pretrained.open_evaluation_set([model], validation)
    count = images.selection.looks_trained_on
    assert 8 <= count < 80
    whole, unlike = pretrained.measure_split(model, images, "Trees", 1)
    assert (whole["images"], unlike["images"], unlike["left_out"]) == (80, 80 - count, count)
    alike_N = images.selection.looks_trained_on_M
    outputs_NK, _ = pretrained._outputs(model, images, 1)
    labels_N = images.label_map[images.images.labels].numpy()
    assert unlike["top1_error"] == pytest.approx((outputs_NK.argmax(1) != labels_N)[~alike_N].mean())


def test_a_class_without_a_readable_name_is_refused(run):
    saved = checkpoint.load(run / "last")
    with pytest.raises(UserError, match="n00000001 have no readable names"):
        pretrained._with_readable_names(replace(saved, classes=("n00000001", *WNIDS[1:])))


def test_commands_lose_the_folders_of_this_machine():
    assert pretrained._without_folders("alexnet train /tmp/p/tin64 --out /x/y/run --set a.b=c/d") == (
        "alexnet train tin64 --out run --set a.b=c/d")


def test_a_checkpoint_keeps_the_name_of_its_run():
    assert pretrained._without_folders("python pretrained.py make /tmp/p/runs/medium-0/last /tmp/p/tin64") == (
        "python pretrained.py make medium-0/last tin64")


def test_the_card_has_the_figures_of_the_json_file(run, tmp_path, monkeypatch):
    """With a temperature given, as the fixture's validation images are too few to fit one."""
    saved = replace(checkpoint.load(run / "last"), classes=("tench", "goldfish", "shark", "tiger shark"), calibration={
        "temperature": 1.25, "fitted_images": 30, "measured_images": 30, "ece_before": 0.1, "ece_after": 0.02})
    monkeypatch.setattr(sys, "argv", ["pretrained.py", "make", "/some/where/run/last", "/else/where/trees"])
    options = type("Options", (), {"run": run / "last", "data_name": "Trees"})
    record = pretrained._training_record(saved, options)
    path = pretrained.write_packaged(saved, tmp_path / "made", "trees", record, packaged.LICENSE)
    measured = {"data": "Trees", "images": 1234, "views": 1, "top1_error": 0.321, "top1_interval": [0.3, 0.35],
                "top5_error": 0.1, "top5_interval": [0.09, 0.11], "ece": 0.017, "ece_images": 617, "sure_images": 55,
                "sure_error": 0.125, "loss": 1.0}
    views = measured | {"views": 10, "ece": 0.042}
    photographs = {name: value for name, value in measured.items() if not name.startswith("ece")} | {
        "data": "photographs", "images": 38, "top1_error": 17 / 38, "top5_error": 12 / 38}
    pretrained.add_measured(path, [measured, views, photographs], [], {"int8": open_weights(path).errors})
    tree = packaged.read_packaged_json(path)
    card = model_card(tree, 240_000, 0.21)
    assert "| Trees | 1,234 | 1 | 32.1% (30.0% to 35.0%) | 10.0% (9.0% to 11.0%) | 1.7% | 55, 12.5% |" in card
    for words in ("take 0.21 s", "temperature of 1.250", f"{tree['bytes']:,} bytes", "not commercial", "seed 3",
                  "alexnet train trees --arch small\npython benchmarks/pretrained.py make run/last trees",
                  "top-1 probability >= 50%: images, error", "Inference is in fp32",
                  f"holds the weights in {tree['storage']} ({(tree['bytes'] - 240_000) / 1e6:.2f} MB)",
                  "hashes of the training and validation images (0.24 MB)",
                  "one network was trained, with seed 3, and the spread over seeds is unknown",
                  "With 10 views the same temperature is used, and the ECE is 4.2%\nin place of 1.7%",
                  "Of the 38 photographs, 21 have the right class first and 26 among five, with 1 view.",
                  "What bounds its error is unknown"):
        assert words in card
    assert card.count("Of the ") == 1, "1,234 images are no few"
    tree["network"]["calibration"]["ten_views"] = {
        "temperature": 0.75, "fitted_images": 30, "measured_images": 31, "ece_before": 0.042, "ece_after": 0.018}
    own = " ".join(model_card(tree, 0).split())
    for words in ("a temperature of 1.250 for one view, and of 0.750 for ten views, fitted on 30 validation images",
                  "fitted on the same 30 images. On the other 31 the ECE with ten views is 1.8%; with the temperature "
                  "of one view it is 4.2%", "That of one view changes no error, and that of ten views few of them."):
        assert words in own
    assert "the same temperature is used" not in own
    assert "has changed since" not in card  # a network of this version
    tree["training"]["changed_since"] = ["crops are drawn otherwise"]
    changed = "The package has changed since, so the weights will differ: crops are drawn otherwise."
    assert changed in model_card(tree, 0)
    assert "/secret" not in card + path.read_text()


@pytest.fixture
def validation(tmp_path) -> Path:
    """80 images of the run's four classes, of which one in four has a wrong label."""
    rng = np.random.default_rng(9)
    for number in range(80):
        folder = tmp_path / "validation" / WNIDS[(number + (number % 16 < 4)) % 4]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(rng, number % 4)).save(folder / f"{number}.png")
    return tmp_path / "validation"


def test_calibrate_writes_the_temperature_of_ten_views_and_no_weight(run, validation, tmp_path, monkeypatch):
    """On the images that fitted that of one view; of other images it writes nothing."""
    monkeypatch.setattr(pretrained.calibration.Calibration, "helps", True)  # by more than chance needs more images
    saved = pretrained._with_readable_names(checkpoint.load(run / "last"))
    images = pretrained.open_evaluation_set([pretrained.model_from_checkpoint(saved)], validation)
    calibrated = pretrained._calibrated(replace(saved, seen=replace(saved.seen, selected_on=np.zeros(0, np.uint64))),
                                        images)
    one_view = {name: value for name, value in calibrated.calibration.items() if name != "ten_views"}
    record = pretrained._training_record(saved, type("Options", (), {"run": run / "last", "data_name": "Trees"}))
    path = pretrained.write_packaged(replace(calibrated, calibration=one_view), tmp_path / "made", "trees", record,
                                     packaged.LICENSE, storage="fp16")
    tree, tensors = packaged.read_packaged_json(path), path.with_suffix(".safetensors").read_bytes()
    pretrained.calibrate(path, validation)
    again = packaged.read_packaged_json(path)
    written = again["network"].pop("calibration")
    assert written.pop("ten_views") == pytest.approx(calibrated.calibration["ten_views"], rel=1e-2)  # weights in fp16
    assert written == tree["network"].pop("calibration") == one_view
    assert again == tree
    assert path.with_suffix(".safetensors").read_bytes() == tensors
    whole = path.read_bytes()
    next(validation.rglob("*.png")).unlink()
    with pytest.raises(UserError, match="has other validation images than those that fitted the temperature of trees"):
        pretrained.calibrate(path, validation)
    assert path.read_bytes() == whole


def test_the_committed_card_is_made_of_the_head_of_the_package():
    """Apart from the loading time, which is measured whenever the card is written."""
    committed = pretrained.CARD.read_text()
    seconds = re.search(r"take (\d+\.\d\d) s after torch's own import", committed)
    assert committed == pretrained.card_of(packaged.default_weights(), float(seconds[1]))


def test_the_card_tells_the_weights_from_the_hashes():
    """99,980 training images with a hash of 8 bytes and a perceptual one of 16, and 4,997 that fitted the temperature:
    2,439,496 bytes. 2,190,536 parameters of 2 bytes, and statistics of batch normalization, are the most of the rest.
    """
    text = " ".join(pretrained.card_of(packaged.default_weights()).split())
    assert "The file of 6,853,068 bytes holds the weights in fp16 (4.41 MB)" in text
    assert "hashes of the training and validation images (2.44 MB)" in text
    assert ("fitted on the same 4,997 images. On the other 4,996 the ECE with ten views is 1.6%; with the temperature "
            "of one view it is 3.6%") in text
    assert ("Of 38 full-size ImageNet photographs of classes that it knows, 12 look like training images. Of the other "
            "26, 13 have the right class first and 17 among five, with 1 view; 13 and 18, with 10 views.") in text
    assert text.count("photographs of classes that it knows, 12 look") == 1, "one sentence for both numbers of views"


def test_the_card_is_written_without_data(run, tmp_path, monkeypatch):
    saved = replace(checkpoint.load(run / "last"), calibration={
        "temperature": 1.25, "fitted_images": 30, "measured_images": 30, "ece_before": 0.1, "ece_after": 0.02})
    options = type("Options", (), {"run": run / "last", "data_name": "Trees"})
    record = pretrained._training_record(saved, options)
    path = pretrained.write_packaged(saved, tmp_path / "made", "trees", record, packaged.LICENSE)
    pretrained.add_measured(path, [{
        "data": "Trees", "images": 9, "views": 1, "top1_error": 0.5, "top1_interval": [0.3, 0.7], "top5_error": 0.1,
        "top5_interval": [0.0, 0.2], "sure_images": 5, "sure_error": 0.2, "loss": 1.0}], [], {})
    card = tmp_path / "card.md"
    monkeypatch.setattr(sys, "argv", ["pretrained.py", "card", "--folder", str(path.parent), "--card", str(card)])
    pretrained.main()
    assert card.read_text() == pretrained.card_of(path)
    monkeypatch.setattr(sys, "argv", ["pretrained.py", "card", "somewhere"])
    with pytest.raises(UserError, match="card takes no path"):
        pretrained.main()
