"""`alexnet explain A --diff B` lists the differences between two networks, with the source of each value."""

import io
import json
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import permutations, product
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from rich.console import Console

from alexnet.architecture.explain_diff import (
    BASES,
    SOURCES,
    Difference,
    differences,
    network_facts,
    recipe_facts,
    to_json,
)
from alexnet.architecture.network_presets import ARCHS, arch
from alexnet.architecture.overrides import override
from alexnet.architecture.preset_listing import _settings as settings_of
from alexnet.architecture.preset_listing import presets_named
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import RECIPES, default_recipe, recipe
from alexnet.cli.main import main
from alexnet.cli.render import differences_table
from alexnet.errors import UserError
from alexnet.reproduce.report.recipe_section import MEANINGS
from alexnet.reproduce.report.recipe_section import _settings as reported


def found(one: str, other: str) -> dict[tuple[str, str], Difference]:
    return {(each.where, each.what): each for each in differences(arch(one), arch(other))}


def test_paper_and_torchvision_differ_as_the_literature_says():
    apart = found("paper", "torchvision")
    expected = {
        ("conv1", "filters"): ("96, 48 on each of 2 towers", "64"),
        ("conv1", "padding"): ("0", "2"),
        ("conv1", "output side"): ("(224 - 11)/4 + 1 = 54.25, ceil 55", "(224 + 2*2 - 11)/4 + 1 = 55.25, floor 55"),
        ("conv2", "filters"): ("256, 128 on each of 2 towers", "192"),
        ("conv2", "input maps"): ("those of its own tower", "all"),
        ("conv4", "filters"): ("384, 192 on each of 2 towers", "256"),
        ("conv1", "followed by"): ("ReLU, response norm, max pooling", "ReLU, max pooling"),
        ("norm", "formula"): ("a / (2 + 0.0001 x sum of a^2) ^ 0.75, over 5 maps of its own tower", "-"),
        ("dropout", "probability"): (
            "0.5, on the outputs of the hidden layers", "0.5, on the inputs of the hidden layers"),
        ("total", "parameters"): ("60,965,224", "61,100,840"),
        ("recipe", "weight decay"): ("0.0005, with biases", "0.0001, with biases"),
        ("recipe", "batch size"): ("128", "256")}
    assert {place: apart[place].values for place in expected} == expected
    assert ("conv1", "kernel size") not in apart, "11x11x3 in both"
    assert apart["norm", "formula"].sources[0] == "§3.3"
    assert apart["dropout", "probability"].sources == ("§4.2", "torchvision, models/alexnet.py")


def test_code2012_differs_from_the_paper_only_in_the_errata():
    apart = found("paper", "code2012")
    assert apart["conv1", "followed by"].values[1] == "response norm, max pooling, ReLU"
    assert apart["conv2", "followed by"].values[1] == "ReLU, response norm, norm within maps, max pooling"
    assert apart["norm", "formula"].values[1].startswith("a / (2 + 0.0001 / 5 x sum of a^2) ^ 0.75")
    assert [apart[f"conv{number}", "initialization"].values[1] for number in (3, 4, 5)] == [
        "N(0, 0.03^2), biases 0", "N(0, 0.03^2), biases 1", "N(0, 0.03^2), biases 1"]
    assert {where for where, _ in apart} == {"conv1", "conv2", "conv3", "conv4", "conv5", "norm", "input", "recipe"}


def test_a_sixth_convolution_is_the_only_difference_of_paper_conv6():
    assert {where for where, _ in found("paper", "paper-conv6")} == {"conv6", "total"}


@pytest.mark.parametrize(("one", "other"), list(permutations(ARCHS, 2)))
def test_the_comparison_is_symmetric(one, other):
    def swapped(each: Difference) -> Difference:
        where = "/".join(reversed(each.where.split("/")))
        return Difference(where, each.what, each.values[::-1], each.sources[::-1])

    forward, backward = differences(arch(one), arch(other)), differences(arch(other), arch(one))
    assert forward, "two presets must differ"
    assert {(*swapped(each).values, swapped(each).where, swapped(each).what) for each in forward} == {
        (*each.values, each.where, each.what) for each in backward}
    for each in forward:
        assert each.values[0] != each.values[1]
        assert all(source not in ("", "its own", "--set") for source in each.sources), each


@pytest.mark.parametrize("name", ARCHS)
def test_a_network_does_not_differ_from_itself(name):
    assert not differences(arch(name), arch(name))


@pytest.mark.parametrize(("setting", "where"), [
    ("activation=tanh", "conv1"), ("norm=none", "norm"), ("lrn.k=1", "norm"), ("pool_kernel=2", "pool"),
    ("dropout=0.3", "dropout"), ("dropout_on_inputs=true", "dropout"), ("conv3.width=128", "conv3"),
    ("towers=1", "conv1"), ("conv4.grouped=false", "conv4"), ("input.crop=227", "input"),
    ("input.channels=BGR", "input"), ("conv2.init_bias=0", "conv2"), ("dense1.init_std=0.005", "fc6"),
    ("output_init_bias=-7", "fc8"), ("classes=10", "fc8"), ("input.mean=1,2,3", "input"),
    ("input.mean_crop=center", "input"),
    ("conv1.post_ops=act pool", "conv1"), ("initialization=kaiming", "conv5"), ("average_pool=6", "average_pool"),
    ("conv1.stride=3", "conv1"), ("pool_rounding=floor", "pool"), ("dense_norm=true", "fc7"),
    ("output_init_std=0.1", "fc8")])
def test_an_overridden_field_is_listed_with_source_set(setting, where):
    changed = override(arch("paper"), [setting])
    apart = [each for each in differences(changed, arch("paper")) if each.where == where]
    assert any(each.sources[0] == "--set" for each in apart)


@pytest.mark.parametrize("setting", [
    "epochs=5", "batch_size=64", "learning_rate=0.1", "momentum=0.5", "weight_decay=0", "decay_biases=false",
    "bias_lr_factor=2", "lr_in_velocity=false", "schedule=cosine", "lr_drop_count=2", "drop_factor=2", "patience=9",
    "warmup_epochs=1", "label_smoothing=0.1", "crop=resized", "mirror=false", "lighting=0",
    "lighting_scale=eigenvalues", "view_group=8", "freeze=conv1", "conv1_slow_epoch=5", "conv1_stop_epoch=9",
    "lighting_stop_epoch=5", "bias_lr_schedule=false", "lighting_rescale=true", "new_layer_lr_factor=10",
    "lars_trust=0.001", "schedule=poly", "output_decay_factor=250"])
def test_every_field_of_the_recipe_is_compared(setting):
    apart = differences(arch("paper"), arch("paper"), override(recipe("paper"), [setting]))
    assert [each.where for each in apart] == ["recipe"]
    assert apart[0].sources[0] == "--set"


def allowed_values(hint: Any) -> list[str]:
    """Values of a field's type as `--set` takes them: every one of a Literal, some of a number."""
    some = {bool: ["true", "false"], int: ["0", "1", "2", "7"], float: ["0", "0.001", "0.5", "1", "3"],
            str: ["", "conv", "conv1 fc6"]}
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    if get_origin(hint) is tuple:
        return ["[]", "1", "1,2", "[0.5,1.0]", ",".join(["1"] * 10)]
    return some[hint] if hint in some else [value for option in get_args(hint) for value in allowed_values(option)]


@pytest.mark.parametrize("field", [name for name in get_type_hints(Recipe) if name != "name"])
def test_every_field_at_every_allowed_value_is_compared_listed_and_reported(field):
    tried = 0
    for name, value in product(("small", "paper", "head"), allowed_values(get_type_hints(Recipe)[field])):
        network = arch("small" if name == "head" else name)
        try:
            chosen = override(recipe("head") if name == "head" else default_recipe(network), [f"{field}={value}"])
        except UserError:
            continue
        tried += 1
        for one, other in (("small", "paper"), ("paper", "small")):
            differences(arch(one), arch(other), chosen)
            differences(arch(one), arch(other), None, chosen)
        stated = recipe_facts(chosen)
        assert all(fact.value for fact in stated.values())
        listed = {setting.path: setting.value for setting in settings_of("recipe", chosen)}
        assert listed[f"recipe.{field}"] == json.loads(json.dumps(getattr(chosen, field)))
        shown = {key: text for key, text, _ in reported(json.loads(json.dumps(asdict(chosen))), MEANINGS)}
        assert shown[field.replace("_", " ")]
    assert tried >= 2


def test_recipe_fields_without_effect_are_not_compared():
    steps = replace(RECIPES["caffe"], patience=7, lr_drop_count=9)
    assert not differences(arch("caffe"), arch("caffe"), steps)


def test_every_preset_has_sources():
    assert {*ARCHS, *RECIPES} == set(SOURCES)


def test_the_table_lists_every_difference_and_the_legend_every_letter():
    console = Console(width=140, file=io.StringIO(), highlight=False)
    found = differences(arch("paper"), arch("torchvision"))
    console.print(differences_table(found, ("paper", "torchvision"), (recipe("paper"), recipe("torchvision")),
                                    compares_training=False))
    text = console.file.getvalue()
    for each in found:
        assert each.values[0] in text or len(each.values[0]) > 40
    assert "(224 + 2*2 - 11)/4 + 1 = 55.25, floor 55" in text
    letters = {word for word in text.split() if word.startswith("[") and word.endswith("]")}
    legend = [line.split()[0] for line in text.splitlines() if line.startswith("  [")]
    assert letters == set(legend)


def test_the_command_prints_json_and_rejects_options_without_effect(capsys):
    with pytest.raises(SystemExit):
        main(["explain", "paper", "--diff", "torchvision", "--json"])
    tree = json.loads(capsys.readouterr().out)
    assert tree["networks"] == ["paper", "torchvision"]
    networks, recipes = (arch("paper"), arch("torchvision")), (recipe("paper"), recipe("torchvision"))
    assert tree == json.loads(json.dumps(to_json(networks, recipes, differences(*networks))))
    for arguments, words in ((["--diff", "torchvison"], "did you mean torchvision?"),
                             (["--diff", "caffe", "--size", "227"], "leave out --size, --layer and --html")):
        with pytest.raises(SystemExit) as stop:
            main(["explain", "paper", *arguments])
        assert stop.value.code == 2
        assert words in capsys.readouterr().err


def test_the_comparison_does_not_import_torch():
    code = ("import sys; from alexnet.cli.main import main\n"
            "try: main(['explain', 'paper', '--diff', 'torchvision'])\n"
            "except SystemExit: pass\n"
            "assert 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(("one", "other", "what", "source"), [
    ("paper", "caffe", "schedule", "§5 (3 epochs: this project)"),  # §5 gives no number of epochs
    ("paper", "caffe", "momentum", None),
    # layer-params-18pct has "120 epochs" and "10 more"; 70,000 steps of 100 images are Caffe's (cifar10_full).
    ("cifar-18pct", "paper", "epochs", "caffe, examples/cifar10/cifar10_full"),
    ("cifar-18pct", "paper", "crop", "caffe, examples/cifar10/cifar10_full"),
    ("cifar-18pct", "paper", "schedule", "cuda-convnet, layer-params-18pct"),
    ("caffe", "paper", "schedule", "bvlc_alexnet/solver.prototxt"),
    ("caffenet", "paper", "schedule", "bvlc_reference_caffenet/solver.prototxt"),
    ("caffenet", "paper", "batch size", "bvlc_reference_caffenet/solver.prototxt"),
    ("caffenet", "paper", "PCA color noise", "bvlc_reference_caffenet/train_val.prototxt")])
def test_a_recipe_cites_the_file_that_has_the_number(one, other, what, source):
    apart = found(one, other)
    assert apart["recipe", what].sources[0] == source if source else ("recipe", what) not in apart


def test_the_list_of_settings_names_the_same_sources_as_the_differences():
    sources = {preset.kind: preset.source for preset in presets_named("paper")}
    assert sources["recipe"] == "§5 (3 epochs: this project)"
    assert "caffe, examples/cifar10/cifar10_full" in {
        preset.kind: preset.source for preset in presets_named("cifar-18pct")}["recipe"]


OWN = "this project: §3.5's widths in one tower"


def test_every_value_of_one_gpu_has_its_own_source():
    """§3.5 has the widths, split over two GPUs; §3.2's network on one GPU is another one, with half the kernels."""
    apart = {(each.where, each.what): each for each in differences(ARCHS["one-gpu"], ARCHS["paper"])}
    assert {place: each.sources for place, each in apart.items()} == {
        **{(f"conv{number}", "filters"): (OWN, "§3.5") for number in range(1, 6)},
        **{(f"conv{number}", what): (OWN, "§3.5") for number in (2, 4, 5) for what in ("kernel size", "input maps")},
        ("norm", "formula"): ("§3.3", "§3.3"),
        ("total", "parameters"): ("counted", "counted"), ("total", "multiply-adds"): ("counted", "counted")}
    caffe = {(each.where, each.what): each.sources[0] for each in differences(ARCHS["one-gpu"], ARCHS["caffe"])}
    assert caffe["input", "crop"] == "§2, §4.1"
    assert caffe["fc6", "initialization"] == "§5"


@pytest.mark.parametrize("name", BASES)
def test_a_changed_network_has_the_sources_of_its_base_where_it_is_the_same(name):
    base = ARCHS[BASES[name]]
    same = network_facts(ARCHS[name]).items() & network_facts(base).items()
    for other in ARCHS.values():
        own = {(each.where, each.what): each.sources[0] for each in differences(ARCHS[name], other)}
        its = {(each.where, each.what): each.sources[0] for each in differences(base, other)}
        for place, _ in same:
            if place in own and place in its and place[0] != "recipe":
                assert own[place] == its[place], (other.name, place)


def test_no_source_is_a_network_of_this_project():
    """The paper is named by its sections, torchvision by its files; only the 2012 code is a source under its name."""
    sources = {source for topics in SOURCES.values() for source in topics.values()}
    assert sources & {*ARCHS, *RECIPES} == {"code2012"}
