"""Exported networks (ONNX, torch.export) give the same logits as the original at any batch size, or are not written."""

import json
import logging
import re
import subprocess
import sys
import tarfile
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from alexnet._runtime.extras import install_line
from alexnet.architecture.network_presets import ARCHS
from alexnet.data.images import decode
from alexnet.inference.predictor import Model
from alexnet.models import checkpoint
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.export import export
from alexnet.models.formats.parity import TOLERANCE, check_parity
from command_line import alexnet as command
from weight_files import saved_as

pytestmark = pytest.mark.usefixtures("one_thread")

PRESETS = [pytest.param(name, marks=() if name in ("small", "paper") else pytest.mark.slow) for name in ARCHS]
"""Two of them in the quick tests, all of them in the slow ones: an export of a whole network takes seconds."""

NARROW = ("conv.width=16", "dense.width=32")


def trained(name: str, *settings: str) -> Checkpoint:
    """A network whose activations are as large as a trained one's: in the hundreds, where LRN bends them, and outputs
    that are far apart."""
    return saved_as(name, "initialization=kaiming", "output_init_std=0.03", *settings)


@cache
def written(name: str, to: str, folder: Path, from_pixels: bool = False, settings: tuple[str, ...] = ()):
    """The checkpoint, the file written of it, and the sentence that was returned."""
    saved = trained(name, *settings)
    path = folder / f"{name}-{from_pixels}.{to}"
    return saved, path, export(saved, path, to, from_pixels=from_pixels).describe()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


def by_onnxruntime(path: Path, inputs: torch.Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    return session.run(["logits"], {entry.name: inputs.numpy()})[0]


def by_torch_export(path: Path, inputs: torch.Tensor) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's, about itself
        return torch.export.load(path).module()(inputs).detach().numpy()


def agree(expected: np.ndarray, got: np.ndarray) -> None:
    """To 1e-4 of the largest output, and on the class that is named."""
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()
    assert (got.argmax(1) == expected.argmax(1)).all()
    assert np.ptp(expected, 1).min() > 0.1, "the outputs are so near one another that agreeing is no feat"


def noise(saved: Checkpoint, count: int) -> torch.Tensor:
    """Stored images of nothing: uint8 [count, side, side, 3]."""
    side = saved.arch.input.side
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


# --- ONNX -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_onnx_of_every_preset_gives_the_networks_logits_at_any_batch_size(name, folder):
    saved, path, description = written(name, "onnx", folder)
    network = saved.network()
    x = saved.preprocess()(noise(saved, 7)).contiguous()
    with torch.inference_mode():
        expected = network(x).numpy()
    for count in (1, 2, 7):
        agree(expected[:count], by_onnxruntime(path, x[:count]))
    assert "at batches of 1, 2, 7" in description
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    crop = saved.arch.input.crop
    batch, *others = graph.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param
    assert [size.dim_value for size in others] == [3, crop, crop]


@pytest.fixture(scope="module")
def samples(images):
    """Seven images as they come."""
    with tarfile.open(images / "imagenet-samples.tar") as archive:
        names = sorted(name for name in archive.getnames() if name.endswith(".JPEG"))[:7]
        return [decode(archive.extractfile(name).read(), name) for name in names]


@pytest.mark.parametrize("name", PRESETS)
def test_onnx_of_every_preset_gives_the_networks_logits_on_images(name, folder, samples):
    saved, path, _ = written(name, "onnx", folder)
    model = Model(saved.network(), saved.preprocess(), saved.classes)
    x = model.views(samples).contiguous()
    with torch.inference_mode():
        expected = model.network(x).numpy()
    for count in (1, 2, 7):
        agree(expected[:count], by_onnxruntime(path, x[:count]))


def test_onnx_carries_classes_network_and_provenance(folder):
    _, path, _ = written("cifar", "onnx", folder)
    facts = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == list("abcdefg")
    assert json.loads(facts["arch"])["name"] == "cifar"
    assert json.loads(facts["provenance"]) == {}
    assert facts["input"] == "RGB, 28x28, 0..255, minus the mean image"


# --- torch.export -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHS)
def test_torch_export_of_every_preset_gives_the_networks_logits_at_any_batch_size(name, folder):
    saved, path, _ = written(name, "torch-export", folder, settings=NARROW[: 2 if ARCHS[name].dense else 1])
    network = saved.network()
    for count in (1, 2, 5):
        x = saved.preprocess()(noise(saved, count))
        with torch.inference_mode():
            agree(network(x).numpy(), by_torch_export(path, x))


def test_a_torch_export_program_runs_without_this_package(folder, tmp_path):
    saved, path, _ = written("paper", "torch-export", folder, settings=NARROW)
    x = saved.preprocess()(noise(saved, 3))
    torch.save(x, tmp_path / "x.pt")
    code = ("import sys, torch; files = {'classes.json': ''}\n"
            "program = torch.export.load(sys.argv[1], extra_files=files)\n"
            "answer = program.module()(torch.load(sys.argv[2]))\n"
            "assert not [name for name in sys.modules if name.startswith('alexnet')]\n"
            "print(files['classes.json']); print(answer.argmax(1).tolist())")
    printed = subprocess.run([sys.executable, "-c", code, path, tmp_path / "x.pt"], capture_output=True, text=True,
                             check=True).stdout.splitlines()
    with torch.inference_mode():
        assert json.loads(printed[1]) == saved.network()(x).argmax(1).tolist()
    assert json.loads(printed[0]) == list("abcdefg")


# --- With the preprocessing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("to", "answer"), [("onnx", by_onnxruntime), ("torch-export", by_torch_export)])
@pytest.mark.parametrize("name", ["paper", "caffe", "torchvision", "small"])
def test_export_from_pixels_gives_the_probabilities_of_predict(name, to, answer, folder):
    """A mean image, blue first, given numbers, a mean color: the center is cut and the mean is taken off inside."""
    saved, path, description = written(name, to, folder, from_pixels=True, settings=NARROW)
    model = Model(saved.network(), saved.preprocess(), saved.classes)
    pixels = noise(saved, 3)
    logits = torch.from_numpy(answer(path, pixels))
    for guesses, row in zip(model.predict(list(pixels.numpy()), top=7), logits.softmax(1), strict=True):
        for guess in guesses:
            assert guess.probability == pytest.approx(row["abcdefg".index(guess.name)].item(), abs=1e-5)
    with torch.inference_mode():
        agree(model.network(model.preprocess(pixels)).numpy(), logits.numpy())
    assert "uint8 images" in description


# --- Files that answer otherwise, and mistakes ------------------------------------------------------------------------


class Fixed(torch.nn.Module):
    """A network whose outputs are given."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, x):
        return self.logits.expand(len(x), -1)


@pytest.mark.parametrize(("theirs", "words"), [
    ([8.0, 4.0, 1.0], None), ([8.0, 4.0, 1.0005], None), ([8.0, 4.0, 1.008], "differs from the network by 1.0e-03"),
    ([4.0, 8.0, 1.0], "differs from the network by 5.0e-01"), ([8.0, 4.0, np.nan], "differs from the network by nan"),
    ([8.0, 4.0], r"gives 1 images logits of shape \(1, 2\), and the network \(1, 3\)")])
def test_parity_allows_a_ten_thousandth_of_the_largest_logit(theirs, words):
    saved = saved_as("cifar", *NARROW[:1])

    def answer(inputs):
        return np.tile(np.array(theirs, np.float32), (len(inputs), 1))

    if words is None:
        assert check_parity(Fixed(8.0, 4.0, 1.0), answer, saved) <= TOLERANCE
    else:
        with pytest.raises(ValueError, match=words):
            check_parity(Fixed(8.0, 4.0, 1.0), answer, saved)


def test_parity_allows_two_tied_classes_to_change_places():
    saved = saved_as("cifar", *NARROW[:1])
    answer = lambda inputs: np.tile(np.array([8.0, 8.0001, 1.0], np.float32), (len(inputs), 1))  # noqa: E731
    assert check_parity(Fixed(8.0001, 8.0, 1.0), answer, saved) < TOLERANCE


def test_parity_is_checked_at_every_batch_size():
    saved = saved_as("cifar", *NARROW[:1])
    for odd in (1, 2, 7):
        def answer(inputs, odd=odd):
            return np.tile(np.array([8.0, 4.0, 1.0 + (len(inputs) == odd)], np.float32), (len(inputs), 1))

        with pytest.raises(ValueError, match="differs from the network"):
            check_parity(Fixed(8.0, 4.0, 1.0), answer, saved)


@pytest.mark.parametrize("to", ["onnx", "torch-export"])
def test_an_export_without_parity_is_deleted_and_the_previous_file_stays(to, tmp_path, monkeypatch):
    saved = saved_as("cifar", *NARROW[:1])
    module = to.replace("-", "_")
    monkeypatch.setattr(f"alexnet.models.formats.{module}.read",
                        lambda path: lambda inputs: np.zeros((len(inputs), 7), np.float32))
    (tmp_path / "former").write_text("mine")
    with pytest.raises(ValueError, match="it was deleted"):
        export(saved, tmp_path / "former", to)
    assert [path.name for path in tmp_path.iterdir()] == ["former"]
    assert (tmp_path / "former").read_text() == "mine"


@pytest.mark.parametrize("to", ["onnx", "torch-export"])
def test_weights_that_are_not_finite_are_not_exported(to, tmp_path):
    saved = saved_as("cifar", *NARROW[:1])
    saved.weights["classifier.fc4.bias"] = torch.full((7,), torch.nan)
    with pytest.raises(ValueError, match="training had diverged"):
        export(saved, tmp_path / "net", to)
    assert not list(tmp_path.iterdir())


def test_a_network_with_zero_logits_is_exported(tmp_path):
    saved = saved_as("cifar", *NARROW[:1])
    saved.weights = {key: torch.zeros_like(tensor) for key, tensor in saved.weights.items()}
    export(saved, tmp_path / "net.onnx", "onnx")
    assert not by_onnxruntime(tmp_path / "net.onnx", torch.zeros(1, 3, 28, 28)).any()


def test_only_the_exporters_notices_are_silenced(tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # the exporter warns four times that it is not there
    export(saved_as("cifar", *NARROW[:1]), tmp_path / "net.onnx", "onnx")
    logging.getLogger("another").warning("heard")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == ["heard"]


@pytest.mark.parametrize("package", ["onnxruntime", "onnxscript"])
def test_without_an_onnx_package_the_error_says_what_to_install(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=re.escape(install_line("export"))):
        export(saved_as("cifar", *NARROW[:1]), tmp_path / "net.onnx", "onnx")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def run(tmp_path):
    checkpoint.save(saved_as("cifar", *NARROW[:1]), tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(("arguments", "file"), [
    (["net.onnx"], "net.onnx"), (["net.pt2"], "net.pt2"), (["deep/er/net.onnx"], "deep/er/net.onnx"),
    (["net", "--to", "onnx", "--from-pixels"], "net"), (["net"], "net/model.safetensors"),
    (["net.v1", "--to", "safetensors"], "net.v1/model.safetensors")])
def test_the_ending_gives_the_format_and_to_overrides_it(run, arguments, file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command("export", run, *arguments) == 0
    assert capsys.readouterr().out.startswith(f"{arguments[0]}: ")
    assert Path(file).is_file()
    assert not list(tmp_path.rglob("*.new"))


@pytest.mark.parametrize(("arguments", "words"), [
    (["run", "net.tflite"], "net.tflite has no ending that names the format (.onnx, .xml, .pt2, .pth, .html, or none "
                            "for a folder with safetensors); use one of these endings, or add --to onnx, torch-export"),
    (["run", "net.onnx", "--to", "tflite"], "tflite"),
    (["run", "net.pth"], "cifar is not torchvision's network, whose state dict has no place for it; export it to a "
                         "FOLDER, FILE.onnx or FILE.pt2"),
    (["run", "net", "--from-pixels"], "safetensors holds weights and no preprocessing"),
    (["run", "net.pth", "--from-pixels"], "torchvision holds weights and no preprocessing; leave out --from-pixels, or "
                                          "export to FILE.onnx, FILE.xml or FILE.pt2"),
    (["run", "folder", "--to", "onnx"], "folder is a folder; name a file to write"),
    (["run", "folder", "--to", "torchvision"], "folder is a folder; name a file to write"),
    (["run", "file/net.onnx"], "file"),
    (["run", "file"], "file holds something else; name a new folder"),
    (["nowhere", "net.onnx"], "nowhere does not exist"),
    (["folder", "net.onnx"], "folder is not a checkpoint"),
    (["damaged", "net.onnx"], "is damaged"),
])
def test_a_mistake_is_one_sentence_and_leaves_nothing(run, arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_text("mine")
    checkpoint.save(checkpoint.load(run), Path("damaged"))
    weights = next(Path("damaged").glob("weights*"))
    weights.write_bytes(weights.read_bytes()[:-1])
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert command("export", *arguments) == 2
    printed = capsys.readouterr()
    messages = [line for line in printed.err.splitlines() if line.startswith("alexnet: ")]
    assert len(messages) == 1
    assert words in messages[0]
    assert "Traceback" not in printed.err
    assert not printed.out
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_an_unknown_format_suggests_the_closest(tmp_path):
    with pytest.raises(ValueError, match=r"did you mean onnx\?"):
        export(saved_as("cifar", *NARROW[:1]), tmp_path / "net", "onxx")


def test_an_existing_file_is_replaced(run, tmp_path):
    (tmp_path / "net.onnx").write_text("mine")
    saved = checkpoint.load(run)
    export(saved, tmp_path / "net.onnx", "onnx")
    x = saved.preprocess()(noise(saved, 2))
    with torch.inference_mode():
        expected = saved.network()(x).numpy()
    np.testing.assert_allclose(by_onnxruntime(tmp_path / "net.onnx", x), expected, rtol=1e-4, atol=1e-6)
