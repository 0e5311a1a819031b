"""A run's folder: foreign files stay, a resumed run says what changes, and a useless or diverged run says so."""

import json
import math
import shutil
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet._runtime.locks import file_lock
from alexnet.architecture.network_presets import arch
from alexnet.architecture.recipe import Recipe
from alexnet.data.sources.embedded import open_embedded
from alexnet.errors import Finding, UserError
from alexnet.inference.metrics import Errors
from alexnet.interpret.activations import Signals
from alexnet.interpret.health import result_findings, useless_remedy
from alexnet.models import checkpoint
from alexnet.training.advice import epochs_finding, few_images_finding
from alexnet.training.build import build
from alexnet.training.monitor import Monitor
from alexnet.training.run_folder import LOCK, read_config
from alexnet.training.spec import RunSpec
from alexnet.training.state import Diverged, State
from command_line import SMALL, alexnet

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = Recipe("quick", epochs=3, batch_size=16, learning_rate=0.05, schedule="linear", decay_biases=False)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def warnings_of(run: Path) -> list[dict]:
    events = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [event for event in events if event["event"] == "warning"]


# --- Files of others ---

@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(("name", "content"), [
    ("config.json", '{"editor": "tabs"}'), ("config.json", "not JSON"), ("config.json", "[1]"),
    ("log.jsonl", '{"event": "user_logged_in", "user": 7}\n'), ("log.jsonl", "2026-01-01 started\n"),
    ("report.html", "<p>mine</p>"), ("best/weights.safetensors", "x"), ("tensorboard/events", "x"),
    ("csv/step.csv", "x")])
def test_a_file_that_no_run_wrote_is_named_and_stays(packed, tiny, tmp_path, name, content, resume):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text(content)
    first = tmp_path / "out" / Path(name).parts[0]
    with pytest.raises(UserError) as refused:
        build(RunSpec(packed, tiny, QUICK, tmp_path / "out", resume=resume))
    assert str(refused.value) == (
        f"{first} was not written by `alexnet train`, which would overwrite it; choose another --out")
    assert path.read_text() == content


def test_a_folder_with_other_files_is_trained_in(packed, tiny, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    build(RunSpec(packed, tiny, replace(QUICK, epochs=1), tmp_path)).fit()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_run_that_was_killed_before_its_first_event_is_started_again(packed, tiny, tmp_path):
    """It left config.json and an empty log."""
    build(RunSpec(packed, tiny, replace(QUICK, epochs=1), tmp_path / "run")).fit()
    for name in ("best", "last"):
        shutil.rmtree(tmp_path / "run" / name)
    (tmp_path / "run" / "log.jsonl").write_text("")
    build(RunSpec(packed, tiny, replace(QUICK, epochs=1), tmp_path / "run", resume=True)).fit()
    assert checkpoint.load(tmp_path / "run").training["epoch"] == 1


# --- Divergence ---

def diverge(packed, tiny, out: Path, step: int) -> Diverged:
    run = build(RunSpec(packed, tiny, QUICK, out, save_minutes=0.0 if step > 1 else 10.0))

    def poison(event):
        if event["event"] == "step" and event["step"] == step:
            run.network.named_layer("conv1").weight.data.fill_(math.nan)

    run.on_event = poison
    with pytest.raises(Diverged) as stopped:
        run.fit()
    return stopped.value


def test_a_run_that_diverged_without_a_checkpoint_is_not_called_resumable(packed, tiny, tmp_path):
    out = tmp_path / "run"
    assert f"(no checkpoint was written, so {out} cannot be resumed)" in str(diverge(packed, tiny, out, 1))
    with pytest.raises(UserError, match="diverged before its first checkpoint, after step 2: there is nothing to "
                       "resume; choose another --out, and lower the learning rate"):
        build(RunSpec(packed, tiny, QUICK, out))


def test_a_run_that_diverged_later_names_its_checkpoint(packed, tiny, tmp_path):
    out = tmp_path / "run"
    assert f"({out / 'last'} is of step 3, before that; another learning rate needs another --out)" in str(
        diverge(packed, tiny, out, 4))
    assert checkpoint.load(out / "last").training["step"] == 3


# --- A run without its last checkpoint ---

def test_a_resumed_run_without_last_checkpoint_warns_that_it_starts_again(class_folders, tmp_path, capsys):
    """As where the disk was full at the first save: best/ is complete, and last/ is empty."""
    out, again = tmp_path / "run", "training starts again at epoch 1"
    command = ["train", class_folders, *SMALL, "--epochs", 1, "--out", out]
    assert alexnet(*command, "--resume") == 0
    assert again not in capsys.readouterr().err, "a new run"
    assert alexnet(*command, "--resume") == 0
    assert again not in capsys.readouterr().err, "a run that is finished"
    for path in (out / "last").iterdir():
        path.unlink()
    assert alexnet(*command) == 2
    assert "holds a run that has no last checkpoint (last/); add --resume to start it again" in capsys.readouterr().err
    assert alexnet(*command, "--resume") == 0
    assert (f"warning: {out} has no last checkpoint (last/) to resume from: {again} and replaces best/\n"
            in capsys.readouterr().err)
    assert checkpoint.load(out / "last").training["epoch"] == 1


def test_a_best_network_of_several_epochs_is_not_replaced_by_a_run_that_lost_its_last_checkpoint(
        packed, tiny, tmp_path):
    out = tmp_path / "run"
    build(RunSpec(packed, tiny, replace(QUICK, epochs=2), out)).fit()
    shutil.rmtree(out / "last")
    before = (out / "best" / checkpoint.JSON_FILE).read_bytes()
    with pytest.raises(UserError, match=r"replace best/, which 2 epochs have chosen; restore .*last, or start from "
                       "these weights with --init .*best and another --out"):
        build(RunSpec(packed, tiny, replace(QUICK, epochs=2), out, resume=True))
    assert (out / "best" / checkpoint.JSON_FILE).read_bytes() == before


# --- Resuming for more epochs ---

@pytest.mark.parametrize(("schedule", "rates"), [
    ("linear", "from 0 to 0.05"), ("cosine", "from 0 to 0.05"), ("poly", "from 0 to 0.025"), ("constant", None),
    ("plateau", None), ("steps", None)])
def test_more_epochs_are_reported_with_what_they_do_to_the_learning_rate(schedule, rates):
    """After 4 of 4 epochs with a rate of 0.1, going on to 8: linear and cosine are halfway, poly is at a quarter."""
    before = Recipe("r", epochs=4, learning_rate=0.1, schedule=schedule, drop_epochs=(2,))
    found = epochs_finding(before, replace(before, epochs=8), State(0, "", "fp32", step=40, epoch=4), 10)
    assert f"the learning rate changes {rates} after 4 epochs" in found.problem if rates else (
        found.kind, found.problem) == ("epochs_changed", "the run was started with 4 epochs and now has 8, of which 4 "
                                       "are trained; its learning rate continues unchanged")
    assert epochs_finding(before, before, State(0, "", "fp32", step=40, epoch=4), 10) is None


def test_a_run_of_one_epoch_that_is_given_more_records_that_its_best_epoch_is_chosen(packed, tiny, tmp_path):
    """The first epoch stays the best one: at a rate of 1e-30 no weight changes, so no later epoch has a lower loss."""
    spec = RunSpec(packed, tiny, replace(QUICK, epochs=1, learning_rate=1e-30, schedule="constant"), tmp_path / "run")
    build(spec).fit()
    first = checkpoint.load(spec.out / "best")
    assert len(first.seen.selected_on) == 0, "the only epoch is not chosen"
    build(replace(spec, recipe=replace(spec.recipe, epochs=2), resume=True)).fit()
    best = checkpoint.load(spec.out / "best")
    assert best.training["epoch"] == 1
    assert set(best.seen.selected_on) == set(packed.split("val").content_hashes)
    assert best.describe() == first.describe(), "the weights are the same"


def test_config_and_checkpoints_say_which_software_wrote_them(packed, tiny, tmp_path, capsys):
    build(RunSpec(packed, tiny, replace(QUICK, epochs=1), tmp_path)).fit()
    versions = read_config(tmp_path)["versions"]
    assert versions["alexnet"] == version("alexnet")
    assert versions["torch"] == torch.__version__
    without_python = {name: number for name, number in versions.items() if name != "python"}
    for name in ("best", "last"):
        assert json.loads((tmp_path / name / "checkpoint.json").read_text())["versions"] == without_python
    assert alexnet("list", "weights", tmp_path) == 0
    assert f"written by alexnet {version('alexnet')}" in capsys.readouterr().out
    assert alexnet("list", "weights", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["versions"] == without_python


def test_a_short_run_that_explodes_says_so_at_the_end():
    """The monitor looks every 200 steps; after 5, ln 4 = 1.386 and a mean of the last three losses of 100."""
    monitor = Monitor(replace(arch("small"), classes=4))
    state = State(0, "", "fp32", best_error=0.75)
    for step, loss in enumerate((1.4, 2.0, 60.0, 140.0, 100.0), 1):
        state.count(8, loss, 0)
        assert not monitor.loss_findings(step, state.recent_losses)
    (found,) = monitor.result_findings(state, np.repeat(range(4), 11))
    assert (found.kind, found.problem) == ("exploding", "the loss is 100, far above ln(4) = 1.386, and is exploding")
    assert "--lr" in found.remedy


# --- Findings of a run that was interrupted ---

def test_a_run_that_is_killed_after_its_last_save_still_reports_its_result(packed, tiny, tmp_path):
    """At a rate of 1e-30 nothing is learned, which is reported at the end."""
    spec = RunSpec(packed, tiny, replace(QUICK, learning_rate=1e-30, schedule="constant"), tmp_path / "run")
    build(spec).fit()
    log = spec.out / "log.jsonl"
    whole = log.read_text()
    lines = whole.splitlines(keepends=True)
    last_epoch = max(number for number, line in enumerate(lines) if json.loads(line)["event"] == "epoch")
    assert [json.loads(line)["event"] for line in lines[last_epoch:]] == ["epoch", "warning", "end"]
    log.write_text("".join(lines[: last_epoch + 1]))
    build(replace(spec, resume=True)).fit()
    assert [line for line in log.read_text().splitlines(keepends=True) if '"start"' not in line] == [
        line for line in lines if '"start"' not in line]


def test_a_resumed_run_averages_the_losses_of_before(packed, tiny, tmp_path, monkeypatch):
    """A finding is due every 5 steps. The run stops in its second epoch, and resumes from the end of its first."""
    for module in ("state", "monitor"):
        monkeypatch.setattr(f"alexnet.training.{module}.RECENT_LOSSES", 5)
    monkeypatch.setattr("alexnet.training.monitor.loss_finding", lambda loss, classes, steps, norm: Finding(
        "exploding", "", f"the mean loss is {loss}", ""))

    class Stop(Exception):
        pass

    def stop(event):
        if event["event"] == "epoch" and event["epoch"] == 2:
            raise Stop

    def means(out, **options):
        spec = RunSpec(packed, tiny, QUICK, out, **options)
        build(spec).fit()
        return [event["problem"] for event in warnings_of(out) if event["kind"] == "exploding"]

    whole = means(tmp_path / "whole")
    with pytest.raises(Stop):
        build(RunSpec(packed, tiny, QUICK, tmp_path / "run"), on_event=stop).fit()
    assert means(tmp_path / "run", resume=True) == whole
    assert len(whole) > 1


def test_a_resumed_run_reports_dead_units_once():
    """Their fraction, which the sentence states, has changed meanwhile."""
    def signals(dead):
        return Signals(saturated={}, dead={"relu1": dead}, ratio={})

    first, resumed = (Monitor(arch("small")) for _ in range(2))
    (finding,) = first.unit_findings(1_000, signals(0.9))
    resumed.recall([{"event": "warning", "step": 1_000, **asdict(finding)}])
    assert resumed.unit_findings(1_100, signals(0.95)) == first.unit_findings(1_100, signals(0.95)) == []


@pytest.mark.slow
def test_a_stretched_schedule_is_printed_logged_once_and_the_commands_are_all_in_the_report(
        class_folders, tmp_path, monkeypatch, capsys):
    out, options = tmp_path / "run", ["--out", str(tmp_path / "run")]

    def train(*arguments):
        monkeypatch.setattr("sys.argv", ["alexnet", "train", "PHOTOS", *arguments, *options])
        assert alexnet("train", class_folders, *arguments, *options) == 0
        return capsys.readouterr().err

    assert "is stretched" not in train(*SMALL, "--recipe", "modern", "--epochs", "1")
    assert "is stretched" not in train("--resume")
    assert "the run was started with --epochs 1 and continues with 2: the schedule `linear` is stretched" in (
        train("--resume", "--epochs", "2"))
    assert "is stretched" not in train("--resume", "--epochs", "2")
    assert [event["kind"] for event in warnings_of(out)].count("schedule_changed") == 1
    config = json.loads((out / "config.json").read_text())
    assert config["command"].split()[-4:] == ["--epochs", "1", *options]
    assert config["resumed"] == [f"alexnet train PHOTOS --resume --epochs 2 --out {out}"]
    page = (out / "report.html").read_text(encoding="utf-8")
    first, second = page.index("--epochs 1 --out"), page.index("alexnet train PHOTOS --resume --epochs 2 --out")
    assert first < second < page.index(f"alexnet evaluate {out}/best")
    assert "top-5 error</th>" not in page, "of four classes, the top-5 error is always 0"


# --- What a run says of its data and its result ---

def test_a_batch_larger_than_the_data_is_reported(packed, tiny, tmp_path):
    events = []
    build(RunSpec(packed, tiny, replace(QUICK, epochs=1, batch_size=128), tmp_path / "run"),
          on_event=events.append).fit()
    (found,) = [event for event in events if event["event"] == "warning" and event["kind"] == "batch_exceeds_data"]
    assert "the batch size 128 exceeds the 120 training images, so each epoch is a single step" in found["problem"]
    assert found["remedy"] == "give a smaller one, such as --batch-size 30"
    assert "batch_exceeds_data" in [event["kind"] for event in warnings_of(tmp_path / "run")]
    fits = build(RunSpec(packed, tiny, replace(QUICK, batch_size=120), tmp_path / "other"))
    assert "batch_exceeds_data" not in [finding.kind for finding in fits.findings]


def test_a_folder_that_another_process_trains_into_is_refused(packed, tiny, tmp_path):
    build(RunSpec(packed, tiny, replace(QUICK, epochs=1), tmp_path / "run")).fit()
    log, config = ((tmp_path / "run" / name).read_bytes() for name in ("log.jsonl", "config.json"))
    resumed = build(RunSpec(packed, tiny, replace(QUICK, epochs=2), tmp_path / "run", resume=True))
    with file_lock(tmp_path / "run" / LOCK):
        with pytest.raises(UserError, match="another process is training into"):
            resumed.fit()
        assert log == (tmp_path / "run" / "log.jsonl").read_bytes()
        assert config == (tmp_path / "run" / "config.json").read_bytes()
    assert build(RunSpec(packed, tiny, replace(QUICK, epochs=2), tmp_path / "run", resume=True)).fit().images
    assert not (tmp_path / "run" / LOCK).exists()


@pytest.mark.parametrize(("schedule", "epochs", "is_said"), [
    ("linear", 5, True), ("cosine", 5, True), ("plateau", 5, False), ("constant", 5, False), ("linear", 0, False)])
def test_early_stopping_before_the_rate_is_low_is_reported(packed, tiny, tmp_path, schedule, epochs, is_said):
    recipe = replace(QUICK, epochs=20, schedule=schedule, early_stop_epochs=epochs)
    findings = build(RunSpec(packed, tiny, recipe, tmp_path / "run")).findings
    assert ("early_stop_before_low_rate" in [finding.kind for finding in findings]) == is_said


@pytest.mark.parametrize(("wrong", "loss", "counts", "kinds"), [
    # Always answering the largest class errs on 50 of 100. Wilson's interval of 45 of 100 is 35.6% to 54.8%.
    (45, 1.0, (50, 30, 20), ["no_better_than_largest_class"]),
    (70, 9.0, (50, 30, 20), ["no_better_than_largest_class"]),
    # Of 39 of 100: 30.0% to 48.8%, below 50%.
    (39, 1.0, (50, 30, 20), []),
    (39, 1.2, (50, 30, 20), ["loss_above_uniform"]),  # ln 3 = 1.099
    # 1 of 6: 3.0% to 56.4%; 6 images cannot tell it from 50%.
    (1, 0.5, (3, 2, 1), ["few_validation_images"]),
    (3, 0.5, (3, 2, 1), ["no_better_than_largest_class"]),
    (0, 0.1, (100, 100), []),
])
def test_a_useless_result_is_told_from_a_useful_one(wrong, loss, counts, kinds):
    assert [finding.kind for finding in result_findings(wrong, loss, counts, len(counts), "", False)] == kinds


def test_a_useless_run_says_so_at_the_end_with_the_remedy(packed, tiny, tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr("alexnet.training.trainer.evaluate", lambda *a, **k: Errors(44, 44 * 1.5, 32, 0))
    build(RunSpec(packed, tiny, replace(QUICK, epochs=1), tmp_path / "run"), on_event=events.append).fit()
    assert [event["event"] for event in events[-2:]] == ["warning", "end"]
    assert events[-2]["kind"] == "no_better_than_largest_class"
    assert "always answering the largest class would be wrong for 75.0%" in events[-2]["problem"]
    assert all(word in events[-2]["remedy"] for word in ("--lr", "lr-find", "more epochs", "--init"))
    assert "--arch small" not in events[-2]["remedy"], "it is the small network"
    assert warnings_of(tmp_path / "run")[-1]["kind"] == "no_better_than_largest_class"


def test_of_epochs_with_the_same_error_the_one_with_the_lower_loss_is_the_best():
    state = State(0, "", "fp32")
    assert [state.close_epoch(*errors) for errors in ((0.5, 1.5), (0.4, 1.6), (0.4, 1.2), (0.4, 1.3), (0.5, 0.1))] == [
        True, True, True, False, False]
    assert (state.best_error, state.best_loss) == (0.4, 1.2)
    assert state.epochs_without_gain == 3, "an equal error is no gain"
    again = State.from_json(json.loads(json.dumps(state.to_json())))
    assert (again.close_epoch(0.4, 1.25), again.close_epoch(0.4, 1.1)) == (False, True)


def test_the_remedy_names_nothing_that_the_run_did_already():
    assert useless_remedy("paper", False, False) == (
        "try another learning rate (--lr; `alexnet lr-find` suggests one), more epochs, a smaller network such as "
        "--arch small or trained weights to start from (--init); if nothing helps, check that the labels are right")
    assert useless_remedy("small", True, False) == (
        "try another learning rate (--lr; `alexnet lr-find` suggests one) or more epochs; if nothing helps, check "
        "that the labels are right")
    assert useless_remedy("paper", True, True) == (
        "fine-tune the other layers too (leave out --head), or start from other weights")


def test_pretrained_weights_are_recommended_on_few_images_only(packed, tiny, tmp_path, trained):
    spec = RunSpec(packed, tiny, QUICK, tmp_path / "run")
    found = few_images_finding(spec, "my photos", "labels.csv")
    assert found is not None
    assert found.kind == "few_images_in_all", "few_images is the kind of a single class"
    assert "120 training images (30 a class on average, 30 in the smallest) are few" in found.problem
    assert found.remedy.startswith(
        "`alexnet train 'my photos' --labels labels.csv --init pretrained` starts from the network in this package, "
        "which sees 64 pixels; --init torchvision --head downloads weights")
    assert f"this run shows each of them to `{tiny.name}` {QUICK.epochs} times, and " in found.problem
    assert few_images_finding(replace(spec, init=checkpoint.load(trained)), "photos") is None


def test_one_epoch_is_once_and_patches_of_the_package_get_no_advice(packed, tiny, tmp_path, monkeypatch):
    found = few_images_finding(RunSpec(packed, tiny, replace(QUICK, epochs=1), tmp_path / "run"), "photos")
    assert found is not None
    assert f"this run shows each of them to `{tiny.name}` once, and starting from trained weights" in found.problem
    monkeypatch.setattr(type(packed), "source", open_embedded(1, 1).source)
    assert few_images_finding(RunSpec(packed, tiny, QUICK, tmp_path / "run"), "embedded") is None


def test_the_recommended_command_keeps_the_groups(packed, tiny, tmp_path):
    found = few_images_finding(RunSpec(packed, tiny, QUICK, tmp_path / "run"), "photos", group="{animal}_{n}.jpg")
    assert found is not None
    assert found.remedy.startswith("`alexnet train photos --group '{animal}_{n}.jpg' --init pretrained`")
