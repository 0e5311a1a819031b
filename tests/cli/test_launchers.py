"""Several processes of one command: refused where they do not know of each other, with the line to type."""

import pytest
import torch

from alexnet.architecture.recipe import Recipe
from alexnet.cli import launchers
from alexnet.cli.launchers import require_one_launch
from alexnet.cli.main import app, main
from alexnet.training.build import build
from alexnet.training.request import TrainRequest, describe
from alexnet.training.spec import RunSpec


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_STEP_NUM_TASKS",
                 "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launchers, "_READ_SECONDS", 0.0)


def tasks(monkeypatch, count, nodes=1, task=0):
    """As srun -N nodes -n count."""
    for name, value in {"SLURM_STEP_NUM_TASKS": count, "SLURM_STEP_NUM_NODES": nodes, "SLURM_PROCID": task,
                        "SLURM_JOB_ID": 77}.items():
        monkeypatch.setenv(name, str(value))


def test_srun_without_torchrun_is_refused_with_the_line_to_type(monkeypatch, capsys, tmp_path):
    tasks(monkeypatch, 16)
    with pytest.raises(SystemExit, match="2"):
        main(["train", "my data", "--arch", "paper", "--out", str(tmp_path / "run")])
    said = capsys.readouterr().err
    assert said.startswith("alexnet: srun has started 16 tasks of train, which are independent of each other; ")
    assert "srun --ntasks=1 torchrun --standalone --nproc-per-node 16 -m alexnet train 'my data' --arch paper" in said
    assert not (tmp_path / "run").exists()


def test_the_line_for_several_nodes_starts_one_launcher_on_each(monkeypatch):
    tasks(monkeypatch, 16, nodes=2)
    with pytest.raises(ValueError, match=r"srun --nodes=2 --ntasks=2 --ntasks-per-node=1 torchrun --nnodes 2 "
                       r"--nproc-per-node 8 --rdzv-backend c10d --rdzv-id \$SLURM_JOB_ID"):
        require_one_launch(["evaluate", "run", "data"], app)


def test_only_the_first_task_prints(monkeypatch, capsys):
    tasks(monkeypatch, 16, task=5)
    with pytest.raises(SystemExit, match="2"):
        main(["train", "data"])
    assert capsys.readouterr().err == ""


def test_mpirun_is_refused_too(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    with pytest.raises(ValueError, match=r"mpirun has started 4 tasks of train.*: torchrun --standalone "
                       "--nproc-per-node 4 -m alexnet train data;"):
        require_one_launch(["train", "data"], app)


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "features", "pack"])
def test_torchrun_may_start_all_commands_that_share_their_work(monkeypatch, command):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "TORCHELASTIC_RUN_ID": "none"}.items():
        monkeypatch.setenv(name, value)
    require_one_launch([command, "a", "b"], app)
    with pytest.raises(ValueError, match="runs in one process, and torchrun has started 2"):
        require_one_launch(["map", "a", "b"], app)
    monkeypatch.delenv("WORLD_SIZE")
    tasks(monkeypatch, 4)
    with pytest.raises(ValueError, match=f"--nproc-per-node 4 -m alexnet {command} a b; "):
        require_one_launch([command, "a", "b"], app)


@pytest.mark.parametrize("setting", [{"SLURM_STEP_NUM_TASKS": "1"}, {"WORLD_SIZE": "1"},
                                     {"WORLD_SIZE": "16", "RANK": "3"}, {}])
def test_one_task_torchruns_processes_and_separate_runs_are_not_refused(monkeypatch, setting):
    if "WORLD_SIZE" in setting:
        tasks(monkeypatch, 16)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    require_one_launch(["train", "data"], app)
    require_one_launch(["predict", "run", "image.jpg"], app)


@pytest.mark.parametrize(("count", "device", "noted"), [(8, "cuda", True), (1, "cuda", False), (8, "cuda:3", False),
                                                        (8, "cpu", False)])
def test_a_run_on_one_of_several_gpus_prints_the_torchrun_line(
        packed, tiny, tmp_path, monkeypatch, count, device, noted):
    spec = RunSpec(packed, tiny, Recipe("r", epochs=1, batch_size=60, learning_rate=0.01), tmp_path / "run",
                   about={"command": "alexnet train data --arch small"})
    trainer = build(spec)
    object.__setattr__(trainer.spec, "device", device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    lines = list(describe(trainer, TrainRequest(data="data", out=spec.out, options={}), None))
    line = ("note: this host has 8 GPUs, of which one is used; to use all: torchrun --standalone --nproc-per-node "
            "gpu -m alexnet train data --arch small")
    assert (line in lines) == noted
    assert any("GPUs" in line for line in lines) == noted


def test_a_world_size_alone_does_not_make_tasks_of_srun_know_each_other(monkeypatch):
    tasks(monkeypatch, 16)
    monkeypatch.setenv("WORLD_SIZE", "16")
    with pytest.raises(ValueError, match="srun has started 16 tasks of features, which are independent of each other"):
        require_one_launch(["features", "run", "data", "out.npz"], app)


def test_a_world_size_alone_is_refused(monkeypatch, class_folders, capsys, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "16")  # as a cluster's script sets it for every command
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(class_folders), "--arch", "small", "--out", str(tmp_path / "run")])
    assert capsys.readouterr().err == (
        "alexnet: WORLD_SIZE is 16, but RANK and MASTER_ADDR and MASTER_PORT are not set; let torchrun start the "
        "processes, or set WORLD_SIZE=1 for a run of one process\n")
    assert not (tmp_path / "run").exists()
