"""The recipes of docs/cluster.md are run as far as they can be without a cluster, or read as it would read them."""

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path

import pytest
import yaml
from torch.distributed.run import get_args_parser

from alexnet.cli.main import app
from alexnet.models import checkpoint

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "examples" / "cluster"
PAGE = (ROOT / "docs" / "cluster.md").read_text()


@pytest.fixture
def stubs(tmp_path):
    """Make a program that is before all others on the PATH: `stubs(name, text)`; `stubs.environment` has that PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(name, text):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    make.environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    return make


def launcher(stubs):
    """A torchrun that only prints its words."""
    stubs("torchrun", f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")


def bash(*words, environment, code=0):
    ran = subprocess.run(["bash", *words], env=environment, capture_output=True, text=True, timeout=240)
    assert ran.returncode == code, ran.stderr
    return ran.stdout if code == 0 else ran.stderr


def understood(words):
    """torchrun's options and those of a command that shares its work, each read by its own parser."""
    launch = get_args_parser().parse_args(words)
    assert launch.module
    assert launch.training_script == "alexnet"
    command, bound, _ = app.parse_args(launch.training_script_args, exit_on_error=False, print_error=False)
    assert command.__name__.rstrip("_") in ("train", "evaluate", "predict", "features", "pack")
    options = {}
    for name, value in bound.arguments.items():
        options |= vars(value) if is_dataclass(value) else {name: value}
    return launch, options


def conf(launch):
    return dict(one.split("=") for one in launch.rdzv_conf.split(","))


@pytest.mark.parametrize("name", ["hosts.sh", "slurm.sbatch"])
def test_the_scripts_are_bash(name):
    subprocess.run(["bash", "-n", CLUSTER / name], check=True, timeout=30)


def test_each_host_of_the_plain_script_knows_where_to_meet(stubs):
    launcher(stubs)
    for number, host in enumerate(("10.0.0.1", "10.0.0.2", "10.0.0.3")):
        words = json.loads(bash(CLUSTER / "hosts.sh", "10.0.0.1,10.0.0.2,10.0.0.3", "a folder", "--arch", "paper-bn",
                                environment=stubs.environment | {"SELF": host}))
        launch, options = understood(words)
        assert (launch.nnodes, launch.nproc_per_node) == ("3", "gpu")
        assert (launch.rdzv_endpoint, launch.local_addr) == ("10.0.0.1:29400", host)
        assert conf(launch)["is_host"] == str(int(number == 0))
        assert (options["data"], options["arch"], options["resume"]) == ("a folder", "paper-bn", True)


def test_a_host_that_is_not_among_those_named_is_told_so(stubs):
    launcher(stubs)
    said = bash(CLUSTER / "hosts.sh", "10.0.0.1,10.0.0.2", "data", environment=stubs.environment | {"SELF": "10.0.0.9"},
                code=2)
    assert said == "10.0.0.9 is not in the list 10.0.0.1 10.0.0.2; set SELF to the name of this host in it\n"


@pytest.mark.slow
def test_the_slurm_script_trains_an_epoch_in_two_tasks(stubs, packed, tmp_path):
    """srun and scontrol are stubs: the tasks start here, and the nodes are addresses of the loopback."""
    with socket.socket() as probe:
        for job in range(os.getpid() % 9000, 9999):
            if probe.connect_ex(("127.0.0.1", 20_000 + job)):  # nobody listens
                break
    stubs("scontrol", "#!/bin/bash\n[ \"$*\" = 'show hostnames node[1-2]' ] && printf '127.0.0.1\\n127.0.0.2\\n'\n")
    stubs("srun", """#!/bin/bash
[ "$1" = --cpus-per-task=4 ] && shift || exit 9 # srun does not take it from sbatch
[ "$1" = --kill-on-bad-exit=1 ] && shift
SLURM_NODEID=0 SLURMD_NODENAME=127.0.0.1 "$@" & first=$!
SLURM_NODEID=1 SLURMD_NODENAME=127.0.0.2 "$@" & second=$!
wait $first && wait $second
""")
    environment = stubs.environment | {
        "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_ID": str(job), "SLURM_NNODES": "2", "PROCESSES": "1",
        "SLURM_CPUS_PER_TASK": "4"}
    bash(CLUSTER / "slurm.sbatch", packed.path, "--arch", "cifar", "--epochs", "1", "--device", "cpu", "--precision",
         "fp32", "--set", "recipe.batch_size=30", "--out", tmp_path / "run", environment=environment)
    assert checkpoint.load(tmp_path / "run" / "last").training["epoch"] == 1
    assert json.loads((tmp_path / "run" / "config.json").read_text())["processes"] == 2


def test_the_slurm_script_asks_for_what_the_page_says():
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", (CLUSTER / "slurm.sbatch").read_text(), re.MULTILINE))
    assert asked["ntasks-per-node"] == "1"  # torchrun starts a process for each GPU itself
    assert "requeue" in asked
    assert f"--signal={asked['signal']}" in PAGE


def test_every_pod_of_the_kubernetes_job_starts_what_the_others_wait_for(stubs):
    service, job = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    container, = pod["containers"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert pod["subdomain"] == service["metadata"]["name"]
    pods = job["spec"]["completions"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["parallelism"] == pods
    launcher(stubs)
    given = {one["name"]: one["value"] for one in container["env"]}
    for index in range(pods):
        words = [*container["command"][1:], *container["args"]]
        launch, options = understood(json.loads(bash(
            *words, environment=stubs.environment | given | {"JOB_COMPLETION_INDEX": str(index)})))
        names = [f"{job['metadata']['name']}-{number}.{pod['subdomain']}" for number in range(pods)]
        assert launch.nnodes == str(pods)
        assert launch.local_addr == names[index]
        assert launch.rdzv_endpoint == f"{names[0]}:{service['spec']['ports'][0]['port']}"
        assert conf(launch)["is_host"] == str(int(index == 0))
        assert launch.shutdown_timeout < pod["terminationGracePeriodSeconds"]
        assert options["resume"]
        mount, _ = container["volumeMounts"]
        assert options["data"].startswith(mount["mountPath"])
        assert options["out"].is_relative_to(mount["mountPath"])


def test_the_commands_of_the_page_are_understood():
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", "")
    lines = [line.split("#")[0].split() for line in blocks.splitlines()]
    ran = [understood(words[1:]) for words in lines if words and words[0] == "torchrun"]
    ran += [app.parse_args(words[1:], exit_on_error=False, print_error=False) for words in lines
            if words and words[0] == "alexnet"]
    assert len(ran) == 5
    for words in lines:
        for word in words:
            if word.startswith("examples/"):
                assert (ROOT / word).is_file(), word


def test_every_option_the_page_names_exists():
    """Of alexnet train, torchrun, or the schedulers."""
    train = {option for one in app["train"].assemble_argument_collection() for option in one.names}
    launch = {option for action in get_args_parser()._actions for option in action.option_strings}
    others = {"--signal", "--requeue", "--kill-on-bad-exit", "--side"}
    assert set(re.findall(r"--[a-z][\w-]+", PAGE)) <= train | launch | others
    assert {"--parallel", "--timeout", "--micro-batch", "--save-minutes", "--max-restarts",
            "--shutdown-timeout", "--out", "--resume", "--recipe"} <= set(re.findall(r"--[a-z][\w-]+", PAGE))


def test_the_links_of_the_page_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert target.startswith("https://") or (ROOT / "docs" / target).exists(), target
