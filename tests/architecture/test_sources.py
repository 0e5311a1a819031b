"""Presets against the files that they are named after: each number is typed from the source, which is cited."""

import json
from dataclasses import asdict

import pytest

from alexnet.architecture.arithmetic import explain
from alexnet.architecture.explain_diff import differences
from alexnet.architecture.network_presets import ABOUT_ARCHS, ARCHS, arch
from alexnet.architecture.overrides import override
from alexnet.architecture.preset_listing import presets_named
from alexnet.architecture.recipe_presets import RECIPES, default_recipe, recipe
from alexnet.cli.settings_table import settings_text
from alexnet.errors import UserError
from alexnet.training.schedule import learning_rate

# --- layers-146-2012-2011.cfg of computerhistory/AlexNet-Source-Code, `1 CNN*` of Table 2 -----------------------------


def test_conv6_is_that_of_layers_146():
    *five, conv6 = arch("paper-conv6").conv
    assert tuple(five) == arch("paper").conv
    # [conv6a] and [conv6b]: filters=128,128 inputs=pool3a,pool3b filterSize=3,3 padding=1,1 stride=1,1
    assert (conv6.width, conv6.kernel, conv6.padding, conv6.stride) == (2 * 128, 3, 1, 1)
    assert not conv6.grouped, "each half reads pool3a and pool3b"
    assert conv6.init_std == 0.03  # initW=0.03,0.03
    assert conv6.init_bias == 1  # initB=1
    assert conv6.post_ops == "act"  # neuron=relu, and fc2048a has inputs=conv6a,conv6b


def test_paper_conv6_has_61_555_304_parameters():
    explanation = explain(arch("paper-conv6"))
    assert explanation.parameters == 60_965_224 + 256 * (256 * 9 + 1) == 61_555_304
    layer = next(each for each in explanation.layers if each.name == "conv6")
    assert layer.groups == 1
    assert layer.output_shape == (256, 6, 6)
    assert layer.notes == ("both towers read all 256 maps: the GPUs exchange them here",)


def test_conv6_names_its_source():
    apart = {(each.where, each.what): each for each in differences(arch("paper"), arch("paper-conv6"))}
    assert apart["conv6", "initialization"].values[1] == "N(0, 0.03^2), biases 1"
    assert apart["conv6", "input maps"].values[1] == "all"
    assert "layers-146-2012-2011" in apart["conv6", "filters"].sources[1]


# --- layers-18pct.cfg and layer-params-18pct.cfg of cuda-convnet ------------------------------------------------------


def test_cifar_18pct_has_the_layers_of_its_file():
    network = arch("cifar-18pct")
    # filters, filterSize, padding, stride, initW of [conv1], [conv2], [conv3]
    assert [(conv.width, conv.kernel, conv.padding, conv.stride, conv.init_std) for conv in network.conv] == [
        (32, 5, 2, 1, 0.0001), (32, 5, 2, 1, 0.01), (64, 5, 2, 1, 0.01)]
    assert {conv.init_bias for conv in network.conv} == {0}  # no initB
    # [pool1] pool=max, [rnorm1], [pool2] pool=avg, [rnorm2], [pool3] pool=avg, each with sizeX=3 stride=2
    assert [conv.post_ops for conv in network.conv] == ["act pool mapnorm", "act avgpool mapnorm", "act avgpool"]
    assert (network.pool_kernel, network.pool_stride) == (3, 2)
    assert (network.map_lrn.side, network.map_lrn.alpha, network.map_lrn.beta) == (3, 0.00005, 0.75)
    # [fc10] outputs=10 initW=0.01 after pool3, without a hidden layer or dropout
    assert (network.dense, network.classes, network.output_init_std, network.dropout) == ((), 10, 0.01, 0)
    assert (network.input.side, network.input.crop, network.input.mean) == (32, 32, "pixel")
    assert network.input.scale == (1, 1, 1)


def test_cifar_18pct_has_the_sizes_that_cuda_convnet_computes():
    explanation = explain(arch("cifar-18pct"))
    sizes = {layer.name: layer.output_shape for layer in explanation.layers}
    # layer.py: outputsX = ceil((imgSize - start - sizeX) / stride) + 1
    assert [sizes[name] for name in ("pool1", "pool2", "pool3")] == [(32, 16, 16), (32, 8, 8), (64, 4, 4)]
    assert explanation.parameters == 32 * 76 + 32 * 801 + 64 * 801 + 10 * 1025 == 89_578
    kinds = {layer.name: layer.kind for layer in explanation.layers}
    assert [kinds[name] for name in ("pool1", "pool2", "pool3")] == [
        "max pooling", "average pooling", "average pooling"]
    assert kinds["mapnorm2"] == "normalization within a map, 3x3"


def test_cifar_18pct_is_trained_by_its_file():
    chosen = recipe("cifar-18pct")
    assert default_recipe(arch("cifar-18pct")) == chosen
    # epsW=0.001 epsB=0.002 momW=0.9 momB=0.9 wc=0.004, and wc=1 in [fc10]; convnet.py: --mini=128
    assert (chosen.learning_rate, chosen.bias_lr_factor, chosen.momentum, chosen.weight_decay) == (
        0.001, 2, 0.9, 0.004)
    assert chosen.weight_decay * chosen.output_decay_factor == 1
    assert not chosen.decay_biases
    assert chosen.batch_size == 128
    assert chosen.lr_in_velocity
    # "factor of 10 after 120 epochs. Then another factor of 10 after 10 more epochs."
    rates = [learning_rate(chosen, epoch) for epoch in (0, 119.9, 120, 129.9, 130, 139.9)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])
    assert chosen.epochs == 140  # BVLC/caffe, cifar10_full_solver_lr2.prototxt: max_iter 70000 of 100 images
    # cifar10_full_train_test.prototxt: no crop_size and no mirror, whole images minus the mean of each pixel
    assert (chosen.crop, chosen.mirror, chosen.lighting) == ("center", False, 0)
    assert not chosen.trivial_augment


def test_cifar_is_not_credited_to_anyone_else():
    assert "of our making" in ABOUT_ARCHS["cifar"]
    assert {preset.source for preset in presets_named("cifar")} == {"this project, after Figure 1 and layers-18pct"}


# --- Caffe's guide, examples/imagenet/readme.md: convert -resize 256x256\! --------------------------------------------


def test_the_list_says_that_caffe_squashes_images():
    (network, _) = presets_named("caffe")
    assert "squashes images to 256x256" in network.about
    assert (arch("caffe").input.side, arch("caffe").input.crop) == (256, 227)


# --- The list of every preset -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", {**ARCHS, **RECIPES})
def test_every_preset_is_listed_with_all_its_settings(name):
    presets = presets_named(name)
    text = settings_text(presets)
    for preset in presets:
        for setting in preset.settings:
            assert isinstance(setting.value, int | float | str | list), setting
            assert isinstance(setting.default, int | float | str | list | None), setting
            assert setting.path.rpartition(".")[2] in text
    json.dumps([asdict(preset) for preset in presets])


# --- Rules of the new fields ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("setting", "words"), [
    ("conv1.post_ops=act pool avgpool", "has two poolings"), ("map_lrn.side=4", "a window of side 4 has no middle"),
    ("map_lrn.side=0", "a window of side 0 has no middle"), ("conv1.post_ops=act averagepool", "unknown operation")])
def test_impossible_poolings_and_norms_are_refused(setting, words):
    with pytest.raises(UserError) as refused:
        override(arch("paper"), [setting])
    assert words in str(refused.value)


def test_the_output_layers_decay_factor_is_checked():
    with pytest.raises(UserError, match=r"output_decay_factor -1\.0 must be at least 0"):
        override(recipe("paper"), ["output_decay_factor=-1"])
    with pytest.raises(UserError, match=r"must be 1\.0 with the optimizer lbfgs"):
        override(recipe("head"), ["output_decay_factor=250"])


def test_norms_within_maps_and_average_pooling_are_compared():
    changed = override(arch("code2012"), ["map_lrn.side=3", "conv5.post_ops=act avgpool"])
    apart = {(each.where, each.what): each for each in differences(arch("code2012"), changed)}
    assert apart["norm", "within maps"].values == (
        "a / (1 + 0.001 / 25 x sum of a^2) ^ 0.75, over 5x5 places",
        "a / (1 + 0.001 / 9 x sum of a^2) ^ 0.75, over 3x3 places")
    assert apart["conv5", "followed by"].values == ("ReLU, max pooling", "ReLU, average pooling")
