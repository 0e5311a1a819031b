"""The examples run and do what they say."""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_training_by_hand_learns(class_folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    main = runpy.run_path(str(EXAMPLES / "by_hand.py"))["main"]
    assert main(str(class_folders), epochs=6) < 0.5  # chance is 0.75
    assert "epoch 6: top-1 error" in capsys.readouterr().out


def test_every_example_is_run_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"by_hand.py"}
