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
    assert measured["images"] == 2
    assert measured["top1_error"] in (0.0, 0.5, 1.0)
    assert measured["top5_error"] == 0.0  # of four classes


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


def test_the_card_has_the_figures_of_the_head(run, tmp_path, monkeypatch):
    """With a temperature given, as the fixture's validation images are too few to fit one."""
    saved = replace(checkpoint.load(run / "last"), classes=("tench", "goldfish", "shark", "tiger shark"), calibration={
        "temperature": 1.25, "fitted_images": 30, "measured_images": 30, "ece_before": 0.1, "ece_after": 0.02})
    monkeypatch.setattr(sys, "argv", ["pretrained.py", "make", "/some/where/run/last", "/else/where/trees"])
    options = type("Options", (), {"run": run / "last", "data_name": "Trees"})
    facts = pretrained._training_facts(saved, options)
    path = pretrained.write_packaged(saved, tmp_path / "made", "trees", facts, packaged.LICENSE)
    measured = {"data": "Trees", "images": 1234, "views": 1, "top1_error": 0.321, "top1_interval": [0.3, 0.35],
                "top5_error": 0.1, "top5_interval": [0.09, 0.11], "ece": 0.017, "ece_images": 617, "sure_images": 55,
                "sure_error": 0.125, "loss": 1.0}
    pretrained.add_measured(path, [measured], [], {"int8": open_weights(path).errors})
    head = packaged.read_head(path)
    card = model_card(head, 0.21)
    assert "| Trees | 1,234 | 1 | 32.1% (30.0% to 35.0%) | 10.0% (9.0% to 11.0%) | 1.7% | 55, 12.5% |" in card
    for words in ("take 0.21 s", "temperature of 1.250", f"{head['bytes']:,} bytes", "not commercial", "seed 3",
                  "alexnet train trees --arch small\npython benchmarks/pretrained.py make run/last trees",
                  "top-1 probability >= 50%: images, error", "inference is in fp32"):
        assert words in card
    assert "has changed since" not in card  # a network of this version
    head["training"]["changed_since"] = ["crops are drawn otherwise"]
    assert "The package has changed since, so the weights will differ: crops are drawn otherwise." in model_card(head)
    assert "/secret" not in card + path.read_text()


def test_the_committed_card_is_made_of_the_head_of_the_package():
    """Apart from the loading time, which is measured whenever the card is written."""
    committed = pretrained.CARD.read_text()
    seconds = re.search(r"take (\d+\.\d\d) s after torch's own import", committed)
    assert committed == model_card(packaged.read_head(packaged.default_weights()), float(seconds[1]))


def test_the_card_is_written_without_data(run, tmp_path, monkeypatch):
    saved = replace(checkpoint.load(run / "last"), calibration={
        "temperature": 1.25, "fitted_images": 30, "measured_images": 30, "ece_before": 0.1, "ece_after": 0.02})
    options = type("Options", (), {"run": run / "last", "data_name": "Trees"})
    facts = pretrained._training_facts(saved, options)
    path = pretrained.write_packaged(saved, tmp_path / "made", "trees", facts, packaged.LICENSE)
    pretrained.add_measured(path, [{
        "data": "Trees", "images": 9, "views": 1, "top1_error": 0.5, "top1_interval": [0.3, 0.7], "top5_error": 0.1,
        "top5_interval": [0.0, 0.2], "sure_images": 5, "sure_error": 0.2, "loss": 1.0}], [], {})
    card = tmp_path / "card.md"
    monkeypatch.setattr(sys, "argv", ["pretrained.py", "card", "--folder", str(path.parent), "--card", str(card)])
    pretrained.main()
    assert card.read_text() == model_card(packaged.read_head(path))
    monkeypatch.setattr(sys, "argv", ["pretrained.py", "card", "somewhere"])
    with pytest.raises(UserError, match="card takes no path"):
        pretrained.main()
