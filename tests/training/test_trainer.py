"""The update rule, the schedules, and runs that end where they should, interrupted or not."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from alexnet._runtime.devices import choose_device, choose_precision
from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import recipe
from alexnet.data.order import epoch_order
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import UserError
from alexnet.inference.metrics import Errors
from alexnet.interpret.health import loss_finding
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.training.build import build
from alexnet.training.events import StepTiming
from alexnet.training.optimizer import SGD
from alexnet.training.precision import MixedPrecision
from alexnet.training.schedule import Plateau, conv1_learning_rate, learning_rate
from alexnet.training.spec import RunSpec
from alexnet.training.state import Diverged, Interrupted

QUICK = Recipe("quick", epochs=3, batch_size=16, learning_rate=0.05, schedule="linear", decay_biases=False)


# --- The update rule ---

def reference_steps(rule, w, gradients, rates, decay=0.0005, momentum=0.9):
    """§5's rule, and PyTorch's as its documentation states it, in NumPy."""
    v = np.zeros_like(w)
    for g, eps in zip(gradients, rates, strict=True):
        if rule == "paper":
            v = momentum * v - decay * eps * w - eps * g
            w = w + v
        else:
            g = g + decay * w
            v = momentum * v + g
            w = w - eps * (g + momentum * v if rule == "nesterov" else v)
    return w


@pytest.mark.parametrize("rule", ["paper", "pytorch", "nesterov"])
def test_the_update_rule_is_the_formula_across_a_drop_of_the_rate(rule):
    rng = np.random.default_rng(0)
    w, gradients = rng.normal(size=(4, 3)), rng.normal(size=(12, 4, 3))
    rates = [0.1] * 6 + [0.01] * 6
    layer = nn.Linear(3, 4, bias=False).double()
    layer.weight.data = torch.from_numpy(w.copy())
    optimizer = SGD(layer, Recipe("r", lr_in_velocity=rule == "paper", nesterov=rule == "nesterov"))
    for g, eps in zip(gradients, rates, strict=True):
        layer.weight.grad = torch.from_numpy(g.copy())
        optimizer.step(eps)
    np.testing.assert_allclose(layer.weight.detach().numpy(), reference_steps(rule, w, gradients, rates), rtol=1e-12)


def test_lars_scales_each_layers_rate_by_the_norms_of_weights_and_gradient():
    rng = np.random.default_rng(0)
    layer = nn.Linear(3, 4).double()
    w, b, v, u = rng.normal(size=(4, 3)), rng.normal(size=4), np.zeros((4, 3)), np.zeros(4)
    layer.weight.data, layer.bias.data = torch.from_numpy(w.copy()), torch.from_numpy(b.copy())
    optimizer = SGD(layer, Recipe("r", lars_trust=0.01, decay_biases=False))
    for _ in range(5):
        g, h = rng.normal(size=(4, 3)), rng.normal(size=4)
        layer.weight.grad, layer.bias.grad = torch.from_numpy(g.copy()), torch.from_numpy(h.copy())
        optimizer.step(2.0)
        own = 2.0 * 0.01 * np.linalg.norm(w) / (np.linalg.norm(g) + 0.0005 * np.linalg.norm(w))
        v = 0.9 * v - own * (g + 0.0005 * w)
        u = 0.9 * u - 2.0 * h  # biases learn at the rate as it is
        w, b = w + v, b + u
    np.testing.assert_allclose(layer.weight.detach().numpy(), w, rtol=1e-12)
    np.testing.assert_allclose(layer.bias.detach().numpy(), b, rtol=1e-12)


def test_the_two_rules_agree_until_the_rate_changes_and_differ_after():
    rng = np.random.default_rng(0)
    w, gradients = rng.normal(size=5), rng.normal(size=(6, 5))
    constant, dropped = [0.1] * 6, [0.1] * 3 + [0.01] * 3
    np.testing.assert_allclose(
        reference_steps("paper", w, gradients, constant), reference_steps("pytorch", w, gradients, constant))
    assert not np.allclose(
        reference_steps("paper", w, gradients, dropped), reference_steps("pytorch", w, gradients, dropped))


@pytest.mark.parametrize("nesterov", [False, True])
def test_pytorchs_rule_equals_torch_optim_sgd(nesterov):
    torch.manual_seed(0)
    ours, theirs = nn.Linear(6, 5), nn.Linear(6, 5)
    theirs.load_state_dict(ours.state_dict())
    settings = Recipe("r", lr_in_velocity=False, nesterov=nesterov, weight_decay=0.01)
    optimizer = SGD(ours, settings)
    reference = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov)
    for step in range(8):
        rate = 0.1 / (1 + step)
        x = torch.randn(4, 6)
        for network in (ours, theirs):
            network.zero_grad()
            network(x).square().sum().backward()
        optimizer.step(rate)
        reference.param_groups[0]["lr"] = rate
        reference.step()
        torch.testing.assert_close(ours.weight, theirs.weight)
        torch.testing.assert_close(ours.bias, theirs.bias)


def test_biases_may_learn_at_twice_the_rate_and_undecayed():
    layer = nn.Linear(2, 2)
    before = layer.bias.detach().clone()
    optimizer = SGD(layer, Recipe("r", bias_lr_factor=2.0, decay_biases=False, momentum=0.0))
    layer.weight.grad, layer.bias.grad = torch.zeros(2, 2), torch.ones(2)
    optimizer.step(0.1)
    torch.testing.assert_close(layer.bias.detach(), before - 0.2)


def test_new_layers_learn_at_their_own_rate():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    settings = Recipe("r", new_layer_lr_factor=10.0, bias_lr_factor=2.0, weight_decay=0.0)
    optimizer = SGD(network, settings, new_layers=[network[1]])
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(1e-3)
    moved = [(old - new).mean().item() for old, new in zip(before, network.parameters(), strict=True)]
    assert moved == pytest.approx([1e-3, 2e-3, 1e-2, 2e-2], rel=1e-3)


def test_late_in_code2012_conv1_slows_and_stops_and_the_others_go_on():
    chosen = recipe("code2012")
    assert [conv1_learning_rate(chosen, epoch, 1e-3) for epoch in (0, 66.9, 67, 71.9, 72, 92)] == [
        1e-3, 1e-3, 1e-5, 1e-5, 0.0, 0.0]
    assert conv1_learning_rate(chosen, 70, 1e-6) == 1e-6, "slowing never speeds up"
    network = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Conv2d(2, 2, 1))
    optimizer = SGD(network, replace(chosen, weight_decay=0.0))

    def moved(rate, first):
        before = [parameter.detach().clone() for parameter in network.parameters()]
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step(rate, first)
        return [(old - new).detach().mean().item() for old, new in zip(before, network.parameters(), strict=True)]

    # Weights and biases of either layer; biases learn at 0.02 until their layer is frozen.
    assert moved(1e-2, 1e-5) == pytest.approx([1e-5, 2e-2, 1e-2, 2e-2], rel=1e-2)
    assert moved(1e-2, 0.0) == pytest.approx([0, 0, 1.9e-2, 3.8e-2], rel=1e-3)


def test_color_noise_stops_at_its_epoch(packed, tiny, tmp_path, monkeypatch):
    seen = []

    def watch(self, pixels, indices, recipe, seed, epoch, lighting_CC=None, dtype=None, leaders=None, draws=None):
        seen.append((epoch, lighting_CC is not None))
        return self(pixels)

    monkeypatch.setattr("alexnet.data.preprocessing.Preprocess.training_views", watch)
    build(RunSpec(packed, tiny, replace(QUICK, lighting_stop_epoch=2), tmp_path / "run")).fit()
    assert set(seen) == {(0, True), (1, True), (2, False)}


# --- The schedules ---

def test_the_plateau_divides_by_ten_three_times_and_no_more():
    paper, plateau = recipe("paper"), Plateau()
    errors = [0.9, 0.8, 0.8, 0.81, 0.8, 0.7] + [0.7] * 30
    rates = []
    for error in errors:
        plateau.update(error, paper)
        rates.append(learning_rate(paper, 1.0, plateau.drops))
    assert rates[:4] == [0.01] * 4
    assert rates[4] == pytest.approx(0.001)  # the third epoch without a better error
    assert rates[7] == pytest.approx(0.001)
    assert rates[8] == pytest.approx(1e-4)
    assert rates[-1] == pytest.approx(1e-5)


@pytest.mark.parametrize(("changes", "expected"), [
    ({"schedule": "steps", "drop_epochs": (2, 4)}, [1, 1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01]),
    ({"schedule": "linear"}, [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
    ({"schedule": "constant", "warmup_epochs": 2.0}, [0, 0.5, 1, 1, 1, 1, 1, 1]),
])
def test_schedules_follow_their_definitions(changes, expected):
    chosen = replace(Recipe("r", epochs=8, learning_rate=1.0), **changes)
    assert [learning_rate(chosen, epoch) for epoch in range(8)] == pytest.approx(expected)


# --- Precision and devices ---

def test_auto_is_bf16_where_the_processor_has_it_and_fp32_elsewhere(monkeypatch):
    for has, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("alexnet._runtime.devices.cpu_has_bf16", lambda has=has: has)
        assert choose_precision("auto", "cpu") == expected
        assert choose_precision("fp32", "cpu") == "fp32"
    with pytest.raises(ValueError, match="fp16 is not supported on a CPU, where it is slow"):
        choose_precision("fp16", "cpu")
    with pytest.raises(ValueError, match="precision 'fp8' must be auto or one of fp32, bf16, fp16"):
        choose_precision("fp8", "cpu")


def test_a_loss_that_is_read_a_step_late_is_the_same_loss(packed, tiny, tmp_path, monkeypatch):
    """On a GPU a loss is read when the next step is in the queue; played here on a CPU."""
    def losses(name):
        events = []
        build(RunSpec(packed, tiny, QUICK, tmp_path / name), on_event=events.append).fit()
        return [(event["step"], event["loss"]) for event in events if event["event"] == "step"]

    at_once = losses("at-once")
    monkeypatch.setattr("alexnet.training.trainer.steps_behind", lambda device: 1)
    assert losses("late") == at_once


def test_fp16_on_a_cpu_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="use --precision bf16 or fp32"):
        MixedPrecision("fp16", torch.device("cpu"))


def test_a_scaled_loss_gives_the_same_gradients_and_an_overflow_skips_the_update():
    layer = nn.Linear(3, 2)
    arithmetic = MixedPrecision("fp32", torch.device("cpu"))
    arithmetic.dtype, arithmetic.scale = torch.float16, 1024.0  # fp16's rule, in arithmetic that a CPU has
    x = torch.randn(5, 3)
    (layer(x).square().mean() * arithmetic.scale).backward()
    assert arithmetic.gradients_are_finite(list(layer.parameters()))
    scaled = layer.weight.grad.clone()
    layer.zero_grad()
    layer(x).square().mean().backward()
    torch.testing.assert_close(scaled, layer.weight.grad)
    layer.weight.grad[0, 0] = float("inf")
    assert not arithmetic.gradients_are_finite(list(layer.parameters()))
    assert arithmetic.scale == 512
    for _ in range(2000):
        layer.weight.grad = torch.zeros(2, 3)
        assert arithmetic.gradients_are_finite(list(layer.parameters()))
    assert arithmetic.scale == 1024


def test_an_absent_device_is_refused_in_a_sentence():
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="use --device cpu"):
            choose_device("cuda")
    with pytest.raises(ValueError, match="there is no device"):
        choose_device("tpu")


# --- Runs ---

def weights(folder: Path) -> dict[str, torch.Tensor]:
    saved = checkpoint.load(folder, with_velocity=True)
    return saved.weights | {f"velocity.{key}": value for key, value in saved.velocity.items()}


def assert_same_run(one: Path, other: Path) -> None:
    a, b = weights(one / "last"), weights(other / "last")
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key
    assert checkpoint.load(one / "last").training == checkpoint.load(other / "last").training
    assert logged(one) == logged(other)


def logged(run: Path) -> list[dict]:
    """The log without what a clock or the number of starts decides."""
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in event.items() if key not in StepTiming.__annotations__}
            for event in events if event["event"] != "start"]


@pytest.fixture(scope="module")
def uninterrupted(packed, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    build(RunSpec(packed, tiny, QUICK, out, seed=5)).fit()
    return out


def test_a_run_learns(packed, tiny, tmp_path):
    run = build(RunSpec(packed, tiny, replace(QUICK, epochs=8), tmp_path / "run"))
    errors = run.fit()
    assert errors.images == 44
    assert errors.top1_error < 0.2  # chance is 0.75
    log = logged(tmp_path / "run")
    epochs = [event for event in log if event["event"] == "epoch"]
    assert [event["epoch"] for event in epochs] == list(range(1, 9))
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]
    assert checkpoint.load(tmp_path / "run").errors["top1_error"] == min(event["val_top1_error"] for event in epochs)


def test_an_epoch_can_be_trained_without_a_run_folder(packed, tiny, tmp_path):
    steps = []
    trainer = build(RunSpec(packed, tiny, QUICK, tmp_path / "run"), on_event=lambda event: steps.append(event["event"]))
    trainer.train_epoch()
    assert trainer.state.step == steps.count("step") == 8
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("change", "words"), [
    ({"seed": -1}, "seed -1 must be 0 or more"), ({"micro_batch": 1}, "micro_batch 1 must be at least 2 images"),
    ({"arch": arch("small")}, "packed at 32 pixels and small takes 64; pack it again with --side 64, or add --set")])
def test_a_run_of_impossible_values_is_refused_when_it_is_specified(packed, tiny, tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        RunSpec(packed, **{"arch": tiny, "recipe": QUICK, "out": tmp_path / "run"} | change)
    assert not (tmp_path / "run").exists()


def test_two_runs_with_one_seed_are_the_same_and_with_two_are_not(packed, tiny, uninterrupted, tmp_path):
    build(RunSpec(packed, tiny, QUICK, tmp_path / "again", seed=5)).fit()
    assert_same_run(uninterrupted, tmp_path / "again")
    build(RunSpec(packed, tiny, replace(QUICK, epochs=1), tmp_path / "other", seed=6)).fit()
    assert not torch.equal(weights(tmp_path / "other" / "last")["features.conv1.weight"],
                           weights(uninterrupted / "last")["features.conv1.weight"])


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(("precision", "workers"), [("fp32", 0), ("fp32", 3), ("bf16", 1)])
def test_resumed_run_matches_uninterrupted_run_bit_for_bit(packed, tiny, tmp_path, precision, workers):
    """Stopped dead at steps in the middle of an epoch, at its end, and while validating; resumed with other workers."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    build(RunSpec(packed, tiny, QUICK, whole, seed=5, precision=precision)).fit()

    def die(when):
        def on_event(event):
            if when(event):
                raise Killed
        return on_event

    deaths = [
        lambda e: e["event"] == "step" and e["step"] == 3,
        lambda e: e["event"] == "step" and e["step"] == 8,
        lambda e: e["event"] == "validating",
        lambda e: e["event"] == "epoch" and e["epoch"] == 2,
        lambda e: e["event"] == "step" and e["step"] == 21,
    ]
    for number, when in enumerate(deaths):
        with pytest.raises(Killed):
            build(RunSpec(packed, tiny, QUICK, broken, seed=5, precision=precision, resume=number > 0,
                workers=(workers + number) % 3, save_minutes=0.0), on_event=die(when)).fit()
    build(RunSpec(packed, tiny, QUICK, broken, seed=5, precision=precision, resume=True, workers=workers)).fit()
    assert_same_run(whole, broken)


@pytest.mark.slow
def test_a_process_killed_and_resumed_ends_where_an_uninterrupted_one_ends(packed, tmp_path):
    def command(out, *more):
        return [sys.executable, "-m", "alexnet", "train", str(packed.path), "--arch", "small", "--epochs", "4",
                "--set", "arch.input.side=32", "--set", "arch.input.crop=28", "--set", "arch.conv.width=16",
                "--set", "recipe.batch_size=8", "--save-minutes", "0", "--out", str(out), "--resume", *more]

    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    rng = np.random.default_rng(0)
    for _ in range(3):
        process = subprocess.Popen(command(tmp_path / "killed"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        log = tmp_path / "killed" / "log.jsonl"
        lines = len(log.read_text().splitlines()) if log.exists() else 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if log.exists() and len(log.read_text().splitlines()) > lines + 1:
                break
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_and_its_exit_code(packed, tiny, uninterrupted, tmp_path, number):
    def on_event(event):
        if event["event"] == "step" and event["step"] == 5:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match="--resume") as stopped:
        build(RunSpec(packed, tiny, QUICK, tmp_path / "run", seed=5), on_event=on_event).fit()
    assert stopped.value.exit_code == 128 + number
    assert checkpoint.load(tmp_path / "run" / "last").training["step"] == 5
    build(RunSpec(packed, tiny, QUICK, tmp_path / "run", seed=5, resume=True)).fit()
    assert_same_run(uninterrupted, tmp_path / "run")


def test_a_finished_run_is_not_overwritten_and_resuming_it_does_nothing(packed, tiny, uninterrupted):
    before = (uninterrupted / "log.jsonl").read_text()
    with pytest.raises(ValueError, match="already holds a run"):
        build(RunSpec(packed, tiny, QUICK, uninterrupted, seed=5))
    build(RunSpec(packed, tiny, QUICK, uninterrupted, seed=5, resume=True)).fit()
    assert [e for e in logged(uninterrupted) if e["event"] == "step"] == [
        e for e in map(json.loads, before.splitlines()) if e["event"] == "step" and
        e.pop("waiting") is not None and e.pop("images_per_second")]


@pytest.mark.parametrize(("change", "words"), [
    ({"seed": 6}, "another seed"), ({"precision": "bf16"}, "another precision"),
    ({"recipe": replace(QUICK, learning_rate=0.1)}, "another recipe"),
])
def test_resuming_with_something_else_is_refused(packed, tiny, uninterrupted, change, words):
    settings = {"seed": 5, "recipe": QUICK} | change
    chosen = settings.pop("recipe")
    with pytest.raises(ValueError, match=words):
        build(RunSpec(packed, tiny, chosen, uninterrupted, resume=True, **settings))


def test_resuming_with_another_network_is_refused(packed, tiny, uninterrupted):
    with pytest.raises(ValueError, match=r"another network \(activation: 'relu' then, 'tanh' now\)"):
        build(RunSpec(packed, override(tiny, ["activation=tanh"]), QUICK, uninterrupted, seed=5, resume=True))


def test_a_loss_of_nan_stops_the_run_and_keeps_the_checkpoint(packed, tiny, tmp_path):
    run = build(RunSpec(packed, tiny, QUICK, tmp_path / "run", save_minutes=0.0))

    told = []

    def poison(event):
        told.append(event["event"])
        if event["event"] == "step" and event["step"] == 4:
            run.network.named_layer("conv1").weight.data.fill_(float("nan"))

    run.on_event = poison
    with pytest.raises(Diverged, match="lower the learning rate") as stopped:
        run.fit()
    saved = checkpoint.load(tmp_path / "run" / "last")
    assert saved.training["step"] == 3
    assert all(torch.isfinite(weight).all() for weight in saved.weights.values())
    warning, = (event for event in logged(tmp_path / "run") if event["event"] == "warning")
    names = [packed.split("train").names[index] for index in epoch_order(120, 0, 0)[45:60]]
    assert warning["images"] == names
    assert f"the images were {', '.join(names[:3])} and 12 more, all of them in {tmp_path}" in str(stopped.value)
    assert "warning" not in told  # which would print the sentence twice


def test_images_whose_views_are_not_finite_are_named_as_the_cause(
        packed, tiny, tmp_path, monkeypatch):
    real = Preprocess.training_views

    def views(self, pixels, indices, *rest):
        made = real(self, pixels, indices, *rest)
        made[torch.from_numpy(np.isin(indices, [7, 50])), 0, 3, 3] = math.nan
        return made

    monkeypatch.setattr(Preprocess, "training_views", views)
    order = epoch_order(120, 0, 0)
    first = int(np.isin(order, [7, 50]).argmax()) // 15
    names = [packed.split("train").names[index] for index in (7, 50) if index in order[:15 * (first + 1)]]
    with pytest.raises(Diverged, match=f"after step {first + 1}: the network's input has values that") as stopped:
        build(RunSpec(packed, tiny, QUICK, tmp_path / "run")).fit()
    assert stopped.value.images == names
    assert "rate" not in str(stopped.value)
    assert str(stopped.value).endswith(f"the images were {', '.join(names)}")


def test_an_infinite_running_variance_is_not_saved(packed, tiny, tmp_path):
    """Training goes by the batch's own, and would not notice; the loss stays a number."""
    run = build(RunSpec(packed, tiny, QUICK, tmp_path / "run", save_minutes=0.0))

    def overflow(event):
        if event["event"] == "step" and event["step"] == 4:
            next(value for name, value in run.network.named_buffers() if "running_var" in name).fill_(math.inf)

    run.on_event = overflow
    with pytest.raises(Diverged, match="lower the learning rate"):
        run.fit()
    assert checkpoint.load(tmp_path / "run" / "last").training["step"] == 3


def test_a_validation_loss_of_nan_stops_the_run_too(packed, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("alexnet.training.trainer.evaluate", lambda *a, **k: Errors(44, math.nan, 44, 44))
    with pytest.raises(Diverged, match="lower the learning rate"):
        build(RunSpec(packed, tiny, QUICK, tmp_path / "run")).fit()
    assert not (tmp_path / "run" / "best").exists()


def test_a_run_does_not_overwrite_an_imported_checkpoint(packed, tiny, tmp_path):
    network = AlexNet(tiny)
    checkpoint.save(checkpoint.Checkpoint(tiny, tuple("abcd"), network.state_dict(), torch.zeros(1, 1, 3)), tmp_path)
    for resume in (False, True):
        with pytest.raises(ValueError, match="not a run, such as an import; choose another --out"):
            build(RunSpec(packed, tiny, QUICK, tmp_path, resume=resume))


def test_a_stuck_loss_is_named_and_a_healthy_one_is_not():
    assert "ln(1000) = 6.908" in str(loss_finding(6.9078, 1000, 500))
    assert loss_finding(6.9078, 1000, 100) is None  # too early to tell
    assert loss_finding(5.0, 1000, 500) is None
    assert "exploding" in str(loss_finding(300.0, 10, 50))
    assert "exploded" in str(loss_finding(float("nan"), 10, 50))


def test_code2012_and_caffe_presets_take_a_step(packed, tmp_path):
    for name in ("paper", "code2012", "caffenet", "torchvision"):
        shrunk = override(arch(name), [
            "input.side=32", "input.crop=32", "conv1.kernel=5", "conv1.stride=1", "conv1.padding=2", "conv.width=16",
            "dense.width=16"])
        chosen = replace(recipe(name if name != "caffenet" else "paper"), epochs=1)
        assert build(RunSpec(packed, shrunk, chosen, tmp_path / name)).fit().images == 44


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_learns_in_every_precision(packed, tiny, tmp_path, precision):
    errors = build(RunSpec(packed, tiny, replace(QUICK, epochs=8), tmp_path / "run", device="cuda",
        precision=precision)).fit()
    assert errors.top1_error < 0.3
