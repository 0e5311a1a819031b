"""`alexnet reproduce`: its help names every claim, and a stopped claim says how it is resumed."""

import subprocess
import sys
from pathlib import Path

import pytest

from alexnet.cli.main import main
from alexnet.reproduce import measures
from alexnet.reproduce.claims import CLAIMS
from alexnet.training.state import Interrupted
from command_line import alexnet


def help_text(monkeypatch, capsys) -> str:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main(["reproduce", "--help"])
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_the_help_has_a_line_for_each_claim_and_says_which_need_data(monkeypatch, capsys):
    shown = help_text(monkeypatch, capsys)
    assert len(CLAIMS) == 14
    for name, claim in CLAIMS.items():
        assert f"• {name} ({claim.section}): " in shown
    assert "• dropout (§4.2): dropout against no dropout" in shown
    assert "• ensemble (§6, Table 2): five averaged against one network" in shown
    assert "• table: Tables 1 and 2 with the errors of your networks" in shown
    assert "Every claim but table needs it." in shown


def test_the_help_needs_no_torch():
    code = ("import sys; from alexnet.cli.main import main\n"
            "try: main(['reproduce', '--help'])\n"
            "except SystemExit as stop: assert not stop.code\n"
            "assert 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_claim_that_a_signal_stops_says_that_the_same_command_resumes(
        class_folders, tmp_path, monkeypatch, capsys):
    def stopped(*_: object) -> None:
        raise Interrupted(15, Path("runs/reproduce/dropout-0/last"))

    monkeypatch.setattr(measures, "reproduce", stopped)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    exit_code = alexnet("reproduce", "dropout", "--data", class_folders, "--quick", "--out", tmp_path / "claims")
    assert exit_code == 128 + 15
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == ("alexnet: stopped by SIGTERM; runs/reproduce/dropout-0/last is saved; the same command resumes the "
                    "claim")
    assert not (tmp_path / "claims" / "results.jsonl").exists()


def test_the_demo_says_that_the_same_command_resumes_it(tmp_path, monkeypatch):
    from alexnet.reproduce import demo

    class Stopped:
        def fit(self) -> None:
            raise Interrupted(2, tmp_path / "demo" / "last")

    monkeypatch.setattr(demo, "_show_pretrained", lambda *_: None)
    monkeypatch.setattr(demo, "pack_with_bar", lambda *_, **__: None)
    monkeypatch.setattr(demo, "RunSpec", lambda *_, **__: None)
    monkeypatch.setattr(demo, "build", lambda *_, **__: Stopped())
    with pytest.raises(Interrupted) as stop:
        demo.demo(tmp_path / "demo", say=lambda _: None)
    folder = tmp_path / "demo" / "last"
    assert str(stop.value) == f"stopped by SIGINT; {folder} is saved; the same command resumes the demo"
    assert stop.value.exit_code == 130
