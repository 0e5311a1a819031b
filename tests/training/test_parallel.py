"""Several processes give what one gives: equal steps, each image once, one sentence about what is wrong."""

import json
import os
import shutil
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

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override, to_json
from alexnet.architecture.recipe import Recipe
from alexnet.data.loader import batches
from alexnet.models import checkpoint
from alexnet.reproduce.claim_networks import PAPER_SMALL
from alexnet.training.build import build
from alexnet.training.parallel.liveness import PeerLostError, signs_of_life
from alexnet.training.parallel.process_group import ProcessGroup
from alexnet.training.parallel.rendezvous import meet
from alexnet.training.spec import RunSpec
from worlds import precise_batch_norm

HERE = Path(__file__).parents[1]

RECIPE = Recipe("few", epochs=1, batch_size=30, learning_rate=0.02, schedule="linear", view_group=4)
NETWORKS = {
    "norm": replace(PAPER_SMALL, name="norm", classes=4),
    "batch": override(PAPER_SMALL, ["norm=batch", "dense_norm=true", "classes=4"]),
    "before": override(PAPER_SMALL, ["dropout_on_inputs=true", "towers=1", "classes=4"]),
}
"""Response normalization, batch normalization everywhere, and dropout where torchvision's has it."""

SHARED = {
    2: [("norm", "data"), ("batch", "data"), ("norm", "towers"), ("batch", "towers"), ("norm", "hybrid"),
        ("batch", "hybrid"), ("before", "hybrid")],
    3: [("norm", "data"), ("batch", "data"), ("norm", "hybrid"), ("before", "hybrid")],
    4: [("norm", "data"), ("batch", "hybrid")],
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


def job(packed, out, network, parallel="data", recipe=RECIPE, seed=3, **more):
    return {"packed": str(packed.path), "out": out, "arch": to_json(NETWORKS[network]), "recipe": to_json(recipe),
            "seed": seed, "parallel": parallel} | more


def name(network, parallel, size):
    return f"{network}-{parallel}-{size}"


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


@pytest.mark.parametrize(("network", "parallel", "size"), EVERY_WAY)
def test_an_epoch_of_several_processes_is_that_of_one_to_rounding(runs, network, parallel, size):
    folder = runs(size)
    one = checkpoint.load(folder / network / "last", with_velocity=True)
    several = checkpoint.load(folder / name(network, parallel, size) / "last", with_velocity=True)
    assert several.weights.keys() == one.weights.keys()
    assert_close(several, one, 1e-3 if network == "batch" else 1e-4)
    assert several.errors["loss"] == pytest.approx(one.errors["loss"], rel=1e-5)
    assert several.errors["images"] == one.errors["images"]
    assert several.errors["top1_error"] == one.errors["top1_error"]
    assert several.training["recent_losses"] == pytest.approx(one.training["recent_losses"], rel=1e-4)
    alike = {key: value for key, value in one.training.items()
             if key not in ("best_error", "best_loss", "plateau", "recent_losses")}
    assert {key: several.training[key] for key in alike} == alike


@pytest.mark.slow
def test_clipping_averaging_and_class_weights_are_those_of_one_process(packed, one_thread, tmp_path):
    """The clipped norm is over the layers of all processes, and the average and the saved weights are whole."""
    recipe = replace(RECIPE, clip_norm=0.5, ema_decay=0.9, class_weights=(1.0, 2.0, 3.0, 4.0))
    ways = [("norm", "data"), ("norm", "towers"), ("norm", "hybrid")]
    build(RunSpec(packed, NETWORKS["norm"], recipe, tmp_path / "norm", seed=3)).fit()
    launch("train", tmp_path, [job(packed, name(*way, 2), *way, recipe=recipe) for way in ways], 2)
    one = checkpoint.load(tmp_path / "norm" / "last", with_velocity=True)
    for way in ways:
        several = checkpoint.load(tmp_path / name(*way, 2) / "last", with_velocity=True)
        assert several.raw_weights.keys() == one.raw_weights.keys() == one.weights.keys()
        assert_close(several, one, 1e-4)
        for key, tensor in one.raw_weights.items():
            torch.testing.assert_close(several.raw_weights[key], tensor, rtol=1e-3, atol=1e-5)
        assert several.errors["loss"] == pytest.approx(one.errors["loss"], rel=1e-5)


@pytest.mark.slow
def test_augmentations_are_those_of_one_process(packed, one_thread, tmp_path):
    """Mixup and CutMix need whole batches, which the processes of two towers read."""
    alone = replace(RECIPE, trivial_augment=True, erase_probability=0.5)
    for parallel, recipe in (("data", alone), ("towers", replace(alone, mixup_alpha=0.2, cutmix_alpha=1.0))):
        build(RunSpec(packed, NETWORKS["norm"], recipe, tmp_path / parallel / "one", seed=3)).fit()
        launch("train", tmp_path / parallel, [job(packed, "two", "norm", parallel, recipe=recipe)], 2)
        one, two = (checkpoint.load(tmp_path / parallel / run / "last", with_velocity=True) for run in ("one", "two"))
        assert_close(two, one, 1e-4)
        assert two.errors["loss"] == pytest.approx(one.errors["loss"], rel=1e-5)


@pytest.mark.parametrize(("network", "parallel", "size"), EVERY_WAY)
def test_the_bytes_that_a_process_sends_are_as_computed(packed, runs, network, parallel, size):
    steps = [len(batch.indices) for batch in batches(packed.split("train"), RECIPE.batch_size)]
    for rank in range(size):
        counted = json.loads((runs(size) / f"{name(network, parallel, size)}.sent-{rank}.json").read_text())
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


def test_a_process_knows_the_positions_of_its_images_in_the_global_batch(packed):
    split = packed.split("train")
    (whole, *_), (share, *_) = batches(split, 30, shuffle=(3, 1)), batches(split, 30, shuffle=(3, 1), rank=1, world=3)
    np.testing.assert_array_equal(whole.indices, share.global_indices)
    np.testing.assert_array_equal(share.global_indices[share.positions], share.indices)
    np.testing.assert_array_equal(share.group_leaders(4), whole.group_leaders(4)[share.positions])


def train(packed, folder, run, network, recipe, size=1, parallel="data"):
    """Begin or resume a run in `size` processes."""
    if size == 1:
        build(RunSpec(packed, NETWORKS[network], recipe, folder / run, seed=3, resume=True)).fit()
    else:
        launch("train", folder, [job(packed, run, network, parallel, recipe=recipe, resume=True)], size)


@pytest.mark.slow
def test_a_run_resumes_with_another_number_of_processes(packed, one_thread, tmp_path):
    """1 -> 2 -> 4 -> 1, an epoch of two steps in each, is one process's four epochs.

    Without batch normalization, which amplifies rounding over epochs: the next test takes one step with it.
    """
    recipe = replace(RECIPE, epochs=4, batch_size=60, schedule="constant", learning_rate=0.004)
    train(packed, tmp_path, "straight", "norm", recipe)
    for epochs, (size, parallel) in enumerate([(1, "data"), (2, "hybrid"), (4, "data"), (1, "data")], 1):
        train(packed, tmp_path, "run", "norm", replace(recipe, epochs=epochs), size, parallel)
    straight, changed = (checkpoint.load(tmp_path / run / "last", with_velocity=True) for run in ("straight", "run"))
    assert changed.training["step"] == straight.training["step"] == 8
    assert_close(changed, straight, 1e-4)


@pytest.mark.slow
def test_batch_normalization_resumes_with_another_number_of_processes(packed, one_thread, tmp_path):
    """From one checkpoint, one step of one process, of two and of four."""
    recipe = replace(RECIPE, epochs=2, batch_size=120, schedule="constant")
    train(packed, tmp_path, "straight", "batch", replace(recipe, epochs=1))
    for run in ("two", "four"):
        shutil.copytree(tmp_path / "straight", tmp_path / run)
    train(packed, tmp_path, "straight", "batch", recipe)
    train(packed, tmp_path, "two", "batch", recipe, 2, "hybrid")
    train(packed, tmp_path, "four", "batch", recipe, 4, "data")
    straight, two, four = (checkpoint.load(tmp_path / run / "last", with_velocity=True)
                           for run in ("straight", "two", "four"))
    assert two.training["step"] == four.training["step"] == straight.training["step"] == 2
    assert_close(two, straight, 1e-3)
    assert_close(four, straight, 1e-3)


@pytest.mark.parametrize(("network", "parallel"), [
    ("batch", "hybrid"),
    *(pytest.param("norm", parallel, marks=pytest.mark.slow) for parallel in ("data", "towers", "hybrid"))])
def test_loading_in_several_processes_changes_no_bit(packed, one_thread, tmp_path, network, parallel):
    """A finished run that two processes take up to no more epochs is saved by nobody; what they hold is what it was."""
    build(RunSpec(packed, NETWORKS[network], RECIPE, tmp_path / "run", seed=3)).fit()
    launch("hold", tmp_path, [job(packed, "run", network, parallel, resume=True)], 2)
    before, held = checkpoint.load(tmp_path / "run" / "last", with_velocity=True), checkpoint.load(
        tmp_path / "held", with_velocity=True)
    for kind in ("weights", "velocity"):
        for key, tensor in getattr(before, kind).items():
            assert torch.equal(getattr(held, kind)[key], tensor), key
    assert held.training == before.training


@pytest.mark.slow
def test_micro_batches_add_up_to_the_batch_under_lars_in_one_process_and_in_two(packed, one_thread, tmp_path):
    lars = replace(RECIPE, lars_trust=0.01, learning_rate=1.0)
    build(RunSpec(packed, NETWORKS["norm"], lars, tmp_path / "whole", seed=3)).fit()
    build(RunSpec(packed, NETWORKS["norm"], lars, tmp_path / "parts", seed=3, micro_batch=7)).fit()
    ways = {"data": 4, "towers": 9, "hybrid": 5}
    launch("train", tmp_path, [job(packed, parallel, "norm", parallel, recipe=lars, micro_batch=images)
                               for parallel, images in ways.items()], 2)
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

def test_processes_started_differently_all_stop_and_rank_0_reports_the_difference(packed, tmp_path):
    base = job(packed, "run", "norm")
    cases = {
        "recipe than process 0 (learning_rate: 0.1 in process 1, 0.02 in process 0)":
            base | {"recipe": to_json(replace(RECIPE, learning_rate=0.1))},
        "seed than process 0 (4 in process 1, 3 in process 0)": base | {"seed": 4},
        "network than process 0 (norm: 'batch' in process 1, 'lrn' in process 0)":
            base | {"arch": to_json(replace(NETWORKS["norm"], norm="batch"))},
        "--parallel or --micro-batch": base | {"parallel": "hybrid"},
    }
    launch("disagree", tmp_path, [{"others": base, "last": other} for other in cases.values()], 2)
    for number, what in enumerate(cases):
        first, last = ((tmp_path / f"{number}.said-{rank}").read_text() for rank in (0, 1))
        assert "process 1 of 2 was started with another" in first
        assert what in first
        assert last == "SilentExit 2"
        assert not (tmp_path / f"{number}").exists()


def test_an_error_of_one_process_is_reported_by_rank_0(packed, tmp_path):
    base = job(packed, "run", "norm")
    launch("disagree", tmp_path, [{"others": base, "last": base | {"packed": str(tmp_path / "absent")}}], 2)
    first, last = ((tmp_path / f"0.said-{rank}").read_text() for rank in (0, 1))
    assert "absent" in first
    assert "process 1 of 2: " in first
    assert last == "SilentExit 2"


@pytest.mark.slow
def test_more_processes_than_a_batch_has_images_are_refused(packed, tmp_path):
    base = job(packed, "run", "norm", recipe=replace(RECIPE, batch_size=2))
    launch("disagree", tmp_path, [{"others": base, "last": base}], 3)
    assert "cannot be shared by 3 processes; start at most" in (tmp_path / "0.said-0").read_text()


def two_worlds():
    """Two processes' worlds, which share a store, as far as one process can have them."""
    store = torch.distributed.HashStore()
    return [ProcessGroup(rank, 2, store=store) for rank in (0, 1)]


def alive(group):
    return signs_of_life(group.store, group.rank)


def test_a_process_without_signs_of_life_counts_as_lost(monkeypatch):
    monkeypatch.setattr("alexnet.training.parallel.liveness.SILENCE", 0.5)
    monkeypatch.setattr("alexnet.training.parallel.liveness.BEAT", 0.05)
    first, second = two_worlds()
    with alive(first):
        with alive(second):
            time.sleep(0.1)
        with pytest.raises(PeerLostError, match="process 1 of 2 has not responded for"):
            first.all_gather_text("")


def test_a_process_that_works_for_long_is_waited_for(monkeypatch):
    monkeypatch.setattr("alexnet.training.parallel.liveness.SILENCE", 0.5)
    monkeypatch.setattr("alexnet.training.parallel.liveness.BEAT", 0.05)
    first, second = two_worlds()
    with alive(first), alive(second), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(first.all_gather_text, "one")
        time.sleep(1.5)  # packing, say
        assert second.all_gather_text("two") == waiting.result() == ["one", "two"]


def test_a_slow_disk_and_a_slow_evaluation_are_waited_for_beyond_the_timeout_of_a_step(packed, tmp_path):
    """Two epochs with a best and a last checkpoint each: the third save waits for the first, and the others for it."""
    packed_job = job(packed, "run", "norm", recipe=replace(RECIPE, epochs=2, batch_size=60))
    launch("slow", tmp_path, [packed_job], 2)
    assert checkpoint.load(tmp_path / "run" / "last").training["epoch"] == 2
    events = [json.loads(line)["event"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert events.index("signals") < events.index("epoch")
    assert (events[0], events[-1], events.count("epoch")) == ("start", "end", 2)


@pytest.mark.parametrize("options", [{"parallel": "towers"}, {"parallel": "hybrid"}])
def test_towers_and_hybrid_need_several_processes(packed, tmp_path, options):
    with pytest.raises(ValueError, match="leave out --parallel"):
        build(RunSpec(packed, NETWORKS["norm"], RECIPE, tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


# --- torchrun, signals and loss ---

def test_waiting_never_blocks_the_store_and_so_the_signs_of_life(monkeypatch):
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
    monkeypatch.setattr("alexnet.training.parallel.liveness.SILENCE", 0.2)
    monkeypatch.setattr("alexnet.training.parallel.liveness.BEAT", 100.0)
    monkeypatch.setattr(threading.Thread, "start", lambda thread: None)  # as long as it has no turn
    monkeypatch.setattr(threading.Thread, "join", lambda thread: None)
    with alive(world):
        assert world.store.get("life/0") == b"0"
        with pytest.raises(PeerLostError, match="process 1 of 2 has not responded for"):
            world.all_gather_text("")


@pytest.mark.parametrize("early", [False, True])
def test_processes_meet_in_one_start_whatever_keys_earlier_starts_left_in_the_store(early):
    """The second time two of the three are lost while they meet; `early`: the others look before rank 0 has come."""
    store = dist.HashStore()
    with ThreadPoolExecutor(3) as pool:
        def start(rank):
            return pool.submit(meet, store, rank, 3)

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
    assert said.count("is saved; resume with --resume") == 1
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
