"""The `demo` command."""

import json

import pytest

from alexnet.data.sources import embedded
from command_line import alexnet


def test_demo_on_few_patches_reports(tmp_path, capsys, monkeypatch):
    few = embedded.open_embedded(train=10, test=4)
    monkeypatch.setattr("alexnet.data.sources.detect.open_embedded", lambda: few)
    assert alexnet("demo", "--out", tmp_path / "demo", "--epochs", 1) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {tmp_path / 'demo' / 'report.html'}"
    assert "texture recognition" in (tmp_path / "demo" / "report.html").read_text()


@pytest.mark.slow
def test_demo_trains_evaluates_and_reports_offline(tmp_path, capsys, monkeypatch):
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
    assert measured[1]["images"] >= 14 * 40
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
