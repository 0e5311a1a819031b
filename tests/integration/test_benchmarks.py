"""Every benchmark runs to its end, and prints what it measured. No test judges a speed."""

from __future__ import annotations

import ast
import importlib
import json
import re
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


def test_every_name_that_the_benchmarks_import_exists():
    """Most of them are imported where they are needed, in scripts that take minutes."""
    for script in BENCHMARKS.rglob("*.py"):
        for node in ast.walk(ast.parse(script.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("alexnet"):
                module = importlib.import_module(node.module)
                for name in (alias.name for alias in node.names if not hasattr(module, alias.name)):
                    importlib.import_module(f"{node.module}.{name}")


def test_bench_measures_a_row_and_writes_json_and_page(tmp_path):
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    page.write_text("before\n<!-- table -->\nold\n<!-- end -->\nafter\n")
    printed = ran("bench.py", "--only", "packing", "--rounds", 2, "--count", 24, "--json", figures, "--page", page)
    (results,) = json.loads(figures.read_text())
    (row,) = results["rows"]
    (peer,) = row["peers"]
    assert row["rounds"] == 2
    assert peer["ratio"]["low"] <= peer["ratio"]["median"] <= peer["ratio"]["high"]
    assert peer["ratio"]["low"] <= row["ours"]["high"] / peer["rate"]["low"]
    assert f"{peer['ratio']['median']:.2f} (" in printed
    written = rf"before\n<!-- table -->\n### .*\n\n{re.escape(printed)}<!-- end -->\nafter\n"
    assert re.fullmatch(written, page.read_text())


def test_bench_with_an_unknown_row_lists_the_rows():
    done = subprocess.run([sys.executable, BENCHMARKS / "bench.py", "--only", "nonsense"], capture_output=True,
                          text=True)
    assert done.returncode == 2
    assert "--only nonsense matches no row; the rows are step-paper, " in done.stderr


def test_a_step_takes_the_operations_that_its_layers_take(bench):
    """torchvision's, by hand: forward and gradient of the weights of all layers, of the inputs of all but conv1."""
    convs = (64 * 363 * 55**2, 192 * 1600 * 27**2, 384 * 1728 * 13**2, 256 * 3456 * 13**2, 256 * 2304 * 13**2)
    dense = 9216 * 4096 + 4096 * 4096 + 4096 * 1000
    assert bench.step_mflop("torchvision") == pytest.approx(2e-6 * (3 * (sum(convs) + dense) - convs[0]))


def test_a_row_that_is_slower_than_a_peer_says_so(bench):
    spread = {"median": 0.87, "low": 0.8, "high": 0.9}
    figures = {"title": "a row", "ours": spread, "peers": [{"name": "a peer", "rate": spread, "ratio": spread}]}
    assert bench.line(figures)[0][4:] == ["**slower**: 0.87 (0.80 to 0.90)", ""]


@pytest.mark.parametrize(("ratio", "memory", "goal", "memory_goal"), [
    (8.0, 600, "8: met", "0.60 of it; goal at most 0.6: met."),
    (7.9, 610, "8: **missed**", "0.61 of it; goal at most 0.6: **missed**.")])
def test_a_goal_is_that_of_its_peer_and_memory_is_compared_with_the_tuned_one(bench, ratio, memory, goal, memory_goal):
    spread = {"median": 17.13, "low": 1, "high": 20_000}
    peers = [{"name": name, "rate": spread, "peak_bytes": 1e6 * peak, "ratio": {"median": times, "low": 1, "high": 9}}
             for name, times, peak in (("eager fp32, `F.local_response_norm`", 11, 2000), ("tuned", ratio, 1000))]
    row = {"title": "training step, `paper`, batch 128", "ours": spread, "peers": peers, "rounds": 5,
           "ours_peak_bytes": 1e6 * memory}
    assert [cells[5] for cells in bench.line(row)] == ["10: met", goal]
    page = bench.table({"rows": [row], "machine": {"cores": 2}, "images": "9 random"})
    assert f"{memory} MB against 1,000 MB of the tuned peer, {memory_goal}" in page
    assert [bench.shown(rate) for rate in (0.5, 17.13, 99.9, 21_620.4)] == ["0.5", "17.1", "99.9", "21,620"]


def test_every_row_names_implementations_that_exist(bench):
    from worker import IMPLEMENTATIONS

    used = {name for row in bench.ROWS for name in (*(peer.implementation for peer in row.peers), row.ours, row.limit)}
    assert used == IMPLEMENTATIONS.keys()


def test_rows_of_a_processor_are_replaced_and_those_of_others_stay(bench):
    def measured(kernels, **rates):
        machine = {"processor": "P", "cores": 2, "kernels": kernels}
        return {"machine": machine, "rows": [{"title": bench_row.title, "ours": rates[bench_row.name.replace("-", "_")]}
                                             for bench_row in bench.ROWS if bench_row.name.replace("-", "_") in rates]}

    known = bench.merged([measured("avx512", norm=1, packing=2)], measured("avx2", packing=3, norm=4))
    known = bench.merged(known, measured("avx2", packing=5, predict_1=6))
    assert [(one["machine"]["kernels"], [row["ours"] for row in one["rows"]]) for one in known] == [
        ("avx512", [1, 2]), ("avx2", [4, 5, 6])]


def test_docs_performance_md_has_the_table_of_docs_performance_json(bench):
    docs = BENCHMARKS.parent / "docs"
    tables = bench.tables(json.loads((docs / "performance.json").read_text()))
    assert f"<!-- table -->\n{tables}\n<!-- end -->" in (docs / "performance.md").read_text()


@pytest.mark.parametrize("name", ["paper", "cifar", "small", "medium"])
def test_network_of_plain_torch_layers_computes_what_the_preset_does(bench, name):
    import torch
    from implementations.training_step import plain_network

    from alexnet.architecture.network_presets import arch
    from alexnet.models.alexnet import AlexNet

    ours, theirs = AlexNet(arch(name)).eval(), plain_network(name).eval()
    with torch.no_grad():
        for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert mine.shape == yours.shape
            yours.copy_(mine)
        crop = ours.arch.input.crop
        pixels = torch.randn(2, 3, crop, crop)
        difference = (ours(pixels) - theirs(pixels)).abs().max() / ours(pixels).abs().max()
    # In `paper` alpha is divided by nothing, as printed; torch divides it by n, and the peer uses 2012's alpha.
    assert difference < (0.05 if name == "paper" else 1e-4)


@pytest.mark.slow
def test_gpu_benchmark_runs_every_phase_on_a_cpu(tmp_path):
    """In tiny shapes. Each row is in the file, whatever happens after it."""
    printed = ran("gpu.py", "--dry", "--out", tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    phases = ["ceilings", "correctness", "steps", "layers", "kernels", "fused", "loader", "trainer", "compiled"]
    assert [row["phase"] for row in rows if row["name"] == "phase"] == phases
    assert all(row["ended"] == "done" for row in rows if row["name"] == "phase"), printed
    assert all(row["holds"] is not False for row in rows if "holds" in row), printed
    names = {(row["phase"], row["name"]) for row in rows}
    assert names >= {("steps", "paper, eager"), ("steps", "torchvision, eager"), ("layers", "norm1"),
                     ("kernels", "update by a launch for each tensor, and autocast's casts, graphed"),
                     ("kernels", "update by one launch that writes the copies in bf16, graphed"),
                     ("kernels", "random resized crops"), ("kernels", "random resized crops in torch"),
                     ("correctness", "update of all weights"),
                     ("fused", "after conv1, one pass each"), ("fused", "after conv5, one kernel"),
                     ("correctness", "after conv2: gradient of the bias in torch.bfloat16"),
                     ("loader", "loader"), ("loader", "loader and views"), ("trainer", "paper, Trainer.fit"),
                     ("correctness", "a step in which nothing may wait for the device"),
                     ("compiled", "paper, compiled")}
    kernels = next(row["kernels"] for row in rows if row["name"] == "paper, eager, kernels")
    assert 0 < len(kernels) <= 25
    assert sum(kernel["share"] for kernel in kernels) <= 1.0001
    assert (tmp_path / "log.txt").read_text()


@pytest.mark.slow
def test_a_phase_of_the_gpu_benchmark_that_hangs_costs_its_own_rows_only(tmp_path):
    ran("gpu.py", "--dry", "--out", tmp_path, "--only", "ceilings,layers", "--deadline", "0.1")
    machine, *ends = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert machine["phase"] == "machine"
    assert [(row["phase"], row["ended"]) for row in ends] == [
        ("ceilings", "ended at its deadline of 0.1 s"), ("layers", "ended at its deadline of 0.1 s")]


def test_the_deadlines_of_the_gpu_benchmark_fit_into_ten_minutes(bench):
    import gpu

    assert list(gpu.DEADLINES) == list(gpu.PHASES)
    assert sum(gpu.DEADLINES.values()) <= 600


def test_cost_is_measured_and_plotted(tmp_path, bench):
    import cost

    points = [{"value": value, "seconds": 0.1 + 0.01 * value, "peak_bytes": 1e9 + 1e6 * value} for value in (1, 2, 8)]
    cost.draw({"axes": dict.fromkeys(cost.AXES, points)}, tmp_path / "cost.svg")
    assert "side squared" in (tmp_path / "cost.svg").read_text()
    intercept, slope = cost.line([1, 2, 8], [0.11, 0.12, 0.18])
    assert (intercept, slope) == pytest.approx((0.1, 0.01))
    assert cost.epoch_of_views(300)["first_batch_seconds"] > 0


@pytest.mark.slow
def test_reports_and_neighbors_are_timed_with_and_without_features_in_the_cache():
    lines = ran("report_time.py", "--rounds", 1, "--images", 40, "--arch", "small").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `alexnet")]
    assert [row[0] for row in rows] == [f"`alexnet {name} {text}`" for name in ("report", "neighbors")
                                        for text in ("at first", "again")]
    assert all(float(cell.split()[0]) > 0.5 for row in rows for cell in row[2:])  # torch is imported
    assert lines[-1].startswith("40 images, `small`; ")


@pytest.mark.slow
def test_scaling_counts_as_many_bytes_as_the_model_predicts(tmp_path):
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    page.write_text("before\n<!-- measured -->\nold\n<!-- end -->\nthen\n<!-- predicted -->\n<!-- end -->\nafter\n")
    printed = ran("scaling.py", "--arch", "small", "--batch", 6, "--steps", 1, "--rounds", 1, "--only", "2-data",
                  "--json", figures, "--page", page)
    alone, two = json.loads(figures.read_text())["rows"]
    assert (alone["processes"], alone["counted"], two["processes"]) == (1, 0, 2)
    assert two["counted"] == pytest.approx(two["predicted"])
    assert two["counted"] > 4 * 750_000
    assert page.read_text().startswith(f"before\n<!-- measured -->\n{printed}<!-- end -->\nthen\n")
    assert page.read_text().count("| hybrid |") == 3  # 8, 64 and 1,024 devices


@pytest.mark.slow
def test_saving_to_a_slow_disk_blocks_training_only_without_a_thread(tmp_path):
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    page.write_text("before\n<!-- saving -->\nold\n<!-- end -->\nafter\n")
    printed = ran("saving.py", "--arch", "small", "--batch", 4, "--steps", 6, "--rounds", 1, "--slow", 1,
                  "--json", figures, "--page", page)
    blocked = {row["method"]: row["blocked"]["median"] for row in json.loads(figures.read_text())["rows"]}
    assert blocked["no save"] == 0
    assert blocked["blocking, slow disk"] > 4 > blocked["in a thread, slow disk"] > 0
    assert page.read_text() == f"before\n<!-- saving -->\n{printed}<!-- end -->\nafter\n"


@pytest.mark.slow
def test_convolutions_are_measured_one_by_one():
    printed = ran("convolutions.py", "--arch", "cifar", "--rounds", 1).splitlines()
    assert [line.split(":")[0] for line in printed] == ["limit", "conv1", "conv2", "conv3", "all convolutions"]
    assert "inputs" not in printed[1]
    assert all(word in printed[2] for word in ("forward", "inputs", "weights"))
