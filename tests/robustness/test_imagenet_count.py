"""The rehearsal with ImageNet's count: a short form of row 23 of docs/reliability.md."""

import json

import imagenet_count
import ledger
import numpy as np
import pytest
from crops import Crops
from memory import Memory


@pytest.mark.slow
def test_a_rehearsal_with_few_images_holds_in_every_part():
    findings = list(imagenet_count.measure(count=2_000, steps=11, shard_images=300, slack_mb=200))
    assert [finding.row for finding in findings] == ["23a", "23b", "23c", "23d", "23e", "23f"]
    assert not [finding for finding in findings if not finding.holds]
    assert ", 125 images read in " in findings[2].found  # 16 equal batches, not 15 of 128 and one of 80


def test_crops_differ_and_are_those_of_their_number():
    large = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)
    crops = Crops("train", large, range(1000, 1300), 7)
    pixels = [crop.pixels() for crop in crops]
    assert {one.shape for one in pixels} == {(64, 64, 3)}
    assert len({one.tobytes() for one in pixels}) == 300
    assert pixels[5][0, 0].tolist() == [0, 1005 // 256, 1005 % 256]
    assert (crops[5].label, crops[5].name) == (1005 % 7, "train/0004/0001005")
    rows = {one[1].tobytes() for one in pixels}
    assert len(rows) > 290  # other places, not only other numbers


@pytest.mark.parametrize(("samples", "flat"), [
    ([100, 200, 300, 300, 301, 299, 300, 302], True), ([100, 200, 300, 300, 310, 320, 340, 350], False)])
def test_memory_that_grows_in_the_second_half_is_not_flat(samples, flat):
    memory = Memory({1: [300] * 8, 2: [1_000_000 * sample for sample in samples]})
    assert memory.is_flat(slack_mb=10) == flat


def test_a_script_with_several_findings_records_each_and_fails_if_one_does_not_hold(tmp_path, monkeypatch, capsys):
    def measure(kills):
        yield ledger.Finding("23a", "packed", "all", "all", holds=False)
        yield ledger.Finding("23b", "verified", "all", f"{kills}", holds=True)

    monkeypatch.setattr(ledger, "RECORD", tmp_path / "r.jsonl")
    monkeypatch.setattr(ledger, "PAGE", tmp_path / "r.md")
    monkeypatch.setattr("sys.argv", [str(ledger.ROOT / "benchmarks/reliability/kills.py"), "--kills", "3"])
    ledger.PAGE.write_text(f"{ledger.BEGIN}{ledger.END}")
    with pytest.raises(SystemExit) as stopped:
        ledger.main(measure, kills=200)
    assert stopped.value.code == 1
    recorded = [json.loads(line) for line in ledger.RECORD.read_text().splitlines()]
    assert [(one["row"], one["found"], one["holds"]) for one in recorded] == [("23a", "all", False), ("23b", "3", True)]
    assert "DOES NOT HOLD: packed: all (all)\nholds: verified: 3 (all)\n" in capsys.readouterr().out
