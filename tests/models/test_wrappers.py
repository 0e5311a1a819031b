"""A network inside a wrapper, or in training mode, predicts as the network itself does in evaluation mode."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import alexnet
from alexnet.inference.evaluate import evaluate
from alexnet.models.wrappers import evaluation_mode, unwrapped

pytestmark = pytest.mark.usefixtures("one_thread")

WRAPPERS = {
    "compile": lambda network: torch.compile(network, backend="eager"),
    "DataParallel": nn.DataParallel,
    "AveragedModel": AveragedModel,
    "both": lambda network: nn.DataParallel(torch.compile(network, backend="eager")),
}


@pytest.fixture
def model(trained):
    return alexnet.load(trained)


@pytest.fixture(scope="module")
def pixels(packed):
    return list(packed.split("val").read(np.arange(6)))


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_ten_views_of_a_wrapped_network_have_their_own_temperature(model, packed, pixels, wrap):
    """The mean of softmax(logits / 3), written out; the temperature of one view is 2."""
    network = model.network
    images = torch.from_numpy(np.stack(pixels))
    with torch.inference_mode():
        logits_NVK = network(model.preprocess.ten_views(images).flatten(0, 1)).unflatten(0, (6, 10))
    expected = {1: model.network(model.preprocess(images)).div(2).softmax(-1), 10: (logits_NVK / 3).softmax(-1).mean(1)}
    network.temperature, network.ten_view_temperature = 2.0, 3.0
    plain = alexnet.evaluate(model, packed.path, views=10, progress=False)
    features = model.features(pixels)
    model.network = wrap(network)
    assert (model.temperature(1), model.temperature(10), model.has_ten_view_temperature) == (2.0, 3.0, True)
    for views, outputs_NK in expected.items():
        for guesses, row_K in zip(model.predict(pixels, views=views), outputs_NK, strict=True):
            found = {guess.name: guess.probability for guess in guesses}
            assert [found[name] for name in model.classes] == pytest.approx(row_K.tolist(), abs=1e-5)
    assert torch.equal(model.features(pixels), features)
    wrapped = alexnet.evaluate(model, packed.path, views=10, progress=False)
    assert wrapped.loss == pytest.approx(plain.loss, abs=1e-5)
    assert wrapped.measurement["models"] == plain.measurement["models"]  # the same SHA-256
    assert wrapped.measurement["temperatures"] == [3.0]


def test_the_network_itself_is_inside_no_wrapper(model):
    assert unwrapped(model.network) is model.network
    assert unwrapped(WRAPPERS["both"](model.network)) is model.network
    assert isinstance(unwrapped(nn.Sequential(model.network)), nn.Sequential)  # more than a wrapper


def test_a_network_in_training_mode_predicts_as_in_evaluation_mode_and_learns_nothing(model, packed, pixels):
    """With dropout and batch normalization it would answer at random, and take on the mean of these images."""
    expected = model.predict(pixels), model.predict(pixels, views=10), model.features(pixels)
    state = copy.deepcopy(model.network.state_dict())
    model.network.train()
    assert model.predict(pixels) == expected[0]
    assert model.predict(pixels, views=10) == expected[1]
    assert torch.equal(model.features(pixels), expected[2])
    assert model.predict(pixels[0])[0][0].name == expected[0][0][0].name  # one image has no variance
    alexnet.features(packed.path, model=model, split="val", progress=False)
    assert all(torch.equal(value, state[name]) for name, value in model.network.state_dict().items())
    assert model.network.training


def test_each_layer_is_left_in_the_mode_that_the_user_gave_it(model, packed):
    """Batch normalization that is frozen while the rest is fine-tuned stays frozen."""
    network = model.network.train()
    frozen = network.named_layer("norm1").eval()
    before = {name: module.training for name, module in network.named_modules()}
    model.predict(np.zeros((32, 32, 3), np.uint8))
    evaluate([(network, model.preprocess)], packed.split("val"))
    assert {name: module.training for name, module in network.named_modules()} == before
    assert network.training
    assert not frozen.training
    with pytest.raises(RuntimeError), evaluation_mode([network]):
        _fail_in_evaluation_mode(network)
    assert {name: module.training for name, module in network.named_modules()} == before


def _fail_in_evaluation_mode(network):
    assert not any(module.training for module in network.modules())
    raise RuntimeError
