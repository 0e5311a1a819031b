"""Measurements of a network at work are right, the findings fit them, and the network stays as it was."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe_presets import recipe
from alexnet.cli import render
from alexnet.cli.render import spark
from alexnet.data.preprocessing import Preprocess
from alexnet.errors import Finding
from alexnet.interpret import activations
from alexnet.interpret.activations import (
    ActivationProbe,
    effective_rank,
    histogram,
    inspect_activations,
    saturated,
    training_views,
)
from alexnet.interpret.health import chance_finding, findings, layer_findings
from alexnet.models.alexnet import AlexNet
from alexnet.reproduce import claim_networks, compare
from alexnet.training import monitor, trainer
from alexnet.training.build import build
from alexnet.training.optimizer import SGD
from alexnet.training.precision import MixedPrecision
from alexnet.training.run_folder import logged
from alexnet.training.spec import RunSpec
from alexnet.training.step import train_step
from command_line import alexnet as command

pytestmark = pytest.mark.usefixtures("one_thread")


def network_of(tiny, *settings: str) -> AlexNet:
    return AlexNet(override(tiny, ["dropout=0", *settings]), seed=1)


def some(count: int = 2, each: int = 6, classes: int = 4, crop: int = 28):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(each, 3, crop, crop, generator=generator),
             torch.randint(0, classes, (each,), generator=generator)) for _ in range(count)]


def test_saturated_is_where_the_slope_is_below_a_twentieth_of_its_greatest():
    x = torch.linspace(-8, 8, 4001, requires_grad=True)
    for name, function in (("tanh", torch.tanh), ("sigmoid", torch.sigmoid)):
        (slope,) = torch.autograd.grad(function(x).sum(), x)
        assert torch.equal(saturated(function(x), name), slope < 0.05 * slope.max())
    assert saturated(torch.tensor([0.0, 1e-9, 3.0]), "relu").tolist() == [True, False, False]


def test_effective_rank_counts_directions():
    generator = torch.Generator().manual_seed(0)
    line = torch.randn(100, 1, generator=generator) * torch.tensor([[1.0, -2.0, 3.0]])
    assert effective_rank(line) == pytest.approx(1)
    corners = torch.cat([torch.eye(5), -torch.eye(5)])
    assert effective_rank(corners) == pytest.approx(5)
    assert effective_rank(torch.ones(7, 3)) == 0


def test_a_histogram_counts_every_finite_value():
    values = torch.cat([torch.arange(100.0), torch.tensor([float("nan"), float("inf")])])
    counts = histogram(values)
    assert (counts.low, counts.high, sum(counts.counts)) == (0, 99, 100)
    assert sum(histogram(torch.ones(5)).counts) == 5
    assert len(spark(counts)) == 20
    assert set(spark(counts)) <= set(" ▁▂▃▄▅▆▇█")


@pytest.mark.parametrize(("columns", "bars"), [(80, 10), (120, 20)])
def test_at_80_columns_no_number_of_the_table_is_cut_off(tiny, columns, bars):
    """The longest that a network has: a rank of 4096/4096, and a mean of three digits after zeros."""
    report = inspect_activations(network_of(tiny), some(), rate=0.1)
    units = [replace(unit, layer="sigmoid5", saturated=1.0, mean=-0.00123, deviation=0.00123, rank=4096.0,
                     max_rank=4096, gradient=1.2e-10) for unit in report.units]
    console = Console(width=columns, file=io.StringIO(), highlight=False)
    console.print(render.activations_table(replace(report, units=units), columns))
    lines = console.file.getvalue().splitlines()
    assert lines[0].split() == ["saturated", "dead", "mean", "deviation", "rank", "values", "gradient"]
    assert all(line.split()[-1] == "1.2e-10" and "4096/4096" in line for line in lines[1 : 1 + len(units)])
    assert lines[0].index("gradient") - lines[0].index("values") in (bars + 2, bars + 3)
    assert "…" not in console.file.getvalue()


@pytest.mark.parametrize("norm", ["batch", "lrn", "none"])
def test_inspecting_activations_changes_nothing(tiny, norm):
    network = network_of(tiny, f"norm={norm}").eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    inspect_activations(network, some(), rate=0.1)
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_gradients_and_updates_are_those_of_one_batch_of_all_images(tiny):
    network, parts = network_of(tiny, "norm=none", "dense_norm=false"), some()
    report = inspect_activations(network, parts, rate=0.01, decay=0.001, output_decay_factor=250.0)
    views, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    loss = F.cross_entropy(network(views), labels)
    loss.backward()
    assert report.loss == pytest.approx(loss.item(), rel=1e-5)
    assert report.images == 12
    for own, (name, layer) in zip(report.weights, network.weight_layers(), strict=True):
        assert own.layer == name
        decay = 0.25 if name == "fc7" else 0.001
        assert own.gradient == pytest.approx(layer.weight.grad.pow(2).mean().sqrt().item(), rel=1e-3)
        assert own.weight == pytest.approx(layer.weight.abs().mean().item(), rel=1e-5)
        assert own.update == pytest.approx(
            0.01 * (layer.weight.grad + decay * layer.weight).abs().mean().item(), rel=1e-3)
        assert own.ratio == pytest.approx(own.update / own.weight)


def test_the_histogram_of_gradients_is_of_their_powers_of_ten(tiny):
    network, parts = network_of(tiny, "norm=none", "dense_norm=false"), some()
    report = inspect_activations(network, parts, rate=0.01)
    views, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    F.cross_entropy(network(views), labels).backward()
    for own, (_, layer) in zip(report.weights, network.weight_layers(), strict=True):
        sizes = layer.weight.grad.abs().flatten()
        if len(sizes) <= activations.SAMPLE:  # all are counted
            assert own.gradients.high == pytest.approx(math.log10(sizes.max().item()), abs=1e-3)
            assert sum(own.gradients.counts) == int((sizes > 0).sum())


def test_the_rank_of_maps_is_measured_at_many_positions(tiny):
    """Sixteen copies of an image: at a single position all rows would be equal, and the rank 0 or 1."""
    network = network_of(tiny, "norm=none", "dense_norm=false")
    (view, labels), *_ = some(count=1, each=1)
    copies = view.expand(16, -1, -1, -1).contiguous()
    found = {one.layer: one for one in inspect_activations(network, [(copies, labels.expand(16))], rate=0.1).units}
    assert found["relu1"].rank > 2.5


def test_the_rank_is_of_512_images():
    """Of 600 images with 700 independent units; the mean takes one of the directions."""
    statistics = activations._UnitStatistics("relu")
    for _ in range(3):
        outputs = torch.randn(200, 700, generator=torch.Generator().manual_seed(len(statistics.rows)))
        statistics.add(outputs, torch.ones_like(outputs))
    units = statistics.units("relu6")
    assert units.max_rank == 511
    assert 300 < units.rank <= 511


@pytest.mark.parametrize(("share", "kinds"), [(0.9e-3, ["vanishing"]), (1.1e-3, [])])
def test_gradients_vanish_if_the_first_layer_has_less_than_a_thousandth_of_the_largest(tiny, share, kinds):
    network = network_of(tiny, "norm=none", "dense_norm=false")
    report = inspect_activations(network, some(), rate=1e-3)
    report = replace(
        report, top1_wrong=0, units=tuple(replace(layer, dead=0.0, saturated=0.0) for layer in report.units),
        weights=tuple(replace(layer, gradient=0.01 * (share if layer.layer == "conv1" else 1),
                              update=1e-3 * layer.weight) for layer in report.weights))
    assert [finding.kind for finding in findings(report, network.arch, 500)] == kinds


@pytest.mark.parametrize(("activation", "bias", "share"), [
    ("relu", -1e4, 1.0), ("relu", 1e4, 0.0), ("tanh", 1e4, 1.0), ("sigmoid", -1e4, 1.0)])
def test_units_that_are_pushed_to_a_bound_are_saturated_and_dead(tiny, activation, bias, share):
    network = network_of(tiny, f"activation={activation}", "norm=none", "dense_norm=false")
    network.named_layer("conv3").bias.data.fill_(bias)
    units = {one.layer: one for one in inspect_activations(network, some(), rate=0.1).units}
    assert units[f"{activation}3"].saturated == share
    assert units[f"{activation}3"].dead == share


def test_a_unit_that_is_active_for_one_image_is_not_dead(tiny):
    network = network_of(tiny, "norm=none", "dense_norm=false")
    parts = some(count=3)
    report = {one.layer: one for one in inspect_activations(network, parts, rate=0.1).units}["relu6"]
    outputs = []
    network.named_layer("relu6").register_forward_hook(lambda *call: outputs.append(call[-1].detach()))
    for views, _ in parts:
        network(views)
    zero = torch.cat(outputs) == 0
    assert report.saturated == pytest.approx(zero.float().mean().item())
    assert report.dead == pytest.approx(zero.all(0).float().mean().item())
    assert report.dead < report.saturated
    assert report.mean == pytest.approx(torch.cat(outputs).mean().item(), rel=1e-4)
    assert report.rank == pytest.approx(effective_rank(torch.cat(outputs)), rel=1e-4)


def test_the_error_is_that_of_the_same_batches_and_the_largest_class_has_most_of_their_images(tiny):
    network, parts = network_of(tiny, "norm=none", "dense_norm=false"), some()
    report = inspect_activations(network, parts, rate=0.1)
    views, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    wrong = sum(int(row.argmax()) != int(label) for row, label in zip(network(views), labels, strict=True))
    assert (report.top1_wrong, report.top1_error) == (wrong, wrong / 12)
    assert report.largest_class == max(labels.tolist().count(number) for number in range(4))
    assert report.to_json()["top1_error"] == wrong / 12


def reported(found: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.kind, finding.subject) for finding in found]


def test_a_finding_names_the_kind_the_layer_and_the_number(tiny):
    report = inspect_activations(network_of(tiny, "norm=none", "dense_norm=false"), some(), rate=1e-3)
    report = replace(report, top1_wrong=0, units=tuple(replace(layer, dead=0.0) for layer in report.units))
    relu, tanh = override(tiny, ["norm=none"]), override(tiny, ["norm=none", "activation=tanh"])
    assert findings(report, relu, 500) == []

    def units(**change):
        return replace(report, units=(report.units[0], replace(report.units[1], **change), *report.units[2:]))

    def weights(place, **change):
        changed = list(report.weights)
        changed[place] = replace(changed[place], **change)
        return replace(report, weights=tuple(changed))

    stuck = replace(report, loss=1.3863)
    for changed, arch_, steps, kind, layer, number in (
            (units(dead=0.6), relu, 500, "dead", "relu2", "60% of its units are zero for every image"),
            (units(saturated=0.8), tanh, 500, "saturated", "relu2", "80% of its values"),
            (weights(1, update=report.weights[1].weight), relu, 500, "update_too_large", "conv2", "by 100.0%"),
            (weights(2, update=0.0), relu, 500, "update_too_small", "conv3", "by 0 of their size"),
            (weights(0, gradient=1e-12), relu, 500, "vanishing", "conv1", "is 1e-12"),
            (stuck, relu, 500, "loss_not_falling", "", "the loss is 1.386, still ln(4) = 1.386 after 500 steps"),
            (stuck, relu, None, "loss_not_falling", "", "the loss is 1.386, still ln(4) = 1.386: every class"),
            (replace(report, loss=99.0), relu, 50, "exploding", "", "the loss is 99, far above ln(4) = 1.386")):
        found = findings(changed, arch_, steps)
        assert reported(found) == [(kind, layer)]
        assert number in found[0].problem
        assert found[0].remedy
    assert findings(stuck, relu, 8) == []  # too early to tell

    normed = [finding for changed in (units(dead=0.6), weights(0, gradient=1e-12), stuck)
              for finding in findings(changed, tiny, 500)]
    assert [finding.kind for finding in normed] == ["dead", "vanishing", "loss_not_falling"]
    assert not [finding for finding in normed if "norm" in finding.remedy]


# Wilson's intervals by hand: 476 of 512 is 93.0% (90.4% to 94.9%), 450 is 87.9% (84.8% to 90.4%). The largest class has
# 37 of 512 images, so that always answering it errs in 92.8%.
@pytest.mark.parametrize(("wrong", "steps", "kinds"), [
    (476, 150, ["error_at_chance", "vanishing"]), (476, None, ["error_at_chance", "vanishing"]), (450, 150, [])])
def test_a_sigmoid_network_at_chance_is_not_called_healthy(tiny, wrong, steps, kinds):
    """The numbers of `alexnet diagnose embedded`: no unit is saturated, and conv1 has 1% of the largest gradient."""
    network = network_of(tiny, "norm=none", "dense_norm=false", "activation=sigmoid", "classes=14")
    report = inspect_activations(network, some(), rate=1e-3)
    report = replace(
        report, images=512, top1_wrong=wrong, largest_class=37, loss=2.65,
        units=tuple(replace(layer, saturated=0.2, dead=0.09) for layer in report.units),
        weights=tuple(replace(layer, gradient=1e-5 if layer.layer == "conv1" else 1e-3, update=1e-3 * layer.weight)
                      for layer in report.weights))
    found = findings(report, network.arch, steps)
    assert [finding.kind for finding in found] == kinds
    if found:
        after = f" after {steps} steps" if steps else ""
        assert found[0].problem == (
            f"the error is at chance{after}: the top-1 error on 512 measured images is 93.0% (95% interval 90.4% to "
            "94.9%), and always answering the largest class would be wrong for 92.8%; the loss is 2.650, and ln(14) = "
            "2.639 is that of the same probability for every class")
        assert found[0].remedy.startswith("use ReLU (arch.activation=relu)")
        assert found[1].problem.startswith("the gradient of its weights is 1e-05, and the largest of a layer is 0.001")


def test_a_lucky_few_and_a_single_class_are_not_called_chance():
    network = arch("cifar")
    assert chance_finding("4 images", 0.25, (0.046, 0.699), 0.5, 0.7, network, 10) is None  # half of chance
    assert chance_finding("40 images", 0.0, (0.0, 0.088), 0.0, 0.1, network, 10) is None  # one class
    assert chance_finding("40 images", 0.9, (0.769, 0.960), 0.9, 2.3, network, 10).kind == "error_at_chance"
    by_images, over_groups = (0.821, 0.891), (0.623, 0.964)  # of 400 images, in 8 groups
    assert chance_finding("400 images", 0.86, by_images, 0.9, 2.3, network, 10) is None
    assert chance_finding("400 images", 0.86, over_groups, 0.9, 2.3, network, 10).kind == "error_at_chance"


def test_units_that_are_saturated_for_every_image_are_reported_without_a_saturated_layer():
    """A layer of which 40% of the units are always saturated, and the others never."""
    (found,) = layer_findings("tanh", {"tanh1": 0.4}, {"tanh1": 0.4}, {})
    assert (found.kind, found.subject) == ("saturated", "tanh1")
    assert found.problem == "40% of its units are saturated for every image measured, and pass hardly any gradient"
    assert layer_findings("tanh", {"tanh1": 0.4}, {"tanh1": 0.2}, {}) == []


@pytest.mark.parametrize("change", [{"gradient": math.inf}, {"gradient": math.nan}, {"gradient": 1e30}])
def test_an_exploded_network_gets_that_finding_alone(tiny, change):
    report = inspect_activations(network_of(tiny), some(), rate=1e-3)
    wild = replace(report, weights=(*report.weights[:-1], replace(report.weights[-1], update=math.inf, **change)))
    found = findings(wild, tiny, 8)
    assert reported(found) == [("exploding", "fc7")]
    assert f"is {change['gradient']:.1g} after 8 steps" in found[0].problem
    assert "lower the learning rate" in found[0].remedy
    (found,) = findings(replace(wild, loss=math.nan), tiny, 1)
    assert (found.kind, found.subject) == ("exploding", "")
    assert found.problem == "the loss is nan after 1 step: the weights have exploded"
    assert math.isnan(effective_rank(torch.tensor([[1.0, math.inf]])))


def test_a_probe_measures_the_training_step(tiny):
    network = network_of(tiny).train()
    optimizer = SGD(network, recipe("paper"))
    ((views, labels),) = some(count=1)
    before = {name: layer.weight.detach().clone() for name, layer in network.weight_layers()}
    with ActivationProbe(network) as probe:
        train_step(network, optimizer, views, labels, 0.1, MixedPrecision("fp32", torch.device("cpu")))
    signals = probe.signals()
    for name, layer in network.weight_layers():
        change = (layer.weight.detach() - before[name]).abs().mean() / before[name].abs().mean()
        assert signals["ratio"][name] == pytest.approx(change.item(), rel=1e-4)
        assert signals["ratio"][name] > 0
    assert list(signals["saturated"]) == [name for name in network.layer_names() if name.startswith("relu")]
    assert all(0 < share < 1 for share in signals["saturated"].values())
    assert not network.named_layer("relu1")._forward_hooks


def test_images_are_augmented_as_in_training(packed, tiny):
    preprocess, way = Preprocess.from_data(tiny.input, packed.mean_HWC), recipe("modern")
    parts = list(training_views(packed.split("train"), preprocess, replace(way, batch_size=40), 70))
    assert [len(labels) for _, labels in parts] == [40, 40]
    swapped = torch.tensor([3, 2, 1, 0])
    again = list(training_views(packed.split("train"), preprocess, replace(way, batch_size=40), 70, label_map=swapped))
    for (views, labels), (views_again, others) in zip(parts, again, strict=True):
        assert torch.equal(views, views_again)
        assert torch.equal(3 - labels, others)
    assert parts[0][0].shape == (40, 3, 28, 28)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sigmoids_pass_less_gradient_than_relus(seed):
    """§3.1's point, at the first step of a deep network, drawn by the number of a unit's inputs; without dropout, whose
    masks change the ratio from one draw to the next."""
    def first_to_last(activation: str) -> float:
        network = AlexNet(override(arch("small"), [
            f"activation={activation}", "norm=none", "dense_norm=false", "dropout=0", "initialization=fan-in",
            "input.side=32", "input.crop=28"]), seed=seed)
        report = inspect_activations(network, some(classes=10), rate=0.01)
        return report.weights[0].gradient / report.weights[-1].gradient

    assert first_to_last("sigmoid") < 0.001 * first_to_last("relu")


def test_a_remedy_that_several_networks_share_is_printed_once(tiny):
    report = inspect_activations(network_of(tiny), some(), rate=1e-3)
    lines = list(render._findings([
        compare.BeforeAfter("a", report, report, (Finding("saturated", "tanh1", "60% is flat", "normalize"),)),
        compare.BeforeAfter("b", report, report, (Finding("saturated", "tanh2", "70% is flat", "normalize"),
                                               Finding("other", "", "all is well"))),
        compare.BeforeAfter("c", report, report, (Finding("other", "", "all is well"),)),
        compare.BeforeAfter("d", report, report, (Finding("update_too_large", "fc7", "by 90%", "lower the rate"),))]))
    assert lines == ["a: tanh1: 60% is flat.", "b: tanh2: 70% is flat.", "For each of these: normalize.",
                     "b; c: all is well.", "d: fc7: by 90%; lower the rate."]


def test_networks_side_by_side(packed, capsys, monkeypatch):
    small = override(claim_networks.PAPER_SMALL, ["conv.width=8", "dense.width=16"])
    monkeypatch.setattr(claim_networks, "PAPER_SMALL", small)
    assert command("diagnose", packed.path, "--side", 32, "--steps", 3, "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == {variant.name for variant in compare.COMPARED}

    def most(name, when="before"):
        return max(one["saturated"] for one in rows[name][when]["units"])

    assert most("tanh, pixels of 0 to 255") > 0.5 > most("tanh")
    assert "saturated" in {finding["kind"] for finding in rows["tanh, pixels of 0 to 255"]["findings"]}
    assert command("diagnose", packed.path, "--side", 32, "--steps", 1) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Before the first step → after 1." in printed
    assert "sigmoid: the error is at chance after 1 step" in printed
    assert "healthy" not in printed
    assert activations.FLAT_SLOPE == 0.05


def test_training_logs_signals_and_names_dead_units_once(packed, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "PROBE_STEPS", 2)
    monkeypatch.setattr(monitor, "WARM_UP_STEPS", 4)
    network = override(tiny, ["norm=none", "dense_norm=false", "conv3.init_bias=-1e4", "initialization=gaussian"])
    events = []
    way = replace(recipe("modern"), epochs=2, batch_size=20, learning_rate=1e-6)
    build(RunSpec(packed, network, way, tmp_path), on_event=events.append).fit()
    signals = [event for event in logged(tmp_path) if event["event"] == "signals"]
    assert [event["step"] for event in signals] == [1, 3, 5, 7, 9, 11]
    for event in signals:
        assert event["dead"]["relu3"] == 1
        assert event["saturated"]["relu3"] == 1
        assert set(event["ratio"]) == {"conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"}
    (dead,) = [event for event in events if event["event"] == "warning" and event["kind"] == "dead"]
    assert dead["subject"] == "relu3"
    assert "100% of its units are zero" in dead["problem"]
