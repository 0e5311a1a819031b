"""torchrun, srun and mpirun: which commands they may start several times, and the torchrun line to type instead."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cyclopts import App

from alexnet._runtime.notes import is_launched
from alexnet.errors import UserError

_OF_SEVERAL_PROCESSES = ("train", "evaluate", "predict", "features", "pack")
"""Commands whose work several processes share."""

_READ_SECONDS = 2.0
"""How long the other tasks wait before they end: srun may kill all tasks when one ends, also the one that prints."""


@dataclass(frozen=True)
class _Launcher:
    """The variables that a launcher sets for each of its tasks."""

    name: str
    tasks: str
    task: str
    nodes: str


_OTHERS = (_Launcher("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_NUM_NODES"),
           _Launcher("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", ""))


def require_one_launch(arguments: Sequence[str], commands: App) -> None:
    """Check that each process that runs this command knows of the others, or is the only one.

    Args:
        arguments: of the command line.
        commands: all commands.

    Raises:
        UserError: torchrun has started several processes of a command that does not share its work, so that each would
            do all of it and write the same files; or srun or mpirun those of one that does, without torchrun.
        SystemExit: in all tasks but the first, where srun or mpirun has started them.
    """
    command = next(iter(arguments), "")
    shares = command in _OF_SEVERAL_PROCESSES
    # torchrun sets TORCHELASTIC_RUN_ID; cluster scripts may set WORLD_SIZE for everything.
    if is_launched() and "TORCHELASTIC_RUN_ID" in os.environ and not shares and command in commands:
        *others, last = _OF_SEVERAL_PROCESSES
        raise UserError(f"{command} runs in one process, and torchrun has started {os.environ['WORLD_SIZE']}",
                        f"run it without torchrun; only {', '.join(others)} and {last} share their work")
    if not shares or os.environ.get("WORLD_SIZE") == "1" or {"WORLD_SIZE", "RANK"} <= os.environ.keys():
        return
    for launcher in _OTHERS:
        if (tasks := int(os.environ.get(launcher.tasks, "1"))) > 1:
            if os.environ.get(launcher.task, "0") != "0":
                time.sleep(_READ_SECONDS)
                raise SystemExit(2)
            nodes = int(os.environ.get(launcher.nodes, "1"))
            raise UserError(
                f"{launcher.name} has started {tasks} tasks of {command}, which are independent of each other",
                f"let torchrun start the processes: {torchrun_line(arguments, tasks, nodes, os.environ)}; or set "
                "WORLD_SIZE=1 if each task is a run of its own")


def torchrun_line(arguments: Sequence[str], processes: int, nodes: int, environment: Mapping[str, str]) -> str:
    """The command that starts as many processes by torchrun, one launcher on each node."""
    command = f"-m alexnet {shlex.join(arguments)}"
    if nodes == 1:
        srun = "srun --ntasks=1 " if "SLURM_JOB_ID" in environment else ""
        return f"{srun}torchrun --standalone --nproc-per-node {processes} {command}"
    return (f"srun --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 torchrun --nnodes {nodes} --nproc-per-node "
            f"{-(-processes // nodes)} --rdzv-backend c10d --rdzv-id $SLURM_JOB_ID --rdzv-endpoint "
            f"$(scontrol show hostnames | head -n 1):29400 {command}")
