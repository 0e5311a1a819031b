"""`alexnet evaluate`: chance, per-class metrics, a CSV file of all images, and a page of all mistakes."""

import csv
import json
import math
import re
import shutil

import numpy as np
import pytest
from rich.console import Console
from sklearn import metrics as sklearn_metrics

from alexnet.cli.render_metrics import errors_text, per_class_table
from alexnet.inference.class_metrics import ClassMetrics, PerClassMetrics, per_class_metrics
from alexnet.inference.metrics import Errors
from alexnet.inference.validation import predict_validation
from alexnet.models import checkpoint
from alexnet.reproduce.pages.mistakes import confused_pairs, write_mistakes_page
from command_line import alexnet


@pytest.fixture(scope="module")
def mixed(class_folders, tmp_path_factory):
    """The 44 validation images, of which 5 of ash stand in birch and 2 of cedar in date palm; 14 of one class."""
    root = tmp_path_factory.mktemp("mixed")
    shutil.copytree(class_folders / "val", root / "all")
    for source, target, count in (("ash", "birch", 5), ("cedar", "date palm", 2)):
        for number in range(count):
            (root / "all" / source / f"{number:03}.png").rename(root / "all" / target / f"from {source} {number}.png")
    return root / "all"


def test_chance_and_the_largest_class_stand_beside_the_result(run, mixed, capsys):
    assert alexnet("evaluate", run, mixed) == 0
    printed = capsys.readouterr().out
    # Of 44 images, 16 are in birch: always answering birch errs in 28 of 44.
    assert "Chance: 75.0% top-1 error; always answering the largest class (birch): 63.6%" in printed
    assert "top-5" not in printed
    assert alexnet("evaluate", run, mixed, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["baselines"] == pytest.approx(
        {"chance_top1_error": 0.75, "largest_class": "birch", "largest_class_error": 28 / 44})
    assert result["top5_error"] == 0
    assert "per_class" not in result


def test_per_class_metrics_of_a_folder_equal_scikit_learns(run, mixed, tmp_path, capsys):
    assert alexnet("evaluate", run, mixed, "--per-class", "--csv", tmp_path / "new" / "all.csv", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    rows = list(csv.DictReader((tmp_path / "new" / "all.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 44
    true, predicted = [row["true"] for row in rows], [row["predicted"] for row in rows]
    assert sum(row["correct"] == "0" for row in rows) / 44 == pytest.approx(result["top1_error"])
    assert [row["correct"] for row in rows] == [str(int(a == b)) for a, b in zip(true, predicted, strict=True)]
    assert {(row["image"], row["true"]) for row in rows} >= {("birch/from ash 0.png", "birch"), ("ash/009.png", "ash")}
    for row in rows:
        assert float(row["probability"]) >= float(row["true_probability"])
    found = result["per_class"]
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        true, predicted, labels=["ash", "birch", "cedar", "date palm"], zero_division=math.nan)
    for k, each in enumerate(found["classes"]):
        assert each["images"] == support[k]
        assert [each["precision"], each["recall"], each["f1"]] == pytest.approx([precision[k], recall[k], f1[k]])
        assert each["recall_interval"][0] <= each["recall"] <= each["recall_interval"][1]
    assert found["balanced_accuracy"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(true, predicted))
    assert found["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(
        true, predicted, labels=sorted(set(true)), average="macro"))
    assert found["classes_with_images"] == len(set(true))
    assert 0.5 < found["macro_auc"] <= 1


def test_the_table_of_classes_names_what_is_undefined(run, class_folders, tmp_path, capsys):
    shutil.copytree(class_folders / "val" / "birch", tmp_path / "two" / "birch")
    shutil.copytree(class_folders / "val" / "cedar", tmp_path / "two" / "cedar")
    assert alexnet("evaluate", run, tmp_path / "two", "--per-class") == 0
    printed = capsys.readouterr().out
    ash = next(line for line in printed.splitlines() if line.startswith("ash"))
    assert ash.split()[1] == "0"
    assert ash.split()[-1] == "-"
    assert "Balanced accuracy" in printed
    assert "means over the 2 of 4 classes that have images, each of which counts the same." in " ".join(printed.split())


@pytest.mark.parametrize("right", [1.0, 0.995, 0.5])
def test_a_class_name_of_16_letters_fits_80_columns(right):
    interval = 0.94, 1.0
    springer = ClassMetrics("English springer", 395, 400, 380, right, interval, right, interval, right, interval, 0.999)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(per_class_table(PerClassMetrics((springer, springer), 2, right, right, 0.999)))
    rows = [line for line in capture.get().splitlines() if line.startswith("English")]
    assert len(rows) == 2
    assert all(row.startswith("English springer ") and row.endswith("0.999") for row in rows)


def test_details_are_of_the_measured_images_alone(run, class_folders, tmp_path, capsys):
    data = shutil.copytree(class_folders / "train", tmp_path / "data")
    shutil.copy(class_folders / "val" / "birch" / "000.png", data / "ash" / "misplaced.png")
    assert alexnet("evaluate", run, data, "--csv", tmp_path / "all.csv", "--html", tmp_path / "all.html", "--json") == 0
    assert json.loads(capsys.readouterr().out)["measured"]["trained_on"] == 120
    (row,) = csv.DictReader((tmp_path / "all.csv").read_text(encoding="utf-8").splitlines())
    assert (row["image"], row["true"], row["predicted"], row["correct"]) == ("ash/misplaced.png", "ash", "birch", "0")
    page = (tmp_path / "all.html").read_text()
    assert page.count("<img") == 1
    assert "ash/misplaced.png" in page
    assert "trained on the other 120" in " ".join(page.split())


def test_details_are_refused_before_evaluating(run, class_folders, tmp_path, capsys):
    assert alexnet("evaluate", run, class_folders, "--csv", tmp_path / "all.txt") == 2
    assert alexnet("evaluate", run, class_folders, "--html", tmp_path) == 2
    told = capsys.readouterr().err
    assert "ends in .txt" in told
    assert "is a folder" in told
    assert "packing" not in told


def test_the_page_shows_every_mistake_offline(run, mixed, tmp_path, capsys, browser):
    out = tmp_path / "mistakes.html"
    assert alexnet("evaluate", run, mixed, "--html", out, "--json") == 0
    printed = capsys.readouterr()
    wrong = round(json.loads(printed.out)["top1_error"] * 44)
    assert wrong >= 7  # those in another class's folder, which this network recognizes
    assert f"{wrong} of {wrong} mistakes" in printed.err
    requests = []
    page = browser.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.goto(out.as_uri())
    assert page.locator("section img").count() == wrong
    assert page.locator("h2").first.inner_text().startswith("True class")
    assert page.locator("section h2").first.inner_text().startswith("birch → ash 5")
    assert page.locator("nav li").first.inner_text().split() == ["birch", "→", "ash", "5"]
    assert "birch/from ash" in page.locator("section").first.inner_text()
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    page.close()


def test_a_page_without_room_for_all_keeps_the_most_confident_and_says_so(trained, packed, tmp_path):
    predictions = predict_validation(checkpoint.load(trained), packed)
    rng = np.random.default_rng(0)  # a useless network, which is wrong about most images
    probabilities = rng.dirichlet(np.ones(4), len(predictions.labels_M)).astype(np.float32)
    useless = type(predictions)(predictions.split, predictions.selection, predictions.classes, predictions.indices_M,
                                predictions.labels_M, probabilities)
    wrong = len(useless.mistakes)
    assert write_mistakes_page(tmp_path / "page.html", useless, title="<b>", most_images=10) == 10
    page = (tmp_path / "page.html").read_text()
    assert f"the other {wrong - 10} are left out" in " ".join(page.split())
    assert "&lt;b&gt;" in page
    pairs = confused_pairs(useless, 10)
    assert sum(pair.count for pair in pairs) == wrong
    shown = sorted((each.confidence for pair in pairs for each in pair.images), reverse=True)
    assert shown == pytest.approx(np.sort(probabilities[useless.mistakes].max(1))[::-1][:10])
    assert [pair.count for pair in pairs] == sorted((pair.count for pair in pairs), reverse=True)


def test_top_5_is_printed_for_more_than_five_classes_only():
    errors = Errors(100, 50.0, 20, 5)
    assert "top-5 error" in errors_text(errors, views=1, networks=1, classes=6)
    assert "top-5 error" not in errors_text(errors, views=1, networks=1, classes=5)
    assert errors_text(errors, views=10, networks=1, classes=5).startswith("100 images, 10 views, 1 network, loss 0.5")


def test_the_table_of_classes_fits_80_columns(monkeypatch, capsys):
    """With 100% in every column, a name of 18 letters is on one line."""
    monkeypatch.setenv("COLUMNS", "80")
    labels = np.repeat([0, 1], 50)
    metrics = per_class_metrics(labels, np.eye(2, dtype=np.float32)[labels], ("Labrador retriever", "cat"))
    Console().print(per_class_table(metrics))
    printed = capsys.readouterr().out
    assert len(re.findall(r" 100% \(\d\d-100\)", printed)) == 6
    assert printed.count("1.000") == 3, "no AUC is cut off"
    assert "Labrador retriever " in printed
    assert max(map(len, printed.splitlines())) <= 80
