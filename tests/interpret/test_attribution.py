"""Receptive fields match gradients, top patches have the largest outputs, and attribution maps match definitions."""

import re
import sys

import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam

from alexnet._runtime.extras import install_line
from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.overrides import override
from alexnet.inference.predictor import model_from_checkpoint
from alexnet.interpret import attribution, top_patches
from alexnet.models.alexnet import AlexNet
from alexnet.reproduce.figures import attribution_maps, image_grids
from alexnet.reproduce.figures.drawing import Picture, Text
from drawings import shapes
from weight_files import saved_as

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ("input.side=32", "input.crop=28", "conv.width=16", "dense.width=32")


@pytest.fixture(scope="module")
def saved():
    return saved_as("small", *TINY)


@pytest.mark.parametrize(("preset", "settings"), [
    ("small", []), ("cifar", []), ("paper", ["conv.width=4", "dense.width=8", "dropout=0"]),
    ("code2012", ["conv.width=4", "dense.width=8"]), ("torchvision", ["conv.width=4", "dense.width=8"])])
def test_a_units_receptive_field_is_where_its_gradient_is_nonzero(preset, settings):
    """Through average pooling in place of maximum pooling, or all but the largest of a window would get none."""
    arch = override(ARCHS[preset], settings)
    network = AlexNet(arch).eval()
    for name in network.layer_names():
        layer = network.named_layer(name)
        if isinstance(layer, torch.nn.MaxPool2d):
            layer.forward = lambda x, layer=layer: torch.nn.functional.avg_pool2d(
                x, layer.kernel_size, layer.stride, ceil_mode=layer.ceil_mode)
        elif isinstance(layer, torch.nn.ReLU):
            layer.forward = lambda x: x
    crop = arch.input.crop
    for name in network.layer_names():
        if name in ("average_pool",) or name.startswith("fc"):
            break
        seen = {}
        hook = network.named_layer(name).register_forward_hook(lambda *call, seen=seen: seen.update(out=call[-1]))
        pixels = torch.rand(1, 3, crop, crop, requires_grad=True)
        network(pixels)
        hook.remove()
        row, column = (side // 2 for side in seen["out"].shape[2:])
        seen["out"][0, :, row, column].sum().backward()
        touched = pixels.grad[0].abs().sum(0) > 0
        rows, columns = touched.any(1).nonzero().flatten(), touched.any(0).nonzero().flatten()
        begin, length, jump = top_patches.receptive_field(arch, name)
        for first, last, step in ((rows[0], rows[-1], row), (columns[0], columns[-1], column)):
            assert max(0, begin + jump * step) == first, name
            assert min(crop, begin + jump * step + length) - 1 == last, name


def test_a_fully_connected_unit_sees_the_whole_view():
    for name in ("fc6", "relu6", "fc8"):
        assert top_patches.receptive_field(ARCHS["paper"], name) == (0, 224, 0)
    assert top_patches.receptive_field(ARCHS["torchvision"], "average_pool") == (0, 224, 0)


def test_top_patches_have_the_largest_of_all_outputs(saved, packed, monkeypatch):
    monkeypatch.setattr(top_patches, "BATCH_SIZE", 17)
    model, split = model_from_checkpoint(saved), packed.split("train")
    found = top_patches.find_top_patches(model, split, packed.classes, "relu2", [3, 11], count=5)
    outputs = model.features(list(split.read(np.arange(len(split)))), "relu2")
    for unit in (3, 11):
        most = outputs[:, unit].flatten(1).max(1)
        best = most.values.argsort(descending=True, stable=True)[:5]
        assert [patch.index for patch in found[unit]] == best.tolist()
        assert [patch.output for patch in found[unit]] == pytest.approx(most.values[best].tolist(), rel=1e-5)
        assert found[unit][0].label == packed.classes[split.labels[best[0]]]
        begin, length, jump = top_patches.receptive_field(saved.arch, "relu2")
        row, column = divmod(int(most.indices[best[0]]), outputs.shape[3])
        assert found[unit][0].box == (max(0, begin + jump * row), max(0, begin + jump * column),
                                      min(28, begin + jump * row + length), min(28, begin + jump * column + length))


def test_a_patch_alone_gives_the_unit_the_same_output(saved, packed):
    """What lies outside its box does not matter to it."""
    model, split = model_from_checkpoint(saved), packed.split("train")
    patch = top_patches.find_top_patches(model, split, packed.classes, "relu1", [5], count=1)[5][0]
    pixels = split.read_one(patch.index)
    top, left, bottom, right = (edge + 2 for edge in patch.box)
    alone = np.zeros_like(pixels)
    alone[top:bottom, left:right] = pixels[top:bottom, left:right]
    np.testing.assert_array_equal(top_patches.crop_patch(pixels, 28, patch.box), pixels[top:bottom, left:right])
    begin, _, jump = top_patches.receptive_field(saved.arch, "relu1")
    row, column = round((patch.box[0] - begin) / jump), round((patch.box[1] - begin) / jump)
    inside = patch.box[0] > 0 and patch.box[1] > 0
    there = model.features(alone, "relu1")[0, 5]
    assert (float(there[row, column]) if inside else float(there.max())) >= patch.output * 0.999


@pytest.mark.parametrize("layer", ["relu1", "relu3", "relu5", "relu6"])
def test_patches_of_a_layer_have_one_size_and_are_pale_beyond_the_receptive_field(saved, packed, layer):
    model, split = model_from_checkpoint(saved), packed.split("train")
    side = top_patches.receptive_field(saved.arch, layer)[1]
    strongest = top_patches.find_top_patches(model, split, packed.classes, layer)
    found = [patch for patches in strongest.values() for patch in patches]
    for patch in found:
        pixels = split.read_one(patch.index)
        square = top_patches.crop_patch(pixels, 28, patch.box, side)
        assert square.shape == (min(side, 28), min(side, 28), 3)
        top, left, bottom, right = patch.box
        y, x = min(top, 28 - len(square)), min(left, 28 - len(square))
        seen = np.zeros(square.shape[:2], bool)
        seen[top - y : bottom - y, left - x : right - x] = True
        assert seen.sum() == (bottom - top) * (right - left)
        whole = pixels[2:30, 2:30][y : y + len(square), x : x + len(square)]
        np.testing.assert_array_equal(square[seen], whole[seen])
        assert (square[~seen] >= 180).all()


def test_a_unit_that_is_zero_everywhere_has_no_patch(saved, packed):
    model = model_from_checkpoint(saved)
    model.network.named_layer("conv2").weight.data[4] = 0
    norm = model.network.named_layer("norm2")
    norm.weight.data[4], norm.bias.data[4] = 0, -1
    assert top_patches.find_top_patches(model, packed.split("val"), packed.classes, "relu2", [4])[4] == []


def test_occlusion_is_largest_at_the_pixels_that_decide_the_class(saved):
    """A network whose first class looks at one corner's brightness alone."""
    model = model_from_checkpoint(saved)
    network = model.network

    class Corner(torch.nn.Module):
        def forward(self, maps):
            bright = maps[:, :, :8, :8].mean((1, 2, 3))
            return torch.stack([bright, *[torch.zeros_like(bright)] * 6], 1)

    network.forward = lambda pixels: Corner()(network.features[:3](pixels).repeat_interleave(2, 2))
    pixels = np.full((32, 32, 3), 40, np.uint8)
    pixels[2:10, 2:10] = 250
    seen = attribution.attribute(model, pixels, label="a", layer="relu1")
    row, column = divmod(int(np.abs(seen.occlusion_HW).argmax()), 28)
    assert row < 12
    assert column < 14
    assert np.abs(seen.occlusion_HW[20:, 20:]).max() < 1e-6


def test_grad_cam_is_the_maps_weighed_by_their_mean_gradient(saved):
    model = model_from_checkpoint(saved)
    pixels = np.random.default_rng(5).integers(0, 256, (32, 32, 3), np.uint8)
    kept = []
    hook = model.network.named_layer("relu3").register_forward_hook(lambda *call: kept.append(call[-1]))
    logits = model.network(model.views(pixels))[0]
    hook.remove()
    spoken = 0
    for label, logit in zip(model.classes, logits, strict=True):
        gradient = torch.autograd.grad(logit, kept[0], retain_graph=True)[0]
        cam = (kept[0] * gradient.mean((2, 3), keepdim=True)).sum(1, keepdim=True).clamp(min=0).detach()
        expected = torch.nn.functional.interpolate(cam, (28, 28), mode="bilinear")[0, 0].numpy()
        seen = attribution.attribute(model, pixels, label=label, layer="relu3").grad_cam_HW
        np.testing.assert_allclose(seen, expected / (expected.max() or 1), rtol=1e-4, atol=1e-5)
        spoken += bool(seen.max())
    assert spoken  # for one class at least


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_guided_backpropagation_passes_positive_gradients_of_open_relus(channels):
    """By hand: gradients by the pixels with a hook at each ReLU that keeps positive ones where the output is open.

    The map is in RGB, whatever the order of the network's input.
    """
    model = model_from_checkpoint(saved_as("small", *TINY, f"input.channels={channels}"))
    pixels = np.random.default_rng(3).integers(0, 256, (32, 32, 3), np.uint8)
    seen = attribution.attribute(model, pixels)
    network = model.network
    hooks = [network.named_layer(name).register_full_backward_hook(
        lambda _, into, out: tuple(gradient.clamp(min=0) for gradient in into))
        for name in network.layer_names() if name.startswith("relu")]
    views = model.views(pixels).requires_grad_()
    network(views)[0, model.classes.index(seen.label)].backward()
    for hook in hooks:
        hook.remove()
    red_green_blue = [0, 1, 2] if channels == "RGB" else [2, 1, 0]
    expected_HWC = views.grad[0].permute(1, 2, 0)[..., red_green_blue]
    np.testing.assert_allclose(seen.guided_HWC, expected_HWC, rtol=1e-4, atol=1e-7)
    assert expected_HWC[..., 0].ne(expected_HWC[..., 2]).any()
    assert not np.allclose(seen.guided_HWC, seen.deconvnet_HWC)


def test_attribution_leaves_the_network_unchanged(saved):
    model = model_from_checkpoint(saved)
    pixels = np.random.default_rng(4).integers(0, 256, (32, 32, 3), np.uint8)
    before = model.network(model.views(pixels)).detach()
    attribution.attribute(model, pixels)
    assert torch.equal(model.network(model.views(pixels)).detach(), before)
    assert not any(module._forward_hooks or module._backward_hooks for module in model.network.modules())


def test_a_network_of_tanh_has_no_guided_gradients():
    model = model_from_checkpoint(saved_as("small", *TINY, "activation=tanh"))
    maps = attribution.attribute(model, np.zeros((32, 32, 3), np.uint8))
    assert maps.layer == "tanh5"
    assert maps.guided_HWC is None
    assert maps.deconvnet_HWC is None


def test_the_picture_of_what_an_answer_rests_on_explains_its_colors_and_stands_flush():
    heat = np.linspace(-1, 1, 64).reshape(8, 8)
    drawing = attribution_maps.attribution_figure(
        np.zeros((8, 8, 3), np.uint8), {"occlusion": heat, "Grad-CAM": heat.clip(0)},
        {"guided backpropagation": np.zeros((8, 8, 3))}, "tench, 96%")
    pictures, (title, *written) = shapes(drawing, Picture), shapes(drawing, Text)
    assert title.text == "tench, 96%"
    assert title.x == min(picture.x for picture in pictures)
    below = [text.text for text in written if text.y > pictures[0].y + pictures[0].height]
    assert below == ["against the class", "for the class", "no effect", "for the class", "gray: no effect"]
    assert [text.text for text in written if text.y < pictures[0].y] == [
        "network input", "occlusion", "Grad-CAM", "guided backpropagation"]
    keys = [picture for picture in pictures if picture.height < 10 and picture.pixels.shape[-1] == 4]
    for key, left in zip(keys, ("violet", "nothing"), strict=True):
        first, *_, last = key.pixels[0]
        assert last[0] > last[2]  # yellow
        assert (first[2] > first[1] and first[3] > 127) if left == "violet" else first[3] == 0
    assert (pictures[-1].pixels == 128).all()  # a gradient of zero is gray
    sides = {(picture.y, picture.width, picture.height) for picture in pictures if picture.height > 10}
    assert len(sides) == 1


def test_under_each_patch_stands_its_output():
    patch = np.zeros((5, 5, 3), np.uint8)
    drawing = image_grids.patch_grid({"relu1, unit 0": [(patch, "4.20"), (patch, "1.00")], "relu1, unit 1": []}, 2)
    _, *said = shapes(drawing, Text)
    assert [text.text for text in said] == ["relu1, unit 0", "4.20", "1.00", "relu1, unit 1", "zero everywhere"]
    assert said[1].y == said[2].y < said[3].y  # in one row; the next unit below it
    for label, picture in zip(said[1:3], shapes(drawing, Picture), strict=True):
        assert label.x == picture.x + picture.width / 2
        assert label.y > picture.y + picture.height


@pytest.mark.parametrize(("layer", "kind"), [("conv1", "map"), ("relu5", "map"), ("fc6", "unit"), ("fc8", "unit")])
def test_a_number_names_a_map_of_a_convolution_and_a_unit_of_a_fully_connected_layer(layer, kind):
    assert top_patches.output_kind(ARCHS["paper"], layer) == kind


@pytest.mark.parametrize("preset", ARCHS)
def test_grad_cam_equals_that_of_captum(preset):
    """Also where the caller has switched gradients off."""
    arch = override(ARCHS[preset], ["conv.width=4", "dense.width=8"])
    saved = saved_as(preset, "conv.width=4", "dense.width=8")
    model = model_from_checkpoint(saved)
    view = model.views(np.random.default_rng(7).integers(0, 256, (arch.input.side,) * 2 + (3,), np.uint8))
    layer = attribution.last_activation(arch)
    with torch.no_grad():
        seen = attribution.grad_cam(model, view, 1, layer)
    cam = LayerGradCam(model.network, model.network.named_layer(layer)).attribute(
        view, target=1, relu_attributions=True)
    expected = LayerAttribution.interpolate(cam, view.shape[2:], "bilinear")[0, 0].detach().numpy()
    np.testing.assert_allclose(seen, expected / (expected.max() or 1), rtol=1e-4, atol=1e-5)


def test_without_captum_the_remedy_is_named(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(ValueError, match=re.escape(install_line("interpret"))):
        attribution.attribute(model_from_checkpoint(saved), np.zeros((32, 32, 3), np.uint8))
