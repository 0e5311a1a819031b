"""`alexnet explain A --diff B`: the differences between two networks and their recipes, each value with its source.

`network_facts` and `recipe_facts` describe a configuration as a list of facts. A difference is a fact that differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from alexnet.architecture.arithmetic import POOLINGS, Layer, explain, smallest_input
from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import RECIPES, default_recipe
from alexnet.architecture.spec import GAIN_SQUARED, Arch, InputSpec, layer_kind_and_number

Place = tuple[str, str]
"""Layer and property: ("conv1", "stride"), ("recipe", "momentum"). Fully connected layers are hidden1, hidden2, ... and
output, so that they correspond if one network has more convolutions than the other."""


@dataclass(frozen=True)
class Fact:
    """One property of a network or recipe."""

    value: str
    topic: str
    """A key of `SOURCES`, "counted" for a computed value, or "recorded" for what a stored network says of itself."""


@dataclass(frozen=True)
class Difference:
    """One property in which two networks differ. The value is "-" where a network has no such property."""

    where: str
    """The layer's name, "fc6/fc7" if the two networks number it differently."""
    what: str
    values: tuple[str, str]
    sources: tuple[str, str]


SOURCES: dict[str, dict[str, str]] = {
    "paper": {"input": "§2, §4.1", "size": "Figure 2; code2012's ceil", "norm": "§3.3", "order": "§3.1, §3.3, §3.4",
              "pool": "§3.4", "rounding": "code2012", "dropout": "§4.2", "initialization": "§5", "recipe": "§5",
              "schedule": "§5 (3 epochs: this project)",
              "views": "§4.1", "noise": "§4.1; cuda-convnet2", "else": "§3.5"},
    "paper-conv6": {"else": "§6; code2012, layers-146-2012-2011"},
    "code2012": {"input": "code2012, convdata_jpeg.py", "views": "code2012, convdata_jpeg.py",
                 "noise": "code2012, convdata_jpeg.py; layer-params-145.cfg",
                 "recipe": "code2012, layer-params-145.cfg", "size": "code2012, layers-145.cfg; convdata_jpeg.py",
                 "norm": "code2012, layers-145.cfg; layer-params-145.cfg", "rounding": "code2012, layer.py",
                 "else": "code2012, layers-145.cfg"},
    "caffe": {"recipe": "bvlc_alexnet/solver.prototxt", "rounding": "caffe, pooling_layer.cpp",
              "norm": "caffe, lrn_layer.cpp", "else": "bvlc_alexnet/train_val.prototxt"},
    "caffenet": {"recipe": "bvlc_reference_caffenet/solver.prototxt", "rounding": "caffe, pooling_layer.cpp",
                 "norm": "caffe, lrn_layer.cpp", "else": "bvlc_reference_caffenet/train_val.prototxt"},
    "torchvision": {"recipe": "torchvision, references/classification",
                    "views": "torchvision, references/classification",
                    "input": "torchvision, AlexNet_Weights", "else": "torchvision, models/alexnet.py"},
    "one-gpu": {"norm": "§3.3", "else": "this project: §3.5's widths in one tower"},
    "paper-bn": {"order": "cvjena/cnn-models", "norm": "cvjena/cnn-models", "else": "this project"},
    "torchvision-bn": {"initialization": "this project", "order": "this project, after cvjena/cnn-models",
                       "norm": "this project, after cvjena/cnn-models", "else": "this project"},
    "cifar": {"else": "this project, after Figure 1 and layers-18pct"},
    "cifar-18pct": {"recipe": "cuda-convnet, layer-params-18pct", "epochs": "caffe, examples/cifar10/cifar10_full",
                    "batch": "cuda-convnet's default", "views": "caffe, examples/cifar10/cifar10_full",
                    "noise": "caffe, examples/cifar10/cifar10_full", "input": "caffe, examples/cifar10/cifar10_full",
                    "rounding": "cuda-convnet, layer.py", "else": "cuda-convnet, layers-18pct"},
    "small": {"else": "this project"},
    "medium": {"else": "this project"},
    "modern": {"else": "this project"},
    "lars": {"recipe": "arXiv 1708.03888, 1709.05011", "else": "this project"},
    "finetune": {"else": "this project"},
    "head": {"else": "this project"},
}
SOURCES["code2010"] = {topic: source.replace("params-145.cfg", "params-145-2010.cfg")
                       for topic, source in SOURCES["code2012"].items()}
"""Preset -> topic -> source of its facts; `else`: all other topics. network_presets.py explains the names."""

RECIPE_TOPICS = ("recipe", "epochs", "batch", "schedule", "views", "noise")
"""Topics of a recipe; all others are of a network. `epochs`, `batch` and `schedule`: as `recipe`, where not given."""

BASES = {"paper-conv6": "paper", "one-gpu": "paper", "paper-bn": "paper", "torchvision-bn": "torchvision"}
"""Network -> the one that it changes. What is the same in both has the source that it has there."""

_OPS = {"relu": "ReLU", "tanh": "tanh", "sigmoid": "sigmoid", "mapnorm": "norm within maps", **POOLINGS}
_NORMS = {"lrn": "response norm", "batch": "batch norm", "none": ""}


# --- Facts of a network -----------------------------------------------------------------------------------------------


def network_facts(arch: Arch) -> dict[Place, Fact]:
    """Describe the network from the input to the logits, and its totals."""
    explanation = explain(arch)
    layers = {layer.name: layer for layer in explanation.layers}
    facts = _input_facts(arch.input)
    for number in range(1, len(arch.conv) + 1):
        facts |= _conv_facts(arch, number, layers[f"conv{number}"])
    if any(layer.kind == "local response normalization" for layer in explanation.layers):
        lrn = arch.lrn
        maps = "maps of its own tower" if lrn.within_tower and arch.towers > 1 else "maps"
        share = f" / {lrn.n}" if lrn.divide_by_n else ""
        facts["norm", "formula"] = Fact(
            f"a / ({lrn.k:g} + {lrn.alpha:g}{share} x sum of a^2) ^ {lrn.beta:g}, over {lrn.n} {maps}", "norm")
    if any("mapnorm" in arch.post_ops(number) for number in range(1, len(arch.conv) + 1)):
        own = arch.map_lrn
        facts["norm", "within maps"] = Fact(f"a / (1 + {own.alpha:g} / {own.side**2} x sum of a^2) ^ {own.beta:g}, "
                                            f"over {own.side}x{own.side} places", "norm")
    facts["pool", "window"] = Fact(f"{arch.pool_kernel}x{arch.pool_kernel}, stride {arch.pool_stride}", "pool")
    facts["pool", "rounding"] = Fact(arch.pool_rounding, "rounding")
    if arch.average_pool:
        facts["average_pool", "output size"] = Fact(f"{arch.average_pool}x{arch.average_pool}", "layers")
    facts |= _dense_facts(arch, layers)
    return facts | {
        ("total", "convolutions"): Fact(str(len(arch.conv)), "layers"),
        ("total", "parameters"): Fact(f"{explanation.parameters:,}", "counted"),
        ("total", "multiply-adds"): Fact(f"{explanation.multiply_adds / 1e6:,.1f} million", "counted"),
        ("total", "smallest input"): Fact(f"{smallest_input(arch)} pixels", "counted"),
    }


def _input_facts(spec: InputSpec) -> dict[Place, Fact]:
    mean = {"pixel": "of each pixel", "channel": "of each channel"}.get(str(spec.mean), _numbers(spec.mean))
    if spec.mean == "pixel" and spec.mean_crop == "center":
        mean += ", its center crop from every view after mirroring"
    return {
        ("input", "crop"): Fact(f"{spec.crop}x{spec.crop} of {spec.side}x{spec.side}", "input"),
        ("input", "mean"): Fact(mean, "input"),
        ("input", "scale"): Fact("none" if spec.scale == (1.0, 1.0, 1.0) else f"divided by {_numbers(spec.scale)}",
                                 "input"),
        ("input", "channels"): Fact(spec.channels, "input"),
    }


def _conv_facts(arch: Arch, number: int, layer: Layer) -> dict[Place, Fact]:
    conv, name = arch.conv[number - 1], layer.name
    split = f", {conv.width // arch.towers} on each of {arch.towers} towers" if arch.towers > 1 else ""
    ops = {"act": _OPS[arch.activation], "norm": _NORMS[arch.norm], **_OPS}
    return {
        (name, "filters"): Fact(f"{conv.width}{split}", "towers"),
        (name, "kernel size"): Fact(f"{conv.kernel}x{conv.kernel}x{layer.input_shape[0] // layer.groups}", "layers"),
        (name, "stride"): Fact(str(conv.stride), "layers"),
        (name, "padding"): Fact(str(conv.padding), "size"),
        (name, "dilation"): Fact(str(conv.dilation), "layers"),
        (name, "output side"): Fact(layer.worked, "size"),
        (name, "input maps"): Fact("those of its own tower" if layer.groups > 1 else "all", "towers"),
        (name, "followed by"): Fact(", ".join(ops[op] for op in arch.post_ops(number)) or "nothing", "order"),
        (name, "initialization"): Fact(_initialization(arch, conv.init_std, conv.init_bias), "initialization"),
    }


def _dense_facts(arch: Arch, layers: Mapping[str, Layer]) -> dict[Place, Fact]:
    facts: dict[Place, Fact] = {}
    ops = ", ".join([*(["batch norm"] if arch.dense_norm else []), _OPS[arch.activation]])
    for number, dense in enumerate(arch.dense, 1):
        name = f"hidden{number}"
        facts |= {
            (name, "inputs"): Fact(layers[_layer_name(name, arch)].worked, "size"),
            (name, "units"): Fact(f"{dense.width:,}", "layers"),
            (name, "followed by"): Fact(ops, "order"),
            (name, "initialization"): Fact(_initialization(arch, dense.init_std, dense.init_bias), "initialization"),
        }
    # `kaiming` initializes the layers before an activation. The output layer keeps its own standard deviation.
    output = replace(arch, initialization="gaussian") if arch.initialization == "kaiming" else arch
    facts |= {
        ("output", "inputs"): Fact(layers[_layer_name("output", arch)].worked, "size"),
        ("output", "units"): Fact(f"{arch.classes:,}", "layers"),
        ("output", "initialization"): Fact(
            _initialization(output, arch.output_init_std, arch.output_init_bias), "initialization"),
    }
    if arch.dense and arch.dropout:
        side = "inputs" if arch.dropout_on_inputs else "outputs"
        facts["dropout", "probability"] = Fact(f"{arch.dropout:g}, on the {side} of the hidden layers", "dropout")
    return facts


def _initialization(arch: Arch, init_std: float, init_bias: float) -> str:
    """The distribution of a layer's initial weights, and its initial biases."""
    if arch.initialization == "fan-in":
        return "uniform, variance 1/(3 fan-in), biases too"
    weights = (f"N(0, {GAIN_SQUARED[arch.activation]}/fan-in)" if arch.initialization == "kaiming" else
               f"N(0, {init_std:g}^2)")
    return f"{weights}, biases {init_bias:g}"


def _numbers(values: object) -> str:
    return ", ".join(f"{value:g}" for value in values) if isinstance(values, tuple) else str(values)


def _layer_name(where: str, arch: Arch) -> str:
    """The layer's name in a network: hidden1 is fc6 if the network has five convolutions."""
    if where == "output":
        return f"fc{len(arch.conv) + len(arch.dense) + 1}"
    return f"fc{len(arch.conv) + int(where.removeprefix('hidden'))}" if where.startswith("hidden") else where


# --- Facts of a recipe ------------------------------------------------------------------------------------------------


def recipe_facts(recipe: Recipe) -> dict[Place, Fact]:
    """Describe the recipe. Fields that it does not use are left out."""
    rule = ("v <- m v - eps (decay w + g); w <- w + v" if recipe.lr_in_velocity else
            "v <- m v + decay w + g; w <- w - eps v" + (", Nesterov's form" if recipe.nesterov else ""))
    slow, stop = recipe.conv1_slow_epoch, recipe.conv1_stop_epoch
    conv1 = " and ".join([*([f"of weights at most 1e-5 from epoch {slow}"] if slow else []),
                          *([f"0 from epoch {stop}"] if stop else [])])
    training = {
        "epochs": str(recipe.epochs), "batch size": str(recipe.batch_size),
        "learning rate": f"{recipe.learning_rate:g}", "schedule": _schedule(recipe),
        "momentum": f"{recipe.momentum:g}", "update rule": rule,
        "weight decay": f"{recipe.weight_decay:g}, {'with' if recipe.decay_biases else 'without'} biases",
        "output layer's weight decay": f"x {recipe.output_decay_factor:g}",
        "bias learning rate": f"x {recipe.bias_lr_factor:g}" if recipe.bias_lr_schedule else
        f"{recipe.bias_lr_factor * recipe.learning_rate:g} throughout",
        "new-layer learning rate": f"x {recipe.new_layer_lr_factor:g}",
        "conv1 learning rate": conv1 or "as all layers",
        "layer-wise learning rates": f"LARS, trust {recipe.lars_trust:g}" if recipe.lars_trust else "none",
        "label smoothing": f"{recipe.label_smoothing:g}",
        "class weights": _class_weights(recipe),
        "gradient clipping": f"to norm {recipe.clip_norm:g}" if recipe.clip_norm else "none",
        "weight averaging": f"moving average, decay {recipe.ema_decay:g}" if recipe.ema_decay else "none",
        "early stopping": f"after {recipe.early_stop_epochs} epochs without a lower validation error"
        if recipe.early_stop_epochs else "none",
        "frozen layers": recipe.freeze or "none",
    }
    if recipe.optimizer == "lbfgs":
        training |= {"update rule": "L-BFGS on the output layer, on fixed features", "learning rate": "by line search",
                     "schedule": "one pass", "momentum": "none", "batch size": "all images",
                     "weight decay": f"{recipe.weight_decay or 'chosen on held-out images'}, without biases"}
    crops = {"window": "at a random position", "center": "the center",
             "resized": f"a random {recipe.crop_area[0]:g} to {recipe.crop_area[1]:g} of the area, rescaled"
             + (f" to {recipe.train_crop}x{recipe.train_crop}" if recipe.train_crop else "")}
    views = {"crop": crops[recipe.crop], "mirrored": "half of the images" if recipe.mirror else "none",
             "one crop for": "each image" if recipe.view_group == 1 else f"{recipe.view_group} images",
             "TrivialAugment": "one operation on each image" if recipe.trivial_augment else "none",
             "random erasing": f"{recipe.erase_probability:.0%} of the images" if recipe.erase_probability else "none",
             "mixup": f"Beta({recipe.mixup_alpha:g}, {recipe.mixup_alpha:g})" if recipe.mixup_alpha else "none",
             "CutMix": f"Beta({recipe.cutmix_alpha:g}, {recipe.cutmix_alpha:g})" if recipe.cutmix_alpha else "none"}
    topics = {"epochs": "epochs", "batch size": "batch", "schedule": "schedule"}
    noise = "none" if not recipe.lighting else (
        f"{recipe.lighting:g} x " + ("standard deviations" if recipe.lighting_scale == "deviations" else "eigenvalues")
        + (f", views then divided by {1 + recipe.lighting:g}" if recipe.lighting_rescale else "")
        + (f", until epoch {recipe.lighting_stop_epoch}" if recipe.lighting_stop_epoch else ""))
    return {("recipe", what): Fact(value, topics.get(what, topic) if topic == "recipe" else topic)
            for topic, facts in (("recipe", training), ("views", views), ("noise", {"PCA color noise": noise}))
            for what, value in facts.items()}


def _class_weights(recipe: Recipe) -> str:
    if isinstance(recipe.class_weights, tuple):
        return _numbers(recipe.class_weights)
    return {"off": "none", "balanced": f"inverse to the class's images, at most {recipe.class_weight_cap:g}",
            "auto": "balanced where the largest class is over three times the smallest"}[recipe.class_weights]


def _schedule(recipe: Recipe) -> str:
    factor = f"divided by {recipe.drop_factor:g}"
    warmup = f"warm-up to epoch {recipe.warmup_epochs:g}, then " if recipe.warmup_epochs else ""
    return warmup + {
        "plateau": f"{factor} after {recipe.patience} epochs without a lower validation error, "
                   f"{recipe.lr_drop_count} times",
        "steps": f"{factor} after epochs {', '.join(map(str, recipe.drop_epochs))}",
        "cosine": "cosine to 0", "linear": "linear to 0", "poly": "quadratic to 0", "constant": "constant",
    }[recipe.schedule]


# --- Differences ------------------------------------------------------------------------------------------------------


def differences(
    first: Arch, second: Arch, recipe: Recipe | None = None, second_recipe: Recipe | None = None,
    training: tuple[Mapping[Place, Fact], Mapping[Place, Fact]] | None = None,
) -> list[Difference]:
    """Compare two networks and their recipes, in the order of the layers.

    Args:
        first, second: the networks.
        recipe, second_recipe: of the first and of the second network; default: its default recipe.
        training: what two stored networks record of their training (`models.training_facts`), to compare that, too.
    """
    networks, recipes = (first, second), (recipe or default_recipe(first), second_recipe or default_recipe(second))
    facts = [network_facts(network) | recipe_facts(its) | {**its_training}
             for network, its, its_training in zip(networks, recipes, training or ({}, {}), strict=True)]
    found = []
    for place in sorted({**facts[0], **facts[1]}, key=lambda place: _rank(place, facts)):
        where, what = place
        one, other = (side.get(place) for side in facts)
        if one and other and one.value == other.value:
            continue
        names = dict.fromkeys(_layer_name(where, network) for network, fact in zip(networks, (one, other), strict=True)
                              if fact)
        found.append(Difference(
            "/".join(names), what, (one.value if one else "-", other.value if other else "-"),
            (_source(networks[0], recipes[0], place, one, other),
             _source(networks[1], recipes[1], place, other, one))))
    return found


def _rank(place: Place, facts: list[dict[Place, Fact]]) -> tuple[int, int]:
    """Sort key: layers of one kind together, then the order of the layer's facts."""
    kinds = ("input", "conv", "norm", "pool", "average_pool", "hidden", "output", "dropout", "total", "recipe",
             "training")
    kind, number = layer_kind_and_number(place[0])
    positions = [list(side).index(place) for side in facts if place in side]
    return 100 * kinds.index(kind) + (number or 0), min(positions)


def _source(arch: Arch, recipe: Recipe, place: Place, fact: Fact | None, opposite: Fact | None) -> str:
    """The source of a fact; of an absent fact, the source that would state it."""
    topic = (fact or opposite or Fact("", "else")).topic
    if topic in ("counted", "recorded"):
        return topic
    if topic in RECIPE_TOPICS:
        # caffenet has Caffe's recipe, and solver and train_val files of its own.
        is_its_own = recipe.name == default_recipe(arch).name and "recipe" in SOURCES.get(arch.name, {})
        name = arch.name if is_its_own else recipe.name
        preset_facts = recipe_facts(RECIPES[recipe.name]) if recipe.name in RECIPES else None
    else:
        name, preset_facts = arch.name, network_facts(ARCHS[arch.name]) if arch.name in ARCHS else None
    if preset_facts is None:
        return "its own"
    value = fact and fact.value
    if _value_at(preset_facts, place) != value:
        return "--set"
    if topic not in RECIPE_TOPICS and name in BASES and (
            _value_at(network_facts(ARCHS[BASES[name]]), place) == value):
        name = BASES[name]
    topics = SOURCES[name]
    if topic in ("epochs", "batch", "schedule") and topic not in topics:
        topic = "recipe"
    return topics.get(topic, topics["else"])


def _value_at(facts: Mapping[Place, Fact], place: Place) -> str | None:
    return facts[place].value if place in facts else None


def to_json(
    networks: tuple[Arch, Arch], recipes: tuple[Recipe, Recipe], found: Sequence[Difference],
) -> dict[str, object]:
    """A comparison as JSON values: `networks`, `recipes`, `differences`.

    Args:
        networks, recipes: what was compared; of the recipes, too, the default ones.
        found: their `differences`.
    """
    return {"networks": [network.name for network in networks], "recipes": [recipe.name for recipe in recipes],
            "differences": [asdict(each) for each in found]}
