"""The benchmarks go their whole way, and what they print is what they measured. Nobody's time is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def ran(script: str, *arguments: object) -> str:
    done = subprocess.run([sys.executable, BENCHMARKS / script, *map(str, arguments)], capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCHMARKS))
    import bench

    yield bench
    sys.path.remove(str(BENCHMARKS))


def test_a_row_is_measured_round_by_round_and_written_where_it_was_asked(tmp_path):
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    page.write_text("before\n<!-- table -->\nold\n<!-- end -->\nafter\n")
    printed = ran("bench.py", "--only", "ours-packing", "--rounds", 2, "--count", 24, "--json", figures, "--page", page)
    results = json.loads(figures.read_text())
    (row,) = results["rows"]
    (peer,) = row["peers"]
    assert results["rounds"] == 2
    assert peer["ratio"]["low"] <= peer["ratio"]["median"] <= peer["ratio"]["high"]
    assert peer["ratio"]["low"] <= row["ours"]["high"] / peer["rate"]["low"]
    assert f"{peer['ratio']['median']:.2f} (" in printed
    assert page.read_text() == f"before\n<!-- table -->\n{printed}<!-- end -->\nafter\n"


def test_a_row_that_is_not_there_is_answered_with_those_that_are():
    done = subprocess.run([sys.executable, BENCHMARKS / "bench.py", "--only", "nonsense"], capture_output=True,
                          text=True)
    assert done.returncode == 2
    assert "--only nonsense is in none of ours-step-paper, " in done.stderr


def test_every_row_names_sides_that_exist(bench):
    import sides

    for row in bench.ROWS:
        named = {side for _, side in row.peers} | {row.ours} | ({row.bound} if row.bound else set())
        assert named <= sides.SIDES.keys(), row.title


def test_the_page_holds_the_figures_of_its_json(bench):
    """docs/performance.md is made from docs/performance.json, and by nobody's hand."""
    docs = BENCHMARKS.parent / "docs"
    table = bench.table(json.loads((docs / "performance.json").read_text()))
    assert f"<!-- table -->\n{table}\n<!-- end -->" in (docs / "performance.md").read_text()


@pytest.mark.parametrize("name", ["paper", "cifar"])
def test_the_peers_network_is_the_presets(bench, name):
    """As many weights, layer by layer, and the same logits from the same weights."""
    import sides
    import torch

    from alexnet.architecture.presets import arch
    from alexnet.models.alexnet import AlexNet

    ours, theirs = AlexNet(arch(name)).eval(), sides.plain_network(name).eval()
    with torch.no_grad():
        for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert mine.shape == yours.shape
            yours.copy_(mine)
        crop = ours.arch.input.crop
        pixels = torch.randn(2, 3, crop, crop)
        difference = (ours(pixels) - theirs(pixels)).abs().max() / ours(pixels).abs().max()
    # `paper` divides alpha by nothing, as printed; torch's operator divides by n, and the peer's alpha is as 2012's.
    assert difference < (0.05 if name == "paper" else 1e-4)


@pytest.mark.slow
def test_the_gpu_benchmark_goes_its_way_on_a_cpu(tmp_path):
    printed = ran("gpu.py", "--device", "cpu", "--quick", "--json", tmp_path / "gpu.json")
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert {row["source"] for row in rows} >= {"on the device", "from raw shards", "from jpeg shards"}
    assert all(row["rate"] > 0 for row in rows)
    assert "of the matrix product" in printed


def test_the_cost_of_work_is_measured_and_drawn(tmp_path, bench):
    import cost

    points = [{"value": value, "seconds": 0.1 + 0.01 * value, "peak_bytes": 1e9 + 1e6 * value} for value in (1, 2, 8)]
    cost.draw({"axes": dict.fromkeys(cost.AXES, points)}, tmp_path / "cost.svg")
    assert "side squared" in (tmp_path / "cost.svg").read_text()
    intercept, slope = cost.line([1, 2, 8], [0.11, 0.12, 0.18])
    assert (intercept, slope) == pytest.approx((0.1, 0.01))
    assert cost.reading(300)["first_batch_seconds"] > 0


@pytest.mark.slow
def test_scaling_counts_the_bytes_that_are_worked_out(tmp_path):
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    page.write_text("before\n<!-- measured -->\nold\n<!-- end -->\nthen\n<!-- predicted -->\n<!-- end -->\nafter\n")
    printed = ran("scaling.py", "--arch", "small", "--batch", 6, "--steps", 1, "--rounds", 1, "--only", "2-data-a",
                  "--json", figures, "--page", page)
    alone, two = json.loads(figures.read_text())["rows"]
    assert (alone["processes"], alone["counted"], two["processes"]) == (1, 0, 2)
    assert two["counted"] == pytest.approx(two["worked_out"])
    assert two["counted"] > 4 * 750_000
    assert page.read_text().startswith(f"before\n<!-- measured -->\n{printed}<!-- end -->\nthen\n")
    assert page.read_text().count("| hybrid |") == 3  # 8, 64 and 1,024 devices


@pytest.mark.slow
def test_a_slow_disk_is_waited_for_in_the_loop_and_not_beside_it(tmp_path):
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    page.write_text("before\n<!-- saving -->\nold\n<!-- end -->\nafter\n")
    printed = ran("saving.py", "--arch", "small", "--batch", 4, "--steps", 6, "--rounds", 1, "--slow", 1,
                  "--json", figures, "--page", page)
    held = {row["way"]: row["held"]["median"] for row in json.loads(figures.read_text())["rows"]}
    assert held["no save"] == 0
    assert held["in the loop, slow disk"] > 4 > held["beside the steps, slow disk"] > 0
    assert page.read_text() == f"before\n<!-- saving -->\n{printed}<!-- end -->\nafter\n"
