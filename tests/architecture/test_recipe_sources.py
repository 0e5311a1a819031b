"""The recipes have the numbers of their sources: learning rates over time, and the settings of the update.

The tables are typed from the sources and not from recipe_presets.py. Rates are given at moments in epochs; for a step,
the moment is its middle (tests/training/test_step_values.py).
"""

import pytest

from alexnet.architecture.network_presets import arch
from alexnet.architecture.recipe_presets import RECIPES, recipe
from alexnet.architecture.spec import LRN
from alexnet.training.schedule import learning_rate

IMAGENET = 1_281_167
"""Training images of ILSVRC-2012."""

RATES: dict[str, list[tuple[float, float]]] = {
    # BVLC/caffe, models/bvlc_alexnet/solver.prototxt: base_lr 0.01, gamma 0.1, stepsize 100000 and max_iter 450000.
    "caffe": [(0, 1e-2), (10, 1e-2), (19.99, 1e-2), (20, 1e-3), (39.99, 1e-3), (40, 1e-4), (59.99, 1e-4), (60, 1e-5),
              (79.99, 1e-5), (80, 1e-6), (89.99, 1e-6)],
    # pytorch/vision, references/classification: --lr 1e-2 for AlexNet; train.py's defaults: 90 epochs, --lr-step-size
    # 30, --lr-gamma 0.1, no warm-up.
    "torchvision": [(0, 1e-2), (29.99, 1e-2), (30, 1e-3), (59.99, 1e-3), (60, 1e-4), (89.99, 1e-4)],
    # arXiv 1709.05011, section 5: linear warm-up over 5 epochs, then (1 - progress)^2. The rate of 10 and the 90 epochs
    # are the recipe's own. After the warm-up: 10 (85/90)^2, 10 / 4, 10 / 16, 10 (9/90)^2 and 0.
    "lars": [(0, 0), (5, 8.919753), (45, 2.5), (67.5, 0.625), (81, 0.1), (90, 0)],
    # The recipe's own: 0.1, one epoch of warm-up, then a line to 0 at epoch 30.
    "modern": [(0, 0), (0.25, 0.025 * 29.75 / 30), (1, 0.1 * 29 / 30), (15, 0.05), (24, 0.02), (30, 0)],
    # The recipe's own: as modern's, to epoch 24. Half of the warm-up's epoch is done at 0.5.
    "medium": [(0, 0), (0.5, 0.05 * 23.5 / 24), (1, 0.1 * 23 / 24), (12, 0.05), (18, 0.025), (24, 0)],
    # The recipe's own: half of a cosine from 0.001 to 0 at epoch 30. After a quarter of it (1 + sqrt(1/2)) / 2 is left,
    # after a half 1/2, and after two thirds 1/4.
    "finetune": [(0, 1e-3), (7.5, 0.85355339e-3), (15, 0.5e-3), (20, 0.25e-3), (30, 0)],
    "head": [(0, 1.0), (0.5, 1.0), (1, 1.0)],
    # The recipe's own drops; the rate of 0.001 and the factor of 10 are layer-params-18pct.cfg's.
    "cifar": [(0, 1e-3), (49.99, 1e-3), (50, 1e-4), (54.99, 1e-4), (55, 1e-5), (59.99, 1e-5)],
}

OTHERS = {"code2012", "code2010", "cifar-18pct"}  # tested in files of their own, from the released configurations

SETTINGS: dict[str, dict[str, object]] = {
    # §5, but for the patience.
    "paper": {"epochs": 90, "batch_size": 128, "momentum": 0.9, "weight_decay": 5e-4, "decay_biases": True,
              "bias_lr_factor": 1.0, "lr_in_velocity": True, "drop_factor": 10.0, "lr_drop_count": 3, "crop": "window",
              "mirror": True, "lighting": 0.1, "label_smoothing": 0.0},
    # solver.prototxt: momentum 0.9, weight_decay 0.0005; train_val.prototxt: batch_size 256, lr_mult 2 and decay_mult 0
    # for biases, mirror true, no color noise.
    "caffe": {"epochs": 90, "batch_size": 256, "momentum": 0.9, "weight_decay": 5e-4, "decay_biases": False,
              "bias_lr_factor": 2.0, "lr_in_velocity": True, "crop": "window", "mirror": True, "lighting": 0.0,
              "label_smoothing": 0.0},
    # train.py: batch size 32 on each of 8 GPUs, --momentum 0.9, --wd 1e-4 for all parameters, no label smoothing.
    "torchvision": {"epochs": 90, "batch_size": 256, "momentum": 0.9, "weight_decay": 1e-4, "decay_biases": True,
                    "bias_lr_factor": 1.0, "lr_in_velocity": False, "nesterov": False, "crop": "resized",
                    "crop_area": (0.08, 1.0), "mirror": True, "lighting": 0.0, "label_smoothing": 0.0},
    # layer-params-18pct.cfg of cuda-convnet: epsW 0.001, epsB 0.002, momW 0.9, wc 0.004 of the convolutions' weights.
    "cifar": {"epochs": 60, "learning_rate": 0.001, "batch_size": 128, "momentum": 0.9, "weight_decay": 0.004,
              "decay_biases": False, "bias_lr_factor": 2.0, "lr_in_velocity": True, "lighting": 0.0, "mirror": True},
    # Of this project, as docs/pretrained.md's network was trained.
    "medium": {"epochs": 24, "batch_size": 128, "learning_rate": 0.1, "momentum": 0.9, "nesterov": True,
               "weight_decay": 5e-4, "decay_biases": False, "lr_in_velocity": False, "warmup_epochs": 1.0,
               "label_smoothing": 0.1, "crop": "resized", "crop_area": (0.35, 1.0), "train_crop": 44, "mirror": True,
               "lighting": 0.0},
    # Of this project. New layers learn ten times as fast, as in Caffe's examples/finetune_flickr_style.
    "finetune": {"epochs": 30, "batch_size": 32, "momentum": 0.9, "weight_decay": 5e-4, "new_layer_lr_factor": 10.0,
                 "label_smoothing": 0.1, "crop": "window", "mirror": True, "lighting": 0.0},
    # arXiv 1708.03888: trust coefficient 0.001, weight decay 0.0005, momentum 0.9.
    "lars": {"epochs": 90, "momentum": 0.9, "weight_decay": 5e-4, "lars_trust": 0.001, "warmup_epochs": 5.0},
}


@pytest.mark.parametrize("name", RATES)
def test_a_recipes_learning_rates_are_those_of_its_source(name):
    rates = {moment: learning_rate(recipe(name), moment) for moment, _ in RATES[name]}
    assert rates == pytest.approx(dict(RATES[name]), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_recipes_settings_are_those_of_its_source(name):
    chosen = recipe(name)
    assert {field: getattr(chosen, field) for field in SETTINGS[name]} == SETTINGS[name]


def test_no_recipe_is_without_a_row():
    assert not {*RECIPES} - {*RATES, "paper", *OTHERS}


def test_the_response_norm_of_cifar():
    """Of this project's making: nine maps, k = 1, and the scale and power of layer-params-18pct.cfg's norms."""
    assert arch("cifar").lrn == LRN(k=1.0, n=9, alpha=0.00005, beta=0.75, divide_by_n=False, within_tower=False)
    assert arch("cifar").norm == "lrn"


def test_the_paper_divides_the_rate_by_ten_three_times():
    """§5: "initialized at 0.01 and reduced three times prior to termination"."""
    rates = [learning_rate(recipe("paper"), 50.0, drops) for drops in range(4)]
    assert rates == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5], rel=1e-12)
    assert recipe("paper").lr_drop_count == 3


def test_caffes_steps_are_the_recipes_epochs():
    """100,000 and 450,000 steps of 256 images, to a tenth of an epoch."""
    drop, last = (steps * 256 / IMAGENET for steps in (100_000, 450_000))
    assert (drop, last) == (pytest.approx(20, abs=0.1), pytest.approx(recipe("caffe").epochs, abs=0.1))


def test_the_rate_rises_evenly_during_the_warm_up_of_lars():
    """Halfway it is about half of that at its end, 10 (85/90)^2 = 8.92; the decay is part of it from the start."""
    assert learning_rate(recipe("lars"), 2.5) == pytest.approx(5 * (87.5 / 90) ** 2, rel=1e-9)
