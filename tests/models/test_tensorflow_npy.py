"""bvlc_alexnet.npy: the same outputs as the port's layout computes, and nothing in the pickle is executed."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.models.formats import tensorflow_npy
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.formats.tensorflow_npy import read_npy
from command_line import alexnet as command

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTHS, HIDDEN, CLASSES = (4, 8, 8, 8, 4), 12, 7
GROUPS = (1, 2, 1, 2, 2)


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    settings = [f"conv{number}.width={width}" for number, width in enumerate(WIDTHS, 1)]
    monkeypatch.setattr(tensorflow_npy, "CAFFE", override(arch("caffe"), [*settings, f"dense.width={HIDDEN}"]))


def port() -> dict[str, list[np.ndarray]]:
    """Weights as a port to TensorFlow holds them: convolutions HWIO, fully connected [inputs, outputs]."""
    rng = np.random.default_rng(0)
    layers, maps = {}, 3
    for number, (width, kernel, groups) in enumerate(zip(WIDTHS, (11, 5, 3, 3, 3), GROUPS, strict=True), 1):
        layers[f"conv{number}"] = [rng.normal(0, 0.1, (kernel, kernel, maps // groups, width)), rng.normal(0, 1, width)]
        maps = width
    inputs = 36 * maps
    for name, width in (("fc6", HIDDEN), ("fc7", HIDDEN), ("fc8", CLASSES)):
        layers[name], inputs = [rng.normal(0, 0.05, (inputs, width)), rng.normal(0, 1, width)], width
    return {name: [array.astype(np.float32) for array in pair] for name, pair in layers.items()}


def forward(layers, bgr_NHWC: torch.Tensor) -> torch.Tensor:
    """The port's forward pass: LRN with radius 2, alpha 2e-5, bias 1; it flattens rows, columns, maps in this order."""
    x = bgr_NHWC.permute(0, 3, 1, 2)
    for number, (stride, padding, groups) in enumerate(((4, 0, 1), (1, 2, 2), (1, 1, 1), (1, 1, 2), (1, 1, 2)), 1):
        weights, biases = map(torch.from_numpy, layers[f"conv{number}"])
        x = F.relu(F.conv2d(x, weights.permute(3, 2, 0, 1), biases, stride, padding, groups=groups))
        if number <= 2:
            squares = F.pad(x.square(), (0, 0, 0, 0, 2, 2))
            x = x / (1 + 2e-5 * sum(squares[:, shift:shift + x.shape[1]] for shift in range(5))) ** 0.75
        if number in (1, 2, 5):
            x = F.max_pool2d(x, 3, 2)
    x = x.permute(0, 2, 3, 1).flatten(1)
    for name in ("fc6", "fc7", "fc8"):
        weights, biases = map(torch.from_numpy, layers[name])
        x = x @ weights + biases
        x = x if name == "fc8" else F.relu(x)
    return x


def save(content, path: Path) -> Path:
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    return path


def test_outputs_are_those_of_the_port(tmp_path):
    layers = port()
    saved = open_weights(save(layers, tmp_path / "bvlc_alexnet.npy"))
    rgb_NHWC = torch.randint(0, 256, (2, 256, 256, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    bgr = rgb_NHWC[:, 14:241, 14:241].flip(-1).float() - torch.tensor([104.0, 117.0, 124.0])
    with torch.inference_mode():
        expected, got = forward(layers, bgr), saved.network()(saved.preprocess()(rgb_NHWC))
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert expected.std() > 0.1
    assert not saved.class_names_known
    assert "blue, green and red minus 104, 117 and 124 are assumed" in saved.notes[0]


@pytest.mark.parametrize("form", ["dict of dicts", "Python 2"])
def test_other_forms_of_the_file_are_read_alike(form, tmp_path):
    layers = port()
    path = save(layers, tmp_path / "a.npy")
    expected = read_npy(path)
    if form == "dict of dicts":
        save({name: {"biases": b, "weights": w} for name, (w, b) in layers.items()}, path)
    else:  # NumPy's old module, and protocol 2, in which bytes are text in Latin-1
        data = path.read_bytes()
        header = data[: data.index(b"\n") + 1]
        path.write_bytes(header + pickle.dumps(np.array(layers, dtype=object), 2).replace(
            b"numpy._core.multiarray", b"numpy.core.multiarray"))
    for key, tensor in read_npy(path).weights.items():
        assert torch.equal(tensor, expected.weights[key])


def test_the_command_takes_names_and_a_mean(tmp_path, capsys):
    path = save(port(), tmp_path / "net.npy")
    (tmp_path / "names.txt").write_text("\n".join("abcdefg"))
    assert command("import", path, tmp_path / "out", "--classes", tmp_path / "names.txt", "--mean", "1,2,3") == 0
    printed = capsys.readouterr()
    assert "7 classes (a, ...); BGR crops of 227x227 from 256x256" in printed.out
    assert "minus 1, 2 and 3 are assumed" in printed.err
    assert open_weights(tmp_path / "out").mean_HWC.flatten().tolist() == [3, 2, 1]


class Calls:
    """Unpickled by Python's own unpickler, it calls."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("hide", [
    lambda call: call, lambda call: {**port(), "conv1": call}, lambda call: {"conv1": [call, call]}])
def test_a_hostile_pickle_is_refused_and_not_run(hide, tmp_path):
    marker = tmp_path / "ran"
    path = save(hide(Calls(os.system, f"touch {marker}")), tmp_path / "net.npy")
    np.load(path, allow_pickle=True)  # a careless reader runs it
    assert marker.exists()
    marker.unlink()
    words = r"holds more than arrays \((posix|nt)\.system\), and reading it could run code"
    with pytest.raises(ValueError, match=words):
        open_weights(path)
    assert command("predict", path, __file__) == 2
    assert not marker.exists()


@pytest.mark.parametrize(("content", "words"), [
    ({"conv1": [np.zeros((11, 11, 3, 4)), np.zeros(4)]}, "has no layer conv2; it is not Caffe's AlexNet; it has conv1"),
    ({"conv1": 3}, "layer 'conv1' is not a pair of weights and biases"),
    ([1, 2], "holds an array and no dict of layers"),
])
def test_other_contents_are_refused_by_name(content, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        open_weights(save(content, tmp_path / "net.npy"))


def test_an_array_of_numbers_and_a_truncated_file_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ValueError, match="holds an array and no dict of layers"):
        open_weights(tmp_path / "a.npy")
    data = save(port(), tmp_path / "net.npy").read_bytes()
    for length in (0, 5, 100, 300, len(data) // 2, len(data) - 1):
        (tmp_path / "net.npy").write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"net\.npy is truncated, or numpy\.save did not write it"):
            open_weights(tmp_path / "net.npy")
