"""Random networks, for tests that compare two computations of the same thing."""

import numpy as np

from alexnet.architecture.spec import LRN, Arch, Conv, Dense, InputSpec, MapLRN


def random_arch(rng: np.random.Generator) -> Arch:
    towers = int(rng.choice([1, 2, 3]))
    steps = ["act", "norm act", "act pool", "act norm pool", "norm pool act", "act norm mapnorm pool", "pool",
             "act avgpool mapnorm", "norm avgpool"]
    conv = tuple(
        Conv(6 * int(rng.integers(1, 4)), int(rng.integers(1, 8)), int(rng.integers(1, 4)), int(rng.integers(0, 4)),
             bool(number and rng.random() < 0.4), str(rng.choice(steps)), dilation=int(rng.choice([1, 1, 2, 3])))
        for number in range(rng.integers(1, 7)))
    return Arch(
        "random", conv, tuple(Dense(int(rng.integers(2, 20))) for _ in range(rng.integers(0, 4))), classes=5,
        input=InputSpec(side=512, crop=64), towers=towers, activation=str(rng.choice(["relu", "tanh", "sigmoid"])),
        norm=str(rng.choice(["lrn", "batch", "none"])), lrn=LRN(within_tower=bool(rng.random() < 0.5)),
        map_lrn=MapLRN(side=int(rng.choice([1, 3, 5]))),
        dense_norm=bool(rng.random() < 0.3), pool_kernel=int(rng.integers(2, 4)), pool_stride=int(rng.integers(1, 4)),
        conv_rounding=str(rng.choice(["floor", "ceil"])), pool_rounding=str(rng.choice(["floor", "ceil"])),
        average_pool=int(rng.choice([0, 0, 1, 3])), dropout=float(rng.choice([0, 0.5])),
        dropout_on_inputs=bool(rng.random() < 0.5))
