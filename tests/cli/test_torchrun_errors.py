"""torchrun's summary names the rank that failed first, with our sentence."""

import json
import os
import re
import subprocess
import sys
import time

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from alexnet.cli.main import main
from alexnet.cli.torchrun_errors import record_failure
from alexnet.errors import UserError
from alexnet.training.parallel.liveness import PeerLostError
from alexnet.training.parallel.text_exchange import AlreadyReported, SilentExit


@pytest.fixture
def failures(tmp_path, monkeypatch):
    """Ranks' errors, recorded at the same time -> what torchrun makes of their files."""
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.5)

    def read(*errors):
        made = {}
        for rank, error in enumerate(errors):
            path = tmp_path / f"{rank}.json"
            monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
            record_failure(error)
            made[rank] = ProcessFailure(local_rank=rank, pid=100 + rank, exitcode=2, error_file=str(path))
        return ChildFailedError("alexnet", made)
    return read


def root_cause(summary):
    return summary.partition("Root Cause")[2]


def reported_by_rank0(problem):
    """What rank 0 raises for another rank's problem."""
    error = AlreadyReported(problem, "try again")
    error.is_consequence = True
    return error


def test_the_rank_whose_problem_it_is_is_the_root_cause(failures):
    error = reported_by_rank0("process 2 of 3: no such folder")
    failed = failures(error, SilentExit(error), SilentExit(error, is_consequence=False))
    said = root_cause(str(failed))
    assert failed.get_first_failure()[0] == 2
    assert "rank      : 2 (local_rank: 2)" in said
    assert "traceback : process 2 of 3: no such folder; try again\n" in said
    assert str(failed).count("no such folder; try again") == 3, "also where torchrun has seen one rank end only"


def test_a_rank_that_lost_another_is_not_the_root_cause(failures):
    lost = PeerLostError("process 0 of 2 waited for another process that has ended")
    assert failures(lost, UserError("the disk is full", "make room")).get_first_failure()[0] == 1
    assert failures(lost, ValueError("the disk is full")).get_first_failure()[1].timestamp == 1_800_000_000


def test_a_fault_of_the_program_is_recorded_with_its_traceback(failures):
    try:
        raise RuntimeError("a fault")
    except RuntimeError as error:
        said = root_cause(str(failures(error)))
    assert "Traceback (most recent call last):" in said
    assert "RuntimeError: a fault" in said


@pytest.mark.parametrize("error", [SystemExit(0), SystemExit(2)])
def test_an_exit_that_reports_nothing_is_not_recorded(tmp_path, monkeypatch, error):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    record_failure(error)
    assert not (tmp_path / "error.json").exists()


def test_a_mistake_in_the_command_line_is_recorded_and_still_ends_with_2_and_one_sentence(
        tmp_path, monkeypatch, capsys):
    path = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(tmp_path / "absent"), "--out", str(tmp_path / "run")])
    said = capsys.readouterr().err.removeprefix("alexnet: ").rstrip("\n")
    assert json.loads(path.read_text())["message"]["message"] == said
    assert "\n" not in said
    assert "absent" in said


PROGRAM = """
import os, sys
from alexnet.__main__ import main
sys.argv = ["alexnet", "train", sys.argv[1] if os.environ["RANK"] == "0" else sys.argv[1] + "-absent",
            "--arch", "cifar", "--device", "cpu", "--out", sys.argv[2]]
main()
"""


def test_torchrun_prints_the_failing_rank_and_its_sentence(packed, tmp_path):
    """The second of two ranks has no data; the first one prints so, and torchrun's summary names the second."""
    (tmp_path / "program.py").write_text(PROGRAM)
    ran = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         tmp_path / "program.py", packed.path, tmp_path / "run"],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240)
    said = root_cause(ran.stderr)
    assert ran.returncode == 1
    assert ran.stderr.count("\nalexnet: process 1 of 2: ") + ran.stderr.startswith("alexnet: process 1 of 2: ") == 1
    assert "traceback : process 1 of 2: " in said, ran.stderr
    assert "-absent" in said
    assert re.search(r"exitcode  : (2|-15) ", said), "-15: rank 0 ended first, and torchrun then ends the others"
    assert not (tmp_path / "run").exists()
