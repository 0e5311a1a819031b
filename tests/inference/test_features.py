"""Feature files hold, for every image, what `Model.features` computes, with its name, label and class."""

import json

import numpy as np
import pyarrow.parquet
import pytest

from alexnet.errors import UserError
from alexnet.inference import features
from alexnet.inference.features import write_features
from alexnet.inference.predictor import load


@pytest.fixture(scope="module")
def model(trained):
    return load(trained)


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(features, "BATCH_SIZE", 16)  # 120 training images: the last batch is smaller


def expected(model, packed, layer):
    pixels = np.concatenate([packed.split(name).read(np.arange(len(packed.split(name)))) for name in ("train", "val")])
    return model.features(list(pixels), layer).numpy()


@pytest.mark.usefixtures("small_batches")
def test_npz_holds_the_features_of_every_image(model, packed, tmp_path):
    progress = []
    written = write_features(tmp_path / "new" / "out.npz", model, packed, ["train", "val"], checkpoint="abc",
                             layer="fc6", on_progress=lambda *done: progress.append(done))
    assert (written.images, written.features, progress[-1]) == (164, 32, (164, 164))
    saved = np.load(written.path)
    np.testing.assert_allclose(saved["features"], expected(model, packed, "fc6"), rtol=1e-5, atol=1e-6)
    assert saved["features"].dtype == np.float32
    assert saved["names"].tolist() == [*packed.split("train").names, *packed.split("val").names]
    assert saved["labels"].tolist() == [*packed.split("train").labels, *packed.split("val").labels]
    assert saved["splits"].tolist() == ["train"] * 120 + ["val"] * 44
    assert saved["classes"].tolist() == ["ash", "birch", "cedar", "date palm"]
    assert (str(saved["layer"]), str(saved["checkpoint"])) == ("fc6", "abc")
    assert [path.name for path in written.path.parent.iterdir()] == ["out.npz"]


@pytest.mark.usefixtures("small_batches")
def test_parquet_holds_the_same_and_pooling_averages_the_maps(model, packed, tmp_path):
    write_features(tmp_path / "out.parquet", model, packed, ["val"], checkpoint="abc", layer="conv2", pool=True)
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    maps = model.features(list(packed.split("val").read(np.arange(44))), "conv2").numpy()
    pooled = np.array(table["features"].to_pylist(), np.float32)
    np.testing.assert_allclose(pooled, maps.mean((2, 3)), rtol=1e-4, atol=1e-5)
    assert table["class"].to_pylist() == [packed.classes[label] for label in packed.split("val").labels]
    assert table["name"].to_pylist() == list(packed.split("val").names)
    assert table["split"].to_pylist() == ["val"] * 44
    metadata = table.schema.metadata
    assert (metadata[b"layer"], metadata[b"checkpoint"]) == (b"conv2, pooled", b"abc")
    assert json.loads(metadata[b"classes"]) == list(packed.classes)


def test_maps_are_flattened_without_pooling(model, packed, tmp_path):
    written = write_features(tmp_path / "maps.npz", model, packed, ["val"], checkpoint="", layer="pool5")
    maps = model.features(list(packed.split("val").read(np.arange(44))), "pool5").flatten(1).numpy()
    assert written.features == maps.shape[1]
    np.testing.assert_allclose(np.load(written.path)["features"], maps, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("layer", "pool", "problem"), [
    ("fc9", False, "did you mean fc"), ("fc7", True, "no feature maps"), ("relu6", True, "no feature maps")])
def test_unknown_layers_and_layers_without_maps_are_refused(model, packed, tmp_path, layer, pool, problem):
    with pytest.raises(UserError, match=problem):
        write_features(tmp_path / "out.npz", model, packed, ["val"], checkpoint="", layer=layer, pool=pool)
    assert not list(tmp_path.iterdir())


def test_a_missing_pyarrow_names_the_extra(model, packed, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"\[parquet\]"):
        write_features(tmp_path / "out.parquet", model, packed, ["val"], checkpoint="", layer="fc6")
    assert not list(tmp_path.iterdir())
