"""What a trained network started from and was trained on, for `alexnet explain --diff`. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from alexnet.architecture.explain_diff import Fact, Place
from alexnet.models.checkpoint_json import StateJson
from alexnet.models.provenance import Provenance

if TYPE_CHECKING:  # imports torch
    from alexnet.models.checkpoint import Checkpoint
    from alexnet.models.stored_network import StoredNetwork

_NOT_RECORDED = "not recorded"


def training_facts(saved: StoredNetwork | Checkpoint) -> dict[Place, Fact]:
    """The initial weights, seed, own transform and training data of a stored network, as far as it records them."""
    state = saved.training
    return {("training", what): Fact(value, "recorded") for what, value in {
        "start": _start(saved.provenance, state), "transform": state.get("transform", "") or (
            "none" if state else _NOT_RECORDED),
        "data": state.get("data", "")[:12] or _NOT_RECORDED,
        "seed": str(state.get("seed", _NOT_RECORDED))}.items()}


def _start(provenance: Provenance, state: StateJson) -> str:
    """The weights that training started from."""
    if "init" in provenance:
        init = provenance["init"]
        return f"weights of {init['arch']}, SHA-256 {init['sha256'][:12]}"
    return "random weights" if state else _NOT_RECORDED


def unrecorded_transform(states: Mapping[str, StateJson]) -> str:
    """Say that a transform of one name in several runs may be different code; "" if no two runs have one of one name.

    Args:
        states: of the runs, by name, in order.
    """
    runs: dict[str, list[str]] = {}
    for run, state in states.items():
        if name := state.get("transform", ""):
            runs.setdefault(name, []).append(run)
    shared = [f"transform: {name} in {'both' if len(states) == 2 else ', '.join(its)}; its code is not recorded"
              for name, its in runs.items() if len(its) > 1]
    return "; ".join(shared)
