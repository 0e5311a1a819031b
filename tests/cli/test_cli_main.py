"""Help, mistakes in one sentence with exit code 2, signals and pipes."""

import errno
import os
import subprocess
import sys

import pytest

from alexnet.cli.errors import Failure, failure
from alexnet.errors import UserError
from command_line import alexnet


def test_help_lists_every_command_in_under_a_second():
    """Of processor time, so that other work on the machine does not count."""
    best, command = 9.0, [sys.executable, "-m", "alexnet", "--help"]
    for _ in range(3):
        before = os.times()
        printed = subprocess.run(command, capture_output=True, text=True, check=True)
        after = os.times()
        best = min(best, after.children_user + after.children_system - before.children_user - before.children_system)
    assert best < 1
    for command in ("attribute", "check", "demo", "diagnose", "evaluate", "explain", "export", "figure", "import",
                    "list", "neighbors", "pack", "predict", "report", "reproduce", "serve", "top-patches", "train",
                    "verify"):
        assert command in printed.stdout


@pytest.mark.parametrize(("arguments", "words"), [
    (["explain", "papr"], "did you mean paper?"),
    (["explain", "paper", "--layer", "cnv1"], "did you mean conv1?"),
    (["explain", "torchvision", "--size", "32"], "needs 63 or more"),
    (["explain", "--bogus"], "--bogus.  (alexnet explain --help lists what there is)"),
    (["train", "PHOTOS", "--learning-rate", "0.1"], "Did you mean --lr?"),
    (["train", "PHOTOS", "--held-out", "0.3"],
     '--held-out. Did you mean alexnet pack DATA PACKED --held-out 0.2, then alexnet train PACKED?  (alexnet train'),
    (["train", "PHOTOS", "--devcie", "cpu"], "Did you mean --device?"),
    (["train", "PHOTOS", "--set", "recipe.rate=0.1"], "did you mean recipe.learning_rate?"),
    (["train", "PHOTOS", "--set", "recipe.lr=0.1"], "did you mean recipe.learning_rate?"),
    (["train", "PHOTOS", "--set", "learning_rate=0.1"], "did you mean recipe.learning_rate=0.1?"),
    (["train", "PHOTOS", "--lr", "0.1", "--set", "recipe.learning_rate=0.2"],
     "--lr 0.1 and --set recipe.learning_rate=0.2 set the same field; give only one of them"),
    (["train", "PHOTOS", "--arch", "small", "--lr", "0"], "--lr 0.0 must be a positive number"),
    (["train", "PHOTOS", "--epochs", "0.5"], "0.5 must be a whole number"),
    (["train", "PHOTOS", "--micro-batch", "2.5"], "2.5 must be a whole number"),
    (["explain", "paper", "--size", "224.5"], "224.5 must be a whole number"),
    (["explain", "paper", "--html", "page.txt"], "page.txt ends in .txt; name a file that ends in .html or .htm"),
    (["explain", "paper", "--html", "PHOTOS"], "is a folder; name a file in it"),
    (["trian", "x"], "trian"),
    (["train", "nowhere"], "there is no nowhere"),
    (["train", "PHOTOS", "--arch", "smal"], "did you mean small?"),
    (["train", "PHOTOS", "--recipe", "modren"], "did you mean modern?"),
    (["train", "PHOTOS", "--set", "activation=tanh"], "begin with arch. or recipe."),
    (["train", "PHOTOS", "--set", "arch.aktivation=tanh"], "did you mean arch.activation?"),
    (["train", "PHOTOS", "--set", "recipe.batch_size=0"], "batch_size 0 must be at least 1"),
    (["train", "PHOTOS", "--arch", "torchvision", "--set", "arch.input.crop=32"], "needs 63 or more"),
    (["train", "PHOTOS", "--arch", "small", "--precision", "fp16", "--device", "cpu"], "use --precision bf16 or fp32"),
    (["train", "PHOTOS", "--epochs", "many"], "--epochs must be a whole number, such as 20, and is 'many'  (alexnet"),
    (["train", "PHOTOS", "--lr", "low"], "--lr must be a number, such as 0.5, and is 'low'  (alexnet train --help"),
    (["train", "PHOTOS", "--save-minutes", "x"], "--save-minutes must be a number, such as 0.5, and is 'x'"),
    (["train", "PHOTOS", "more"],
     "alexnet train takes no further argument, and got more; leave that out, or put a name that has spaces in quotes"),
    (["train", "PHOTOS", "--init", "pretrianed"], "pretrianed does not exist; did you mean pretrained?"),
    (["evaluate", "torchvison", "PHOTOS"], "torchvison does not exist; did you mean torchvision?"),
    (["train", "PHOTOS", "--epochs", "0"], "epochs 0 must be at least 1"),
    (["train", "PHOTOS", "--arch", "small", "--freeze", "conv"], "--freeze conv without --init"),
    *(([*words, "https://host.invalid/w.pth", *more], "https://host.invalid/w.pth is a URL, and checkpoints must be "
       "files or folders on this machine; download it (curl -LO https://host.invalid/w.pth), and name the file")
      for words, more in ((["predict"], ["PHOTOS"]), (["evaluate"], ["PHOTOS"]), (["calibrate"], ["PHOTOS"]),
                          (["train", "PHOTOS", "--init"], []), (["export"], ["out.onnx"]))),
    (["import", "https://host.invalid/w.pth", "out"], "https://host.invalid/w.pth is a URL, and weights must be files"),
    (["explain", "https://host.invalid/w.pth"], "https://host.invalid/w.pth is a URL, and networks must be files"),
    (["report", "https://host.invalid/runs/a"], "https://host.invalid/runs/a is a URL, and runs must be files"),
    (["evaluate", "RUN"], "evaluate needs checkpoints and then the data"),
    (["evaluate", "nowhere", "PHOTOS"], "nowhere does not exist"),
    (["evaluate", "RUN", "RUN"], "is a run or a checkpoint, not images; name the data"),
    (["evaluate", "RUN", "PHOTOS", "--batch-size", "0"], "--batch-size 0 must be at least 1"),
    (["predict", "RUN"], "predict needs images after the checkpoint"),
    (["predict", "RUN", "nowhere.jpg"], "nowhere.jpg does not exist"),
    (["report", "nowhere"], "nowhere is not a run; give a folder that `alexnet train` made"),
    (["report", "RUN/report.html"], "report.html is not a run; give a folder that `alexnet train` made"),
    (["pack", "PHOTOS/train/ash", "out"], "did you mean"),
    (["verify", "PHOTOS"], "is not a packed folder"),
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
    messages = [line for line in printed.err.splitlines() if line.startswith("alexnet: ")]
    assert len(messages) == 1
    assert words in messages[0]
    assert "Traceback" not in printed.err
    assert not printed.out
    assert sorted(class_folders.rglob("*")) == before
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("*.safetensors"))


def test_a_closed_pipe_ends_the_command_silently_with_141():
    """As `alexnet explain paper --json | head -1` does."""
    read, write = os.pipe()
    os.close(read)
    for arguments in (["explain", "paper", "--json"], ["list"]):
        command = [sys.executable, "-m", "alexnet", *arguments]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, done.stderr) == (141, "")
    os.close(write)


def test_an_error_of_the_file_system_is_one_sentence(tmp_path, capsys):
    out = tmp_path / f"{'a' * 300}.png"  # the folder can be written to, and no file of this name
    assert alexnet("figure", "2", "paper", "--out", out) == 2
    assert f"alexnet: {out} cannot be read or written (" in (printed := capsys.readouterr().err)
    assert "Errno" not in printed


def test_python_dash_m_is_the_command():
    command = [sys.executable, "-m", "alexnet", "list", "--json"]
    assert "torchvision" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_ctrl_c_during_imports_prints_no_traceback():
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


def test_importing_alexnet_imports_no_torch_and_every_exported_name_exists():
    script = """import sys, alexnet
assert "torch" not in sys.modules and "numpy" not in sys.modules
alexnet.UserError, alexnet.arch("small"), alexnet.recipe("paper"), alexnet.Arch, alexnet.InputSpec, alexnet.Recipe
alexnet.train, alexnet.evaluate, alexnet.__version__
assert "torch" not in sys.modules
assert set(dir(alexnet)) == set(alexnet.__all__)
for name in alexnet.__all__:
    getattr(alexnet, name)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


class Stopped(Exception):
    """As the trainer's Interrupted."""

    exit_code = 143


@pytest.mark.parametrize(("error", "expected"), [
    (UserError("side 0 must be at least 1", "choose another"), Failure("side 0 must be at least 1; choose another", 2)),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.jpg"),
     Failure("a.jpg cannot be read or written (no such file or directory); check the name and its permissions", 2)),
    (OSError(errno.ENOSPC, "No space left on device"), Failure("no space left on device; make room on the disk", 2)),
    (Stopped("stopped by SIGTERM"), Failure("stopped by SIGTERM", 143, every_rank=False)),
    (RuntimeError("a fault of the program"), None)])
def test_an_exception_becomes_a_sentence_and_an_exit_code(error, expected):
    assert failure(error) == expected
