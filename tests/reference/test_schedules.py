"""The plateau schedule (§5), against a rule written from its definition."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet.architecture.recipe_presets import recipe
from alexnet.training.schedule import Plateau, learning_rate


def plateau_drops(errors: list[float], patience: int, limit: int) -> int:
    """How often the learning rate has dropped: once for every `patience` consecutive epochs without a new minimum."""
    records = [all(error < earlier for earlier in errors[:epoch]) for epoch, error in enumerate(errors)]
    waits = [len(list(run)) for is_record, run in itertools.groupby(records) if not is_record]
    return min(limit, sum(wait // patience for wait in waits))


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(errors=st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), max_size=40), patience=st.integers(1, 5),
       limit=st.integers(1, 4))
def test_the_plateau_rule_drops_the_learning_rate_after_patience_epochs_without_improvement(errors, patience, limit):
    changed, plateau = replace(recipe("paper"), patience=patience, lr_drop_count=limit), Plateau()
    for epoch, error in enumerate(errors, 1):
        plateau.update(error, changed)
        drops = plateau_drops(errors[:epoch], patience, limit)
        assert learning_rate(changed, epoch, plateau.drops) == pytest.approx(0.01 / 10**drops, rel=1e-12)


def test_the_paper_recipe_divides_by_ten_three_times_after_three_epochs_without_improvement():
    errors = [0.5, 0.4, 0.4, 0.45, 0.3, 0.3, 0.3, 0.3, *[0.31] * 8]
    by_hand = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    plateau, drops = Plateau(), []
    for error in errors:
        plateau.update(error, recipe("paper"))
        drops.append(plateau.drops)
    assert drops == by_hand
    assert [plateau_drops(errors[:epoch], 3, 3) for epoch in range(1, 17)] == by_hand
