"""Loading weights does no work that they replace: no weights are drawn, and sorted hashes are not sorted again."""

import numpy as np
import pytest
import torch

from alexnet.architecture.network_presets import ARCHS
from alexnet.data.content import distinct_hashes
from alexnet.data.perceptual_hash import distinct_perceptual_hashes
from alexnet.models import alexnet as network_module
from weight_files import narrow

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", ARCHS)
def test_a_checkpoints_network_has_its_weights_and_draws_none(name, monkeypatch):
    saved = narrow(name)
    monkeypatch.setattr(network_module, "initialize", lambda *_: pytest.fail("weights were drawn"))
    state = saved.network().state_dict()
    assert state.keys() == saved.weights.keys()
    assert all(torch.equal(state[key], tensor) for key, tensor in saved.weights.items())


def test_sorted_hashes_are_not_sorted_again(monkeypatch):
    content, perceptual = np.array([3, 5, 8], np.uint64), np.array([[1, 9], [2, 3], [2, 4]], np.uint64)
    monkeypatch.setattr(np, "lexsort", lambda *_: pytest.fail("sorted again"))
    assert distinct_hashes(content).tolist() == [3, 5, 8]
    assert distinct_perceptual_hashes(perceptual).tolist() == [[1, 9], [2, 3], [2, 4]]


@pytest.mark.parametrize(("given", "expected"), [
    ([[2, 4], [2, 3], [1, 9]], [[1, 9], [2, 3], [2, 4]]),
    ([[1, 9], [2, 4], [2, 3]], [[1, 9], [2, 3], [2, 4]]),  # only the second halves are out of order
    ([[1, 2], [1, 2], [3, 0]], [[1, 2], [3, 0]]),  # in order, but not distinct
    ([[0, 0], [1, 2]], [[1, 2]]),  # a blank image has no hash
    ([[2**63, 0], [1, 2**63]], [[1, 2**63], [2**63, 0]]),
    ([[7, 7]], [[7, 7]]), ([[0, 0]], []), ([], []),
])
def test_hashes_in_any_order_come_out_sorted_and_distinct(given, expected):
    assert distinct_perceptual_hashes(np.array(given, np.uint64).reshape(-1, 2)).tolist() == expected
    flat = sorted({value for pair in given for value in pair})
    assert distinct_hashes(np.array(given, np.uint64).ravel()).tolist() == flat
