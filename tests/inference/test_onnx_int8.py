"""`alexnet export --int8`: a smaller file whose answers are nearly the network's, with the figures to prove it."""

import json
import re
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import alexnet
from alexnet.data.packed import open_packed
from alexnet.inference import onnx_int8
from alexnet.inference.held_apart import HeldApart
from alexnet.models import checkpoint
from alexnet.models.formats.open_weights import open_weights
from command_line import alexnet as command
from weight_files import narrow

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("from_pixels", [False, True])
def test_an_int8_file_answers_as_the_network_on_most_images(trained, packed, from_pixels, tmp_path, capsys):
    path = tmp_path / "net.onnx"
    options = ["--from-pixels"] if from_pixels else []
    assert command("export", trained, path, "--int8", "--data", packed.path, *options) == 0
    words = re.search(r"int8, ([\d.]+) MB, and ([\d.]+) MB in float32; calibrated on 120 training images. On 44 other "
                      r"images the top-1 class is the same for ([\d.]+)%; top-1 error ([\d.]+)%, and ([\d.]+)% in "
                      r"float32",
                      capsys.readouterr().out)
    assert words
    small, large, same, error, float_error = map(float, words.groups())
    assert small < large
    assert same >= 80
    session = onnxruntime.InferenceSession(path)
    (entry,) = session.get_inputs()
    split = packed.split("val")
    pixels = split.read(np.arange(44))
    model = alexnet.load(trained)
    inputs = pixels if from_pixels else model.preprocess(torch.from_numpy(pixels)).numpy()
    answers = session.run(None, {entry.name: inputs})[0].argmax(1)
    assert 100 * (answers != split.labels).mean() == pytest.approx(error, abs=0.06)
    ours = np.array([model.classes.index(row[0].name) for row in model.predict(list(pixels), top=1)])
    assert 100 * (ours != split.labels).mean() == pytest.approx(float_error, abs=0.06)
    assert 100 * (ours == answers).mean() == pytest.approx(same, abs=0.06)
    weights = [tensor.data_type for tensor in onnx.load(path).graph.initializer]
    assert weights.count(onnx.TensorProto.INT8) >= 5
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == list(model.classes)
    assert "alexnet" not in facts
    with pytest.raises(
            ValueError, match="are quantized, so it cannot be used as a checkpoint, nor evaluated; name the run"):
        open_weights(path)


def test_data_without_a_training_split_calibrate_with_one_half(trained, packed, tmp_path, monkeypatch, capsys):
    given = []

    def result(saved, path, calibration, measured, *arguments, **options):
        given.extend([len(calibration), len(measured)])
        apart = HeldApart(np.ones(len(measured), bool), 0, 0, 0)
        return onnx_int8.Int8Result(path, 1_000_000, 4_000_000, len(calibration), len(measured), apart, 1.0, 0.5, 0.5)

    only_val = SimpleNamespace(packed=SimpleNamespace(splits=("val",)), images=packed.split("val"), label_map=None)
    monkeypatch.setattr("alexnet.api.evaluation.open_evaluation_set", lambda models, data, group=None: only_val)
    monkeypatch.setattr(onnx_int8, "export_int8", result)
    assert command("export", trained, tmp_path / "net.onnx", "--int8", "--data", "anything") == 0
    assert given == [22, 22]  # of 44
    assert ("calibrated on 22 images of one half of the data, which have no training split. On 22 other images"
            ) in capsys.readouterr().out


def test_response_normalization_stays_in_float(packed, tmp_path):
    saved = narrow("paper", "input.side=32", "input.crop=32", "conv1.kernel=5", "conv1.stride=1", "classes=4")
    images = open_packed(packed.path).split("train")
    labels = torch.arange(4)
    found = onnx_int8.export_int8(saved, tmp_path / "net.onnx", images, open_packed(packed.path).split("val"), labels)
    assert found.calibrated_on == 120
    graph = onnx.load(tmp_path / "net.onnx").graph
    made_by = {output: node for node in graph.node for output in node.output}
    sums = [node for node in graph.node if node.op_type == "Conv" and made_by[node.input[0]].op_type in ("Mul", "Pow")]
    assert len(sums) == 2
    quantized = [node for node in graph.node if node.op_type == "Conv" and made_by[node.input[0]].op_type ==
                 "DequantizeLinear"]
    assert len(quantized) == 5


@pytest.mark.parametrize(("arguments", "words"), [
    (["net.onnx", "--int8"], "--int8 needs images to calibrate on; add --data DATA"),
    (["net.onnx", "--data", "somewhere"], "--data has no effect without --int8; leave it out, or add --int8"),
    (["net.pt2", "--int8", "--data", "somewhere"],
     "--int8 works with ONNX files only, and net.pt2 has the format torch-export"),
    (["net.onnx", "--int8", "--data", "somewhere"], "there is no somewhere; name a folder"),
    (["net.onnx", "--runtime", "file.tgz"], "--runtime is for --to web"),
    (["page.html", "--from-pixels"], "--from-pixels has no effect with --to web"),
])
def test_a_mistake_is_one_sentence_and_writes_nothing(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    checkpoint.save(narrow("cifar"), tmp_path / "run")
    assert command("export", "run", *arguments) == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
