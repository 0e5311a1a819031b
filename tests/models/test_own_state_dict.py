"""A plain state dict of this package's layer names is loaded, and everything that it does not say is told or asked."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import alexnet
from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.models import checkpoint
from alexnet.models.formats.open_weights import open_weights
from command_line import alexnet as command
from weight_files import saved_as, write

SMALL_UNITS = f"dense.width={arch('small').dense[0].width}"
IMAGENET_MEAN = [123.675, 116.28, 103.53]  # 255 times torchvision's (0.485, 0.456, 0.406)


@pytest.fixture
def images():
    return list(np.random.default_rng(7).integers(0, 256, (3, 40, 50, 3), np.uint8))


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"epoch": 3, "model": {
    f"module.{key}": tensor for key, tensor in state.items()}}], ids=["plain", "as scripts save it"])
def test_the_preset_whose_tensors_have_the_same_shapes_is_assumed_aloud(wrap, images, tmp_path):
    saved = replace(saved_as("small", SMALL_UNITS), mean_HWC=torch.tensor(IMAGENET_MEAN).reshape(1, 1, 3))
    path = write(wrap(saved.network().state_dict()), tmp_path / "net.pth")
    with pytest.warns(UserWarning, match="is assumed") as warned:
        model = alexnet.load(path, classes=list("abcdefg"))
    assert [str(each.message) for each in warned] == [f"{path}: {note}" for note in model.notes]
    expected = alexnet.Model(saved.network(), saved.preprocess(), saved.classes).predict(images)
    assert [[(p.name, pytest.approx(p.probability, abs=1e-6)) for p in row] for row in expected] == [
        [(p.name, p.probability) for p in row] for row in model.predict(images)]
    assert model.notes == (
        "the file does not say its network: small is assumed, whose tensors have these shapes, with 56x56 crops of "
        "images of 64 pixels",
        "the file has no mean: ImageNet's mean color (123.7, 116.3, 103.5) is assumed; a checkpoint folder has the "
        "mean that the network was trained with")
    assert not model.seen.trained.size
    assert model.seen.unknown == ("the weights in net.pth",)


def test_where_several_networks_have_these_shapes_the_user_must_say_which(tmp_path, capsys):
    state = alexnet.AlexNet(arch("paper"), seed=None).state_dict()  # a model of 61 million parameters
    path = write({key: tensor.to(torch.float16).zero_() for key, tensor in state.items()}, tmp_path / "net.pth")
    with pytest.raises(alexnet.UserError, match="fit paper, code2012, code2010, caffe, caffenet; say which"):
        alexnet.load(path)
    with pytest.warns(UserWarning, match="has no class names|has no mean") as warned:
        assert alexnet.load(path, arch="caffe").network.arch.input.crop == 227
    assert ["has no class names" in str(each.message) for each in warned] == [True, False]
    assert "ImageNet's mean color (123.7, 116.3, 103.5) is assumed" in str(warned[1].message)
    assert command("import", path, tmp_path / "out") == 2
    assert "--arch paper" in capsys.readouterr().err
    assert command("import", path, tmp_path / "out", "--arch", "paper") == 0
    assert checkpoint.load(tmp_path / "out").arch.name == "paper"
    assert "note: the file has no mean" in capsys.readouterr().err


def test_a_named_preset_gets_the_files_widths_and_kernels(tmp_path):
    saved = saved_as("small", "conv.width=16", "conv1.kernel=5", "dense.width=32")
    path = write(saved.network().state_dict(), tmp_path / "net.pth")
    with pytest.raises(alexnet.UserError, match=r"the shapes of none of its networks \(features.conv1.weight is 16x"):
        open_weights(path)
    found = open_weights(path, arch="small").arch
    assert (found.conv[0].width, found.conv[0].kernel, found.dense[0].width, found.classes) == (16, 5, 32, 7)
    exact = override(saved.arch, ["input.crop=48", "input.mean=1,2,3"])
    assert open_weights(path, arch=exact).arch.input.crop == 48
    assert open_weights(path, arch=exact).mean_HWC.flatten().tolist() == [1, 2, 3]


def test_the_mean_of_a_checkpoints_tensor_file_is_used(tmp_path):
    saved = saved_as("cifar", "conv.width=32", "dense.width=64")
    checkpoint.save(saved, tmp_path / "run")
    file = next((tmp_path / "run").glob("weights-*.safetensors"))
    alone = file.rename(tmp_path / "alone.safetensors")
    assert torch.equal(open_weights(alone, arch=saved.arch).mean_HWC, saved.mean_HWC)


@pytest.mark.parametrize(("make", "arguments", "words"), [
    (lambda state: {k: v for k, v in state.items() if k != "features.conv3.bias"}, {"arch": "small"},
     "has no features.conv3.bias, which small needs"),
    (lambda state: state, {"arch": "smal"}, "there is no network 'smal'; did you mean small"),
    (lambda state: state, {"classes": ["a", "b"]}, "7"),
])
def test_a_wrong_file_or_argument_is_one_sentence(make, arguments, words, tmp_path):
    path = write(make(saved_as("small", SMALL_UNITS).network().state_dict()), tmp_path / "net.pth")
    with pytest.raises(alexnet.UserError, match=words):
        alexnet.load(path, **arguments)


def test_weights_that_say_their_network_take_no_arch(tmp_path, capsys):
    with pytest.raises(alexnet.UserError, match="pretrained states its own network"):
        alexnet.load("pretrained", arch="small")


def test_a_network_of_another_crop_is_imported_with_its_sizes(tmp_path, capsys):
    """small at crops of 28: conv1 14, pool1 7, pool2 3, pool5 1, so fc6 has 128 inputs; at 56 it has 128 x 3 x 3."""
    own = override(arch("small"), ["input.side=32", "input.crop=28", "classes=10"])
    state = alexnet.AlexNet(own, seed=0).state_dict()
    assert state["classifier.fc6.weight"].shape == (256, 128)
    path = write(state, tmp_path / "own.pth")
    assert command("import", path, tmp_path / "out") == 2
    assert "--arch small, with --side and --crop if they are not that network's" in capsys.readouterr().err
    assert command("import", path, tmp_path / "out", "--arch", "small") == 2
    error = capsys.readouterr().err
    assert "classifier.fc6.weight is 256x128, and small with 10 classes and crops of 56x56 has 256x1152 there" in error
    low, high = map(int, re.search(r"crops of (\d+) to (\d+) pixels fit: say which it had, as in", error).groups())
    assert low <= 28 <= high < 56
    assert command("import", path, tmp_path / "high", "--arch", "small", "--side", high, "--crop", high) == 0
    assert command("import", path, tmp_path / "none", "--arch", "small", "--crop", high + 1) == 2
    capsys.readouterr()
    assert "another network" not in error
    assert not (tmp_path / "out").exists()
    for number, options in enumerate((["--arch", "small"], [])):
        out = tmp_path / f"out{number}"
        assert command("import", path, out, "--side", 32, "--crop", 28, *options) == 0
        found = checkpoint.load(out)
        assert (found.arch.name, found.arch.input.side, found.arch.input.crop) == ("small", 32, 28)
        assert torch.equal(found.weights["classifier.fc6.weight"], state["classifier.fc6.weight"])
    assert command("import", path, tmp_path / "out2", "--crop", 28, "--arch", "small") == 0
    assert checkpoint.load(tmp_path / "out2").arch.input.side == 64  # that of small


def test_a_wrong_size_is_not_the_remedy_for_itself(tmp_path, capsys):
    """The sentence named the sizes that it had just refused."""
    path = write(saved_as("small", SMALL_UNITS).network().state_dict(), tmp_path / "own.pth")
    for options in ([], ["--arch", "small"]):
        assert command("import", path, tmp_path / "out", "--side", 32, "--crop", 28, *options) == 2
        error = capsys.readouterr().err
        assert error.endswith("leave out --side and --crop\n") or "leave out --side and --crop; in Python" in error
    assert command("import", path, tmp_path / "out") == 0


def test_an_archive_of_numpy_is_refused_with_what_converts_it(tmp_path, capsys):
    np.savez(tmp_path / "own.npz", **{"features.conv1.weight": np.zeros((2, 3, 5, 5), np.float32)})
    for options in ([], ["--arch", "small"]):
        assert command("import", tmp_path / "own.npz", tmp_path / "out", *options) == 2
        remedy = capsys.readouterr().err.partition("as a state dict: ")[2].strip()
    exec(f"import numpy, os, torch; os.chdir({str(tmp_path)!r}); {remedy}")
    assert (tmp_path / "weights.pth").is_file()


def test_a_file_of_another_network_is_not_taken_for_one_of_another_crop(tmp_path, capsys):
    state = saved_as("small", SMALL_UNITS).network().state_dict()
    state["classifier.fc6.weight"] = torch.zeros(len(state["classifier.fc6.weight"]), 1000)  # no multiple of 128 maps
    path = write(state, tmp_path / "net.pth")
    assert command("import", path, tmp_path / "out", "--arch", "small") == 2
    assert "it holds another network" in capsys.readouterr().err
