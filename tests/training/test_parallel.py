"""Several processes give what one gives: equal steps, each image once, one sentence about what is wrong."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from scaling_model import Machine, sent, step

from alexnet.architecture.overrides import override, to_json
from alexnet.architecture.presets import arch
from alexnet.architecture.recipe import Recipe
from alexnet.data.loader import batches
from alexnet.models import checkpoint
from alexnet.reproduce.claims import PAPER_SMALL
from alexnet.training.build import build
from alexnet.training.parallel.plan import chunks
from alexnet.training.parallel.process_group import PeerLostError, ProcessGroup, _meet
from alexnet.training.parallel.strategies import check
from alexnet.training.spec import RunSpec
from worlds import precise_batch_norm

HERE = Path(__file__).parents[1]

RECIPE = Recipe("few", epochs=1, batch_size=30, learning_rate=0.02, schedule="linear", view_group=4)
NETWORKS = {
    "norm": replace(PAPER_SMALL, name="norm", classes=4),
    "batch": override(PAPER_SMALL, ["norm=batch", "dense_norm=true", "classes=4"]),
    "before": override(PAPER_SMALL, ["dropout_before=true", "towers=1", "classes=4"]),
}
"""Response normalization, batch normalization everywhere, and dropout where torchvision's has it."""

SHARED = {
    2: [("norm", "data", "a"), ("batch", "data", "a"), ("norm", "towers", "a"), ("batch", "towers", "a"),
        ("norm", "hybrid", "a"), ("batch", "hybrid", "a"), ("before", "hybrid", "a")],
    3: [("norm", "data", "a"), ("batch", "data", "a"), ("norm", "hybrid", "b"), ("before", "hybrid", "c")],
    4: [("norm", "data", "a"), ("batch", "hybrid", "a"), ("norm", "hybrid", "c")],
}
EVERY_WAY = [pytest.param(*way, size, marks=pytest.mark.slow if size > 2 else ()) for size, ways in SHARED.items()
             for way in ways]


def launch(deed, folder, jobs, size, **environment):
    """Start `size` processes of worlds.py and wait; returns what each wrote to its standard error."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size),
                           "OMP_NUM_THREADS": "1"} | environment
    processes = [subprocess.Popen(
        [sys.executable, HERE / "worlds.py", deed, folder], env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        stderr=subprocess.PIPE, text=True) for rank in range(size)]
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * size, "\n".join(said)
    return said


def job(packed, out, network, parallel="data", scheme="a", recipe=RECIPE, seed=3, **more):
    return {"packed": str(packed.path), "out": out, "arch": to_json(NETWORKS[network]), "recipe": to_json(recipe),
            "seed": seed, "parallel": parallel, "scheme": scheme} | more


def name(network, parallel, scheme, size):
    return f"{network}-{parallel}-{scheme}-{size}"


@pytest.fixture(scope="module", autouse=True)
def precise():
    with precise_batch_norm():
        yield


@pytest.fixture(scope="module")
def runs(packed, one_thread, tmp_path_factory):
    """A function of the world size: the folder with the runs of one process, and the shared runs of so many."""
    folder = tmp_path_factory.mktemp("worlds")
    for network, made in NETWORKS.items():
        build(RunSpec(packed, made, RECIPE, folder / network, seed=3)).fit()

    @cache
    def runs_of(size):
        launch("train", folder, [job(packed, name(*way, size), *way) for way in SHARED[size]], size)
        return folder
    return runs_of


def without_gradient(arch):
    """The biases that batch normalization subtracts again: their gradient is nothing but rounding."""
    convs = [f"features.conv{number}.bias" for number, _ in enumerate(arch.conv, 1)]
    hidden = [f"classifier.fc{number}.bias" for number, _ in enumerate(arch.dense, len(convs) + 1)]
    return {*(convs if arch.norm == "batch" else ()), *(hidden if arch.dense_norm else ())}


def assert_close(got, expected, share):
    for kind in ("weights", "velocity"):
        for key, tensor in getattr(expected, kind).items():
            if key in without_gradient(expected.arch):
                continue
            torch.testing.assert_close(getattr(got, kind)[key], tensor, rtol=1e-3,
                                       atol=share * max(0.05, float(tensor.abs().max())),
                                       msg=lambda why, key=key: f"{key}: {why}")


@pytest.mark.parametrize(("network", "parallel", "scheme", "size"), EVERY_WAY)
def test_an_epoch_of_several_processes_is_that_of_one_to_rounding(runs, network, parallel, scheme, size):
    folder = runs(size)
    one = checkpoint.load(folder / network / "last", with_velocity=True)
    several = checkpoint.load(folder / name(network, parallel, scheme, size) / "last", with_velocity=True)
    assert several.weights.keys() == one.weights.keys()
    assert_close(several, one, 1e-3 if network == "batch" else 1e-4)
    assert several.errors["loss"] == pytest.approx(one.errors["loss"], rel=1e-5)
    assert several.errors["photographs"] == one.errors["photographs"]
    assert several.errors["top1_error"] == one.errors["top1_error"]
    alike = {key: value for key, value in one.training.items() if key not in ("best_error", "plateau")}
    assert {key: several.training[key] for key in alike} == alike


@pytest.mark.parametrize(("network", "parallel", "scheme", "size"), EVERY_WAY)
def test_the_bytes_that_a_process_sends_are_those_worked_out(packed, runs, network, parallel, scheme, size):
    steps = [len(batch.indices) for batch in batches(packed.split("train"), RECIPE.batch_size)]
    for rank in range(size):
        counted = json.loads((runs(size) / f"{name(network, parallel, scheme, size)}.sent-{rank}.json").read_text())
        expected = Counter()
        for images in steps:
            expected.update(sent(NETWORKS[network], images, size, parallel, rank=rank))
        assert counted == pytest.approx({what: count for what, count in expected.items() if count}, rel=1e-9)


def test_one_weird_trick_sends_a_tenth_of_what_data_parallel_sends():
    """Of two processes at a batch of 128; all of data-parallel's 244 MB are the parameters."""
    data, hybrid, towers = (sum(sent(arch("paper"), 128, 2, way).values()) for way in ("data", "hybrid", "towers"))
    assert data == 4 * 60_965_224
    assert hybrid < data / 10
    assert towers < data / 7


@pytest.mark.parametrize(("world", "size"), list(product((1, 2, 3, 4, 7), (30, 128))))
def test_each_image_is_seen_once_an_epoch_at_any_world_size(packed, world, size):
    split = packed.split("train")
    seen = Counter(int(place) for rank in range(world)
                   for batch in batches(split, size, shuffle=(3, 1), rank=rank, world=world) for place in batch.indices)
    assert seen == Counter(range(len(split)))


def test_a_share_knows_its_place_in_the_global_batch(packed):
    split = packed.split("train")
    (whole, *_), (share, *_) = batches(split, 30, shuffle=(3, 1)), batches(split, 30, shuffle=(3, 1), rank=1, world=3)
    np.testing.assert_array_equal(whole.indices, share.global_indices)
    np.testing.assert_array_equal(share.global_indices[share.positions], share.indices)
    np.testing.assert_array_equal(share.group_leaders(4), whole.group_leaders(4)[share.positions])


@pytest.mark.slow
def test_a_run_goes_on_in_a_world_of_another_size(packed, one_thread, tmp_path):
    """1 -> 2 -> 4 -> 1, an epoch in each, is one process's four epochs.

    The network has no batch normalization, which amplifies rounding over four epochs. That its statistics survive a
    change of world size is tested bit for bit by test_loading_in_another_world_changes_no_bit.
    """
    recipe = replace(RECIPE, epochs=4, schedule="constant", learning_rate=0.004)
    build(RunSpec(packed, NETWORKS["norm"], recipe, tmp_path / "straight", seed=3)).fit()
    for epochs, (size, parallel) in enumerate([(1, "data"), (2, "hybrid"), (4, "data"), (1, "data")], 1):
        part = replace(recipe, epochs=epochs)
        if size == 1:
            build(RunSpec(packed, NETWORKS["norm"], part, tmp_path / "run", seed=3, resume=True)).fit()
        else:
            launch("train", tmp_path, [job(packed, "run", "norm", parallel, recipe=part, resume=True)], size)
    straight, changed = (checkpoint.load(tmp_path / run / "last", with_velocity=True) for run in ("straight", "run"))
    assert changed.training["step"] == straight.training["step"]
    assert_close(changed, straight, 1e-4)


@pytest.mark.parametrize(("network", "parallel"), [
    ("batch", "hybrid"),
    *(pytest.param("norm", parallel, marks=pytest.mark.slow) for parallel in ("data", "towers", "hybrid"))])
def test_loading_in_another_world_changes_no_bit(packed, one_thread, tmp_path, network, parallel):
    """A finished run that two processes take up to no more epochs is saved by nobody; what they hold is what it was."""
    build(RunSpec(packed, NETWORKS[network], RECIPE, tmp_path / "run", seed=3)).fit()
    launch("hold", tmp_path, [job(packed, "run", network, parallel, resume=True)], 2)
    before, held = checkpoint.load(tmp_path / "run" / "last", with_velocity=True), checkpoint.load(
        tmp_path / "held", with_velocity=True)
    for kind in ("weights", "velocity"):
        for key, tensor in getattr(before, kind).items():
            assert torch.equal(getattr(held, kind)[key], tensor), key
    assert held.training == before.training


def test_parts_of_a_batch_add_up_to_it_under_lars_in_one_process_and_in_two(packed, one_thread, tmp_path):
    lars = replace(RECIPE, lars_trust=0.01, learning_rate=1.0)
    build(RunSpec(packed, NETWORKS["norm"], lars, tmp_path / "whole", seed=3)).fit()
    build(RunSpec(packed, NETWORKS["norm"], lars, tmp_path / "parts", seed=3, micro_batch=7)).fit()
    ways = {"data": 4, "towers": 9, "hybrid": 5}
    launch("train", tmp_path, [job(packed, way, "norm", way, "b" if way == "hybrid" else "a", recipe=lars,
                                   micro_batch=most) for way, most in ways.items()], 2)
    whole = checkpoint.load(tmp_path / "whole" / "last", with_velocity=True)
    for run in ("parts", *ways):
        assert_close(checkpoint.load(tmp_path / run / "last", with_velocity=True), whole, 1e-4)


def test_the_time_of_a_step_is_arithmetic_over_rates():
    machine = Machine("a round one", multiply_adds=1e12, bandwidth=1e9, latency=0.0)
    one, two = (step(arch("paper"), 128, processes, "data", machine) for processes in (1, 2))
    assert one.sending == 0
    assert one.computing == pytest.approx(128 * (3 * 724_406_816 - 105_415_200) / 1e12)
    assert two.computing == one.computing / 2
    assert two.sending == pytest.approx(4 * 60_965_224 / 1e9)
    assert two.sequential == two.computing + two.sending > two.overlapped == max(two.computing, two.sending)


# --- What is wrong is said once ---

def test_processes_that_disagree_all_stop_and_the_first_says_why(packed, tmp_path):
    base = job(packed, "run", "norm")
    cases = {
        "recipe than process 0 (rate: 0.1 there, 0.02 here)":
            base | {"recipe": to_json(replace(RECIPE, learning_rate=0.1))},
        "seed than process 0 (4 there, 3 here)": base | {"seed": 4},
        "network than process 0 (norm: 'batch' there, 'lrn' here)":
            base | {"arch": to_json(replace(NETWORKS["norm"], norm="batch"))},
        "way to share it": base | {"parallel": "hybrid"},
    }
    launch("disagree", tmp_path, [{"others": base, "last": other} for other in cases.values()], 2)
    for number, what in enumerate(cases):
        first, last = ((tmp_path / f"{number}.said-{rank}").read_text() for rank in (0, 1))
        assert "process 1 of 2 was started with another" in first
        assert what in first
        assert last == "SilentExit 2"
        assert not (tmp_path / f"{number}").exists()


def test_what_one_process_alone_lacks_is_said_by_the_first(packed, tmp_path):
    base = job(packed, "run", "norm")
    launch("disagree", tmp_path, [{"others": base, "last": base | {"packed": str(tmp_path / "absent")}}], 2)
    first, last = ((tmp_path / f"0.said-{rank}").read_text() for rank in (0, 1))
    assert "absent" in first
    assert first.endswith("(in process 1 of 2)")
    assert last == "SilentExit 2"


@pytest.mark.parametrize(("network", "settings", "size", "parallel", "words"), [
    ("paper", [], 3, "towers", "gives each process a tower, and paper has 2 while there are 3"),
    ("torchvision", [], 2, "towers", "wants a network of towers, and torchvision has one"),
    ("paper", ["lrn.within_tower=false"], 2, "towers", "normalizes across its towers"),
    ("paper-bn", [], 2, "hybrid", "wants the whole batch at once"),
])
def test_a_world_that_a_scheme_cannot_use_is_refused_with_the_remedy(network, settings, size, parallel, words):
    with pytest.raises(ValueError, match=words) as refusal:
        check(override(arch(network), settings), size, parallel, "b" if parallel == "hybrid" else "a")
    assert any(remedy in str(refusal.value) for remedy in ("start", "take", "--set"))


def test_more_processes_than_a_batch_has_images_are_refused(packed, tmp_path):
    base = job(packed, "run", "norm", recipe=replace(RECIPE, batch_size=2))
    launch("disagree", tmp_path, [{"others": base, "last": base}], 3)
    assert "leave some of 3 processes without any" in (tmp_path / "0.said-0").read_text()


@pytest.mark.parametrize(("whole", "size"), list(product((1, 4, 10, 1000, 4096), (1, 2, 3, 4, 8))))
def test_units_are_cut_as_dtensor_cuts_them(whole, size):
    parts = [len(part) for part in torch.arange(whole).chunk(size)]
    assert chunks(whole, size) == parts + [0] * (size - len(parts))


def two_worlds():
    """Two processes' worlds, which share a store, as far as one process can have them."""
    store = torch.distributed.HashStore()
    return [ProcessGroup(rank, 2, store=store) for rank in (0, 1)]


def test_a_process_that_falls_silent_while_a_run_begins_is_missed(monkeypatch):
    monkeypatch.setattr("alexnet.training.parallel.process_group.SILENCE", 0.5)
    monkeypatch.setattr("alexnet.training.parallel.process_group.BEAT", 0.05)
    first, second = two_worlds()
    with first.live():
        with second.live():
            time.sleep(0.1)
        with pytest.raises(PeerLostError, match="process 1 of 2 has given no sign of life"):
            first.all_gather_text("")


def test_a_process_that_is_long_at_work_is_waited_for(monkeypatch):
    monkeypatch.setattr("alexnet.training.parallel.process_group.SILENCE", 0.5)
    monkeypatch.setattr("alexnet.training.parallel.process_group.BEAT", 0.05)
    first, second = two_worlds()
    with first.live(), second.live(), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(first.all_gather_text, "one")
        time.sleep(1.5)  # packing, say
        assert second.all_gather_text("two") == waiting.result() == ["one", "two"]


@pytest.mark.parametrize("options", [{"parallel": "towers"}, {"parallel": "hybrid"}, {"scheme": "b"}])
def test_a_way_to_share_is_refused_where_there_is_nobody_to_share_with(packed, tmp_path, options):
    with pytest.raises(ValueError, match="leave it out"):
        build(RunSpec(packed, NETWORKS["norm"], RECIPE, tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


# --- torchrun, signals and loss ---

def test_whoever_waits_has_said_that_he_lives_and_waits_for_no_sign_that_is_not_there(monkeypatch):
    """Such a wait holds the store, and the thread that says so waits for it: two that began at once stood still."""
    class Store:
        def __init__(self):
            self.said = {}

        def check(self, names):
            return all(name in self.said for name in names)

        def set(self, name, text):
            self.said[name] = text

        def get(self, name):
            assert name in self.said, "would wait"
            return self.said[name].encode()

    world = ProcessGroup(0, 2, store=Store())
    monkeypatch.setattr("alexnet.training.parallel.process_group.SILENCE", 0.2)
    monkeypatch.setattr("alexnet.training.parallel.process_group.BEAT", 100.0)
    monkeypatch.setattr(threading.Thread, "start", lambda thread: None)  # as long as it has no turn
    monkeypatch.setattr(threading.Thread, "join", lambda thread: None)
    with world.live():
        assert world.store.get("life/0") == b"0"
        with pytest.raises(PeerLostError, match="process 1 of 2 has given no sign of life"):
            world.all_gather_text("")


@pytest.mark.parametrize("early", [False, True])
def test_processes_meet_by_one_count_whatever_former_ones_left_in_their_store(early):
    """The second time two of the three are lost while they meet; `early`: the others look before rank 0 has come."""
    store = dist.HashStore()
    with ThreadPoolExecutor(3) as pool:
        def start(rank):
            return pool.submit(_meet, store, rank, 3)

        assert [one.result(timeout=10) for one in [start(rank) for rank in (2, 1, 0)]] == [1, 1, 1]
        store.set("start", str(store.add("starts", 1)))  # rank 0 and 1 came, and were killed before rank 2 did
        store.set("2/1", "what rank 1 had said")
        others = [start(rank) for rank in (1, 2)]
        if early:
            time.sleep(0.2)
            assert not any(one.done() for one in others)
        assert [one.result(timeout=10) for one in [start(0), *others]] == [3, 3, 3]


def torchrun(packed, out, *options, epochs=40, size=2, restarts=0):
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size), "--max-restarts", str(restarts),
         "--shutdown-timeout", "5", "--standalone", "-m", "alexnet", "train", packed.path, "--arch", "small", "--set",
         "arch.input.side=32", "--set", "arch.input.crop=28", "--set", "recipe.batch_size=30", "--epochs", str(epochs),
         "--device", "cpu", "--precision", "fp32", "--out", out, *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)


def wait_for_epochs(run, number, process):
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        log = run / "log.jsonl"
        if log.exists() and log.read_text().count('"event": "epoch"') >= number:
            return
        time.sleep(0.05)
    raise AssertionError(f"no {number} epochs: {process.poll()}")


def workers(process):
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    return [int(line) for line in found.stdout.split()]


@pytest.mark.slow
def test_a_signal_to_torchrun_saves_once_and_ends(packed, tmp_path):
    process = torchrun(packed, tmp_path / "run")
    wait_for_epochs(tmp_path / "run", 2, process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[1]
    assert said.count("is saved: go on with --resume") == 1
    assert checkpoint.load(tmp_path / "run" / "last").training["epoch"] >= 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_is_lost_costs_at_most_a_minute_and_an_epoch(packed, tmp_path, number):
    """A checkpoint is written after every epoch; what was trained since the last is trained again."""
    process = torchrun(packed, tmp_path / "run", "--timeout", "10", epochs=12, restarts=1)
    wait_for_epochs(tmp_path / "run", 2, process)
    os.kill(workers(process)[-1], number)
    lost = time.monotonic()
    wait_for_epochs(tmp_path / "run", 4, process)  # the third may have been trained before
    assert time.monotonic() - lost < 90
    said = process.communicate(timeout=180)[1]
    assert process.returncode == 0, said
    assert "resuming after" in said
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [event["epoch"] for event in log if event["event"] == "epoch"] == list(range(1, 13))
