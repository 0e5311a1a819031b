"""The command line as scripts and strangers meet it: results on stdout, mistakes in one sentence with exit code 2."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from command_line import SMALL, alexnet


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def run(class_folders, tmp_path_factory):
    """A run of the command on class folders."""
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert alexnet("train", class_folders, *SMALL, "--epochs", 6, "--out", folder / "run") == 0
    return folder / "run"


def test_help_answers_in_under_a_second_with_every_command():
    best, command = 9.0, [sys.executable, "-m", "alexnet", "--help"]
    for _ in range(3):
        began = time.perf_counter()
        printed = subprocess.run(command, capture_output=True, text=True, check=True)
        best = min(best, time.perf_counter() - began)
    assert best < 1
    for command in ("demo", "explain", "pack", "train", "evaluate", "predict", "report"):
        assert command in printed.stdout


def test_a_run_folder_holds_what_scripts_rely_on(run):
    for name in ("best/checkpoint.json", "last/checkpoint.json", "log.jsonl", "config.json", "report.html"):
        assert (run / name).is_file(), name
    config = json.loads((run / "config.json").read_text())
    assert config["arch"]["classes"] == 4
    assert config["data"]["images"] == {"train": 120, "val": 44}


def test_a_newcomers_class_folder_gives_a_falling_error(run):
    epochs = [event for event in map(json.loads, (run / "log.jsonl").read_text().splitlines())
              if event["event"] == "epoch"]
    assert epochs[-1]["val_top1_error"] < epochs[0]["val_top1_error"]
    assert epochs[-1]["val_top1_error"] < 0.4


@pytest.mark.parametrize("views", [1, 10])
def test_evaluate_prints_the_promised_json(run, class_folders, capsys, views):
    assert alexnet("evaluate", run, class_folders, "--views", views, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["photographs"] == 44
    assert result["interval"]["top1_error"][0] <= result["top1_error"] <= result["interval"]["top1_error"][1]
    assert (result["views"], result["networks"]) == (views, 1)


def test_evaluating_best_gives_the_error_that_training_logged(run, class_folders, capsys):
    alexnet("evaluate", run / "best", class_folders, "--json")
    measured = json.loads(capsys.readouterr().out)
    saved = json.loads((run / "best" / "checkpoint.json").read_text())["errors"]
    assert measured["top1_error"] == saved["top1_error"]
    assert measured["loss"] == pytest.approx(saved["loss"], rel=1e-5)


def test_several_checkpoints_are_an_ensemble(run, class_folders, capsys):
    assert alexnet("evaluate", run / "best", run / "last", class_folders) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{run / 'best'}, {run / 'last'}: 44 images, 1 view, 2 networks, ")
    assert alexnet("evaluate", run, class_folders) == 0
    assert capsys.readouterr().out.startswith(f"{run / 'best'}: 44 images, ")


def test_a_folder_without_a_split_is_measured_whole(run, class_folders, capsys):
    assert alexnet("evaluate", run, class_folders / "val", "--json") == 0
    assert json.loads(capsys.readouterr().out)["photographs"] == 44


def test_fewer_classes_are_matched_by_name(run, class_folders, tmp_path, capsys):
    for name in ("birch", "date palm"):
        shutil.copytree(class_folders / "val" / name, tmp_path / "few" / name)
    assert alexnet("evaluate", run, tmp_path / "few", "--json") == 0
    few = json.loads(capsys.readouterr().out)
    assert few["photographs"] == 22
    assert few["top1_error"] < 0.5


def test_predict_as_text_json_and_csv_agree(run, class_folders, capsys):
    photo = class_folders / "val" / "birch" / "000.png"
    assert alexnet("predict", run, photo) == 0
    text = capsys.readouterr().out
    alexnet("predict", run, photo, "--json", "--top", 2)
    rows = json.loads(capsys.readouterr().out)
    alexnet("predict", run, photo, "--csv", "--top", 2)
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    best = rows[0]["classes"][0]
    assert len(rows[0]["classes"]) == len(table) == 2
    assert table[0]["class"] == best["name"]
    assert float(table[0]["probability"]) == pytest.approx(best["probability"], abs=1e-6)
    assert best["name"] in text


def test_predict_names_a_broken_image_and_goes_on(run, class_folders, tmp_path, capsys):
    good = class_folders / "val" / "ash" / "000.png"
    broken = tmp_path / "broken.png"
    broken.write_bytes(good.read_bytes()[:200])
    assert alexnet("predict", run, broken, good, "--json") == 2
    printed = capsys.readouterr()
    assert "broken.png" in printed.err
    assert len(json.loads(printed.out)) == 1


def test_predict_asks_about_many_images_at_once(run, class_folders, capsys, monkeypatch):
    from alexnet.inference import predictor

    asked = []
    answer = predictor.Model.predict
    monkeypatch.setattr(predictor, "BATCH_SIZE", 32)
    monkeypatch.setattr(predictor.Model, "predict", lambda self, photos, **how: (
        asked.append(len(photos)), answer(self, photos, **how))[1])
    assert alexnet("predict", run, class_folders / "val", "--json") == 0
    assert asked == [32, 12]
    rows = json.loads(capsys.readouterr().out)
    assert [row["photo"] for row in rows] == sorted(map(str, (class_folders / "val").rglob("*.png")))


def test_resume_of_a_finished_run_needs_no_more_words(run, class_folders, capsys):
    assert alexnet("train", class_folders, "--resume", "--out", run, "--epochs", 6) == 0
    printed = capsys.readouterr()
    assert "best top-1 error" in printed.out
    assert "its 6 epochs are done, and 6 were asked for; --epochs says how many" in printed.err


def test_pack_then_train_on_the_packed_folder(class_folders, tmp_path, capsys):
    assert alexnet("pack", class_folders, tmp_path / "packed") == 0
    assert "4 classes, 120 train, 44 val, 32x32 pixels, raw" in capsys.readouterr().out
    assert alexnet("train", tmp_path / "packed", *SMALL, "--epochs", 1, "--out", tmp_path / "run") == 0


def test_verify_names_the_shard_with_a_flipped_bit(class_folders, tmp_path, capsys):
    assert alexnet("pack", class_folders, tmp_path / "packed") == 0
    assert alexnet("verify", tmp_path / "packed") == 0
    assert "all 7 files are as they were written" in capsys.readouterr().out
    shard = tmp_path / "packed" / "train-00000.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert alexnet("verify", tmp_path / "packed") == 2
    assert "train-00000.npy is damaged: its checksum does not match" in capsys.readouterr().err


def test_a_run_goes_on_from_the_state_before_a_damaged_one_and_says_so(run, class_folders, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    head = tmp_path / "run" / "last" / "checkpoint.json"
    head.write_bytes(head.read_bytes()[:-9])
    command = [sys.executable, "-m", "alexnet", "train", str(class_folders), "--resume", "--epochs", "6", "--out",
               str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"note: {head} is damaged; {head.with_name('checkpoint.previous.json')} is used instead" in done.stderr
    assert "UserWarning" not in done.stderr
    assert "going on after 5 of 6 epochs" in done.stderr
    assert json.loads(head.read_text())["training"] == json.loads(
        (run / "last" / "checkpoint.json").read_text())["training"]


def test_the_library_loads_and_predicts_in_three_lines(run, class_folders):
    import alexnet

    model = alexnet.load(run)
    guesses = model.predict(class_folders / "val" / "cedar" / "001.png")[0]
    assert sum(guess.probability for guess in guesses) == pytest.approx(1, abs=1e-5)
    assert model.classes == ("ash", "birch", "cedar", "date palm")


@pytest.mark.parametrize(("arguments", "words"), [
    (["explain", "papr"], "did you mean paper?"),
    (["explain", "paper", "--layer", "cnv1"], "did you mean conv1?"),
    (["explain", "torchvision", "--size", "32"], "needs 63 or more"),
    (["explain", "--bogus"], "--bogus.  (alexnet explain --help lists what there is)"),
    (["explain", "paper", "--size", "224.5"], "224.5 must be a whole number"),
    (["explain", "paper", "--html", "page.txt"], "page.txt ends in .txt; let it be .html or .htm"),
    (["explain", "paper", "--html", "PHOTOS"], "is a folder; name a file in it"),
    (["trian", "x"], "trian"),
    (["train", "nowhere"], "there is no nowhere"),
    (["train", "PHOTOS", "--arch", "smal"], "did you mean small?"),
    (["train", "PHOTOS", "--recipe", "modren"], "did you mean modern?"),
    (["train", "PHOTOS", "--set", "activation=tanh"], "begin with arch. or recipe."),
    (["train", "PHOTOS", "--set", "arch.aktivation=tanh"], "did you mean activation?"),
    (["train", "PHOTOS", "--set", "recipe.batch_size=0"], "batch_size 0 must be at least 1"),
    (["train", "PHOTOS", "--arch", "torchvision", "--set", "arch.input.crop=32"], "needs 63 or more"),
    (["train", "PHOTOS", "--arch", "small", "--precision", "fp16", "--device", "cpu"], "use --precision bf16 or fp32"),
    (["train", "PHOTOS", "--epochs", "many"], "many"),
    (["train", "PHOTOS", "--epochs", "0"], "epochs 0 must be at least 1"),
    (["train", "PHOTOS", "--arch", "small", "--freeze", "conv"], "--freeze conv without --init"),
    (["evaluate", "nowhere"], "at least one checkpoint and then the data"),
    (["evaluate", "nowhere", "PHOTOS"], "nowhere does not exist"),
    (["evaluate", "RUN", "RUN"], "is a run or a checkpoint and no images; name the data"),
    (["evaluate", "RUN", "PHOTOS", "--batch-size", "0"], "--batch-size 0 must be at least 1"),
    (["predict", "RUN"], "then images"),
    (["predict", "RUN", "nowhere.jpg"], "nowhere.jpg does not exist"),
    (["report", "nowhere"], "nowhere is no run; give a folder that `alexnet train` made"),
    (["report", "RUN/report.html"], "report.html is no run; give a folder that `alexnet train` made"),
    (["pack", "PHOTOS/train/ash", "out"], "did you mean"),
    (["verify", "PHOTOS"], "is no packed folder"),
    (["pack", "PHOTOS", "out", "--side", "0"], "--side 0 must be at least 1"),
    (["demo", "--out", "PHOTOS"], "which no demo wrote"),
    (["demo", "--epochs", "0"], "epochs 0 must be at least 1"),
])
def test_a_mistake_is_one_sentence_with_the_remedy_and_exit_code_2(
    run, class_folders, tmp_path, monkeypatch, capsys, arguments, words,
):
    monkeypatch.chdir(tmp_path)
    before = sorted(class_folders.rglob("*"))
    arguments = [argument.replace("PHOTOS", str(class_folders)).replace("RUN", str(run)) for argument in arguments]
    assert alexnet(*arguments) == 2
    printed = capsys.readouterr()
    said = [line for line in printed.err.splitlines() if line.startswith("alexnet: ")]
    assert len(said) == 1
    assert words in said[0]
    assert "Traceback" not in printed.err
    assert not printed.out
    assert sorted(class_folders.rglob("*")) == before
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("*.safetensors"))


def test_ctrl_c_leaves_a_checkpoint_and_exit_code_130(class_folders, tmp_path):
    import signal

    out = tmp_path / "run"
    command = ["train", str(class_folders), *SMALL, "--epochs", "500", "--out", str(out)]
    process = subprocess.Popen([sys.executable, "-m", "alexnet", *command], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)})
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (out / "log.jsonl").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in said
    assert "Traceback" not in said
    assert (out / "last" / "checkpoint.json").is_file()


@pytest.mark.slow
def test_demo_trains_measures_and_reports_offline(tmp_path, capsys, monkeypatch):
    import socket

    def no_network(*arguments, **settings):
        pytest.fail("the demo asked the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    assert alexnet("demo", "--out", tmp_path / "demo", "--epochs", 1) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == f"report: {tmp_path / 'demo' / 'report.html'}"
    events = [json.loads(line) for line in (tmp_path / "demo" / "log.jsonl").read_text().splitlines()]
    measured = {event["views"]: event for event in events if event["event"] == "evaluation"}
    assert set(measured) == {1, 10}
    assert measured[1]["photographs"] >= 14 * 40
    # One epoch of fifteen; chance is 93%. What fifteen give is in the README.
    assert measured[10]["top1_error"] < 0.85
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "texture recognition" in page
    assert f"alexnet evaluate {tmp_path / 'demo' / 'last'} {tmp_path / 'demo' / 'data'} --views 10" in page
    # What is finished stays; without its report it counts as interrupted, goes on, and gives the same figures.
    assert alexnet("demo", "--out", tmp_path / "demo", "--epochs", 1) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (tmp_path / "demo" / "report.html").read_text() == page
    (tmp_path / "demo" / "report.html").unlink()
    assert alexnet("demo", "--out", tmp_path / "demo", "--epochs", 1) == 0
    assert f"{tmp_path / 'demo' / 'last'}, the network after its last epoch: " in capsys.readouterr().err
    again = [json.loads(line) for line in (tmp_path / "demo" / "log.jsonl").read_text().splitlines()]
    assert [e for e in again if e["event"] == "evaluation"] == [e for e in events if e["event"] == "evaluation"]


def test_it_ends_without_a_word_where_nobody_reads_on():
    """As `alexnet explain paper --json | head -1` does."""
    read, write = os.pipe()
    os.close(read)
    for arguments in (["explain", "paper", "--json"], ["presets"]):
        command = [sys.executable, "-m", "alexnet", *arguments]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, done.stderr) == (141, "")
    os.close(write)


def test_what_the_system_refuses_is_a_sentence_with_the_remedy(capsys):
    assert alexnet("figure", "2", "paper", "--out", "/proc/a.png") == 2
    assert "alexnet: /proc/a.png cannot be read or written (" in (said := capsys.readouterr().err)
    assert "Errno" not in said


def test_python_dash_m_is_the_command():
    command = [sys.executable, "-m", "alexnet", "presets", "--json"]
    assert "torchvision" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_ctrl_c_while_the_command_is_still_imported_is_no_traceback():
    script = """import runpy, sys
class Interrupts:
    def find_spec(self, name, *rest):
        if name == "cyclopts":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupts())
runpy.run_module("alexnet", run_name="__main__")
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
