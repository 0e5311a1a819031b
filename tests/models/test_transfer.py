"""Transfer learning: other classes, frozen layers, one more convolution (§6)."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet.architecture.network_presets import arch
from alexnet.architecture.overrides import override
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Conv
from alexnet.data.imagenet_classes import CLASSES, WNIDS
from alexnet.data.packing import pack
from alexnet.data.sources.detect import open_dataset
from alexnet.errors import UserError
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats import torchvision
from alexnet.models.formats.huggingface import write_huggingface
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.seen import SeenImages
from alexnet.models.transfer import transfer_weights
from alexnet.training.build import build
from alexnet.training.spec import RunSpec
from alexnet.training.state import Interrupted
from alexnet.training.trainer import Trainer
from command_line import SMALL
from command_line import alexnet as command
from sample_images import draw
from weight_files import NARROW, TorchvisionAlexNet, saved_as, write

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = Recipe("quick", epochs=2, batch_size=16, learning_rate=0.05, schedule="linear", decay_biases=False)
LETTERS = tuple("abcdefg")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def before(packed, tiny, tmp_path_factory):
    """What a run on the four trees ended with."""
    folder = tmp_path_factory.mktemp("before") / "run"
    build(RunSpec(packed, tiny, replace(QUICK, epochs=8), folder)).fit()
    return checkpoint.load(folder / "last")


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Five other classes of stripes: class folders, and packed."""
    root, rng = tmp_path_factory.mktemp("others"), np.random.default_rng(1)
    for split, count in (("train", 12), ("val", 20)):
        for label in range(4, 9):
            folder = root / "images" / split / f"stripes {label}"
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draw(rng, label)).save(folder / f"{number:03}.png")
    return root / "images", pack(open_dataset(root / "images"), root / "packed", side=32)


def narrow(name: str, *settings: str, classes: tuple[str, ...] = LETTERS, seed: int = 3) -> Checkpoint:
    return saved_as(name, "conv.width=16", "dense.width=32", *settings, classes=classes, seed=seed)


def bits(state: dict[str, torch.Tensor]) -> dict[str, bytes]:
    return {key: tensor.contiguous().numpy().tobytes() for key, tensor in state.items()}


def started(run: Trainer) -> dict[str, bytes]:
    return bits(run.network.state_dict())


# --- Which layers are taken -------------------------------------------------------------------------------------------


def test_with_the_same_classes_every_layer_is_copied():
    saved = narrow("paper")
    network = AlexNet(saved.arch, seed=9)
    taken, drawn = transfer_weights(network, saved, LETTERS)
    assert bits(network.state_dict()) == bits(saved.weights)
    assert (taken, drawn) == (["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"], [])


@pytest.mark.parametrize("classes", [("a", "b", "c"), tuple("gfedcba"), tuple("tuvwxyz")])
def test_with_other_classes_all_but_the_last_layer_are_copied(classes):
    saved = narrow("paper")
    network = AlexNet(replace(saved.arch, classes=len(classes)), seed=9)
    fresh = bits(network.state_dict())
    taken, drawn = transfer_weights(network, saved, classes)
    assert (taken[-1], drawn) == ("fc7", ["fc8"])
    for key, now in bits(network.state_dict()).items():
        assert now == (fresh[key] if "fc8" in key else saved.weights[key].numpy().tobytes()), key


def test_an_output_layer_without_class_names_is_not_copied():
    """Nobody knows whether its third output stands for the third class."""
    saved = replace(narrow("paper"), class_names_known=False)
    assert transfer_weights(AlexNet(saved.arch, seed=9), saved, saved.classes)[1] == ["fc8"]


def test_imagenets_classes_are_the_same_by_number_as_by_name():
    saved = saved_as("cifar", "conv.width=16", classes=CLASSES)
    assert transfer_weights(AlexNet(saved.arch, seed=9), saved, WNIDS)[1] == []
    assert transfer_weights(AlexNet(saved.arch, seed=9), saved, tuple(reversed(WNIDS)))[1] == ["fc4"]


def test_batch_normalization_is_copied_with_its_statistics():
    saved = narrow("paper-bn")
    network = AlexNet(replace(saved.arch, classes=2), seed=9)
    taken, drawn = transfer_weights(network, saved, ("a", "b"))
    assert drawn == ["fc8"]
    assert {"norm1", "norm5", "norm6", "norm7"} < set(taken)
    now, then = bits(network.state_dict()), bits(saved.weights)
    assert all(now[key] == then[key] for key in then if "fc8" not in key)


# --- The sixth convolution --------------------------------------------------------------------------------------------


def six_from_five(saved: Checkpoint, classes: tuple[str, ...] = LETTERS, *settings: str) -> tuple[AlexNet, list[str]]:
    six = override(arch("paper-conv6"), ["conv.width=16", "dense.width=32", f"classes={len(classes)}", *settings])
    network = AlexNet(six, seed=9)
    return network, transfer_weights(network, saved, classes)[1]


def test_a_sixth_convolution_on_a_trained_paper_is_drawn_with_the_numbers_of_the_2012_code():
    """layers-146-2012-2011.cfg: initW 0.03, initB 1 in conv6, and layer-params-146-2009: only conv6 is new."""
    saved = narrow("paper", "initialization=kaiming")
    network, drawn = six_from_five(saved)
    assert drawn == ["conv6"]
    conv6 = network.named_layer("conv6")
    assert conv6.groups == 1
    assert (conv6.bias == 1).all()
    weights = conv6.weight.detach()
    assert float(weights.std()) == pytest.approx(0.03, rel=0.1)
    assert abs(float(weights.mean())) < 0.003
    fresh = AlexNet(network.arch, seed=9).named_layer("conv6").weight
    assert torch.equal(conv6.weight, fresh), "the seed alone decides it"


def test_a_sixth_convolution_moves_the_fully_connected_layers_up_by_one():
    saved = narrow("paper", "initialization=kaiming")
    network, drawn = six_from_five(saved, ("a", "b"))
    assert drawn == ["conv6", "fc9"]
    five = saved.network()
    for name, source in (("conv5", "conv5"), ("fc7", "fc6"), ("fc8", "fc7")):
        assert torch.equal(network.named_layer(name).weight, five.named_layer(source).weight)


@pytest.mark.parametrize("layer", [
    Conv(16, 3, padding=1), Conv(16, 3, padding=1, stride=2), Conv(16, 5, padding=1), Conv(24, 3, padding=1)])
@pytest.mark.parametrize("settings", [["norm=none", "dense_norm=false"], [], ["norm=none", "activation=tanh"]],
                         ids=["relu", "batch norm", "tanh"])
def test_a_convolution_that_the_checkpoint_lacks_stays_random(tiny, layer, settings):
    five = override(tiny, [*settings, "input.side=64", "input.crop=56", "average_pool=2"])
    six = replace(five, conv=(*five.conv, layer))
    network = AlexNet(six, seed=9)
    fresh, biases = (tensor.clone() for tensor in network.named_layer("conv6").parameters())
    saved = Checkpoint(five, LETTERS[:4], AlexNet(five).state_dict(), torch.zeros(1, 1, 3))
    if layer.width == 16:
        assert "conv6" in transfer_weights(network, saved, LETTERS[:4])[1]
    else:
        with pytest.raises(ValueError, match="fc7 of small has weight"):
            transfer_weights(network, saved, LETTERS[:4])
    assert torch.equal(network.named_layer("conv6").weight, fresh)
    assert torch.equal(network.named_layer("conv6").bias, biases)


# --- What does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "settings", "words"), [
    ("paper", ["conv2.width=32"], r"conv2 of paper has weight of shape \[16, 8, 5, 5\], and the checkpoint's \(paper\) "
     r"\[32, 8, 5, 5\]"),
    ("paper", ["dense2.width=64"], r"fc7 of paper has weight of shape \[32, 32\], and the checkpoint's \(paper\) "
     r"\[64, 32\]"),
    ("one-gpu", [], r"conv2 of paper has weight of shape \[16, 8, 5, 5\], and the checkpoint's \(one-gpu\) "
     r"\[16, 16, 5, 5\]"),
    ("paper-conv6", [], r"the checkpoint \(paper-conv6\) has conv6, for which paper has no place"),
    ("caffe", [], r"paper takes images with channels RGB, and the checkpoint \(caffe\) with BGR"),
    ("paper-bn", [], r"paper takes images with scale \(1.0, 1.0, 1.0\), and the checkpoint \(paper-bn\) with "
     r"\(58.0, 58.0, 58.0\)"),
    ("paper-bn", ["input.scale=1,1,1"], r"the checkpoint \(paper-bn\) has norm1, norm2, norm3, norm4, norm5, norm6, "
     "norm7, for which paper has no place"),
], ids=["maps", "units", "towers", "a layer more", "blue first", "scale", "norms"])
def test_a_checkpoint_that_does_not_fit_is_refused_with_both_values(theirs, settings, words):
    with pytest.raises(ValueError, match=words):
        transfer_weights(AlexNet(narrow("paper").arch), narrow(theirs, *settings), LETTERS)


# --- Training ---------------------------------------------------------------------------------------------------------


def test_fine_tuning_learns_faster_than_from_scratch(others, tiny, before, tmp_path):
    for seed in range(3):
        scratch, tuned, frozen = (
            build(RunSpec(others[1], tiny, replace(QUICK, epochs=3, freeze=freeze), tmp_path / f"{seed}{place}",
                seed=seed, init=init)).fit()
            for place, (init, freeze) in enumerate([(None, ""), (before, ""), (before, "conv")]))
        # Elsewhere: 1.1 to 3.4 from scratch, 0.46 to 0.57 begun from the trees.
        assert max(tuned.loss, frozen.loss) < 0.7 * scratch.loss
        assert tuned.top1_error < scratch.top1_error


@pytest.mark.parametrize(("freeze", "frozen"), [
    ("conv", {"conv1", "conv2", "conv3", "conv4", "conv5", "norm1", "norm2", "norm3", "norm4", "norm5"}),
    ("conv1 conv3", {"conv1", "norm1", "conv3", "norm3"}),
    ("conv fc6", {"conv1", "conv2", "conv3", "conv4", "conv5", "norm1", "norm2", "norm3", "norm4", "norm5", "fc6",
                  "norm6"})])
def test_frozen_layers_stay_as_they_were_bit_for_bit(others, tiny, before, freeze, frozen, tmp_path):
    """Weights, biases, and the statistics of batch normalization, which no gradient moves."""
    build(RunSpec(others[1], tiny, replace(QUICK, freeze=freeze), tmp_path / "run", init=before)).fit()
    then, now = bits(before.weights), bits(checkpoint.load(tmp_path / "run" / "last").weights)
    assert {key.split(".")[1] for key in then if "fc7" not in key and now[key] == then[key]} == frozen
    still = {key for key in then if now[key] == then[key]}
    assert still == {key for key in then if key.split(".")[1] in frozen}


def test_a_resumed_fine_tuning_ends_where_an_uninterrupted_one_ends(others, tiny, before, tmp_path):
    """Stopped by a signal in the midst of an epoch; the second time, another checkpoint is named, and not read."""
    recipe = replace(QUICK, epochs=3, freeze="conv")
    build(RunSpec(others[1], tiny, recipe, tmp_path / "whole", init=before)).fit()

    def stop(event):
        if event["event"] == "step" and event["step"] == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        build(RunSpec(others[1], tiny, recipe, tmp_path / "halves", init=before), on_event=stop).fit()
    elsewhere = replace(before, weights={key: torch.zeros_like(t) for key, t in before.weights.items()})
    build(RunSpec(others[1], tiny, recipe, tmp_path / "halves", init=elsewhere, resume=True)).fit()
    whole, halves = (checkpoint.load(tmp_path / name / "last", with_velocity=True) for name in ("whole", "halves"))
    assert bits(whole.weights) == bits(halves.weights)
    assert bits(whole.velocity) == bits(halves.velocity)
    assert torch.equal(whole.mean_HWC, halves.mean_HWC)
    assert whole.errors == halves.errors
    assert whole.provenance == halves.provenance


def test_the_checkpoints_mean_is_kept_if_the_input_is_the_same(others, tiny, before, tmp_path):
    same = build(RunSpec(others[1], tiny, QUICK, tmp_path / "same", init=before))
    assert torch.equal(same.preprocess.mean_HWC, before.mean_HWC)
    smaller = build(RunSpec(others[1], override(tiny, ["input.crop=27"]), QUICK, tmp_path / "smaller",
        init=before))
    own = build(RunSpec(others[1], tiny, QUICK, tmp_path / "own"))
    assert torch.equal(smaller.preprocess.mean_HWC, own.preprocess.mean_HWC)
    assert not torch.equal(own.preprocess.mean_HWC, before.mean_HWC)


def test_a_checkpoint_remembers_what_its_training_began_from(others, tiny, before, tmp_path):
    build(RunSpec(others[1], tiny, QUICK, tmp_path / "run", init=before)).fit()
    init = checkpoint.load(tmp_path / "run" / "best").provenance["init"]
    assert (init["arch"], init["classes"], init["drawn"]) == ("small", 4, ["fc7"])
    assert init["sha256"] == before.describe()["sha256"]
    other = replace(before, weights=before.weights | {"classifier.fc7.bias": before.weights["classifier.fc7.bias"] + 1})
    assert other.describe()["sha256"] != init["sha256"]


# --- The command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def run(before, tmp_path):
    checkpoint.save(before, tmp_path / "before")
    return tmp_path / "before"


@pytest.mark.slow
def test_train_init_takes_a_runs_network_and_the_finetune_recipe(others, run, tmp_path, capsys):
    out = tmp_path / "out"
    assert command("train", others[0], "--init", run, "--freeze", "conv", "--epochs", 1, "--out", out) == 0
    messages = capsys.readouterr().err
    assert f"fine-tuning {run}: weights of conv1, norm1" in messages
    assert "new weights: fc7; frozen: conv\n" in messages
    saved = checkpoint.load(out / "last")
    assert (saved.arch.name, len(saved.classes), saved.recipe.name, saved.recipe.freeze) == (
        "small", 5, "finetune", "conv")
    assert json.loads((out / "config.json").read_text())["recipe"]["freeze"] == "conv"
    # More epochs, with and without the words of the first time: --init is not applied again.
    for epochs, words in ((2, []), (3, ["--init", run, "--freeze", "conv"])):
        assert command("train", others[0], *words, "--resume", "--epochs", epochs, "--out", out) == 0
        assert "fine-tuning" not in capsys.readouterr().err
    last = checkpoint.load(out / "last")
    assert last.training["epoch"] == 3
    then, now = bits(checkpoint.load(run).weights), bits(last.weights)
    assert all(now[key] == then[key] for key in then if "features" in key)
    assert now["classifier.fc7.bias"] != then["classifier.fc7.bias"]


@pytest.mark.slow
def test_train_init_takes_torchvisions_weights_and_a_hub_folder(
    class_folders, tmp_path, monkeypatch, capsys,
):
    monkeypatch.setattr(torchvision, "TORCHVISION", override(arch("torchvision"), ["conv.width=8", "dense.width=16"]))
    theirs = TorchvisionAlexNet(*NARROW, classes=1000).state_dict()
    write(theirs, tmp_path / "alexnet-owt.pth")
    write_huggingface(open_weights(tmp_path / "alexnet-owt.pth"), tmp_path / "hub")
    for init in ("alexnet-owt.pth", "hub"):
        out = tmp_path / f"out-{init}"
        assert command("train", class_folders, "--init", tmp_path / init, "--freeze", "conv,fc6", "--epochs", 1,
                       "--out", out) == 0
        assert "new weights: fc8; frozen: conv fc6" in capsys.readouterr().err
        saved = checkpoint.load(out)
        assert saved.arch.input == arch("torchvision").input
        assert len(saved.classes) == 4
        assert torch.equal(saved.weights["features.0.weight"], theirs["features.0.weight"])
        assert torch.equal(saved.weights["classifier.1.weight"], theirs["classifier.1.weight"])
        assert not torch.equal(saved.weights["classifier.4.weight"], theirs["classifier.4.weight"])
        assert saved.provenance["init"]["provenance"]["file"] == "alexnet-owt.pth"


@pytest.mark.parametrize(("arguments", "words"), [
    (["--init", "nowhere"], "nowhere does not exist"),
    (["--init", "folder"], "folder is not a checkpoint"),
    (["--init", "before", "--freeze", "conf"], "no weights called 'conf' to freeze; did you mean conv"),
    (["--init", "before", "--freeze", "conv9"], "no weights called 'conv9'"),
    (["--init", "before", "--freeze", "conv,fc6,fc7"], "leaves nothing to train"),
    ([*SMALL, "--init", "before", "--set", "arch.dense.width=7"],
     "fc6 of small has weight of shape [7, 16], and the checkpoint's (small) [32, 16]"),
    ([*SMALL, "--init", "before", "--set", "arch.input.scale=1,1,1"], "takes images with scale (1.0, 1.0, 1.0)"),
    (["--init", "before", "--arch", "cifar"], "cifar takes images with scale (1.0, 1.0, 1.0)"),
    (["--init", "before", "--set", "arch.input.side=64"], "is packed at 32 pixels and 64 are needed"),
])
def test_a_mistake_is_one_sentence_and_nothing_is_written(others, run, arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    assert command("train", others[1].path, *arguments, "--out", "out") == 2
    printed = capsys.readouterr()
    messages = [line for line in printed.err.splitlines() if line.startswith("alexnet: ")]
    assert len(messages) == 1
    assert words in messages[0]
    assert "Traceback" not in printed.err
    assert not Path("out").exists()


def test_weights_for_another_network_are_refused_before_anything_is_packed_or_downloaded(
    class_folders, trained, tmp_path, monkeypatch, capsys,
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("alexnet.models.formats.open_weights.fetch_torchvision", lambda name: pytest.fail("downloaded"))
    for init, network in ((trained, "cifar"), ("torchvision", "small")):
        assert command("train", class_folders, "--arch", network, "--init", init, "--out", tmp_path / "run") == 2
        assert f"leave out --arch {network}, to take the network of --init" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_validation_images_that_the_initial_weights_were_trained_on_are_not_measured(packed, trained, tmp_path):
    init = checkpoint.load(trained)
    val = packed.split("val").content_hashes
    known = replace(init, seen=SeenImages(
        np.sort(np.append(packed.split("train").content_hashes, val[:14])), np.sort(val[14:])))
    recipe = Recipe(name="quick", epochs=2, batch_size=40, learning_rate=1e-4, schedule="constant")
    spec = RunSpec(packed, init.arch, recipe, tmp_path / "run", init=known)
    assert build(spec).fit().images == 30
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    warnings = [event["problem"] for event in log if event["event"] == "warning"]
    assert ("the weights of --init were trained on 14 of the 44 validation images, which are left out: the error is "
            "measured on the other 30") in warnings
    again = build(replace(spec, recipe=replace(recipe, epochs=3), init=None, resume=True))
    assert len(again.validation) == 30, "also when it is resumed"
    known = replace(init, seen=SeenImages(np.sort(val), np.sort(val)))
    with pytest.raises(UserError, match="trained on all 44 validation images; start from other weights"):
        build(replace(spec, out=tmp_path / "other", init=known))
