"""The order of an epoch and its batches are arithmetic, equal to a plain computation of the same."""

from itertools import pairwise

import numpy as np
import pytest

from alexnet.data.order import batch_bounds, batch_positions, batches_per_epoch, epoch_order, evenly_spaced, lane_order


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {epoch_order(100, seed, epoch).tobytes() for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_batches_of_an_epoch_are_as_equal_as_possible():
    assert batches_per_epoch(1000, 128) == 8
    assert batches_per_epoch(128, 128) == 1
    assert batches_per_epoch(129, 128) == 2
    assert np.diff(batch_bounds(1000, 128)).tolist() == [125] * 8
    assert batch_bounds(0, 128).tolist() == [0]


def test_each_image_has_a_batch_and_a_position_in_it():
    step_N, position_N = batch_positions(10, 4)
    assert step_N.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert position_N.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 3]


def test_evenly_spaced_indices_include_both_ends():
    assert evenly_spaced(101, 5).tolist() == [0, 25, 50, 75, 100]
    assert evenly_spaced(3, 5).tolist() == [0, 1, 2]
    assert evenly_spaced(0, 5).tolist() == []


@pytest.mark.parametrize(("sizes", "batch_size", "lanes"), [
    ([7] * 17 + [1], 32, 8), ([5, 0, 5], 4, 8), ([100], 32, 3), ([3, 9, 2, 8], 22, 1), ([], 4, 8)])
def test_lane_order_equals_dealing_shuffled_shards_into_lanes(sizes: list[int], batch_size: int, lanes: int):
    rng = np.random.Generator(np.random.Philox(key=[5, 2]))
    row: list[int] = []
    for shard in rng.permutation(len(sizes)):
        row += (sum(sizes[:shard]) + rng.permutation(sizes[shard])).tolist()
    total = len(row)
    steps = -(-total // batch_size)
    cuts = [len(range(step * total // steps, (step + 1) * total // steps)) for step in range(steps)]
    lengths = [sum(len(range(lane, cut, lanes)) for cut in cuts) for lane in range(lanes)]
    ends = np.cumsum([0, *lengths])
    dealt = [iter(row[begin:end]) for begin, end in pairwise(ends)]
    expected = [next(dealt[place % lanes]) for cut in cuts for place in range(cut)]
    assert lane_order(np.array(sizes, np.int64), batch_size, (5, 2), lanes).tolist() == expected
