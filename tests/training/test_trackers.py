"""`train --log`: every tracker gets the numbers of log.jsonl, each once; none is imported unless it is named."""

import csv
import json
import struct
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest

from alexnet._runtime.extras import install_line
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import recipe
from alexnet.errors import UserError
from alexnet.training import trackers
from alexnet.training.build import build
from alexnet.training.run_folder import logged
from alexnet.training.spec import RunSpec
from alexnet.training.trackers import CsvFiles, Point, TrackedRun, open_trackers, tracker_names
from command_line import SMALL, alexnet

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = override(recipe("modern"), ["epochs=2", "batch_size=12"])
"""120 training images: 10 steps an epoch, of which log.jsonl has the last."""


def train(packed, tiny, out, *names, **changes):
    build(RunSpec(packed, tiny, replace(QUICK, **changes), out, log=names, resume=True)).fit()
    return logged(out)


class Recorder:
    """Stands in for a package: every call of it, with its arguments."""

    def __init__(self, **answers):
        self.calls, self.answers = [], answers

    def __getattr__(self, name):
        def call(*arguments, **named):
            self.calls.append((name, arguments, named))
            answer = self.answers.get(name)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return call

    def named(self, name):
        return [(arguments, named) for called, arguments, named in self.calls if called == name]


def stand_in(monkeypatch, name, recorder, *functions):
    module = ModuleType(name)
    module.__spec__ = SimpleNamespace()  # which find_spec gives
    for function in functions:
        setattr(module, function, getattr(recorder, function))
    monkeypatch.setitem(sys.modules, name, module)
    return recorder


@pytest.fixture
def wandb(monkeypatch):
    run = Recorder()
    run.id = "w1"
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    package = stand_in(monkeypatch, "wandb", Recorder(init=run), "init")
    package.run = run
    return package


@pytest.fixture
def mlflow(monkeypatch):
    for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    recorder = Recorder(start_run=SimpleNamespace(info=SimpleNamespace(run_id="m1")))
    return stand_in(monkeypatch, "mlflow", recorder, "set_experiment", "start_run", "log_params", "log_metrics",
                    "end_run")


# --- Names ---

def test_names_are_repeated_or_separated_by_commas():
    assert tracker_names(None) == ()
    assert tracker_names("csv") == ("csv",)
    assert tracker_names(["csv, csv", "csv"]) == ("csv",)


@pytest.mark.parametrize(("given", "sentence"), [
    ("cvs", "--log cvs is unknown; did you mean csv?"),
    ("tensorbord", "--log tensorbord is unknown; did you mean tensorboard?"),
    ("neptune", "--log neptune is unknown; known are tensorboard, wandb, mlflow, csv"),
    ("csv,", "--log '' is unknown; ")])
def test_an_unknown_name_is_refused_with_the_likeliest(given, sentence):
    with pytest.raises(UserError) as refused:
        tracker_names(given)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(("name", "module", "remedy"), [
    ("tensorboard", "tensorboardX", install_line("tensorboard")), ("wandb", "wandb", "pip install wandb"),
    ("mlflow", "mlflow", "pip install mlflow")])
def test_a_missing_package_is_named_before_anything_is_packed(
    class_folders, tmp_path, capsys, monkeypatch, name, module, remedy,
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(trackers, "is_installed", lambda asked: asked != module)
    assert alexnet("train", class_folders, *SMALL, "--log", f"csv,{name}", "--out", tmp_path / "run") == 2
    assert capsys.readouterr().err == f"alexnet: --log {name} needs the package {module}; {remedy}\n"
    assert list(tmp_path.iterdir()) == []


def test_no_package_is_imported_unless_it_is_named(packed, tiny, tmp_path):
    before = set(sys.modules)
    train(packed, tiny, tmp_path / "run", epochs=1)
    assert not {"tensorboardX", "tensorboard", "wandb", "mlflow"} & (set(sys.modules) - before)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"best", "last", "log.jsonl", "config.json"}


# --- CSV ---

def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_files_have_a_row_for_each_event_and_the_numbers_of_the_log(packed, tiny, tmp_path):
    events = train(packed, tiny, tmp_path, "csv")
    for kind, count in (("step", 2), ("epoch", 2)):
        logged_rows = [event for event in events if event["event"] == kind]
        assert len(logged_rows) == count
        assert [{name: float(value) for name, value in row.items()} for row in rows(tmp_path / "csv" / f"{kind}.csv")
                ] == [{name: value for name, value in event.items() if name != "event"} for event in logged_rows]
    first = next(event for event in events if event["event"] == "signals")
    row = rows(tmp_path / "csv" / "signals.csv")[0]
    assert float(row["dead/relu1"]) == first["dead"]["relu1"]
    assert float(row["ratio/conv1"]) == first["ratio"]["conv1"]
    assert json.loads((tmp_path / "config.json").read_text())["log"] == ["csv"]


def test_a_resumed_run_has_every_row_once_also_if_csv_is_named_only_then(packed, tiny, tmp_path):
    train(packed, tiny, tmp_path / "named later", epochs=1)
    for out in ("named later", "named always"):
        train(packed, tiny, tmp_path / out, "csv", epochs=1)
        train(packed, tiny, tmp_path / out, "csv")
        assert [row["step"] for row in rows(tmp_path / out / "csv" / "step.csv")] == ["10", "20"]
        assert [row["epoch"] for row in rows(tmp_path / out / "csv" / "epoch.csv")] == ["1", "2"]


def test_a_resumed_run_says_which_tracker_it_leaves_out(class_folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("alexnet.reproduce.report.page.write_report", lambda *run: None)  # its figures take long
    out = tmp_path / "run"
    assert alexnet("train", class_folders, *SMALL, "--epochs", 1, "--log", "csv", "--out", out) == 0
    capsys.readouterr()
    assert alexnet("train", class_folders, "--resume", "--epochs", 2, "--out", out) == 0
    assert "note: this run was logged to csv as well; to continue that, add --log csv\n" in capsys.readouterr().err


def test_a_column_that_a_spreadsheet_would_run_is_text_and_a_negative_number_stays_one(tmp_path):
    made = trackers.CsvFiles(trackers.TrackedRun(tmp_path, 0, {}, (), None))
    made.log(Point("step", 1, None, {"=1+1": -0.5}))
    made.close()
    assert (tmp_path / "csv" / "step.csv").read_text().splitlines() == ["step,'=1+1", "1,-0.5"]


# --- Packages, by stand-ins ---

def test_wandb_gets_the_settings_and_the_numbers_and_a_resumed_run_continues_there(packed, tiny, tmp_path, wandb):
    events = train(packed, tiny, tmp_path / "mine", "wandb", epochs=1)
    ((_, options),) = wandb.named("init")
    assert {name: options[name] for name in ("project", "name", "id", "resume")} == {
        "project": "alexnet", "name": "mine", "id": None, "resume": "allow"}
    assert options["config"]["recipe"]["epochs"] == 1
    assert options["config"]["arch"]["name"] == "small"
    assert wandb.run.named("define_metric") == [(("*",), {"step_metric": "step"})]
    points = [arguments[0] for arguments, _ in wandb.run.named("log")]
    (epoch,) = [event for event in events if event["event"] == "epoch"]
    assert [point for point in points if "epoch/val_loss" in point] == [
        {"step": 10} | {f"epoch/{name}": epoch[name] for name in (
            "train_loss", "train_error", "val_loss", "val_top1_error", "val_top5_error", "learning_rate")}]
    assert [point["step"] for point in points if "step/loss" in point] == [10]
    assert [point["step"] for point in points if "dead/relu1" in point] == [
        event["step"] for event in events if event["event"] == "signals"]
    assert len(wandb.run.named("finish")) == 1
    train(packed, tiny, tmp_path / "mine", "wandb")
    assert wandb.named("init")[1][1]["id"] == "w1"
    later = [arguments[0]["step"] for arguments, _ in wandb.run.named("log")][len(points):]
    assert min(later) > 10


def test_mlflow_gets_them_too_and_its_parameters_once(packed, tiny, tmp_path, mlflow):
    events = train(packed, tiny, tmp_path / "mine", "mlflow", epochs=1)
    assert mlflow.named("set_experiment") == [(("alexnet",), {})]
    assert mlflow.named("start_run") == [((), {"run_id": None, "run_name": "mine"})]
    (((parameters,), _),) = mlflow.named("log_params")
    assert (parameters["recipe.epochs"], parameters["arch.input.side"], parameters["seed"]) == (1, 32, 0)
    numbers = {(name, named["step"]): value for (values,), named in mlflow.named("log_metrics")
               for name, value in values.items()}
    (epoch,) = [event for event in events if event["event"] == "epoch"]
    assert numbers["epoch/val_loss", 10] == epoch["val_loss"]
    assert [step for name, step in numbers if name == "step/loss"] == [10]
    assert len(mlflow.named("end_run")) == 1
    train(packed, tiny, tmp_path / "mine", "mlflow")
    assert mlflow.named("start_run")[1] == ((), {"run_id": "m1", "run_name": "mine"})
    assert len(mlflow.named("log_params")) == 1, "MLflow refuses another value of a parameter"


def test_the_environment_names_the_project_and_the_experiment(packed, tiny, tmp_path, wandb, mlflow, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    train(packed, tiny, tmp_path, "wandb", "mlflow", epochs=1)
    assert wandb.named("init")[0][1]["project"] == "mine"
    assert not mlflow.named("set_experiment")


def test_csv_files_get_the_columns_of_a_run_that_several_processes_resume(tmp_path):
    alone = Point("step", 10, 1, {"loss": 2.0})
    together = Point("step", 20, 2, {"loss": 1.5, "slowest_rank": 3, "others_waiting": 0.25})
    for former in ([], [alone, together]):  # as it comes, and when the run is resumed once more
        tracker = CsvFiles(TrackedRun(tmp_path, 0, {}, former, None))
        for point in () if former else (alone, together):
            tracker.log(point)
        tracker.close()
        assert (tmp_path / "csv" / "step.csv").read_text().splitlines() == [
            "step,epoch,loss,slowest_rank,others_waiting", "10,1,2.0,,", "20,2,1.5,3,0.25"]


def test_a_damaged_list_of_ids_is_named(tmp_path):
    (tmp_path / "trackers.json").write_text("{")
    with pytest.raises(UserError, match=r"trackers\.json cannot be read \(.*; delete it"):
        open_trackers(["csv"], tmp_path, 0, {}, [])


def test_a_tracker_that_cannot_begin_ends_the_run_before_its_first_step(packed, tiny, tmp_path, wandb):
    wandb.answers["init"] = RuntimeError("api_key not configured (no-tty)\nmore")
    with pytest.raises(UserError) as refused:
        train(packed, tiny, tmp_path, "csv", "wandb", epochs=1)
    assert str(refused.value) == ("--log wandb: api_key not configured (no-tty); solve that, or leave out --log "
                                  "wandb: log.jsonl in the run folder has the same numbers")
    build(RunSpec(packed, tiny, replace(QUICK, epochs=1), tmp_path, log=("csv",))).fit()  # without --resume
    assert len(rows(tmp_path / "csv" / "step.csv")) == 1


def test_a_tracker_that_fails_later_is_named_and_the_run_goes_on(packed, tiny, tmp_path, mlflow, capsys):
    mlflow.answers["log_metrics"] = ConnectionError("no answer from http://tracking:5000")
    events = train(packed, tiny, tmp_path, "mlflow", "csv", epochs=1)
    assert events[-1]["event"] == "end"
    (warning,) = [event for event in events if event.get("kind") == "tracker_failed"]
    assert warning["problem"] == "--log mlflow has failed and gets no more numbers: no answer from http://tracking:5000"
    assert capsys.readouterr().err.count("warning: --log mlflow has failed") == 1
    assert len(mlflow.named("log_metrics")) == 1
    assert len(mlflow.named("end_run")) == 1, "or the next run of a series would find it open"
    assert len(rows(tmp_path / "csv" / "step.csv")) == 1


def test_tensorboard_gets_the_numbers_and_forgets_what_a_resumed_run_repeats(packed, tiny, tmp_path, monkeypatch):
    writer = Recorder()
    package = stand_in(monkeypatch, "tensorboardX", Recorder(SummaryWriter=writer), "SummaryWriter")
    events = train(packed, tiny, tmp_path, "tensorboard", epochs=1)
    assert package.named("SummaryWriter") == [((str(tmp_path / "tensorboard"),), {"purge_step": 1})]
    numbers = {(tag, step): value for (tag, value, step), _ in writer.named("add_scalar")}
    (epoch,) = [event for event in events if event["event"] == "epoch"]
    assert numbers["epoch/val_top1_error", 10] == epoch["val_top1_error"]
    train(packed, tiny, tmp_path, "tensorboard")
    assert package.named("SummaryWriter")[1][1] == {"purge_step": 11}


@pytest.mark.needs("tensorboardX", install_line("tensorboard"))
def test_its_file_holds_the_epochs(packed, tiny, tmp_path):
    """Read as TensorFlow's record format: length, checksum, an Event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    train(packed, tiny, tmp_path, "tensorboard")
    (path,) = (tmp_path / "tensorboard").iterdir()
    data, found, place = path.read_bytes(), [], 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        event = Event.FromString(data[place + 12 : place + 12 + length])
        found += [(value.tag, event.step) for value in event.summary.value]
        place += length + 16
    assert [step for tag, step in found if tag == "epoch/train_loss"] == [10, 20]
