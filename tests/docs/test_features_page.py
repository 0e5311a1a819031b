"""What docs/interpret says of feature files holds: before and after the ReLU, splits, training images, the keys."""

import re

import numpy as np
import pytest
import torch

from alexnet.architecture.network_presets import ARCHS
from alexnet.models.alexnet import AlexNet
from command_line import SMALL, alexnet
from rehearsal import ROOT

PAGE = (ROOT / "docs/interpret/index.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def trained(class_folders, tmp_path_factory):
    """A run folder, one epoch."""
    folder = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert alexnet("train", class_folders, *SMALL, "--epochs", 1, "--out", folder / "run") == 0
    return folder / "run"


def written(trained, class_folders, out, *options):
    assert alexnet("features", trained, class_folders, out, *options) == 0
    return np.load(out)


def test_the_keys_are_those_of_the_table(trained, class_folders, tmp_path):
    table = PAGE.split("| key | what it is |")[1].split("\n\n")[0]
    found = written(trained, class_folders, tmp_path / "all.npz")
    assert sorted(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == sorted(found.files)
    assert found["features"].dtype == np.float32
    # All splits, one after the other, and the training images among them.
    assert list(dict.fromkeys(found["splits"])) == ["train", "val"]
    assert len(found["features"]) == len(found["labels"]) == len(found["names"]) == 164
    only = written(trained, class_folders, tmp_path / "val.npz", "--split", "val")
    assert {*only["splits"]} == {"val"}
    assert len(only["names"]) == 44


def test_a_layers_own_name_is_before_its_activation_and_the_activations_name_after_it(
    trained, class_folders, tmp_path,
):
    for before, after in (("conv5", "relu5"), ("fc6", "relu6")):
        raw = written(trained, class_folders, tmp_path / f"{before}.npz", "--layer", before)["features"]
        active = written(trained, class_folders, tmp_path / f"{after}.npz", "--layer", after)["features"]
        assert (raw.min() < 0, active.min()) == (True, 0)
    # `small` has one hidden layer: its activations are the default.
    assert np.array_equal(written(trained, class_folders, tmp_path / "default.npz")["features"], active)


def test_the_names_of_the_paper_of_caffe_and_of_torchvision_are_those_of_the_page():
    with torch.device("meta"):
        paper, caffe, theirs = (AlexNet(ARCHS[name]) for name in ("paper", "caffe", "torchvision"))
    assert "Default: the activations of the last hidden layer, `relu7` in `paper`" in " ".join(PAGE.split())
    assert {paper.activation_names()[-1], caffe.activation_names()[-1]} == {"relu7"}
    for name, index in (("fc7", 4), ("relu7", 5)):
        assert f"`classifier[{index}]`" in PAGE
        assert theirs.named_layer(name) is theirs.classifier[index]


def test_a_hook_on_a_layer_by_its_name_sees_the_values_before_the_relu():
    network, seen = AlexNet(ARCHS["small"], seed=0).eval(), []
    network.named_layer("fc6").register_forward_hook(lambda _layer, _inputs, output: seen.append(output))
    network(torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0)))
    assert seen[0].min() < 0


def test_pooled_maps_are_the_means_of_the_flattened_ones(trained, class_folders, tmp_path):
    flat = written(trained, class_folders, tmp_path / "flat.npz", "--layer", "relu3")["features"]
    pooled = written(trained, class_folders, tmp_path / "pooled.npz", "--layer", "relu3", "--pool")
    maps = pooled["features"].shape[1]
    assert flat.reshape(len(flat), maps, -1).mean(2) == pytest.approx(pooled["features"], abs=1e-4)
    assert str(pooled["layer"]) == "relu3, pooled"
