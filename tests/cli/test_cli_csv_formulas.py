"""No cell of the CSV files of `evaluate` and `predict` is a formula, whatever files and classes are called."""

import csv
import io
import shutil
from dataclasses import replace

import pytest

from alexnet.models import checkpoint
from command_line import alexnet

FORMULA = "=1+1"


@pytest.fixture(scope="module")
def hostile(trained, class_folders, tmp_path_factory):
    """A folder: a checkpoint whose first class is a formula, and images whose files and first class are formulas."""
    root = tmp_path_factory.mktemp("hostile")
    saved = checkpoint.load(trained)
    checkpoint.save(replace(saved, classes=(FORMULA, *saved.classes[1:])), root / "best")
    for number, (source, name) in enumerate((("ash", FORMULA), ("birch", "birch"))):
        (root / "data" / name).mkdir(parents=True)
        shutil.copy(class_folders / "val" / source / "000.png", root / "data" / name / f"{FORMULA}{number}.png")
    return root


def test_the_file_of_evaluate_has_no_formula(hostile, tmp_path):
    assert alexnet("evaluate", hostile / "best", hostile / "data", "--csv", tmp_path / "all.csv") == 0
    rows = list(csv.DictReader((tmp_path / "all.csv").read_text(encoding="utf-8").splitlines()))
    assert f"'{FORMULA}" in {row["true"] for row in rows}
    assert not [cell for row in rows for cell in row.values() if cell.startswith("=")]


def test_the_table_of_predict_has_no_formula(hostile, monkeypatch, capsys):
    monkeypatch.chdir(hostile / "data" / FORMULA)
    assert alexnet("predict", hostile / "best", f"{FORMULA}0.png", "--csv", "--top", 4) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["image"] for row in rows} == {f"'{FORMULA}0.png"}
    assert f"'{FORMULA}" in {row["class"] for row in rows}
    assert not [cell for row in rows for cell in row.values() if cell.startswith("=")]
