"""The table of docs/reliability.md is made of the record, and a finding is put in its row's place."""

import json

import ledger
import pytest
from ledger import Finding


def test_the_page_is_what_the_record_says():
    assert ledger.BEGIN + ledger.table() + ledger.END in ledger.PAGE.read_text()


def test_a_finding_takes_the_place_of_its_rows_last_one(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "RECORD", tmp_path / "r.jsonl")
    monkeypatch.setattr(ledger, "PAGE", tmp_path / "r.md")
    monkeypatch.setattr("sys.argv", [str(ledger.ROOT / "benchmarks/reliability/kills.py"), "--kills", "3"])
    ledger.PAGE.write_text(f"before\n{ledger.BEGIN}{ledger.END}\nafter\n")
    for row, found in (("10", "x"), ("2", "y"), ("9b", "z"), ("9a", "w"), ("2", "v")):
        ledger.record(Finding(row, "kills", "none lost", found, found != "z"), 3.3)
    lines = [json.loads(line) for line in ledger.RECORD.read_text().splitlines()]
    assert [(one["row"], one["found"]) for one in lines] == [("2", "v"), ("9a", "w"), ("9b", "z"), ("10", "x")]
    assert lines[0]["command"] == "python benchmarks/reliability/kills.py --kills 3"
    page = ledger.PAGE.read_text()
    assert page.startswith("before\n")
    assert page.endswith("\nafter\n")
    assert "| 9b | kills | none lost | z | **no** |" in page
    assert "| 2 | kills | none lost | v | yes |" in page


def test_a_script_that_finds_its_limit_broken_exits_with_1(monkeypatch, capsys):
    for holds in (True, False):
        monkeypatch.setattr("sys.argv", ["x.py", "--kills", "2", "--no-record"])
        with pytest.raises(SystemExit) as stopped:
            ledger.main(lambda kills, holds=holds: Finding("1", f"{kills} kills", "0 lost", "0 lost", holds), kills=200)
        assert stopped.value.code == (not holds)
    assert "DOES NOT HOLD: 2 kills: 0 lost (0 lost)" in capsys.readouterr().out
