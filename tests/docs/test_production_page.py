"""docs/deploy/production.md: its configurations name options, paths and metrics that exist, and numbers that fit."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from alexnet.cli.main import app
from alexnet.serving.handlers import Handlers
from alexnet.serving.limits import Limits
from alexnet.serving.metrics import Metrics
from rehearsal import ROOT, blocks

PAGE = ROOT / "docs" / "deploy" / "production.md"
UNIT, NGINX, SCRAPE, RULES = (block.text for block in blocks(PAGE))


def metric_names():
    """The names of all samples that the server's metrics may have."""
    names = set()
    for family in Metrics().registry.collect():
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        names |= {family.name + end for end in ends}
    return names


def seconds_of(name, text):
    return int(re.search(rf"{name}[= ](\d+)", text)[1])


def test_the_unit_starts_the_server_with_options_that_exist():
    start = shlex.split(re.search(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)[1])
    assert start[0].endswith("/alexnet")
    app.parse_args(start[1:], exit_on_error=False, print_error=False)
    port = start[start.index("--port") + 1]
    assert f"http://127.0.0.1:{port}/ready" in UNIT
    assert f"server 127.0.0.1:{port};" in NGINX
    assert f'"127.0.0.1:{port}"' in SCRAPE
    assert seconds_of("TimeoutStopSec", UNIT) > Limits.shutdown_seconds


@pytest.mark.parametrize(("is_ready", "code"), [(True, 0), (False, 1)])
def test_the_start_waits_no_longer_than_the_server_runs(tmp_path, is_ready, code):
    """systemd runs it with the server's process in MAINPID: here one that has ended."""
    curl = tmp_path / "curl"
    curl.write_text(f"#!/bin/sh\nexit {0 if is_ready else 22}\n")
    curl.chmod(0o755)
    wait = shlex.split(re.search(r"^ExecStartPost=(.*)$", UNIT, re.MULTILINE)[1])
    ended = subprocess.Popen(["true"])
    ended.wait()
    done = subprocess.run(wait, check=False, timeout=20, stderr=subprocess.DEVNULL,
                          env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "MAINPID": str(ended.pid)})
    assert done.returncode == code


def test_the_lock_file_names_no_file_of_this_machine():
    """A package of an editable installation or of a local wheel other than alexnet would be named by its path, too."""
    (command,) = re.findall(r"`pip (freeze [^`>]*) > requirements.lock`", PAGE.read_text())
    done = subprocess.run([sys.executable, "-m", "pip", *command.split()], capture_output=True, text=True, check=True)
    assert "torch==" in done.stdout
    assert not re.search(r"^(-e |alexnet\b)", done.stdout, re.MULTILINE)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path):
    unit = tmp_path / "alexnet.service"
    unit.write_text(UNIT.replace("/opt/alexnet/current/bin/alexnet", "/bin/true").replace("/usr/bin/curl", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert "alexnet.service" not in done.stderr, done.stderr


def test_the_proxy_fits_the_limits_of_the_server():
    assert seconds_of("keepalive_timeout", NGINX) < Limits.keep_alive_seconds
    assert seconds_of("proxy_read_timeout", NGINX) > Limits.worker_seconds
    assert 1_000_000 * seconds_of("client_max_body_size", NGINX) == Limits.body_bytes
    assert NGINX.count("{") == NGINX.count("}")


def test_alerts_name_metrics_labels_and_paths_that_exist():
    (group,) = yaml.safe_load(RULES)["groups"]
    (job,) = yaml.safe_load(SCRAPE)["scrape_configs"]
    names, paths = metric_names(), {route.path for route in Handlers(None).routes()}
    for rule in group["rules"]:
        used = set(re.findall(r"alexnet_\w+", rule["expr"]))
        assert used <= names, rule
        assert used or rule["expr"] == f'up{{job="{job["job_name"]}"}} == 0'
        assert set(re.findall(r'path="([^"]*)"', rule["expr"])) <= paths
        assert set(re.findall(r'outcome="([^"]*)"', rule["expr"])) <= {"loaded", "failed"}
    assert len(group["rules"]) == 6


def test_the_page_of_the_server_lists_all_metrics():
    page = (Path(ROOT) / "docs" / "serving.md").read_text()
    listed = set(re.findall(r"`(alexnet_\w+)`", page.split("`/metrics` has these")[1]))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in metric_names()} - {"process_"}
    assert listed == {name for name in families if name.startswith("alexnet_")}
