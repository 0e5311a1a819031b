"""The paper's tables stand beside ours, and ours are what evaluation measures."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from alexnet.cli.render import errors_table
from alexnet.data.preprocessing import Preprocess
from alexnet.inference.evaluate import evaluate
from alexnet.inference.metrics import Errors
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.reproduce.paper_tables import REPORTED, Measured, measure_table, to_json
from command_line import alexnet as command

pytestmark = pytest.mark.usefixtures("one_thread")

TREES = ("ash", "birch", "cedar", "date palm")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def members(packed, tiny):
    """Three networks that disagree, in training mode, where dropout would make their answers a matter of chance."""
    networks = [AlexNet(tiny, seed).train() for seed in range(3)]
    for network in networks:
        network.named_layer("fc7").weight.data *= 50
    return [(f"net {place}", (network, Preprocess.from_data(tiny.input, packed.mean_HWC)))
            for place, network in enumerate(networks)]


def same(one: Errors, other: Errors) -> None:
    assert (one.images, one.top1_wrong, one.top5_wrong) == (other.images, other.top1_wrong, other.top5_wrong)
    assert one.loss == pytest.approx(other.loss, rel=1e-5)


def test_every_row_equals_evaluate(packed, members):
    split, identity = packed.split("val"), torch.arange(4)
    measured = measure_table(members, split, label_map=identity)
    assert [(row.system, row.networks, row.views) for row in measured] == [
        ("net 0", 1, 1), ("net 0", 1, 10), ("net 1", 1, 1), ("net 1", 1, 10), ("net 2", 1, 1), ("net 2", 1, 10),
        ("3 CNNs averaged", 3, 1), ("3 CNNs averaged", 3, 10)]
    every = [member for _, member in members]
    for row, chosen in zip(measured, [each for each in ([every[0]], [every[1]], [every[2]], every) for _ in (1, 10)],
                           strict=True):
        same(row.errors, evaluate(chosen, split, views=row.views))
    assert len({row.errors for row in measured}) == 8, "lines that are all alike would prove nothing"


@pytest.mark.parametrize("batch_size", [1, 70, 1000])
def test_every_image_counts_once_at_any_batch_size(packed, members, batch_size):
    measured = measure_table(members, packed.split("val"), label_map=torch.arange(4), batch_size=batch_size)
    expected = measure_table(members, packed.split("val"), label_map=torch.arange(4))
    for row, other in zip(measured, expected, strict=True):
        assert row.errors.images == 44
        same(row.errors, other.errors)


def test_labels_are_mapped_from_data_classes_to_network_classes(packed, members):
    label_map = torch.tensor([2, 0, 3, 1])
    split = packed.split("val")
    for row in measure_table(members[:1], split, label_map=label_map):
        same(row.errors, evaluate([members[0][1]], split, views=row.views, label_map=label_map))


def test_one_network_has_no_average_and_equal_names_are_kept_apart(packed, members):
    split = packed.split("val")
    assert [row.views for row in measure_table(members[:1], split, label_map=torch.arange(4))] == [1, 10]
    twice = measure_table([("net", members[0][1]), ("net", members[1][1])], split, label_map=torch.arange(4))
    assert [row.errors.images for row in twice] == [44] * 6
    same(twice[0].errors, evaluate([members[0][1]], split))
    same(twice[2].errors, evaluate([members[1][1]], split))


def test_progress_ends_at_the_number_of_images(packed, members):
    seen = []
    measure_table(members[:1], packed.split("val"), label_map=torch.arange(4),
                  on_progress=lambda *call: seen.append(call))
    assert len(seen) > 1
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {44} == {seen[-1][0]}


def test_reported_numbers_are_those_of_the_paper():
    """Typed in again from the paper: §6's footnote, Table 1, Table 2's three columns, and §6's last numbers."""
    printed = {
        ("Table 1", "sparse coding"): [(47.1, 28.2)], ("Table 1", "SIFT + FVs"): [(45.7, 25.7)],
        ("§6, footnote", "1 CNN"): [(39.0, 18.3)], ("Table 1", "1 CNN"): [(37.5, 17.0)],
        ("Table 2", "SIFT + FVs"): [(None, 26.2)], ("Table 2", "1 CNN"): [(40.7, 18.2)],
        ("Table 2", "5 CNNs"): [(38.1, 16.4), (None, 16.4)], ("Table 2", "1 CNN*"): [(39.0, 16.6)],
        ("Table 2", "7 CNNs*"): [(36.7, 15.4), (None, 15.3)], ("§6", "1 CNN, sixth conv"): [(67.4, 40.9)]}
    ours: dict[tuple[str, str], list[tuple[float | None, float | None]]] = {}
    for row in REPORTED:
        ours.setdefault((row.where, row.system), []).append((row.top1_error, row.top5_error))
    assert ours == printed
    assert all(row.images == "ILSVRC-2010 test" for row in REPORTED if row.where in ("Table 1", "§6, footnote"))
    assert all((row.images == "ILSVRC-2012 val") == (row.top1_error is not None)
               for row in REPORTED if row.where == "Table 2")
    assert {row.views for row in REPORTED if "CNN" in row.system and row.where.startswith("Table")} == {10}


def test_json_has_errors_as_fractions():
    tree = json.loads(json.dumps(to_json([Measured("a", 1, 10, Errors(200, 300.0, 50, 10))])))
    assert {"system": "5 CNNs", "views": 10, "images": "ILSVRC-2012 val", "where": "Table 2", "top1_error": 0.381,
            "top5_error": 0.164} in tree["paper"]
    (ours,) = tree["ours"]
    assert (ours["system"], ours["networks"], ours["views"], ours["images"]) == ("a", 1, 10, 200)
    assert (ours["top1_error"], ours["top5_error"], ours["loss"]) == (0.25, 0.05, 1.5)
    assert ours["interval"]["top1_error"] == pytest.approx([0.1951, 0.3144], abs=1e-4)  # Wilson's, by hand


def printed(measured, images="44 of trees, 4 classes", width=100, classes=1000) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, highlight=False).print(errors_table(measured, images, classes))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_the_table_fits_100_columns_with_a_line_for_each_system():
    measured = [Measured(name, networks, views, Errors(50_000, 1.0, 20_350 + views, 9_100)) for name, networks in (
        ("runs/paper-ilsvrc", 1), ("runs/paper-2", 1), ("2 CNNs averaged", 2)) for views in (1, 10)]
    lines = printed(measured, "50,000 of val, 1000 classes")
    assert max(map(len, lines)) <= 100
    head, end = lines.index("the paper's"), lines.index("")
    assert end - head == len(REPORTED) + len(measured) + 2
    assert lines[lines.index("ours") + 1].split() == [
        "runs/paper-ilsvrc", "1", "50,000", "of", "val,", "1000", "classes", "40.7%", "18.2%", "40.3", "to", "41.1,",
        "17.9", "to", "18.5"]
    assert not [line for line in lines if "not the paper's" in line]


def test_remarks_on_averaging_and_comparability():
    wrong = {("a", 1): 20, ("b", 1): 30, ("2 CNNs averaged", 1): 22, ("a", 10): 10, ("b", 10): 10,
             ("2 CNNs averaged", 10): 12}
    text = " ".join(printed([Measured(name, 2 if "CNNs" in name else 1, views, Errors(100, 1.0, top1, 1))
                             for (name, views), top1 in wrong.items()]))
    assert "errors are measured on 100 images, which are not the paper's 50,000" in text
    assert "One view: single networks 20.0% to 30.0%, mean 25.0%; averaging their outputs: -3.0 points." in text
    assert "Ten views: single networks 10.0% to 10.0%, mean 10.0%; averaging their outputs: +2.0 points (Table" in text


def test_seeds_can_be_told_apart_in_80_columns():
    names = [f"runs/baseline/seed-{seed}/last" for seed in range(3)]
    lines = printed([Measured(name, 3 if "CNNs" in name else 1, views, Errors(100, 1.0, 20, 1))
                     for name in (*names, "3 CNNs averaged") for views in (1, 10)], width=80)
    for seed in range(3):
        assert len([line for line in lines if f"…/seed-{seed}/last" in line]) == 2
    assert not [line for line in lines if "…" in line and "seed" not in line]


@pytest.mark.parametrize(("names", "shown"), [
    (["runs/a", "runs/b"], ["runs/a", "runs/b"]),
    (["runs/one/seed-0/last", "runs/two/seed-0/best"], ["…/one/seed-0/last", "…/two/seed-0/best"]),
    (["runs/long-name/best", "runs/long-name/last"], ["…/best", "…/last"]),
    (["pretrained", "runs/baseline/seed-0"], ["pretrained", "runs/baseline/seed-0"])])
def test_long_names_lose_only_what_all_of_them_begin_with(names, shown):
    text = "\n".join(printed([Measured(name, 2 if "CNNs" in name else 1, 1, Errors(100, 1.0, 20, 1))
                              for name in (*names, "2 CNNs averaged")], width=120))
    for name in shown:
        assert f"\n  {name} " in text


def test_brackets_in_a_path_are_printed():
    assert any("runs/[bold]x" in line for line in printed([Measured("runs/[bold]x", 1, 1, Errors(10, 1.0, 1, 1))]))


# --- The command line -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(packed, tiny, tmp_path_factory):
    """Two checkpoints that know the trees."""
    root = tmp_path_factory.mktemp("runs")
    for name, seed in (("a", 1), ("b", 2)):
        network = AlexNet(tiny, seed)
        network.named_layer("fc7").weight.data *= 50
        checkpoint.save(Checkpoint(tiny, TREES, network.state_dict(), torch.from_numpy(
            np.array(packed.mean_HWC)).mean((0, 1), keepdim=True)), root / name)
    return root


def test_reproduce_table_prints_what_evaluate_prints(runs, class_folders, capsys):
    assert command("reproduce", "table", runs / "a", runs / "b", class_folders, "--json") == 0
    ours = json.loads(capsys.readouterr().out)["ours"]
    assert [row["system"] for row in ours] == [str(runs / "a")] * 2 + [str(runs / "b")] * 2 + ["2 CNNs averaged"] * 2
    for row, paths in zip(ours, [["a"], ["a"], ["b"], ["b"], ["a", "b"], ["a", "b"]], strict=True):
        command("evaluate", *(runs / path for path in paths), class_folders, "--views", row["views"], "--json")
        measured = json.loads(capsys.readouterr().out)
        for key in ("images", "top1_error", "top5_error", "views", "networks", "interval"):
            assert row[key] == measured[key]
        assert row["loss"] == pytest.approx(measured["loss"], rel=1e-5)


def test_reproduce_table_says_which_epoch_of_a_run_it_measured(runs, class_folders, tmp_path, capsys):
    """A run's folder means its best epoch, while `train --seeds` prints the last one."""
    for part in ("best", "last"):
        shutil.copytree(runs / "a", tmp_path / "run" / part)
    for name, words in (("run", "best epoch (RUN/best), which the validation images chose"),
                        ("run/last", "last epoch (RUN/last)")):
        assert command("reproduce", "table", tmp_path / name, class_folders) == 0
        assert f"errors are those of the {words}" in " ".join(capsys.readouterr().out.split())


def test_reproduce_table_prints_the_table(runs, class_folders, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert command("reproduce", "table", runs / "a", class_folders, "--split", "train") == 0
    text = capsys.readouterr().out
    for words in ("5 CNNs", "Table 2", "38.1%", "§6, footnote", f"120 of {class_folders.name}, 4 classes"):
        assert words in text


@pytest.mark.parametrize(("arguments", "words"), [
    (["table"], "reproduce table needs checkpoints and then the data"),
    (["table", "RUNS/a"], "reproduce table needs checkpoints and then the data"),
    (["table", "RUNS/a", "nowhere"], "there is no nowhere"),
    (["table", "nowhere", "PHOTOS"], "nowhere does not exist"),
    (["table", "RUNS/a", "RUNS/other", "PHOTOS"], "'elm' where"),
    (["table", "RUNS/a", "RUNS/fewer", "PHOTOS"], "3 classes and"),
    (["table", "RUNS/other", "PHOTOS"], "was not trained on 1 of the data's 4 classes: 'date palm'"),
    (["table", "RUNS/a", "PHOTOS", "--split", "test"], "test"),
    (["tables", "RUNS/a", "PHOTOS"], "tables"),
])
def test_a_mistake_is_one_sentence(runs, class_folders, tiny, arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved = checkpoint.load(runs / "a")
    if not (runs / "other").exists():
        checkpoint.save(replace(saved, classes=(*TREES[:3], "elm")), runs / "other")
        three = replace(tiny, classes=3)
        checkpoint.save(replace(saved, arch=three, classes=TREES[:3], weights=AlexNet(three).state_dict()),
                        runs / "fewer")
    arguments = [word.replace("RUNS", str(runs)).replace("PHOTOS", str(class_folders)) for word in arguments]
    assert command("reproduce", *arguments) == 2
    printed = capsys.readouterr()
    said = [line for line in printed.err.splitlines() if line.startswith("alexnet: ")]
    assert len(said) == 1
    assert words in said[0]
    assert "Traceback" not in printed.err
    assert not printed.out


def test_five_classes_have_no_top_5_error():
    (line,) = [line for line in printed([Measured("runs/five", 1, 1, Errors(100, 1.0, 20, 0))], "100 of val", classes=5)
               if "runs/five" in line]
    assert line.split() == ["runs/five", "1", "100", "of", "val", "20.0%", "-", "13.3", "to", "28.9"]
