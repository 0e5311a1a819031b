"""A calibrated network gives the same probabilities in every exported format, and after its import."""

from dataclasses import replace

import pytest
import torch

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.models.formats import onnx, torch_export, torchvision
from alexnet.models.formats.export import export
from alexnet.models.formats.huggingface import read_huggingface
from alexnet.models.formats.open_weights import open_weights
from weight_files import saved_as

pytestmark = pytest.mark.usefixtures("one_thread")

OUTPUTS = {"torchvision": "net.pth", "safetensors": "hub", "onnx": "net.onnx", "torch-export": "net.pt2"}


@pytest.fixture
def saved(monkeypatch):
    monkeypatch.setattr(torchvision, "TORCHVISION", override(arch("torchvision"), ["conv.width=16", "dense.width=32"]))
    plain = saved_as("torchvision", "conv.width=16", "dense.width=32", "input.side=64", "input.crop=63", "classes=7")
    return replace(plain, calibration={"temperature": 1.75, "fitted_images": 300, "measured_images": 301,
                                       "ece_before": 0.104, "ece_after": 0.034})


def views(count=4):
    return torch.randn(count, 3, 63, 63, generator=torch.Generator().manual_seed(0)) * 50


@pytest.mark.parametrize("to", OUTPUTS)
def test_the_imported_network_gives_the_calibrated_logits(saved, tmp_path, to):
    saved.calibration["ten_views"] = {"temperature": 1.5, "fitted_images": 300, "measured_images": 301,
                                      "ece_before": 0.05, "ece_after": 0.03}
    result = export(saved, tmp_path / OUTPUTS[to], to)
    assert "the temperature 1.750" in result.describe()
    assert ("but not that of ten views" in result.describe()) == (to == "torchvision")
    if to == "safetensors":
        assert ("For the mean over ten views each view's logits are divided by 1.500 instead, and the error is 3.0% "
                "(5.0% with the temperature of one view)") in (tmp_path / "hub" / "README.md").read_text()
    again = open_weights(str(tmp_path / OUTPUTS[to]))
    with torch.inference_mode():
        expected = saved.network(calibrated=False)(views()) / 1.75
        torch.testing.assert_close(again.network()(views()), expected, rtol=1e-5, atol=1e-6)
    assert again.calibration == ({} if to == "torchvision" else saved.calibration)  # folded into the last layer


@pytest.mark.parametrize(("to", "module"), [("onnx", onnx), ("torch-export", torch_export)])
def test_the_exported_program_divides_by_the_temperature(saved, tmp_path, to, module):
    path = tmp_path / OUTPUTS[to]
    assert export(saved, path, to).difference < 1e-4
    with torch.inference_mode():
        expected = saved.network(calibrated=False)(views()) / 1.75
    torch.testing.assert_close(torch.from_numpy(module.read(path)(views())), expected, rtol=1e-3, atol=1e-4)


def test_torchvision_itself_gets_the_calibrated_logits(saved, tmp_path):
    export(saved, tmp_path / "net.pth", "torchvision")
    state = torch.load(tmp_path / "net.pth", weights_only=True)
    weight, bias = list(saved.weights)[-2:]
    torch.testing.assert_close(state["classifier.6.weight"] * 1.75, saved.weights[weight])
    torch.testing.assert_close(state["classifier.6.bias"] * 1.75, saved.weights[bias])


def test_the_model_card_says_what_a_probability_means(saved, tmp_path):
    export(saved, tmp_path / "hub", "safetensors")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "divided by the temperature 1.750, fitted on 300 images" in card
    assert "error is 3.4% (10.4% without the temperature)" in card
    export(replace(saved, calibration={}), tmp_path / "plain", "safetensors")
    assert "not calibrated: 99% does not mean" in (tmp_path / "plain" / "README.md").read_text()


@pytest.mark.parametrize("temperature", ["0", "-1", "NaN", '"1"'])
def test_a_temperature_that_is_no_positive_number_is_refused(saved, tmp_path, temperature):
    export(saved, tmp_path / "hub", "safetensors")
    config = tmp_path / "hub" / "config.json"
    config.write_text(config.read_text().replace('"temperature": 1.75', f'"temperature": {temperature}'))
    with pytest.raises(ValueError, match=r"config\.json does not describe a network"):
        read_huggingface(tmp_path / "hub")
