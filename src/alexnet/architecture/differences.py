"""Two networks -> what sets them apart, layer by layer and in the recipe, each difference with its sources. No torch.

A network is put into words, fact by fact; what differs is the difference of the two lists.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from alexnet.architecture.arithmetic import explain, smallest_input
from alexnet.architecture.presets import ARCHS, RECIPES, default_recipe
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch, InputSpec

if TYPE_CHECKING:
    pass


Place = tuple[str, str]
"""Where in the network or recipe, and what of it: ("conv1", "stride"). Fully connected layers are hidden1, hidden2, ...
and output, so that they find each other when one network has a convolution more."""


@dataclass(frozen=True)
class Fact:
    """What a network or recipe is in one respect."""

    value: str
    topic: str
    """What the fact is about, of those that `SOURCES` knows."""


@dataclass(frozen=True)
class Difference:
    """One respect in which two networks differ; a dash where one of them has nothing of the kind."""

    where: str
    what: str
    values: tuple[str, str]
    sources: tuple[str, str]


#: Where each preset's facts come from, by topic; `else` for all others. Short names as at the head of config.py.
SOURCES: dict[str, dict[str, str]] = {
    "paper": {"input": "§2, §4.1", "size": "Figure 2; code2012's ceiling", "norm": "§3.3", "order": "§3.1, §3.3, §3.4",
              "pool": "§3.4", "rounding": "code2012", "dropout": "§4.2", "initialization": "§5", "recipe": "§5",
              "views": "§4.1", "noise": "§4.1; cuda-convnet2", "else": "§3.5"},
    "paper-conv6": {"else": "§6, whose size and biases are ours"},
    "code2012": {"input": "code2012", "views": "code2012", "recipe": "code2012, the 2010 run's log",
                 "else": "code2012, layers-145"},
    "caffe": {"recipe": "bvlc_alexnet/solver.prototxt", "rounding": "caffe, pooling_layer.cpp",
              "norm": "caffe, lrn_layer.cpp", "else": "bvlc_alexnet/train_val.prototxt"},
    "caffenet": {"recipe": "bvlc_reference_caffenet/solver.prototxt", "rounding": "caffe, pooling_layer.cpp",
                 "norm": "caffe, lrn_layer.cpp", "else": "bvlc_reference_caffenet/train_val.prototxt"},
    "torchvision": {"recipe": "torchvision, references/classification",
                    "views": "torchvision, references/classification",
                    "input": "torchvision, AlexNet_Weights", "else": "torchvision, models/alexnet.py; owt"},
    "one-gpu": {"towers": "§3.5, one GPU", "else": "paper"},
    "paper-bn": {"input": "ours", "order": "cvjena/cnn-models", "norm": "cvjena/cnn-models", "initialization": "ours",
                 "else": "paper"},
    "torchvision-bn": {"initialization": "ours", "order": "ours, after cvjena/cnn-models", "norm": "ours, after "
                       "cvjena/cnn-models", "else": "torchvision"},
    "cifar": {"recipe": "cuda-convnet", "else": "Figure 1; cuda-convnet, layers-18pct"},
    "small": {"else": "ours"},
    "modern": {"else": "ours"},
    "finetune": {"else": "ours"},
}

_STEPS = {"relu": "ReLU", "tanh": "tanh", "sigmoid": "sigmoid", "pool": "max pooling", "mapnorm": "norm within maps"}
_NORMS = {"lrn": "response norm", "batch": "batch norm", "none": ""}


# --- A network in words -----------------------------------------------------------------------------------------------


def network_facts(arch: Arch) -> dict[Place, Fact]:
    """What the network is, from the image to the logits, and in all."""
    explanation = explain(arch)
    layers = {layer.name: layer for layer in explanation.layers}
    facts: dict[Place, Fact] = {}
    _input_facts(arch.input, facts)
    for number, conv in enumerate(arch.conv, 1):
        name, layer = f"conv{number}", layers[f"conv{number}"]
        split = f", {conv.width // arch.towers} on each of {arch.towers} towers" if arch.towers > 1 else ""
        facts |= {
            (name, "kernels"): Fact(f"{conv.width}{split}", "towers"),
            (name, "kernel"): Fact(f"{conv.kernel}x{conv.kernel}x{layer.input_shape[0] // layer.groups}", "layers"),
            (name, "stride"): Fact(str(conv.stride), "layers"),
            (name, "padding"): Fact(str(conv.padding), "size"),
            (name, "dilation"): Fact(str(conv.dilation), "layers"),
            (name, "side"): Fact(layer.worked, "size"),
            (name, "sees"): Fact("the maps of its own tower" if layer.groups > 1 else "all maps", "towers"),
            (name, "then"): Fact(_order(arch, number), "order"),
            (name, "drawn"): Fact(_drawn(arch, conv.init_std, conv.init_bias), "initialization"),
        }
    for layer in explanation.layers:
        if layer.kind == "local response normalization":
            reach = "maps of its own tower" if arch.lrn.within_tower and arch.towers > 1 else "maps"
            share = f" / {arch.lrn.n}" if arch.lrn.divide_by_n else ""
            facts["norm", "formula"] = Fact(
                f"a / ({arch.lrn.k:g} + {arch.lrn.alpha:g}{share} x sum of a^2) ^ {arch.lrn.beta:g}, over {arch.lrn.n} "
                f"{reach}", "norm")
    facts["pool", "window"] = Fact(f"{arch.pool_kernel}x{arch.pool_kernel}, stride {arch.pool_stride}", "pool")
    facts["pool", "size"] = Fact("the ceiling" if arch.pool_rounding == "ceil" else "the floor", "rounding")
    if arch.average_pool:
        facts["average_pool", "brings to"] = Fact(f"{arch.average_pool}x{arch.average_pool}", "layers")
    _dense_facts(arch, layers, facts)
    facts |= {
        ("in all", "convolutions"): Fact(str(len(arch.conv)), "layers"),
        ("in all", "parameters"): Fact(f"{explanation.parameters:,}", "counted"),
        ("in all", "multiply-adds"): Fact(f"{explanation.multiply_adds / 1e6:,.1f} million", "counted"),
        ("in all", "least input"): Fact(f"{smallest_input(arch)} pixels", "counted"),
    }
    return facts


def _input_facts(spec: InputSpec, facts: dict[Place, Fact]) -> None:
    mean = {"pixel": "of each pixel", "channel": "of each channel"}.get(str(spec.mean), _numbers(spec.mean))
    facts |= {
        ("input", "view"): Fact(f"{spec.crop}x{spec.crop} of {spec.side}x{spec.side}", "input"),
        ("input", "mean"): Fact(mean, "input"),
        ("input", "divided by"): Fact("nothing" if spec.scale == (1.0, 1.0, 1.0) else _numbers(spec.scale), "input"),
        ("input", "channels"): Fact(spec.channels, "input"),
    }


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in values) if isinstance(values, tuple) else str(values)


def _order(arch: Arch, number: int) -> str:
    words = {"act": _STEPS[arch.activation], "norm": _NORMS[arch.norm], **_STEPS}
    return ", ".join(words[step] for step in arch.steps(number)) or "nothing"


def _drawn(arch: Arch, init_std: float, bias: float) -> str:
    """How a layer's weights begin."""
    if arch.initialization == "fan-in":
        return "uniform, variance 1/(3 fan-in), biases too"
    weights = "N(0, 2/fan-in)" if arch.initialization == "kaiming" else f"N(0, {init_std:g}^2)"
    return f"{weights}, biases {bias:g}"


def _dense_facts(arch: Arch, layers: dict[str, Any], facts: dict[Place, Fact]) -> None:
    for number, dense in enumerate(arch.dense, 1):
        name = f"hidden{number}"
        facts |= {
            (name, "inputs"): Fact(layers[_called(name, arch)].worked, "size"),
            (name, "units"): Fact(f"{dense.width:,}", "layers"),
            (name, "then"): Fact(", ".join([*(["batch norm"] if arch.dense_norm else []), _STEPS[arch.activation]]),
                                 "order"),
            (name, "drawn"): Fact(_drawn(arch, dense.init_std, dense.init_bias), "initialization"),
        }
    # Where the others are drawn by their fan-in, as for ReLU, the output layer keeps its own sigma.
    by_sigma = replace(arch, initialization="gaussian") if arch.initialization == "kaiming" else arch
    facts |= {
        ("output", "inputs"): Fact(layers[_called("output", arch)].worked, "size"),
        ("output", "units"): Fact(f"{arch.classes:,}", "layers"),
        ("output", "drawn"): Fact(_drawn(by_sigma, arch.output_init_std, arch.output_init_bias), "initialization"),
    }
    if arch.dense and arch.dropout:
        side = "inputs" if arch.dropout_before else "outputs"
        facts["dropout", "place"] = Fact(f"{arch.dropout:g}, on the {side} of the hidden layers", "dropout")


def _called(where: str, arch: Arch) -> str:
    """The layer's own name: hidden1 of a network with five convolutions is fc6."""
    if where == "output":
        return f"fc{len(arch.conv) + len(arch.dense) + 1}"
    return f"fc{len(arch.conv) + int(where.removeprefix('hidden'))}" if where.startswith("hidden") else where


# --- A recipe in words ------------------------------------------------------------------------------------------------


def recipe_facts(recipe: Recipe) -> dict[Place, Fact]:
    """How the network is trained. What a recipe sets but does not use is left out."""
    rule = ("v <- m v - eps (decay w + g); w <- w + v" if recipe.lr_in_velocity else
            "v <- m v + decay w + g; w <- w - eps v" + (", Nesterov's form" if recipe.nesterov else ""))
    views = {"window": "a random window, nothing rescaled", "center": "the center",
             "resized": f"a random {recipe.crop_area[0]:g} to {recipe.crop_area[1]:g} of the area, rescaled"}
    noise = "none" if not recipe.lighting else (
        f"{recipe.lighting:g} x " + ("standard deviations" if recipe.lighting_scale == "deviations" else "eigenvalues")
        + (f", until epoch {recipe.lighting_stop_epoch}" if recipe.lighting_stop_epoch else ""))
    conv1 = " and ".join([*([f"1e-5 from epoch {recipe.conv1_slow_epoch}"] if recipe.conv1_slow_epoch else []),
                          *([f"0 from epoch {recipe.conv1_stop_epoch}"] if recipe.conv1_stop_epoch else [])])
    said = {
        "epochs": str(recipe.epochs), "batch": str(recipe.batch_size), "rate": f"{recipe.learning_rate:g}",
        "rate falls": _schedule(recipe), "momentum": f"{recipe.momentum:g}", "update": rule,
        "weight decay": f"{recipe.weight_decay:g}, biases {'too' if recipe.decay_biases else 'not'}",
        "rate of biases": f"x {recipe.bias_lr_factor:g}", "rate of new layers": f"x {recipe.new_layer_lr_factor:g}",
        "rate of conv1": conv1 or "that of all",
        "label smoothing": f"{recipe.label_smoothing:g}",
        "frozen": recipe.freeze or "nothing",
    }
    seen = {"view": views[recipe.crop], "mirror": "half of them" if recipe.mirror else "none",
            "one view for": "each image" if recipe.view_group == 1 else f"{recipe.view_group} images"}
    return {("recipe", what): Fact(value, topic)
            for topic, facts in (("recipe", said), ("views", seen), ("noise", {"color noise": noise}))
            for what, value in facts.items()}


def _schedule(recipe: Recipe) -> str:
    by = f"by {recipe.drop_factor:g}"
    warm = f"after a rise to epoch {recipe.warmup_epochs:g}, " if recipe.warmup_epochs else ""
    return warm + {
        "plateau": f"{by} after {recipe.patience} epochs without a better error, {recipe.lr_drop_count} times",
        "steps": f"{by} at epochs {', '.join(map(str, recipe.drop_epochs))}",
        "cosine": "as a cosine, to 0", "linear": "evenly, to 0", "poly": "as a square, to 0", "constant": "never"}[recipe.schedule]


# --- The difference ---------------------------------------------------------------------------------------------------


def differences(one: Arch, other: Arch, recipe: Recipe | None = None) -> list[Difference]:
    """What differs between two networks and their recipes, in the order of the layers.

    recipe: the first network's; its own unless given. The second is trained by the recipe of its name.
    """
    networks, recipes = (one, other), (recipe or default_recipe(one), default_recipe(other))
    facts = [network_facts(network) | recipe_facts(way) for network, way in zip(networks, recipes, strict=True)]
    found = []
    for where, what in sorted({**facts[0], **facts[1]}, key=lambda place: _rank(place, facts)):
        first, second = (side.get((where, what)) for side in facts)
        if first and second and first.value == second.value:
            continue
        names = dict.fromkeys(_called(where, network) for network, fact in zip(networks, (first, second), strict=True)
                              if fact)
        found.append(Difference(
            "/".join(names), what, (first.value if first else "-", second.value if second else "-"),
            (_source(networks[0], recipes[0], (where, what), first, second),
             _source(networks[1], recipes[1], (where, what), second, first))))
    return found


def _rank(place: Place, facts: list[dict[Place, Fact]]) -> tuple[int, int]:
    """Layers of one kind together, in order; within one, in the order of its facts."""
    parts = ("input", "conv", "norm", "pool", "average_pool", "hidden", "output", "dropout", "in all", "recipe")
    kind = place[0].rstrip("0123456789")
    number = int(place[0][len(kind):] or 0)
    orders = [list(side).index(place) for side in facts if place in side]
    return 100 * parts.index(kind) + number, min(orders)


def _source(arch: Arch, recipe: Recipe, place: Place, fact: Fact | None, opposite: Fact | None) -> str:
    """Where a fact comes from; that of something absent is where it would stand."""
    topic = (fact or opposite or Fact("", "else")).topic
    if topic == "counted":
        return "counted"
    of_recipe = topic in ("recipe", "views", "noise")
    preset = recipe if of_recipe else arch
    known: dict[str, Any] = dict(RECIPES) if of_recipe else dict(ARCHS)
    if preset.name not in SOURCES or preset.name not in known:
        return "its own"
    own = (recipe_facts if of_recipe else network_facts)(known[preset.name]).get(place)
    if (own and own.value) != (fact and fact.value):
        return "--set"
    return SOURCES[preset.name].get(topic, SOURCES[preset.name]["else"])


def to_json(one: Arch, other: Arch, recipe: Recipe | None = None) -> dict[str, Any]:
    """`networks`, `recipes` and `differences`, each with `where`, `what`, two `values` and two `sources`."""
    return {"networks": [one.name, other.name],
            "recipes": [(recipe or default_recipe(one)).name, default_recipe(other).name],
            "differences": [asdict(difference) for difference in differences(one, other, recipe)]}
