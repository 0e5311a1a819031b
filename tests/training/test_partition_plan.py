"""The partition plan says which part of each layer a process holds; a split network has those parts."""

import gc
import weakref
from dataclasses import replace
from itertools import product

import pytest
import torch

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.models.alexnet import AlexNet
from alexnet.reproduce.claim_networks import PAPER_SMALL
from alexnet.training.parallel.layers import BatchSlice
from alexnet.training.parallel.plan import PartitionPlan, partition_plan, ranges
from alexnet.training.parallel.process_group import ProcessGroup, single_process
from alexnet.training.parallel.split_network import SplitNetwork
from alexnet.training.parallel.strategies import parallelize

CPU = torch.device("cpu")
SMALL = replace(PAPER_SMALL, classes=4)
BATCH_NORM = override(PAPER_SMALL, ["norm=batch", "dense_norm=true", "classes=4"])
DROPOUT_FIRST = override(PAPER_SMALL, ["dropout_on_inputs=true", "towers=1", "classes=4"])


def test_data_parallel_processes_hold_the_whole_network():
    assert partition_plan(arch("paper"), "data", 8) == PartitionPlan()


def test_towers_meet_before_conv3_and_the_fully_connected_layers():
    plan = partition_plan(arch("paper"), "towers", 2)
    assert plan.inputs == {
        "conv3": (range(128), range(128, 256)), "fc6": (range(4608), range(4608, 9216)),
        "fc7": (range(2048), range(2048, 4096)), "fc8": (range(2048), range(2048, 4096))}
    assert {name: len(parts[0]) for name, parts in plan.outputs.items()} == {
        "conv1": 48, "norm1": 48, "conv2": 128, "norm2": 128, "conv3": 192, "conv4": 192, "conv5": 128,
        "fc6": 2048, "dropout6": 2048, "fc7": 2048, "dropout7": 2048, "fc8": 500}


def test_hybrid_splits_the_fully_connected_layers_only():
    plan = partition_plan(arch("paper"), "hybrid", 3)
    assert set(plan.outputs) == {"fc6", "dropout6", "fc7", "dropout7", "fc8"}
    assert set(plan.inputs) == {"fc7", "fc8"}
    assert plan.outputs["fc8"] == (range(334), range(334, 668), range(668, 1000))
    # Dropout before the first fully connected layer sees all of its inputs, which are not split.
    first = partition_plan(DROPOUT_FIRST, "hybrid", 3)
    assert "dropout6" not in first.outputs
    assert "dropout7" in first.outputs


@pytest.mark.parametrize(("network", "parallel", "size"), [
    ("paper", "towers", 2), ("paper", "hybrid", 2), ("paper-bn", "hybrid", 5), ("torchvision", "hybrid", 7),
    ("small", "hybrid", 4), ("code2012", "hybrid", 3)])
def test_every_dimension_is_covered_once(network, parallel, size):
    plan = partition_plan(arch(network), parallel, size)
    for parts in (*plan.outputs.values(), *plan.inputs.values()):
        assert [index for part in parts for index in part] == list(range(parts[-1].stop))
        assert len(parts) == size


@pytest.mark.parametrize(("whole", "size"), list(product((1, 4, 10, 1000, 4096), (1, 2, 3, 4, 8))))
def test_a_dimension_is_split_as_torch_chunks_it(whole, size):
    parts = [part.tolist() for part in torch.arange(whole).chunk(size)]
    assert [list(part) for part in ranges(whole, size)] == parts + [[]] * (size - len(parts))


@pytest.mark.parametrize(("network", "settings", "size", "parallel", "words"), [
    ("paper", [], 3, "towers", "gives each process one tower, and paper has 2 towers while there are 3"),
    ("torchvision", [], 2, "towers", "needs a network of several towers, and torchvision has one"),
    ("paper", ["lrn.within_tower=false"], 2, "towers", "normalizes across its towers"),
    ("paper", ["conv5.width=255", "conv5.grouped=false"], 2, "towers",
     "conv5 of paper has 255 maps, which 2 towers cannot share equally"),
    ("paper", [], 1, "hybrid", "needs several processes, and this is one"),
])
def test_a_network_that_cannot_be_split_is_refused_with_the_remedy(network, settings, size, parallel, words):
    with pytest.raises(ValueError, match=words) as refusal:
        partition_plan(override(arch(network), settings), parallel, size)
    assert any(remedy in str(refusal.value) for remedy in ("start", "give", "--set", "leave out"))


@pytest.mark.parametrize(("network", "parallel", "size"), [
    (SMALL, "towers", 2), (BATCH_NORM, "towers", 2), (SMALL, "hybrid", 3), (BATCH_NORM, "hybrid", 3)])
def test_the_shards_of_all_processes_are_the_network(network, parallel, size):
    whole = AlexNet(network)
    expected, count = whole.state_dict(), sum(parameter.numel() for parameter in whole.parameters())
    plan, held = partition_plan(network, parallel, size), []
    for rank in range(size):
        split = SplitNetwork(AlexNet(network), plan, ProcessGroup(rank, size), BatchSlice())
        held.append(split.network.state_dict())
        assert split.parameter_count == count
        taken = split.take(expected)
        assert all(torch.equal(taken[key], tensor) for key, tensor in held[-1].items())
    for key, tensor in expected.items():
        if tensor.shape != held[0][key].shape:
            assert torch.equal(torch.cat([state[key] for state in held]), tensor), key
        else:
            assert all(torch.equal(state[key], tensor) for state in held), key


def test_a_process_group_keeps_no_network_alive():
    """A module-level group once kept a clean-up call of every network that a process had ever trained."""
    for processes, parallel in ((single_process(), "data"), (ProcessGroup(0, 2), "towers")):
        network = AlexNet(SMALL)
        strategy = parallelize(network, parallel, processes, CPU, micro_batch=4)
        kept = weakref.ref(network)
        del network, strategy
        gc.collect()
        assert kept() is None
        processes.close()


def test_every_single_process_group_is_a_fresh_one():
    one, other = single_process(), single_process()
    one.sent["gradients"] += 1
    assert not other.sent
