"""A model predicts, gives features, and works with hooks and captum, in every preset."""

import io

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import alexnet
from alexnet.architecture.arithmetic import explain
from alexnet.architecture.network_presets import ARCHS
from alexnet.data.images import BadImage
from alexnet.inference.predictor import Model
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.formats.huggingface import write_huggingface
from command_line import alexnet as command
from weight_files import narrow

pytestmark = pytest.mark.usefixtures("one_thread")

def model_of(saved) -> Model:
    return Model(saved.network(), saved.preprocess(), saved.classes)


@pytest.fixture(scope="module")
def saved():
    return narrow("paper")


@pytest.fixture(scope="module")
def run(saved, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    checkpoint.save(saved, folder / "best")
    return folder


@pytest.fixture
def photo(tmp_path):
    """An image of 300 x 260 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (13, 15, 3), np.uint8).repeat(20, 0).repeat(20, 1)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def by_hand(saved, pixels_HWC: np.ndarray) -> torch.Tensor:
    """The network's input, from an image of the stored side: the middle, minus the mean, as torch wants it."""
    spec = saved.arch.input
    cut = slice((spec.side - spec.crop) // 2, (spec.side - spec.crop) // 2 + spec.crop)
    mean = np.broadcast_to(saved.mean_HWC.numpy(), pixels_HWC.shape)
    x = (pixels_HWC.astype(np.float32) - mean)[cut, cut] / np.array(spec.scale, np.float32)
    x = x[..., ::-1] if spec.channels == "BGR" else x
    return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)))[None]


# --- Loading ----------------------------------------------------------------------------------------------------------


def test_five_lines_classify_an_image_and_give_its_features(run, photo):
    model = alexnet.load(run)
    guess = model.predict(photo)[0][0]
    fc7 = model.features(photo, "fc7")
    assert (guess.name in model.classes, 0 < guess.probability < 1, fc7.shape) == (True, True, (1, 32))


def test_a_run_a_checkpoint_and_a_hub_folder_load_alike(saved, run, photo, tmp_path):
    write_huggingface(saved, tmp_path / "hub")
    expected = model_of(saved).predict(photo)
    for place in (run, str(run), run / "best", run / "best" / "checkpoint.json", tmp_path / "hub"):
        model = alexnet.load(place)
        assert model.predict(photo) == expected
        assert not model.network.training
        assert model.preprocess.spec == saved.arch.input


def test_a_network_is_printed_in_one_line(run):
    assert repr(alexnet.load(run)).endswith(f"pixels, from {run / 'best'}>")
    assert "\n" not in repr(alexnet.load(run))


@pytest.mark.parametrize("name", ["paper", "caffe", "torchvision", "small"])
def test_an_image_is_preprocessed_as_the_preset_requires(name):
    """A mean image, blue first, given mean and scale, mean color."""
    saved = narrow(name)
    side = saved.arch.input.side
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    model = model_of(saved)
    torch.testing.assert_close(model.views(pixels), by_hand(saved, pixels), rtol=1e-6, atol=1e-5)
    with torch.inference_mode():
        expected = saved.network()(by_hand(saved, pixels)).softmax(1)[0]
    for guess in model.predict(pixels, top=7)[0]:
        assert guess.probability == pytest.approx(expected["abcdefg".index(guess.name)].item(), abs=1e-6)


# --- Predicting -------------------------------------------------------------------------------------------------------


def test_paths_bytes_and_arrays_one_or_many_are_the_same_image(saved, photo):
    model = model_of(saved)
    pixels = np.array(Image.open(photo))
    once = model.predict(photo)
    forms = [str(photo), photo.read_bytes(), pixels, [photo], (photo,), iter([pixels])]
    assert [model.predict(form) for form in forms] == [once] * 6
    both = model.predict([photo, pixels[:, ::-1]])
    assert [len(guesses) for guesses in both] == [5, 5]
    assert [guess.name for guess in both[0]] == [guess.name for guess in once[0]]
    assert both[0] != both[1]
    assert model.predict([]) == model.predict([], views=10) == []
    assert model.features([], "fc6").shape == (0, 32)
    assert model.views([]).shape == (0, 3, 224, 224)


def test_predictions_are_ranked_and_as_many_as_requested(saved, photo):
    model = model_of(saved)
    probabilities = [guess.probability for guess in model.predict(photo, top=99)[0]]
    assert len(probabilities) == 7
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-6)
    assert model.predict(photo, top=2)[0] == model.predict(photo, top=99)[0][:2]


def test_ten_views_are_averaged(saved, photo):
    """Corners, center and mirror images, cut out by hand."""
    model = model_of(saved)
    pixels, spec = model.pixels(photo), saved.arch.input
    less_mean, last = pixels.astype(np.float32) - saved.mean_HWC.numpy(), spec.side - spec.crop
    views = [less_mean[top:top + spec.crop, left:left + spec.crop] for top, left in (
        (0, 0), (0, last), (last, 0), (last, last), (last // 2, last // 2))]
    batch = np.stack([*views, *(view[:, ::-1] for view in views)]).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        expected = saved.network()(torch.from_numpy(batch.copy())).softmax(1).mean(0)
    for guess in model.predict(photo, top=7, views=10)[0]:
        assert guess.probability == pytest.approx(expected["abcdefg".index(guess.name)].item(), abs=1e-6)
    assert model.predict(photo, views=10) != model.predict(photo, views=1)


@pytest.mark.parametrize("views", [1, 10])
def test_many_images_are_predicted_once_each_in_small_batches(views):
    model = model_of(narrow("cifar"))
    photos = list(np.random.default_rng(4).integers(0, 256, (150, 32, 32, 3), np.uint8))
    local_rank0_first = [model.predict(photo, views=views)[0] for photo in photos]
    features = torch.cat([model.features(photo) for photo in photos])
    sizes = []
    model.network.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    for guesses, expected in zip(model.predict(iter(photos), views=views), local_rank0_first, strict=True):
        assert [guess.name for guess in guesses] == [guess.name for guess in expected]
        assert guesses[0].probability == pytest.approx(expected[0].probability, abs=1e-5)
    torch.testing.assert_close(model.features(iter(photos)), features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.views(photos), torch.cat([model.views(photo) for photo in photos]))
    assert max(sizes) <= 64


# --- Features and hooks -----------------------------------------------------------------------------------------------


def layer_by_layer(network: AlexNet, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every layer's output, by walking through the modules by hand."""
    outputs = {}
    names = iter(network.layer_names())
    for module in network.features:
        x = module(x)
        outputs[next(names)] = x
    if network.arch.average_pool:
        x = network.avgpool(x)
        outputs[next(names)] = x
    x = x.flatten(1)
    for module in network.classifier:
        x = module(x)
        outputs[next(names)] = x
    assert next(names, None) is None
    return outputs


@pytest.mark.parametrize("name", ARCHS)
def test_every_layer_of_every_preset_gives_its_features(name):
    saved = narrow(name)
    model, side = model_of(saved), saved.arch.input.side
    pixels = np.random.default_rng(2).integers(0, 256, (2, side, side, 3), np.uint8)
    with torch.inference_mode():
        expected = layer_by_layer(saved.network(), torch.cat([by_hand(saved, photo) for photo in pixels]))
    shapes = {layer.name: layer.output_shape for layer in explain(saved.arch).layers}
    assert list(expected) == list(shapes)
    for layer, output in expected.items():
        got = model.features(list(pixels), layer)
        torch.testing.assert_close(got, output, rtol=1e-4, atol=1e-4 * output.abs().max().item())
        assert got.shape == (2, *shapes[layer])
    assert not [module for module in model.network.modules() if module._forward_hooks], "a hook was left behind"


def test_fc6_and_fc7_are_matrix_products_of_their_inputs(saved, photo):
    """The paper's classifier written out: fc6, ReLU, fc7, with no dropout at test."""
    model = model_of(saved)
    state = saved.weights
    pool5 = model.features(photo, "pool5").flatten(1)
    fc6 = pool5 @ state["classifier.fc6.weight"].T + state["classifier.fc6.bias"]
    fc7 = F.relu(fc6) @ state["classifier.fc7.weight"].T + state["classifier.fc7.bias"]
    torch.testing.assert_close(model.features(photo, "fc6"), fc6, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.features(photo, "fc7"), fc7, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.features(photo), F.relu(fc7), rtol=1e-4, atol=1e-5)
    assert torch.equal(model.features(photo, "dropout7"), model.features(photo, "relu7"))


@pytest.mark.parametrize(("name", "layer"), [("paper", "relu7"), ("paper-conv6", "relu8"), ("small", "relu6"),
                                             ("cifar", "relu3")])
def test_by_default_features_are_the_last_hidden_activations(name, layer):
    saved = narrow(name)
    pixels = np.full((saved.arch.input.side,) * 2 + (3,), 77, np.uint8)
    assert torch.equal(model_of(saved).features(pixels), model_of(saved).features(pixels, layer))


def test_features_can_be_kept_and_used_for_training(saved, photo):
    features = model_of(saved).features([photo] * 3)
    head = torch.nn.Linear(32, 2)
    head(features).sum().backward()
    assert head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ARCHS)
def test_grad_cam_and_guided_backpropagation_by_captum_work(name):
    saved = narrow(name)
    model, side = model_of(saved), saved.arch.input.side
    pixels = np.random.default_rng(3).integers(0, 256, (2, side, side, 3), np.uint8)
    views = model.views(list(pixels)).requires_grad_()
    last = f"conv{len(saved.arch.conv)}"
    layer = model.network.named_layer(last)
    cam = captum.attr.LayerGradCam(model.network, layer).attribute(views, target=3)
    # Selvaraju et al. 2017, equations 1 and 2 without the ReLU: maps weighted by their mean gradients.
    seen = []
    hook = layer.register_forward_hook(lambda module, given, output: seen.append(output))
    logits = model.network(views)
    hook.remove()
    gradients = torch.autograd.grad(logits[:, 3].sum(), seen[0])[0]
    by_hand = (gradients.mean((2, 3), keepdim=True) * seen[0]).sum(1, keepdim=True)
    torch.testing.assert_close(cam, by_hand)
    shapes = {layer.name: layer.output_shape for layer in explain(saved.arch).layers}
    assert cam.shape == (2, 1, *shapes[last][1:])
    assert cam.abs().max() > 0
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU"):  # captum always says so
        guided = captum.attr.GuidedBackprop(model.network).attribute(views, target=3)
    assert guided.shape == views.shape
    assert guided.abs().max() > 0


def test_grad_cam_finds_the_corner_that_the_class_depends_on():
    """A class made to depend on one unit of the last maps: the heat lies there and nowhere else."""
    saved = narrow("cifar", "input.mean=0,0,0")
    weight = saved.weights["classifier.fc4.weight"].zero_().reshape(7, 16, 3, 3)
    weight[2, :, 0, 2] = 1.0
    model = model_of(saved)
    views = model.views(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).requires_grad_()
    conv3 = model.network.named_layer("conv3")
    heat = captum.attr.LayerGradientXActivation(model.network, conv3).attribute(views, target=2)[0].sum(0).abs()
    assert heat.sum() > 0
    assert heat.count_nonzero() == heat[:3, 4:].count_nonzero()


# --- Mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("photo", "words"), [
    (np.zeros((8, 8, 3), np.float32), r"shape \[8, 8, 3\] and type float32 is not uint8 \[height, width, 3\]"),
    (np.zeros((8, 8), np.uint8), r"shape \[8, 8\] and type uint8 is not"),
    (np.zeros((8, 8, 4), np.uint8), r"shape \[8, 8, 4\]"),
    (np.zeros((2, 8, 8, 3), np.uint8), r"shape \[2, 8, 8, 3\]"),
    (np.zeros((0, 8, 3), np.uint8), "8 x 0 pixels is empty"),
    (Image.new("RGB", (8, 8)), "of type Image; give the path or the bytes of its file"),
    (torch.zeros(2, 8, 8, 3), "of type Tensor"),
    (None, "of type NoneType"), (7, "of type int"), ([None], "of type NoneType")])
def test_an_argument_that_is_no_image_is_rejected_with_its_type(saved, photo, words):
    for ask in (model_of(saved).predict, model_of(saved).features):
        with pytest.raises(ValueError, match=words):
            ask(photo)


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_a_broken_image_is_named(saved, data, tmp_path):
    (tmp_path / "broken.png").write_bytes(data)
    with pytest.raises(BadImage, match=r"broken\.png cannot be decoded"):
        model_of(saved).predict(tmp_path / "broken.png")
    with pytest.raises(BadImage, match="image cannot be decoded"):
        model_of(saved).predict(data)


def test_a_truncated_image_is_named(saved, photo, tmp_path):
    file = io.BytesIO()
    Image.open(photo).save(file, "JPEG")
    (tmp_path / "half.jpg").write_bytes(file.getvalue()[:-2000])
    with pytest.raises(BadImage, match=r"half\.jpg cannot be decoded"):
        model_of(saved).features(tmp_path / "half.jpg")


@pytest.mark.parametrize(("settings", "words"), [
    ({"top": 0}, "top 0 must be at least 1"), ({"top": -1}, "top -1 must be at least 1"),
    ({"views": 3}, "views 3 must be 1 or 10"), ({"views": 0}, "views 0 must be 1 or 10")])
def test_top_and_views_out_of_range_are_rejected(saved, photo, settings, words):
    with pytest.raises(ValueError, match=words):
        model_of(saved).predict(photo, **settings)


def test_an_unknown_layer_suggests_the_closest(saved, photo):
    with pytest.raises(ValueError, match=r"paper has no layer 'fc66'; did you mean fc6\?"):
        model_of(saved).features(photo, "fc66")


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_a_device_that_is_absent_is_one_sentence_on_the_command_line(run, photo, device, capsys):
    assert command("predict", run, photo, "--device", device) == 2
    assert "Traceback" not in capsys.readouterr().err
