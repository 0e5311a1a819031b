"""Neighbors are the nearest by plain arithmetic, with or without faiss, and features are cached."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from alexnet._runtime.extras import install_line
from alexnet.data.cache_entries import cache_entries, remove_entry
from alexnet.errors import UserError
from alexnet.inference import neighbors as nb
from alexnet.inference.predictor import model_from_checkpoint
from alexnet.reproduce.figures import figure4, image_grids
from drawings import texts
from weight_files import saved_as

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def saved():
    return saved_as("small", "input.side=32", "input.crop=28", "conv.width=16", "dense.width=32")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def by_loops(asked, reference_set, count):
    """Distances summed one by one; the earlier image where two are as far."""
    far = [(sum((float(a) - float(b)) ** 2 for a, b in zip(asked, row, strict=True)) ** 0.5, place)
           for place, row in enumerate(reference_set)]
    return [place for _, place in sorted(far)[:count]]


def test_nearest_agrees_with_a_loop_over_every_pair(monkeypatch):
    monkeypatch.setattr(nb, "BLOCK", 7)  # so that blocks meet
    rng = np.random.default_rng(0)
    reference_set, asked = rng.normal(size=(40, 5)).astype(np.float32), rng.normal(size=(3, 5)).astype(np.float32)
    places, distances = nb.nearest(asked, reference_set, 6)
    assert places.tolist() == [by_loops(row, reference_set, 6) for row in asked]
    np.testing.assert_allclose(distances, np.linalg.norm(reference_set[places] - asked[:, None], axis=2), rtol=1e-6)


def test_an_image_of_the_set_is_its_own_nearest_neighbor():
    """Far from the origin |a|^2 - 2ab + |b|^2 would give rounding errors instead."""
    reference_set = 1000 + np.random.default_rng(1).normal(size=(50, 64)).astype(np.float32)
    places, distances = nb.nearest(reference_set[[7]], reference_set, 2)
    assert (places[0, 0], distances[0, 0]) == (7, 0.0)


def test_equal_distances_are_ordered_by_index():
    reference_set = np.zeros((3, 4), np.float32)
    assert nb.nearest(reference_set[:1], reference_set, 6)[0].tolist() == [[0, 1, 2]]


def test_faiss_finds_the_exact_neighbors(monkeypatch):
    rng = np.random.default_rng(2)
    centers = rng.normal(size=(30, 16)) * 4
    reference_set = (centers[rng.integers(0, 30, 6000)] + rng.normal(size=(6000, 16))).astype(np.float32)
    asked = reference_set[::1000] + 0.01
    exact, far = nb.nearest(asked, reference_set, 6)
    monkeypatch.setattr(nb, "EXACT", 1000)
    found, distances = nb.nearest(asked, reference_set, 6)
    same = np.mean([len(set(a) & set(b)) / 6 for a, b in zip(exact, found, strict=True)])
    assert same > 0.9
    assert (found[:, 0] == exact[:, 0]).all()
    np.testing.assert_allclose(distances[:, 0], far[:, 0], rtol=1e-6)  # the true distance, not faiss's own


def test_without_faiss_a_large_set_is_rejected_with_the_remedy(monkeypatch):
    monkeypatch.setattr(nb, "EXACT", 10)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match="limited to 10 images, and .* 11; .*" + re.escape(install_line("neighbors"))):
        nb.nearest(np.zeros((1, 4), np.float32), np.zeros((11, 4), np.float32), 3)


def test_features_of_a_split_are_its_images_features_and_are_cached(saved, packed, cache, monkeypatch):
    model, split = model_from_checkpoint(saved), packed.split("train")
    monkeypatch.setattr("alexnet.inference.features.BATCH_SIZE", 50)
    kept = nb.split_features(model, split, cache_key="these")
    expected = model.features(list(split.read(np.arange(len(split))))).numpy()
    np.testing.assert_allclose(kept, expected, rtol=1e-5, atol=1e-6)
    assert [file.suffix for file in (cache / "alexnet" / "features").iterdir()] == [".npy"]

    with monkeypatch.context() as context:
        context.setattr(type(model), "features", None)  # nobody asks it again
        np.testing.assert_array_equal(nb.split_features(model, split, cache_key="these"), kept)
    other = model_from_checkpoint(
        saved_as("small", "input.side=32", "input.crop=28", "conv.width=16", "dense.width=32", seed=1))
    assert not np.allclose(nb.split_features(other, split, cache_key="these"), kept)
    some = np.array([3, 50, 119])
    np.testing.assert_allclose(nb.split_features(model, split, indices=some), expected[some], rtol=1e-5, atol=1e-6)


def test_features_that_are_being_computed_are_not_removed_from_the_cache(saved, packed, cache, monkeypatch):
    model, compute, refused = model_from_checkpoint(saved), nb.feature_batches, []

    def remove_then_compute(*args, **options):
        computed, = (entry for entry in cache_entries() if entry.kind == "features")
        with pytest.raises(UserError, match="another process is writing"):
            remove_entry(computed)
        refused.append(Path(computed.name).suffix)
        return compute(*args, **options)

    monkeypatch.setattr(nb, "feature_batches", remove_then_compute)
    nb.split_features(model, packed.split("train"), cache_key="these")
    assert refused == [".new"]


def test_an_images_class_comes_from_its_folders_name():
    classes = ("tench", "my own")
    for folder, name in (("n01440764", "tench"), ("tench", "tench"), ("my own", "my own"), ("photos", ""), ("", "")):
        assert nb.class_of_folder(Path("val") / folder / "1.jpg", classes) == name


def test_a_row_is_named_by_class_and_file_or_by_file_alone(packed):
    near = [nb.Neighbor(3, "train/ash/003.png", "ash", 1.25), nb.Neighbor(40, "train/birch/010.png", "birch", 12.0)]
    pixels = np.zeros((32, 32, 3), np.uint8)
    rows = figure4.neighbor_rows(
        [pixels, pixels], ["birch", ""], [near, near], packed.split("train"), ["a_1", "a_2"])
    assert [(row.query.name, row.query.note) for row in rows] == [("birch", "a_1"), ("a_2", "")]
    assert [[(tile.name, tile.note, tile.is_true) for tile in row.nearest] for row in rows] == [
        [("ash", "1.2", False), ("birch", "12.0", True)], [("ash", "1.2", False), ("birch", "12.0", False)]]
    query = image_grids.Tile(pixels, "birch", "ILSVRC2012_val_00017472")
    grid = image_grids.neighbor_grid([image_grids.NeighborRow(query, rows[0].nearest)])
    drawn = texts(grid)[1]
    assert drawn == "…2012_val_00017472"  # the end, which tells files apart
