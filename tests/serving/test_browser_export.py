"""`alexnet export --to web` without a browser: what is fetched, what is refused, and what the network's file holds."""

import base64
import gzip
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from alexnet.inference.metrics import Errors
from alexnet.models import checkpoint
from alexnet.serving.browser import network_file, page, runtime
from alexnet.serving.browser.network_file import NetworkFile
from alexnet.serving.browser.runtime import BrowserRuntime
from command_line import alexnet as command
from weight_files import narrow

ENGINE = BrowserRuntime(b"/* </script> */", b"export default 1", b"\0asm")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A checkpoint `run` in the current folder, and an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    checkpoint.save(narrow("cifar"), tmp_path / "run")
    return tmp_path


@pytest.mark.usefixtures("one_thread")
def test_the_networks_file_has_every_layers_output_and_half_the_bytes():
    saved = narrow("small")
    found = network_file.make_network_file(saved)
    assert found.precision == "fp16"
    assert found.difference <= 5e-4
    assert found.images == 10  # seven of noise, three patterns
    session = onnxruntime.InferenceSession(found.data)
    outputs = {entry.name: entry.shape[1:] for entry in session.get_outputs()}
    assert outputs["logits"] == [7]
    assert outputs["view"] == [3, 56, 56]
    assert outputs["conv1"] == [16, 28, 28]
    assert outputs["pool5"] == [16, 3, 3]  # 28, 14, 7, 3: 3x3 windows with stride 2, rounded up
    stored = {tensor.name: tensor for tensor in onnx.load_model_from_string(found.data).graph.initializer}
    kept = onnx.numpy_helper.to_array(stored["network.features.conv2.weight.fp16"])
    assert kept.dtype == np.float16
    assert np.array_equal(kept, saved.weights["features.conv2.weight"].half().numpy())
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["steps_inside"] == "crop, mean, std, channel order"


def test_weights_that_fp16_would_change_stay_in_fp32(monkeypatch):
    """A weight of 100,000 is infinite in fp16."""
    saved = narrow("small", "output_init_std=0.03")
    saved.weights["features.conv2.weight"][0, 0, 0, 0] = 1e5
    assert network_file.make_network_file(saved).precision == "fp32"


def test_another_file_is_not_taken_for_the_engine(run, capsys):
    with tarfile.open("other.tgz", "w:gz") as archive:
        archive.add("run/checkpoint.json", f"package/dist/{runtime.BINARY}")
    assert command("export", "run", "page.html", "--runtime", "other.tgz") == 2
    assert "other.tgz is not onnxruntime-web 1.30.0: its SHA-512 begins with" in capsys.readouterr().err
    assert not Path("page.html").exists()
    assert command("export", "run", "page.html", "--runtime", "missing.tgz") == 2
    assert "missing.tgz is not a file; give the file of https://registry.npmjs.org/" in capsys.readouterr().err


def test_the_download_is_announced_in_one_sentence(run, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(runtime, "fetch_tarball", lambda: asked.append(1) or Path("nowhere.tgz"))
    assert command("export", "run", "page.html") == 2
    said = capsys.readouterr().err
    assert asked == [1]
    assert ("downloading onnxruntime-web 1.30.0 (MIT License, 33 MB), which runs the network in the browser, from "
            "npm's registry into the cache: https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-1.30.0.tgz"
            ) in said


def test_a_mistyped_checkpoint_costs_no_download(run, monkeypatch, capsys):
    monkeypatch.setattr(runtime, "fetch_tarball", lambda: pytest.fail("it was downloaded before the refusal"))
    assert command("export", "rum", "page.html") == 2
    said = capsys.readouterr().err
    assert "rum" in said
    assert "downloading" not in said


def test_it_says_how_and_on_what_the_probabilities_were_compared(run, monkeypatch, capsys):
    monkeypatch.setattr(runtime, "fetch_tarball", lambda: Path("engine.tgz"))
    monkeypatch.setattr(runtime, "read_runtime", lambda path: ENGINE)
    monkeypatch.setattr(network_file, "make_network_file", lambda saved: NetworkFile(b"onnx", "fp16", 2e-4, 10))
    assert command("export", "run", "page.html") == 0
    assert ("its probabilities differ from the network's by 2.0e-04 at most on 10 test images, by onnxruntime on this "
            "CPU, not in a browser.") in capsys.readouterr().out


def test_the_page_names_the_run_its_error_with_the_interval_and_that_it_is_not_calibrated(run, monkeypatch):
    """2 of 33 images wrong: 6.1%, Wilson 1.7% to 19.6%."""
    monkeypatch.setattr(runtime, "fetch_tarball", lambda: Path("engine.tgz"))
    monkeypatch.setattr(runtime, "read_runtime", lambda path: ENGINE)
    monkeypatch.setattr(network_file, "make_network_file", lambda saved: NetworkFile(b"onnx", "fp16", 2e-4, 10))
    measured = replace(narrow("cifar"), errors=Errors(33, 9.0, 2, 0).to_json())
    checkpoint.save(measured, run / "survey")
    assert page.page_data(measured)["measured"] == (
        "Top-1 error 6.1% on its 33 validation images (95% interval 1.7% to 19.6%).")
    assert page.page_data(narrow("cifar"))["measured"] == ""
    assert command("export", "survey", "page.html") == 0
    text = Path("page.html").read_text()
    assert "<title>survey: AlexNet in the browser</title>" in text
    assert "<h1>survey</h1>" in text
    assert "These percentages are not calibrated: 99% does not mean right 99 times in 100." in text
    assert command("export", "page2.html") == 0  # the package's network, which is calibrated
    text = Path("page2.html").read_text()
    assert "<h1>See what AlexNet sees</h1>" in text
    assert "not calibrated" not in text


@pytest.mark.parametrize(("name", "options", "words"), [
    ("taken", ["--to", "web"], "taken holds something else (mine.txt); name a new folder"),
    ("file", ["--to", "web"], "file is a file; name a folder, or a file that ends in .html"),
    ("folder.html", [], "folder.html is a folder; name a file to write")])
def test_nothing_else_is_overwritten(run, name, options, words, monkeypatch, capsys):
    monkeypatch.setattr(runtime, "fetch_tarball", lambda: pytest.fail("it was downloaded before the refusal"))
    Path("taken").mkdir()
    Path("taken/mine.txt").write_text("mine")
    Path("file").write_text("mine")
    Path("folder.html").mkdir()
    assert command("export", "run", name, *options) == 2
    assert words in capsys.readouterr().err
    assert Path("taken/mine.txt").read_text() == Path("file").read_text() == "mine"


def test_a_page_is_written_again_over_itself(tmp_path):
    saved, network = narrow("cifar"), NetworkFile(b"onnx", "fp32", 0.0, 10)
    for _ in range(2):
        made = page.write_browser_page(tmp_path / "page", saved, network, ENGINE)
    assert {path.name for path in (tmp_path / "page").iterdir()} == set(made.files) == {*page.FILES}
    assert not made.is_one_file


def test_one_file_holds_the_others_compressed_and_no_script_ends_early(tmp_path):
    network = NetworkFile(b"onnx" * 99, "fp32", 0.0, 10)
    made = page.write_browser_page(tmp_path / "page.html", narrow("cifar"), network, ENGINE)
    text = (tmp_path / "page.html").read_text()
    assert made.files == {"page.html": len(text.encode())}
    packed = text.split('<script type="text/plain" id="file:model.onnx">')[1].split("</script>")[0]
    assert gzip.decompress(base64.b64decode(packed)) == b"onnx" * 99
    assert "/* <\\/script> */" in text
    assert "http://" not in text.replace("http://localhost:8000", "").replace("http://www.apache.org", "")


def test_photographs_are_shown_only_where_the_network_knows_their_classes():
    strangers = page.page_data(narrow("cifar"))["samples"]
    assert [sample["title"] for sample in strangers] == [
        "generated stripes", "generated sunset", "generated checkerboard"]
